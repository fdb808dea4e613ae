"""The mutants of mutations.py: what is changed, and what is left alone."""

import pytest

from tests.mutations import EQUIVALENT, MODULES, ROOT, mutants


def changed(source: str) -> list[str]:
    return [mutant.change for mutant in mutants(source, "m.py")]


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("x = 3", ["3 -> 4"]),
        ("x = True", ["True -> False"]),
        ("x = 'a'", []),
        ("x = a < b", ["a < b -> a <= b"]),
        ("x = a == b == c", ["a == b == c -> a != b == c", "a == b == c -> a == b != c"]),
        ("x = a + b * c", ["a + b * c -> a - b * c", "b * c -> b / c"]),
        ("x = a and b", ["a and b -> a or b"]),
        ("x = -a", ["-a -> +a"]),
        ("x = b if a else c", ["b if a else c -> b if not a else c"]),
        ("if a:\n    pass", ["a -> not a"]),
        ("if TYPE_CHECKING:\n    x = 1", []),
        ("def f(x: 'A[1]') -> 'A[2]': return 3", ["3 -> 4"]),
        ("raise E(f'{1}')", []),
        ("x = f'{1}'", []),
    ],
)
def test_by_hand(source: str, changes: list[str]) -> None:
    assert changed(source) == changes


def test_a_mutant_differs_in_one_place_and_the_next_starts_afresh() -> None:
    found = [mutant.source for mutant in mutants("x = 1\ny = 2", "m.py")]
    assert found == ["x = 2\ny = 2", "x = 1\ny = 3"]


def test_the_same_change_in_two_places_is_told_apart() -> None:
    """An excuse of one does not hold for the other."""
    source = """
def f(a):
    if a == 1:
        return a.sum(1, 1)

@g(1)
def f2(a, b=1):
    for i in range(1):
        return 1
x = 1
"""
    places = [mutant.place for mutant in mutants(source, "m.py") if mutant.change == "1 -> 2"]
    assert places == [
        "f: if a == 2:",
        "f: return a.sum(2, 1)",
        "f: return a.sum(1, 2)",
        "f2: def f2(a, b=2):",
        "f2: for i in range(2):",
        "f2: return 2",
        "x = 2",
    ]


@pytest.mark.parametrize("module", MODULES)
def test_what_does_the_same_is_still_there(module: str) -> None:
    """Modules and tests exist, and a mutant that is excused is one."""
    source = (ROOT / module).read_text()
    found = [mutant.place for mutant in mutants(source, module)]
    assert len(found) > 5
    assert {place: found.count(place) for place in EQUIVALENT.get(module, {})} == dict.fromkeys(
        EQUIVALENT.get(module, {}), 1
    )
    assert all((ROOT / test).exists() for test in MODULES[module])
