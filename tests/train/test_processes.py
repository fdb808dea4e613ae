"""Several processes: the same curve on any number of them, and what becomes of a dead one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from melfast.config.schema import Config
from melfast.models.checkpoint import find_checkpoint
from melfast.train.run import run_training

MakeConfig = Callable[..., Config]
# Without batch norm, whose statistics are those of a process, and without dropout.
SAME_ANYWHERE = {
    "model__backbone": "test_convnext",
    "model__backbone_options": {},
    "preprocess__height": 32,
    "train__epochs": 1,
}
METHODS = {
    "plain": {"loss__weights": "ifw_class", "optim__sam_rho": 0.05},
    "recall_ce": {"loss__name": "recall_ce", "model__head": "domain_independent", "loss__recall_momentum": 0.5},
    "group_dro": {
        "loss__name": "group_dro",
        "loss__dro_rate": 0.5,
        "train__ema": 0.9,
        "model__head": "domain_discriminative",
        "loss__label_smoothing": 0.1,
    },
}

CURVES = """
import json, sys
from pathlib import Path
import torch
from melfast.config.schema import load_config
from melfast.data.manifest import read_manifest
from melfast.train.cells import count_cells
from melfast.models.checkpoint import State
from melfast.train.data import training_data
from melfast.distributed import start_world
from melfast.train.learner import build_learner, new_record
from melfast.train.logging import SilentLog
from melfast.train.loop import Trainer

class Curve(SilentLog):
    def record(self, kind, step, epoch, values):
        curve.append(values["loss"] if kind == "train" else values["auc"])

torch.set_num_threads(1)
curves = {}
with start_world("cpu") as world:
    for file in sys.argv[2:]:
        config = load_config(Path(file))[0]
        data = training_data(read_manifest(config.data.path))
        cells = count_cells(config, data.train.rows, len(data.group_names))
        record = new_record(config, data, cells)
        learner = build_learner(config, record, world, cells)
        curve = curves[file] = []
        Trainer(config, data, Path("."), world, record, learner, State(), Curve()).train_epoch()
    if world.first:
        Path(sys.argv[1]).write_text(json.dumps(curves))
"""


def torchrun(folder: Path, size: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), *words]
    return subprocess.run(command, cwd=folder, timeout=200, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_same_curve_on_one_two_and_four_processes(tiny_config: MakeConfig, tmp_path: Path) -> None:
    files = []
    for name, changes in METHODS.items():
        files.append(f"{name}.yaml")
        config = tiny_config(**SAME_ANYWHERE, **changes)
        (tmp_path / files[-1]).write_text(config.to_yaml())
    (tmp_path / "curves.py").write_text(CURVES)
    for size in (1, 2, 4):
        done = torchrun(tmp_path, size, "curves.py", f"on{size}.json", *files)
        assert done.returncode == 0, done.stderr
    one, two, four = (json.loads((tmp_path / f"on{size}.json").read_text()) for size in (1, 2, 4))
    for name in files:
        assert len(one[name]) == 4
        assert max(one[name]) - min(one[name]) > 0.01  # it moves
        assert two[name] == pytest.approx(one[name], rel=1e-5)
        assert four[name] == pytest.approx(one[name], rel=1e-5)


DIES_ONCE = """
import logging, os, signal, sys
from pathlib import Path
import torch
from melfast.config.schema import load_config
from melfast.train import loop
from melfast.train.run import run_training

step = loop.seed_step
first_time = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

def die(seed, at, rank):
    if first_time and (at, rank) == (6, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    step(seed, at, rank)

loop.seed_step = die
logging.basicConfig(level=logging.INFO)
torch.set_num_threads(1)
run_training(load_config(Path(sys.argv[1]))[0], {}, going_on=False)
"""


def test_a_process_dies_and_torchrun_starts_all_again(tiny_config: MakeConfig, tmp_path: Path) -> None:
    """From the last checkpoint; in the end all is as if nothing had happened."""
    for name in ("died", "whole"):
        config = tiny_config(output__dir=str(tmp_path / name), train__checkpoint_minutes=1e-9)
        (tmp_path / f"{name}.yaml").write_text(config.to_yaml())
    (tmp_path / "dies.py").write_text(DIES_ONCE)
    done = torchrun(tmp_path, 2, "--max-restarts", "1", "dies.py", "died.yaml")
    assert done.returncode == 0, done.stderr
    assert "resuming from epoch-001-step-000002, step 6" in done.stderr
    done = torchrun(tmp_path, 2, "-m", "melfast", "train", "--config", "whole.yaml")
    assert done.returncode == 0, done.stderr
    expected, found = (
        (find_checkpoint(tmp_path / name, "last") / "model.safetensors").read_bytes() for name in ("whole", "died")
    )
    assert found == expected


def test_a_dead_process_ends_the_run(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(train__checkpoint_minutes=1e-9)
    (tmp_path / "died.yaml").write_text(config.to_yaml())
    (tmp_path / "dies.py").write_text(DIES_ONCE)
    done = torchrun(tmp_path, 2, "dies.py", "died.yaml")
    assert done.returncode == 1
    assert "InputError: another process of the run has ended, so this one cannot go" in done.stderr
    assert "stopped by InputError: another" in (tmp_path / "run" / "training.log").read_text()
    run_training(config, {}, going_on=True)
    assert find_checkpoint(tmp_path / "run", "last").name == "epoch-002"


def test_restarts_do_not_go_on_with_a_run_of_before(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(train__epochs=1)
    run_training(config, {}, going_on=False)
    before = find_checkpoint(tmp_path / "run", "last").stat()
    (tmp_path / "config.yaml").write_text(tiny_config(train__epochs=2).to_yaml())
    done = torchrun(tmp_path, 2, "--max-restarts", "1", "-m", "melfast", "train", "--config", "config.yaml")
    assert done.returncode == 1
    assert done.stderr.count("holds a run already; --resume resumes it") == 2
    assert find_checkpoint(tmp_path / "run", "last").stat() == before


def test_a_loss_that_is_not_finite_stops_all(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(optim__lr=1e30, optim__clip_norm=0.0, optim__warmup=0.0)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    done = torchrun(tmp_path, 2, "-m", "melfast", "train", "--config", "config.yaml")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("melfast: ")]
    assert len(said) == 1
    assert said[0].startswith("melfast: error: the loss is nan in step 2, which is not taken, for ")
