import numpy as np

from melfast.evaluate.explain import choose, picture_names


def test_no_two_pictures_have_one_name() -> None:
    labels = ["a/b", "a_b", "a_b-2", "sheet", "c"]
    assert picture_names(labels) == ["a_b.png", "a_b-2.png", "a_b-2-2.png", "sheet-2.png", "c.png"]


def test_a_name_that_is_given_twice_is_shown_once() -> None:
    assert choose(["a", "b"], np.array([0, 1]), ["b", "a", "b"], 8).tolist() == [1, 0]
