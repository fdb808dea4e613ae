"""The page: what its first screen says, and how a browser shows it."""

import json
import re
import shutil
import subprocess
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from melfast.report.page import write_page
from melfast.report.shown import percent

GROUPS = {
    "very light": (15, 17),
    "light": (36, 58),
    "intermediate": (34, 46),
    "=tan": (14, 16),
    "日本 العربية हिन्दी": (1, 2),
}


def values(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "method": "wilson"}


def gap(p: float, stands: bool) -> dict[str, Any]:
    """Keys of a gap as the analysis writes them."""
    return {
        "gap": 0.2617,
        "low": 0.01 if stands else 0.0,
        "high": 0.5,
        "ratio": 0.703,
        "lowest_group": "light",
        "highest_group": "very light",
        "worst_group": "light" if stands else None,
        "stands": stands,
        "left_out": {"日本 العربية हिन्दी": 2},
        "null": {"mean": 0.18, "p_value": p, "p_adjusted": p, "reason": None},
    }


def document(p: float = 0.16, stands: bool = False) -> dict[str, Any]:
    """A report's document, with the published model's numbers."""
    groups = {
        name: {
            "images": 40 * malignant,
            "malignant": malignant,
            "confusion": {"tn": 30 * malignant, "fp": 9 * malignant, "fn": malignant - found, "tp": found},
            "metrics": {
                "recall": values(found / malignant, 0.4, 0.95),
                "auc": values(0.85, 0.8, 0.9),
                "fpr": values(0.1, 0.05, 0.2),
                "precision": values(0.1, 0.05, 0.2),
                "selection_rate": values(0.1, 0.05, 0.2),
            },
        }
        for name, (found, malignant) in GROUPS.items()
    }
    overall = {
        "auc": values(0.8621, 0.83, 0.89),
        "recall": values(0.7226, 0.642, 0.79),
        "specificity": values(0.8956, 0.886, 0.905),
        "fpr": values(0.1044, 0.095, 0.114),
        "precision": values(0.1286, 0.11, 0.15),
        "selection_rate": values(0.1173, 0.11, 0.13),
        "number_needed_to_biopsy": values(7.78, 6.7, 9.1),
    }
    model = {
        "name": "a-model-whose-name-is-long_and_has_no_space_in_it_at_all_2026-01-01",
        "threshold": 0.4213,
        "threshold_source": "the table's own calls",
        "overall": overall,
        "confusion": {"tn": 5754, "fp": 671, "fn": 38, "tp": 99},
        "operating_points": {},
        "groupings": {
            "group": {"names": list(groups), "unknown": 3, "groups": groups, "gaps": {"recall": gap(p, stands)}}
        },
    }
    texts = {
        "training": "1,689 of the 1,691 reported patients also have images in the training split: expect worse results",
        "groups": "group: fewer than 10 malignant images in brown (2): recall and AUC say little there",
        "images": "26,138 images of the manifest have no prediction: left out: a, b, c, d, e, ...",
    }
    return {
        "melfast": "0.1.0",
        "about": {
            "title": "published: how good, for whom, how sure",
            "images": 6562,
            "malignant": 137,
            "patients": 1691,
            "manifest": "/a/folder/manifest.csv",
            "predictions": [
                {
                    "path": "/a/folder/with/a/long/path/of/many/parts/predictions.csv",
                    "columns": {"image": "image_name", "probability": "score", "prediction": "call"},
                    "passed_over": ["resnet"],
                }
            ],
            "remarks": [{"kind": kind, "text": text} for kind, text in texts.items()],
            "intervals": {"level": 0.95, "permutations": 1000, "seed": 0, "clusters": "patients", "family": 7},
        },
        "models": [model],
        "comparisons": [],
    }


def first_screen(found: dict[str, Any]) -> str:
    """The words of the three answers."""
    page = write_page(found, [])
    answers = page[page.index("<div class=answers>") : page.index("<h2 id=notes>")]
    return " ".join(re.sub(r"<[^>]+>", " ", answers).split())


def test_the_first_screen_says_what_is_missed_for_whom_and_how_sure() -> None:
    words = first_screen(document())
    for part in (
        "It misses 38 of 137 cancers and raises a false alarm for 671 of 6,425 benign images.",
        "Sensitivity 72.3 % (64.2 to 79.0)",
        "Specificity 89.6 % (88.6 to 90.5)",
        "AUC 0.8621 (0.8300 to 0.8900)",
        "Threshold 0.4213 (the table&#x27;s own calls)",
        "By skin tone, it finds the smallest share of cancers in light skin, but that may be chance",
        "(adjusted p = 0.160).",
        "light finds 36 of 58: 62.1 %",
        "very light finds 15 of 17: 88.2 %",
        "Gap 26.2 points (0.0 to 50.0)",
        "By chance alone, groups of this size differ by 18.0 points on average.",
        "Too few cancers to judge: 日本 العربية हिन्दी (2).",
        "1,689 of the 1,691 reported patients also have images in the training split",
        "2 more notes",
    ):
        assert part in words, part


