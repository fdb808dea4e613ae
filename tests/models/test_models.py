"""The classifier and its record."""

import re
from pathlib import Path

import pytest
import torch

from melfast.decode import decode
from melfast.errors import InputError
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.preprocess import Preprocess

SMALL = {"channels": [4, 4, 8, 8], "stem_width": 4}
RECORD = ModelRecord("resnet10t", Preprocess(24, 32), SMALL, threshold=0.25, threshold_rule="f1",
                     groups=("light", "dark"), training={"epoch": 3})  # fmt: skip


def test_logits() -> None:
    model = build_classifier(RECORD).eval()
    logits = model(torch.rand(3, 3, 24, 32))
    assert logits.shape == (3, 2)
    probability = decode(logits)
    torch.testing.assert_close(probability, logits.softmax(1)[:, 1])


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("resnet9999", {}, "model.backbone 'resnet9999': "),
        ("resnet10t", {"chanels": 3}, "model.backbone 'resnet10t': .*chanels"),
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
        ("", "a/record.json: not a melfast model record"),
        ("[]", "a/record.json: not a melfast model record"),
        ('{"melfast_format": 2}', "a/record.json: written by another melfast; wanted format 1"),
        ('{"melfast_format": 1}', "a/record.json: not a melfast model record"),
    ],
)
def test_what_is_no_record(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        ModelRecord.from_json(text, str(Path("a/record.json")))


def test_decode_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 100.0], [5.0, 5.0 + torch.log(torch.tensor(3.0))]])
    torch.testing.assert_close(decode(logits), torch.tensor([0.5, 1.0, 0.75]))
    assert decode(logits.half()).dtype == torch.float32
    with pytest.raises(ValueError, match="unknown head 'odd'"):
        decode(logits, "odd")  # type: ignore[arg-type]
