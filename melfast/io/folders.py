"""The images of a folder, and what lies beside them."""

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import features

from melfast.io.errors import InputError
from melfast.io.rare_formats import AVIF_INSTALL, DICOM_INSTALL, HEIF_INSTALL

PLAIN_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
# Suffixes that need a library: what makes them readable.
RARE_SUFFIXES = {".heic": HEIF_INSTALL, ".heif": HEIF_INSTALL, ".dcm": DICOM_INSTALL, ".avif": AVIF_INSTALL}
IMAGE_SUFFIXES = (*PLAIN_SUFFIXES, *RARE_SUFFIXES)
# Folders of thumbnails and of archives' shadows: of Synology disks and of macOS.
LITTER_FOLDERS = ("@eadir", "__macosx")
LITTER = ("thumbs.db", "desktop.ini")
MASK_FOLDER = re.compile(r"(^|[_\-. ])(masks?|segmentations?)($|[_\-. ])|_lesion$", re.IGNORECASE)
MASK_SUFFIX = re.compile(r"_(mask|segmentation)$", re.IGNORECASE)
# ISIC's superpixel maps lie beside the photographs.
SUPERPIXELS = re.compile(r"_superpixels?$", re.IGNORECASE)


@dataclass(frozen=True)
class Scan:
    """Files told apart by name.

    Attributes:
        files: images, sorted.
        others: how many files of each suffix, or maps of a kind, are not taken.
    """

    files: list[str]
    others: Counter[str] = field(default_factory=Counter)

    def notes(self, *known: str) -> tuple[str, ...]:
        """A line on what is not taken, but for files of suffixes that are `known`; none where that is nothing."""
        counts = [(kind, count) for kind, count in self.others.items() if kind not in known]
        counts.sort(key=lambda one: (-one[1], one[0]))
        if not counts:
            return ()
        listed = ", ".join(f"{count:,} {kind}" for kind, count in counts)
        needed = dict.fromkeys(RARE_SUFFIXES[kind] for kind, _ in counts if kind in RARE_SUFFIXES)
        hint = f" (to read them: {'; '.join(needed)})" if needed else ""
        return (f"not read: {listed}{hint}",)


def readable_suffixes() -> tuple[str, ...]:
    """Of the formats whose libraries are installed."""
    there = {
        HEIF_INSTALL: importlib.util.find_spec("pillow_heif") is not None,
        DICOM_INSTALL: importlib.util.find_spec("pydicom") is not None,
        AVIF_INSTALL: features.check("avif"),
    }
    return (*PLAIN_SUFFIXES, *(suffix for suffix, library in RARE_SUFFIXES.items() if there[library]))


def list_images(folder: str | Path) -> list[Path]:
    """Images under a folder, by suffix in any case, sorted; hidden ones are left out.

    Raises:
        InputError: the folder is missing or holds no image.
    """
    found = scan(folder)
    if not found.files:
        raise none_found(folder, found)
    return [Path(folder, file) for file in found.files]


def none_found(where: str | Path, found: Scan, holds: str = "holds") -> InputError:
    """That there is no image, and what there is."""
    suffixes = ", ".join(PLAIN_SUFFIXES)
    return InputError("; ".join((f"{where}: {holds} no image ({suffixes})", *found.notes())))


def scan_images(folder: str | Path) -> list[str]:
    """As list_images, but as paths relative to the folder, and an empty folder gives none."""
    return scan(folder).files


def scan(folder: str | Path) -> Scan:
    """All files under a folder, links to folders followed, as paths relative to it.

    Raises:
        InputError: the folder is missing or cannot be listed.
    """
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "no such folder"
        raise InputError(f"{folder}: {found}, wanted a folder of images")
    return sort_files(_walk(folder))


def sort_files(files: Iterable[str]) -> Scan:
    """Images by suffix in any case, and the others; hidden files and the litter of operating systems are neither."""
    readable = readable_suffixes()
    images: list[str] = []
    others: Counter[str] = Counter()
    for file in files:
        name = os.path.basename(file).lower()
        if name.startswith(".") or name in LITTER:
            continue
        if name.endswith(readable):
            images.append(file)
        else:
            others[os.path.splitext(name)[1] or "without a suffix"] += 1
    return _without(Scan(sorted(images), others), "superpixel maps", lambda file: bool(SUPERPIXELS.search(_stem(file))))


def separate_masks(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Parts relative paths into images and masks, by the names of folders and by suffix."""
    images: list[str] = []
    masks: list[str] = []
    folders: dict[str, bool] = {}
    for file in files:
        folder = os.path.dirname(file)
        if folder not in folders:
            folders[folder] = any(MASK_FOLDER.search(part) for part in folder.split(os.sep))
        (masks if folders[folder] or MASK_SUFFIX.search(_stem(file)) else images).append(file)
    return images, masks


def without_masks(found: Scan) -> Scan:
    """Without the masks of other images that are there."""
    masks = set(separate_masks(found.files)[1])
    return _without(found, "masks", masks.__contains__)


def named_in_utf8(found: Scan) -> Scan:
    """Without the files whose names are not UTF-8, which a manifest cannot hold."""
    files = [file for file in found.files if not any("\ud800" <= c <= "\udfff" for c in file)]
    return Scan(files, found.others + Counter({"whose names are not UTF-8": len(found.files) - len(files)}))


def _without(found: Scan, kind: str, is_map: Callable[[str], bool]) -> Scan:
    """Without the files that are a map of another image, which has its name but for a suffix of the map's kind."""
    maps = {file for file in found.files if is_map(file)}
    if not maps:
        return found
    photographs = {_stem(file) for file in found.files if file not in maps}
    left = {file for file in maps if MASK_SUFFIX.sub("", SUPERPIXELS.sub("", _stem(file))) in photographs}
    counts = Counter({kind: len(left)}) if left else Counter()
    return Scan([file for file in found.files if file not in left], found.others + counts)


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def _walk(folder: str | Path) -> Iterator[str]:
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=_cannot_list, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link back up the tree
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() not in LITTER_FOLDERS)
        prefix = "" if root == str(folder) else os.path.relpath(root, folder) + os.sep
        yield from (prefix + name for name in names)


def _cannot_list(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error
