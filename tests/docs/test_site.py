"""docs/ as a site: it builds without a warning, every picture is small, every page is listed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from melfast.cli import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as built by `make docs`, without the notebooks, which have their own test."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--builder", "html"]
    command = [sys.executable, "-m", "sphinx", *options, "--doctree-dir", str(folder / "trees")]
    done = subprocess.run(
        [*command, str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        env=os.environ | {"MELFAST_DOCS_NOTEBOOKS": "off"},
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_make_docs_asks_the_same() -> None:
    lines = (ROOT / "Makefile").read_text()
    assert "sphinx-build --fail-on-warning --keep-going --nitpicky --builder html docs" in lines


def test_every_page_is_built(site: Path) -> None:
    pages = [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]
    assert len(pages) > 10
    for page in pages:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file(), page


def test_pages_that_stand_elsewhere_are_taken_in(site: Path) -> None:
    """And links between them, and to them, stay on the site."""
    contributing = (site / "contributing.html").read_text()
    assert "The proof each change needs" in contributing
    assert 'href="changelog.html"' in contributing
    assert 'href="contributing.html"' in (site / "install.html").read_text()
    assert "Keep a Changelog" in (site / "changelog.html").read_text()


def test_every_command_is_told(site: Path) -> None:
    page = (site / "cli.html").read_text()
    for name in COMMANDS:
        assert f'id="melfast-{name}"' in page, name
    assert 'id="melfast-prepare-ita"' in page
    assert "  --min-quality FLOAT RANGE" in page  # as it is printed, line by line
    assert "data/*/*.jpg" in page


def text_of(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", page.read_text()).split())


def test_docstrings_are_told(site: Path) -> None:
    assert 'id="melfast.skin.ita.estimate_tone"' in (site / "api" / "skin.html").read_text()
    skin = text_of(site / "api" / "skin.html")
    assert "estimate_tone(image: NDArray[uint8], *, convention: Literal['cielab', " in skin
    # Text before a colon is not read as a type.
    assert "Return type" not in skin
    learning = text_of(site / "api" / "learning.html")
    assert "property num_logits: int¶ Number of outputs of the network: one per class" in learning
    # Types are as short as the code has them.
    for page in (site / "api").glob("*.html"):
        found = re.findall(r"ndarray\[|_NestedSequence|_DTypeDict|~\w+\.", text_of(page))
        assert found == [], page


def test_the_site_needs_no_network(site: Path) -> None:
    """No third-party script, style or font; formulas are MathML."""
    pages = list(site.rglob("*.html"))
    for page in pages:
        text = page.read_text()
        assert re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"(?:https?:)?//", text) == [], page
    assert "<math" in (site / "notebooks" / "skin_tone.html").read_text()


def test_pictures_are_small() -> None:
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png", ".svg")]
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 300_000, path
