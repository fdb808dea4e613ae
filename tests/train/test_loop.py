"""The loop: the same as steps written by hand, for any number of pieces, processes and parts of a run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from melfast.config.schema import Config
from melfast.data.feed import feed, open_loader
from melfast.data.manifest import read_manifest
from melfast.data.native import NativeLoader
from melfast.data.plan import Rows, evaluation_plan, training_plan
from melfast.data.preprocess import Preprocess
from melfast.distributed import World
from melfast.io.errors import ImageError, InputError
from melfast.io.log import line_of
from melfast.metrics.metrics import roc_auc
from melfast.models.checkpoint import State, find_checkpoint, load_checkpoint, load_state
from melfast.models.classifier import build_classifier
from melfast.train import loop
from melfast.train.cells import count_cells
from melfast.train.data import training_data
from melfast.train.epochs import epoch_plan, require_steps
from melfast.train.learner import build_learner, new_record
from melfast.train.logging import SilentLog
from melfast.train.loop import Trainer, Window
from melfast.train.mix import mix
from melfast.train.run import run_training
from melfast.train.schedule import learning_rate
from melfast.train.stop import Stop

MakeConfig = Callable[..., Config]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests run side by side; and with one thread the same sums come out bit by bit."""
    torch.set_num_threads(1)


def make_trainer(config: Config, run: Path) -> Trainer:
    world, data = World(), training_data(read_manifest(config.data.path))
    cells = count_cells(config, data.train.rows, len(data.group_names))
    record = new_record(config, data, cells)
    learner = build_learner(config, record, world, cells)
    return Trainer(config, data, run, world, record, learner, State(), SilentLog())


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = safetensors.torch.load_file(find_checkpoint(run, "last") / "model.safetensors")
    return found


def log_of(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_an_epoch_is_what_it_would_be_by_hand(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(loss__label_smoothing=0.1, optim__clip_norm=0.5)
    trainer = make_trainer(config, tmp_path)
    data = trainer.data.train
    torch.manual_seed(config.train.seed)
    model = build_classifier(trainer.record).to(memory_format=torch.channels_last).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}])
    plan = training_plan(data.rows, Preprocess(24, 32), config.augment, batch_size=8, seed=0, epoch=0)
    loader = NativeLoader(data.images, trainer.record.preprocess, plan, threads=1)
    for step, batch in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 8, 0, config.optim)
        images = torch.from_numpy(batch.images).permute(0, 3, 1, 2)
        targets = torch.from_numpy(data.targets[batch.index])
        functional.cross_entropy(model(images), targets, label_smoothing=0.1).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()

    trainer.train_epoch()

    for name, expected in model.state_dict().items():
        found = trainer.learner.model.state_dict()[name]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


def one_gradient(config: Config, run: Path) -> dict[str, torch.Tensor]:
    trainer = make_trainer(config, run)
    plan = epoch_plan(config, trainer.data.train.rows, 0, trainer.world)
    with open_loader(trainer.data.train.images, trainer.record.preprocess, plan, trainer.world) as loader:
        trainer.forward_backward(trainer.pieces(feed(loader, trainer.world.device), Window()))
    return {name: p.grad for name, p in trainer.learner.model.named_parameters()}


# Without batch norm, whose statistics are those of a piece.
NO_BATCH_NORM = {
    "model__backbone": "test_convnext",
    "model__backbone_options": {},
    "preprocess__height": 32,
    "loss__weights": "ifw_class",
}


def test_gradient_is_the_same_in_pieces(tiny_config: MakeConfig, tmp_path: Path) -> None:
    whole = one_gradient(tiny_config(**NO_BATCH_NORM), tmp_path)
    pieces = one_gradient(tiny_config(train__accumulate=4, **NO_BATCH_NORM), tmp_path)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert max(g.abs().max() for g in whole.values()) > 0.01


