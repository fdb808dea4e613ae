"""What Linux reports about a machine, from files with known content."""

import math
import shutil
import subprocess
from pathlib import Path

import pytest

from melfast.doctor import machine
from melfast.doctor.machine import available_memory, cpu_info, cpu_quota, nvidia_hardware, writable


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_cpu_info(tmp_path):
    x86 = write(tmp_path / "x86", "processor : 0\nmodel name : A: B\nflags : fpu avx2x fma avx2\n")
    assert cpu_info(x86) == ("A: B", ["avx2", "fma"])
    arm = write(tmp_path / "arm", "processor\t: 0\nFeatures\t: fp asimd sve\n")
    assert cpu_info(arm)[1] == ["asimd", "sve"]
    assert cpu_info(tmp_path / "none")[1] == []


def test_cpu_quota(tmp_path):
    assert cpu_quota(write(tmp_path / "half", "150000 100000\n")) == 1.5
    assert cpu_quota(write(tmp_path / "all", "max 100000\n")) is None
    assert cpu_quota(tmp_path / "none") is None


def test_available_memory_is_the_least_of_machine_and_container(tmp_path):
    meminfo = write(tmp_path / "meminfo", "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    group = tmp_path / "group"
    assert available_memory(meminfo, group) == 5000 * 1024
    write(group / "memory.max", "max\n")
    assert available_memory(meminfo, group) == 5000 * 1024
    write(group / "memory.max", "1000000\n")
    write(group / "memory.current", "400000\n")
    assert available_memory(meminfo, group) == 600_000
    write(group / "memory.stat", "anon 100\ninactive_anon 7\ninactive_file 300000\nactive_file 9\n")
    assert available_memory(meminfo, group) == 900_000  # a cache of images is not a problem
    write(group / "memory.stat", "inactive_file 500000\n")  # read later than memory.current
    assert available_memory(meminfo, group) == 1_000_000
    write(group / "memory.stat", "anon 100\n")
    assert available_memory(meminfo, group) == 600_000
    assert math.isnan(available_memory(tmp_path / "none", tmp_path / "no group"))


def test_a_quota_is_a_gap(monkeypatch):
    monkeypatch.setattr(machine, "cpu_quota", lambda path: 0.5)
    found = machine.system()
    assert found.text.count("CPU time of 0.5 cores") == 1
    assert found.fix == "pass --threads 1 to melfast's commands, or give the container more CPU time"


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("LEAST_MEMORY_GIB", 1e9, "free some memory: training needs at least 1e+09 GiB"),
        ("LEAST_DISK_GIB", 1e9, "free some disk space, or work in another folder: a run needs 1e+09 GiB"),
    ],
)
def test_too_little_is_a_gap(monkeypatch, name, value, fix):
    monkeypatch.setattr(machine, name, value)
    assert machine.system().fix == fix


def test_writable(tmp_path):
    file = write(tmp_path / "file", "")
    assert writable(tmp_path)
    assert writable(tmp_path / "not" / "yet")
    assert not (tmp_path / "not").exists()
    assert not writable(file / "below")
    assert list(tmp_path.iterdir()) == [file]


def test_compiled_statistics_may_lie_in_the_package_or_in_the_cache(tmp_path, monkeypatch):
    blocked = write(tmp_path / "file", "") / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocked))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.folders().facts["compiled statistics"] == {"path": str(tmp_path), "writable": True}
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    fix = "export HF_HOME=/a/writable/folder && export NUMBA_CACHE_DIR=/a/writable/folder"
    assert machine.folders().fix == fix


def test_nvidia_hardware(tmp_path):
    write(tmp_path / "0" / "vendor", "0x8086\n")
    write(tmp_path / "0" / "class", "0x030000\n")
    write(tmp_path / "1" / "vendor", "0x10de\n")
    write(tmp_path / "1" / "class", "0x040300\n")  # its sound
    driver = Path("/proc/driver/nvidia/version").exists()
    assert nvidia_hardware(tmp_path) == driver
    write(tmp_path / "1" / "class", "0x030200\n")
    assert nvidia_hardware(tmp_path)


def fake_nvidia_smi(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str = "") -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    done = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)


def test_gpu_of_a_driver(monkeypatch):
    fake_nvidia_smi(monkeypatch, 0, "NVIDIA H100 80GB HBM3, 580.95.05, 81559 MiB, 80995 MiB\n" * 2)
    card = "NVIDIA H100 80GB HBM3, 80995 MiB of 81559 MiB free"
    assert machine.gpu().text == f"{card}; {card}; driver 580.95.05"
    assert machine.gpu().facts["devices"][1]["memory"] == "81559 MiB"


def test_gpu_of_a_driver_that_fails(monkeypatch):
    fake_nvidia_smi(monkeypatch, 9, "NVIDIA-SMI has failed because\nit could not\n")
    with pytest.raises(RuntimeError, match=r"^NVIDIA-SMI has failed because it could not$"):
        machine.gpu()
    fake_nvidia_smi(monkeypatch, 0, "")
    with pytest.raises(RuntimeError, match=r"^nvidia-smi lists no GPU$"):
        machine.gpu()


def test_gpu_without_a_driver(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "nvidia_hardware", lambda: True)
    with pytest.raises(RuntimeError, match=r"^an NVIDIA GPU, but no driver \(nvidia-smi\)$"):
        machine.gpu()
    monkeypatch.setattr(machine, "nvidia_hardware", lambda: False)
    with pytest.raises(ModuleNotFoundError, match=r"^no NVIDIA GPU here"):
        machine.gpu()
