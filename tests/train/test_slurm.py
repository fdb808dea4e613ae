"""Jobs: requested resources, variables of each process, and pre-emption, with submitit's local
executor and with a Slurm that is four small scripts."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
import safetensors.torch
import submitit
import torch
from click.testing import CliRunner

from melfast.cli import main
from melfast.config.schema import Config
from melfast.io.errors import InputError
from melfast.models.checkpoint import find_checkpoint, has_checkpoint, load_state
from melfast.train import slurm
from melfast.train.run import run_training
from melfast.train.slurm import (
    PORTS,
    JobOptions,
    Requeue,
    TrainJob,
    parse_options,
    submit_training,
    torchrun_variables,
    with_threads,
)

MakeConfig = Callable[..., Config]
LOCAL = JobOptions(cluster="local", tasks_per_node=2, timeout_min=60)


@pytest.fixture(autouse=True)
def no_job_is_left() -> Iterator[None]:
    """Ends what a failed test has left."""
    yield
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "submitit" in " ".join(child.cmdline()):
                child.kill()


def test_options() -> None:
    assert parse_options([]) == JobOptions()
    found = parse_options(
        [
            "partition=gpu",
            "nodes=2",
            "gpus-per-node=8",
            "account=0123",
            "constraint=[a|b]",
            "mem_gb=64",
            "more={mail-type: END}",
            "nodes=3",
        ]
    )
    assert found == JobOptions(
        partition="gpu",
        nodes=3,
        gpus_per_node=8,
        account="0123",
        constraint="[a|b]",
        mem_gb=64.0,
        more={"mail-type": "END"},
    )
    assert (found.processes_per_node, found.grace_s) == (8, 60.0)
    assert (LOCAL.processes_per_node, LOCAL.grace_s) == (2, 20.0)
    assert JobOptions().processes_per_node == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition", "--slurm partition: expected KEY=VALUE, as in --slurm partition=gpu"),
        ("partitoin=gpu", "--slurm: slurm.partitoin: unknown key, did you mean 'slurm.partition'?"),
        ("nodes=two", "--slurm: slurm.nodes must be a whole number, got 'two'"),
        ("nodes=0", "--slurm: slurm.nodes must be >= 1, got 0"),
        ("mem_gb=-1", "--slurm: slurm.mem_gb must be >= 0, got -1"),
        ("more={", "--slurm more={: the value is not YAML: "),
        ("timeout_min=1", "slurm.signal_delay_s must be less than slurm.timeout_min, 60 s, got 90"),
        ("cluster=lokal", "slurm.cluster must be 'slurm' or 'local', got 'lokal'"),
    ],
)
def test_options_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_options([text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition=gpu", "slurm.partition must be left out with cluster=local, got 'gpu'"),
        ("more={mail-type: END}", "slurm.more must be left out with cluster=local, got "),
        ("nodes=2", "slurm.nodes must be left out with cluster=local, got 2"),
    ],
)
def test_options_that_need_slurm(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_options(["cluster=local", text])


def test_without_submitit(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError) as caught:
        submit_training(tiny_config(), {}, LOCAL, resume=False)
    assert str(caught.value) == "submitit is not installed: pip install submitit"


def test_without_slurm(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r'^--slurm: Could not detect "srun"'):
        submit_training(tiny_config(), {}, JobOptions(), resume=False)


def test_a_run_or_a_job_is_there_already(tiny_config: MakeConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_training(tiny_config(train__epochs=1), {}, resume=False)
    with pytest.raises(InputError, match=rf"^{run}: holds a run already; `resume=True` resumes it"):
        submit_training(tiny_config(), {}, LOCAL, resume=False)
    (tmp_path / "other" / "slurm").mkdir(parents=True)
    (tmp_path / "other" / "slurm" / "17_submitted.pkl").touch()
    other = tiny_config(output__dir=str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"other: job 17 has already been submitted for it; once it"):
        submit_training(other, {}, LOCAL, resume=False)


SLURM = {
    "SUBMITIT_EXECUTOR": "slurm",
    "SLURM_JOB_ID": "32769",
    "SLURM_NTASKS": "8",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_torchruns_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    expected = {
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": "27233",
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
    }
    assert 32769 % len(PORTS) == 27233 - PORTS[0]
    assert torchrun_variables(submitit.JobEnvironment()) == expected
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    alone = {"MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": "8"}
    assert torchrun_variables(submitit.JobEnvironment()) == expected | alone


class Queued(BaseException):
    """Simulates submitit's handler, which ends the process."""


