"""Skin-tone scales: ITA thresholds, group names and Fitzpatrick types, named by their source."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

ToneGroups = Literal["six", "four"]
FitzpatrickMap = Literal["kinyanjui_groh", "groh_empirical", "published_three"]


@dataclass(frozen=True)
class ToneScale:
    """Classes of ITA from light to dark.

    Attributes:
        lower_deg: descending thresholds; an ITA strictly above `lower_deg[i]` (and not above an
            earlier one) belongs to class i, an ITA above none of them to the last class.
        names: one more than the thresholds.
        source: source of the thresholds.
    """

    lower_deg: tuple[float, ...]
    names: tuple[str, ...]
    source: str


TONE_GROUPS: dict[str, ToneScale] = {
    "six": ToneScale(
        (55.0, 41.0, 28.0, 10.0, -30.0),
        ("very light", "light", "intermediate", "tan", "brown", "dark"),
        "Chardon et al. 1991; Del Bino and Bernerd 2013",
    ),
    # Tan, brown and dark combined, because darker skin is too rare in ISIC 2020 for separate groups.
    "four": ToneScale(
        (55.0, 41.0, 28.0),
        ("very light", "light", "intermediate", "tan"),
        "the published four-group merge of Chardon et al. 1991",
    ),
}

FITZPATRICK: dict[str, ToneScale] = {
    "kinyanjui_groh": ToneScale(
        (55.0, 41.0, 28.0, 19.0, 10.0), ("1", "2", "3", "4", "5", "6"), "Kinyanjui et al. 2020; Groh et al. 2021"
    ),
    "groh_empirical": ToneScale(
        (40.0, 23.0, 12.0, 0.0, -25.0),
        ("1", "2", "3", "4", "5", "6"),
        "Groh et al. 2021, thresholds fitted to annotators",
    ),
    "published_three": ToneScale((41.0, 19.0), ("12", "34", "56"), "the published metadata"),
}

UNKNOWN_GROUP = -1


def ita_degrees(lab: ArrayLike) -> NDArray[np.float64]:
    """Individual typology angle of CIELAB colours: atan2(L - 50, b) in degrees.

    Chardon et al. 1991; atan2 instead of arctan, so that light bluish colours do not count as dark skin:
    their angle is above 90.

    Args:
        lab: [..., 3]; L in 0..100.
    Returns:
        float64 [...], -180..180; NaN where L or b is NaN.
    Raises:
        ValueError: the last axis is not 3 long.
    """
    colours = np.asarray(lab, dtype=np.float64)
    if colours.ndim == 0 or colours.shape[-1] != 3:
        raise ValueError(f"lab must have shape (..., 3), got {colours.shape}")
    angle: NDArray[np.float64] = np.rad2deg(np.arctan2(colours[..., 0] - 50, colours[..., 2]))
    return angle


def classify(ita_deg: ArrayLike, scale: ToneScale) -> NDArray[np.int8]:
    """Class index of each ITA on a scale, 0 the lightest.

    Args:
        ita_deg: any shape, degrees; NaN if unknown.
        scale: an entry of TONE_GROUPS or FITZPATRICK.
    Returns:
        Same shape; UNKNOWN_GROUP if the ITA is NaN.
    """
    ita = np.asarray(ita_deg, dtype=np.float64)
    below = ita[..., None] <= np.asarray(scale.lower_deg)
    return np.where(np.isnan(ita), UNKNOWN_GROUP, below.sum(axis=-1)).astype(np.int8)
