"""Find images and masks in a folder by name; pairs match by stem, never by position."""

import filecmp
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from melfast.io.errors import InputError
from melfast.io.folders import masked_stem
from melfast.prepare.importers import image_stem, shared_folders


@dataclass(frozen=True)
class FileIndex:
    """Files under a folder, by stem.

    Attributes:
        folder: the folder that was searched.
        files: maps stems to paths relative to `folder`; stems are composed (NFC), unlike on macOS; for
            masks it is the stem of the image.
        what: images or masks.
        copies: stems with several identical files in the folder, of which the first was used; filled by
            `find`.
    """

    folder: str
    files: dict[str, list[str]]
    what: str = "images"
    copies: set[str] = field(default_factory=set)

    def find(self, cells: Sequence[str]) -> list[str]:
        """The file for each name or path, relative to `folder`; '' if there is none.

        Among several files with a name, the one in folders with the same names is used. A file that also
        matches other cells with the same stem must be in the folder that the cell states.

        Raises:
            InputError: two different files match equally well.
        """
        stems = [_stem(cell) for cell in cells]
        shared = {stem for stem, count in Counter(stems).items() if count > 1}
        return [
            self._nearest(cell, stem, stem in shared) if stem in self.files else ""
            for cell, stem in zip(cells, stems, strict=True)
        ]

    def _nearest(self, cell: str, stem: str, shared: bool) -> str:
        wanted = _folders(cell)
        scores = {file: _common(wanted, _folders(file)) for file in self.files[stem]}
        best = max(scores.values())
        nearest = [file for file, score in scores.items() if score == best]
        if shared and wanted and best == 0:
            return ""
        if len(nearest) > 1:
            same = [file for file in nearest if os.path.basename(file) == os.path.basename(cell)]
            nearest = same or nearest
        first, *others = nearest
        for other in others:
            if not filecmp.cmp(os.path.join(self.folder, first), os.path.join(self.folder, other), shallow=False):
                raise InputError(
                    f"{self.folder}: two {self.what} are called {stem!r}: {first} and {other}; "
                    "names must differ, or the table must say their folders"
                )
        if others:
            self.copies.add(stem)
        return first

    def hint(self, cells: Sequence[str]) -> str:
        """Why files that seem to exist are not found: upper or lower case, or lost leading zeros."""
        folded = {stem.lower(): stem for stem in self.files}
        bare = {stem.lstrip("0"): stem for stem in self.files}
        for cell in map(_stem, cells):
            if found := folded.get(cell.lower()):
                return f"; {self.files[found][0]} is there: upper and lower case differ"
            if cell.isdecimal() and (found := bare.get(cell.lstrip("0"))):
                return f"; {self.files[found][0]} is there: leading zeros are missing, as a spreadsheet drops them"
        return ""

    def extra(self, cells: Iterable[str]) -> int:
        """Number of file names that no cell uses."""
        return len(self.files.keys() - {_stem(cell) for cell in cells})


def index_images(folder: str, files: Iterable[str]) -> FileIndex:
    """Images by stem."""
    return FileIndex(folder, _by_stem(files))


def index_masks(folder: str, files: Iterable[str]) -> FileIndex:
    """Masks by the stem of their image: `x.png`, `x_mask.jpg`, `mask_x.png` and `x_segmentation.png` are x's."""
    return FileIndex(folder, _by_stem(files, masks=True), "masks")


def _by_stem(files: Iterable[str], masks: bool = False) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        stem = _stem(file)
        if masks:
            stem = masked_stem(stem)
        found.setdefault(stem, []).append(file)
    return found


def _stem(cell: str) -> str:
    return unicodedata.normalize("NFC", image_stem(cell))


def _folders(path: str) -> list[str]:
    """Folders of a path, from last to first."""
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")[:-1]
    return parts[::-1]


def _common(wanted: list[str], folders: list[str]) -> int:
    """Number of equal folders, counted from the last."""
    return shared_folders([wanted, folders])
