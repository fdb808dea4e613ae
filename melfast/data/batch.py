"""Batch: what every loader hands to the model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import ImageError


@dataclass(frozen=True)
class Batch:
    """Images in the order of the plan; those that failed are left out and listed.

    Attributes:
        images: [B, H, W, 3] C-contiguous: uint8 sRGB, or float32/float16 normalised by Preprocess. The
            memory belongs to the loader and is valid until the next batch is requested. On a GPU
            (DaliLoader) it is a torch tensor instead of an array.
        index: int64 [B], row of each image in the manifest (or in the list of files).
        failures: images of this batch that could not be read; always empty under `on_error=raise`.
        group: int16 [B], tone group from the plan, -1 unknown; None: the plan has none.
    """

    images: NDArray[Any]
    index: NDArray[np.int64]
    failures: tuple[ImageError, ...] = ()
    group: NDArray[np.int16] | None = None
