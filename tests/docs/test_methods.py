"""docs/methods and docs/howto: the examples run, the tables match the code, the links work."""

import doctest
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from melfast.skin import quality
from melfast.skin.colour import srgb_to_lab
from melfast.skin.tone import FITZPATRICK, TONE_GROUPS, classify, ita_degrees

DOCS = Path(__file__).parents[2] / "docs"
METHODS = sorted((DOCS / "methods").glob("*.md"))
PAGES = METHODS + sorted((DOCS / "howto").glob("*.md"))
FLAGS = doctest.NORMALIZE_WHITESPACE

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")


def examples(text: str) -> str:
    """The text with all but its pycon blocks blanked, so that lines keep their numbers."""
    kept, inside = [], False
    for line in text.splitlines():
        inside = inside and line != "```"
        kept.append(line if inside else "")
        inside = inside or line == "```pycon"
    return "\n".join(kept) + "\n"


def failures(text: str, name: str) -> tuple[int, int, str]:
    """The number of failing examples, the number of examples, and the messages."""
    test = doctest.DocTestParser().get_doctest(examples(text), {}, name, name, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    found = runner.run(test, out=said.append)
    return found.failed, found.attempted, "".join(said)


def rows(page: str, name: str) -> list[list[str]]:
    """The cells of the table between two comments, without its head."""
    text = (DOCS / "methods" / page).read_text()
    (table,) = re.findall(rf"<!-- {name}:.*?-->\n(.*?)<!-- /{name} -->", text, re.S)
    lines = [line for line in table.splitlines() if line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("page", [p for p in METHODS if p.stem != "index"], ids=lambda p: p.stem)
def test_examples(page: Path) -> None:
    failed, attempted, said = failures(page.read_text(), page.name)
    assert failed == 0, said
    assert attempted >= 5


def test_an_example_with_another_number_fails() -> None:
    text = (DOCS / "methods" / "ita.md").read_text()
    assert text.count("b8 147: 44.8 light") == 1
    assert failures(text.replace("b8 147: 44.8", "b8 147: 44.9"), "ita.md")[0] == 1


def test_scales() -> None:
    expected = []
    for name, scale in (TONE_GROUPS | FITZPATRICK).items():
        parts = [f"{n} {low:g}" for n, low in zip(scale.names, scale.lower_deg, strict=False)]
        expected.append([f"`{name}`", ", ".join([*parts, scale.names[-1]]), scale.source])
    assert rows("ita.md", "scales") == expected


def test_scores() -> None:
    scores = [value for value in vars(quality).values() if isinstance(value, quality.Score)]
    expected = {score.doubt: [f"{score.worst:g}", f"{score.best:g}"] for score in scores}
    assert {row[0]: row[2:] for row in rows("ita.md", "scores")} == expected


def test_what_the_published_table_becomes(real_data: Path) -> None:
    """The figures of ita.md: its stored colours read in true CIELAB."""
    table = pd.read_csv(real_data / "isic2020" / "ISIC_2020_full.csv", sep=";", decimal=",")
    colours = table[["color_r", "color_g", "color_b"]].to_numpy().astype(np.uint8)
    scale = TONE_GROUPS["six"]
    true = classify(ita_degrees(srgb_to_lab(colours)), scale)
    before = classify(table["ita"], scale)
    counts = [np.bincount(groups, minlength=6) for groups in (true, before)]
    assert counts[1][5] == 0
    (brown, dark), (brown_before, _) = (found[4:] for found in counts)
    text = " ".join((DOCS / "methods" / "ita.md").read_text().split())
    said = (
        f"The published ISIC 2020 table has {len(table):,} images. If its stored colours are read in true CIELAB, "
        f"{np.mean(true != before):.0%} of the images change their group of six: {brown:,} become brown and {dark} "
        f"dark, compared with {brown_before} and none in the table."
    )
    assert said.replace("%", " %") in text


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        file, _, heading = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.is_file(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert heading in slugs, link


@each_page
def test_form(page: Path) -> None:
    """One title, a limited length, a section with links at the end; toctrees name all pages."""
    text = page.read_text()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    assert len(re.findall(r"^# ", prose, re.M)) == 1
    assert len(text.splitlines()) <= 215
    assert re.findall(r"^## (.*)$", prose, re.M)[-1] in ("Sources", "See also")
    words = re.sub(r"`[^`]*`|\$\$.*?\$\$", "", re.sub(r"^ {4,}.*$", "", prose, flags=re.M), flags=re.S)
    torn = [line for line in words.splitlines() if line.count("$") % 2]
    assert torn == []  # GitHub shows no formula that goes over a line's end
    if page.stem == "index":
        (tree,) = re.findall(r"```\{toctree\}\n(.*?)```", text, re.S)
        named = [line for line in tree.splitlines() if line and not line.startswith(":")]
        assert sorted(named) == sorted(p.stem for p in page.parent.glob("*.md") if p != page)
