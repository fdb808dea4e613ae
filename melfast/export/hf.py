"""Write a classifier as a folder that transformers loads through its TimmWrapper.

    DIR/config.json         architecture, image processor, and the ModelRecord under `melfast`
    DIR/model.safetensors   weights under timm's names
    DIR/README.md           the model card, with the lines of Python that use it

TimmWrapper supports RGB images and one softmax. Anything else that a model needs (CIELAB before the
network, decoding of groups or calibration after it) is in the card as two functions, `before` and
`after`. The check of the export runs exactly this code.
"""

import copy
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
import yaml
from numpy.typing import NDArray

from melfast.engines.base import OptionalGroups, Outputs, groups_or_unknown
from melfast.export.check import Run
from melfast.export.onnx import by_group_in_words
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.backbones import timm_model
from melfast.models.decode import calibrated
from melfast.models.deploy import LAB_BREAK, LAB_SLOPE, RGB_TO_XYZ, WHITE_XYZ, LabInput, Precision, lab_curve
from melfast.models.heads import head_of
from melfast.models.record import ModelRecord
from melfast.report.card import INTENDED_USE, making, markdown

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@check_words
def write_hf(
    classifier: torch.nn.Module, record: ModelRecord, folder: Path, precision: Precision, card: str | None = None
) -> Run:
    """Fills the folder, and opens it like TimmWrapper: with timm, from config and weights.

    Args:
        card: model card of `melfast evaluate --report` for README.md, to which the usage is added; None:
            a short one.
    Raises:
        InputError: timm builds another network from the config.
    """
    network = copy.deepcopy(classifier).to(DTYPES[precision])
    rest = unfolded(network, record)
    divisor = record.temperature / rest.temperature
    with torch.no_grad():
        last: torch.nn.Module = network.get_classifier()  # type: ignore[operator]
        for parameter in last.parameters() if divisor != 1 else ():
            parameter.div_(divisor)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = timm_config(network, record, precision)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(folder_card(record, rest, card), encoding="utf-8")
    return _open(folder, rest, divisor)


@check_words
def timm_config(network: torch.nn.Module, record: ModelRecord, precision: Precision) -> dict[str, Any]:
    """config.json: what TimmWrapper and its image processor read, and the record."""
    size = record.preprocess
    name, own = timm_model(record.backbone, size.height, size.width)
    rgb = size.colour == "rgb"
    cfg: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    return {
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "architecture": name,
        "model_args": {**own, **record.backbone_options},
        "num_classes": record.num_logits,
        "label_names": logit_names(record),
        "dtype": str(DTYPES[precision]).removeprefix("torch."),
        "pretrained_cfg": {
            "input_size": [3, size.height, size.width],
            "fixed_input_size": True,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",  # both sides stretched, as in training
            "mean": list(size.mean) if rgb else [0.0, 0.0, 0.0],
            "std": list(size.std) if rgb else [1.0, 1.0, 1.0],
            "first_conv": cfg.get("first_conv"),
            "classifier": cfg.get("classifier"),
        },
        "melfast": json.loads(record.to_json()),
    }


def logit_names(record: ModelRecord) -> list[str]:
    """The meaning of each logit: a class, or a class within a tone group."""
    if record.by_group:
        return [f"{group} {name}" for group in record.groups for name in record.classes]
    return list(record.classes)


def unfolded(classifier: torch.nn.Module, record: ModelRecord) -> ModelRecord:
    """The record without the temperature, if dividing the weights by it has the same effect.

    This is the case with two classes and one softmax, whose log-odds are a difference of two logits.
    With an offset as well, both stay.
    """
    last = classifier.get_classifier()  # type: ignore[operator]
    if not record.by_group and len(record.classes) == 2 and not record.offset and isinstance(last, torch.nn.Linear):
        return record.replace(temperature=1.0)
    return record


def needs(record: ModelRecord) -> list[str]:
    """What a model needs beyond image processor, network and softmax; in words."""
    found = []
    if record.preprocess.colour == "cielab":
        found.append("before the network its RGB pixels are converted to CIELAB")
    if record.by_group:
        found.append(f"after it the logits of the tone groups are decoded ({record.head})")
    if record.isotonic or record.offset or record.temperature != 1:
        kind = "isotonic" if record.isotonic else "sigmoid" if record.offset else "temperature"
        found.append(f"at the end P({record.classes[-1]}) is calibrated ({kind})")
    return found


