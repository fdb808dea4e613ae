"""Curves and tables of a run, and trackers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from melfast.config.schema import Config
from melfast.io.errors import InputError
from melfast.train import loop
from melfast.train.run import run_training
from melfast.train.summary import read_log, summary_table

MakeConfig = Callable[..., Config]
Capture = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_pictures_table_and_scalars(tiny_config: MakeConfig, tmp_path: Path, caplog: Capture) -> None:
    run_training(tiny_config(), {}, resume=False)
    run = tmp_path / "run"
    with Image.open(run / "curves.png") as image:
        assert image.size == (1800, 432)  # three panels, for there are tone groups
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    for colour in ((0, 114, 178), (213, 94, 0)):  # lines were drawn
        assert (np.abs(pixels - np.array(colour)).max(axis=1) < 8).sum() > 50
    with Image.open(run / "samples.png") as image:
        assert image.size[0] == 8 * 240

    train, valid = read_log(run)
    said = caplog.text
    logged = (run / "training.log").read_text()
    for text in (said, logged):
        assert f"{valid[-1]['auc']:.4f}" in text
        assert "recall/dark" in text
        assert "last: epoch 2" in text
    assert all(r["gradient_norm"] > 0 and 0 < r["memory_gib"] < 64 for r in train)

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/gradient_norm", "train/memory_gib", "valid/recall", "valid/specificity"} <= scalars
    assert {"valid/recall/dark", "valid/worst_group_auc", "train/waited"} <= scalars
    assert set(events.Tags()["images"]) == {"samples", "curves"}


def test_table_by_hand() -> None:
    valid = [
        {"kind": "valid", "step": 4, "epoch": 1.0, "auc": 0.75, "recall/dark": None},
        {"kind": "valid", "step": 8, "epoch": 2.0, "auc": 0.5, "recall/dark": 0.25},
    ]
    lines = [line.replace("┃", "│").split("│") for line in summary_table(valid, 1).splitlines()]
    assert [[cell.strip() for cell in cells[1:-1]] for cells in lines if len(cells) > 2] == [
        ["metric", "best: epoch 1", "last: epoch 2"],
        ["auc", "0.7500", "0.5000"],
        ["recall/dark", "-", "0.2500"],
    ]


class FakeMlflow:
    """Replaces the package, and records the calls."""

    def __init__(self) -> None:
        self.params: dict[str, str] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.calls: list[Any] = []

    def start_run(self, run_id: str | None, run_name: str | None) -> Any:
        self.calls.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="id-7"))

    def log_params(self, params: dict[str, str]) -> None:
        self.params |= params

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((step, values))

    def log_artifact(self, path: str) -> None:
        self.calls.append(("artifact", Path(path).name))

    def end_run(self, status: str) -> None:
        self.calls.append(("end", status))


def installed(monkeypatch: pytest.MonkeyPatch, name: str, package: Any) -> None:
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: object())


def test_mlflow(tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMlflow()
    installed(monkeypatch, "mlflow", fake)
    changes = {"output__tracker": "mlflow", "train__epochs": 1}
    step = loop.seed_step

    def stop(seed: int, at: int, rank: int) -> None:
        if at == 2:
            raise KeyError
        step(seed, at, rank)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "seed_step", stop)
        with pytest.raises(KeyError):
            run_training(tiny_config(**changes), {}, resume=False)
    run_training(tiny_config(**changes), {}, resume=True)
    assert fake.calls[0] == ("start", None, "run")
    assert ("end", "FAILED") in fake.calls
    assert ("start", "id-7", None) in fake.calls  # continues the same run
    assert fake.calls[-2:] == [("artifact", "curves.png"), ("end", "FINISHED")]
    assert fake.params["optim.lr"] == "0.01"
    train, valid = read_log(tmp_path / "run")
    told = [values["train/loss"] for _, values in fake.metrics if "train/loss" in values]
    assert told[-4:] == [record["loss"] for record in train]
    assert fake.metrics[-1][1]["valid/auc"] == valid[-1]["auc"]


class FakeWandb:
    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, Any], Any]] = []
        self.finished: list[int] = []
        self.options: dict[str, Any] = {}
        self.id = "w1"

    def init(self, **options: Any) -> "FakeWandb":
        self.options = options
        return self

    def log(self, values: dict[str, Any], step: int | None = None, commit: bool = True) -> None:
        self.logged.append((values, step))

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)

    @staticmethod
    def Image(path: str) -> str:  # noqa: N802 - the package's own name
        return path


def test_wandb(tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    installed(monkeypatch, "wandb", fake)
    run_training(tiny_config(output__tracker="wandb", train__epochs=1), {}, resume=False)
    assert fake.options["resume"] == "allow"
    assert fake.options["config"]["optim.lr"] == 0.01
    assert (tmp_path / "run" / "tracker.txt").read_text() == "w1\n"
    steps = [step for values, step in fake.logged if "train/loss" in values]
    assert steps == [1, 2, 3, 4]
    assert fake.finished == [0]
    assert {"curves", "samples"} <= {name for values, _ in fake.logged for name in values}


def test_tracker_that_is_not_there(tiny_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_training(tiny_config(output__tracker="wandb"), {}, resume=False)
    assert str(caught.value) == ("output.tracker is 'wandb', which is not installed: pip install wandb")
    assert not (tmp_path / "run").exists()


def test_log_is_json(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(word))
