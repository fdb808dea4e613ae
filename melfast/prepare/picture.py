"""Picture: one image on its way through the steps of preparing, decoded once for all of them.

Alone or together the steps see the same pixels: a JPEG at the scale that serves them all at their
default settings, however few of them run. A step that needs more has a decode of its own.
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
        mask_path: of the mask of its lesion; None where it has none.
    """

    def __init__(self, image: ImageFile, mask_path: Path | None, held: ExitStack) -> None:
        self.mask_path = mask_path
        self._image, self._held = image, held
        self._decodes: dict[int, Scaled] = {}

    def decoded(self, needed: Needed = lambda height, width: (0, 0)) -> Scaled:
        """As `melfast.io.images.read_scaled`, the pixels to be left as they are.

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
        """What its colour profile calls itself; '' where it has none."""
        return profile_of(self._image)

    def resized(self, size_of: Needed) -> NDArray[np.uint8]:
        """As `melfast.io.images.read_resized`, the pixels to be left as they are."""
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
        """Inside of the lesion, by the mask's file; raises ImageError, of the image, where that is bad."""
        if self.mask_path is None:
            return None
        return read_mask_of(self._image.path, self.mask_path)

    def bad(self, reason: str) -> ImageError:
        return ImageError(self._image.path, reason)


@contextmanager
def open_picture(path: Path, mask_path: Path | None = None) -> Iterator[Picture]:
    """Raises ImageError as read_image; its pixels are there while the block lasts."""
    with opened(path) as image, ExitStack() as held:
        yield Picture(image, mask_path, held)


def whole(height: int, width: int) -> tuple[int, int]:
    return height, width


def copy_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of an image whose shorter side is at most `side`."""
    scale = min(1.0, side / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
