"""melfast train, from the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from click.testing import CliRunner, Result

from melfast.cli import main
from melfast.config.schema import load_config
from melfast.models.checkpoint import find_checkpoint, has_checkpoint

TINY = """
preprocess: {height: 24, width: 32}
model: {backbone: resnet10t, backbone_options: {channels: [4, 4, 8, 8], stem_width: 4}}
optim: {lr: 1e-2}
train: {epochs: 2, batch_size: 8, threads: 1, log_every: 1}
data: {threads: 1}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def train(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def melfast(*arguments: object, folder: Path, **more: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "melfast", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **more)


def test_help_ends_with_examples() -> None:
    found = train("--help")
    assert found.exit_code == 0
    assert "melfast train --config configs/quickstart.yaml --data-path data" in found.output


def test_print_config_loads_and_prints_the_same(config: Path, tmp_path: Path) -> None:
    printed = train("--config", config, "--lr", "1e-4", "--print-config").output
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(printed)
    assert load_config(resolved)[0].optim.lr == 1e-4
    assert train("--config", resolved, "--print-config").output == printed
    assert yaml.safe_load(printed)["output"]["dir"] == "runs/tiny"


def test_every_shorthand(config: Path) -> None:
    printed = train(
        "--config",
        config,
        "--data-path",
        "d",
        "--output_dir",
        "o",
        "--model",
        "m",
        "--epochs",
        3,
        "--batch-size",
        6,
        "--lr",
        0.5,
        "--seed",
        7,
        "--device",
        "cpu",
        "--precision",
        "bf16",
        "--num-workers",
        2,
        "--on-error",
        "skip",
        "--input-size",
        "40x30",
        "--print-config",
        "--set",
        "loss.label_smoothing=0.25",
        "--set",
        "optim.betas=[0.5, 0.75]",
    ).output
    found = yaml.safe_load(printed)
    assert found["data"]["path"] == "d"
    assert found["output"]["dir"] == "o"
    assert found["model"]["backbone"] == "m"
    train_ = found["train"]
    assert (train_["epochs"], train_["batch_size"], train_["seed"]) == (3, 6, 7)
    assert (train_["device"], train_["precision"]) == ("cpu", "bf16")
    assert (found["data"]["threads"], found["data"]["on_error"]) == (2, "skip")
    assert (found["preprocess"]["width"], found["preprocess"]["height"]) == (40, 30)
    assert (found["optim"]["lr"], found["optim"]["betas"]) == (0.5, [0.5, 0.75])
    assert found["loss"]["label_smoothing"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "optim.lrr=1"], "--set: optim.lrr: unknown key, did you mean 'optim.lr'?"),
        (["--device", "gpu"], "--device: train.device must be 'auto', 'cpu' or 'cuda', got 'gpu'"),
        (["--lr", "-1"], "--lr: optim.lr must be > 0, got -1.0"),
        (["--input-size", "3x4x5"], "'3x4x5': expected WIDTHxHEIGHT as 128x96, or one number"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file or directory"),
        ([], "data.path is empty; expected a manifest or a data set: --data-path PATH"),
    ],
)
def test_errors(arguments: list[str], message: str, tmp_path: Path) -> None:
    found = train("--output-dir", tmp_path / "run", *arguments)
    assert found.exit_code != 0
    assert message in f"{found.output}{found.exception}"


def test_error_is_one_line_on_stderr(config: Path, tmp_path: Path) -> None:
    config.write_text("optim: {lrr: 1}")
    process = melfast("train", "--config", "tiny.yaml", folder=tmp_path)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 1
    assert error == ("melfast: error: tiny.yaml: optim.lrr: unknown key, did you mean 'optim.lr'?\n")


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = safetensors.torch.load_file(find_checkpoint(run, "last") / "model.safetensors")
    return found


def test_resuming_what_is_no_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = train("--output-dir", "runs/third", "--resume")
    assert done.exit_code == 1
    message = "runs/third: holds no run to resume; expected --config to start one"
    assert str(done.exception) == message
    assert not (tmp_path / "runs").exists()


def test_killed_and_resumed(config: Path, tiny_data: Path, tmp_path: Path) -> None:
    long = ["--epochs", 40, "--data-path", tiny_data]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = melfast("train", "--config", config, *long, "--output-dir", killed, folder=tmp_path)
    deadline = time.monotonic() + 100
    while not has_checkpoint(killed):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # Nothing but --resume: config and data are the run's own.
    process = melfast("train", "--resume", "--output-dir", killed, folder=tmp_path)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0
    assert re.search(r"^resuming from epoch-0\d\d, step \d+$", said, re.MULTILINE), said

    assert train("--config", config, *long, "--output-dir", whole).exit_code == 0
    expected, found = weights(whole), weights(killed)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def losses_of(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


def test_sigterm_saves_and_the_run_goes_on_as_if_nothing_had_been(
    config: Path, tiny_data: Path, tmp_path: Path
) -> None:
    options = ("train", "--config", config, "--data-path", tiny_data, "--epochs", 6, "--set", "train.ema=0.9")
    whole = melfast(*options, "--output-dir", "whole", folder=tmp_path)
    ended = melfast(*options, "--output-dir", "ended", folder=tmp_path)
    log = tmp_path / "ended" / "log.jsonl"
    while ended.poll() is None and not (log.is_file() and log.read_text().count("\n") >= 2):
        time.sleep(0.05)
    ended.send_signal(signal.SIGTERM)
    _, errors = ended.communicate(timeout=120)
    assert ended.returncode == 143
    assert re.search(r"stopped by SIGTERM after step \d+; .* holds it, and --resume", errors)
    before = losses_of(tmp_path / "ended")
    assert 1 <= len(before) < 24
    again = melfast("train", "--output-dir", "ended", "--resume", folder=tmp_path)
    for process in (again, whole):
        process.communicate(timeout=200)
        assert process.returncode == 0
    assert losses_of(tmp_path / "ended") == losses_of(tmp_path / "whole")
    found, wanted = (
        safetensors.torch.load_file(find_checkpoint(tmp_path / name, "last") / "model.safetensors")
        for name in ("ended", "whole")
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