WORKER = """
import sys, torch
from pathlib import Path
from melfast.config.schema import load_config
from melfast.data.manifest import read_manifest
from melfast.train.cells import count_cells
from melfast.models.checkpoint import State
from melfast.train.data import training_data
from melfast.distributed import start_world
from melfast.train.epochs import epoch_plan, require_steps
from melfast.data.feed import feed, open_loader
from melfast.data.loader import LoaderSettings
from melfast.train.learner import build_learner, new_record
from melfast.train.logging import SilentLog
from melfast.train.loop import Trainer, Window

config = load_config(Path(sys.argv[1]))[0]
with start_world("cpu") as world:
    data = training_data(read_manifest(config.data.path))
    cells = count_cells(config, data.train.rows, len(data.group_names))
    record = new_record(config, data, cells)
    learner = build_learner(config, record, world, cells)
    trainer = Trainer(config, data, Path("."), world, record, learner, State(), SilentLog())
    plan = epoch_plan(config, data.train.rows, 0, world)
    assert world.size == 2 and len(plan.index) == 16
    with open_loader(data.train.images, record.preprocess, plan, world, LoaderSettings(threads=1)) as loader:
        trainer.forward_backward(trainer.pieces(feed(loader, world.device), Window()))
    gradients = {name: p.grad for name, p in learner.model.named_parameters()}
    torch.save(gradients, f"{sys.argv[2]}{world.rank}")
"""


def test_gradient_is_the_same_on_two_processes(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(train__accumulate=2, **NO_BATCH_NORM)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    (tmp_path / "worker.py").write_text(WORKER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "worker.py",
        "config.yaml",
        "gradient",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=200)
    whole = one_gradient(tiny_config(**NO_BATCH_NORM), tmp_path)
    first, second = (torch.load(tmp_path / f"gradient{rank}") for rank in (0, 1))
    for name, gradient in whole.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


ROWS = Rows(np.arange(32) % 2, np.zeros(32, np.int16))


def test_the_same_images_however_they_are_dealt(tiny_config: MakeConfig) -> None:
    plans = [
        epoch_plan(tiny_config(train__accumulate=pieces), ROWS, 3, World(rank, size))
        for size, pieces in ((1, 1), (2, 2), (4, 1))
        for rank in range(size)
    ]
    steps = [np.sort(plan.index.reshape(4, -1)) for plan in plans]
    np.testing.assert_array_equal(steps[0], np.sort(np.hstack(steps[1:3])))
    np.testing.assert_array_equal(steps[0], np.sort(np.hstack(steps[3:])))
    assert [plan.num_batches for plan in plans] == [4, 8, 8, 4, 4, 4, 4]


def test_a_run(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(train__epochs=8, optim__lr=0.03)
    run_training(config, {}, resume=False)
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        ".melfast.json",
        "checkpoints",
        "config.yaml",
        "curves.png",
        "log.jsonl",
        "manifest.csv",
        "samples.png",
        "tensorboard",
        "training.log",
    }
    train, valid = log_of(run, "train"), log_of(run, "valid")
    assert [line["step"] for line in train] == list(range(1, 33))
    assert [line["epoch"] for line in valid] == list(range(1, 9))
    assert np.mean([line["loss"] for line in train[-4:]]) < 0.8 * train[0]["loss"]
    assert max(line["auc"] for line in valid) > 0.7
    assert all(0 <= line["waited"] <= 1 and line["images_per_s"] > 0 for line in train)

    best = max(valid, key=lambda line: line["auc"])  # the first of equals
    assert find_checkpoint(run).name == f"epoch-{best['epoch']:03d}"
    state = load_state(find_checkpoint(run, "last"))
    assert (state.epoch, state.step, state.best["epoch"]) == (8, 32, best["epoch"])

    # The kept model gives the metrics that the log says, and its record holds the threshold.
    model, record = load_checkpoint(run)
    images = training_data(read_manifest(run / "manifest.csv")).valid
    loader = NativeLoader(images.images, record.preprocess, evaluation_plan(24, batch_size=24))
    (batch,) = loader
    with torch.inference_mode():
        score = model(torch.from_numpy(batch.images).permute(0, 3, 1, 2)).softmax(1)[:, 1]
    assert roc_auc(images.targets, score.numpy()) == pytest.approx(best["auc"], abs=1e-6)
    assert record.threshold == pytest.approx(best["threshold"])
    assert record.threshold_rule == "youden"
    assert record.groups == ("light", "dark")
    assert record.training["train"] == {"benign": 16, "malignant": 16}


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [3, 4, 6])  # in the first epoch, at its end, in the second
@pytest.mark.parametrize(
    "method",
    [
        {},
        {
            "model__head": "domain_independent",
            "loss__name": "recall_ce",
            "loss__weights": "ifw_class_group",
            "sampler__name": "group_balanced",
        },
        {
            "model__head": "domain_discriminative",
            "loss__name": "group_dro",
            "sampler__name": "oversample",
            "augment__geometry": "published",
            "train__ema": 0.9,
            "train__mixup": 0.4,
            "train__cutmix": 1.0,
            "optim__weight_decay_end": 0.2,
        },
    ],
    ids=["plain", "recall_ce", "group_dro"],
)
def test_a_resumed_run_is_bitwise_the_run(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, method: dict[str, str]
) -> None:
    # Dropout draws from torch's generator, which is no part of a checkpoint.
    options = {"channels": [4, 4, 8, 8], "stem_width": 4, "drop_rate": 0.5}
    changes = {"model__backbone_options": options, "train__checkpoint_minutes": 1e-9}
    changes |= method
    run_training(tiny_config(**changes), {}, resume=False)
    whole, other = tmp_path / "run", tmp_path / "other"

    config = tiny_config(**changes, output__dir=str(other))
    step = loop.seed_step

    def stop(seed: int, at: int, rank: int) -> None:
        if at == stop_at:
            raise StoppedError
        step(seed, at, rank)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "seed_step", stop)
        with pytest.raises(StoppedError):
            run_training(config, {}, resume=False)
    assert load_state(find_checkpoint(other, "last")).step == stop_at
    run_training(config, {}, resume=True)

    expected, found = weights_of(whole), weights_of(other)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    for kind, key in (("train", "loss"), ("valid", "auc")):
        assert [(line["step"], line[key]) for line in log_of(other, kind)] == [
            (line["step"], line[key]) for line in log_of(whole, kind)
        ]


