"""The folder for transformers, loaded by transformers, with its image processor and the card."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from melfast.data.preprocess import Preprocess
from melfast.export.check import draw_images, torch_logits
from melfast.export.formats import export_model
from melfast.export.hf import code_of, folder_card, needs, unfolded
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.decode import decode
from melfast.models.record import ModelRecord

OPTIONS = {"channels": [8, 8, 8, 8], "stem_width": 8}
GROUPS: dict[str, Any] = {"groups": ("light", "tan", "dark"), "priors": ((0.5, 0.1), (0.3, 0.05), (0.05, 0.0))}
ISOTONIC = ((0.1, 0.05), (0.4, 0.3), (0.4, 0.5), (0.9, 0.95))
# Each head, colour space and calibration at least once.
RECORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain-temperature": {"temperature": 1.7},
    "plain-sigmoid": {"temperature": 0.8, "offset": -1.5},
    "plain-isotonic": {"isotonic": ISOTONIC},
    "three-classes": {"classes": ("naevus", "keratosis", "melanoma"), "temperature": 0.6},
    "cielab": {"preprocess": Preprocess.for_colour(24, 32, "cielab")},
    "discriminative": {"head": "domain_discriminative", "temperature": 1.7, **GROUPS},
    "independent": {"head": "domain_independent", **GROUPS},
    "own-group": {"head": "domain_independent", "inference": "group_conditional", **GROUPS},
    "all": {
        "preprocess": Preprocess.for_colour(24, 32, "cielab"),
        "head": "domain_discriminative",
        "isotonic": ISOTONIC,
        **GROUPS,
    },
}


def make(**changes: Any) -> tuple[torch.nn.Module, ModelRecord]:
    record = ModelRecord("resnet10t", Preprocess(24, 32), OPTIONS, threshold=0.3, threshold_rule="youden").replace(
        **changes
    )
    torch.manual_seed(1)
    model = build_classifier(record).eval()
    logits = torch_logits(model, record.preprocess, images_of(32))
    with torch.no_grad():
        model.fc.weight /= logits.std(0)[:, None]  # type: ignore[union-attr, operator]
        model.fc.bias.copy_(-logits.mean(0) / logits.std(0))  # type: ignore[union-attr, operator]
    return model, record


def images_of(count: int) -> NDArray[np.uint8]:
    return draw_images(np.random.default_rng(5), count, 24, 32)


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


def card_code(folder: Path) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """`before` and `after`, from README.md alone."""
    (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(block[: block.index("from PIL")], names)
    return names


@pytest.mark.parametrize("name", list(RECORDS))
def test_transformers_gives_our_probability(name: str, tmp_path: Path, transformers: Any) -> None:
    """With the processor and classes of transformers, and the code of the card."""
    model, record = make(**RECORDS[name])
    folder = tmp_path / "hf"
    check = export_model(model, record, folder, "hf")
    assert check.probability_error <= 1e-5
    loaded = transformers.AutoModelForImageClassification.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = images_of(5)
    card = card_code(folder)
    pixels = processor([Image.fromarray(image) for image in images]).pixel_values
    with torch.inference_mode():
        logits = loaded(card["before"](pixels)).logits
        found = card["after"](logits)
    wanted = decode(torch_logits(model, record.preprocess, images), record)
    if record.takes_group:
        group = torch.tensor([0, 1, 2, -1, 1])
        own = decode(torch_logits(model, record.preprocess, images), record, group)
        np.testing.assert_allclose(card["after"](logits, group), own, atol=1e-5)
        assert (own - wanted).abs().max() > 0.01
    assert wanted.max() - wanted.min() > 0.03
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "plain-temperature"])
def test_a_pipeline_does_for_rgb_and_one_softmax(name: str, tmp_path: Path, transformers: Any) -> None:
    model, record = make(**RECORDS[name])
    export_model(model, record, tmp_path / "hf", "hf")
    pipeline = transformers.pipeline("image-classification", str(tmp_path / "hf"), device="cpu")
    images = images_of(3)
    wanted = decode(torch_logits(model, record.preprocess, images), record)
    for image, probability in zip(images, wanted.tolist(), strict=True):
        scores = {each["label"]: each["score"] for each in pipeline(Image.fromarray(image))}
        assert scores == pytest.approx({"benign": 1 - probability, "malignant": probability}, abs=1e-5)


def test_config(tmp_path: Path, transformers: Any) -> None:
    model, record = make(**RECORDS["all"])
    export_model(model, record, tmp_path / "hf", "hf")
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    config = transformers.AutoConfig.from_pretrained(tmp_path / "hf")
    assert ModelRecord.from_json(json.dumps(config.melfast), "config.json") == record
    assert list(config.id2label.values()) == [
        "light benign",
        "light malignant",
        "tan benign",
        "tan malignant",
        "dark benign",
        "dark malignant",
    ]
    # The processor returns RGB in 0..1 if the code of the card converts it to CIELAB.
    assert config.pretrained_cfg["mean"] == [0, 0, 0]
    assert config.pretrained_cfg["std"] == [1, 1, 1]


def test_the_processor_stretches_as_training_does(tmp_path: Path, transformers: Any) -> None:
    model, record = make()
    export_model(model, record, tmp_path / "hf", "hf")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
    picture = Image.fromarray(draw_images(np.random.default_rng(0), 1, 90, 70)[0])
    found = processor(picture).pixel_values[0]
    small = np.asarray(picture.resize((32, 24), Image.Resampling.BILINEAR)) / 255.0
    wanted = (small - record.preprocess.mean) / record.preprocess.std
    np.testing.assert_allclose(found.permute(1, 2, 0), wanted, atol=1e-5)


def test_half_precision(tmp_path: Path, transformers: Any) -> None:
    model, record = make(temperature=1.7)
    export_model(model, record, tmp_path / "full", "hf")
    check = export_model(model, record, tmp_path / "half", "hf", precision="fp16")
    assert 1e-6 < check.probability_error <= 5e-3
    loaded = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "half")
    assert loaded.dtype == torch.float16
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[0] - sizes[1] > 1.9 * sum(p.numel() for p in model.parameters())
    assert model.fc.weight.dtype == torch.float32  # type: ignore[union-attr]


def test_what_transformers_does_not_do() -> None:
    model, plain = make(temperature=1.7)
    assert needs(plain) == ["at the end P(malignant) is calibrated (temperature)"]
    assert needs(unfolded(model, plain)) == []  # it is in the weights
    model, shifted = make(**RECORDS["plain-sigmoid"])
    assert needs(unfolded(model, shifted)) == ["at the end P(malignant) is calibrated (sigmoid)"]
    _, everything = make(**RECORDS["all"])
    assert needs(unfolded(model, everything)) == [
        "before the network its RGB pixels are converted to CIELAB",
        "after it the logits of the tone groups are decoded (domain_discriminative)",
        "at the end P(malignant) is calibrated (isotonic)",
    ]


def test_thresholds_by_tone_group_are_in_the_card() -> None:
    _, record = make(**RECORDS["independent"], group_thresholds=(0.2, 0.3, 0.4))
    assert "Threshold on P(malignant): 0.3, by youden; by tone group light 0.2, tan 0.3, dark 0.4.\n" in folder_card(
        record, record, None
    )


def test_decoding_of_groups_by_hand() -> None:
    _, record = make(**RECORDS["independent"])
    names: dict[str, Any] = {}
    exec(code_of(record), names)
    # The third group had no malignant image, so its logits mean nothing. Means 0 and 1 of the others.
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, 50.0, 0.0]])
    assert names["after"](logits).item() == pytest.approx(1 / (1 + np.exp(-1)))


def test_card(tmp_path: Path) -> None:
    model, record = make(**RECORDS["all"])
    export_model(model, record, tmp_path / "short", "hf")
    text = (tmp_path / "short" / "README.md").read_text()
    front, body = text.removeprefix("---\n").split("---\n", 1)
    assert "library_name: transformers" in front
    assert "pipeline_tag: image-classification" in front
    assert "Threshold on P(malignant): 0.3, by youden." in body
    assert "before the network its RGB pixels are converted to CIELAB; after it the logits" in body
    assert "`pipeline()` does not" in body
    assert "Not a medical device" in body

    given = "---\nlibrary_name: melfast\ntags: [dermoscopy]\n---\n\n# Mine\n\nGood on ours.\n"
    export_model(*make(), tmp_path / "given", "hf", card=given)
    text = (tmp_path / "given" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\ntags:\n- dermoscopy\n---\n\n# Mine\n\n## Use\n")
    assert text.endswith("```\n\nGood on ours.\n")
    assert "`pipeline()` serves too" in text


def test_what_transformers_cannot_run(tmp_path: Path) -> None:
    """melfast pads to whole patches, TimmWrapper takes whole patches alone."""
    record = ModelRecord("dinov2_vit_small", Preprocess(30, 30), {"depth": 1, "embed_dim": 24, "num_heads": 2})
    model = build_classifier(record).eval()
    with pytest.raises(InputError) as caught:
        export_model(model, record, tmp_path / "hf", "hf")
    message = str(caught.value)
    assert message.startswith("model.backbone 'dinov2_vit_small' cannot be used by transformers: ")
    assert not list(tmp_path.iterdir())
