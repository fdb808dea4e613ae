"""Classifier: a timm backbone with a linear head."""

from typing import Any

import timm
import torch

from melfast.errors import InputError
from melfast.models.record import ModelRecord


def build_classifier(record: ModelRecord, *, pretrained: bool = False) -> torch.nn.Module:
    """The network of a record: normalised images [B, 3, H, W] to logits [B, C].

    Raises:
        InputError: timm has no such backbone, it does not take the options, or its pretrained
            weights cannot be fetched.
    """
    options: dict[str, Any] = {"num_classes": record.num_logits, **record.backbone_options}
    try:
        return timm.create_model(record.backbone, pretrained=pretrained, **options)
    except (RuntimeError, TypeError, AssertionError, OSError) as error:
        raise InputError(f"model.backbone {record.backbone!r}: {error}") from error
