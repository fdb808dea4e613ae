"""Check: decode every image and mask of a manifest completely, in parallel."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from melfast.data.manifest import Manifest
from melfast.prepare.picture import Picture, open_picture
from melfast.prepare.sweep import Bad, Result, SweepResult, sweep

NO_PROFILES: Counter[str] = Counter()


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        good: the usable rows, with their `width` and `height` in pixels.
        bad: the others.
        profiles: number of good images by the name of their colour profile.
    """

    good: Manifest
    bad: list[Bad]
    profiles: Counter[str]


def check_manifest(manifest: Manifest, *, threads: int = 1, progress: Callable[[], None] = lambda: None) -> CheckResult:
    """Decodes each image, and its mask if it has one, which must have the size of the image.

    A JPEG is decoded at a fraction of its size, which also reads all of its data and detects any damage.

    Args:
        threads: number of images decoded at the same time.
        progress: called after each image.
    Raises:
        InputError: a row has no path.
    """
    paths, masks = manifest.image_paths, manifest.mask_paths

    def work(row: int) -> Result:
        with open_picture(paths[row], masks[row]) as picture:
            return look_over(picture)

    return checked_rows(manifest, sweep(manifest, work, threads=threads, progress=progress))


def checked_rows(manifest: Manifest, swept: SweepResult) -> CheckResult:
    """The outcome of a check, from the results of `look_over`."""
    sizes = [size for size in swept.results if size is not None]
    good = manifest.select([row for row, size in enumerate(swept.results) if size is not None])
    good = good.with_columns(width=[size["width"] for size in sizes], height=[size["height"] for size in sizes])
    return CheckResult(good, swept.bad, Counter(size["profile"] for size in sizes if size["profile"]))


def manifest_remarks(manifest: Manifest, profiles: Counter[str] = NO_PROFILES) -> list[str]:
    """Properties of a table that will cause trouble in training, and the colour profiles of its images."""
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


def look_over(picture: Picture) -> Result:
    """The size of the image; raises ImageError if the image or its mask is bad."""
    height, width = picture.size
    if picture.mask is not None and picture.mask.shape != (height, width):
        tall, wide = picture.mask.shape
        raise picture.bad(
            f"mask {picture.mask_path}: found {wide} x {tall} pixels, expected {width} x {height} as the image"
        )
    return {"width": width, "height": height, "profile": picture.profile}
