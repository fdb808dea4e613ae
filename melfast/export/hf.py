"""A classifier as a folder that transformers loads, through its TimmWrapper.

    DIR/config.json         architecture, image processor, and the ModelRecord under `melfast`
    DIR/model.safetensors   weights under timm's names
    DIR/README.md           the model card, with the lines of Python that use it

TimmWrapper knows RGB images and one softmax. What a model needs beyond these, CIELAB before the
network and the decoding of groups or a calibration after it, stands in the card as two functions,
`before` and `after`. The check of the export runs those very lines.
"""

import copy
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

from melfast.export.check import Run
from melfast.io.errors import InputError
from melfast.models.backbones import timm_model
from melfast.models.deploy import RGB_TO_XYZ, WHITE_XYZ, Precision
from melfast.models.record import ModelRecord
from melfast.report.card import INTENDED_USE, making, markdown

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def write_hf(
    classifier: torch.nn.Module, record: ModelRecord, folder: Path, precision: Precision, card: str | None = None
) -> Run:
    """Fills the folder, and opens it as TimmWrapper does: with timm, from config and weights.

    Args:
        card: of `melfast evaluate --report`, to be README.md, with how to use the model; None: a
            short one.
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
    (folder / CARD).write_text(model_card(record, rest, card), encoding="utf-8")
    return _open(folder, rest, divisor)


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
    """What each logit speaks for: a class, or a class within a tone group."""
    if record.head == "plain":
        return list(record.classes)
    return [f"{group} {name}" for group in record.groups for name in record.classes]


def unfolded(classifier: torch.nn.Module, record: ModelRecord) -> ModelRecord:
    """The record without the temperature, where weights divided by it do the same.

    That is so with two classes and one softmax: their log-odds are a difference of two logits.
    """
    last = classifier.get_classifier()  # type: ignore[operator]
    if record.head == "plain" and len(record.classes) == 2 and isinstance(last, torch.nn.Linear):
        return record.replace(temperature=1.0)
    return record


def needs(record: ModelRecord) -> list[str]:
    """What a model needs beyond image processor, network and softmax; in words."""
    found = []
    if record.preprocess.colour == "cielab":
        found.append("before the network its RGB pixels are converted to CIELAB")
    if record.head != "plain":
        found.append(f"after it the logits of the tone groups are decoded ({record.head})")
    if record.isotonic or record.temperature != 1:
        kind = "isotonic" if record.isotonic else "temperature"
        found.append(f"at the end P({record.classes[-1]}) is calibrated ({kind})")
    return found


def code_of(record: ModelRecord) -> str:
    """Python that defines `before(pixel_values)` and `after(logits)` -> P(malignant) [B]."""
    return "\n".join(["import torch", "", *_before(record), "", *_after(record)])


def _before(record: ModelRecord) -> list[str]:
    lines, size = ["def before(pixel_values):"], record.preprocess
    if size.colour == "rgb":
        return [*lines, "    return pixel_values"]
    return [
        *lines,
        '    """RGB 0..1 [B, 3, H, W] to normalised CIELAB (D65, 2 degrees)."""',
        "    low, high = pixel_values / 12.92, ((pixel_values + 0.055) / 1.055) ** 2.4",
        "    linear = torch.where(pixel_values > 0.04045, high, low)",
        f"    matrix = torch.tensor({RGB_TO_XYZ})",
        f"    white = torch.tensor({WHITE_XYZ})",
        "    t = torch.einsum('ij,bjhw->bihw', matrix / white[:, None], linear)",
        "    root, line = t.clamp_min(1e-9) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29",
        "    x, y, z = torch.where(t > (6 / 29) ** 3, root, line).unbind(1)",
        "    lab = torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)",
        f"    mean, std = torch.tensor({size.mean}), torch.tensor({size.std})",
        "    return (lab - mean[:, None, None]) / std[:, None, None]",
    ]


def _after(record: ModelRecord) -> list[str]:
    shape = (len(record.groups), len(record.classes))
    lines = ["def after(logits):", f'    """Logits [B, {record.num_logits}] to P [B]."""']
    if record.head == "plain":
        lines += ["    p = logits.float().softmax(1)[:, -1]"]
    elif record.head == "domain_discriminative":
        weights = [[1 / share if share > 0 else 0.0 for share in row] for row in record.priors]
        lines += [
            f"    one_by_prior = torch.tensor({weights})  # [group][class], 0: never seen",
            f"    joint = logits.float().softmax(1).view(-1, {shape[0]}, {shape[1]})",
            "    by_class = (joint * one_by_prior).sum(1)",
            "    p = by_class[:, -1] / by_class.sum(1)",
        ]
    else:
        learnt = [i for i, row in enumerate(record.priors) if min(row) > 0]
        lines += [
            f"    learnt = {learnt}  # groups that had images of every class",
            f"    by_group = logits.float().view(-1, {shape[0]}, {shape[1]})",
            "    p = by_group[:, learnt].mean(1).softmax(1)[:, -1]",
        ]
    if record.temperature != 1:
        lines += [f"    p = torch.sigmoid(torch.logit(p, 1e-7) / {record.temperature!r})"]
    elif record.isotonic:
        lines += [
            f"    x, y = torch.tensor({list(record.isotonic)}, dtype=torch.float64).T",
            "    wide, high = x.diff(), y.diff()",
            "    slope = torch.where(wide > 0, high / wide.clamp_min(1e-300), 0.0)",
            "    ramps = (p[:, None].double() - x[:-1]).clamp_min(0).minimum(wide)",
            "    p = (y[0] + (ramps * slope).sum(1)).clamp(0, 1).float()",
        ]
    return [*lines, "    return p"]


def model_card(record: ModelRecord, rest: ModelRecord, card: str | None) -> str:
    """README.md: the given card or a short one, with a section on use after its title.

    Args:
        rest: the record without what is in the weights already.
    """
    if card is None:
        title = f"# {record.backbone} for dermoscopic images"
        front: dict[str, Any] = {
            "pipeline_tag": "image-classification",
            "tags": ["dermoscopy", "melanoma", "skin-tone", "fairness"],
        }
        body = "\n".join(["", "## Intended use", "", INTENDED_USE, "", "## How it was made", "", *making(record)])
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
        threshold = f"{record.threshold!r}, by {markdown(record.threshold_rule or 'an unnamed rule')}"
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
        "print(after(logits))  # P of the last class",
        "```",
    ]


def _open(folder: Path, rest: ModelRecord, divisor: float) -> Run:
    """The folder as TimmWrapper reads it, with the card's `before` and `after` around it.

    Args:
        divisor: of the logits; the comparison is of those before.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    try:
        network = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        network.load_state_dict(tensors)
        dtype = getattr(torch, config["dtype"])
        network = network.to(dtype).eval()
        with torch.inference_mode():  # some have a size of their own
            network(torch.zeros((1, *config["pretrained_cfg"]["input_size"]), dtype=dtype))
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise InputError(f"model.backbone {rest.backbone!r} cannot be used by transformers: {error}") from error
    mean, std = (torch.tensor(config["pretrained_cfg"][k])[:, None, None] for k in ("mean", "std"))
    card: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
    exec(code_of(rest), card)  # all that comes from the record are numbers, as Python writes them

    def run(images_bhw3: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        planes = torch.from_numpy(images_bhw3).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            logits = network(card["before"]((planes - mean) / std).to(dtype)).float()
            probability = card["after"](logits)
        return probability.numpy(), (logits * divisor).numpy()

    return run
