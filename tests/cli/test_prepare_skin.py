"""melfast prepare masks, ita and sheet, from the command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melfast.data.manifest import read_manifest, write_manifest
from melfast.io.images import read_image, read_mask
from melfast.io.journal import Journal
from melfast.prepare.sweep import stamp
from melfast.prepare.synth import SynthSettings, synthesize

IMAGES = 8


def melfast(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "melfast", "prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ (synthetic images) and truth.csv; do not change it."""
    folder = tmp_path_factory.mktemp("drawn")
    truth = synthesize(folder / "data", SynthSettings(IMAGES, size=(300, 225)), workers=1)
    write_manifest(truth, folder / "truth.csv")
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    """m.csv: the drawn images without their truth, and one that is no image."""
    (tmp_path / "broken.jpg").write_bytes(b"")
    lines = ["image_name,path,target"]
    for i in range(1, IMAGES + 1):
        lines.append(f"s{i},{drawn}/data/images/SYN_{i:07d}.jpg,{i % 2}")
    lines.insert(4, "a/b,broken.jpg,0")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("method", ["lesion", "published", "hair", "skin"])
def test_masks(data: Path, method: str) -> None:
    done = melfast("masks", "m.csv", "--output", "out/masked.csv", "--method", method, cwd=data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bad: a/b: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF\n"
    lines = done.stdout.splitlines()
    assert lines[0] == f"out/masked.csv: {IMAGES} {method} masks in out/masks-{method}"
    assert lines[-1] == "out/masked.bad.csv lists the 1 bad images"
    masked = read_manifest(data / "out" / "masked.csv")
    assert masked.image_names[3] == "a/b"
    assert masked.column("mask_path")[3] == masked.column("mask_method")[3] == ""
    for row, path in enumerate(masked.mask_paths):
        if row == 3:
            continue
        assert masked.column("mask_path")[row].startswith(f"masks-{method}/s")
        assert masked.column("mask_method")[row] == method
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            mask = np.asarray(picture)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}
        assert mask.shape == (225, 300)
        area = float(masked.column("mask_area")[row])
        assert area == pytest.approx(np.mean(mask > 0), abs=1e-5)
    quarantine = (data / "out" / "masked.bad.csv").read_text().splitlines()
    assert quarantine[1:] == ['a/b,broken.jpg,"found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF"']
    assert not (data / "out" / "masked.csv.masks.partial").exists()


def test_lesion_masks_meet_the_truth(data: Path, drawn: Path) -> None:
    melfast("masks", "m.csv", "--output", "masked.csv", cwd=data)
    masked = read_manifest(data / "masked.csv")
    found = [read_mask(path) for path in masked.mask_paths if path]
    true = [read_mask(path) for path in read_manifest(drawn / "truth.csv").mask_paths if path]
    iou = [(f & t).sum() / (f | t).sum() for f, t in zip(found, true, strict=True)]
    assert np.median(iou) > 0.8


def test_masks_pass_the_check(data: Path) -> None:
    """`prepare check` expects masks with the sizes of the images."""
    melfast("masks", "m.csv", "--output", "masked.csv", cwd=data)
    checked = melfast("check", "masked.csv", "--output", "good.csv", cwd=data)
    assert checked.stdout.startswith(f"masked.csv: {IMAGES} images good, 1 bad")


def test_names_that_are_no_file_names_stay_in_the_folder(data: Path) -> None:
    text = (data / "m.csv").read_text().replace("s1,", "../../up,").replace("s2,", "50%/x y,")
    (data / "m.csv").write_text(text)
    melfast("masks", "m.csv", "--output", "masked.csv", "--masks-dir", "deep/masks", cwd=data)
    files = {path.name for path in (data / "deep" / "masks").iterdir()}
    assert {"..%2F..%2Fup.png", "50%25%2Fx y.png"} < files
    assert all(p is None or p.is_file() for p in read_manifest(data / "masked.csv").mask_paths)


