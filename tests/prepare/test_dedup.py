"""Copies of one picture: planted copies are found, other pictures are not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from melfast.data.manifest import Manifest
from melfast.io.errors import InputError
from melfast.io.journal import Journal
from melfast.prepare import dedup
from melfast.prepare.dedup import contradictions, duplicates_summary, rows_kept, table_pairs, with_duplicates
from melfast.prepare.split import connected_parts
from melfast.prepare.sweep import Bar, no_bar, run_step
from melfast.prepare.synth import SynthSettings, synthesize

PICTURES = 40


def find_duplicates(manifest, journal=None, bar=no_bar, threads=1):
    with bar("reading", len(manifest)) as advance:
        swept = run_step(manifest, dedup.THUMBNAIL, threads=threads, journal=journal, progress=advance)
    return dedup.find_duplicates(manifest, swept, threads=threads, bar=bar)


def counting(found: dict[str, list[int]]) -> Bar:
    """Bars that count: steps announced and taken of each stage."""

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[], None]]:
        found[what] = [total, 0]

        def advance() -> None:
            found[what][1] += 1

        yield advance

    return bar


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Cuts fractions of the sides away."""
    width, height = image.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return image.crop(tuple(round(edge) for edge in box))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = image.size
    return image.resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)


def turned(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC)  # corners become black


# name: (what is done, JPEG quality)
EDITS: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "quarter turn": (lambda image: image.transpose(Image.Transpose.ROTATE_90), 90),
    "half turn": (lambda image: image.transpose(Image.Transpose.ROTATE_180), 90),
    "flip": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 90),
    "3 degrees": (lambda image: turned(image, 3), 90),
    "-5 degrees": (lambda image: turned(image, -5), 90),
    "half size": (lambda image: scaled(image, 0.5), 90),
    "1.7 times": (lambda image: scaled(image, 1.7), 90),
    "quality 50": (lambda image: image, 50),
    "quality 70": (lambda image: image, 70),
    "5 % off one corner": (lambda image: crop(image, 0.05, 0.05, 0, 0), 90),
    "5 % off each side": (lambda image: crop(image, 0.05, 0.05, 0.05, 0.05), 90),
    "crop, turn, half size": (
        lambda image: scaled(crop(image, 0, 0.03, 0.05, 0.02).transpose(Image.Transpose.TRANSPOSE), 0.5),
        80,
    ),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("drawn")
    return synthesize(folder, SynthSettings(PICTURES, size=(300, 225)), workers=1).image_paths


def manifest_of(folder: Path, paths: list[Path], **columns: list[str]) -> Manifest:
    table = {"image_name": [f"i{n}" for n in range(len(paths))], "path": [str(p) for p in paths]}
    return Manifest(folder / "m.csv", pd.DataFrame({**table, **columns}, dtype=str))


def planted(folder: Path, originals: list[Path], edit: str) -> Manifest:
    """The originals, then an edited copy of each."""
    change, quality = EDITS[edit]
    copies = []
    for number, path in enumerate(originals):
        copies.append(folder / f"copy{number}.jpg")
        with Image.open(path) as image:
            change(image.convert("RGB")).save(copies[-1], quality=quality)
    return manifest_of(folder, originals + copies)


def recall_and_precision(manifest: Manifest) -> tuple[float, float]:
    """Of the planted pairs those that were found; of the pairs found those that were planted."""
    half = len(manifest) // 2
    steps: dict[str, list[int]] = {}
    pairs = list(find_duplicates(manifest, threads=2, bar=counting(steps)).pairs)
    assert list(steps) == ["reading", "searching", "comparing"]
    assert all(taken == announced > 0 for announced, taken in steps.values())
    found = sum(other - one == half for one, other in pairs)
    return found / half, found / max(len(pairs), 1)


@pytest.mark.parametrize("edit", EDITS)
def test_machine_models_are_found_and_nothing_else(drawn, tmp_path, edit):
    recall, precision = recall_and_precision(planted(tmp_path, drawn, edit))
    assert recall >= 0.95
    assert precision >= 0.99


@pytest.mark.parametrize("edit", ["quarter turn", "-5 degrees", "quality 50", "5 % off each side"])
def test_machine_models_of_real_images(real_data, tmp_path, edit):
    files = sorted((real_data / "ham10000" / "images").iterdir())[::90]
    recall, precision = recall_and_precision(planted(tmp_path, files, edit))
    assert recall >= 0.95
    assert precision >= 0.99


