"""Melanoma classifiers on dermoscopic images, fast, and fair across skin tones.

Each name loads when it is first used, so `import melfast` itself is quick.

======================  ============================================================================
read_image              read an image file as a uint8 sRGB array [H, W, 3]
estimate_ita            estimate skin tone: ITA in degrees and its quality
lesion_mask             segment the lesion, bool [H, W]
shift_skin              move the skin of images to another ITA
read_manifest           read and check a manifest (the table of images)
MelanomaDataset         a manifest as a torch Dataset
train                   train a classifier from a config; returns its run folder
evaluate                evaluate a run on a split; returns its metrics
load_model              the network of a run, an nn.Module
Predictor               P(malignant) of images with an exported model or a run
load_predictor          another name for Predictor, to match load_model
metrics                 AUC, sensitivity, calibration, fairness and intervals for arrays
======================  ============================================================================

Images may be paths, PIL images, uint8 arrays or uint8 tensors, either one or a sequence of them. Errors
that a user can fix are InputError and ImageError. The library logs to the logger "melfast";
`logging.basicConfig(level="INFO")` shows its messages.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melfast.data.dataset import MelanomaDataset
    from melfast.data.manifest import read_manifest
    from melfast.io.errors import ImageError, InputError
    from melfast.io.images import read_image
    from melfast.models.checkpoint import load_model
    from melfast.predict.predictor import Predictor
    from melfast.skin.measure import estimate_ita, lesion_mask, shift_skin

__version__ = "0.1.0"
__all__ = [
    "ImageError",
    "InputError",
    "MelanomaDataset",
    "Predictor",
    "__version__",
    "estimate_ita",
    "evaluate",
    "lesion_mask",
    "load_model",
    "load_predictor",
    "metrics",
    "read_image",
    "read_manifest",
    "shift_skin",
    "train",
]


# ONNX Runtime 1.32 sends telemetry from a thread that makes forked processes hang or abort when they end.
# It reads this variable when it is imported; set it to 0 to keep the telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def lazily(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package whose names are imported when they are first used.

    Args:
        package: name of the package.
        places: the location of each name: `module:name`, or `module` for a submodule.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, inner = places[name].partition(":")
        found = importlib.import_module(module)
        return getattr(found, inner) if inner else found

    return get, lambda: sorted({*places, "__doc__", "__name__", "__version__"})


__getattr__, __dir__ = lazily(
    __name__,
    {
        "ImageError": "melfast.io.errors:ImageError",
        "InputError": "melfast.io.errors:InputError",
        "MelanomaDataset": "melfast.data.dataset:MelanomaDataset",
        "Predictor": "melfast.predict.predictor:Predictor",
        "estimate_ita": "melfast.skin.measure:estimate_ita",
        "evaluate": "melfast.evaluate",
        "lesion_mask": "melfast.skin.measure:lesion_mask",
        "load_model": "melfast.models.checkpoint:load_model",
        "load_predictor": "melfast.predict.predictor:Predictor",
        "metrics": "melfast.metrics",
        "read_image": "melfast.io.images:read_image",
        "read_manifest": "melfast.data.manifest:read_manifest",
        "shift_skin": "melfast.skin.measure:shift_skin",
        "train": "melfast.train",
    },
)
