"""melfast predict from the command line: what it prints, writes, imports and returns."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from melfast.cli.predict import command
from melfast.engines.backends import ModelFile
from melfast.predict import cluster
from melfast.predict.cluster import Job
from melfast.predict.sources import ImageFiles
from melfast.predict.writer import Summary

RedModel = Callable[..., Path]


def melfast(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "melfast", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.fixture
def folder(red_model: RedModel, tmp_path: Path) -> Path:
    """model.onnx (probability: mean red / 255, threshold 0.25) and two photos."""
    red_model(tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for name, red in (("a", 51), ("b", 204)):
        Image.new("RGB", (40, 30), (red, 0, 0)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path


def predict(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    usual = ("--model", "model.onnx", "--images", "photos", "--output", "p.csv", "--backend", "onnx-cpu")
    return melfast("predict", *usual, *words, cwd=folder)


def test_what_it_prints_and_writes(folder: Path) -> None:
    done = predict(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "model.onnx: red, 6x4 rgb, threshold 0.25 (the model's, by youden), "
        "on CPUExecutionProvider\n"
        "p.csv: 2 images, 1 called malignant, 0 failed\n"
    )
    assert (folder / "p.csv").read_text() == "image_name,prediction,probability\na,0,0.2\nb,1,0.8\n"


def test_auto_says_what_it_passed_over(folder: Path) -> None:
    done = predict(folder, "--backend", "auto")
    info = json.loads((folder / "p.json").read_text())["engine"]
    assert info["backend"] in ("tensorrt", "onnx-cuda", "onnx-cpu")
    if info["backend"] == "onnx-cpu":
        line = done.stdout.splitlines()[1]
        assert line.startswith("  backend onnx-cpu; skipped: tensorrt: ")
        assert "; onnx-cuda: " in line
        assert list(info["passed_over"]) == ["tensorrt", "onnx-cuda"]


def test_options_with_dashes_and_underscores(folder: Path) -> None:
    words = ("--batch_size", 1, "--on_error", "raise", "--backend", "onnx-cpu", "--threads", 1)
    done = predict(folder, *words, "--threshold", 0.1)
    assert "threshold 0.1 (as requested)" in done.stdout
    assert (folder / "p.csv").read_text() == "image_name,prediction,probability\na,1,0.2\nb,1,0.8\n"


def test_bad_images_do_not_stop_it(folder: Path) -> None:
    for n in range(12):
        (folder / "photos" / f"x{n:02d}.jpg").write_bytes(b"")
    done = predict(folder)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    reason = "found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"
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
        (("--model", "no.onnx"), "no.onnx: no such file, expected a model that melfast export wrote"),
        (("--model", "photos/a.png"), "photos/a.png: cannot be loaded as an ONNX file; is it complete?"),
        (("--images", "no"), "no: no such file or folder of images"),
        (("--images", "*.jpg"), "*.jpg: matches no image (.jpg, .jpeg, .jpe, .jfif, .png, .webp, .bmp, .tif, .tiff)"),
        (("--threshold", "1.5"), "--threshold must be in 0..1, got 1.5"),
        (("--output", "photos"), "photos: is a folder, expected a file name to write"),
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
    assert done.stderr.startswith("melfast: error: none of 1 images could be predicted, see p.failed.csv")


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
    # CPU time, because wall time depends on what else runs.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert predict(folder, "--threads", 1).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_stopped_by_ctrl_c_and_gone_on_with(folder: Path) -> None:
    photo = folder / "photos" / "a.png"
    Image.effect_noise((700, 700), 50).convert("RGB").save(photo)
    lines = "\n".join(str(photo.with_name(f"n{i}.png")) for i in range(300))
    for line in lines.split("\n"):
        Path(line).symlink_to(photo)
    (folder / "list.txt").write_text(lines)
    words = ["--model", "model.onnx", "--output", "p.csv", "--batch-size", "2", "--threads", "1"]
    command = [sys.executable, "-m", "melfast", "predict", *words, "--images", "-"]
    with open(folder / "list.txt") as stdin:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stderr=subprocess.PIPE,
            cwd=folder,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            text=True,
        )
        partial = folder / "p.csv.partial"
        for _ in range(3000):
            if partial.exists() and partial.read_text().count("\n") > 3:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = partial.read_text().count("\n") - 1
    assert [line for line in errors.splitlines() if line] == [
        f"p.csv.partial keeps {kept} of 300 rows; the same command with --resume continues",
        "melfast: stopped by Ctrl-C",
    ]
    assert 3 <= kept < 300
    with open(folder / "list.txt") as stdin:
        done = subprocess.run(
            [*command, "--resume"], stdin=stdin, capture_output=True, text=True, cwd=folder, timeout=300
        )
    assert done.returncode == 0, done.stderr
    assert f"p.csv: 300 images ({kept} of them kept), " in done.stdout
    rows = (folder / "p.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [f"n{i}" for i in range(300)]


@pytest.mark.parametrize("cause", ["unreadable", "full disk"])
def test_an_early_end_says_in_one_line_what_is_kept(folder: Path, cause: str) -> None:
    photo = folder / "photos" / "a.png"
    for i in range(200):
        photo.with_name(f"n{i:03d}.png").symlink_to(photo)
    reason, words = "p.csv.partial: cannot be written: File too large", list[str]()
    if cause == "unreadable":
        photo.with_name("z.png").write_bytes(b"")
        reason = "photos/z.png: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"
        words = ["--on-error", "raise"]
    usual = [
        "--model",
        "model.onnx",
        "--images",
        "photos",
        "--output",
        "p.csv",
        "--batch-size",
        "8",
        "--backend",
        "onnx-cpu",
    ]
    command = [sys.executable, "-m", "melfast", "predict", *usual, *words]
    room = 8000 if cause == "full disk" else resource.RLIM_INFINITY
    # The data of coverage would not fit on the disk either.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    kept = (folder / "p.csv.partial").read_text().count("\n") - 1
    assert done.returncode == 1
    assert done.stderr == (
        f"melfast: error: {reason}; p.csv.partial keeps {kept} rows; the same command with --resume continues\n"
    )
    assert kept > 0
    assert kept % 8 == 0
    again = predict(folder)
    assert again.returncode == 1
    assert again.stderr.startswith(f"melfast: error: p.csv.partial: keeps {kept} rows of a run ")
    again = predict(folder, "--resume")
    assert f"p.csv: 202 images ({kept} of them kept), " in again.stdout


def test_options_that_do_not_go_together(folder: Path) -> None:
    for words, message in (
        (("--workers", 2), "--address and --workers go with --engine ray"),
        (("--engine", "ray", "--on-error", "raise"), "--on-error raise goes with --engine here"),
    ):
        done = predict(folder, *words)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_ray_cluster_is_asked_by_a_machine_that_could_not_run_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine has no GPU, but the workers may have one."""
    jobs: list[Job] = []

    def predict_on_ray(model: ModelFile, job: Job, files: ImageFiles, *_: Any, **__: Any) -> Summary:
        jobs.append(job)
        made = {"provider": "TensorRT on H100", "rows": len(files), "passed_over": {}}
        other = {"provider": "CPU", "rows": 1, "passed_over": {"tensorrt": "no GPU"}}
        return Summary(3, 1, (), None, engines=(made, other))

    monkeypatch.setattr(cluster, "predict_on_ray", predict_on_ray)
    monkeypatch.chdir(folder)
    words = ["--model", "model.onnx", "--images", "photos", "--output", "parts", "--engine", "ray"]
    done = CliRunner().invoke(command, [*words, "--backend", "tensorrt", "--resume"])
    assert (done.exit_code, done.stderr) == (0, "note: --engine ray always resumes; --resume has no effect\n")
    assert done.stdout == (
        "model.onnx: red, 6x4 rgb, threshold 0.25 (the model's, by youden), on a Ray cluster\n"
        "parts: 3 images, 1 called malignant, 0 failed\n"
        "  2 images on TensorRT on H100\n"
        "  1 images on CPU; skipped: tensorrt: no GPU\n"
    )
    assert [job.backend for job in jobs] == ["tensorrt"]


