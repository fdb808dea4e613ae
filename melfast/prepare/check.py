"""Check: every image and mask of a manifest decoded once, in full, in parallel."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from melfast.data.manifest import Manifest
from melfast.io.errors import ImageError
from melfast.io.images import check_image, read_mask_of
from melfast.prepare.sweep import Bad, Result, sweep

NO_PROFILES: Counter[str] = Counter()


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        good: the rows that can be used, with their `width` and `height` in pixels.
        bad: the others.
        profiles: of the good ones, how many have a colour profile of each name.
    """

    good: Manifest
    bad: list[Bad]
    profiles: Counter[str]


def check_manifest(manifest: Manifest, *, threads: int = 1, progress: Callable[[], None] = lambda: None) -> Checked:
    """Decodes each image, and its mask where it has one, which must have the image's size.

    Args:
        threads: images at a time.
        progress: called as each image is done.
    Raises:
        InputError: a row has no path.
    """
    paths, masks = manifest.image_paths, manifest.mask_paths
    swept = sweep(manifest, lambda row: _check(paths[row], masks[row]), threads=threads, progress=progress)
    sizes = [size for size in swept.results if size is not None]
    good = manifest.select([row for row, size in enumerate(swept.results) if size is not None])
    good = good.with_columns(width=[size["width"] for size in sizes], height=[size["height"] for size in sizes])
    return Checked(good, swept.bad, Counter(size["profile"] for size in sizes if size["profile"]))


def remarks(manifest: Manifest, profiles: Counter[str] = NO_PROFILES) -> list[str]:
    """What a table says that training will stumble over, and the colour profiles of its images."""
    targets = manifest.targets
    listed = ", ".join(f"{count:,} {name}" for name, count in profiles.most_common())
    notes = [f"colour profiles, converted to sRGB as images are read: {listed}"] if listed else []
    if unlabelled := int((targets == -1).sum()):
        notes.append(f"unlabelled images: {unlabelled} of {len(manifest)}")
    known = targets[targets >= 0]
    if known.size and known.min() == known.max():
        name = "malignant" if known[0] else "benign"
        notes.append(f"one class only: all {known.size} labelled images are {name}")
    if not (manifest.column("patient_id") != "").any() and not ((manifest.column("lesion_id") != "").any()):
        notes.append("neither patient_id nor lesion_id: a split can only go by image")
    return notes


def _check(path: Path, mask: Path | None) -> Result:
    """The image's size; raises ImageError with what is wrong with it or its mask."""
    info = check_image(path)
    size = {"width": info.width, "height": info.height, "profile": info.profile}
    if mask is None:
        return size
    height, width = read_mask_of(path, mask).shape
    if (width, height) != (info.width, info.height):
        raise ImageError(
            path, f"mask {mask}: found {width} x {height} pixels, wanted {info.width} x {info.height} as the image"
        )
    return size
