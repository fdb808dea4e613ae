"""Losses: any of them with any head and any weights, see melfast.losses.criterion."""

from melfast.losses.criterion import Criterion

__all__ = ["Criterion"]
