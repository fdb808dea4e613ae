"""The first screen of a report, for readers without statistics: performance, groups, certainty."""

from collections.abc import Mapping
from typing import Any

from melfast.report.shown import (
    extremes,
    interval,
    missing,
    name,
    number,
    p_of,
    p_value,
    p_words,
    percent,
    points,
    stands,
    text,
)

Document = Mapping[str, Any]
TONE = "group"
# The kinds of remarks that cast doubt on the results themselves, the worst first.
DOUBTS = ("training", "tables", "scores")
DOUBTS_SHOWN = 2
NOTE_TITLES = {
    "training": "The training data",
    "tables": "How the tables were read",
    "scores": "The model's answers",
    "lacking": "What could not be computed",
    "groups": "The groups",
    "images": "The images",
}


def summary(document: Document) -> str:
    """The three answers as HTML."""
    models = document["models"]
    several = len(models) > 1
    good = "".join(_titled(model, _good(model, several), several) for model in models)
    whom = "".join(_titled(model, _whom(model, several), several) for model in models)
    return (
        "<div class=answers>"
        f"<section><h2>How good?</h2>{good}</section>"
        f"<section><h2>For whom?</h2>{whom}</section>"
        f"<section><h2>How sure?</h2>{_sure(document)}</section>"
        "</div>"
    )


def _titled(model: Mapping[str, Any], words: str, several: bool) -> str:
    return f"<h3>{name(model['name'])}</h3>{words}" if several else words


def _good(model: Mapping[str, Any], brief: bool) -> str:
    counts, overall = model["confusion"], model["overall"]
    if counts is None:
        lead = "Without a threshold nobody can say which cancers it misses: the table has only probabilities."
    else:
        lead = (
            f"It misses <b>{counts['fn']:,} of {counts['fn'] + counts['tp']:,}</b> cancers and raises a false alarm "
            f"for <b>{counts['fp']:,} of {counts['fp'] + counts['tn']:,}</b> benign images."
        )
    rows = []
    for metric, words in (("recall", "Sensitivity"), ("specificity", "Specificity"), ("auc", "AUC")):
        found = overall.get(metric)
        if found is None:
            shown = "not available" if metric == "auc" else ""
        else:
            between = interval(metric, found)
            shown = f"<b>{number(metric, found['value'])}</b>" + (
                f" <span class=soft>({between})</span>" * bool(between)
            )
        if shown:
            rows.append(f"<dt>{words}</dt><dd>{shown}</dd>")
    if counts is not None and not brief:
        threshold = model["threshold"]
        at = "not known" if missing(threshold) else f"{threshold:.4g}"
        rows.append(f"<dt>Threshold</dt><dd>{at} <span class=soft>({text(model['threshold_source'])})</span></dd>")
    return f"<p class=lead>{lead}</p><dl>{''.join(rows)}</dl>"


