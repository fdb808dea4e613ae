"""melfast predict as a user sees it: what it prints, writes, imports and returns."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

RedModel = Callable[..., Path]


def melfast(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melfast", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.fixture
def folder(red_model: RedModel, tmp_path: Path) -> Path:
    """model.onnx (probability: mean red / 255, threshold 0.25) and two photos."""
    red_model(tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for name, red in (("a", 51), ("b", 204)):
        Image.new("RGB", (40, 30), (red, 0, 0)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path


def predict(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    usual = ("--model", "model.onnx", "--images", "photos", "--output", "p.csv")
    return melfast("predict", *usual, *words, cwd=folder)


def test_what_it_prints_and_writes(folder: Path) -> None:
    done = predict(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "model.onnx: red, 6x4 rgb, threshold 0.25 (the model's, by youden), "
        "on CPUExecutionProvider\n"
        "p.csv: 2 images, 1 called malignant, 0 failed\n"
    )
    assert (folder / "p.csv").read_text() == "image_name,target,probability\na,0,0.2\nb,1,0.8\n"


def test_options_with_dashes_and_underscores(folder: Path) -> None:
    words = ("--batch_size", 1, "--on_error", "raise", "--backend", "onnx-cpu", "--threads", 1)
    done = predict(folder, *words, "--threshold", 0.1)
    assert "threshold 0.1 (as asked for)" in done.stdout
    assert (folder / "p.csv").read_text() == "image_name,target,probability\na,1,0.2\nb,1,0.8\n"


def test_bad_images_do_not_stop_it(folder: Path) -> None:
    for n in range(12):
        (folder / "photos" / f"x{n:02d}.jpg").write_bytes(b"")
    done = predict(folder)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    reason = "found an empty file, wanted a JPEG or PNG"
    assert lines[:10] == [f"failed: photos/x{n:02d}.jpg: {reason}" for n in range(10)]
    assert lines[10:] == ["failed: and 2 more, see p.failed.csv"]
    assert done.stdout.splitlines()[1:] == [
        "p.csv: 2 images, 1 called malignant, 12 failed",
        "p.failed.csv lists the failed ones",
    ]
    assert len((folder / "p.csv").read_text().splitlines()) == 3
    assert len((folder / "p.failed.csv").read_text().splitlines()) == 13


def test_names_that_stand_twice(folder: Path) -> None:
    (folder / "photos" / "c").mkdir()
    (folder / "photos" / "c" / "a.png").write_bytes((folder / "photos" / "a.png").read_bytes())
    done = predict(folder)
    assert done.stderr == "note: some images share a name: image_name is the path below photos\n"
    names = [line.split(",")[0] for line in (folder / "p.csv").read_text().splitlines()[1:]]
    assert names == ["a.png", "b.png", "c/a.png"]


def test_model_without_a_threshold(folder: Path, red_model: RedModel) -> None:
    red_model(folder / "model.onnx", threshold=None, threshold_rule="")
    assert "threshold 0.5 (the model has none)" in predict(folder).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "no.onnx"), "no.onnx: no such file, wanted a model that melfast export wrote"),
        (
            ("--model", "photos/a.png"),
            "photos/a.png: cannot be loaded as an ONNX file; is it whole?",
        ),
        (("--images", "no"), "no: no such file or folder of images"),
        (("--images", "*.jpg"), "*.jpg: matches no .jpg, .jpeg, .png file"),
        (("--threshold", "1.5"), "--threshold must be in 0..1, got 1.5"),
        (("--output", "photos"), "photos: is a folder, wanted a file name to write"),
        (("--output", "model.onnx/p.csv"), "model.onnx/p.csv: cannot be written: "),
    ],
)
def test_one_line_of_error(folder: Path, words: tuple[str, ...], message: str) -> None:
    before = set(folder.rglob("*"))
    done = predict(folder, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"melfast: error: {message}")
    assert done.stderr.count("\n") == 1
    assert set(folder.rglob("*")) == before


def test_nothing_readable_and_on_error_raise(folder: Path) -> None:
    (folder / "photos" / "b.png").write_bytes(b"")
    done = predict(folder, "--on-error", "raise")
    assert (done.returncode, (folder / "p.csv").exists()) == (1, False)
    assert done.stderr.startswith("melfast: error: photos/b.png: found an empty file")
    done = predict(folder, "--images", "photos/b.png")
    assert (done.returncode, (folder / "p.csv").exists()) == (1, False)
    assert done.stderr.startswith(
        "melfast: error: none of 1 images could be read, see p.failed.csv"
    )


def test_needs_neither_torch_nor_pandas(folder: Path) -> None:
    code = (
        "import sys\n"
        "from melfast.cli import main\n"
        "main.main(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'timm', 'pandas', 'sklearn', 'scipy', 'onnx', 'torchvision'}\n"
        "print('imported', sorted(heavy & set(sys.modules)))"
    )
    words = ["predict", "--model", "model.onnx", "--images", "photos", "--output", "p.csv"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.splitlines()[-1] == "imported []"


def test_starts_within_three_seconds(folder: Path) -> None:
    # Processor time: what the clock on the wall shows depends on what else runs.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert predict(folder, "--threads", 1).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
