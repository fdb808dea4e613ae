"""Files of the user stay, and only one process at a time writes an output: tested for every command."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from melfast.cli import main
from melfast.data.manifest import read_manifest, write_manifest
from melfast.data.preprocess import Preprocess
from melfast.io.files import locked
from melfast.models.checkpoint import State, save_checkpoint
from melfast.models.classifier import build_classifier
from melfast.models.record import ModelRecord
from melfast.prepare.synth import SynthSettings, synthesize

RECORD = ModelRecord("resnet10t", Preprocess(24, 32), {"channels": [4, 4, 8, 8], "stem_width": 4}, threshold=0.3)


def run(*words: object) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.csv of 8 images (no masks), run (a checkpoint), p.csv and q.csv (predictions), all but the
    images small."""
    folder = tmp_path_factory.mktemp("made")
    synthesize(folder / "data", SynthSettings(8, size=(96, 64), malignant=0.5), workers=1)
    rows = read_manifest(folder / "data" / "labels.csv")
    table = rows.table.drop(columns=["mask_path", "ita", "group", "group_str", "fitzpatrick"])
    table = table[[name for name in table if not name.startswith("skin")]]
    write_manifest(type(rows)(rows.path, table), folder / "m.csv")
    torch.manual_seed(0)
    save_checkpoint(
        folder / "run", build_classifier(RECORD).state_dict(), RECORD, State(epoch=1, step=1), {}, best=True
    )
    for name in "pq":
        lines = [f"{image},{place / 10}\n" for place, image in enumerate(rows.image_names)]
        (folder / f"{name}.csv").write_text("".join(["image_name,probability\n", *lines]))
    return folder


# Command with its output, last, which is a file or a folder.
FILES = {
    "all": "prepare all m.csv --no-resize --no-split --output",
    "ita": "prepare ita m.csv --output",
    "masks": "prepare masks m.csv --output",
    "resize": "prepare resize m.csv --output",
    "dedup": "prepare dedup m.csv --output",
    "check": "prepare check m.csv --output",
    "predict": "predict --model run --images data/images --output",
    "export": "export --checkpoint run --format torchscript --images data/images --output",
}
FOLDERS = {
    "train": "train --set train.epochs=1 --data-path m.csv --output-dir",
    "evaluate": "evaluate --checkpoint run --data-path data/labels.csv --split all --output-dir",
    "ensemble": "ensemble p.csv q.csv --threshold 0.5 --output-dir",
    "report": "report p.csv --threshold 0.5 --manifest data/labels.csv --output",
    "explain": "explain --checkpoint run --images data/images --n 2 --output",
    "overlay": "predict --model run --images data/images --output {new}.csv --overlay",
    "synth": "synth --images 2 --size 64x64 --threads 1",
}


@pytest.mark.parametrize("name", [name for name in (*FILES, *FOLDERS) if name != "overlay"])
def test_a_second_process_is_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(made)
    output, before = tmp_path / "output.csv", tree(made)
    if name in FOLDERS:
        output = tmp_path / "output"
        output.mkdir()
    with locked(output):
        done = run(*(FILES | FOLDERS)[name].split(), output)
        assert done.exit_code == 1
        assert str(done.exception).startswith(f"{output}: is being written by process {os.getpid()} on ")
    assert tree(made) == before
    assert not tree(tmp_path)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_the_users_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(made)
    output = tmp_path / "proj"
    for file in ("checkpoints/sam_vit_h/weights", "config.yaml", "metrics.json", "sheet.png", "labels.csv"):
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        (output / file).write_text("mine")
    before = tree(tmp_path)
    done = run(*FOLDERS[name].replace("{new}", str(tmp_path / "new")).split(), output)
    assert done.exit_code == 1
    command = f"melfast {name}" if name != "overlay" else "melfast predict --overlay"
    message = (
        f"{output}: holds checkpoints, config.yaml, labels.csv, ..., which '{command}' did not write; "
        "expected a new or empty folder"
    )
    if name == "synth":
        message = f"{output}: holds other files, expected an empty folder, or --overwrite"
    assert str(done.exception) == message
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "train"])
def test_a_folder_of_its_own_is_used_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(made)
    words = FOLDERS[name].replace("{new}", str(tmp_path / "new")).split()
    output = tmp_path / "new folder"
    first = run(*words, output)
    assert first.exit_code == 0, first.exception
    (output / "notes").write_text("mine")
    names = {path.name for path in output.iterdir()}
    again = run(*words, output)
    assert again.exit_code == 0, again.exception
    assert {path.name for path in output.iterdir()} == names
    assert (output / "notes").read_text() == "mine"


