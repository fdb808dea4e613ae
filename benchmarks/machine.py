"""Describe the environment of a measurement: commit, versions, hardware."""

import importlib.metadata
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from melfast import core
from melfast.data.loader import available_cores

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    *("melfast", "numpy", "simplejpeg", "pillow", "torch", "torchvision", "timm"),
    *("nvidia-dali-cuda130", "opencv-python-headless"),
    *("numba", "scikit-learn", "scipy"),
    *("onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt-cu13"),
]


def describe() -> dict[str, Any]:
    """One record for the JSON file."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "hardware": {
            "cpu": cpu_model(),
            "cores": available_cores(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": gpus(),
            "isa": core.isa(),
            # Not the load average, which still contains an earlier run.
            "busy_percent": psutil.cpu_percent(interval=1),
        },
    }


def commit() -> str | None:
    """The commit, with `+changes` if tracked files differ from it; None outside a repository."""
    try:
        head = git("rev-parse", "HEAD")
        return head + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpus() -> list[str]:
    """Names as reported by the driver; empty without a driver."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.stdout.strip().splitlines()
