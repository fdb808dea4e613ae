"""Runs the probes, each in its own process with a time limit, and judges the results."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from melfast.io.words import check_words

Status = Literal["ok", "gap", "absent", "broken"]

# The first import of a library from a slow disk takes long.
LIMIT_S = 180.0
# Marks the line of the probe among the output of libraries.
MARK = "melfast-doctor "

CHILD = f"""
import importlib, json, os, sys
from dataclasses import asdict
module, name = sys.argv[1:]
try:
    found = asdict(getattr(importlib.import_module(module), name)())
except ModuleNotFoundError as error:
    found = {{"status": "absent", "text": str(error)}}
except BaseException as error:
    found = {{"status": "broken", "text": f"{{type(error).__name__}}: {{error}}"}}
print("\\n{MARK}" + json.dumps(found), flush=True)
os._exit(0)  # some libraries crash or hang at exit only; that is not asked here
"""


@check_words
@dataclass(frozen=True)
class Probe:
    """A function of melfast.doctor.machine or .libraries.

    Attributes:
        what: its purpose, in a few words.
        fix: the command that installs or fixes it.
        needed: training and prediction on the CPU do not work without it.
    """

    module: Literal["machine", "libraries"]
    name: str
    what: str
    fix: str
    needed: bool = False


TORCH = "pip install --force-reinstall torch torchvision"
# Never by its bare name: melfast is not on a package index, and another package might take the name.
AGAIN = "pip install --force-reinstall --no-deps melfast-*.whl (in a clone: make clean setup)"
FIX = f"fix what is broken above, or {AGAIN}"
PROBES = (
    Probe("libraries", "core", "compiled core", AGAIN, True),
    Probe("machine", "system", "memory and disk", "see the message"),
    Probe("machine", "folders", "write permissions", "export TMPDIR=/a/writable/folder"),
    Probe("libraries", "packages", "versions", AGAIN, True),
    Probe("libraries", "images", "decoding", "pip install --force-reinstall simplejpeg pillow", True),
    Probe("libraries", "torch", "training", TORCH, True),
    Probe("libraries", "models", "backbones", f"{TORCH} timm", True),
    Probe("libraries", "onnxruntime", "prediction", "pip install --force-reinstall onnxruntime", True),
    Probe("libraries", "statistics", "evaluation", "pip install --force-reinstall numba fairlearn scikit-learn"),
    Probe("libraries", "plots", "curves, reports", "pip install --force-reinstall matplotlib", True),
    Probe(
        "machine",
        "gpu",
        "NVIDIA driver",
        "if there is an NVIDIA GPU, install its driver: https://www.nvidia.com/drivers",
    ),
    Probe("libraries", "dali", "loading with DALI", "pip install nvidia-dali-cuda130"),
    Probe(
        "libraries",
        "tensorrt",
        "prediction on a GPU",
        "pip install tensorrt-cu13 (or tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings)",
    ),
    Probe("machine", "compiler", "torch.compile", "sudo apt-get install g++"),
    Probe("libraries", "slurm", "melfast train --slurm", "pip install submitit"),
)
# What would be used; anything that keeps a command from starting shows here.
USES = (
    Probe("libraries", "train", "melfast train", FIX, True),
    Probe("libraries", "predict", "melfast predict", FIX, True),
)


@check_words
@dataclass(frozen=True)
class Finding:
    """The result of a probe.

    Attributes:
        status: `ok`; `gap`: works, but could be better; `absent`: not installed; `broken`: installed,
            but does not work.
        text: what was found; one line.
        fix: the command that fixes it; None if it is ok.
        needed: training and prediction on the CPU do not work without it.
        facts: the same in machine-readable form.
    """

    name: str
    what: str
    status: Status
    text: str
    fix: str | None
    needed: bool
    facts: dict[str, Any]

    @property
    def stops(self) -> bool:
        """Whether training or prediction on the CPU would not work."""
        return self.needed and self.status in ("absent", "broken")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(probes: tuple[Probe, ...] = PROBES + USES, *, limit_s: float = LIMIT_S) -> Iterator[Finding]:
    """Yields the findings in order; several probes run at the same time.

    Args:
        limit_s: time limit of one probe, seconds.
    """
    at_a_time = min(4, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(at_a_time) as pool:
        yield from pool.map(lambda probe: look(probe, limit_s=limit_s), probes)


def look(probe: Probe, *, limit_s: float = LIMIT_S) -> Finding:
    """Runs one probe in its own process."""
    said = run_probe(probe, limit_s=limit_s)
    text = " ".join(str(said["text"]).split())
    fix = said.get("fix")
    status: Status = said.get("status") or ("gap" if fix else "ok")
    if status in ("absent", "broken"):
        fix = probe.fix
        if "MELFAST_ISA" in text:
            fix = "unset MELFAST_ISA"
    facts = said.get("facts", {})
    return Finding(probe.name, probe.what, status, text, fix, probe.needed, facts)


def run_probe(probe: Probe, *, limit_s: float) -> dict[str, Any]:
    """The answer of the probe's process or, if it died, how it ended."""
    # The same modules as here, and not part of a distributed training.
    environment = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "RANK")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-P", "-c", CHILD, f"melfast.doctor.{probe.module}", probe.name]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        return {"status": "broken", "text": f"no answer in {limit_s:g} s"}
    except OSError as error:  # no memory for a process, or a Python that this user may not run
        return {"status": "broken", "text": f"cannot be tried: {error}"}
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if lines:
        said: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
        return said
    if done.returncode < 0:
        return {"status": "broken", "text": f"crashed: {signal.Signals(-done.returncode).name}"}
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"status": "broken", "text": f"ended with code {done.returncode}: {last}"}
