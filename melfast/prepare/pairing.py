"""Images and masks of a folder by name: pairs are made by stem, never by position."""

from collections.abc import Iterable
from dataclasses import dataclass

from melfast.io.errors import InputError
from melfast.io.folders import MASK_SUFFIX
from melfast.prepare.importers import image_stem


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


def _index(folder: str, stems_and_files: Iterable[tuple[str, str]]) -> FileIndex:
    files: dict[str, str] = {}
    twice: dict[str, str] = {}
    for stem, file in stems_and_files:
        if stem in files:
            twice.setdefault(stem, file)
        else:
            files[stem] = file
    return FileIndex(folder, files, twice)
