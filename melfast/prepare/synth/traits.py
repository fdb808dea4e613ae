"""Traits: the scores from which a lesion is drawn, and how they differ between classes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Traits:
    """Standard scores of the features of a lesion, higher on average in malignant lesions.

    No single score separates the classes: see SHIFT and draw_traits.
    """

    asymmetry: float
    border: float
    colours: float
    network: float
    globules: float
    streaks: float
    veil: float
    regression: float
    abruptness: float
    darkness: float
    size: float


# Mean of each score in a typical melanoma, in standard deviations above a typical naevus: features
# of the ABCD rule and the seven-point checklist. Pictures overlap more than these scores do.
SHIFT = {
    "asymmetry": 1.55,
    "border": 1.1,
    "colours": 1.65,
    "network": 1.6,
    "globules": 1.6,
    "streaks": 1.6,
    "veil": 2.1,
    "regression": 1.9,
    "abruptness": 1.6,
    "darkness": 0.8,
    "size": 0.8,
}


def draw_traits(rng: np.random.Generator, target: int) -> Traits:
    """Scores of a lesion: some melanomas are bland and some naevi atypical, as in the clinic."""
    typical = float(np.clip(rng.normal(1.0, 0.25), 0.25, 1.5))
    atypia = typical if target else float(max(0.0, rng.normal(0.0, 0.22)))
    return Traits(**{n: shift * atypia + float(rng.normal()) for n, shift in SHIFT.items()})


def lesion_radius(traits: Traits) -> float:
    """Radius in units of sqrt(height * width) of the image, before the zoom of the view."""
    return float(np.clip(0.22 * np.exp(0.33 * traits.size), 0.08, 0.37))
