"""The page of a report: one self-contained HTML file, made from the document of the report."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from melfast.report.checklist import checklist
from melfast.report.shown import (
    METRICS,
    OF_GROUPS,
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
    table,
    text,
    title_of,
    with_interval,
)
from melfast.report.summary import notes, summary

__all__ = ["METRICS", "number", "write_page"]
Document = Mapping[str, Any]

GROUP_METRICS = ("recall", "fpr", "precision", "selection_rate", "auc")

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def write_page(document: Document, pictures: Sequence[tuple[Path, str]]) -> str:
    """The page as HTML.

    Args:
        document: result of `melfast.report.analysis.analyse`, NaN as None or NaN.
        pictures: PNG files to embed, and their captions. Forest plots (forest-...) are left out, because
            the page draws them itself, with text in any script.
    """
    models = document["models"]
    several = len(models) > 1
    parts = [
        f"<h1>{name(document['about']['title'])}</h1>",
        f"<p class='soft top'>{_headline(document)}</p>",
        summary(document),
        "<h2 id=notes>Notes</h2>",
        notes(document),
        "<h2>By group</h2>",
        _reading_the_gaps(document),
        *[_forests(model, several, document) for model in models],
        "<h2>How good: all numbers</h2>",
        _overall(document),
        _operating_points(document),
        _calibration(models),
        *([] if not models[0]["groupings"] else ["<h2>By group: all numbers</h2>"]),
        *[_groupings(model, several) for model in models],
        *([] if not document["comparisons"] else ["<h2>Which model</h2>", _comparisons(document)]),
        "<h2>Pictures</h2>",
        _plots([picture for picture in pictures if not picture[0].stem.startswith("forest")]),
        "<h2>How it was computed</h2>",
        _method(document),
        "<h2>Reporting checklists</h2>",
        checklist(document).replace("class=data", "class='data checklist'", 1),
    ]
    title = text(document["about"]["title"])
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n<link rel=icon href="data:,">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _headline(document: Document) -> str:
    about = document["about"]
    patients = f", {about['patients']:,} patients" if about["patients"] is not None else ""
    share = about["malignant"] / about["images"]
    return (
        f"{about['images']:,} images, {about['malignant']:,} malignant ({100 * share:.1f} %){patients}. "
        "For research, not a medical device: do not base clinical decisions on it."
    )


def _forests(model: Mapping[str, Any], several: bool, document: Document) -> str:
    metric = "auc" if model["confusion"] is None else "recall"
    level = percent(document["about"]["intervals"]["level"])
    parts = []
    for column, grouping in model["groupings"].items():
        title = f"{title_of(metric)} by {name(column)}" + (f": {name(model['name'])}" if several else "")
        parts.append(f"<h3>{title}</h3>{_forest(grouping, model['overall'][metric]['value'], metric, level)}")
    return "\n".join(parts)


def _forest(grouping: Mapping[str, Any], whole: float | None, metric: str, level: str) -> str:
    """Value and interval of each group on one axis from 0 to 1; the dashed line is all images."""
    left_out = (grouping["gaps"].get(metric) or {}).get("left_out") or {}
    rows = []
    for group_name in grouping["names"]:
        group = grouping["groups"][group_name]
        found = group["metrics"].get(metric)
        if not group["images"]:
            continue
        marks = "<line class=axis x1=0 x2=100% y1=50% y2=50% />"
        if not missing(whole):
            marks += f"<line class=all x1={100 * whole:.1f}% x2={100 * whole:.1f}% y1=0 y2=100% />"  # type: ignore[operator]
        if found is not None and not missing(found["value"]):
            if not missing(found["low"]):
                marks += f"<line x1={100 * found['low']:.1f}% x2={100 * found['high']:.1f}% y1=50% y2=50% />"
            marks += f"<circle cx={100 * found['value']:.1f}% cy=50% r=4 />"
        shown = "–" if found is None else f"{number(metric, found['value'])}"
        between = "" if found is None else interval(metric, found)
        words = f"{shown} ({between})" if between else shown
        few = " class=few" if group_name in left_out else ""
        rows.append(
            f"<tr{few}><th scope=row>{name(group_name)} <small>{group['malignant']:,} malignant of {group['images']:,}"
            f"</small></th><td><svg role=img aria-label='{text(words)}'>{marks}</svg></td><td>{text(words)}</td></tr>"
        )
    scale = "<div class='scale soft'><span>0</span><span>0.5</span><span>1</span></div>"
    if METRICS[metric][2]:
        scale = "<div class='scale soft'><span>0 %</span><span>50 %</span><span>100 %</span></div>"
    rows.append(f"<tr><th></th><td>{scale}</td><td></td></tr>")
    return (
        f"<table class=forest><caption>With {level} intervals; dashed: over all images"
        f"{'; pale: too few to compare' if left_out else ''}.</caption><tbody>{''.join(rows)}</tbody></table>"
        f"<p>{_verdict(grouping, metric)}</p>"
    )


def _verdict(grouping: Mapping[str, Any], metric: str) -> str:
    """One sentence on the gap."""
    gap, pair = grouping["gaps"].get(metric), extremes(grouping, metric)
    if gap is None or pair is None or missing(gap["gap"]):
        return "No gap: fewer than two groups have enough images to be compared."
    between = interval(metric, gap)
    said = f"Gap between {name(pair[1])} and {name(pair[0])}: {points(metric, gap['gap'])}" + (
        f" ({between})" if between else ""
    )
    if missing(p_of(gap)):
        reason = (gap.get("null") or {}).get("reason")
        return f"{said}. {text(reason) if reason else 'Whether it is chance cannot be tested.'}"
    verdict = "more than chance explains" if stands(gap) else "it may be chance"
    return f"{said}; {verdict} ({p_words(gap)})."


def _overall(document: Document) -> str:
    models = document["models"]
    level = document["about"]["intervals"]["level"]
    rows = []
    others = dict.fromkeys(metric for model in models for metric in model["overall"] if metric not in METRICS)
    for metric in [*METRICS, *others]:
        cells = [model["overall"].get(metric) for model in models]
        if metric in OF_GROUPS or (not any(cells) and metric not in ("auc", "recall")):
            continue
        meaning = f"<small>{METRICS[metric][1]}</small>" if metric in METRICS else ""
        rows.append(
            [f"{title_of(metric)}{meaning}"]
            + ["not available" if cell is None else with_interval(metric, cell) for cell in cells]
        )
    if any(model["confusion"] for model in models):
        for words, keys in (
            ("called malignant: rightly, wrongly", ("tp", "fp")),
            ("called benign: rightly, wrongly", ("tn", "fn")),
        ):
            counts = [model["confusion"] for model in models]
            rows.append([words, *("–" if c is None else " / ".join(f"{c[key]:,}" for key in keys) for c in counts)])
    head = ["metric", *(_model_head(model) for model in models)]
    return table(head, rows, f"Over all images, with {percent(level)} intervals.")


def _model_head(model: Mapping[str, Any]) -> str:
    threshold = model["threshold"]
    at = f"at {threshold:.4g}, " if threshold is not None else ""
    return f"{name(model['name'])}<br><small>{at}{text(model['threshold_source'])}</small>"


def _operating_points(document: Document) -> str:
    """One row per operating point, one column per model; models with only calls have none."""
    models = [model for model in document["models"] if model.get("operating_points")]
    if not models:
        return ""
    rows = []
    for kind, words in (
        ("sensitivity_at_specificity", "sensitivity at specificity"),
        ("specificity_at_sensitivity", "specificity at sensitivity"),
    ):
        for least in models[0]["operating_points"][kind]:
            values = [model["operating_points"][kind][least] for model in models]
            shown = [
                with_interval("recall", value) if isinstance(value, Mapping) else number("recall", value)
                for value in values
            ]
            rows.append([f"{words} {percent(float(least))}", *shown])
    head = ["at another threshold", *(name(model["name"]) for model in models)]
    return table(head, rows, "What other thresholds would give on these images.")


def _calibration(models: Sequence[Mapping[str, Any]]) -> str:
    """Whether P(malignant) is well calibrated; one column per model."""
    models = [model for model in models if model.get("calibration")]
    if not models:
        return ""
    found = [model["calibration"] for model in models]
    rows = [
        ["Share malignant", *(f"{c['observed']:.4f}" for c in found)],
        ["Mean P(malignant)", *(f"{c['expected']:.4f}" for c in found)],
        *(
            [f"{words}<small>{meaning}</small>", *(with_interval(key, c[key]) for c in found)]
            for key, words, meaning in (
                ("observed_expected", "Observed / expected", "1: as many cancers as the probabilities say"),
                ("intercept", "Calibration intercept", "0 is right; below: probabilities too high"),
                ("slope", "Calibration slope", "1 is right; below: probabilities too extreme"),
            )
        ),
        [
            "Reference Brier score<small>of always saying the share of cancers</small>",
            *(number("brier", c.get("brier_reference")) for c in found),
        ],
    ]
    return table(["calibration", *(name(model["name"]) for model in models)], rows)


def _reading_the_gaps(document: Document) -> str:
    if not document["models"][0]["groupings"]:
        return "<p>No groups to compare: the images have none.</p>"
    return (
        "<p>A gap is the highest value of a group minus the lowest. Small groups differ by chance, so each gap is "
        "tested: the p-value is the share of random regroupings of the same patients or images that differ at least as "
        "clearly. A small p-value is evidence of a real difference.</p>"
    )


def _groupings(model: Mapping[str, Any], several: bool) -> str:
    parts = []
    for column, grouping in model["groupings"].items():
        title = f"By {name(column)}" + (f": {name(model['name'])}" if several else "")
        parts.append(f"<h3>{title}</h3>")
        shown = [metric for metric in GROUP_METRICS if metric in model["overall"]]
        rows = []
        for group_name in grouping["names"]:
            group = grouping["groups"][group_name]
            rows.append(
                [name(group_name), f"{group['images']:,}", f"{group['malignant']:,}"]
                + [with_interval(metric, group["metrics"][metric]) for metric in shown]
                + ([_observed_expected(group["calibration"])] if model.get("calibration") else [])
            )
        head = ["group", "images", "malignant", *(title_of(metric) for metric in shown)]
        head += ["Observed / expected"] if model.get("calibration") else []
        unknown = f"Images of unknown group, left out here: {grouping['unknown']:,}."
        parts.append(table(head, rows, unknown if grouping["unknown"] else ""))
        parts.append(_gaps(grouping))
    return "\n".join(parts)


def _observed_expected(found: Mapping[str, Any] | None) -> str:
    return "–" if found is None else with_interval("observed_expected", found["observed_expected"])


def _gaps(grouping: Mapping[str, Any]) -> str:
    rows = []
    adjusted = any("p_adjusted" in (gap["null"] or {}) for gap in grouping["gaps"].values())
    for metric, gap in grouping["gaps"].items():
        null = gap["null"] or {}
        reason = f"<small>{text(null['reason'])}</small>" if null.get("reason") else ""
        rows.append(
            [
                title_of(metric),
                with_interval(metric, gap, "gap"),
                p_value(null.get("p_value")) + reason,
                *([p_value(null.get("p_adjusted"))] if adjusted else []),
                "yes" if stands(gap) else "no",
                name(gap["worst_group"]) if stands(gap) and gap["worst_group"] else "–",
                number(metric, null.get("mean")),
                "–" if missing(gap["ratio"]) else f"{gap['ratio']:.3f}",
            ]
        )
    head = [
        "gap in",
        "gap",
        "p",
        *(["p, adjusted (Holm)"] if adjusted else []),
        "more than chance",
        "worst group",
        "mean gap by chance",
        "ratio",
    ]
    words = (
        "For the selection rate: the demographic parity difference and ratio; for sensitivity: the equal opportunity "
        "difference. A worst group is named only where the gap is more than chance explains."
    )
    left_out = {
        f"{metric.replace('_', ' ')}: {', '.join(f'{group} ({count:,})' for group, count in gap['left_out'].items())}"
        for metric, gap in grouping["gaps"].items()
        if gap.get("left_out")
    }
    if left_out:
        words += f" Not compared, with fewer than ten images of the class: {'; '.join(sorted(left_out))}."
    return table(head, rows, words)


def _comparisons(document: Document) -> str:
    parts = []
    for pair in document["comparisons"]:
        rows = []
        for metric, found in pair["differences"].items():
            real = not missing(found["low"]) and (found["low"] > 0 or found["high"] < 0)
            rows.append(
                [title_of(metric), with_interval(metric, found), p_value(found["p_value"]), "yes" if real else "no"]
            )
        parts.append(f"<h3>{name(pair['first'])} minus {name(pair['second'])}</h3>")
        head = ["metric", "difference", "p", "interval excludes 0"]
        parts.append(table(head, rows, "Both models on the same images."))
        rows = [
            [
                f"Gap in {title_of(gap['metric'])} by {name(gap['grouping'])}",
                number(gap["metric"], gap["first"]),
                number(gap["metric"], gap["second"]),
                with_interval(gap["metric"], gap),
            ]
            for gap in pair.get("gaps") or ()
        ]
        if rows:
            head = ["gap between groups", name(pair["first"]), name(pair["second"]), "first minus second"]
            parts.append(table(head, rows, "Whether the gaps of one model are smaller than those of the other."))
        tests = []
        if pair["delong"] is not None:
            found = pair["delong"]
            error = "" if missing(found["standard_error"]) else f" ± {found['standard_error']:.4f}"
            tests.append(["DeLong, AUC", f"{found['auc']:+.4f}{error}", p_value(found["p_value"])])
        if (found := pair["mcnemar"]) is not None:
            tests.append(
                [
                    "McNemar, calls",
                    f"only the first is right: {found['first_alone_right']:,} images; "
                    f"only the second: {found['second_alone_right']:,}",
                    p_value(found["p_value"]),
                ]
            )
        parts.append(table(["test", "found", "p"], tests))
    return "\n".join(parts)


def _plots(pictures: Sequence[tuple[Path, str]]) -> str:
    figures = []
    for path, caption in pictures:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        wide = " class=wide-plot" if path.stem.startswith(("worst", "threshold", "confusion")) else ""
        figures.append(
            f'<figure{wide}><img alt="{text(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{text(caption)}</figcaption></figure>"
        )
    return f"<div class=plots>{''.join(figures)}</div>"


def _method(document: Document) -> str:
    intervals = document["about"]["intervals"]
    lines = [
        "Intervals: Wilson's for proportions, with the effective number of images; a score interval with DeLong's "
        "variance for the AUC; linearised variances for the other metrics. The independent units are "
        f"{intervals['clusters']}. For gaps: combined from the intervals of all pairs of groups.",
        f"Tests of gaps: {intervals['permutations']:,} permutations of whole {intervals['clusters']} among the groups, "
        f"seed {intervals['seed']}; p-values adjusted by Holm's method over {intervals['family']:,} gaps.",
        f"melfast {document['melfast']}; every number on this page is in metrics.json.",
    ]
    return "<ul class=soft>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"
