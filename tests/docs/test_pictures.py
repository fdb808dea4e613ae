"""docs/pictures.py: every picture on the pages is drawn, and is not blank."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "methods").glob("*.md")) + sorted((DOCS / "howto").glob("*.md"))
SHOWN = re.compile(r"!\[([^\]]*)\]\((?:\.\./)?pictures/([^)]+)\)")


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(pictures: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    pictures.draw_all(folder)
    return folder


def small(path: Path) -> np.ndarray:
    """A picture reduced to 24 x 24 pixels, where single pixels and letters do not matter: [24, 24, 3]."""
    with Image.open(path) as picture:
        blurred = picture.convert("RGB").resize((24, 24), Image.Resampling.BOX)
        return np.asarray(blurred, dtype=float)


def test_those_drawn_are_those_shown(drawn: Path) -> None:
    shown = {name for page in PAGES for _, name in SHOWN.findall(page.read_text())}
    assert {path.name for path in drawn.iterdir()} == shown
    assert {path.name for path in (DOCS / "pictures").iterdir()} == shown


def test_each_is_described() -> None:
    texts = [text for page in PAGES for text, _ in SHOWN.findall(page.read_text())]
    assert min(map(len, texts)) > 40
    assert len(set(texts)) == len(texts)


def test_numbers_of_the_descriptions_are_those_drawn(pictures: ModuleType) -> None:
    described = {name: text for page in PAGES for text, name in SHOWN.findall(page.read_text())}
    checked = 0
    for name, text in described.items():
        numbers = re.findall(r"\d+\.\d+|\d+ of \d+", text)
        if not numbers:
            continue
        words = " ".join(found.get_text() for found in pictures.PICTURES[name]().findobj(Text))
        for number in numbers:
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]\d)", words), (name, number)
            checked += 1
    assert checked >= 8


def test_none_is_blank_or_heavy(drawn: Path) -> None:
    for path in drawn.iterdir():
        with Image.open(path) as picture:
            levels = np.asarray(picture.convert("L"))
        assert picture.width == 750
        assert 0.01 < (levels < 200).mean() < 0.9, path.name
        assert path.stat().st_size < 150_000, path.name
    assert sum(path.stat().st_size for path in drawn.iterdir()) < 1_500_000


def test_the_ones_here_are_of_today(drawn: Path) -> None:
    """Not byte by byte: fonts and compression may differ between versions."""
    files = sorted(path.name for path in drawn.iterdir())
    today = {name: small(drawn / name) for name in files}
    for name in files:
        before = small(DOCS / "pictures" / name)
        apart = {other: np.abs(before - now).mean() for other, now in today.items()}
        assert apart[name] < 3, name
        assert min(apart, key=lambda other: apart[other]) == name


def test_the_same_twice(pictures: ModuleType) -> None:
    for name in ("ita-plane.png", "gap-by-chance.png"):
        twice = []
        for _ in range(2):
            figure = pictures.PICTURES[name]()
            canvas = pictures.FigureCanvasAgg(figure)
            canvas.draw()
            twice.append(np.asarray(canvas.buffer_rgba()).copy())
        np.testing.assert_array_equal(*twice)