def test_the_published_call(folder: Path) -> None:
    words = ("--onnx_model_path", "model.onnx", "--image_folder", "photos", "--output_csv", "q.csv")
    assert melfast("predict", *words, cwd=folder).returncode == 0
    assert (folder / "q.csv").read_text() == "image_name,prediction,probability\na,0,0.2\nb,1,0.8\n"


def test_shards_of_a_table(folder: Path) -> None:
    (folder / "m.csv").write_text("image_name,path\nA,photos/a.png\nB,photos/b.png\n")
    for part, row in ((1, "A,0,0.2"), (2, "B,1,0.8")):
        done = predict(folder, "--images", "m.csv", "--shard", f"{part}/2")
        assert done.returncode == 0, done.stderr
        assert (folder / "p.csv").read_text() == f"image_name,prediction,probability\n{row}\n"


def test_thresholds_by_group_need_the_tone(folder: Path, red_model: RedModel) -> None:
    red_model(folder / "model.onnx", groups=("light", "dark"), group_thresholds=(0.1, 0.2))
    assert predict(folder).stderr == (
        "note: the tone group of 2 of 2 images is unknown, and the model uses it: they get the threshold for all "
        "images; get them with --with-ita, or from a column group in --images TABLE.csv\n"
    )
    done = predict(folder, "--with-ita")
    assert "threshold 0.25 (the model's, by youden; by tone group where it is known)" in done.stdout
    header = (folder / "p.csv").read_text().splitlines()[0]
    assert header == "image_name,prediction,probability,ita,ita_quality,group"


def test_memory_does_not_grow_with_the_folder(folder: Path) -> None:
    """20,000 files against 500: the difference is names and paths, not images."""
    code = (
        "import resource, sys\n"
        "from melfast.cli import main\n"
        "main.main(sys.argv[1:], standalone_mode=False)\n"
        "print('MiB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    photo = (folder / "photos" / "a.png").read_bytes()
    peaks = []
    for count in (500, 20_000):
        images = folder / f"of{count}"
        images.mkdir()
        for i in range(count):
            if i % 500 == 0:
                (images / f"{i}.png").write_bytes(photo)
            else:
                os.link(images / f"{i - i % 500}.png", images / f"{i}.png")
        words = ["predict", "--model", "model.onnx", "--images", images, "--output", "p.csv"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=folder
        )
        assert f"p.csv: {count:,} images" in done.stdout
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 60, peaks