@pytest.mark.parametrize("name", ["all", "ita", "masks", "resize", "dedup", "check"])
def test_a_table_of_the_users_is_no_quarantine(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(made)
    (tmp_path / "output.bad.csv").write_text("image_name,my notes\n")
    done = run(*FILES[name].split(), tmp_path / "output.csv")
    assert str(done.exception) == (
        f"{tmp_path / 'output.bad.csv'}: already exists and was not written by melfast; move it, or choose another "
        "output"
    )
    assert tree(tmp_path) == {tmp_path / "output.bad.csv": b"image_name,my notes\n"}


def test_training_does_not_replace_its_own_data(made: Path, tmp_path: Path) -> None:
    (tmp_path / ".melfast.json").write_text('{"command": "melfast train", "files": []}')
    manifest = tmp_path / "manifest.csv"
    write_manifest(read_manifest(made / "m.csv"), manifest)
    before = tree(tmp_path)
    done = run("train", "--data-path", manifest, "--output-dir", tmp_path)
    assert str(done.exception) == f"{manifest}: is data.path and would be replaced; expected another --output-dir"
    assert tree(tmp_path) == before


def test_synth_takes_away_its_own_images_alone(tmp_path: Path) -> None:
    assert run("synth", tmp_path, "--images", 4, "--size", "64x64", "--threads", 1).exit_code == 0
    mine = [tmp_path / "images" / name for name in ("SYN_mine.jpg", "SYN_0000009.jpg", "SYN_0000003 copy.jpg")]
    for path in mine:
        path.write_text("mine")
    done = run("synth", tmp_path, "--images", 2, "--size", "64x64", "--threads", 1, "--overwrite")
    assert done.exit_code == 0, done.exception
    left = {path.name for path in (tmp_path / "images").iterdir()}
    assert left == {"SYN_0000001.jpg", "SYN_0000002.jpg", *(path.name for path in mine)}


def test_synth_keeps_a_labels_table_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("mine")
    done = run("synth", tmp_path, "--images", 2, "--size", "64x64", "--threads", 1, "--overwrite")
    assert str(done.exception) == (
        f"{tmp_path / 'labels.csv'}: already exists and 'melfast synth' did not write it; move it"
    )
    assert (tmp_path / "labels.csv").read_text() == "mine"


def test_a_group_with_two_names_is_found_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image_name,target,group,group_str\na,0,1,light\nb,1,1,dark\n")
    done = run("prepare", "import", tmp_path / "t.csv", "--no-images", "--output", tmp_path / "m.csv")
    assert done.exit_code == 1
    assert "group" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.fixture
def many(red_model: Callable[..., Path], tmp_path: Path) -> Iterator[Path]:
    red_model(tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    Image.effect_noise((700, 700), 50).convert("RGB").save(tmp_path / "photos" / "a.png")
    for i in range(200):
        (tmp_path / "photos" / f"n{i:03d}.png").symlink_to("a.png")
    return tmp_path


def test_two_processes_predict_one_table(many: Path) -> None:
    words = "predict --model model.onnx --images photos --output p.csv --backend onnx-cpu --batch-size 2 --threads 1"
    command = [sys.executable, "-m", "melfast", *words.split()]
    with subprocess.Popen(command, cwd=many, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        for _ in range(3000):
            if (many / "p.csv.partial").exists():
                break
            time.sleep(0.02)
        for more in ((), ("--resume",)):
            second = subprocess.run([*command, *more], cwd=many, capture_output=True, text=True, timeout=100)
            assert second.returncode == 1
            assert second.stderr.startswith(f"melfast: error: p.csv: is being written by process {first.pid} on ")
            assert second.stderr.count("\n") == 1
        output, errors = first.communicate(timeout=100)
    assert (first.returncode, errors) == (0, "")
    assert "p.csv: 201 images, " in output
    assert len((many / "p.csv").read_text().splitlines()) == 202
    assert sorted(path.name for path in many.iterdir()) == ["model.onnx", "p.csv", "p.json", "photos"]
    assert json.loads((many / "p.json").read_text())["predicted"] == 201


def test_a_journal_that_lost_rows_makes_no_table(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from melfast.predict.partial import Partial

    monkeypatch.chdir(many)
    finish = Partial.finish

    def cut(self: Partial, about: dict[str, object]) -> None:
        lines = self.path.read_text().splitlines(keepends=True)
        self.path.write_text("".join(lines[:-3]))
        finish(self, about)

    monkeypatch.setattr(Partial, "finish", cut)
    done = run("predict", "--model", "model.onnx", "--images", "photos", "--output", "p.csv")
    assert str(done.exception) == (
        "p.csv.partial: holds 198 rows of 198 images, expected 201: another program has changed it; "
        "p.csv is not written"
    )
    assert not (many / "p.csv").exists()