def test_masks_are_not_replaced_unasked(data: Path) -> None:
    melfast("masks", "m.csv", "--output", "masked.csv", cwd=data)
    again = melfast("masks", "masked.csv", "--output", "again.csv", cwd=data)
    assert again.returncode == 1
    assert again.stderr == (
        f"melfast: error: masked.csv: {IMAGES} images have a mask_path already; "
        "--force replaces it (the files it names stay)\n"
    )
    again = melfast("masks", "m.csv", "--output", "again.csv", cwd=data)
    assert again.stderr == ("melfast: error: masks-lesion/s1.png: already exists; --force replaces it\n")
    assert not (data / "again.csv").exists()
    forced = melfast("masks", "masked.csv", "--output", "again.csv", "--force", cwd=data)
    assert forced.returncode == 0


@pytest.mark.parametrize("command", ["masks", "ita"])
def test_all_bad_is_an_error(data: Path, command: str) -> None:
    (data / "bad.csv").write_text("image_name,path\nb,broken.jpg\nc,none.jpg\n")
    done = melfast(command, "bad.csv", "--output", "out.csv", cwd=data)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("melfast: error: bad.csv: no image is good, see out.bad.csv")
    assert not (data / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--output", "q.csv", "--quarantine", "q.csv"),
            "--quarantine q.csv: is the output, expected a file of its own",
        ),
        (
            ("--output", "q.csv", "--quarantine", "m.csv"),
            "--quarantine m.csv: is the manifest that is read, expected a file of its own",
        ),
        (("--output", "."), ".: is a folder, expected a file name to write"),
        (("--output", "m.csv/x.csv"), "m.csv/x.csv: cannot be written: m.csv is a file"),
        (("--output", "q.csv", "--quarantine", "pipe"), "pipe: is not a regular file, expected a file name to write"),
    ],
)
@pytest.mark.parametrize("command", ["masks", "ita", "check"])
def test_outputs_that_cannot_be_are_refused_before_the_work(
    data: Path, command: str, arguments: tuple[str, ...], message: str
) -> None:
    os.mkfifo(data / "pipe")
    before = {path: path.read_bytes() for path in data.iterdir() if path.is_file()}
    done = melfast(command, "m.csv", *arguments, cwd=data)
    assert done.returncode == 1
    assert done.stderr == f"melfast: error: {message}\n"
    assert {path: path.read_bytes() for path in data.iterdir() if path.is_file()} == before


def test_min_quality_is_a_number(data: Path) -> None:
    done = melfast("ita", "m.csv", "--output", "q.csv", "--min-quality", "nan", cwd=data)
    assert done.stderr == "melfast: error: ToneSettings: ita_min_quality must be a finite number, got nan\n"


