"""ITA: the skin tone of every image of a manifest."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from melfast.data.manifest import Manifest
from melfast.io.images import read_resized
from melfast.io.journal import Journal
from melfast.io.schema import checked
from melfast.io.words import check_words
from melfast.prepare.sweep import Result, Swept, sweep
from melfast.skin.ita import Convention, SkinTone, estimate_tone
from melfast.skin.masks import working_size
from melfast.skin.tone import FITZPATRICK, TONE_GROUPS, UNKNOWN_GROUP, FitzpatrickMap, ToneGroups, ToneScale, classify


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
) -> Swept:
    """Estimates the skin tone of each image.

    Args:
        threads: images at a time.
        journal: images that it knows are not looked at again.
        progress: called as each image is done.
    Returns:
        Results with the fields of SkinTone.
    """
    paths = manifest.image_paths
    return sweep(
        manifest,
        lambda row: _result(read_tone(paths[row], convention)),
        threads=threads,
        journal=journal,
        progress=progress,
    )


@check_words
def read_tone(path: Path, convention: Convention = "cielab") -> SkinTone:
    """The skin tone of an image file.

    Raises:
        ImageError: as read_image.
    """
    # The published method shrinks the whole image without antialiasing: what it sees depends on
    # the size that it starts from.
    needed = working_size if convention == "cielab" else lambda height, width: (height, width)
    image, _ = read_resized(path, needed)
    return estimate_tone(image, convention=convention)


def with_tones(manifest: Manifest, swept: Swept, settings: ToneSettings) -> Manifest:
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


def summary(manifest: Manifest, settings: ToneSettings) -> list[str]:
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


def _result(tone: SkinTone) -> Result:
    """As the journal keeps it: JSON's numbers, rounded to what the manifest shows."""
    known = bool(np.isfinite(tone.ita_deg))
    return {
        "ita_deg": round(float(tone.ita_deg), 4) if known else None,
        "quality": round(float(tone.quality), 3),
        "doubts": list(tone.doubts),
        "skin_fraction": round(float(tone.skin_fraction), 4),
        "lab": [round(float(value), 3) for value in tone.lab] if known else [None] * 3,
        "rgb": [int(value) for value in tone.rgb] if tone.rgb else [None] * 3,
    }
