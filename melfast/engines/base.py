"""Engine: what runs an exported model. Predictions, parity tests and benchmarks know engines only.

The exported file: one input `images`, uint8 sRGB [B, H, W, 3]; outputs `probability` [B] and
`logits` [B, C], float32; the ModelRecord as JSON in the metadata under `melfast`.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from melfast.models.record import ModelRecord

INPUT, OUTPUTS = "images", ("probability", "logits")
METADATA_KEY = "melfast"


class Engine(Protocol):
    """An exported model, ready to run.

    Attributes:
        record: what the model is; its `preprocess` gives the input size.
        provider: what it runs on, as the runtime itself says after loading.
    """

    record: ModelRecord
    provider: str

    def run(
        self, images_bhw3: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """P(malignant) [B] and logits [B, C], float32, owned by the caller.

        Args:
            images_bhw3: uint8 sRGB [B, H, W, 3] at the model's size, C-contiguous, B >= 1.
        Raises:
            ValueError: another shape or dtype.
        """
        ...