def test_ita(data: Path, drawn: Path) -> None:
    done = melfast("ita", "m.csv", "--output", "out/toned.csv", "--tone-groups", "four", cwd=data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bad: a/b: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF\n"
    assert done.stdout.splitlines()[0] == f"out/toned.csv: skin tone of {IMAGES} images"
    toned = read_manifest(data / "out" / "toned.csv")
    true = read_manifest(drawn / "truth.csv").column("ita").astype(float)
    good = np.delete(np.arange(IMAGES + 1), 3)
    found = toned.column("ita")[good]
    errors = [abs(float(f) - t) for f, t in zip(found, true, strict=True) if f]
    assert len(errors) >= IMAGES - 1
    assert np.median(errors) < 2
    known = good[found != ""]
    for name in ("ita_quality", "group", "group_str", "fitzpatrick", "skin_l", "skin_red", "skin_fraction"):
        assert (toned.column(name)[known] != "").all(), name
        assert toned.column(name)[3] == "", name
    settings = {
        "ita_convention": "cielab",
        "tone_groups": "four",
        "fitzpatrick_map": "kinyanjui_groh",
        "ita_min_quality": "0.0",
    }
    for name, value in settings.items():
        assert set(toned.column(name)[good]) == {value}
    assert set(toned.groups) <= {-1, 0, 1, 2, 3}
    names = ("very light", "light", "intermediate", "tan")
    assert all(toned.column("group_str")[row] == names[toned.groups[row]] for row in known)


def test_ita_is_the_same_on_any_number_of_threads(data: Path) -> None:
    for threads in (1, 4):
        melfast("ita", "m.csv", "--output", f"t{threads}.csv", "--threads", threads, cwd=data)
    assert (data / "t1.csv").read_bytes() == (data / "t4.csv").read_bytes()


def test_the_published_convention_is_another_number(data: Path) -> None:
    melfast("ita", "m.csv", "--output", "true.csv", cwd=data)
    options = ("--convention", "published", "--fitzpatrick", "published_three")
    done = melfast("ita", "m.csv", "--output", "published.csv", *options, cwd=data)
    assert done.returncode == 0, done.stderr
    published = read_manifest(data / "published.csv")
    assert set(published.column("ita_convention")) == {"published", ""}
    assert set(published.column("fitzpatrick")) <= {"", "12", "34", "56"}
    assert (published.column("ita") != read_manifest(data / "true.csv").column("ita")).sum() >= 6


def test_doubtful_images_get_no_group(data: Path) -> None:
    Image.new("RGB", (300, 225), (235, 240, 250)).save(data / "pale.png")  # bluish: b* < 0
    (data / "m.csv").write_text((data / "m.csv").read_text() + "pale,pale.png,0\n")
    done = melfast("ita", "m.csv", "--output", "t.csv", "--min-quality", "0.5", cwd=data)
    assert done.returncode == 0, done.stderr
    toned = read_manifest(data / "t.csv")
    quality = np.array([float(cell or "nan") for cell in toned.column("ita_quality")])
    trusted = quality >= 0.5
    assert not trusted[-1]
    assert toned.column("ita_doubts")[-1] != ""
    for name in ("group", "group_str", "fitzpatrick"):
        assert ((toned.column(name) != "") == trusted).all()


def test_truth_is_not_replaced_unasked(drawn: Path, tmp_path: Path) -> None:
    done = melfast("ita", drawn / "truth.csv", "--output", "t.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"melfast: error: {drawn}/truth.csv: {IMAGES} images have 'ita' already; --force replaces it\n"
    )
    assert melfast("ita", drawn / "truth.csv", "--output", "t.csv", "--force", cwd=tmp_path).returncode == 0


def test_an_interrupted_run_resumes(data: Path, drawn: Path) -> None:
    """Ctrl-C in the middle, then the same command again, gives the same manifest as an uninterrupted run."""
    lines = ["image_name,path"]
    for i in range(400):
        lines.append(f"s{i},{drawn}/data/images/SYN_{i % IMAGES + 1:07d}.jpg")
    (data / "many.csv").write_text("\n".join(lines) + "\n")
    words = ["ita", "many.csv", "--output", "stopped.csv", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "melfast", "prepare", *words], cwd=data, stderr=subprocess.PIPE)
    journal = data / "stopped.csv.ita.partial"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") > 20):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip() == "melfast: stopped by Ctrl-C"
    assert not (data / "stopped.csv").exists()
    kept = len(journal.read_text().splitlines()) - 1
    assert 20 <= kept < 400
    done = melfast(*words, cwd=data)
    assert f"  {kept} of them from an interrupted run\n" in done.stdout
    assert not journal.exists()
    melfast("ita", "many.csv", "--output", "whole.csv", cwd=data)
    assert (data / "stopped.csv").read_bytes() == (data / "whole.csv").read_bytes()


