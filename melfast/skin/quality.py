"""Quality of an ITA estimate: scores in 0..1; a score below 0.5 is a doubt.

Each score rises linearly from 0 to 1 between two values of a measure. The values were set by inspecting the
images of HAM10000 with the lowest and the highest ITA.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melfast.skin import locus
from melfast.skin.tone import ita_degrees

DOUBTED = 0.5


@dataclass(frozen=True)
class Score:
    """A measure that scores 0 at `worst` and 1 at `best`; either may be the larger."""

    doubt: str
    worst: float
    best: float

    def of(self, value: float) -> float:
        return min(1.0, max(0.0, (value - self.worst) / (self.best - self.worst)))


# Fraction of the image that is visible skin.
LITTLE_SKIN = Score("little skin", 0.0, 0.1)
# Dominant b*: human skin has at least 6; near 0 the angle reflects the white balance, and below 0 it
# is not skin.
LOW_B = Score("b* near or below 0", -4.0, 6.0)
# Distance of (L*, b*) from (50, 0), the centre of the angle: an error of one unit changes the angle by
# 57 degrees divided by this distance, which is at least 16 for human skin and less for dull grey images.
ILL_DEFINED = Score("ill-defined angle", 0.0, 16.0)
# Root mean square distance of the skin colours from the dominant one, in CIELAB.
UNEVEN = Score("uneven skin", 20.0, 4.0)
# Dominant L*: the darkest human skin is near 30.
DARK = Score("under-exposed", 15.0, 35.0)
# Distance in a* and b* from human skin of that ITA: about 25 for the red light of some dermatoscopes,
# and 15 for the violet of others.
CAST = Score("colour cast", 40.0, 0.0)


def judge(
    lab: NDArray[np.float64], skin_fraction: float, colours: NDArray[np.float32]
) -> tuple[float, tuple[str, ...]]:
    """Quality (the lowest score) and the names of the doubts.

    Args:
        lab: dominant colour [3].
        skin_fraction: fraction of the image, 0..1.
        colours: CIELAB of the visible skin [n, 3], n >= 1.
    """
    squares = squared_distances(colours, lab.astype(np.float32))
    measures = (
        (LITTLE_SKIN, skin_fraction),
        (LOW_B, float(lab[2])),
        (ILL_DEFINED, math.hypot(lab[0] - 50, lab[2])),
        (UNEVEN, float(np.sqrt(squares.mean(dtype=np.float64)))),
        (DARK, float(lab[0])),
        (CAST, cast_of(lab)),
    )
    scores = {score.doubt: score.of(value) for score, value in measures}
    doubts = tuple(doubt for doubt, score in scores.items() if score < DOUBTED)
    return min(scores.values()), doubts


def squared_distances(colours: NDArray[np.float32], colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances of colours [n, 3] from one [3]."""
    difference = colours - colour
    difference *= difference
    sums: NDArray[np.float32] = difference[:, 0] + difference[:, 1] + difference[:, 2]
    return sums


def cast_of(lab: NDArray[np.float64]) -> float:
    """Distance in the a*-b* plane between a colour and human skin of the same ITA."""
    _, a, b = lab.tolist()
    skin_a, skin_b = locus.chroma(ita_degrees(lab))
    return math.hypot(a - skin_a, b - skin_b)
