"""The learning rate, by hand."""

import math
from typing import Any

import pytest

from melfast.config.schema import OptimConfig
from melfast.io.errors import InputError
from melfast.train.schedule import learning_rate, warmup_steps, weight_decay


def test_by_hand() -> None:
    config = OptimConfig(lr=3.0, warmup=0.2)
    rates = [learning_rate(step, 10, 2, config) for step in range(10)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 3.0])  # warm-up over steps 0 and 1
    assert rates[6] == pytest.approx(1.5)  # half of the cosine's 8 steps
    assert rates[4] == pytest.approx(1.5 * (1 + math.cos(math.pi / 4)))
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[9] > 0
    assert learning_rate(10, 10, 2, config) == pytest.approx(0)


def test_floor() -> None:
    config = OptimConfig(lr=2.0, warmup=0.0, min_lr_ratio=0.25)
    assert learning_rate(0, 4, 0, config) == 2.0
    assert learning_rate(2, 4, 0, config) == pytest.approx(1.25)
    assert learning_rate(4, 4, 0, config) == pytest.approx(0.5)


def test_one_step() -> None:
    assert learning_rate(0, 1, 0, OptimConfig(lr=2.0)) == 2.0
    assert learning_rate(0, 1, 1, OptimConfig(lr=2.0)) == 1.0


@pytest.mark.parametrize(
    ("warmup", "unit", "steps"),
    [
        (0.25, "fraction", 10),
        (1, "epochs", 8),
        (1.5, "epochs", 12),
        (3, "steps", 3),
        (0, "steps", 0),
        (39, "steps", 39),
    ],
)
def test_warmup(warmup: float, unit: Any, steps: int) -> None:
    config = OptimConfig(warmup=warmup, warmup_unit=unit)
    assert warmup_steps(config, total_steps=40, epochs=5) == steps


def test_warmup_that_never_ends() -> None:
    with pytest.raises(InputError) as caught:
        warmup_steps(OptimConfig(warmup=5, warmup_unit="epochs"), total_steps=40, epochs=5)
    assert str(caught.value) == ("optim.warmup 5 epochs: 40 steps of a run of 40 (5 epochs); expected fewer")
    with pytest.raises(InputError, match=r"^OptimConfig: warmup must be < 1, a fraction of all steps, got 5"):
        OptimConfig(warmup=5)
    with pytest.raises(InputError, match=r"^OptimConfig: warmup must be >= 0, got -1"):
        OptimConfig(warmup=-1, warmup_unit="steps")


def test_weight_decay_by_hand() -> None:
    config = OptimConfig(weight_decay=0.1, weight_decay_end=0.3)
    assert weight_decay(0, 4, config) == pytest.approx(0.1)
    assert weight_decay(2, 4, config) == pytest.approx(0.2)
    assert weight_decay(4, 4, config) == pytest.approx(0.3)
    assert weight_decay(3, 4, OptimConfig(weight_decay=0.1)) == 0.1