def write_journal(data: Path, output: str, method: str) -> None:
    """The journal of a `prepare masks` that was interrupted after the last mask, before the manifest."""
    folder = data / "masks"
    journal = Journal.beside(data / output, "masks", {"masks": method, "folder": str(folder.absolute())})
    made = read_manifest(data / "whole.csv")
    with journal.writing():
        for name, image in zip(made.image_names, made.image_paths, strict=True):
            if (mask := folder / f"{name}.png").is_file():
                result = {"mask_path": str(mask), "mask_area": 0.5, "mask_stamp": stamp(mask)}
                journal.add([{"image": name, "stamp": stamp(image), "result": result}])


def test_masks_that_were_deleted_or_changed_are_made_again(data: Path) -> None:
    melfast("masks", "m.csv", "--output", "whole.csv", "--masks-dir", "masks", cwd=data)
    write_journal(data, "again.csv", "lesion")
    (data / "masks" / "s2.png").unlink()
    (data / "masks" / "s3.png").write_bytes(b"of something else")
    done = melfast("masks", "m.csv", "--output", "again.csv", "--masks-dir", "masks", cwd=data)
    assert f"  {IMAGES - 2} of them from an interrupted run\n" in done.stdout
    assert (data / "masks" / "s2.png").is_file()
    assert read_mask(data / "masks" / "s3.png").any()


def test_a_journal_of_another_method_excuses_nothing(data: Path) -> None:
    melfast("masks", "m.csv", "--output", "whole.csv", "--masks-dir", "masks", cwd=data)
    write_journal(data, "again.csv", "hair")
    done = melfast("masks", "m.csv", "--output", "again.csv", "--masks-dir", "masks", cwd=data)
    assert done.stderr == ("melfast: error: masks/s1.png: already exists; --force replaces it\n")


def test_a_known_type_is_not_replaced_unasked(data: Path) -> None:
    text = (data / "m.csv").read_text().replace("target", "fitzpatrick")
    (data / "typed.csv").write_text(text)
    done = melfast("ita", "typed.csv", "--output", "q.csv", cwd=data)
    assert done.stderr == (
        f"melfast: error: typed.csv: {IMAGES + 1} images have 'fitzpatrick' already; --force replaces it\n"
    )


def test_sheet(data: Path) -> None:
    words = ("sheet", "m.csv", "--output", "sheet.png", "--images", 9, "--targets", "50,-20")
    done = melfast(*words, cwd=data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bad: a/b: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF\n"
    assert done.stdout == f"sheet.png: {IMAGES} of 9 images\n"
    assert read_image(data / "sheet.png").shape[1] == 4 * 240


@pytest.mark.parametrize("targets", ["", "30,x", "76", "-61", "nan"])
def test_sheet_wants_degrees(data: Path, targets: str) -> None:
    done = melfast("sheet", "m.csv", "--output", "s.png", "--targets", targets, cwd=data)
    assert done.returncode == 2
    assert f"expected degrees in -60..75 as 55,30,-30, got {targets!r}" in done.stderr


def test_sheet_wants_a_picture_name(data: Path) -> None:
    done = melfast("sheet", "m.csv", "--output", "s.gif", cwd=data)
    assert done.stderr == ("melfast: error: s.gif: expected a name that ends in .png, .jpg, .jpeg\n")


def test_resize(data: Path) -> None:
    words = ("resize", "m.csv", "--output", "small/s.csv", "--size", 100, "--quality", 90)
    done = melfast(*words, cwd=data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bad: a/b: found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF\n"
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"small/s.csv: {IMAGES} copies in small/resized-100, 0.")
    assert lines[-1] == "small/s.bad.csv lists the 1 bad images"
    small = read_manifest(data / "small" / "s.csv")
    assert len(small) == IMAGES
    assert [read_image(path).shape for path in small.image_paths] == [(100, 133, 3)] * IMAGES
    assert not list((data / "small").glob("*.partial"))
    again = melfast(*words, cwd=data)
    assert again.returncode == 1
    assert again.stderr.endswith(".jpg: already exists; --force replaces it\n")
    assert melfast(*words, "--force", cwd=data).returncode == 0
