"""Train as a Slurm job: submitit submits it, and queues it again to resume from its checkpoint."""

import contextlib
import dataclasses
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Literal, Self

from melfast.config import loading as settings
from melfast.config.schema import Amount, Config, Positive
from melfast.io.errors import InputError
from melfast.io.files import OwnFolder
from melfast.io.schema import checked, refused
from melfast.models.checkpoint import has_checkpoint
from melfast.models.record import Count
from melfast.train.run import COMMAND, CONFIG, run_training
from melfast.train.stop import EXIT_CODE

# Below the ephemeral ports of Linux, so that no outgoing connection uses one of them.
PORTS = range(20000, 32768)
# Part of signal_delay_s for the checkpoint; the rest is for queueing.
GRACE = 2 / 3
LOCAL_SIGNAL_DELAY_S = 30  # of submitit's local executor, fixed
# With PreemptMode=REQUEUE, Slurm requeues a job that is still running when GraceTime ends, but not one
# that ended before. A cancelled job is killed after KillWait, usually 30 s.
SIGTERM_WAIT_S = 600.0


@checked()
class JobOptions:
    """Resources and options of a job.

    Attributes:
        cluster: `slurm`, or `local`: processes on this machine without Slurm, to try a job.
        nodes: machines.
        gpus_per_node: GPUs per machine.
        tasks_per_node: processes per machine; 0: one per GPU, at least one.
        cpus_per_task: cores per process, and its threads if the user has not set data.threads or
            train.threads; 0: the default of the cluster, often a single core.
        mem_gb: memory per machine; 0: the default of the cluster.
        timeout_min: time until the job is stopped and queued again.
        max_timeouts: how often it is queued again after a time-out; pre-emptions do not count.
        signal_delay_s: how long before the time-out it is told to write its checkpoint.
        name, partition, account, qos, constraint: as in sbatch.
        setup: shell command to run before the processes start.
        more: other options of sbatch, such as `{mail-type: END}`.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    nodes: Positive = 1
    gpus_per_node: Count = 0
    tasks_per_node: Count = 0
    cpus_per_task: Count = 0
    mem_gb: Amount = 0.0
    timeout_min: Positive = 720
    max_timeouts: Count = 100
    signal_delay_s: Positive = 90
    name: str = "melfast"
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    setup: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cluster == "slurm" and self.signal_delay_s >= 60 * self.timeout_min:
            limit = f"less than slurm.timeout_min, {60 * self.timeout_min} s"
            raise refused(limit, self.signal_delay_s, "signal_delay_s")
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if self.cluster == "local" and entry.name in SLURM_ONLY and value not in ({}, entry.default):
                raise refused("left out with cluster=local", value, entry.name)

    @property
    def processes_per_node(self) -> int:
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def grace_s(self) -> float:
        """How long a run may take to write its checkpoint once the job is told to end."""
        local = self.cluster == "local"
        return GRACE * (LOCAL_SIGNAL_DELAY_S if local else self.signal_delay_s)

    def parameters(self) -> dict[str, Any]:
        """The keywords of submitit's AutoExecutor.update_parameters."""
        found: dict[str, Any] = {
            "name": self.name,
            "nodes": self.nodes,
            "tasks_per_node": self.processes_per_node,
            "gpus_per_node": self.gpus_per_node or None,
            "mem_gb": self.mem_gb or None,
            "cpus_per_task": self.cpus_per_task or None,
            "timeout_min": self.timeout_min,
            f"{self.cluster}_setup": [self.setup] if self.setup else None,
        }
        if self.cluster == "slurm":
            found |= {f"slurm_{key}": getattr(self, key) or None for key in NAMED_ALIKE}
            # Without it some clusters do not let a job be queued again.
            found["slurm_additional_parameters"] = {"requeue": True} | self.more
            if self.cpus_per_task:  # srun has not taken it from sbatch since Slurm 22.05
                found["slurm_srun_args"] = [f"--cpus-per-task={self.cpus_per_task}"]
        return {key: value for key, value in found.items() if value is not None}


NAMED_ALIKE = ("partition", "account", "qos", "constraint", "signal_delay_s")
SLURM_ONLY = (*NAMED_ALIKE, "nodes", "cpus_per_task", "mem_gb", "more")


@checked()
class SlurmSection:
    slurm: JobOptions = field(default_factory=JobOptions)


def parse_options(texts: Iterable[str]) -> JobOptions:
    """Parses the arguments of --slurm, each KEY=VALUE."""
    hints = settings.key_types(SlurmSection)
    overrides = []
    for text in texts:
        name, equals, value = text.partition("=")
        key = f"slurm.{name.strip().replace('-', '_')}"
        if equals and hints.get(key) is str:  # account=0123 and constraint=[a|b] are text, not YAML
            overrides.append(settings.Override(key, value, "--slurm"))
        else:
            given = settings.parse_setting(text, "--slurm", "partition=gpu")
            overrides.append(settings.Override(key, given.value, "--slurm"))
    return settings.load(SlurmSection, None, overrides)[0].slurm


def find_submitit() -> ModuleType:
    try:
        import submitit
    except ModuleNotFoundError:
        raise InputError("submitit is not installed: pip install submitit") from None
    found: ModuleType = submitit
    return found


