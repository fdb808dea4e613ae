import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melfast.data.manifest import read_manifest
from melfast.prepare.split import require_disjoint


def melfast(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melfast", "prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty images of twenty patients with labels.csv and, for some, masks."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image_name,patient_id,target"]
    for n in range(60):
        pixels = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"i{n}.jpg")
        if n % 2:
            Image.fromarray(pixels[..., 0]).save(folder / "masks" / f"i{n}.png")
        lines.append(f"i{n},P{n % 20},{int(n % 4 == 0)}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_import_check_split(data: Path, tmp_path: Path) -> None:
    (data / "images" / "i7.jpg").write_bytes(b"")
    imported = melfast("import", "data", "--output", "out/m.csv", cwd=tmp_path)
    assert imported.returncode == 0
    assert imported.stdout == (
        "out/m.csv: imported data as csv\n"
        "  images    60\n"
        "  target    'target': 15 positive, 45 negative\n"
        "  patients  20\n"
        "  masks     30\n"
        "  columns   image_name, target, patient_id\n"
    )
    assert imported.stderr == "note: images without a mask: 30\n"

    checked = melfast("check", "out/m.csv", "--output", "out/good.csv", cwd=tmp_path)
    assert checked.returncode == 0
    assert checked.stderr == "bad: i7: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF\n"
    assert checked.stdout == (
        "out/m.csv: 59 images good, 1 bad; out/good.csv holds the good ones\nout/good.bad.csv lists the bad ones\n"
    )
    quarantine = (tmp_path / "out" / "good.bad.csv").read_text().splitlines()
    assert quarantine[0] == "image_name,path,reason"
    assert re.fullmatch(r'i7,.*i7\.jpg,"found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"', quarantine[1])
    assert read_manifest(tmp_path / "out" / "good.csv").column("width")[0] == "16"

    split = melfast("split", "out/good.csv", "--output", "out/split.csv", "--fractions", "0.6,0.2,0.2", cwd=tmp_path)
    assert split.returncode == 0
    assert split.stderr == ""
    assert split.stdout.startswith("out/split.csv:\n  train ")
    manifest = read_manifest(tmp_path / "out" / "split.csv")
    require_disjoint(manifest)
    assert set(manifest.splits) == {"train", "valid", "test"}
    assert all(path.is_file() for path in manifest.image_paths)

    again = melfast("split", "out/split.csv", "--output", "out/new.csv", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr == ("melfast: error: out/split.csv: has a split already; --force draws a new one\n")
    assert not (tmp_path / "out" / "new.csv").exists()
    forced = melfast("split", "out/split.csv", "--output", "out/new.csv", "--force", "--seed", 1, cwd=tmp_path)
    assert forced.returncode == 0
    new = read_manifest(tmp_path / "out" / "new.csv")
    assert (new.splits != manifest.splits).any()


def test_check_without_output_fails_when_an_image_is_bad(data: Path, tmp_path: Path) -> None:
    melfast("import", data, "--output", tmp_path / "m.csv")
    good = melfast("check", tmp_path / "m.csv", "--threads", 2)
    assert good.returncode == 0
    assert good.stdout == f"{tmp_path}/m.csv: 60 images good, 0 bad\n"
    for n in range(7):
        (data / "images" / f"i{n}.jpg").unlink()
    bad = melfast("check", tmp_path / "m.csv", "--quarantine", tmp_path / "q.csv")
    assert bad.returncode == 1
    assert bad.stderr.splitlines()[-1] == f"bad: and 2 more, see {tmp_path}/q.csv"
    assert len((tmp_path / "q.csv").read_text().splitlines()) == 8


def test_check_with_nothing_left(data: Path, tmp_path: Path) -> None:
    melfast("import", data, "--output", tmp_path / "m.csv")
    for file in (data / "images").iterdir():
        file.write_bytes(b"GIF89a")
    bad = melfast("check", tmp_path / "m.csv", "--output", tmp_path / "good.csv")
    assert bad.returncode == 1
    assert bad.stderr.splitlines()[0] == "bad: i0: found a GIF, expected a JPEG, PNG, WebP, BMP or TIFF"
    assert bad.stderr.splitlines()[-1] == (
        f"melfast: error: {tmp_path}/m.csv: no image is good, see {tmp_path}/good.bad.csv"
    )
    assert not (tmp_path / "good.csv").exists()
    assert len((tmp_path / "good.bad.csv").read_text().splitlines()) == 61


@pytest.mark.parametrize(
    ("words", "table"),
    [
        ("import data --output data/labels.csv", "data/labels.csv"),
        ("import data/labels.csv --output data/../data/labels.csv", "data/labels.csv"),
        ("check m.csv --output m.csv", "m.csv"),
        ("dedup m.csv --output link.csv --drop", "m.csv"),
    ],
)
def test_what_is_read_is_not_replaced_by_less(words: str, table: str, data: Path, tmp_path: Path) -> None:
    melfast("import", "data", "--output", "m.csv", cwd=tmp_path)
    (tmp_path / "link.csv").symlink_to("m.csv")
    before = (tmp_path / table).read_text()
    done = melfast(*words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    output = words.split()[words.split().index("--output") + 1]
    assert f"melfast: error: {Path(output)}: is the input, and would be replaced" in done.stderr
    assert (tmp_path / table).read_text() == before


def test_missing_images_can_be_dropped(data: Path, tmp_path: Path) -> None:
    (data / "images" / "i3.jpg").unlink()
    arguments = ("import", data, "--output", tmp_path / "m.csv")
    refused = melfast(*arguments)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"melfast: error: {data}/labels.csv: 1 of 60 listed images are not in {data}/images: i3 "
        "(--images names another folder, --on-missing drop leaves them out)\n"
    )
    assert sorted(os.listdir(tmp_path)) == ["data"]
    dropped = melfast(*arguments, "--on_missing", "drop")  # underscores will do
    assert dropped.returncode == 0
    assert f"note: they are listed in {tmp_path}/m.missing.csv\n" in dropped.stderr
    assert (tmp_path / "m.missing.csv").read_text() == "image_name,reason\ni3,no such file\n"
    assert len(read_manifest(tmp_path / "m.csv")) == 59


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "nowhere", "--output", "m.csv"), "error: nowhere: no such file or folder"),
        (("check", "nowhere.csv"), "error: nowhere.csv: no such file"),
        (("split", "data/labels.csv", "--output", "m"), "error: data/labels.csv: no column 'path'"),
        (("import", "data", "--output", "data"), "error: data: is a folder, expected a file name"),
        (("import", "data", "--output", "data/labels.csv/m.csv"), "error: data/labels.csv/m.csv: cannot be written: "),
    ],
)
def test_one_line_of_error(data: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = melfast(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1
    assert errors[0].startswith(f"melfast: {message}")


def test_wrong_usage(data: Path, tmp_path: Path) -> None:
    done = melfast("split", "m.csv", "--output", "x.csv", "--fractions", "0.5,half,0", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected three numbers as 0.7,0.15,0.15, got '0.5,half,0'" in done.stderr
    assert melfast("import", "data", "--kind", "ham", "--output", "x", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("command", ["import", "check", "split"])
def test_help_ends_with_an_example(command: str) -> None:
    done = melfast(command, "--help")
    assert done.returncode == 0
    assert f"Example: melfast prepare {command} " in done.stdout


def test_help_of_the_group_names_its_commands() -> None:
    done = melfast("--help")
    assert done.returncode == 0
    for command in ("import", "check", "split"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)
