"""The learning rate, by hand."""

import math

import pytest

from melfast.config import OptimConfig
from melfast.train.schedule import learning_rate, weight_decay


def test_by_hand() -> None:
    config = OptimConfig(lr=3.0, warmup=0.2)
    rates = [learning_rate(step, 10, config) for step in range(10)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 3.0])  # warm-up over steps 0 and 1
    assert rates[6] == pytest.approx(1.5)  # half of the cosine's 8 steps
    assert rates[4] == pytest.approx(1.5 * (1 + math.cos(math.pi / 4)))
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[9] > 0
    assert learning_rate(10, 10, config) == pytest.approx(0)


def test_floor() -> None:
    config = OptimConfig(lr=2.0, warmup=0.0, min_lr_ratio=0.25)
    assert learning_rate(0, 4, config) == 2.0
    assert learning_rate(2, 4, config) == pytest.approx(1.25)
    assert learning_rate(4, 4, config) == pytest.approx(0.5)


def test_one_step() -> None:
    assert learning_rate(0, 1, OptimConfig(lr=2.0, warmup=0.4)) == 2.0
    assert learning_rate(0, 1, OptimConfig(lr=2.0, warmup=0.9)) == 1.0


def test_weight_decay_by_hand() -> None:
    config = OptimConfig(weight_decay=0.1, weight_decay_end=0.3)
    assert weight_decay(0, 4, config) == pytest.approx(0.1)
    assert weight_decay(2, 4, config) == pytest.approx(0.2)
    assert weight_decay(4, 4, config) == pytest.approx(0.3)
    assert weight_decay(3, 4, OptimConfig(weight_decay=0.1)) == 0.1