def submit_training(config: Config, sources: dict[str, str], options: JobOptions, *, resume: bool) -> Any:
    """Submits `run_training` with these arguments, and returns submitit's job.

    Scripts, logs and submitit's own files go to RUN/slurm.

    Raises:
        InputError: submitit is not installed, Slurm is missing or refuses the job, or the folder contains
            a run or a job and `resume` is False.
    """
    submitit = find_submitit()
    run = Path(config.output.dir)
    if not resume:
        require_unused(run)
    OwnFolder(run, COMMAND, known=has_checkpoint(run)).claim()
    config = with_threads(config, sources, options.cpus_per_task)
    limit = {f"{options.cluster}_max_num_timeout": options.max_timeouts}
    said = io.StringIO()  # submitit prints the error of sbatch and also raises it
    # A job submitted from within a job would use the variables of the outer one.
    with submitit.helpers.clean_env(), contextlib.redirect_stderr(said):
        try:
            executor = submitit.AutoExecutor(run / "slurm", cluster=options.cluster, **limit)
            executor.update_parameters(**options.parameters())
            return executor.submit(TrainJob(config, sources, resume, options.grace_s))
        except RuntimeError as error:  # including FailedJobError of submitit
            raise InputError(f"--slurm: {error}") from error


def with_threads(config: Config, sources: dict[str, str], cores: int) -> Config:
    """The config with one thread per core of a process, unless the user has set the threads."""
    own = str(Path(config.output.dir) / CONFIG)  # from an earlier job, perhaps with a different number of cores
    sections = {}
    for name in ("data", "train"):
        section = getattr(config, name)
        if cores and sources.get(f"{name}.threads", own) == own:
            section = dataclasses.replace(section, threads=cores)
        sections[name] = section
    return dataclasses.replace(config, **sections)


def require_unused(run: Path) -> None:
    """Raises InputError if a folder contains a run, or a job that may be about to start one."""
    if has_checkpoint(run):
        raise InputError(f"{run}: holds a run already; `resume=True` resumes it, or choose another `output.dir`")
    if jobs := sorted((run / "slurm").glob("*_submitted.pkl")):
        number = jobs[-1].name.partition("_")[0]
        raise InputError(
            f"{run}: job {number} has already been submitted for it; once it has ended, `resume=True` "
            "submits another, or choose another `output.dir`"
        )


@dataclass(frozen=True)
class TrainJob:
    """The function that every process of a job calls; submitit pickles it to queue it.

    Attributes:
        grace_s: how long the run may take to write its checkpoint once the job is told to end.
    """

    config: Config
    sources: dict[str, str]
    resume: bool
    grace_s: float

    def __call__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")  # to the log of the job
        place = find_submitit().JobEnvironment()
        os.environ.update(torchrun_variables(place))
        # Slurm itself restarts a job when a node fails.
        restarted = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        with contextlib.ExitStack() as stack:
            requeue = None
            if place.global_rank == 0:  # in the other processes submitit ignores its signal
                number = signal.Signals[f"SIG{place.USR_SIG}"]
                requeue = stack.enter_context(Requeue(number, self.grace_s))
            try:
                run_training(self.config, self.sources, resume=self.resume or restarted)
            except SystemExit as stop:
                if stop.code != EXIT_CODE:
                    raise
                if requeue is None:
                    sys.exit(0)  # with another exit code srun may kill all processes before the first one is done
                if requeue.wanted:
                    requeue.now()
                if place.cluster == "slurm":
                    time.sleep(SIGTERM_WAIT_S)
                raise

    def checkpoint(self) -> Any:
        """The job that submitit queues instead: the same, resuming."""
        return find_submitit().helpers.DelayedSubmission(dataclasses.replace(self, resume=True))


class Requeue:
    """In the block, the signal of submitit stops the run at a safe point.

    submitit would queue the job again in its signal handler, in the middle of a step. Instead, the signal is
    passed on as SIGTERM, on which the run saves and stops in all processes; then `now` calls the handler of
    submitit, at the latest after `grace_s`, with the last checkpoint.
    """

    def __init__(self, number: signal.Signals, grace_s: float) -> None:
        self.number, self.grace_s = number, grace_s
        self.wanted = False

    def __enter__(self) -> Self:
        self.before = signal.signal(self.number, self._want)
        self.alarm_before = signal.signal(signal.SIGALRM, lambda number, frame: self.now())
        return self

    def __exit__(self, *error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.alarm_before)
        signal.signal(self.number, self.before)

    def now(self) -> None:
        """Queues the job again and ends this process."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(self.number, self.before)
        signal.raise_signal(self.number)

    def _want(self, number: int, frame: FrameType | None) -> None:
        if not self.wanted:
            self.wanted = True
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)
            signal.raise_signal(signal.SIGTERM)


def torchrun_variables(place: Any) -> dict[str, str]:
    """The environment variables that torchrun would set in this process.

    Args:
        place: submitit's JobEnvironment.
    """
    alone = place.num_nodes == 1
    return {
        "MASTER_ADDR": "127.0.0.1" if alone else place.hostnames[0],
        "MASTER_PORT": str(PORTS[int(place.raw_job_id) % len(PORTS)]),
        "RANK": str(place.global_rank),
        "WORLD_SIZE": str(place.num_tasks),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.num_tasks // place.num_nodes),
    }
