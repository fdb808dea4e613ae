import subprocess
import sys
from pathlib import Path

from PIL import Image


def melfast(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melfast", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_synth_then_import(tmp_path: Path) -> None:
    drawn = melfast(
        "synth", "data", "--images", 10, "--size", "96x72", "--threads", 2, "--sheet", "sheet.png", cwd=tmp_path
    )
    assert drawn.stderr == ""
    assert drawn.returncode == 0
    assert drawn.stdout.startswith("data/labels.csv: 10 images of ")
    assert drawn.stdout.endswith("sheet.png: contact sheet\n")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 6 * 240
    imported = melfast("prepare", "import", "data", "--output", "m.csv", cwd=tmp_path)
    assert imported.returncode == 0
    assert "masks     10" in imported.stdout


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("")
    for arguments, message in (
        (("--images", 0), "--images must be 1 or more, got 0"),
        (("--images", 5, "--size", "600"), "--size must be WIDTHxHEIGHT as in 600x450, got '600'"),
        (("--images", 5, "--sheet", "s.gif"), "s.gif: expected a name that ends in .png, .jpg, .jpeg"),
        (("--images", 5), "full: holds other files, expected an empty folder, or --overwrite"),
    ):
        failed = melfast("synth", "full", *arguments, cwd=tmp_path)
        assert failed.returncode == 1
        assert failed.stderr == f"melfast: error: {message}\n"
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["a.txt"]
