"""Images and masks of a folder by name: pairs are made by stem, never by position."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from melfast.io.errors import InputError
from melfast.prepare.importers import image_stem

MASK_FOLDER = re.compile(r"(^|[_\-. ])(masks?|segmentations?)($|[_\-. ])", re.IGNORECASE)
MASK_SUFFIX = re.compile(r"_(mask|segmentation)$", re.IGNORECASE)


@dataclass(frozen=True)
class FileIndex:
    """Files under a folder, by stem.

    Attributes:
        folder: where the files were looked for.
        files: stem to path relative to `folder`; for masks the stem is the image's.
        twice: stem to the second file that has it.
    """

    folder: str
    files: dict[str, str]
    twice: dict[str, str]

    def require_single(self, stems: Iterable[str], what: str) -> None:
        """Raises InputError, naming both files, where one of the stems stands in two places."""
        for stem in stems:
            if stem in self.twice:
                raise InputError(
                    f"{self.folder}: two {what} are called {stem!r}: {self.files[stem]} and "
                    f"{self.twice[stem]}; names must differ"
                )


def index_images(folder: str, files: Iterable[str]) -> FileIndex:
    """Images by stem."""
    return _index(folder, ((image_stem(file), file) for file in files))


def index_masks(folder: str, files: Iterable[str]) -> FileIndex:
    """Masks by the stem of their image: `x.png`, `x_mask.jpg` and `x_segmentation.png` are x's."""
    return _index(folder, ((MASK_SUFFIX.sub("", image_stem(file)), file) for file in files))


def separate_masks(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Parts relative paths into images and masks, by the names of folders and by suffix."""
    images: list[str] = []
    masks: list[str] = []
    folders: dict[str, bool] = {}
    for file in files:
        folder, name = os.path.split(file)
        if folder not in folders:
            folders[folder] = any(MASK_FOLDER.search(part) for part in folder.split(os.sep))
        is_mask = folders[folder] or MASK_SUFFIX.search(image_stem(name))
        (masks if is_mask else images).append(file)
    return images, masks


def _index(folder: str, stems_and_files: Iterable[tuple[str, str]]) -> FileIndex:
    files: dict[str, str] = {}
    twice: dict[str, str] = {}
    for stem, file in stems_and_files:
        if stem in files:
            twice.setdefault(stem, file)
        else:
            files[stem] = file
    return FileIndex(folder, files, twice)
