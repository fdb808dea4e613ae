"""The locus of human skin."""

import itertools
import math

import pytest

from melfast.skin import locus

# Means of published measurements: L*, b*, and how near in b* the locus passes.
MEASURED = {
    "148 Koreans, Yun et al. 2010": (64.2, 18.3, 0.5),
    "facial skin, IADR 2009, group 1": (52.5, 18.9, 1.5),
    "facial skin, IADR 2009, group 2": (37.7, 14.7, 1.5),
    "facial skin, IADR 2009, group 4": (41.5, 13.3, 1.5),
}


@pytest.mark.parametrize(("lightness", "b", "near"), MEASURED.values(), ids=MEASURED.keys())
def test_passes_by_what_was_measured(lightness, b, near):
    ita_deg = math.degrees(math.atan2(lightness - 50, b))
    assert locus.chroma(ita_deg)[1] == pytest.approx(b, abs=near)


def test_lightness_makes_the_angle():
    for ita_deg in (-60, -30, 0, 45, 75):
        _, b = locus.chroma(ita_deg)
        lightness = locus.lightness(ita_deg, b)
        assert math.degrees(math.atan2(lightness - 50, b)) == pytest.approx(ita_deg)


def test_runs_from_light_to_dark_without_a_jump():
    degrees = range(-60, 76)
    chromas = [locus.chroma(d) for d in degrees]
    lightness = [locus.lightness(d, b) for d, (_, b) in zip(degrees, chromas, strict=True)]
    assert all(high > low for low, high in itertools.pairwise(lightness))
    for before, after in itertools.pairwise(chromas):
        assert math.dist(before, after) < 0.5
    assert max(degrees, key=lambda d: locus.chroma(d)[1]) == 20


def test_ends():
    assert locus.chroma(-90) == locus.chroma(locus.ITA_RANGE[0])
    assert locus.chroma(170) == locus.chroma(locus.ITA_RANGE[1])
