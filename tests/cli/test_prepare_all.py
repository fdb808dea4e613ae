"""prepare all: the same results as the single commands, decoding each image once."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from melfast.cli import main
from melfast.data.manifest import read_manifest
from melfast.io.images import ImageFile, Scaled
from melfast.prepare.synth import SynthSettings, synthesize

IMAGES = 14
FRACTIONS = "0.5,0.25,0.25"
ALL = ("all", "data", "--output", "all/manifest.csv", "--fractions", FRACTIONS)


def melfast(*words: object) -> Result:
    return CliRunner().invoke(main, ["prepare", *map(str, words)])


def done(*words: object) -> Result:
    result = melfast(*words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in benign/ and malignant/: JPEG of two sizes, PNG, a copy, a turned copy, and one that is cut short."""
    folder = tmp_path_factory.mktemp("drawn")
    truth = synthesize(folder / "synth", SynthSettings(IMAGES, size=(560, 420), malignant=0.5), workers=1)
    for row, path in enumerate(truth.image_paths):
        target = folder / "data" / ("malignant" if row % 2 else "benign")
        target.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            if row % 4 == 0:
                image = image.resize((1200, 900))
            image.save(target / (f"i{row:02d}.png" if row % 5 == 0 else f"i{row:02d}.jpg"), quality=92)
    (folder / "data" / "benign" / "copy.jpg").write_bytes((folder / "data" / "benign" / "i02.jpg").read_bytes())
    with Image.open(folder / "data" / "benign" / "i08.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "data" / "benign" / "turned.jpg", quality=90)
    whole = (folder / "data" / "malignant" / "i01.jpg").read_bytes()
    (folder / "data" / "malignant" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the commands run in, with the link `data`."""
    (tmp_path / "data").symlink_to(drawn / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_after_the_other(folder: str, *left_out: str, **options: list[str]) -> None:
    """The single commands, into folder/manifest.csv."""
    before = f"{folder}/import.csv"
    done("import", "data", "--output", before)
    for name in ("check", "dedup", "masks", "ita", "resize", "split"):
        if name not in left_out:
            after = f"{folder}/{name}.csv"
            more = ["--fractions", FRACTIONS] if name == "split" else []
            done(name, before, "--output", after, *more, *options.get(name, []))
            before = after
    Path(before).rename(f"{folder}/manifest.csv")


def tree(folder: Path) -> dict[str, bytes]:
    """The manifest, masks and copies."""
    files = [folder / "manifest.csv", *(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dedup": ["--drop"]},
        {"masks": ["--method", "published"], "ita": ["--convention", "published", "--tone-groups", "four"]},
        {"resize": ["--size", "700", "--quality", "80"], "masks": ["--method", "skin"]},
    ],
    ids=["default", "drop", "published", "large"],
)
def test_the_same_bytes(data: Path, options: dict[str, list[str]]) -> None:
    one_after_the_other("single", **options)
    names = {"--drop": "--drop-copies", "--method": "--mask-method"}
    done(*ALL, *(names.get(word, word) for words in options.values() for word in words))
    made, wanted = tree(data / "all"), tree(data / "single")
    assert made.keys() == wanted.keys()
    assert len(made) > 38
    for name in made:
        assert made[name] == wanted[name], name
    bad = [(data / name).read_text() for name in ("single/check.bad.csv", "all/manifest.bad.csv")]
    assert bad[0].replace("single/", "all/") == bad[1]
    left = {path.name for path in (data / "all").iterdir() if path.is_file()}
    assert left == {"manifest.csv", "manifest.bad.csv"}


@pytest.mark.parametrize("name", ["check", "dedup", "masks", "ita", "resize", "split"])
def test_each_step_can_be_left_out(data: Path, name: str) -> None:
    one_after_the_other("single", name)
    result = done(*ALL, f"--no-{name}")
    assert f"  {name} " not in result.output
    assert tree(data / "all") == tree(data / "single")


def test_nothing_but_the_import(data: Path) -> None:
    words = [f"--no-{name}" for name in ("check", "dedup", "masks", "ita", "resize", "split")]
    done(*ALL[:-2], *words)
    done("import", "data", "--output", "all/import.csv")
    assert (data / "all" / "manifest.csv").read_bytes() == (data / "all" / "import.csv").read_bytes()


def test_what_is_printed(data: Path) -> None:
    result = done(*ALL)
    reason = "found a truncated or damaged JPEG"
    assert result.stderr.splitlines()[-1].startswith(f"bad: cut: {reason}")
    lines = result.stdout.splitlines()
    assert lines[0] == "all/manifest.csv: 16 images of data"
    assert lines[1].startswith("  import  folder; images 17; target 'target': 8 positive, 9 negative; ")
    assert lines[2] == "  check   16 images good, 1 bad"
    assert lines[3] == "  dedup   2 copies marked: bytes 1; near 1"
    assert lines[4] == "  masks   16 lesion masks in all/masks-lesion"
    assert lines[5].startswith("  ita     ")
    assert lines[6].startswith("  resize  16 copies in all/resized-288, ")
    assert lines[7].startswith("  split   train 10, valid 3, test 3")
    assert lines[8].startswith("  time    ")
    assert lines[8].endswith(" images/s")
    assert lines[9] == "all/manifest.bad.csv lists the 1 bad images"


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Decodes of each image of the data set."""
    counts: Counter[str] = Counter()
    at = ImageFile.at

    @contextmanager
    def counting(self: ImageFile, factor: int, *, grey: bool = False) -> Iterator[Scaled]:
        if "/benign/" in str(self.path) or "/malignant/" in str(self.path):
            counts[Path(self.path).stem] += 1
        with at(self, factor, grey=grey) as found:
            yield found

    monkeypatch.setattr(ImageFile, "at", counting)
    return counts


def test_each_image_is_decoded_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_decodes(monkeypatch)
    done(*ALL)
    assert len(counts) == 17
    assert set(counts.values()) == {1}


def test_a_second_run_has_nothing_to_do(data: Path) -> None:
    done(*ALL)
    before = tree(data / "all")
    refused = melfast(*ALL)
    hint = "already exists; --force replaces it, --masks-dir FOLDER names another folder"
    assert str(refused.exception).endswith(hint)
    done(*ALL, "--force")
    assert tree(data / "all") == before


def test_what_the_table_has_stays(data: Path) -> None:
    done(*ALL, "--no-resize")
    result = done("all", "all/manifest.csv", "--output", "again/manifest.csv", "--no-resize")
    assert result.stderr.splitlines()[:4] == [
        "note: dedup left out: 4 of 16 images have 'duplicate_group' already",
        "note: masks left out: 16 of 16 images have 'mask_path' already",
        "note: ita left out: 16 of 16 images have 'ita' already",
        "note: split left out: 16 of 16 images have 'split' already",
    ]
    first, again = read_manifest("all/manifest.csv"), read_manifest("again/manifest.csv")
    assert [path.resolve() for path in first.mask_paths] == [path.resolve() for path in again.mask_paths]
    assert (first.splits == again.splits).all()


def test_resumed_after_a_kill(data: Path) -> None:
    done(*ALL[:3], "whole/manifest.csv", *ALL[4:])
    journal = data / "all" / "manifest.csv.all.partial"
    command = [sys.executable, "-m", "melfast", "prepare", *ALL, "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (journal.is_file() and journal.read_bytes().count(b"\n") > 3):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = journal.read_bytes().count(b"\n") - 1
    other = melfast(*ALL, "--size", "100")
    assert "results made with other settings (folders, size)" in str(other.exception)
    result = done(*ALL)
    assert f"  {kept} of them from an interrupted run\n" in result.stdout
    assert tree(data / "all") == tree(data / "whole")
    assert not journal.exists()


def test_the_section_of_a_yaml(data: Path) -> None:
    (data / "p.yaml").write_text("prepare:\n  masks: false\n  ita: false\n  size: 64\n  fractions: [0.5, 0.25, 0.25]\n")
    done("all", "data", "--output", "all/manifest.csv", "--config", "p.yaml", "--size", "32", "--no-dedup")
    manifest = read_manifest("all/manifest.csv")
    assert "mask_path" not in manifest.table
    assert "ita" not in manifest.table
    assert "duplicate_group" not in manifest.table
    assert manifest.column("height")[0] == "32"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prepare: {mask: false}", "p.yaml: prepare.mask: unknown key, did you mean 'prepare.masks'?"),
        ("prepar: {masks: false}", "p.yaml: prepar: unknown key, did you mean 'prepare'?"),
        ("prepare: {masks: maybe}", "p.yaml: prepare.masks must be true or false, got 'maybe'"),
        ("prepare: {size: 4}", "p.yaml: prepare.size must be >= 8, got 4"),
        (
            "prepare: {mask_method: ink}",
            "p.yaml: prepare.mask_method must be 'lesion', 'published', 'hair' or 'skin', got 'ink'",
        ),
        (
            "prepare: {fractions: [0.5, 0.1, 0.1]}",
            "p.yaml: prepare.fractions must be fractions that add up to 1, got [0.5, 0.1, 0.1]",
        ),
        ("prepare: [masks]", "p.yaml: prepare must be a mapping by name, got ['masks']"),
    ],
)
def test_a_wrong_yaml(data: Path, text: str, message: str) -> None:
    (data / "p.yaml").write_text(text)
    result = melfast("all", "data", "--output", "all/manifest.csv", "--config", "p.yaml")
    assert str(result.exception) == message
    assert not (data / "all").exists()


def test_a_wrong_option(data: Path) -> None:
    result = melfast(*ALL, "--min-quality", "3")
    assert str(result.exception) == "--min-quality: prepare.min_quality must be <= 1, got 3.0"
    result = melfast(*ALL[:-1], "0.5;0.5")
    assert "expected three numbers as 0.7,0.15,0.15, got '0.5;0.5'" in result.output


def test_images_without_labels_get_no_split(data: Path) -> None:
    result = done("all", "data/benign", "--output", "all/manifest.csv", "--unlabelled", "--no-masks", "--no-resize")
    assert "note: split left out: no image is labelled\n" in result.stderr


def test_images_that_cannot_be_split_are_not_read(data: Path) -> None:
    for place in (data / "few" / "benign", data / "few" / "malignant"):
        place.mkdir(parents=True)
        (place / f"{place.name[0]}.jpg").write_bytes((data / "data" / "benign" / "i02.jpg").read_bytes())
    result = melfast("all", "few", "--output", "all/manifest.csv")
    assert "few/manifest.csv: split 'valid' would be empty: 2 patients, lesions or images" in str(result.exception)
    assert not list(data.glob("all/*"))
