"""Views: test-time augmentation by mirror images and quarter turns, for any model.

A dermoscopic image has no up and down, so predictions for its mirror images and turns are equally
valid; their mean P(malignant) varies less than any single one.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.io.words import check_words

Tta = Literal["none", "flips", "rotations"]


class View(NamedTuple):
    """A symmetry: the image is first mirrored along its diagonal, then along its axes."""

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


@check_words
def require_views(tta: Tta, preprocess: Preprocess) -> tuple[View, ...]:
    """
    Raises:
        InputError: unknown name, or quarter turns of an input that is not square.
    """
    if tta == "rotations" and preprocess.width != preprocess.height:
        raise InputError(
            f"`tta=rotations` needs a square input, the model's is {preprocess.width}x"
            f"{preprocess.height}; wanted `tta=flips`"
        )
    return VIEWS[tta]


def viewed(images: Any, view: View, axes: tuple[int, int] = (1, 2)) -> Any:
    """Applies a view to images: an array (the result is not contiguous) or a tensor.

    Args:
        axes: axes of height and width.
    """
    turned = images.swapaxes(*axes) if view.transpose else images
    flipped = [axis for axis, wanted in zip(axes, (view.flip_y, view.flip_x), strict=True) if wanted]
    if not flipped:
        return turned
    return np.flip(turned, tuple(flipped)) if isinstance(turned, np.ndarray) else turned.flip(flipped)
