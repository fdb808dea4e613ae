"""Cross-entropy and class weights: by hand, then against torch."""

import math

import pytest
import torch
from torch.nn import functional

from melfast.config import LossConfig
from melfast.losses import build_loss
from melfast.losses.ce import cross_entropy
from melfast.losses.weights import class_weights

CPU = torch.device("cpu")


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    target = torch.tensor([0, 1])
    expected = torch.tensor([math.log(2), math.log(4 / 3)])
    torch.testing.assert_close(cross_entropy(logits, target), expected)


def test_label_smoothing_by_hand() -> None:
    # Target (0.1, 0.9) against probabilities (1/4, 3/4).
    logits = torch.tensor([[0.0, math.log(3)]])
    expected = torch.tensor([0.1 * math.log(4) + 0.9 * math.log(4 / 3)])
    torch.testing.assert_close(
        cross_entropy(logits, torch.tensor([1]), label_smoothing=0.2), expected
    )


def test_inverse_weights_by_hand() -> None:
    weights = class_weights("inverse", [6, 2])
    assert weights == pytest.approx((8 / 12, 8 / 4))
    assert 6 * weights[0] == pytest.approx(2 * weights[1])  # both classes weigh the same
    assert 6 * weights[0] + 2 * weights[1] == pytest.approx(8)  # 1 an image on average
    assert class_weights("none", [6, 2]) is None


def test_weights_multiply_the_images_value() -> None:
    logits, target = torch.randn(16, 2), torch.arange(16) % 2
    loss = build_loss(LossConfig(label_smoothing=0.1, class_weights="inverse"), [12, 4], CPU)
    plain = cross_entropy(logits, target, label_smoothing=0.1)
    factor = torch.where(target == 1, 2.0, 2 / 3)
    torch.testing.assert_close(loss(logits, target), plain * factor)


def test_same_as_torch_over_the_batch() -> None:
    logits, target = torch.randn(16, 2, dtype=torch.float64), torch.arange(16) % 2
    loss = build_loss(LossConfig(), [8, 8], CPU)(logits, target)
    assert loss.dtype == torch.float32
    assert loss.shape == (16,)
    torch.testing.assert_close(loss.mean(), functional.cross_entropy(logits, target).float())


def test_half_precision_logits_lose_nothing_more() -> None:
    logits = torch.tensor([[0.0, 12.0]], dtype=torch.float16)
    expected = torch.tensor([math.log1p(math.exp(-12.0))])  # 6.1e-6: 0 if it were taken in float16
    torch.testing.assert_close(
        cross_entropy(logits, torch.tensor([1])), expected, rtol=0.02, atol=0
    )
