"""Backbones: published names, and the timm models and weights that they stand for.

Any other name is passed to timm, for example `convnext_tiny.dinov3_lvd1689m`.
"""

from dataclasses import dataclass
from typing import Any

from melfast.io.errors import InputError


@dataclass(frozen=True)
class Backbone:
    """The timm names of a backbone.

    Attributes:
        model: timm name without a tag.
        tag: tag of the weights for `pretrained`.
        tag_22k: tag of weights pretrained on ImageNet-22k (21k); None: there are none.
        patch: side of a patch in pixels; the network is built for the requested size, rounded up to
            whole patches. 0: any size works.
    """

    model: str
    tag: str
    tag_22k: str | None = None
    patch: int = 0


def _convnext(size: str) -> Backbone:
    return Backbone(f"convnext_{size}", "fb_in1k", "fb_in22k")


def _convnextv2(size: str, tag_22k: str | None = "fcmae_ft_in22k_in1k") -> Backbone:
    return Backbone(f"convnextv2_{size}", "fcmae_ft_in1k", tag_22k)


def _efficientnetv2(size: str, tag: str = "in1k", tag_22k: str | None = "in21k") -> Backbone:
    return Backbone(f"tf_efficientnetv2_{size}", tag, tag_22k)


def _dinov2(size: str) -> Backbone:
    """DINOv2 with registers (Darcet et al. 2023), trained on LVD-142M without labels."""
    return Backbone(f"vit_{size}_patch14_reg4_dinov2", "lvd142m", patch=14)


BACKBONES: dict[str, Backbone] = {
    **{f"convnext_{size}": _convnext(size) for size in ("tiny", "small", "base", "large")},
    **{f"convnextv2_{size}": _convnextv2(size, None) for size in ("atto", "femto", "pico")},
    **{f"convnextv2_{size}": _convnextv2(size) for size in ("nano", "tiny", "base", "large")},
    "convnextv2_huge": _convnextv2("huge", "fcmae_ft_in22k_in1k_384"),
    **{f"efficientnetv2_{size}": _efficientnetv2(size) for size in ("s", "m", "l", "b3")},
    "efficientnetv2_xl": _efficientnetv2("xl", "in21k_ft_in1k"),
    **{f"efficientnetv2_{size}": _efficientnetv2(size, tag_22k=None) for size in ("b0", "b1", "b2")},
    **{f"dinov2_vit_{size}": _dinov2(size) for size in ("small", "base", "large")},
    "dinov2_vit_giant2": _dinov2("giant"),
}


def timm_model(name: str, height: int, width: int, *, in_22k: bool = False) -> tuple[str, dict[str, Any]]:
    """The timm name of a backbone with the tag of its weights, and its own options.

    Args:
        height, width: pixels of the input.
        in_22k: use weights pretrained on ImageNet-22k.
    Raises:
        InputError: `in_22k` for a backbone without such weights.
    """
    backbone = BACKBONES.get(name)
    if backbone is None:
        if in_22k:
            raise InputError(
                f"model.in_22k: {name!r} is a name of timm; expected the tag in the name, as in convnext_tiny.fb_in22k"
            )
        return name, {}
    if in_22k and backbone.tag_22k is None:
        having = ", ".join(key for key, value in BACKBONES.items() if value.tag_22k)
        raise InputError(f"model.in_22k: {name} has no ImageNet-22k weights; expected one of {having}")
    options: dict[str, Any] = {}
    if backbone.patch:  # pictures are padded to whole patches
        whole = tuple(-(-side // backbone.patch) * backbone.patch for side in (height, width))
        options = {"img_size": whole, "dynamic_img_pad": True}
    return f"{backbone.model}.{backbone.tag_22k if in_22k else backbone.tag}", options
