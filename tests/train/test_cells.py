"""Cells: what an epoch shows of each tone group and class."""

from collections.abc import Callable

import numpy as np
import pytest

from melfast.config import Config
from melfast.data.plan import Rows
from melfast.errors import InputError
from melfast.train.cells import count_cells, priors, require_groups

MakeConfig = Callable[..., Config]
# 24 of group 0, every fourth malignant; 8 of group 1, all benign; 8 unknown, half malignant.
ROWS = Rows(
    np.array([0, 0, 0, 1] * 6 + [0] * 8 + [0, 1] * 4),
    np.array([0] * 24 + [1] * 8 + [-1] * 8, np.int16),
)


def test_shuffled_images_are_counted_as_they_are(tiny_config: MakeConfig) -> None:
    cells = count_cells(tiny_config(), ROWS, 2)
    np.testing.assert_allclose(cells, [[18, 6], [8, 0], [4, 4]])
    np.testing.assert_allclose(priors(cells), [[18 / 32, 6 / 32], [8 / 32, 0]])


def test_variants_and_samplers_count(tiny_config: MakeConfig) -> None:
    """Ten malignant images of five variants each."""
    cells = count_cells(tiny_config(augment__geometry="published"), ROWS, 2)
    np.testing.assert_allclose(cells.sum(axis=0), [30, 50])
    assert cells[0, 1] == 30
    balanced = count_cells(tiny_config(sampler__name="balanced_batch"), ROWS, 2)
    assert balanced.sum(axis=0)[0] == balanced.sum(axis=0)[1]


def test_heads_without_what_they_learn_from() -> None:
    lone = np.array([[5.0, 0], [3, 0], [1, 4]])
    require_groups("plain", np.zeros((1, 2)))
    for head in ("domain_discriminative", "domain_independent"):
        with pytest.raises(InputError, match="no training image has one: melfast prepare ita"):
            require_groups(head, np.array([[0.0, 0], [8, 9]]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="malignant and benign images of known tone group"):
        require_groups("domain_discriminative", lone)
    with pytest.raises(InputError, match="a tone group with malignant and benign images"):
        require_groups("domain_independent", np.array([[5.0, 0], [0, 3], [1, 4]]))
    require_groups("domain_discriminative", np.array([[5.0, 0], [0, 3], [1, 4]]))
