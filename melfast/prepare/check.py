"""Check: every image and mask of a manifest decoded once, to its end, in parallel."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from melfast.data.manifest import Manifest
from melfast.prepare.picture import Picture, open_picture
from melfast.prepare.sweep import Bad, Result, Swept, sweep

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

    A JPEG is decoded at a part of its size: all of its data are read for that, too, and the decoder
    accepts no damage.

    Args:
        threads: images at a time.
        progress: called as each image is done.
    Raises:
        InputError: a row has no path.
    """
    paths, masks = manifest.image_paths, manifest.mask_paths

    def work(row: int) -> Result:
        with open_picture(paths[row], masks[row]) as picture:
            return look_over(picture)

    return checked_rows(manifest, sweep(manifest, work, threads=threads, progress=progress))


def checked_rows(manifest: Manifest, swept: Swept) -> Checked:
    """Of the results of `look_over`."""
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


def look_over(picture: Picture) -> Result:
    """The image's size; raises ImageError with what is wrong with it or its mask."""
    height, width = picture.size
    if picture.mask is not None and picture.mask.shape != (height, width):
        tall, wide = picture.mask.shape
        raise picture.bad(
            f"mask {picture.mask_path}: found {wide} x {tall} pixels, wanted {width} x {height} as the image"
        )
    return {"width": width, "height": height, "profile": picture.profile}
