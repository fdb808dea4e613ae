"""Features of a frozen backbone: the same training, but each image is read only once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from melfast.config.schema import Config
from melfast.data.plan import EpochPlan
from melfast.data.preprocess import Preprocess
from melfast.models.classifier import build_classifier
from melfast.models.infer import Inference
from melfast.models.record import ModelRecord
from melfast.train import loop
from melfast.train.features import FeatureExtractor, Features, sees_the_same
from melfast.train.learner import classifier_head
from melfast.train.run import run_training
from tests.train.test_loop import log_of, weights_of

MakeConfig = Callable[..., Config]
STILL = {f"augment__{name}": 0.0 for name in ("hflip", "vflip", "rotation_deg", "translation", "scale")}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("backbone", "options"), [("resnet10t", {}), ("convnext_atto", {}), ("test_efficientnet", {}), ("test_vit", {})]
)
def test_head_of_features_is_the_classifier(backbone: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_classifier(ModelRecord(backbone, Preprocess(64, 64), options)).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        found = classifier_head(model)(FeatureExtractor(model)(images))
        torch.testing.assert_close(found, model(images))


def test_when(tiny_config: MakeConfig) -> None:
    assert sees_the_same(tiny_config(model__freeze=True, **STILL))
    assert not sees_the_same(tiny_config(**STILL))
    assert not sees_the_same(tiny_config(model__freeze=True))
    for change in (
        {"train__mixup": 0.2},
        {"augment__erase": 0.1},
        {"augment__crop": 0.5},
        {"augment__hue": 0.1},
        {"augment__geometry": "published"},
    ):
        assert not sees_the_same(tiny_config(model__freeze=True, **STILL | change)), change


def test_training_is_the_same(tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model__freeze": True, "loss__name": "recall_ce", "train__accumulate": 2, "train__ema": 0.5, **STILL}
    run_training(tiny_config(**changes, output__dir=str(tmp_path / "once")), {}, resume=False)
    said = (tmp_path / "once" / "training.log").read_text()
    assert "there is no augmentation: the features of 56 images are computed once" in said
    monkeypatch.setattr("melfast.train.learner.sees_the_same", lambda config: False)
    run_training(tiny_config(**changes, output__dir=str(tmp_path / "each")), {}, resume=False)
    assert "computed once" not in (tmp_path / "each" / "training.log").read_text()
    for kind, key in (("train", "loss"), ("valid", "auc"), ("valid", "threshold")):
        once, each = ([line[key] for line in log_of(tmp_path / n, kind)] for n in ("once", "each"))
        assert once == pytest.approx(each, rel=1e-4)
    expected, found = weights_of(tmp_path / "each"), weights_of(tmp_path / "once")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_resumes(tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model__freeze": True, "train__checkpoint_minutes": 1e-9, **STILL}
    run_training(tiny_config(**changes, output__dir=str(tmp_path / "whole")), {}, resume=False)
    step = loop.seed_step

    def stop(seed: int, at: int, rank: int) -> None:
        if at == 6:
            raise KeyError
        step(seed, at, rank)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "seed_step", stop)
        with pytest.raises(KeyError):
            run_training(tiny_config(**changes), {}, resume=False)
    run_training(tiny_config(**changes), {}, resume=True)
    expected, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_unreadable_images_are_left_out() -> None:
    found = Inference(np.array([0, 2, 3]), np.array([[0.0], [2.0], [3.0]], np.float32))
    features = Features(found, 4, torch.device("cpu"))
    index = np.array([3, 1, 0, 1, 2, 2])
    plan = EpochPlan(
        index, np.zeros((6, 2, 3), np.float32), np.array([0, 3, 6]), group=np.array([5, 6, 7, 8, 9, 9], np.int16)
    )
    (one, first), (two, second) = features.batches(plan)
    assert one.tolist() == [[3.0], [0.0]]
    assert first.index.tolist() == [3, 0]
    assert first.group is not None
    assert first.group.tolist() == [5, 7]
    assert two.tolist() == [[2.0], [2.0]]
    ((only, batch),) = features.batches(plan, start=1)
    assert torch.equal(only, two)
    assert batch.index.tolist() == second.index.tolist() == [2, 2]
