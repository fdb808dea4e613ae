"""Picture: an image that is decoded once for all steps of the preparation.

Each step sees the same pixels whether it runs alone or with others: a JPEG is always decoded at the scale
that all steps need at their default settings. A step that needs more detail decodes the image again.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melfast import core
from melfast.io.errors import ImageError
from melfast.io.images import ImageFile, Needed, Scaled, opened, profile_of, read_mask_of
from melfast.skin.masks import find_regions, working_size

# Shorter side of the copies to train from, by default.
COPY_SIDE = 288


class Picture:
    """
    Attributes:
        mask_path: path of the lesion mask; None if there is none.
    """

    def __init__(self, image: ImageFile, mask_path: Path | None, held: ExitStack) -> None:
        self.mask_path = mask_path
        self._image, self._held = image, held
        self._decodes: dict[int, Scaled] = {}

    def decoded(self, needed: Needed = lambda height, width: (0, 0)) -> Scaled:
        """Like `melfast.io.images.read_scaled`; do not modify the pixels.

        Raises:
            ImageError: the image is bad.
        """

        def most(height: int, width: int) -> tuple[int, int]:
            sizes = (working_size(height, width), copy_size(height, width, COPY_SIDE), needed(height, width))
            return max(tall for tall, _ in sizes), max(wide for _, wide in sizes)

        factor = self._image.factor(most)
        if factor not in self._decodes:
            self._decodes[factor] = self._held.enter_context(self._image.at(factor))
        return self._decodes[factor]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image in the file."""
        return self.decoded()[1]

    @property
    def profile(self) -> str:
        """Name of the colour profile; '' if there is none."""
        return profile_of(self._image)

    def resized(self, size_of: Needed) -> NDArray[np.uint8]:
        """Like `melfast.io.images.read_resized`; do not modify the pixels."""
        image, size, extent = self.decoded(size_of)
        wanted = size_of(*size)
        if image.shape[:2] == wanted:
            return image
        out = np.empty((*wanted, 3), np.uint8)
        core.resize(image, out, extent=extent)
        return out

    @cached_property
    def work(self) -> NDArray[np.uint8]:
        """The image at its working size."""
        return self.resized(working_size)

    @cached_property
    def regions(self) -> NDArray[np.uint8]:
        """What each pixel of `work` shows."""
        return find_regions(self.work)

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        """The lesion mask, from its file; raises ImageError, naming the image, if the file is bad."""
        if self.mask_path is None:
            return None
        return read_mask_of(self._image.path, self.mask_path)

    def bad(self, reason: str) -> ImageError:
        return ImageError(self._image.path, reason)


@contextmanager
def open_picture(path: Path, mask_path: Path | None = None) -> Iterator[Picture]:
    """Opens an image; its pixels are valid inside the block. Raises ImageError like read_image."""
    with opened(path) as image, ExitStack() as held:
        yield Picture(image, mask_path, held)


def whole(height: int, width: int) -> tuple[int, int]:
    return height, width


def copy_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of an image whose shorter side is at most `side`."""
    scale = min(1.0, side / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
