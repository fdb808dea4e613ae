"""Groups of a manifest's columns, bands and pairs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melfast.data.manifest import Manifest
from melfast.io.errors import InputError
from melfast.metrics.groups import MOST_GROUPS, Groups, bands, cross, group_by


def manifest(**columns: list[str]) -> Manifest:
    return Manifest(Path("m.csv"), pd.DataFrame(columns, dtype=str))


def test_a_column_by_its_values() -> None:
    found = group_by(manifest(sex=["male", "", "female", " male", "Unknown", "nan"]), "sex")
    assert found.names == ("female", "male")
    assert found.index.tolist() == [1, -1, 0, 1, -1, -1]
    assert found.labels.tolist() == ["male", "", "female", "male", "", ""]
    assert found.known.tolist() == [True, False, True, True, False, False]


def test_numbers_in_their_order() -> None:
    assert group_by(manifest(x=["10", "9", "2.5"]), "x").names == ("2.5", "9", "10")
    assert group_by(manifest(x=["10", "9", "a"]), "x").names == ("10", "9", "a")


def test_tone_groups_by_the_table() -> None:
    """A group that no image has is one still; names are the table's."""
    found = group_by(
        manifest(group=["2", "0", ""], group_str=["intermediate", "very light", ""], tone_groups=["four", "four", ""]),
        "group",
    )
    assert found.names == ("very light", "light", "intermediate", "tan")
    assert found.index.tolist() == [2, 0, -1]
    other = group_by(manifest(group=["1", "0"], group_str=["B", "A"]), "group")
    assert other.names == ("A", "B")


def test_age_bands() -> None:
    found = group_by(manifest(age_approx=["45.0", "44.9", "", "10", "90"]), "age_approx")
    assert found.names == ("under 30", "30-44", "45-59", "60-74", "75 and over")
    assert found.index.tolist() == [2, 1, -1, 0, 4]


def test_bands_of_any_number() -> None:
    found = group_by(manifest(ita=["-3", "28", "50"]), "ita", [0, 28])
    assert found.names == ("under 0", "0 to under 28", "28 and over")
    assert found.index.tolist() == [0, 2, 2]
    with pytest.raises(ValueError, match=r"edges must ascend and be at least one, got \[2, 1\]"):
        bands("ita", np.zeros(1), [2, 1])
    with pytest.raises(ValueError, match=r"got \[\]"):
        bands("ita", np.zeros(1), [])


def test_two_columns_crossed() -> None:
    sex = Groups("sex", np.array([0, 1, 1, -1, 0, 1]), ("female", "male"))
    tone = Groups("group", np.array([2, 0, 2, 1, -1, -1]), ("light", "none", "dark"))
    found = cross(sex, tone)
    assert found.name == "sex x group"
    assert found.names == ("female, dark", "male, light", "male, dark")
    assert found.index.tolist() == [0, 1, 2, -1, -1, -1]


def test_refused() -> None:
    with pytest.raises(InputError, match=r"m.csv: no column 'sexx'; .*did you mean 'sex'"):
        group_by(manifest(sex=["a"]), "sexx")
    many = [f"i{i}" for i in range(1234)]
    with pytest.raises(InputError, match=f"'name' has 1,234 different .* most {MOST_GROUPS} gr"):
        group_by(manifest(name=many), "name")
    with pytest.raises(InputError, match=r"m.csv: column 'age': .*'old'"):
        group_by(manifest(age=["old"]), "age")
    with pytest.raises(ValueError, match=r"groups of 'sex' must be in -1..0, got -1..1"):
        Groups("sex", np.array([0, 1]), ("female",))
    with pytest.raises(ValueError, match=r"groups must be a list, got shape \(1, 1\)"):
        Groups("sex", np.zeros((1, 1), np.int64), ("female",))
    with pytest.raises(ValueError, match=r"a \(1\) and b \(2\) differ"):
        cross(Groups("a", np.zeros(1, np.int64), ("x",)), Groups("b", np.zeros(2, int), ("y",)))


def test_no_image() -> None:
    none = Groups("sex", np.zeros(0, np.int64), ())
    assert cross(none, none).names == ()
