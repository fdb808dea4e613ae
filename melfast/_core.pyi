from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

def isa() -> Literal["baseline", "avx2", "avx512"]: ...
def resize(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None: ...
def warp_affine(image: NDArray[np.uint8], affine: ArrayLike, out: NDArray[np.uint8]) -> None: ...
def srgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]: ...
def published_mask(image: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
def normalize(
    image: NDArray[np.uint8],
    out: NDArray[Any],
    colour: Literal["rgb", "cielab"],
    mean: Sequence[float],
    std: Sequence[float],
) -> None: ...
def prepare(
    image: NDArray[np.uint8],
    affine: ArrayLike,
    out: NDArray[Any],
    colour: Literal["rgb", "cielab"],
    mean: Sequence[float],
    std: Sequence[float],
) -> None: ...
