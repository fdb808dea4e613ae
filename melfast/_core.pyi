from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

def isa() -> Literal["baseline", "avx2", "avx512"]: ...
def resize(
    image: NDArray[np.uint8], out: NDArray[np.uint8], *, extent: tuple[float, float, float, float] | None = None
) -> None: ...
def warp_affine(image: NDArray[np.uint8], affine: ArrayLike, out: NDArray[np.uint8]) -> None: ...
def srgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]: ...
def lab_to_srgb(lab: NDArray[np.float32]) -> NDArray[np.uint8]: ...
def shift_lab(
    image: NDArray[np.uint8], weights: NDArray[np.uint8], l: float, a: float, b: float, out: NDArray[np.uint8]
) -> None: ...
def apply_curves(
    image: NDArray[np.uint8], weights: NDArray[np.uint8], curves: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None: ...
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
    *,
    extent: tuple[float, float, float, float] | None = None,
    working: tuple[int, int] | None = None,
    mask: NDArray[np.uint8] | None = None,
    curves: NDArray[np.uint8] | None = None,
    jitter: ArrayLike | None = None,
    masked: bool = False,
    erase: Sequence[int] = (0, 0, 0, 0),
    fill: Sequence[int] = (0, 0, 0),
) -> None: ...
def cluster_colours(
    colours: NDArray[np.float32],
    repeats: NDArray[np.int32] | None = None,
    *,
    seed: int = 0,
    attempts: int = 1,
    iterations: int = 100,
    epsilon: float = 0.2,
) -> tuple[NDArray[np.float64], list[NDArray[np.float32]], list[NDArray[np.int64]]]: ...
def mean_shift(
    colours: NDArray[np.float32],
    start: NDArray[np.float32],
    radius: float,
    *,
    iterations: int = 20,
    epsilon: float = 0.05,
) -> NDArray[np.float32]: ...

WORKING_SIDE: int

def skin_regions(image: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
def resize_mask(mask: NDArray[np.uint8] | NDArray[np.bool_], height: int, width: int) -> NDArray[np.uint8]: ...
