"""Views: test-time augmentation by mirror images and quarter turns, for any model.

A dermoscopic image has no up and down, so what a model says of its mirror images and turns is as
good an answer; the mean of P(malignant) over them is steadier than any one.
"""

from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError

Tta = Literal["none", "flips", "rotations"]


class View(NamedTuple):
    """What is done to an image: first its diagonal is mirrored, then its axes."""

    transpose: bool
    flip_y: bool
    flip_x: bool


_FLIPS = tuple(View(False, y, x) for y in (False, True) for x in (False, True))
# `rotations` are the eight symmetries of a square: quarter turns with and without a mirror.
VIEWS: dict[Tta, tuple[View, ...]] = {
    "none": _FLIPS[:1],
    "flips": _FLIPS,
    "rotations": _FLIPS + tuple(View(True, y, x) for _, y, x in _FLIPS),
}


def require_views(tta: Tta, preprocess: Preprocess) -> tuple[View, ...]:
    """
    Raises:
        InputError: quarter turns of an input that is not square.
    """
    if tta == "rotations" and preprocess.width != preprocess.height:
        raise InputError(
            f"`tta=rotations` needs a square input, the model's is {preprocess.width}x"
            f"{preprocess.height}; wanted `tta=flips`"
        )
    return VIEWS[tta]


def viewed(images_bhw3: NDArray[Any], view: View) -> NDArray[Any]:
    """Images [B, H, W, 3] as a view has them; not contiguous."""
    turned = images_bhw3.swapaxes(1, 2) if view.transpose else images_bhw3
    return turned[:, :: -1 if view.flip_y else 1, :: -1 if view.flip_x else 1]
