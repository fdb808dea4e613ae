"""The classifier and its record."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.decode import decode
from melfast.models.heads import HEADS, head_of
from melfast.models.record import Head, ModelRecord

SMALL = {"channels": [4, 4, 8, 8], "stem_width": 4}
RECORD = ModelRecord(
    "resnet10t",
    Preprocess(24, 32),
    SMALL,
    threshold=0.25,
    threshold_rule="f1",
    groups=("light", "dark"),
    training={"epoch": 3},
)


def test_logits() -> None:
    model = build_classifier(RECORD).eval()
    logits = model(torch.rand(3, 3, 24, 32))
    assert logits.shape == (3, 2)
    probability = decode(logits, RECORD)
    torch.testing.assert_close(probability, logits.softmax(1)[:, 1])


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("resnet9999", {}, "model.backbone 'resnet9999': "),
        ("resnet10t", {"depth": 3}, "model.backbone 'resnet10t': .*depth"),
    ],
)
def test_what_timm_does_not_have(backbone: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_classifier(ModelRecord(backbone, Preprocess(24, 32), options))


def test_record_round_trip() -> None:
    assert ModelRecord.from_json(RECORD.to_json(), "x") == RECORD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a/record.json: not JSON: EOF while parsing a value"),
        ("[]", "a/record.json: must be a mapping by name, got []"),
        ('{"melfast_format": 2}', "a/record.json: melfast_format must be 1, got 2"),
        ('{"melfast_format": 1}', "a/record.json: backbone is missing; preprocess is missing"),
    ],
)
def test_what_is_no_record(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        ModelRecord.from_json(text, str(Path("a/record.json")))


GROUPED = RECORD.replace(
    head="domain_discriminative", groups=("light", "tan", "dark"), priors=((0.4, 0.1), (0.3, 0.2), (0.0, 0.0))
)


def test_heads_of_groups_have_a_logit_a_group_and_class() -> None:
    assert build_classifier(GROUPED).eval()(torch.rand(1, 3, 24, 32)).shape == (1, 6)
    assert ModelRecord.from_json(GROUPED.to_json(), "x") == GROUPED


def test_threshold_of_each_image_by_its_group() -> None:
    groups = np.array([2, 0, -1, 1])
    bare = GROUPED.replace(threshold=None)
    assert bare.thresholds(groups, 0.5).tolist() == [0.5] * 4
    common = GROUPED.replace(threshold=0.2)
    assert common.thresholds(groups, 0.5).tolist() == [0.2] * 4
    by_group = common.replace(group_thresholds=(0.3, 0.4, 0.6))
    assert by_group.thresholds(groups, 0.5).tolist() == [0.6, 0.3, 0.2, 0.4]
    assert ModelRecord.from_json(by_group.to_json(), "x") == by_group
    assert common.learnt_by(by_group).group_thresholds == (0.3, 0.4, 0.6)


def test_decode_with_prior_shift_by_hand() -> None:
    """P of 4, 1, 3, 2 tenths is what the priors say: after the shift all pairs are as likely. The
    group without an image has no say, whatever its logits."""
    logits = torch.log(torch.tensor([[4.0, 1, 3, 2, 50, 1], [4, 2, 3, 2, 0.1, 7]]))
    # Over their priors 10 10 10 10, then 10 20 10 10: of 50 malignant are 30.
    torch.testing.assert_close(decode(logits, GROUPED), torch.tensor([0.5, 0.6]))
    torch.testing.assert_close(decode(logits, GROUPED, torch.tensor([0, 1])), decode(logits, GROUPED))


def test_decode_of_the_mean_over_the_groups_by_hand() -> None:
    record = GROUPED.replace(head="domain_independent")
    nine = torch.log(torch.tensor(9.0)).item()
    logits = torch.tensor([[0.0, nine, 0, 0, 99, 0]] * 4)
    # The mean of log 9 and 0 is log 3; the third group has learnt nothing.
    torch.testing.assert_close(decode(logits, record), torch.full((4,), 0.75))
    own = record.replace(inference="group_conditional")
    found = decode(logits, own, torch.tensor([0, 1, 2, -1]))
    torch.testing.assert_close(found, torch.tensor([0.9, 0.5, 0.75, 0.75]))
    torch.testing.assert_close(decode(logits, own), torch.full((4,), 0.75))
    # Where the first group has learnt nothing, its images get the mean, here the second group's.
    other = own.replace(priors=((0.0, 0.0), (0.3, 0.2), (0.0, 0.0)))
    torch.testing.assert_close(decode(logits, other, torch.tensor([0, 1, 2, -1])), torch.full((4,), 0.5))


def test_decode_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 100.0], [5.0, 5.0 + torch.log(torch.tensor(3.0))]])
    torch.testing.assert_close(decode(logits, RECORD), torch.tensor([0.5, 1.0, 0.75]))
    assert decode(logits.half(), RECORD).dtype == torch.float32


@pytest.mark.parametrize("name", HEADS)
def test_the_record_knows_of_heads_without_torch(name: Head) -> None:
    record = GROUPED.replace(head=name)
    assert record.by_group == head_of(record).by_group
    assert record.num_logits == (6 if record.by_group else 2)
    # `takes_group` is set exactly if the group changes the result.
    logits, group = torch.randn(8, record.num_logits), torch.arange(8) % 4 - 1
    for inference in ("sum", "group_conditional"):
        own = record.replace(inference=inference)
        changes = not torch.equal(decode(logits, own), decode(logits, own, group))
        assert changes == own.takes_group
