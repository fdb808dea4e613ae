"""Backbones: the table against timm itself, without downloading weights."""

import pytest
import timm
import torch

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.models.backbones import BACKBONES, timm_model
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord

PUBLISHED = {
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    *(f"convnextv2_{size}" for size in ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")),
    *(f"efficientnetv2_{size}" for size in ("s", "m", "l", "xl", "b0", "b1", "b2", "b3")),
    *(f"dinov2_vit_{size}" for size in ("small", "base", "large", "giant2")),
}


def test_every_published_name_has_a_model_and_weights_in_timm() -> None:
    assert set(BACKBONES) == PUBLISHED
    known = set(timm.list_models(pretrained=True))
    for backbone in BACKBONES.values():
        assert f"{backbone.model}.{backbone.tag}" in known
        assert backbone.tag_22k is None or f"{backbone.model}.{backbone.tag_22k}" in known


@pytest.mark.parametrize(
    ("name", "in_22k", "wanted"),
    [
        ("convnext_tiny", False, "convnext_tiny.fb_in1k"),
        ("convnext_tiny", True, "convnext_tiny.fb_in22k"),
        ("convnextv2_base", True, "convnextv2_base.fcmae_ft_in22k_in1k"),
        ("efficientnetv2_s", True, "tf_efficientnetv2_s.in21k"),
        ("efficientnetv2_xl", False, "tf_efficientnetv2_xl.in21k_ft_in1k"),
        ("dinov2_vit_giant2", False, "vit_giant_patch14_reg4_dinov2.lvd142m"),
        ("resnet18.a1_in1k", False, "resnet18.a1_in1k"),
    ],
)
def test_tags(name: str, in_22k: bool, wanted: str) -> None:
    assert timm_model(name, 224, 224, in_22k=in_22k)[0] == wanted


def test_22k_where_there_is_none() -> None:
    with pytest.raises(InputError, match="dinov2_vit_small has no ImageNet-22k weights; expected one of"):
        timm_model("dinov2_vit_small", 224, 224, in_22k=True)
    with pytest.raises(InputError, match="'resnet18' is a name of timm; expected the tag"):
        timm_model("resnet18", 224, 224, in_22k=True)


@pytest.mark.parametrize("size", [(98, 126), (100, 120), (14, 14)])
def test_dinov2_at_any_size(size: tuple[int, int]) -> None:
    record = ModelRecord("dinov2_vit_small", Preprocess(*size), {"depth": 1})
    model = build_classifier(record).eval()
    assert model(torch.rand(2, 3, *size)).shape == (2, 2)
    assert model.num_prefix_tokens == 5  # class token and four registers


@pytest.mark.parametrize(
    ("name", "options"),
    [("convnext_tiny", {"depths": (1, 1, 1, 1)}), ("convnextv2_atto", {}), ("efficientnetv2_b0", {})],
)
def test_one_of_each_family_is_built(name: str, options: dict[str, object]) -> None:
    model = build_classifier(ModelRecord(name, Preprocess(64, 64), options)).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 2)


def test_pretrained_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Network is\nunreachable")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    record = ModelRecord("convnextv2_atto", Preprocess(64, 64))
    with pytest.raises(InputError) as raised:
        build_classifier(record, pretrained=True)
    assert str(raised.value) == (
        "model.pretrained: the weights convnextv2_atto.fcmae_ft_in1k cannot be downloaded (Network is "
        "unreachable); without a network: `model.weights=FILE`"
    )


@pytest.mark.parametrize(
    ("backbone", "options", "reason"),
    [
        ("resnet18", {"act_layer": "exec"}, "KeyError: 'exec'"),
        ("convnext_tiny", {"depths": [1, 1]}, "IndexError: list index out of range"),
        ("vit_tiny_patch16_224", {"patch_size": [0, 0]}, "ZeroDivisionError: "),
    ],
)
def test_options_that_break_timm(backbone: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        build_classifier(ModelRecord(backbone, Preprocess(64, 64), options))
    start = f"model.backbone {backbone!r}: cannot be built with backbone_options {options} ({reason}"
    assert str(caught.value).startswith(start)