def code_of(record: ModelRecord) -> str:
    """Python code that defines `before(pixel_values)` and `after(logits)` -> P(malignant) [B], from the
    source of melfast's own functions. If the model takes the tone group, so does `after`."""
    size, head = record.preprocess, head_of(record)
    parts: list[Any] = ["import torch"]
    before = "return pixel_values"
    if size.colour == "cielab":
        names = {"RGB_TO_XYZ": RGB_TO_XYZ, "WHITE_XYZ": WHITE_XYZ, "LAB_BREAK": LAB_BREAK, "LAB_SLOPE": LAB_SLOPE}
        parts[0] += "\nfrom torch.nn.functional import embedding"
        parts += ["\n".join(f"{name} = {value!r}" for name, value in names.items()), lab_curve, LabInput]
        parts += [f"to_lab = LabInput({size.mean}, {size.std})"]
        before = "return to_lab((pixel_values * 255).round().permute(0, 2, 3, 1))"
    parts += [f'def before(pixel_values):\n    """RGB 0..1 [B, 3, H, W] to what the network takes."""\n    {before}']
    arguments = ["logits.float()"]
    if record.by_group:
        parts += [f"PRIORS = {record.priors!r}  # share of each tone group and class in training"]
        arguments += ["PRIORS", "group"][: 2 if record.takes_group else 1]
    parts += [head.probability]
    decoded = f"{head.probability.__name__}({', '.join(arguments)})"
    if record.temperature != 1 or record.offset or record.isotonic:
        parts += [calibrated]
        decoded = f"calibrated({decoded}, {record.temperature!r}, {record.isotonic!r}, {record.offset!r})"
    takes = f"Logits [B, {record.num_logits}]"
    if record.takes_group:
        takes += f" and tone group (int64 [B], {', '.join(map('{} {}'.format, range(9), record.groups))}, -1 unknown)"
    parameters = "logits, group=None" if record.takes_group else "logits"
    parts += [f'def after({parameters}):\n    """{takes} to P [B]."""\n    return {decoded}']
    return "\n\n".join(part if isinstance(part, str) else inspect.getsource(part).strip() for part in parts)


def folder_card(record: ModelRecord, rest: ModelRecord, card: str | None) -> str:
    """README.md: the given card or a short one, with a usage section after its title.

    Args:
        rest: the record without what is already in the weights.
    """
    if card is None:
        title = f"# {record.backbone} for dermoscopic images"
        front: dict[str, Any] = {
            "pipeline_tag": "image-classification",
            "tags": ["dermoscopy", "melanoma", "skin-tone", "fairness"],
        }
        body = "\n".join(["", "## Intended use", "", INTENDED_USE, "", "## Training", "", *making(record)])
    else:
        _, matter, text = card.split("---\n", 2)
        front = yaml.safe_load(matter)
        title, _, body = text.strip().partition("\n")
    front["library_name"] = "transformers"
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            title,
            "",
            *_use(record, rest),
            "",
            body.strip(),
            "",
        ]
    )


def _use(record: ModelRecord, rest: ModelRecord) -> list[str]:
    wanted = needs(rest)
    if wanted:
        told = [
            f"Image processor and network alone do not give the probability: {markdown('; '.join(wanted))}. "
            "`before` and `after` do so; `pipeline()` does not."
        ]
    else:
        told = ["It needs nothing but transformers, timm and torchvision; `pipeline()` serves too."]
    threshold = "none was chosen; 0.5 is usual"
    if record.threshold is not None:
        rule = markdown(record.threshold_rule or "an unnamed rule")
        threshold = f"{record.threshold!r}, by {rule}{by_group_in_words(record)}"
    last = markdown(record.classes[-1])
    return [
        "## Use",
        "",
        *told,
        "",
        f"Threshold on P({last}): {threshold}.",
        "",
        "```python",
        code_of(rest),
        "",
        "from PIL import Image, ImageOps",
        "from transformers import AutoImageProcessor, AutoModelForImageClassification",
        "",
        'processor = AutoImageProcessor.from_pretrained("DIR")',
        'model = AutoModelForImageClassification.from_pretrained("DIR").eval()',
        'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        "with torch.no_grad():",
        "    logits = model(before(processor(image).pixel_values)).logits",
        f"print(after(logits{', torch.tensor([-1])' if record.takes_group else ''}))  # P of the last class",
        "```",
    ]


def _open(folder: Path, rest: ModelRecord, divisor: float) -> Run:
    """Opens the folder like TimmWrapper, with `before` and `after` of the card around it.

    Args:
        divisor: divisor of the logits; the comparison uses the undivided ones.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    try:
        network = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        network.load_state_dict(tensors)
        dtype = getattr(torch, config["dtype"])
        network = network.to(dtype).eval()
        with torch.inference_mode():  # some have their own size
            network(torch.zeros((1, *config["pretrained_cfg"]["input_size"]), dtype=dtype))
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise InputError(f"model.backbone {rest.backbone!r} cannot be used by transformers: {error}") from error
    mean, std = (torch.tensor(config["pretrained_cfg"][k])[:, None, None] for k in ("mean", "std"))
    card: dict[str, Callable[..., torch.Tensor]] = {}
    exec(code_of(rest), card)  # the record contributes only numbers, as Python literals

    def run(images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Outputs:
        planes = torch.from_numpy(images_bhw3).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            logits = network(card["before"]((planes - mean) / std).to(dtype)).float()
            groups = [torch.from_numpy(groups_or_unknown(group_b, images_bhw3))] if rest.takes_group else []
            probability = card["after"](logits, *groups)
        return probability.numpy(), (logits * divisor).numpy()

    return run