def test_a_gap_that_is_clear_only_on_its_own_is_explained() -> None:
    found = document()
    gap = found["models"][0]["groupings"]["group"]["gaps"]["recall"]
    gap |= {"low": 0.041, "null": gap["null"] | {"p_value": 0.006}}
    words = first_screen(found)
    assert "may be chance (adjusted p = 0.160)." in words
    assert "Tested alone, this gap would be clear (p = 0.006), but not among all gaps tested here." in words
    assert "Tested alone" not in first_screen(document())


def test_shares_in_percent() -> None:
    assert (percent(0.95), percent(0.57), percent(0.999)) == ("95 %", "57 %", "99.9 %")


def test_a_gap_that_stands_is_called_more_than_chance() -> None:
    words = first_screen(document(0.002, True))
    assert "in light skin, more than chance explains (adjusted p = 0.002)." in words
    assert "By chance alone" not in words
    assert '<td data-label="worst group"><bdi>light</bdi></td>' in write_page(document(0.002, True), [])
    assert '<td data-label="worst group">–</td>' in write_page(document(), [])


def test_without_calls_scores_or_groups_the_first_screen_says_so() -> None:
    found = document()
    (model,) = found["models"]
    model["confusion"] = None
    model["overall"] = {"auc": model["overall"]["auc"]}
    model["groupings"] = {}
    words = first_screen(found)
    assert "Without a threshold nobody can say which cancers it misses" in words
    assert "Not known: no image has a skin tone or another group" in words
    found = document()
    del found["models"][0]["overall"]["auc"]
    assert "AUC not available" in first_screen(found)
    found = document()
    gap_of = found["models"][0]["groupings"]["group"]["gaps"]["recall"]
    gap_of |= {"gap": None, "low": None, "high": None, "lowest_group": None, "highest_group": None}
    gap_of["left_out"] = dict.fromkeys(GROUPS, 2)
    assert "Cannot be judged by skin tone: fewer than two groups have enough cancers" in first_screen(found)


def test_every_model_has_its_answers() -> None:
    found = document()
    found["models"].append(deepcopy(found["models"][0]) | {"name": "other"})
    found["models"][1]["confusion"] = {"tn": 1, "fp": 2, "fn": 3, "tp": 4}
    words = first_screen(found)
    assert "It misses 38 of 137 cancers" in words
    assert "other It misses 3 of 7 cancers" in words
    assert words.count("light finds 36 of 58: 62.1 %") == 2


def test_columns_read_and_not_used_are_on_the_page() -> None:
    page = re.sub(r"<[^>]+>", "", write_page(document(), []))
    assert "image from column image_name, probability from column score, prediction from column call." in page
    assert "Columns of numbers not used: resnet." in page


def test_the_checklist_names_items_covered_and_left_to_the_authors() -> None:
    page = write_page(document(), [])
    table = page[page.index("<h2>Reporting checklists</h2>") :]
    assert '<td data-label="TRIPOD+AI">23a</td><td data-label="CLAIM 2024">29, 37, 38</td>' in table
    assert "for the authors to report: TRIPOD+AI 1–10" in table


class Tags(HTMLParser):
    """Opened elements that are not closed, and those closed that are not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_html_and_loads_nothing() -> None:
    page = write_page(document(), [])
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not re.search(r"""(src|href)=(?!["']?(data:|#))""", page)
    for name in GROUPS:
        assert f"<bdi>{name}</bdi>" in page
    # On a phone each cell carries its heading, so that nothing has to be scrolled to.
    assert page.count("<td data-label=") == len(re.findall(r"<td data-label=\"[^\"]+\">", page)) > 50


PROBE = """<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(e => {
    const r = e.getBoundingClientRect();
    return r.width && (r.right > innerWidth + 1 || r.left < -1);
  }).map(e => e.tagName + "." + e.className.toString());
  const answers = document.querySelector(".answers").getBoundingClientRect();
  const scroll = document.documentElement.scrollWidth;
  parent.postMessage({width: innerWidth, scroll, wide, bottom: answers.bottom}, "*");
});
</script>"""
FRAME = """<body><iframe src="page.html" style="border:0;width:{}px;height:{}px"></iframe><pre id=out></pre><script>
addEventListener("message", e => out.textContent = JSON.stringify(e.data));
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium or google-chrome is installed")
    return found


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_in_a_browser_the_first_screen_fits(browser: str, width: int, height: int, tmp_path: Path) -> None:
    """No console message, nothing wider than the window, and the three answers on the first screen."""
    (tmp_path / "page.html").write_text(write_page(document(), []).replace("</body>", PROBE + "</body>"))
    (tmp_path / "frame.html").write_text(FRAME.format(width, height))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--dump-dom"]
    run = subprocess.run([*command, f"file://{tmp_path / 'frame.html'}"], capture_output=True, text=True, timeout=120)
    seen = json.loads(re.search(r'<pre id="out">(.*?)</pre>', run.stdout, re.S).group(1))  # type: ignore[union-attr]
    assert seen["width"] == width
    assert seen["wide"] == []
    assert seen["scroll"] <= width
    assert seen["bottom"] <= height
    assert "CONSOLE" not in run.stderr
