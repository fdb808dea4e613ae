"""ITA: the skin tone of every image of a manifest."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from melfast.data.manifest import Manifest
from melfast.io.journal import Journal
from melfast.io.schema import checked
from melfast.io.words import check_words
from melfast.prepare.picture import Picture, open_picture, whole
from melfast.prepare.sweep import Result, SweepResult, sweep
from melfast.skin.ita import Convention, SkinTone, estimate_tone
from melfast.skin.tone import FITZPATRICK, TONE_GROUPS, UNKNOWN_GROUP, FitzpatrickMap, ToneGroups, ToneScale, classify

# Columns of which none may be there before, but for --force.
FILLED = ("ita", "group", "group_str", "fitzpatrick", "skin_l")


@checked()
class ToneSettings:
    """How skin tone is estimated and named; each is a column of the manifest.

    Attributes:
        ita_convention: `cielab`, or `published` (the published method's 8-bit numbers, which are
            not true ITA).
        tone_groups: the scale of `group` and `group_str`.
        fitzpatrick_map: the scale of `fitzpatrick`.
        ita_min_quality: an image of lower quality, or of quality 0, gets no group.
    """

    ita_convention: Convention = "cielab"
    tone_groups: ToneGroups = "six"
    fitzpatrick_map: FitzpatrickMap = "kinyanjui_groh"
    ita_min_quality: Annotated[float, Field(ge=0, le=1)] = 0.0


@check_words
def estimate_tones(
    manifest: Manifest,
    convention: Convention,
    *,
    threads: int = 1,
    journal: Journal | None = None,
    progress: Callable[[], None] = lambda: None,
) -> SweepResult:
    """Estimates the skin tone of each image.

    Args:
        threads: images at a time.
        journal: images that it knows are not looked at again.
        progress: called as each image is done.
    Returns:
        Results with the fields of SkinTone.
    """
    paths = manifest.image_paths

    def work(row: int) -> Result:
        with open_picture(paths[row]) as picture:
            return tone_result(picture, convention)

    return sweep(manifest, work, threads=threads, journal=journal, progress=progress)


@check_words
def read_tone(path: Path, convention: Convention = "cielab") -> SkinTone:
    """The skin tone of an image file.

    Raises:
        ImageError: as read_image.
    """
    with open_picture(path) as picture:
        return tone_of(picture, convention)


@check_words
def tone_of(picture: Picture, convention: Convention) -> SkinTone:
    """The skin tone of an image."""
    if convention == "published":
        # It shrinks the whole image without antialiasing: what it sees depends on the size that it starts from.
        return estimate_tone(picture.resized(whole), convention=convention)
    return estimate_tone(picture.work, regions=picture.regions)


def with_tones(manifest: Manifest, swept: SweepResult, settings: ToneSettings) -> Manifest:
    """The manifest with `ita` and what belongs to it; '' where it is unknown or the image is bad.

    The columns are ita, ita_quality, ita_doubts, group, group_str, fitzpatrick, the dominant skin
    colour as skin_l, skin_a, skin_b and skin_red, skin_green, skin_blue, skin_fraction, and the
    settings.
    """
    results = [result or {} for result in swept.results]
    ita = np.array([result.get("ita_deg", np.nan) for result in results], np.float64)
    quality = np.array([result.get("quality", np.nan) for result in results], np.float64)
    # A quality of 0 means that the number cannot be meant, whatever is asked for.
    good = (quality > 0) & (quality >= settings.ita_min_quality)
    trusted = np.where(good, ita, np.nan)
    groups, names = _named(trusted, TONE_GROUPS[settings.tone_groups])
    _, types = _named(trusted, FITZPATRICK[settings.fitzpatrick_map])
    columns: dict[str, list[Any]] = {
        "ita": [f"{value:.4f}" if np.isfinite(value) else None for value in ita],
        "ita_quality": [f"{value:.3f}" if np.isfinite(value) else None for value in quality],
        "ita_doubts": ["; ".join(result.get("doubts", ())) for result in results],
        "group": groups,
        "group_str": names,
        "fitzpatrick": types,
        "skin_fraction": [result.get("skin_fraction") for result in results],
    }
    for key, parts in (("lab", "l a b"), ("rgb", "red green blue")):
        for i, part in enumerate(parts.split()):
            columns[f"skin_{part}"] = [result.get(key, (None,) * 3)[i] for result in results]
    for name, value in asdict(settings).items():
        columns[name] = [value if result else None for result in results]
    return manifest.with_columns(**columns)


def tones_summary(manifest: Manifest, settings: ToneSettings) -> list[str]:
    """How many images each group has, and how many each doubt."""
    names = manifest.column("group_str")
    scale = TONE_GROUPS[settings.tone_groups]
    lines = [f"{name:13} {int((names == name).sum()):7,}" for name in scale.names]
    good = manifest.column("tone_groups") != ""
    lines.append(f"{'no group':13} {int((good & (names == '')).sum()):7,}")
    doubts = [doubt for cell in manifest.column("ita_doubts") for doubt in cell.split("; ") if doubt]
    lines += [f"doubt: {name}: {count:,}" for name, count in Counter(doubts).most_common()]
    return lines


def _named(ita: np.ndarray, scale: ToneScale) -> tuple[list[int | None], list[str | None]]:
    """Index and name of each ITA's class; None where it is NaN."""
    classes = [None if index == UNKNOWN_GROUP else int(index) for index in classify(ita, scale)]
    return classes, [None if index is None else scale.names[index] for index in classes]


@check_words
def tone_result(picture: Picture, convention: Convention) -> Result:
    """`tone_of` as the journal keeps it: JSON's numbers, rounded to what the manifest shows."""
    tone = tone_of(picture, convention)
    known = bool(np.isfinite(tone.ita_deg))
    return {
        "ita_deg": round(float(tone.ita_deg), 4) if known else None,
        "quality": round(float(tone.quality), 3),
        "doubts": list(tone.doubts),
        "skin_fraction": round(float(tone.skin_fraction), 4),
        "lab": [round(float(value), 3) for value in tone.lab] if known else [None] * 3,
        "rgb": [int(value) for value in tone.rgb] if tone.rgb else [None] * 3,
    }
