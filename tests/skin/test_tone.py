"""Angles by hand; both sides of every edge of the skin-tone table, and the published columns."""

import re
from pathlib import Path

import numpy as np
import pytest

from melfast.io.tables import read_table
from melfast.skin.tone import FITZPATRICK, TONE_GROUPS, UNKNOWN_GROUP, ToneScale, classify, ita_degrees

# (scale, edge in degrees, class above it, class at and below it), typed from the sources.
EDGES = [
    *[
        (TONE_GROUPS["six"], *edge)
        for edge in (
            (55, "very light", "light"),
            (41, "light", "intermediate"),
            (28, "intermediate", "tan"),
            (10, "tan", "brown"),
            (-30, "brown", "dark"),
        )
    ],
    *[
        (TONE_GROUPS["four"], *edge)
        for edge in ((55, "very light", "light"), (41, "light", "intermediate"), (28, "intermediate", "tan"))
    ],
    *[
        (FITZPATRICK["kinyanjui_groh"], edge, str(i), str(i + 1))
        for i, edge in enumerate((55, 41, 28, 19, 10), start=1)
    ],
    *[
        (FITZPATRICK["groh_empirical"], edge, str(i), str(i + 1))
        for i, edge in enumerate((40, 23, 12, 0, -25), start=1)
    ],
    (FITZPATRICK["published_three"], 41, "12", "34"),
    (FITZPATRICK["published_three"], 19, "34", "56"),
]


def test_angles_by_hand():
    lab = [[60, 3, 10], [40, 0, 10], [50, 5, 8], [60, 0, 0], [60, 0, -10], [50, 0, 0]]
    np.testing.assert_allclose(ita_degrees(lab), [45, -45, 0, 90, 135, 0])
    assert ita_degrees([60, 0, 10]).shape == ()
    assert ita_degrees(np.zeros((4, 0, 3))).shape == (4, 0)


def test_angles_of_nan():
    lab = np.array([[np.nan, 0, 10], [60, 0, np.nan], [60, np.nan, 10]])
    np.testing.assert_allclose(ita_degrees(lab), [np.nan, np.nan, 45])


@pytest.mark.parametrize("shape", [(), (2,), (3, 4)])
def test_angles_refuse_a_shape(shape):
    with pytest.raises(ValueError, match=re.escape(f"lab must have shape (..., 3), got {shape}")):
        ita_degrees(np.zeros(shape))


def name(ita_deg: float, scale: ToneScale) -> str:
    return scale.names[int(classify(ita_deg, scale))]


@pytest.mark.parametrize(("scale", "edge", "above", "below"), EDGES)
def test_both_sides_of_every_edge(scale, edge, above, below):
    assert name(np.nextafter(edge, 180.0), scale) == above
    assert name(edge, scale) == below
    assert name(np.nextafter(edge, -180.0), scale) == below


@pytest.mark.parametrize("scale", [*TONE_GROUPS.values(), *FITZPATRICK.values()])
def test_every_edge_stands_above(scale):
    tested = {edge for other, edge, _, _ in EDGES if other is scale}
    assert tested == set(scale.lower_deg)
    assert len(scale.names) == len(scale.lower_deg) + 1


@pytest.mark.parametrize("scale", [*TONE_GROUPS.values(), *FITZPATRICK.values()])
def test_the_ends(scale):
    assert list(classify([180.0, 90.0], scale)) == [0, 0]
    assert list(classify([-90.0, -180.0], scale)) == [len(scale.names) - 1] * 2


def test_unknown_stays_unknown_and_shapes_are_kept():
    ita = np.array([[60.0, np.nan], [-40.0, 20.0]])
    found = classify(ita, TONE_GROUPS["six"])
    assert found.dtype == np.int8
    assert found.tolist() == [[0, -1], [5, 3]]
    assert UNKNOWN_GROUP == -1  # what manifests, plans and losses write


def test_the_published_table_agrees_with_itself(real_data: Path):
    """32,701 published images: group, merged group name and Fitzpatrick type from their ITA."""
    table = read_table(real_data / "isic2020" / "ISIC_2020_full.csv").frame
    ita = table["ita"].to_numpy(float)
    four = classify(ita, TONE_GROUPS["four"])
    assert (four == table["group"].astype(int)).all()
    names = np.char.lower(table["group_str"].to_numpy(str))
    assert (np.array(TONE_GROUPS["four"].names)[four] == names).all()
    six = np.array(TONE_GROUPS["six"].names)[classify(ita, TONE_GROUPS["six"])]
    assert (six == np.char.lower(table["group_str_org"].to_numpy(str))).all()
    three = FITZPATRICK["published_three"]
    assert (np.array(three.names)[classify(ita, three)] == table["fitzpatrick"]).all()