SAMPLERS = ("shuffle", "balanced_batch", "undersample", "oversample", "group_balanced")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_at_random_steps(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, precision: str
) -> None:
    """Repeatedly, with EMA and mixed precision: bitwise the same result."""
    changes = {
        "sampler__name": sampler,
        "train__precision": precision,
        "train__ema": 0.9,
        "train__checkpoint_minutes": 1e-9,
        "train__epochs": 3,
    }
    run_training(tiny_config(**changes, output__dir=str(tmp_path / "whole")), {}, resume=False)
    rng = np.random.default_rng([SAMPLERS.index(sampler), precision == "fp16"])
    step = loop.seed_step
    steps_left = 0
    kills = 0

    def stop(seed: int, at: int, rank: int) -> None:
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise StoppedError
        step(seed, at, rank)

    monkeypatch.setattr(loop, "seed_step", stop)
    config = tiny_config(**changes)
    for attempt in range(20):
        steps_left = int(rng.integers(1, 5))
        try:
            run_training(config, {}, resume=attempt > 0)
            break
        except StoppedError:
            kills += 1
    assert kills >= 2
    expected, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    curves = ([line["loss"] for line in log_of(tmp_path / n, "train")] for n in ("whole", "run"))
    assert next(curves) == next(curves)


def test_killed_by_the_system(tiny_config: MakeConfig, tmp_path: Path) -> None:
    """SIGKILL at any moment of a process: the run resumes to the same result."""
    changes = {"train__checkpoint_minutes": 1e-9, "train__epochs": 30}
    run_training(tiny_config(**changes, output__dir=str(tmp_path / "whole")), {}, resume=False)
    (tmp_path / "config.yaml").write_text(tiny_config(**changes).to_yaml())
    command = [sys.executable, "-m", "melfast", "train", "--config", "config.yaml", "--resume"]
    log = tmp_path / "run" / "log.jsonl"
    for more in (7, 31):
        before = len(log_of(tmp_path / "run", "train")) if log.is_file() else 0
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if log.is_file() and log.read_text().count("train") >= before + more:
                    process.kill()
                time.sleep(0.001)
        assert process.returncode == -signal.SIGKILL
    run_training(tiny_config(**changes), {}, resume=True)
    expected, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert [line["step"] for line in log_of(tmp_path / "run", "train")] == list(range(1, 121))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision(tiny_config: MakeConfig, tmp_path: Path, precision: str) -> None:
    config = tiny_config(train__precision=precision)
    trainer = make_trainer(config, tmp_path)
    assert trainer.learner.scaler.is_enabled() == (precision == "fp16")
    dtypes = []
    trainer.learner.model.fc.register_forward_hook(lambda m, i, out: dtypes.append(out.dtype))
    trainer.train(Stop())
    assert set(dtypes) == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert all(p.dtype == torch.float32 for p in trainer.learner.model.parameters())