def test_bytes_pixels_and_who_is_kept(drawn, tmp_path):
    with Image.open(drawn[0]) as image:
        image.save(tmp_path / "pixels.png")
        scaled(image, 2).save(tmp_path / "large.jpg", quality=95)
    (tmp_path / "bytes.jpg").write_bytes(drawn[0].read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"")
    paths = [drawn[1], drawn[0], tmp_path / "bytes.jpg", tmp_path / "pixels.png"]
    paths += [tmp_path / "large.jpg", tmp_path / "broken.jpg", drawn[2], drawn[3]]
    manifest = manifest_of(tmp_path, paths, target=["0", "0", "", "1", "", "0", "0", "0"])
    copies = find_duplicates(manifest)
    assert [(name, reason) for name, _, reason in copies.bad] == [
        ("i5", "found an empty file, expected a JPEG, PNG, WebP, BMP or TIFF")
    ]
    assert copies.pairs[1, 2] == "bytes"
    assert copies.pairs[1, 3] == "pixels"
    assert "near" in (copies.pairs.get((1, 4)), copies.pairs.get((3, 4)))
    marked = with_duplicates(manifest, copies, listed=[(6, 7)])
    # Labelled first: row 4 has the most pixels, but no target.
    assert marked.column("duplicate_of").tolist() == ["", "", "i1", "i1", "i1", "", "", "i6"]
    assert marked.column("duplicate_group").tolist() == ["", "1", "1", "1", "1", "", "2", "2"]
    assert marked.column("duplicate_kind").tolist() == ["", "", "bytes", "pixels", "near", "", "", "table"]
    assert rows_kept(marked).image_names == ["i0", "i1", "i5", "i6"]
    assert contradictions(marked) == ["group 1: i1 has target 0, i3 has target 1"]
    assert duplicates_summary(marked) == [
        "bytes        1",
        "pixels       1",
        "near         1",
        "table        1",
        "groups       2",
    ]
    parts = connected_parts(marked)
    assert len(set(parts[1:5])) == 1
    assert len(set(parts)) == 4


def test_the_largest_is_kept_where_all_are_labelled(drawn, tmp_path):
    with Image.open(drawn[0]) as image:
        scaled(image, 2).save(tmp_path / "large.jpg", quality=95)
    manifest = manifest_of(tmp_path, [drawn[0], tmp_path / "large.jpg"], target=["1", "1"])
    marked = with_duplicates(manifest, find_duplicates(manifest))
    assert marked.column("duplicate_of").tolist() == ["i1", ""]
    assert contradictions(marked) == []


def test_plain_pictures_are_copies_only_by_their_pixels(tmp_path):
    colours = [(200, 150, 120), (200, 150, 120), (200, 150, 121), (90, 90, 90)]
    paths = []
    for number, colour in enumerate(colours):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (20, 10), colour).save(paths[-1], compress_level=number)
    assert find_duplicates(manifest_of(tmp_path, paths)).pairs == {(0, 1): "pixels"}


@pytest.mark.parametrize("count", [1, 2])
def test_few_images(drawn, tmp_path, count):
    assert find_duplicates(manifest_of(tmp_path, drawn[:count])).pairs == {}


def test_second_photographs_of_a_lesion_are_no_copies(real_data, tmp_path):
    """Pairs of one lesion in HAM10000: another day, another light, a ruler."""
    labels = pd.read_csv(real_data / "ham10000" / "labels.csv", dtype=str)
    twice = labels[labels.duplicated("lesion_id", keep=False)].sort_values("lesion_id")[:200]
    folder = real_data / "ham10000" / "images"
    manifest = manifest_of(tmp_path, [folder / f"{name}.jpg" for name in twice["image_name"]])
    near = find_duplicates(manifest, threads=2).pairs
    lesions = twice["lesion_id"].tolist()
    assert all(lesions[one] == lesions[other] for one, other in near)
    assert len(near) < 40


def test_an_interrupted_search_goes_on(drawn, tmp_path):
    manifest = manifest_of(tmp_path, [*drawn[:5], drawn[0]])
    journal = Journal(tmp_path / "out.partial", {"dedup": 1})
    first = find_duplicates(manifest, journal=journal)
    again = find_duplicates(manifest, journal=journal)
    assert (first.resumed, again.resumed) == (0, 6)
    assert first.pairs == again.pairs == {(0, 5): "bytes"}


def test_a_given_table(drawn, tmp_path):
    manifest = manifest_of(tmp_path, drawn[:3])
    table = tmp_path / "t.csv"
    table.write_text("image_name_1,image_name_2\ni2,i0\ni1,ISIC_1\ni1,i1\n")
    assert table_pairs(manifest, table) == ([(0, 2)], 1)
    table.write_text("image_name_1,image_2\ni2,i0\n")
    with pytest.raises(InputError, match=r"t\.csv: no column 'image_name_2'; columns are"):
        table_pairs(manifest, table)


def test_the_published_table_of_isic_2020(real_data):
    names = pd.read_csv(real_data / "isic2020" / "ISIC_2020_full.csv", sep=";", dtype=str)
    names = names["image_name"].tolist()
    manifest = Manifest(Path("m.csv"), pd.DataFrame({"image_name": names}, dtype=str))
    table = real_data / "isic2020" / "ISIC_2020_Training_Duplicates.csv"
    pairs, unknown = table_pairs(manifest, table)
    assert len(pairs) + unknown == 425


def test_pairs_are_equal_in_both_orders(drawn, tmp_path):
    with Image.open(drawn[0]) as image:
        crop(image, 0.05, 0, 0, 0.05).save(tmp_path / "c.jpg", quality=90)
    for paths in ([drawn[0], tmp_path / "c.jpg"], [tmp_path / "c.jpg", drawn[0]]):
        manifest = manifest_of(tmp_path, [*paths, *drawn[1:4]])
        assert find_duplicates(manifest).pairs == {(0, 1): "near"}
        assert np.count_nonzero(find_duplicates(manifest).sizes) == 5