@contextlib.contextmanager
def inside_job(work: Callable[..., None], **variables: str) -> Iterator[TrainJob]:
    """A job of one process, whose training is `work`, as submitit calls it."""

    def queue(*_: object) -> None:
        raise Queued

    before = signal.signal(signal.SIGUSR2, queue), signal.signal(signal.SIGTERM, lambda *_: None)
    environment = SLURM | {"SLURM_PROCID": "0"} | variables
    try:
        with mock.patch.dict(os.environ, environment), mock.patch.object(slurm, "run_training", work):
            yield TrainJob(Config(), {}, resume=False, grace_s=0.1)
        assert signal.getsignal(signal.SIGUSR2) is queue
    finally:
        signal.signal(signal.SIGUSR2, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_submitits_signal_waits_for_the_run_to_stop() -> None:
    seen = []

    def work(*_: object, **__: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: seen.append("told"))
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR2)  # once more changes nothing
        seen.append("saved")
        sys.exit(143)

    with inside_job(work) as job, pytest.raises(Queued):
        job()
    assert seen == ["told", "saved"]


def test_a_run_that_does_not_stop_in_time_is_queued_from_the_checkpoint_it_has() -> None:
    def work(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGUSR2)
        time.sleep(100)

    with inside_job(work) as job, pytest.raises(Queued):
        job()


def test_a_run_that_ends_before_it_stops_is_done() -> None:
    with inside_job(lambda *_, **__: signal.raise_signal(signal.SIGUSR2)) as job:
        job()
    time.sleep(0.2)  # the time of grace is over, and nothing happens


def test_the_other_processes_leave_the_signal_to_submitit() -> None:
    def work(*_: object, **__: object) -> None:
        with pytest.raises(Queued):
            signal.raise_signal(signal.SIGUSR2)
        sys.exit(143)

    with inside_job(work, SLURM_PROCID="5") as job, pytest.raises(SystemExit) as caught:
        job()
    assert caught.value.code == 0


def test_sigterm_alone_does_not_queue_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with inside_job(lambda *_, **__: sys.exit(143)) as job, pytest.raises(SystemExit) as caught:
        job()
    assert (caught.value.code, waits) == (143, [600.0])  # Slurm may queue it, or kill it


def test_another_end_is_its_own() -> None:
    with inside_job(lambda *_, **__: sys.exit(1)) as job, pytest.raises(SystemExit) as caught:
        job()
    assert caught.value.code == 1


def test_goes_on_when_slurm_itself_starts_it_again() -> None:
    asked = []
    for count in ("0", "1"):
        with inside_job(lambda *_, resume: asked.append(resume), SLURM_RESTART_COUNT=count) as job:
            job()
    assert asked == [False, True]
    assert job.checkpoint().function == TrainJob(Config(), {}, resume=True, grace_s=0.1)


def test_requeue_puts_the_handlers_back() -> None:
    alarm, user = signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGUSR2)
    with Requeue(signal.SIGUSR2, 1.0):
        assert signal.getsignal(signal.SIGUSR2) != user
    assert (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGUSR2)) == (alarm, user)


SRUN = f"""#!{sys.executable}
import os, subprocess, sys
words, paths = sys.argv[1:], {{}}
while words[0].startswith("-"):
    flag = words.pop(0)
    if flag in ("--output", "--error"):
        paths[flag] = words.pop(0).replace("%j", os.environ["SLURM_JOB_ID"])
total, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_JOB_NUM_NODES"])
tasks = []
for rank in range(total):
    node, local = divmod(rank, total // nodes)
    place = {{"SLURM_PROCID": rank, "SLURM_LOCALID": local, "SLURM_NODEID": node}}
    out, err = (open(path.replace("%t", str(rank)), "a") for path in paths.values())
    env = os.environ | {{key: str(value) for key, value in place.items()}}
    tasks.append(subprocess.Popen(words, env=env, stdout=out, stderr=err))
sys.exit(max(abs(task.wait()) for task in tasks))
"""


