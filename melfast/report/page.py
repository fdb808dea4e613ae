"""The page of a report: one HTML file that needs nothing else, from the report's document alone."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from melfast.metrics.gaps import EQUALIZED_ODDS

Document = Mapping[str, Any]

# Name, what it says, and whether it is shown in percent.
METRICS = {
    "auc": ("AUC", "chance that a malignant image scores above a benign one", False),
    "average_precision": ("Average precision", "mean precision over recall", False),
    "pauc_80tpr": ("Partial AUC", "area above 80 % recall, 0 to 0.2 (ISIC 2024)", False),
    "recall": ("Recall", "malignant images called malignant (sensitivity)", True),
    "specificity": ("Specificity", "benign images called benign", True),
    "precision": ("Precision", "calls that are right", True),
    "f1": ("F1", "harmonic mean of precision and recall", True),
    "balanced_accuracy": ("Balanced accuracy", "mean of recall and specificity", True),
    "accuracy": ("Accuracy", "calls of either kind that are right", True),
    "fpr": ("False positive rate", "benign images called malignant", True),
    "fnr": ("False negative rate", "malignant images missed", True),
    "selection_rate": ("Selection rate", "images called malignant", True),
    "brier": ("Brier score", "mean squared error of P(malignant); less is better", False),
    "log_loss": ("Log loss", "less is better", False),
    "ece": ("Calibration error", "ECE, 15 bins; less is better", False),
    "equalized_odds": ("Equalized odds", "the larger gap of recall and false positive rate", True),
}
GROUP_METRICS = ("recall", "fpr", "precision", "selection_rate", "auc")

STYLE = """
:root { --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --panel: #f6f8fa;
  --accent: #0072B2; --warn: #9a3b00; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b3; --line: #3d444d;
  --back: #0d1117; --panel: #161b22; --accent: #56B4E9; --warn: #f0a36b; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .4rem; }
p { max-width: 46rem; } .soft, caption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; padding: .2rem 0; }
caption span { display: block; max-width: min(46rem, calc(100vw - 2.5rem)); }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
small { color: var(--soft); display: block; }
thead th { background: var(--panel); }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem 1rem; min-width: 10rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.2; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1rem; align-items: start; }
figure { margin: 0; } figure img { width: 100%; height: auto; background: #fff; border: 1px solid
  var(--line); border-radius: .4rem; } figcaption { color: var(--soft); font-size: .85rem; }
.wide-plot { grid-column: 1 / -1; } .note { border-left: .25rem solid var(--warn);
  padding: .3rem .8rem; background: var(--panel); margin: .5rem 0; }
