"""Check: decode every image and mask of a manifest completely, in parallel."""

from collections import Counter
from dataclasses import dataclass

from melfast.data.manifest import Manifest
from melfast.prepare.picture import Picture
from melfast.prepare.sweep import Bad, Result, Step, SweepResult

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
    """Decodes an image, and its mask if it has one, which must have the size of the image.

    A JPEG is decoded at a fraction of its size, which also reads all of its data and detects any damage.

    Raises:
        ImageError: the image or its mask is bad.
    """
    height, width = picture.size
    if picture.mask is not None and picture.mask.shape != (height, width):
        tall, wide = picture.mask.shape
        raise picture.bad(
            f"mask {picture.mask_path}: found {wide} x {tall} pixels, expected {width} x {height} as the image"
        )
    return {"width": width, "height": height, "profile": picture.profile}


CHECK = Step(lambda row, picture: look_over(picture))
