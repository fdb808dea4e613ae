"""Classifier: a timm backbone with a linear head."""

from typing import Any

import timm
import torch

from melfast.io.errors import InputError
from melfast.models.backbones import timm_model
from melfast.models.record import ModelRecord


def build_classifier(record: ModelRecord, *, pretrained: bool = False, in_22k: bool = False) -> torch.nn.Module:
    """The network of a record: normalised images [B, 3, H, W] to logits [B, K].

    Args:
        pretrained: use timm's pretrained weights, downloaded if necessary; `in_22k`: those pretrained
            on ImageNet-22k.
    Raises:
        InputError: timm has no such backbone, it does not accept the options, or its pretrained
            weights cannot be downloaded.
    """
    size = record.preprocess
    name, own = timm_model(record.backbone, size.height, size.width, in_22k=in_22k)
    options: dict[str, Any] = {"num_classes": record.num_logits, **own, **record.backbone_options}
    try:
        model = _create(name, options)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise InputError(f"model.backbone {record.backbone!r}: {error}") from error
    except (LookupError, ArithmeticError) as error:  # timm computes with options as they are: their text says little
        raise InputError(
            f"model.backbone {record.backbone!r}: cannot be built with backbone_options {record.backbone_options} "
            f"({type(error).__name__}: {error})"
        ) from error
    if not pretrained:
        return model
    try:
        return _create(name, {"pretrained": True, **options})
    except Exception as error:  # any error of the hub, the network or the disk
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"model.pretrained: the weights {name} cannot be downloaded ({reason}); without a network: "
            "`model.weights=FILE`"
        ) from error


def _create(name: str, options: dict[str, Any]) -> torch.nn.Module:
    model: torch.nn.Module = timm.create_model(name, **options)
    if options.get("dynamic_img_pad"):  # otherwise it accepts only its own size
        model.patch_embed.strict_img_size = False  # type: ignore[union-attr]
    return model
