"""Find the images in a folder, and other files next to them."""

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import features

from melfast.io.errors import InputError
from melfast.io.rare_formats import AVIF_INSTALL, DICOM_INSTALL, HEIF_INSTALL

PLAIN_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
# Suffixes that need a library, and that library.
RARE_SUFFIXES = {".heic": HEIF_INSTALL, ".heif": HEIF_INSTALL, ".dcm": DICOM_INSTALL, ".avif": AVIF_INSTALL}
IMAGE_SUFFIXES = (*PLAIN_SUFFIXES, *RARE_SUFFIXES)
# Folders with thumbnails, archive metadata and deleted files, from network disks, macOS and Windows.
LITTER_FOLDERS = ("@eadir", "__macosx", "#recycle", "@recycle", "$recycle.bin", "system volume information")
LITTER = ("thumbs.db", "desktop.ini")
MASK_FOLDER = re.compile(r"(^|[_\-. ])(masks?|segmentations?)($|[_\-. ])|_lesion$", re.IGNORECASE)
MASK_SUFFIX = re.compile(r"[_\-.](lesion_)?(mask|segmentation|seg|gt)$", re.IGNORECASE)
# In a folder of masks: PH2, the ISIC Archive of before 2022, and others.
MASK_AFFIX = re.compile(r"^mask[_\-]|_lesion$|_expert$|_novice$", re.IGNORECASE)
# Maps that lie beside the photographs: superpixels and attributes (ISIC 2017, 2018), colours (PH2).
MAPS = {
    "superpixel maps": re.compile(r"_superpixels?$", re.IGNORECASE),
    "attribute maps": re.compile(r"_attribute_\w+$", re.IGNORECASE),
    "colour maps": re.compile(r"_r\d+_label\d+$", re.IGNORECASE),
}


@dataclass(frozen=True)
class Scan:
    """Files sorted by kind, judged by their names.

    Attributes:
        files: images, sorted.
        others: number of ignored files per suffix, or per kind of map.
    """

    files: list[str]
    others: Counter[str] = field(default_factory=Counter)

    def notes(self, *known: str) -> tuple[str, ...]:
        """A line about the ignored files, except those with `known` suffixes; none if there are no others."""
        counts = [(kind, count) for kind, count in self.others.items() if kind not in known]
        counts.sort(key=lambda one: (-one[1], one[0]))
        if not counts:
            return ()
        listed = ", ".join(f"{count:,} {kind}" for kind, count in counts)
        needed = dict.fromkeys(RARE_SUFFIXES[kind] for kind, _ in counts if kind in RARE_SUFFIXES)
        hint = f" (to read them: {'; '.join(needed)})" if needed else ""
        return (f"not read: {listed}{hint}",)


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of the formats whose libraries are installed."""
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
    """The error that there is no image, and what there is instead."""
    suffixes = ", ".join(PLAIN_SUFFIXES)
    return InputError("; ".join((f"{where}: {holds} no image ({suffixes})", *found.notes())))


def scan_images(folder: str | Path) -> list[str]:
    """Like list_images, but returns relative paths, and an empty list for an empty folder."""
    return scan(folder).files


def scan(folder: str | Path) -> Scan:
    """All files under a folder, as relative paths; links to folders are followed.

    Raises:
        InputError: the folder is missing or cannot be listed.
    """
    if not os.path.isdir(folder):
        found = "is a file" if os.path.exists(folder) else "no such folder"
        raise InputError(f"{folder}: {found}, expected a folder of images")
    return sort_files(_walk(folder))


def sort_files(files: Iterable[str]) -> Scan:
    """Images by suffix in any case, and other files; hidden and operating-system files are ignored."""
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
    found = Scan(sorted(images), others)
    for kind, suffix in MAPS.items():
        maps = {file: suffix.sub("", _stem(file)) for file in found.files if suffix.search(_stem(file))}
        found = _without(found, kind, maps)
    return found


def separate_masks(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separates relative paths into images and masks, by the names of folders and by suffix."""
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
    """Drops the masks of other images in the list."""
    return _without(found, "masks", {file: masked_stem(_stem(file)) for file in separate_masks(found.files)[1]})


def masked_stem(stem: str) -> str:
    """The stem of the image that a mask belongs to: x of `x_mask`, `x_segmentation`, `mask_x` and others."""
    return MASK_AFFIX.sub("", MASK_SUFFIX.sub("", stem))


def named_in_utf8(found: Scan) -> Scan:
    """Without the files whose names are not UTF-8, which a manifest cannot hold."""
    files = [file for file in found.files if not any("\ud800" <= c <= "\udfff" for c in file)]
    return Scan(files, found.others + Counter({"whose names are not UTF-8": len(found.files) - len(files)}))


def _without(found: Scan, kind: str, maps: Mapping[str, str]) -> Scan:
    """Drops maps (or masks) of images that are there, given by the stem of their image."""
    photographs = {_stem(file) for file in found.files if file not in maps}
    left = {file for file, stem in maps.items() if stem in photographs}
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
