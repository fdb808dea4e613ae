"""Memory: the peaks of decoders stay below what the budget counts."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from melfast.io.budget import MemoryBudget
from melfast.io.errors import InputError

HEIGHT, WIDTH = 2400, 3200
SLACK = 16 << 20
PEAK = """
import sys
from concurrent.futures import ThreadPoolExecutor
from melfast.io import images
from melfast.io.decoders import peak_bytes

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

small, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
images.check_image(small)  # imports
before = peak()
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(images.check_image, [path] * 2 * threads))
with open(path, "rb") as file:
    counted = peak_bytes(images.read_header(file), 1)
print(peak() - before, counted)
"""


def measured(folder: Path, name: str, mode: str, threads: int = 1, **options: object) -> tuple[int, int]:
    """Bytes at the peak of whole decodes, and those that the budget counts for one."""
    for stem, size in (("small", (16, 16)), ("large", (WIDTH, HEIGHT))):
        Image.new(mode, size, "tan").save(folder / f"{stem}{name}", **options)
    command = [sys.executable, "-c", PEAK, folder / f"small{name}", folder / f"large{name}", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, counted = done.stdout.split()
    return int(peak), int(counted)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        (".jpg", "RGB", {}),
        (".jpg", "RGB", {"progressive": True, "subsampling": 0}),
        (".png", "RGBA", {"compress_level": 1}),
        (".webp", "RGB", {"method": 0}),
        (".tif", "RGB", {"compression": "tiff_lzw"}),
    ],
)
def test_a_decode_takes_no_more_than_is_counted(
    tmp_path: Path, name: str, mode: str, options: dict[str, object]
) -> None:
    peak, counted = measured(tmp_path, name, mode, **options)
    assert counted / 3 < peak < counted + SLACK


def test_threads_together_stay_under_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six threads, room for one image and a half: whole, they would take six times as much."""
    monkeypatch.setenv("MELFAST_DECODE_MEMORY", str(HEIGHT * WIDTH * 12))
    peak, counted = measured(tmp_path, ".png", "RGBA", 6, compress_level=1)
    leaving = 3 * HEIGHT * WIDTH  # the picture of a thread that is about to forget it
    assert counted / 2 < peak < 1.5 * counted + leaving + SLACK


def test_limit_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELFAST_DECODE_MEMORY", "123456")
    assert MemoryBudget().limit == 123456
    monkeypatch.setenv("MELFAST_DECODE_MEMORY", "1 GB")
    with pytest.raises(InputError, match=r"^MELFAST_DECODE_MEMORY must be a positive number of bytes, got '1 GB'$"):
        _ = MemoryBudget().limit
    monkeypatch.delenv("MELFAST_DECODE_MEMORY")
    monkeypatch.setattr("melfast.io.budget.available_memory", lambda: 8e9)
    assert MemoryBudget().limit == 2_000_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert MemoryBudget().limit == 500_000_000


def test_a_thread_inside_does_not_wait_for_itself() -> None:
    budget = MemoryBudget(100)
    done = threading.Event()

    def nest() -> None:
        with budget.hold(80), budget.hold(80):
            done.set()

    threading.Thread(target=nest, daemon=True).start()
    assert done.wait(20)
