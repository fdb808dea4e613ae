"""Melanoma classifiers on dermoscopic images, fast, and fair across skin tones.

Each name loads when it is first used, so `import melfast` itself is quick.

======================  ============================================================================
read_image              an image file as a uint8 sRGB array [H, W, 3]
estimate_ita            skin tone of images: ITA in degrees, how far to trust it
lesion_mask             where the lesion is, bool [H, W]
shift_skin              images with their skin moved to another ITA
read_manifest           a manifest (the table of images), checked
MelanomaDataset         a manifest as a torch Dataset
train                   a classifier from a config; returns its run folder
evaluate                a run measured on a split; returns its metrics
load_model              the network of a run, an nn.Module
Predictor               P(malignant) of images with an exported model or a run
load_predictor          the same as Predictor, the name beside load_model
metrics                 AUC, sensitivity, calibration, fairness, intervals on arrays
======================  ============================================================================

Images are paths, PIL images, uint8 arrays or uint8 tensors, one or a sequence of them. Errors that a
user can fix are InputError and ImageError. What the library reports goes to the logger "melfast":
`logging.basicConfig(level="INFO")` shows it.
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


# ONNX Runtime 1.32 reports its use over the network, from a thread that lets forked processes hang or abort
# when they end. It reads this when it is imported; who wants the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def lazily(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that imports what it offers when it is first used.

    Args:
        package: its name.
        places: where each name is: `module:name`, or `module` of a submodule.
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