@pytest.fixture
def slurm_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the head of PATH with Slurm's commands: sbatch keeps the script, scontrol notes
    what it is asked, srun starts the tasks."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "srun": SRUN,
        "sbatch": f'#!/bin/sh\ncp "$1" {folder}/script; echo "Submitted batch job 32769"\n',
        "scontrol": f'#!/bin/sh\necho "$@" >> {folder}/asked\n',
    }
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_script(tiny_config: MakeConfig, tmp_path: Path, slurm_bin: Path) -> None:
    options = parse_options(
        [
            "partition=gpu",
            "nodes=2",
            "gpus_per_node=4",
            "cpus_per_task=12",
            "timeout_min=90",
            "setup=module load cuda",
            "more={mail-type: END}",
            "signal_delay_s=300",
            "mem_gb=64",
        ]
    )
    job = submit_training(tiny_config(), {}, options, resume=False)
    assert (job.job_id, job.num_tasks) == ("32769", 8)
    lines = (slurm_bin / "script").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert asked >= {
        "partition=gpu",
        "nodes=2",
        "ntasks-per-node=4",
        "gpus-per-node=4",
        "cpus-per-task=12",
        "mem=64GB",
        "time=90",
        "signal=USR2@300",
        "mail-type=END",
        "job-name=melfast",
        "open-mode=append",
        "requeue",
    }
    assert not any(line.startswith(("account", "qos", "constraint")) for line in asked)
    assert lines.index("module load cuda") < lines.index("export SUBMITIT_EXECUTOR=slurm")
    (command,) = [line for line in lines if line.startswith("srun ")]
    assert " --cpus-per-task=12 " in command
    assert job.submission().function.grace_s == 200


