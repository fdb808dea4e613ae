"""melfast show, from the command line."""

import subprocess
import sys
from pathlib import Path

from PIL import Image


def melfast(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melfast", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_show(tiny_data: Path, tmp_path: Path) -> None:
    options = ("--input-size", "32x24", "--batch-size", 8, "--n", 12, "--columns", 4)
    done = melfast("show", tiny_data, *options, "--output", "sheet.png", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sheet.png: 12 images\n", "")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 240, 3 * 202)
    other = (*options, "--epoch", 1, "--output", "other.png")
    assert melfast("show", tiny_data, *other, cwd=tmp_path).returncode == 0
    assert (tmp_path / "sheet.png").read_bytes() != (tmp_path / "other.png").read_bytes()


def test_what_is_wrong_is_said(tiny_data: Path, tmp_path: Path) -> None:
    output = ("--output", "s.png")
    done = melfast("show", tiny_data, "--set", "augment.mask=1", "--batch-size", 8, *output, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "melfast: error: augment.mask needs lesion masks; 32 of 32 images have no mask_path: melfast prepare masks\n"
    )
    done = melfast("show", "none.csv", *output, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "melfast: error: none.csv: no such file\n")
    assert not (tmp_path / "s.png").exists()