def tone_grouping(model: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The grouping by skin tone, otherwise the first one; None without groupings."""
    groupings = model["groupings"]
    column = TONE if TONE in groupings else next(iter(groupings), None)
    return None if column is None else (column, groupings[column])


def _whom(model: Mapping[str, Any], brief: bool) -> str:
    found = tone_grouping(model)
    if found is None:
        return (
            "<p class=lead>Not known: no image has a skin tone or another group, so the page cannot say for whom the "
            "model is worse.</p>"
        )
    column, grouping = found
    what, skin = ("skin tone", " skin") if column == TONE else (text(column), "")
    metric = "recall" if model["confusion"] is not None else "auc"
    gap, pair = grouping["gaps"].get(metric), extremes(grouping, metric)
    left_out = {n: count for n, count in ((gap or {}).get("left_out") or {}).items() if count is not None}
    few = ""
    if left_out:
        listed = ", ".join(f"{name(group)} ({count:,})" for group, count in list(left_out.items())[:4])
        more = f" and {len(left_out) - 4} more" if len(left_out) > 4 else ""
        few = f"<p>Too few cancers to judge: {listed}{more}.</p>"
    if gap is None or pair is None or missing(gap["gap"]):
        return (
            f"<p class=lead>Cannot be judged by {what}: fewer than two groups have enough "
            f"{'cancers' if metric == 'recall' else 'images of both kinds'}.</p>{few}"
        )
    lowest = pair[0]
    does = "finds the smallest share of cancers" if metric == "recall" else "tells cancers apart worst"
    lead = f"By {what}, it {does} in <b>{name(lowest)}</b>{skin}"
    if missing(p_of(gap)):
        lead += "; whether that is chance cannot be tested here."
    elif stands(gap):
        lead += f", <b>more than chance explains</b> ({p_words(gap)})."
    else:
        lead += f", but that <b>may be chance</b> ({p_words(gap)})."
    rows = "".join(
        f"<dt>{name(g)}</dt><dd>{_of_group(grouping['groups'][g], metric)}</dd>" for g in pair[: 1 if brief else 2]
    )
    between = interval(metric, gap)
    rows += f"<dt>Gap</dt><dd><b>{points(metric, gap['gap'])}</b>"
    rows += f" <span class=soft>({between})</span></dd>" if between else "</dd>"
    null = gap.get("null") or {}
    if not stands(gap) and not missing(null.get("mean")):
        size = points(metric, null["mean"])
        said = "" if brief else f"By chance alone, groups of this size differ by {size} on average. "
        if not missing(gap["low"]) and gap["low"] > 0:
            alone = p_value(null["p_value"])
            said += f"Tested alone, this gap would be clear (p = {alone}), but not among all gaps tested here."
        few = f"<p>{said.strip()}</p>{few}" if said else few
    return f"<p class=lead>{lead}</p><dl>{rows}</dl>{few}"


def _of_group(group: Mapping[str, Any], metric: str) -> str:
    found = group["metrics"][metric]
    counts = group["confusion"]
    between = interval(metric, found)
    share = f"<b>{number(metric, found['value'])}</b>" + (f" <span class=soft>({between})</span>" if between else "")
    if counts is None:
        return share
    return f"finds {counts['tp']:,} of {counts['tp'] + counts['fn']:,}: {share}"


def _sure(document: Document) -> str:
    about = document["about"]
    level = percent(about["intervals"]["level"])
    patients = f" of {about['patients']:,} patients" if about["patients"] is not None else ""
    lines = [
        f"These numbers come from <b>{about['malignant']:,} cancers</b> among {about['images']:,} images{patients}. "
        f"The ranges in brackets show how far chance may have moved them ({level} confidence)."
    ]
    doubts = [remark for kind in DOUBTS for remark in about["remarks"] if remark["kind"] == kind]
    lines += [_sentence(remark["text"]) for remark in doubts[:DOUBTS_SHOWN]]
    if not about["manifest"]:
        columns = {t["columns"]["target"] for t in about["predictions"] if "target" in t["columns"]}
        named = " and ".join(map(name, sorted(columns)))
        lines.append(f"The truth is column {named} of the table with the predictions; no other source confirms it.")
    rest = len(about["remarks"]) - len(doubts[:DOUBTS_SHOWN])
    if rest > 0:
        lines.append(f"<a href=#notes>{rest} more note{'s' if rest > 1 else ''}</a>")
    lines.append("Expect other numbers with other clinics, cameras and patients.")
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _sentence(words: str) -> str:
    """Capitalises a sentence, unless it begins with a name and a colon."""
    first = words if words.split(" ", 1)[0].endswith(":") else f"{words[0].upper()}{words[1:]}"
    return text(first if first.endswith("...") else f"{first}.")


def notes(document: Document) -> str:
    """All remarks by kind, and the columns that were used; HTML."""
    about = document["about"]
    lines: dict[str, list[str]] = {kind: [] for kind in NOTE_TITLES}
    for remark in about["remarks"]:
        lines.setdefault(remark["kind"], []).append(_sentence(remark["text"]))
    for table in about["predictions"]:
        read = ", ".join(f"{what} from column {name(column)}" for what, column in table["columns"].items())
        passed = ", ".join(map(name, table["passed_over"]))
        over = f" Columns of numbers not used: {passed}." if passed else ""
        lines["tables"].append(f"{text(table['path'])}: {read}.{over}")
    if about["manifest"]:
        lines["tables"].append(f"Truth and groups: {text(about['manifest'])}.")
    else:
        lines["tables"].append(
            "<b>No manifest: the truth is taken from these tables.</b> If that column holds a model's calls, every "
            "number on this page is wrong."
        )
    sections = [
        f"<section><h3>{text(NOTE_TITLES.get(kind, kind))}</h3><ul><li>{'</li><li>'.join(said)}</li></ul></section>"
        for kind, said in lines.items()
        if said
    ]
    return f"<div class=notes>{''.join(sections)}</div>"
