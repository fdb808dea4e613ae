"""Mixup and CutMix: what is mixed with what, and how the loss follows."""

import pytest
import torch

from melfast.config.schema import TrainConfig
from melfast.train.mix import Mixed, mix

IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 3, 20, 30).contiguous()


def test_nothing_is_mixed_unless_asked_for() -> None:
    mixed = mix(IMAGES, TrainConfig(), (0,))
    assert mixed.images is IMAGES
    assert mixed.own == 1


@pytest.mark.parametrize("seed", range(20))
def test_mixup_is_a_weighted_mean_with_the_batch_reversed(seed: int) -> None:
    before = IMAGES.clone()
    mixed = mix(IMAGES, TrainConfig(mixup=0.4), (seed,))
    assert 0.5 <= mixed.own <= 1
    wanted = mixed.own * IMAGES + (1 - mixed.own) * IMAGES.flip(0)
    torch.testing.assert_close(mixed.images, wanted)
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_pastes_a_box_and_knows_its_area(seed: int) -> None:
    mixed = mix(IMAGES, TrainConfig(cutmix=1.0), (seed,))
    others = mixed.images[0, 0] == 3
    assert ((mixed.images[0, 0] == 0) | others).all()
    assert others.float().mean().item() == pytest.approx(1 - mixed.own)
    rows, columns = others.any(1).sum(), others.any(0).sum()
    assert rows * columns == others.sum()  # one box
    assert mixed.own >= 0.45  # sides are rounded


def test_both_are_taken_by_turns_and_the_seed_decides() -> None:
    config = TrainConfig(mixup=0.4, cutmix=1.0)
    whole = [bool((mix(IMAGES, config, (seed, 7)).images.std(dim=(1, 2, 3)) < 1e-6).all()) for seed in range(200)]
    assert 70 < sum(whole) < 130  # mixup leaves plain images plain
    one, other = (mix(IMAGES, config, (3, 1)).images for _ in range(2))
    assert torch.equal(one, other)


def test_the_loss_of_a_mixed_label_by_hand() -> None:
    found = Mixed(IMAGES, 0.75).loss(torch.tensor([1.0, 2]), torch.tensor([5.0, 0]))
    assert found.tolist() == [2.0, 1.5]