def test_threads_are_the_cores_asked_for(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config, own = tiny_config(data__threads=2), f"{tmp_path}/run/config.yaml"

    def threads(sources: dict[str, str], cores: int) -> tuple[int, int]:
        found = with_threads(config, sources, cores)
        return found.data.threads, found.train.threads

    assert threads({}, 12) == (12, 12)
    assert threads({"data.threads": "--threads"}, 12) == (2, 12)
    assert threads({"data.threads": own, "train.threads": own}, 12) == (12, 12)
    assert threads({}, 0) == (2, 1)


def test_refused_by_sbatch(tiny_config: MakeConfig, slurm_bin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "sbatch: error: invalid partition specified: gpo"
    (slurm_bin / "sbatch").write_text(f'#!/bin/sh\necho "{said}" >&2; exit 1\n')
    with pytest.raises(InputError) as caught:
        submit_training(tiny_config(), {}, JobOptions(partition="gpo"), resume=False)
    assert str(caught.value) == f"--slurm: {said}"
    assert capsys.readouterr().err == ""


def test_command_says_where_to_look(tiny_config: MakeConfig, tmp_path: Path, slurm_bin: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny_config().to_yaml())
    found = CliRunner().invoke(
        main,
        ["train", "--config", str(tmp_path / "tiny.yaml"), "--slurm", "nodes=2", "--slurm", "gpus_per_node=8"],
        catch_exceptions=False,
    )
    assert found.output == (f"job 32769: 2 x 8 processes, log {tmp_path}/run/slurm/32769_0_log.err\n")


class LocalMachine:
    """Submits to submitit's local executor."""

    options = LOCAL

    def start(self, config: Config) -> None:
        self.job = submit_training(config, {}, self.options, resume=False)
        self.pid = int(self.job.job_id)

    def wait(self) -> str:
        """What submitit's log of the first process says at the end of the job."""
        self.job.task(0).wait()
        return (self.job.paths.stdout).read_text()


class FakeSlurm:
    """Plays slurmctld: runs the script that sbatch got, and again when scontrol has asked."""

    options = JobOptions(nodes=2, cpus_per_task=1)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, config: Config) -> None:
        self.job = submit_training(config, {}, self.options, resume=False)
        self.run_script(restarts=0)

    def run_script(self, restarts: int) -> None:
        place = {
            "SLURM_JOB_ID": "32769",
            "SLURM_NTASKS": "2",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_NODELIST": "localhost,other",
            "SLURM_RESTART_COUNT": str(restarts),
        }
        self.process = subprocess.Popen(["bash", self.folder / "script"], env=os.environ | place)
        self.pid = self.process.pid

    def wait(self) -> str:
        self.process.wait(timeout=200)
        assert (self.folder / "asked").read_text() == "requeue 32769\n"
        self.run_script(restarts=1)
        assert self.process.wait(timeout=200) == 0
        return self.job.paths.stdout.read_text()


def tell_tasks(pid: int, number: signal.Signals) -> None:
    """A signal to every process of a job, whose first process is `pid`."""
    word = "submitit.core._submit"
    children = psutil.Process(pid).children(recursive=True)
    tasks = [child for child in children if child.cmdline()[2:4] == ["-m", word]]
    assert len(tasks) == 2
    for task in tasks:
        task.send_signal(number)


def wait_for_steps(run: Path, steps: int) -> None:
    deadline = time.monotonic() + 200
    log = run / "log.jsonl"
    while not (log.is_file() and log.read_text().count("\n") >= steps):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def losses_of(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = safetensors.torch.load_file(find_checkpoint(run, "last") / "model.safetensors")
    return found


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_preempted_and_queued_again_as_if_nothing_had_been(
    tiny_config: MakeConfig, tmp_path: Path, cluster: str, request: pytest.FixtureRequest
) -> None:
    config = tiny_config(train__epochs=8, train__ema=0.9, train__device="cpu")
    (tmp_path / "tiny.yaml").write_text(config.to_yaml())
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "melfast",
        "train",
        "--config",
        "tiny.yaml",
        "--output-dir",
        "whole",
    ]
    whole = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    machine: Any = LocalMachine() if cluster == "local" else FakeSlurm(request.getfixturevalue("slurm_bin"))
    machine.start(config)
    run = tmp_path / "run"
    wait_for_steps(run, 5)
    tell_tasks(machine.pid, signal.SIGUSR2)
    said = machine.wait()
    assert said.count("Requeued job") == 1
    assert said.count("Job completed successfully") == 1
    log = (run / "training.log").read_text()
    (stopped,) = re.findall(r"stopped by SIGTERM after step (\d+)", log)
    assert re.findall(r"resuming from \S+, step (\d+)", log) == [stopped]
    assert 4 <= int(stopped) < 32
    assert whole.wait(timeout=200) == 0
    assert losses_of(run) == losses_of(tmp_path / "whole")
    assert len(losses_of(run)) == 32
    found, wanted = weights(run), weights(tmp_path / "whole")
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_out_of_time_too_often(tiny_config: MakeConfig, tmp_path: Path) -> None:
    # So near its end every signal is a time-out, to submitit.
    options = JobOptions(cluster="local", timeout_min=2, max_timeouts=0)
    config = tiny_config(train__epochs=200)
    job = submit_training(config, {}, options, resume=False)
    run = tmp_path / "run"
    wait_for_steps(run, 2)
    for child in psutil.Process(int(job.job_id)).children():
        child.send_signal(signal.SIGUSR2)
    assert "Job not requeued because: timed-out too many times." in str(job.exception())
    state = load_state(find_checkpoint(run, "last"))
    assert losses_of(run)[-1][0] == state.step  # nothing is lost: --resume submits another job
    assert 1 <= state.step < 800


def test_sigterm_ends_a_local_job(tiny_config: MakeConfig, tmp_path: Path) -> None:
    job = submit_training(tiny_config(train__epochs=200), {}, LOCAL, resume=False)
    wait_for_steps(tmp_path / "run", 2)
    os.kill(int(job.job_id), signal.SIGTERM)
    job.task(0).wait()
    assert has_checkpoint(tmp_path / "run")
    assert "Requeued" not in job.stdout()
    assert not job.task(0).paths.result_pickle.exists()


def test_a_bad_input_is_in_the_log(tiny_config: MakeConfig, tmp_path: Path) -> None:
    job = submit_training(tiny_config(data__path="nowhere"), {}, LOCAL, resume=False)
    job.wait()
    assert "melfast.io.errors.InputError: " in job.task(0).stderr()
