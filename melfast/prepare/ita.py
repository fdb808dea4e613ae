"""ITA: estimate the skin tone of every image of a manifest."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from melfast.data.manifest import Manifest
from melfast.io.schema import Fraction, checked
from melfast.io.words import check_words
from melfast.prepare.picture import Picture, whole
from melfast.prepare.sweep import Result, Step, SweepResult
from melfast.skin.ita import Convention, SkinTone, estimate_tone
from melfast.skin.tone import FITZPATRICK, TONE_GROUPS, UNKNOWN_GROUP, FitzpatrickMap, ToneGroups, ToneScale, classify

# Columns that must not exist already, unless --force is given.
FILLED = ("ita", "group", "group_str", "fitzpatrick", "skin_l")


@checked()
class ToneSettings:
    """How skin tone is estimated and named; each setting is also a column of the manifest.

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
    ita_min_quality: Fraction = 0.0


@check_words
def tone_of(picture: Picture, convention: Convention) -> SkinTone:
    """The skin tone of an image."""
    if convention == "published":
        # It shrinks the image without antialiasing, so its result depends on the original size.
        return estimate_tone(picture.resized(whole), convention=convention)
    return estimate_tone(picture.work, regions=picture.regions)


def with_tones(manifest: Manifest, swept: SweepResult, settings: ToneSettings) -> Manifest:
    """The manifest with `ita` and related columns; '' if the tone is unknown or the image is bad.

    The columns are ita, ita_quality, ita_doubts, group, group_str, fitzpatrick, the dominant skin
    colour as skin_l, skin_a, skin_b and skin_red, skin_green, skin_blue, skin_fraction, and the
    settings.
    """
    results = [result or {} for result in swept.results]
    ita = np.array([result.get("ita_deg", np.nan) for result in results], np.float64)
    quality = np.array([result.get("quality", np.nan) for result in results], np.float64)
    # A quality of 0 means that the number is meaningless, whatever the settings.
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
    """Number of images in each group, and with each doubt."""
    names = manifest.column("group_str")
    scale = TONE_GROUPS[settings.tone_groups]
    lines = [f"{name:13} {int((names == name).sum()):7,}" for name in scale.names]
    good = manifest.column("tone_groups") != ""
    lines.append(f"{'no group':13} {int((good & (names == '')).sum()):7,}")
    doubts = [doubt for cell in manifest.column("ita_doubts") for doubt in cell.split("; ") if doubt]
    lines += [f"doubt: {name}: {count:,}" for name, count in Counter(doubts).most_common()]
    return lines


def _named(ita: np.ndarray, scale: ToneScale) -> tuple[list[int | None], list[str | None]]:
    """Index and name of the class of each ITA; None for NaN."""
    classes = [None if index == UNKNOWN_GROUP else int(index) for index in classify(ita, scale)]
    return classes, [None if index is None else scale.names[index] for index in classes]


@check_words
def tone_result(picture: Picture, convention: Convention) -> Result:
    """The result of `tone_of` as JSON for the journal, rounded as in the manifest."""
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


@check_words
def tone_step(convention: Convention) -> Step:
    """Estimates the skin tone of each image; results have the fields of SkinTone."""
    return Step(lambda row, picture: tone_result(picture, convention))
