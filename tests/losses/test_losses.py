"""Losses, heads and weights: each by hand, then combined."""

import math
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from melfast.config.schema import LossConfig
from melfast.io.errors import InputError
from melfast.losses import build_loss
from melfast.losses.weights import cell_weights
from melfast.models.record import Head

LOG2, LOG3 = math.log(2), math.log(3)
CELLS = np.array([[40.0, 10], [30, 6], [10, 4], [20, 5]])  # 3 groups, and the unknown
LOSSES = ("ce", "focal", "ohem", "recall_ce", "group_dro")
WEIGHTS = ("none", "ifw_class", "ifw_class_group")
HEADS = get_args(Head)
NEUTRAL: dict[str, dict[str, Any]] = {
    "ce": {},
    "focal": {"focal_gamma": 0.0},
    "ohem": {"ohem_fraction": 1.0},
    "recall_ce": {"recall_strength": 0.0},
    "group_dro": {"dro_rate": 0.0},
}


def logits_of(count: int, head: Head, seed: int = 0, **options: Any) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    width = 2 if head == "plain" else 6
    return torch.randn(count, width, generator=rng, **options)


def labels_of(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes and groups, the unknown among them."""
    return torch.arange(count) % 2, torch.arange(count) % 4 - 1


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values)


# By hand.


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, LOG3]])
    found = build_loss(LossConfig(), CELLS)(logits, ints(0, 1), ints(0, -1))
    torch.testing.assert_close(found, torch.tensor([LOG2, math.log(4 / 3)]))


def test_label_smoothing_by_hand() -> None:
    # Target (0.1, 0.9) against probabilities (1/4, 3/4).
    criterion = build_loss(LossConfig(label_smoothing=0.2), CELLS)
    found = criterion(torch.tensor([[0.0, LOG3]]), ints(1), ints(0))
    expected = 0.1 * math.log(4) + 0.9 * math.log(4 / 3)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_domain_discriminative_by_hand() -> None:
    """Odds 1 1 1 3 1 1 of group 0 benign, 0 malignant, 1 benign, ...: eighths."""
    logits = torch.tensor([[0.0, 0, 0, LOG3, 0, 0]] * 3)
    criterion = build_loss(LossConfig(), CELLS, "domain_discriminative")
    found = criterion(logits, ints(1, 0, 1), ints(1, 2, -1))
    # Of unknown group: 1 + 3 + 1 eighths are malignant.
    expected = torch.tensor([math.log(8 / 3), math.log(8), math.log(8 / 5)])
    torch.testing.assert_close(found, expected)


def test_domain_independent_by_hand() -> None:
    """In group 1 malignant is three times as likely; in the others as likely."""
    logits = torch.tensor([[0.0, 0, 0, LOG3, 0, 0]] * 3)
    criterion = build_loss(LossConfig(), CELLS, "domain_independent")
    found = criterion(logits, ints(1, 0, 1), ints(1, 2, -1))
    # Of unknown group: the mean of 1/2, 3/4 and 1/2.
    expected = torch.tensor([math.log(4 / 3), LOG2, math.log(12 / 7)])
    torch.testing.assert_close(found, expected)


def test_smoothing_goes_over_the_classes_of_the_own_group() -> None:
    logits = torch.tensor([[0.0, 0, 0, LOG3, 0, 0]])
    joint = build_loss(LossConfig(label_smoothing=0.5), CELLS, "domain_discriminative")
    expected = 0.5 * math.log(8 / 3) + 0.5 * (math.log(8) + math.log(8 / 3)) / 2
    torch.testing.assert_close(joint(logits, ints(1), ints(1)), torch.tensor([expected]))
    # Of unknown group: class 0 has 3 eighths over the groups, class 1 five.
    expected = 0.5 * math.log(8 / 5) + 0.5 * (math.log(8 / 3) + math.log(8 / 5)) / 2
    torch.testing.assert_close(joint(logits, ints(1), ints(-1)), torch.tensor([expected]))
    own = build_loss(LossConfig(label_smoothing=0.5), CELLS, "domain_independent")
    expected = 0.5 * math.log(4 / 3) + 0.5 * (math.log(4) + math.log(4 / 3)) / 2
    torch.testing.assert_close(own(logits, ints(1), ints(1)), torch.tensor([expected]))


def test_focal_by_hand() -> None:
    criterion = build_loss(LossConfig("focal", focal_gamma=2), CELLS)
    found = criterion(torch.tensor([[0.0, LOG3], [0.0, LOG3]]), ints(1, 0), ints(0, 0))
    expected = torch.tensor([math.log(4 / 3) / 16, math.log(4) * 9 / 16])
    torch.testing.assert_close(found, expected)


def test_ohem_by_hand() -> None:
    """The harder half counts twice, so the mean over the batch is that over the half."""
    logits = torch.tensor([[0.0, LOG3], [0.0, 0.0], [0.0, LOG3], [0.0, 0.0]])
    criterion = build_loss(LossConfig("ohem", ohem_fraction=0.5), CELLS)
    found = criterion(logits, ints(1, 1, 0, 0), ints(0, 0, 0, 0))
    assert found[0] == 0
    torch.testing.assert_close(found[2], torch.tensor(2 * math.log(4)))
    assert sorted(found.tolist())[:2] == [0, 0]  # one of two equal losses is used


def test_ohem_takes_one_at_least() -> None:
    criterion = build_loss(LossConfig("ohem", ohem_fraction=0.01), CELLS)
    logits = torch.tensor([[0.0, 0.0], [0.0, LOG3], [0.0, 0.0]])
    found = criterion(logits, ints(0, 0, 0), ints(0, 0, 0))
    torch.testing.assert_close(found, torch.tensor([0, 3 * math.log(4), 0]))


def test_recall_ce_by_hand() -> None:
    """Of 3 malignant images 1 is found, of 5 benign 4: false-negative rates (2 + 1) / 4 and
    (1 + 1) / 6, each counted with one image missed before."""
    cells = np.array([[60.0, 20], [15, 5]])
    criterion = build_loss(LossConfig("recall_ce", recall_momentum=0.5), cells)
    classes, right = ints(1, 1, 1, 0, 0, 0, 0, 0), ints(1, 0, 0, 1, 1, 1, 1, 0)
    sign = (2 * classes - 1) * (2 * right - 1)
    logits, groups = torch.stack([torch.zeros(8), sign.float()], 1), torch.zeros(8).long()
    before = criterion(logits, classes, groups)
    torch.testing.assert_close(before, build_loss(LossConfig(), cells)(logits, classes, groups))
    criterion.update(criterion.statistics(logits, classes, groups))
    mean = 0.75 * 2 / 6 + 0.25 * 3 / 4
    expected = torch.tensor([[2 / 6 / mean, 3 / 4 / mean]])
    torch.testing.assert_close(criterion.recall_weights(), expected)
    after = criterion(logits, classes, groups)
    torch.testing.assert_close(after, before * expected[0][classes])
    criterion.update(torch.zeros(2, 2, dtype=torch.float64))  # half of the counts is forgotten
    fnr = torch.tensor([[(2.5 - 2 + 1) / 3.5, (1.5 - 0.5 + 1) / 2.5]])
    expected = fnr / (0.75 * fnr[0, 0] + 0.25 * fnr[0, 1])
    torch.testing.assert_close(criterion.recall_weights(), expected)


def test_recall_is_kept_by_group_where_the_head_tells_groups() -> None:
    criterion = build_loss(LossConfig("recall_ce"), CELLS, "domain_independent")
    logits = torch.tensor([[0.0, 5, 0, 5, 0, 5]] * 2)
    criterion.update(criterion.statistics(logits, ints(1, 0), ints(2, -1)))
    expected = torch.zeros(4, 2, dtype=torch.float64)
    expected[2, 1] = expected[3, 0] = 1
    assert torch.equal(criterion.seen, expected)
    expected[3, 0] = 0  # called malignant
    assert torch.equal(criterion.right, expected)


def test_group_dro_by_hand() -> None:
    """Groups of 3/4 and 1/4 of the images; a loss of log 2 and of log 4, rate 1."""
    cells = np.array([[60.0, 15], [20, 5], [0, 0]])
    criterion = build_loss(LossConfig("group_dro", dro_rate=1.0), cells)
    logits, classes, groups = torch.tensor([[0.0, 0], [0, -LOG3]]), ints(1, 1), ints(0, 1)
    before = criterion(logits, classes, groups)
    torch.testing.assert_close(before, torch.tensor([LOG2, math.log(4)]))
    criterion.update(criterion.statistics(logits, classes, groups))
    # q of 3/4 * 2 and 1/4 * 4, of 5/2 in all: 3/5 and 2/5.
    expected = torch.tensor([0.6 / 0.75, 0.4 / 0.25, 0])
    torch.testing.assert_close(criterion.group_weights(), expected)
    torch.testing.assert_close(criterion(logits, classes, groups), before * expected[:2])
    # A group's loss is the mean over its images, however many they are.
    several = build_loss(LossConfig("group_dro", dro_rate=1.0), cells)
    twice = [torch.cat([tensor, tensor[:1]]) for tensor in (logits, classes, groups)]
    several.update(several.statistics(*twice))
    torch.testing.assert_close(several.group_weights(), expected)


def test_weights_by_hand() -> None:
    cells = torch.tensor([[6.0, 2], [4, 0], [0, 0]])
    assert cell_weights("none", cells).tolist() == [[1, 1]] * 3
    by_class = cell_weights("ifw_class", cells)
    torch.testing.assert_close(by_class, torch.tensor([[12 / 20, 12 / 4]] * 3))
    by_cell = cell_weights("ifw_class_group", cells)
    torch.testing.assert_close(by_cell, torch.tensor([[12 / 18, 12 / 6], [12 / 12, 0], [0, 0]]))
    assert (by_cell * cells).sum() == pytest.approx(12)  # 1 an image on average
    # Draws of an epoch are expected ones, which may be fewer than one.
    rare = cell_weights("ifw_class_group", torch.tensor([[2.0, 0.5], [0, 0]]))
    torch.testing.assert_close(rare, torch.tensor([[2.5 / 4, 2.5 / 1], [0, 0]]))


# Against torch.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    logits, (classes, groups) = logits_of(16, "plain", dtype=torch.float64), labels_of(16)
    found = build_loss(LossConfig(label_smoothing=smoothing), CELLS)(logits, classes, groups)
    assert found.dtype == torch.float32
    wanted = functional.cross_entropy(logits, classes, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(found, wanted.float())
    logits, groups = logits_of(16, "domain_discriminative"), groups.abs()
    found = build_loss(LossConfig(label_smoothing=smoothing), CELLS, "domain_discriminative")(logits, classes, groups)
    target_bk = (1 - smoothing) * functional.one_hot(groups * 2 + classes, 6)
    target_bk = target_bk + smoothing / 2 * (torch.arange(6) // 2 == groups[:, None])
    torch.testing.assert_close(found, functional.cross_entropy(logits, target_bk, reduction="none"))


def test_half_precision_logits_lose_nothing_more() -> None:
    logits = torch.tensor([[0.0, 12.0]], dtype=torch.float16)
    expected = torch.tensor([math.log1p(math.exp(-12.0))])  # 6.1e-6: 0 if it were taken in float16
    found = build_loss(LossConfig(), CELLS)(logits, ints(1), ints(0))
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-2)


# All combinations.


@pytest.mark.parametrize(("loss", "head", "weights"), [*product(LOSSES, HEADS, WEIGHTS)])
def test_every_combination_has_a_right_gradient(loss: Any, head: Any, weights: Any) -> None:
    """In float64, against finite differences, with a state after some updates."""
    criterion = build_loss(LossConfig(loss, 0.1, weights, ohem_fraction=0.5), CELLS, head).double()
    classes, groups = labels_of(12)
    logits = logits_of(12, head, dtype=torch.float64)
    if (learned := criterion.statistics(logits, classes, groups)) is not None:
        criterion.update(learned)
    float_was = torch.Tensor.float
    try:  # the criterion works in float32, too coarse for finite differences
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign, assignment]
        values = criterion(logits, classes, groups)
        assert values.shape == (12,)
        assert (values >= 0).all()
        assert values.isfinite().all()
        logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: criterion(x, classes, groups), logits)
    finally:
        torch.Tensor.float = float_was  # type: ignore[method-assign]


@pytest.mark.parametrize(("loss", "head", "weights"), [*product(LOSSES, HEADS, WEIGHTS)])
def test_every_loss_is_cross_entropy_at_its_neutral_setting(loss: Any, head: Any, weights: Any) -> None:
    classes, groups = labels_of(16)
    logits = logits_of(16, head)
    neutral = build_loss(LossConfig(loss, 0.1, weights, **NEUTRAL[loss]), CELLS, head)
    if (learned := neutral.statistics(logits, classes, groups)) is not None:
        neutral.update(learned)
    plain = build_loss(LossConfig("ce", 0.1, weights), CELLS, head)
    found, wanted = (one(logits, classes, groups) for one in (neutral, plain))
    torch.testing.assert_close(found, wanted)
    if loss != "ce":
        strong = build_loss(LossConfig(loss, 0.1, weights, dro_rate=1.0), CELLS, head)
        if (learned := strong.statistics(logits, classes, groups)) is not None:
            strong.update(learned)
        assert not torch.allclose(strong(logits, classes, groups), wanted)


@pytest.mark.parametrize(
    ("loss", "head", "weights"),
    [
        ("ce", "domain_discriminative", "none"),
        ("ce", "domain_independent", "none"),
        ("ce", "plain", "ifw_class_group"),
        ("group_dro", "plain", "none"),
        ("recall_ce", "domain_independent", "none"),
    ],
)
def test_groups_matter_where_they_should(loss: Any, head: Any, weights: Any) -> None:
    classes, groups = labels_of(16)
    groups = groups.clamp_min(0)
    other = (groups + 1) % 3
    logits = logits_of(16, head)
    criterion = build_loss(LossConfig(loss, 0.1, weights, dro_rate=1.0), CELLS, head)
    if (learned := criterion.statistics(logits, classes, groups)) is not None:
        criterion.update(learned)
    assert not torch.allclose(criterion(logits, classes, groups), criterion(logits, classes, other))


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "group_dro"])
@pytest.mark.parametrize("weights", ["none", "ifw_class"])
def test_groups_do_not_matter_where_they_should_not(loss: Any, weights: Any) -> None:
    classes, groups = labels_of(16)
    criterion = build_loss(LossConfig(loss, 0.1, weights), CELLS)
    logits = logits_of(16, "plain")
    found = criterion(logits, classes, groups)
    assert torch.equal(found, criterion(logits, classes, groups.flip(0)))


def test_an_empty_cell_weighs_nothing() -> None:
    cells = CELLS.copy()
    cells[2, 1] = 0
    criterion = build_loss(LossConfig(weights="ifw_class_group"), cells, "domain_independent")
    logits = logits_of(2, "domain_independent")
    found = criterion(logits, ints(1, 0), ints(2, 2))
    assert found[0] == 0
    assert found[1] > 0


@pytest.mark.parametrize("loss", ["recall_ce", "group_dro"])
def test_pieces_of_a_step_add_up_and_the_state_goes_on(loss: Any) -> None:
    classes, groups = labels_of(16)
    logits = logits_of(16, "domain_independent")
    whole, parts = (build_loss(LossConfig(loss, dro_rate=0.5), CELLS, "domain_independent") for _ in range(2))
    whole.update(whole.statistics(logits, classes, groups))
    pieces = [slice(0, 5), slice(5, 16)]
    parts.update(sum(parts.statistics(logits[p], classes[p], groups[p]) for p in pieces))
    resumed = build_loss(LossConfig(loss, dro_rate=0.5), CELLS, "domain_independent")
    resumed.load_state_dict(whole.state_dict())
    found = [c(logits, classes, groups) for c in (whole, parts, resumed)]
    torch.testing.assert_close(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_only_what_is_learnt_is_kept_in_a_checkpoint() -> None:
    kept = {name: set(build_loss(LossConfig(name), CELLS).state_dict()) for name in LOSSES}
    learnt = {"recall_ce": {"right", "seen"}, "group_dro": {"log_q"}}
    assert kept == {key: set() for key in LOSSES} | learnt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"focal_gamma": -1.0}, "LossConfig: focal_gamma must be >= 0, got -1.0"),
        ({"ohem_fraction": 0.0}, "LossConfig: ohem_fraction must be > 0, got 0.0"),
        ({"recall_momentum": 1.0}, "LossConfig: recall_momentum must be < 1, got 1.0"),
        ({"recall_strength": 1.5}, "LossConfig: recall_strength must be <= 1, got 1.5"),
        ({"dro_rate": -0.1}, "LossConfig: dro_rate must be >= 0, got -0.1"),
        ({"label_smoothing": 1.0}, "LossConfig: label_smoothing must be < 1, got 1.0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as raised:
        LossConfig(**settings)  # type: ignore[arg-type]
    assert str(raised.value) == message
