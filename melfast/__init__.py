"""Melanoma classifiers on dermoscopic images, fast, and fair across skin tones."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melfast.data.dataset import MelanomaDataset
    from melfast.predict.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["MelanomaDataset", "Predictor", "__version__"]

# Loaded when asked for: `import melfast` costs nothing.
_LAZY = {"MelanomaDataset": "melfast.data.dataset", "Predictor": "melfast.predict.predictor"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
