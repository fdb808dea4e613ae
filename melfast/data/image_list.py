"""ImageList: the image files of a data set, and what is known about each before it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from melfast.io.memory import Source


@dataclass(frozen=True)
class ImageList:
    """
    Attributes:
        paths: image files.
        masks: lesion mask of each image, None if it has none; for plans that mask or move skin.
        checked: bool [N], files that `melfast prepare check` found intact.
    """

    paths: Sequence[Source]
    masks: Sequence[Path | None] | None = None
    checked: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: NDArray[np.int64]) -> "ImageList":
        return ImageList(
            [self.paths[i] for i in rows],
            None if self.masks is None else [self.masks[i] for i in rows],
            None if self.checked is None else self.checked[rows],
        )

    @classmethod
    def of(cls, images: "Sequence[Source] | ImageList") -> Self:
        """An ImageList of paths only."""
        return images if isinstance(images, cls) else cls(images)  # type: ignore[arg-type]
