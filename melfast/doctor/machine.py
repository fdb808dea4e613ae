"""Probes of the machine: cores, memory, disk, folders, GPU, compiler."""

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from melfast.doctor.found import ProbeResult
from melfast.io.budget import available_memory

CPU_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "asimd", "sve")
LEAST_MEMORY_GIB = 2.0
LEAST_DISK_GIB = 2.0
NVIDIA_VENDOR = "0x10de"
GIB = 2**30


def cpu_info(path: Path) -> tuple[str, list[str]]:
    """Name of the processor and which CPU_FLAGS it has; empty if Linux does not say."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return os.uname().machine, []
    fields = [(key.strip().lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    name = next((value for key, value in fields if key == "model name"), os.uname().machine)
    words = next((value.split() for key, value in fields if key in ("flags", "features")), [])
    return name, [flag for flag in CPU_FLAGS if flag in words]


def system() -> ProbeResult:
    """Cores, memory and disk; a container may allow less than the machine has."""
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota(Path("/sys/fs/cgroup/cpu.max"))
    memory_gib = available_memory() / GIB
    disk_gib = shutil.disk_usage(Path.cwd()).free / GIB
    threads = os.environ.get("OMP_NUM_THREADS")
    text = (
        f"{cores} of {os.cpu_count()} cores, {memory_gib:.1f} GiB memory available, {disk_gib:.1f} GiB disk free here"
    )
    fix = None
    if quota is not None and quota < cores:
        text += f", CPU time of {quota:g} cores"
        fix = f"pass --threads {max(1, int(quota))} to melfast's commands, or give the container more CPU time"
    if threads is not None:
        text += f", OMP_NUM_THREADS={threads}"
    if memory_gib < LEAST_MEMORY_GIB:
        fix = f"free some memory: training needs at least {LEAST_MEMORY_GIB:g} GiB"
    if disk_gib < LEAST_DISK_GIB:
        fix = f"free some disk space, or work in another folder: a run needs {LEAST_DISK_GIB:g} GiB"
    facts = {
        "cores": cores,
        "cpu_quota": quota,
        "memory_gib": memory_gib,
        "disk_gib": disk_gib,
        "omp_num_threads": threads,
    }
    return ProbeResult(text, fix, facts)


def cpu_quota(path: Path) -> float | None:
    """Number of cores whose time a container may use; None: all."""
    try:
        allowed, period = path.read_text().split()
    except OSError:
        return None
    return None if allowed == "max" else int(allowed) / int(period)


def folders() -> ProbeResult:
    """Folders where melfast and its libraries write."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub"
    compiled = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parents[1] / "metrics")
    places = {
        "current folder": (Path.cwd(), "cd /a/writable/folder"),
        "temporary files": (Path(tempfile.gettempdir()), "export TMPDIR=/a/writable/folder"),
        "pretrained weights": (Path(os.environ.get("HF_HUB_CACHE") or hub), "export HF_HOME=/a/writable/folder"),
        "compiled statistics": (compiled if writable(compiled) else home, "export NUMBA_CACHE_DIR=/a/writable/folder"),
    }
    closed = [name for name, (path, _) in places.items() if not writable(path)]
    facts = {name: {"path": str(path), "writable": name not in closed} for name, (path, _) in places.items()}
    if not closed:
        return ProbeResult(f"can be written: {', '.join(places)}", facts=facts)
    text = ", ".join(f"{name} ({places[name][0]})" for name in closed)
    return ProbeResult(f"cannot be written: {text}", " && ".join(places[name][1] for name in closed), facts)


def writable(folder: Path) -> bool:
    """Whether a file can be created in it, or in its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def gpu() -> ProbeResult:
    """GPUs reported by the NVIDIA driver; needs no Python library."""
    if shutil.which("nvidia-smi") is None:
        if not nvidia_hardware():
            raise ModuleNotFoundError("no NVIDIA GPU here: everything runs on the CPU")
        raise RuntimeError("an NVIDIA GPU, but no driver (nvidia-smi)")
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join((done.stderr or done.stdout).split()) or "nvidia-smi failed")
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines()]
    keys = ("name", "driver", "memory", "memory_free")
    devices = [dict(zip(keys, row, strict=True)) for row in rows]
    if not devices:
        raise RuntimeError("nvidia-smi lists no GPU")
    text = "; ".join(f"{d['name']}, {d['memory_free']} of {d['memory']} free" for d in devices)
    return ProbeResult(f"{text}; driver {devices[0]['driver']}", facts={"devices": devices})


def nvidia_hardware(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether an NVIDIA display or 3D controller is on the bus, with or without a driver."""
    for device in devices.glob("*"):
        with suppress(OSError):
            if (device / "vendor").read_text().strip() == NVIDIA_VENDOR and (device / "class").read_text().startswith(
                "0x03"
            ):
                return True
    return Path("/proc/driver/nvidia/version").exists()


def compiler() -> ProbeResult:
    """The compiler, which torch.compile on the CPU and building melfast need."""
    path = shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")
    if path is None:
        raise ModuleNotFoundError("no C++ compiler")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    text = done.stdout.splitlines()[0]
    return ProbeResult(text, facts={"path": path, "version": text})
