"""Cells: how many images of each tone group and class an epoch shows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from melfast.config.schema import Config, LossConfig, ModelConfig
from melfast.data.plan import Rows
from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.train.cells import count_cells, priors, require_groups
from melfast.train.epochs import epoch_plan
from melfast.train.learner import new_record

MakeConfig = Callable[..., Config]
# 24 of group 0, every fourth malignant; 8 of group 1, all benign; 8 unknown, half malignant.
ROWS = Rows(np.array([0, 0, 0, 1] * 6 + [0] * 8 + [0, 1] * 4), np.array([0] * 24 + [1] * 8 + [-1] * 8, np.int16))


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
    assert balanced.sum(axis=0)[0] == pytest.approx(balanced.sum(axis=0)[1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sampler__name": "balanced_batch"},
        {"sampler__name": "undersample", "sampler__ratio": 2},
        {"sampler__name": "oversample"},
        {"sampler__name": "group_balanced"},
        {"sampler__name": "undersample", "augment__geometry": "published"},
    ],
)
def test_they_are_the_mean_of_very_many_epochs(tiny_config: MakeConfig, changes: dict) -> None:
    config = tiny_config(**changes)
    mean = np.zeros((3, 2))
    for epoch in range(400):
        plan = epoch_plan(config, ROWS, epoch, World())
        assert plan.group is not None
        np.add.at(mean, (plan.group.astype(int), ROWS.targets[plan.index]), 1 / 400)
    np.testing.assert_allclose(count_cells(config, ROWS, 2), mean, rtol=0.05, atol=0.05)


def test_a_rare_cell_is_not_empty(tiny_config: MakeConfig) -> None:
    """A group of 12 benign images among 33,000, of which an epoch draws a few per cent."""
    targets = np.array([0] * 32_400 + [1] * 588 + [0] * 12)
    groups = np.array([0] * 32_988 + [1] * 12, np.int16)
    config = tiny_config(sampler__name="undersample", train__batch_size=64)
    cells = count_cells(config, Rows(targets, groups), 2)
    assert cells[1, 0] == pytest.approx(12 * 588 / 32_412, rel=0.06)


def test_losses_without_groups() -> None:
    nobody = np.array([[0.0, 0], [8, 9]])
    for loss in (LossConfig("group_dro"), LossConfig(weights="ifw_class_group")):
        with pytest.raises(InputError, match=r"^loss\.\w+ \w+ needs tone groups; no training image"):
            require_groups("plain", nobody, loss)
        require_groups("plain", np.array([[5.0, 1], [1, 4]]), loss)
    require_groups("plain", nobody, LossConfig("focal", weights="ifw_class"))


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


@pytest.mark.parametrize("head", ["plain", "domain_discriminative"])
def test_inference_by_the_own_group_needs_the_head_that_does_so(head: Any) -> None:
    config = Config(model=ModelConfig(head=head, inference="group_conditional"))
    with pytest.raises(InputError) as caught:
        new_record(config, None, None)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"model.inference: group_conditional goes with model.head domain_independent, got {head}"
    )
