"""Starting and resuming a run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from melfast.config.schema import Config, load_config
from melfast.data.manifest import read_manifest
from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.io.files import locked
from melfast.io.log import line_of
from melfast.metrics.metrics import confusion, recall, roc_auc
from melfast.models.checkpoint import find_checkpoint, load_checkpoint, load_state, load_training, read_record
from melfast.models.infer import infer
from melfast.train import loop
from melfast.train.logging import RunLog
from melfast.train.run import run_training

MakeConfig = Callable[..., Config]
Capture = pytest.LogCaptureFixture


def test_config_is_kept_and_loads(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(train__epochs=1)
    run_training(config, {}, resume=False)
    assert load_config(tmp_path / "run" / "config.yaml")[0] == config


def test_a_run_is_not_written_over(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(train__epochs=1)
    run_training(config, {}, resume=False)
    with pytest.raises(InputError) as caught:
        run_training(config, {}, resume=False)
    assert str(caught.value) == (
        f"{tmp_path}/run: holds a run already; `resume=True` resumes it, or choose another `output.dir`"
    )


def test_a_run_that_another_process_trains(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    run = tmp_path / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for resume in (False, True):
        with locked(run), pytest.raises(InputError) as caught:
            run_training(tiny_config(train__epochs=2), {}, resume=resume)
        assert str(caught.value).startswith(f"{run}: is being written by process {os.getpid()} on ")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_the_user_keeps_in_a_run_stays(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    checkpoints = tmp_path / "run" / "checkpoints"
    shutil.copytree(checkpoints / "epoch-001", checkpoints / "epoch-001-paper")
    (checkpoints / "sam_vit_h").mkdir()
    (tmp_path / "run" / "notes.md").write_text("mine")
    (tmp_path / "run" / ".melfast.json").unlink()  # as after `cp run/* elsewhere`: a run by its checkpoints
    run_training(tiny_config(train__epochs=2), {}, resume=True)
    assert {path.name for path in checkpoints.iterdir()} >= {"epoch-001-paper", "sam_vit_h", "epoch-002"}
    assert (tmp_path / "run" / "notes.md").read_text() == "mine"
    load_checkpoint(checkpoints / "epoch-001-paper")


def test_resume_before_the_first_checkpoint(tiny_config: MakeConfig, caplog: Capture) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=True)
    assert "no checkpoint yet, training starts from the beginning" in caplog.text


def test_resume_with_another_config(tiny_config: MakeConfig, tmp_path: Path, caplog: Capture) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    caplog.clear()
    config = tiny_config(train__epochs=2, optim__lr=0.5, data__path="x", train__log_every=3)
    run_training(config, {"data.path": "--data-path"}, resume=True)
    said = [line_of(record) for record in caplog.records]
    assert said[:2] == [
        "warning: resuming with another config: optim.lr 0.01 -> 0.5, train.epochs 1 -> 2",
        f"warning: data.path {tiny_config().data.path} -> x is not used: the run has its own manifest.csv",
    ]
    assert said[2] == "loader: native (3 times as fast as dali-cpu where measured)"
    assert said[3] == "resuming from epoch-001, step 4"
    state = load_state(find_checkpoint(tmp_path / "run", "last"))
    assert (state.epoch, state.config["optim"]["lr"]) == (2, 0.5)


def test_resume_with_another_model(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    kept = (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(InputError) as caught:
        run_training(tiny_config(model__backbone="resnet18", train__batch_size=4), {}, resume=True)
    assert str(caught.value) == (
        f"{tmp_path}/run: cannot resume with another model.backbone resnet10t -> resnet18, "
        "another train.batch_size 8 -> 4"
    )
    assert (tmp_path / "run" / "config.yaml").read_text() == kept


def test_resume_with_another_optimizer(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    for change in ({"optim__name": "sgd"}, {"optim__layer_decay": 0.7}):
        with pytest.raises(InputError, match=r"cannot resume with another optim\.(name|layer_decay) "):
            run_training(tiny_config(**change), {}, resume=True)
    run_training(tiny_config(optim__betas=(0.5, 0.6)), {}, resume=True)
    training = load_training(find_checkpoint(tmp_path / "run", "last"))
    groups = training["optimizer"]["param_groups"]
    assert all(tuple(group["betas"]) == (0.5, 0.6) for group in groups)


def test_resuming_needs_no_initial_weights(tiny_config: MakeConfig, tmp_path: Path, caplog: Capture) -> None:
    """With a file of weights, no pretrained weights are downloaded either."""
    config = tiny_config(train__epochs=1)
    run_training(config, {}, resume=False)
    start = tmp_path / "start.safetensors"
    shutil.copy(find_checkpoint(tmp_path / "run", "last") / "model.safetensors", start)
    changes = {"model__weights": str(start), "model__pretrained": True, "output__dir": str(tmp_path / "other")}
    caplog.clear()
    run_training(tiny_config(train__epochs=1, **changes), {}, resume=False)
    assert f"{start}: used instead of model.pretrained" in caplog.text
    start.unlink()
    run_training(tiny_config(train__epochs=2, **changes), {}, resume=True)
    assert load_state(find_checkpoint(tmp_path / "other", "last")).epoch == 2


def test_what_validation_found_goes_on(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"train__checkpoint_minutes": 1e-9, "train__calibration": "temperature"}
    step = loop.seed_step
    stop_at = 6

    def stop(seed: int, at: int, rank: int) -> None:
        if at == stop_at:
            raise KeyError
        step(seed, at, rank)

    monkeypatch.setattr(loop, "seed_step", stop)
    records = []
    for stop_at in (6, 7):
        with pytest.raises(KeyError):
            run_training(tiny_config(**changes), {}, resume=stop_at > 6)
        folder = find_checkpoint(tmp_path / "run", "last")
        assert load_state(folder).step == stop_at
        records.append(read_record(folder))
    assert records[0].threshold is not None
    assert records[0].temperature != 1
    assert records[0] == records[1]


def test_a_log_that_is_lost(tiny_config: MakeConfig, tmp_path: Path, caplog: Capture) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    (tmp_path / "run" / "log.jsonl").unlink()
    run_training(tiny_config(train__epochs=1), {}, resume=True)
    assert "log.jsonl lacks the best epoch: no curves and no table" in caplog.text


def test_resume_with_other_data(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    manifest = tmp_path / "run" / "manifest.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *lines[3:]]) + "\n")
    with pytest.raises(InputError, match=r"its training images are not those that .*epoch-001 was"):
        run_training(tiny_config(), {}, resume=True)


def test_a_finished_run_stays(tiny_config: MakeConfig, tmp_path: Path, caplog: Capture) -> None:
    run_training(tiny_config(), {}, resume=False)
    before = find_checkpoint(tmp_path / "run", "last").stat()
    run_training(tiny_config(), {}, resume=True)
    assert find_checkpoint(tmp_path / "run", "last").stat() == before
    assert caplog.messages[-1].startswith("done: best epoch ")


def test_log_takes_back_what_is_done_again(tmp_path: Path) -> None:
    with RunLog(tmp_path, step=0, total=9) as log:
        for step in (1, 2, 3):
            log.record("train", step, step / 3, {"loss": float(step), "auc": float("nan")})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"kind": "tra')  # killed in the middle of a line
    with RunLog(tmp_path, step=2, total=9) as log:
        log.record("train", 3, 1.0, {"loss": 5.0})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 5.0)]
    assert lines[0]["auc"] is None


def test_tensorboard_has_the_scalars(tiny_config: MakeConfig, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_training(tiny_config(train__epochs=1), {}, resume=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/lr", "train/images_per_s", "train/waited", "valid/auc"} <= tags
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_cuda_where_there_is_none(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"train.device is 'cuda', but torch sees no CUDA device"):
        run_training(tiny_config(train__device="cuda"), {}, resume=False)


def test_best_by_the_worst_group(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run_training(tiny_config(train__best_metric="worst_group_auc"), {}, resume=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["kind"] == "valid"]
    assert {"recall/light", "recall/dark", "worst_group_auc", "pauc_80tpr"} <= set(found[0])
    best = max(found, key=lambda line: line["worst_group_auc"])
    assert find_checkpoint(tmp_path / "run").name == f"epoch-{best['epoch']:03d}"


@pytest.mark.parametrize("name", ["temperature", "sigmoid", "isotonic"])
def test_calibration_is_kept_with_the_model(tiny_config: MakeConfig, tmp_path: Path, name: str) -> None:
    """And the metrics belong to the calibrated model."""
    run_training(tiny_config(train__calibration=name), {}, resume=False)
    model, record = load_checkpoint(tmp_path / "run")
    assert (record.temperature != 1) == (name in ("temperature", "sigmoid"))
    assert (record.offset != 0) == (name == "sigmoid")
    assert bool(record.isotonic) == (name == "isotonic")
    valid = read_manifest(tmp_path / "run" / "manifest.csv").split("valid")
    found = infer(model, valid.image_paths, record.preprocess, World())
    score = found.probabilities(record, np.full(len(valid), -1, np.int16))
    kept = record.training["valid_metrics"]
    assert roc_auc(valid.targets, score) == pytest.approx(kept["auc"])
    called = confusion(valid.targets, score >= record.threshold)
    assert recall(called) == pytest.approx(kept["recall"])


def test_a_fold_is_trained(tiny_config: MakeConfig, tmp_path: Path) -> None:
    held_out = []
    for fold in ("1/2", "2/2"):
        config = tiny_config(data__fold=fold, output__dir=str(tmp_path / fold[0]), train__epochs=1)
        run_training(config, {}, resume=False)
        manifest = read_manifest(tmp_path / fold[0] / "manifest.csv")
        held_out.append(set(manifest.split("valid").image_names))
    assert not held_out[0] & held_out[1]
    before = read_manifest(Path(tiny_config().data.path))
    assert held_out[0] | held_out[1] == set(before.select(before.splits != "test").image_names)
    log = (tmp_path / "1" / "training.log").read_text()
    assert ": fold 1/2, drawn with seed 0" in log


def test_half_of_torchruns_variables(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="WORLD_SIZE is set and RANK is not; start the processes"):
        run_training(tiny_config(), {}, resume=False)
