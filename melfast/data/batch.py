"""Batch: what every executor hands to the model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import ImageError


@dataclass(frozen=True)
class Batch:
    """Images in the order of the plan; failed ones are left out and named.

    Attributes:
        images: [B, H, W, 3] C-contiguous: uint8 sRGB, or float32/float16 normalised as Preprocess
            says. The memory is the executor's: valid until the next batch is asked for. Where it
            is a GPU's (DaliLoader), a torch tensor stands in for the array.
        index: int64 [B], row of the manifest (or place in the list of files) of each image.
        failures: images of this batch that could not be read; always empty under `on_error=raise`.
        group: int16 [B], tone group as the plan has it, -1 unknown; None: the plan has none.
    """

    images: NDArray[Any]
    index: NDArray[np.int64]
    failures: tuple[ImageError, ...] = ()
    group: NDArray[np.int16] | None = None