a { color: var(--accent); } code { overflow-wrap: anywhere; }
@media print { :root { --text: #000; --back: #fff; --panel: #fff; --soft: #333; --line: #999; }
  body { max-width: none; padding: 0; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .wide { overflow: visible; } }
"""


def write_page(document: Document, pictures: Sequence[tuple[Path, str]]) -> str:
    """The page as HTML.

    Args:
        document: of `melfast.report.analysis.analyse`, NaN as None or NaN.
        pictures: PNG files that are put into the page, and what they show.
    """
    about = document["about"]
    parts = [
        f"<h1>{_text(about['title'])}</h1>",
        f"<p class=soft>{_headline(document)}</p>",
        _cards(document),
        *[f"<p class=note>{_text(remark)}</p>" for remark in about["remarks"]],
        "<h2>How good</h2>",
        _overall(document),
        _operating_points(document),
        "<h2>For whom</h2>",
        _reading_the_gaps(document),
        *[_groupings(model, len(document["models"]) > 1) for model in document["models"]],
        *([] if not document["comparisons"] else ["<h2>Which model</h2>", _comparisons(document)]),
        "<h2>Pictures</h2>",
        _plots(pictures),
        "<h2>How it was computed</h2>",
        _method(document),
    ]
    title = _text(about["title"])
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def number(metric: str, value: float | None) -> str:
    """A value as the page shows it: four digits, or percent with one decimal."""
    if _missing(value):
        return "–"
    assert value is not None
    percent = METRICS[metric][2]
    return f"{100 * value:.1f} %" if percent else f"{value:.4f}"


def _interval(metric: str, found: Mapping[str, Any]) -> str:
    if _missing(found["low"]):
        return ""
    low, high = (number(metric, found[side]).removesuffix(" %") for side in ("low", "high"))
    return f"<small>{low} to {high}</small>"


def _p(value: float | None) -> str:
    if _missing(value):
        return "–"
    assert value is not None
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _headline(document: Document) -> str:
    about = document["about"]
    patients = f", {about['patients']:,} patients" if about["patients"] is not None else ""
    share = about["malignant"] / about["images"]
    return (
        f"{about['images']:,} images, {about['malignant']:,} malignant ({share:.1%}){patients}. "
        "A research report: not a medical device, no ground for a clinical decision."
    )


def _cards(document: Document) -> str:
    cards = []
    for model in document["models"]:
        name = f"<span class=soft>{_text(model['name'])}</span>" if len(document["models"]) > 1 else ""
        for metric in ("auc", "recall", "specificity"):
            if metric in model["overall"]:
                found = model["overall"][metric]
                cards.append(
                    f"<div class=card>{name}<b>{number(metric, found['value'])}</b>"
                    f"{METRICS[metric][0]}{_interval(metric, found)}</div>"
                )
    return f"<div class=cards>{''.join(cards)}</div>"


def _overall(document: Document) -> str:
    models = document["models"]
    level = document["about"]["intervals"]["level"]
    rows = []
    for metric, (name, meaning, _) in METRICS.items():
        if metric == EQUALIZED_ODDS:  # of groups alone
            continue
        cells = [model["overall"].get(metric) for model in models]
        rows.append(
            [f"{name}<small>{meaning}</small>"]
            + ["not available" if c is None else number(metric, c["value"]) + _interval(metric, c) for c in cells]
        )
    for word, keys in (
        ("called malignant: rightly, wrongly", ("tp", "fp")),
        ("called benign: rightly, wrongly", ("tn", "fn")),
    ):
        cells = [" / ".join(f"{model['confusion'][key]:,}" for key in keys) for model in models]
        rows.append([word, *cells])
    head = ["metric", *(_model_head(model) for model in models)]
    return _table(head, rows, f"Over all images, with {level:.0%} intervals.")


def _model_head(model: Mapping[str, Any]) -> str:
    threshold = model["threshold"]
    at = f"at {threshold:.4g}, " if threshold is not None else ""
    return f"{_text(model['name'])}<br><small>{at}{_text(model['threshold_source'])}</small>"


def _operating_points(document: Document) -> str:
    """A row a point, a column a model; models with calls alone have none."""
    models = [model for model in document["models"] if model["operating_points"]]
    if not models:
        return ""
    rows = []
    for kind, words in (
        ("sensitivity_at_specificity", "recall at specificity"),
        ("specificity_at_sensitivity", "specificity at recall"),
    ):
        for least in models[0]["operating_points"][kind]:
            values = [model["operating_points"][kind][least] for model in models]
            shown = [number("recall", value) for value in values]
            rows.append([f"{words} {float(least):.0%}", *shown])
    head = ["at another threshold", *(_text(model["name"]) for model in models)]
    return _table(head, rows, "What other thresholds would give on these images.")


def _reading_the_gaps(document: Document) -> str:
    if not document["models"][0]["groupings"]:
        return "<p>No groups to compare: the images have none.</p>"
    return (
        "<p>A gap is the largest value in a group less the smallest. Between small groups it is "
        "large by chance alone, so beside each stands the <em>mean gap by chance</em>: that of the "
        "same images dealt out again among the groups. The p-value is the share of those with "
        "groups as clearly apart; a small one says that the groups do differ. The "
        "interval of a gap holds for all pairs of groups at once.</p>"
    )


def _groupings(model: Mapping[str, Any], named: bool) -> str:
    parts = []
    for column, grouping in model["groupings"].items():
        title = f"By {_text(column)}" + (f": {_text(model['name'])}" if named else "")
        parts.append(f"<h3>{title}</h3>")
        shown = [m for m in GROUP_METRICS if m in model["overall"]]
        rows = []
        for name in grouping["names"]:
            group = grouping["groups"][name]
            rows.append(
                [_text(name), f"{group['images']:,}", f"{group['malignant']:,}"]
                + [number(m, group["metrics"][m]["value"]) + _interval(m, group["metrics"][m]) for m in shown]
            )
        head = ["group", "images", "malignant", *(METRICS[m][0] for m in shown)]
        unknown = f"Images of unknown group, left out here: {grouping['unknown']:,}."
        parts.append(_table(head, rows, unknown if grouping["unknown"] else ""))
        parts.append(_gaps(grouping))
    return "\n".join(parts)


def _gaps(grouping: Mapping[str, Any]) -> str:
    rows = []
    for metric, found in grouping["gaps"].items():
        null = found["null"]
        rows.append(
            [
                METRICS[metric][0],
                number(metric, found["gap"]) + _interval(metric, found),
                number(metric, null["mean"]),
                _p(null["p_value"]),
                "–" if _missing(found["ratio"]) else f"{found['ratio']:.3f}",
                # Alone it is worst of one.
                _text("–" if _missing(found["gap"]) else found["worst_group"] or "–"),
            ]
        )
    head = ["gap in", "gap", "mean gap by chance", "p", "ratio", "worst group"]
    names = (
        "The gap of the selection rate is the demographic parity difference, its ratio the "
        "demographic parity ratio; the gap of recall is the equal-opportunity difference."
    )
    return _table(head, rows, names)


def _comparisons(document: Document) -> str:
    parts = []
    for pair in document["comparisons"]:
        rows = []
        for metric, found in pair["differences"].items():
            real = not _missing(found["low"]) and (found["low"] > 0 or found["high"] < 0)
            shown = number(metric, found["value"]) + _interval(metric, found)
            rows.append([METRICS[metric][0], shown, _p(found["p_value"]), "yes" if real else "no"])
        title = f"{_text(pair['first'])} less {_text(pair['second'])}"
        parts.append(f"<h3>{title}</h3>")
        parts.append(
            _table(
                ["metric", "difference", "p", "interval leaves out 0"],
                rows,
                "Both models on the same images: their errors are correlated as measured.",
            )
        )
        tests = []
        if pair["delong"] is not None:
            found = pair["delong"]
            tests.append(["DeLong, AUC", f"{found['auc']:+.4f} ± {found['standard_error']:.4f}", _p(found["p_value"])])
        found = pair["mcnemar"]
        tests.append(
            [
                "McNemar, calls",
                f"{found['first_alone_right']:,} right by the first alone, "
                f"{found['second_alone_right']:,} by the second alone",
                _p(found["p_value"]),
            ]
        )
        parts.append(_table(["test", "found", "p"], tests))
    return "\n".join(parts)


def _plots(pictures: Sequence[tuple[Path, str]]) -> str:
    figures = []
    for path, caption in pictures:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        wide = " class=wide-plot" if path.stem.startswith(("worst", "threshold", "confusion")) else ""
        figures.append(
            f'<figure{wide}><img alt="{_text(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{_text(caption)}</figcaption></figure>"
        )
    return f"<div class=plots>{''.join(figures)}</div>"


def _method(document: Document) -> str:
    about, intervals = document["about"], document["about"]["intervals"]
    lines = [
        "Intervals: Wilson's of shares, each image counted as the part of an independent one that it is worth; a "
        "score interval by DeLong's variance of the AUC; linearised variances of the others. Independent are "
        f"{intervals['clusters']}. Of gaps, from intervals of all differences between two groups that hold at once.",
        f"Tests of gaps: {intervals['permutations']:,} permutations of whole {intervals['clusters']} among the groups, "
        f"seed {intervals['seed']}; adjusted p by Holm over {intervals['family']} gaps.",
        f"Predictions: {', '.join(map(str, about['predictions']))}. "
        f"Truth and groups: {about['manifest'] or 'the same tables'}.",
        f"melfast {document['melfast']}; every number of this page stands in metrics.json.",
    ]
    return "<ul class=soft>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Cells are HTML."""
    header = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    words = f"<caption><span>{_text(caption)}</span></caption>" if caption else ""
    table = f"<table>{words}<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=wide>{table}</div>"


def _plain(value: float | None) -> str:
    return "–" if _missing(value) else f"{value:.2f}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _text(value: object) -> str:
    return html.escape(str(value))
