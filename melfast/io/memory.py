"""An image without a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class InMemory:
    """An image in memory; accepted instead of a path by everything that reads images.

    Attributes:
        name: name in messages, returned by `str`.
        content: the bytes of a JPEG or PNG, or uint8 sRGB pixels [H, W, 3].
    """

    name: str
    content: bytes | NDArray[np.uint8]

    def __str__(self) -> str:
        return self.name


Source = str | Path | InMemory
