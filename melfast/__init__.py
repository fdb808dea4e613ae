"""Melanoma classifiers on dermoscopic images, fast, and fair across skin tones."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melfast.engines.predict import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import melfast` costs nothing.
    if name == "Predictor":
        from melfast.engines.predict import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