def test_compile(tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def fake(module: torch.nn.Module) -> torch.nn.Module:  # the real one takes a minute
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", fake)
    trainer = make_trainer(tiny_config(train__compile=True), tmp_path)
    assert compiled == [trainer.learner.model]


def test_loss_that_is_not_finite_stops_the_run(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(optim__lr=1e30, optim__clip_norm=0.0, optim__warmup=0.0, train__log_every=100)
    with pytest.raises(InputError) as caught:
        run_training(config, {}, resume=False)
    found = str(caught.value)
    assert found.startswith("the loss is nan in step 2, which is skipped, for 8 images: t")
    assert found.endswith(", ...; try a lower optim.lr, or train.precision fp32")
    log = (tmp_path / "run" / "training.log").read_text()
    assert "stopped by InputError: the loss is nan in step 2, which is skipped" in log
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_gradient_that_is_not_finite_stops_before_the_step(tiny_config: MakeConfig, tmp_path: Path, rho: float) -> None:
    trainer = make_trainer(tiny_config(optim__sam_rho=rho), tmp_path)
    weight = trainer.learner.model.fc.weight
    weight.register_hook(lambda gradient: gradient * torch.inf)
    before = {k: v.clone() for k, v in trainer.learner.model.named_parameters()}
    with (
        trainer.open_batches() as batches,
        pytest.raises(
            InputError, match=r"^the gradient is not finite in step 1, which is skipped, for 8 images: t\d\d"
        ),
    ):
        trainer.take_step(batches, Window())
    assert all(torch.equal(p, before[k]) for k, p in trainer.learner.model.named_parameters())


def test_resume_in_another_precision(tiny_config: MakeConfig, tmp_path: Path) -> None:
    before = make_trainer(tiny_config(), tmp_path / "a").learner.training_state()
    assert before["scaler"] == {}
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    again = tiny_config(train__epochs=1, train__precision="fp16")
    cells = np.ones((3, 2))
    build_learner(again, load_checkpoint(tmp_path / "run")[1], World(), cells).restore(
        find_checkpoint(tmp_path / "run", "last")
    )


@pytest.mark.parametrize(
    ("changes", "world", "message"),
    [
        (
            {"train__batch_size": 40},
            World(),
            "batch of 40 images (40 x 1 processes) is larger than the epoch of 32 training images: `batch_size`",
        ),
        (
            {"train__batch_size": 9},
            World(0, 2),
            "train.batch_size must be a multiple of 2 processes x train.accumulate 1, got 9",
        ),
    ],
)
def test_batch_that_does_not_fit(tiny_config: MakeConfig, changes: dict[str, Any], world: World, message: str) -> None:
    with pytest.raises(InputError) as caught:
        require_steps(tiny_config(**changes), ROWS, world)
    assert str(caught.value) == message


def copied(tiny_data: Path, folder: Path) -> Path:
    """A copy of the tiny data that may be changed."""
    folder.mkdir()
    for file in tiny_data.parent.iterdir():
        os.link(file, folder / file.name)
    return folder / "manifest.csv"


def test_unreadable_images(
    tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = copied(tiny_data, tmp_path / "data")
    bad = tmp_path / "data" / "t03.png"
    bad.unlink()
    bad.write_bytes(b"no image")
    config = tiny_config(data__path=str(manifest))
    with pytest.raises(InputError, match=r"t03.png: "):
        run_training(config, {}, resume=False)
    config = tiny_config(data__path=str(manifest), data__on_error="skip")
    run_training(config, {}, resume=False)
    lines = [line_of(record) for record in caplog.records if "left out" in record.getMessage()]
    assert len(lines) == 1  # once, not once an epoch
    assert lines[0].startswith("warning: left out (1 so far): ")
    assert "/data/t03.png: " in lines[0]


class Neighbour(World):
    """A world with a second process that has done two images, could not read a third, and is told
    to stop."""

    def gather(self, value: Any) -> list[Any]:
        return [value, (1.0, 2, [ImageError("other.png", "is broken")], True)]


def test_report_is_of_all_processes(tiny_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tiny_config(), tmp_path)
    trainer.world = Neighbour()
    window = Window([torch.tensor([2.0, 3.0])], [np.array([0, 1])])
    window.gradient_norms = [torch.tensor(1.0)]
    trainer.report(window, rate=0.1)
    other = Window([torch.tensor([0.0])], [np.array([2])], gradient_norms=[torch.tensor(1.0)])
    trainer.report(other, rate=0.1)
    assert (window.images, window.loss) == (4, 1.5)
    assert [line_of(record) for record in caplog.records] == ["warning: left out (1 so far): other.png: is broken"]
    assert trainer.stopped
    assert not trainer.stop.wanted


def test_batch_without_an_image(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    manifest = copied(tiny_data, tmp_path / "data")
    for i in range(32):
        (tmp_path / "data" / f"t{i:02d}.png").unlink()
        (tmp_path / "data" / f"t{i:02d}.png").write_bytes(b"no image")
    config = tiny_config(data__path=str(manifest), data__on_error="skip")
    with pytest.raises(InputError, match=r"none of the 8 images of step 1 can be read: .*png: "):
        run_training(config, {}, resume=False)


def test_pieces_without_an_image(tiny_config: MakeConfig, tiny_data: Path, tmp_path: Path) -> None:
    """One image of 32 cannot be read; the piece that consists of it contributes nothing."""
    manifest = copied(tiny_data, tmp_path / "data")
    (tmp_path / "data" / "t03.png").unlink()
    changes = {"data__path": str(manifest), "data__on_error": "skip", "train__accumulate": 8}
    config = tiny_config(**changes, **NO_BATCH_NORM)
    run_training(config, {}, resume=False)
    assert len(log_of(tmp_path / "run", "train")) == 8


@pytest.mark.parametrize("first", [True, False])
def test_second_gradient_of_sam_is_checked_too(tiny_config: MakeConfig, tmp_path: Path, first: bool) -> None:
    trainer = make_trainer(tiny_config(optim__sam_rho=0.1), tmp_path)
    passes: list[int] = []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        return gradient * torch.inf if first == (len(passes) == 1) else gradient

    trainer.learner.model.fc.weight.register_hook(spoil)
    before = {k: v.clone() for k, v in trainer.learner.model.named_parameters()}
    with (
        trainer.open_batches() as batches,
        pytest.raises(InputError, match="the gradient is not finite in step 1, which is skipped"),
    ):
        trainer.take_step(batches, Window())
    assert len(passes) == (1 if first else 2)
    assert all(torch.equal(p, before[k]) for k, p in trainer.learner.model.named_parameters())


def test_half_precision_that_always_overflows(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_OVERFLOWS", 3)
    trainer = make_trainer(tiny_config(train__precision="fp16"), tmp_path)
    trainer.learner.model.fc.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(InputError, match="overflowed in 3 consecutive steps, the last of them 3, and"):
        trainer.train(Stop())


def test_linear_probing_trains_the_head_alone(tiny_config: MakeConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    trainer = make_trainer(tiny_config(), tmp_path)
    torch.save(trainer.learner.model.state_dict(), tmp_path / "a.pth")
    changes = {"model__freeze": True, "model__weights": str(tmp_path / "a.pth")}
    run_training(tiny_config(train__epochs=1, **changes), {}, resume=False)
    told = (tmp_path / "run" / "training.log").read_text()
    assert "a.pth: " in told
    assert "tensors loaded" in told
    found, before = weights_of(tmp_path / "run"), trainer.learner.model.state_dict()
    changed = {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_mixed_labels_weigh_as_the_pictures_do(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One piece; the gradient is that of the weighted sum of the two losses."""
    config = tiny_config(train__mixup=1.0, train__batch_size=8, **NO_BATCH_NORM)
    found = one_gradient(config, tmp_path)
    trainer = make_trainer(config, tmp_path)
    plan = epoch_plan(config, trainer.data.train.rows, 0, trainer.world)
    data, model = trainer.data.train, trainer.learner.model
    batch = next(iter(NativeLoader(data.images, trainer.record.preprocess, plan, threads=1)))
    images = torch.from_numpy(batch.images).permute(0, 3, 1, 2)
    mixed = mix(images, config.train, (config.train.seed, 0, 0, 0))
    assert mixed.own < 0.99
    logits = model(mixed.images)
    targets = torch.from_numpy(data.targets[batch.index])
    weights = torch.tensor([1.0, 1.0])  # 16 images of each class
    own, other = (
        functional.cross_entropy(logits, t, weight=weights, reduction="none") for t in (targets, targets.flip(0))
    )
    (mixed.own * own + (1 - mixed.own) * other).mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
