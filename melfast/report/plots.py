"""Plots of a report: one function a figure, from arrays and from the report's own numbers."""

import functools
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from melfast.io.files import atomic_path
from melfast.metrics.groups import Groups
from melfast.metrics.metrics import ECE_BINS, steps

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Okabe and Ito 2008: told apart by colour-blind people as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
BENIGN, MALIGNANT = COLOURS[0], COLOURS[1]
GRID_OF_BINS = np.linspace(0, 1, ECE_BINS + 1)


def roc(y_true: Bools, scores: Mapping[str, Floats], overall: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Recall over the false positive rate of each model, and where its threshold is, with both intervals.

    Args:
        overall: metrics of each model, of the report's document.
    """
    figure, (axis,) = _figure(1)
    for (name, score), colour in zip(scores.items(), itertools.cycle(COLOURS), strict=False):
        fpr, tpr = roc_points(y_true, score)
        axis.plot(fpr, tpr, color=colour, label=name, linewidth=1.5)
        _cross(axis, overall[name], ("fpr", "recall"), colour)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="false positive rate (share of benign images)",
        xlim=(0, 1),
        ylim=(0, 1.005),
        ylabel="recall (share of malignant images)",
        title="ROC",
    )
    axis.legend(loc="lower right", fontsize="small")
    return figure


def precision_recall(y_true: Bools, scores: Mapping[str, Floats], overall: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Precision over recall of each model, as `roc`; dotted: chance."""
    figure, (axis,) = _figure(1)
    for (name, score), colour in zip(scores.items(), itertools.cycle(COLOURS), strict=False):
        recall, precision = pr_points(y_true, score)
        axis.plot(recall, precision, color=colour, label=name, linewidth=1.5)
        _cross(axis, overall[name], ("recall", "precision"), colour)
    axis.axhline(float(y_true.mean()), color="grey", linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="recall (share of malignant images)",
        xlim=(0, 1),
        ylim=(0, 1.005),
        ylabel="precision (share of calls)",
        title="Precision and recall",
    )
    axis.legend(loc="upper right", fontsize="small")
    return figure


def calibration(curves: Mapping[str, Sequence[Mapping[str, Any]]], scores: Mapping[str, Floats]) -> Figure:
    """Share of malignant images by P(malignant) with its interval, and how many images have each P.

    Args:
        curves: of each model the bins of the document: `predicted`, `observed`, `low`, `high`.
        scores: of each model.
    """
    figure, (axis, below) = _figure(2, rows=2, heights=(3, 1), size=(5, 5))
    for (name, bins), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        mean, share, low, high = (
            np.array([b[key] for b in bins], np.float64) for key in ("predicted", "observed", "low", "high")
        )
        axis.plot(mean, share, color=colour, marker="o", markersize=3, linewidth=1, label=name)
        axis.fill_between(mean, low, high, color=colour, alpha=0.15, linewidth=0)
        below.stairs(np.histogram(scores[name], GRID_OF_BINS)[0], GRID_OF_BINS, color=colour)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axis.set(ylabel="share that is malignant", xlim=(0, 1), ylim=(0, 1), title="Calibration")
    axis.legend(loc="upper left", fontsize="small")
    below.set(xlabel="P(malignant)", ylabel="images", yscale="log", xlim=(0, 1))
    below.yaxis.set_minor_formatter(NullFormatter())  # on few decades it writes over itself
    return figure


def net_benefit(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Net benefit of acting on each model's probability, beside treating all or none (Vickers and Elkin 2006).

    Args:
        curves: of each model `threshold`, `model`, `treat_all` and `treat_none` of the document.
    """
    figure, (axis,) = _figure(1)
    highest = 0.0
    for (name, curve), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        axis.plot(curve["threshold"], curve["model"], color=colour, linewidth=1.5, label=name)
        highest = max(highest, *curve["model"])
    axis.plot(curve["threshold"], curve["treat_all"], color="grey", linewidth=0.8, label="treat all")
    axis.plot(curve["threshold"], curve["treat_none"], color="black", linewidth=0.8, linestyle=":", label="treat none")
    axis.set(
        xlabel="threshold on P(malignant)",
        ylabel="net benefit per image",
        ylim=(-0.3 * highest - 1e-3, 1.1 * highest + 1e-3),
        title="Decision curve",
    )
    axis.legend(fontsize="small")
    return figure


def score_distributions(y_true: Bools, score: Floats, threshold: float | None) -> Figure:
    """Histograms of P(malignant) by class, each of its own area 1."""
    figure, (axis,) = _figure(1)
    edges = np.linspace(0, 1, 41)
    for malignant, colour, name in ((False, BENIGN, "benign"), (True, MALIGNANT, "malignant")):
        chosen = score[y_true == malignant]
        share = np.histogram(chosen, edges)[0] / max(1, len(chosen))
        axis.stairs(share, edges, color=colour, fill=True, alpha=0.35)
        axis.stairs(share, edges, color=colour, label=f"{name} ({len(chosen):,})")
    if threshold is not None:
        axis.axvline(threshold, color="black", linewidth=0.8, linestyle="--", label="threshold")
    axis.set(
        xlabel="P(malignant)",
        ylabel="share of the class's images (log)",
        xlim=(0, 1),
        yscale="log",
        title="Scores by class",
    )
    axis.legend(loc="upper center", fontsize="small")
    return figure


def forest(grouping: Mapping[str, Any], overall: Mapping[str, Any], metric: str, by: str = "group") -> Figure:
    """A metric by group with its intervals, beside the gap that chance makes.

    Args:
        by: what the groups are of: a column.
        grouping, overall: of the report's document.
    """
    names = [n for n in grouping["names"] if grouping["groups"][n]["images"]]
    figure, (axis,) = _figure(1, size=(5.6, 1.7 + 0.36 * len(names)))
    for row, name in enumerate(names):
        group = grouping["groups"][name]
        found = group["metrics"].get(metric)
        if found is None or _missing(found["value"]):
            continue
        if not _missing(found["low"]):
            axis.plot([found["low"], found["high"]], [row, row], color=COLOURS[0], linewidth=1.5)
        axis.plot(found["value"], row, "o", color=COLOURS[0], markersize=5)
    whole = overall[metric]["value"]
    if not _missing(whole):
        axis.axvline(whole, color="black", linewidth=0.8, linestyle="--", label="all images")
    null = grouping["gaps"].get(metric, {}).get("null", {})
    if null and not _missing(null["mean"]) and not _missing(whole):
        half = null["mean"] / 2
        span = max(0, whole - half), min(1, whole + half)
        axis.axvspan(*span, color="grey", alpha=0.2, linewidth=0, label="mean gap by chance")
    labels = [f"{n} ({grouping['groups'][n]['malignant']:,} of {grouping['groups'][n]['images']:,})" for n in names]
    axis.set_yticks(range(len(names)), labels)
    axis.set(xlabel=f"{metric.replace('_', ' ')}, with interval", xlim=(-0.015, 1.015), ylim=(len(names) - 0.5, -0.5))
    # Over the whole figure: centred on the axis a long column name is cut off.
    title = f"{metric.replace('_', ' ')} by {by}\n(malignant of all images)"
    figure.suptitle(title, fontsize="medium")
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    return figure


def confusion_matrices(parts: Mapping[str, Mapping[str, int]]) -> Figure:
    """A table of counts for all images and for each group; shaded by the share of the true class.

    Args:
        parts: tn, fp, fn, tp by name.
    """
    columns = min(4, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, c) in zip(axes, parts.items(), strict=False):
        table = np.array([[c["tn"], c["fp"]], [c["fn"], c["tp"]]])
        share = table / np.maximum(1, table.sum(axis=1, keepdims=True))
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(table):
            known = f"{share[i, j]:.0%}" if table[i].any() else "–"  # of no image there is no share
            axis.text(
                j,
                i,
                f"{count:,}\n{known}",
                ha="center",
                va="center",
                color="white" if share[i, j] > 0.6 else "black",
                fontsize=9,
            )
        axis.set_xticks([0, 1], ["benign", "malignant"], fontsize=8)
        axis.set_yticks([0, 1], ["benign", "malignant"], fontsize=8, rotation=90, va="center")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("called", fontsize=8)
        axis.set_ylabel("truth", fontsize=8)
    for axis in axes[len(parts) :]:
        axis.set_visible(False)
    return figure


def ita_histogram(y_true: Bools, ita: Floats) -> Figure:
    """ITA by class, degrees; images of unknown ITA are left out."""
    figure, (axis,) = _figure(1)
    known = ita[~np.isnan(ita)]
    edges = np.arange(math.floor(known.min() / 5) * 5, math.ceil(known.max() / 5) * 5 + 6, 5)
    for malignant, colour, name in ((False, BENIGN, "benign"), (True, MALIGNANT, "malignant")):
        chosen = ita[(y_true == malignant) & ~np.isnan(ita)]
        share = np.histogram(chosen, edges)[0] / max(1, len(chosen))
        axis.stairs(share, edges, color=colour, fill=True, alpha=0.3)
        axis.stairs(share, edges, color=colour, label=f"{name} ({len(chosen):,})")
    axis.invert_xaxis()
    axis.set(
        xlabel="ITA, degrees (light to dark skin)", ylabel="share of the class's images", title="Skin tone by class"
    )
    axis.legend(fontsize="small")
    return figure


def threshold_sweep(y_true: Bools, score: Floats, groups: Groups, threshold: float | None) -> Figure:
    """Recall and false positive rate over the threshold, of as many of the largest groups as there are colours."""
    figure, (recalls, rates) = _figure(2, columns=2, size=(9, 3.8))
    thresholds = np.linspace(0, 1, 201)
    images = np.bincount(groups.index[groups.known], minlength=len(groups.names))
    largest = np.sort(np.argsort(-images, kind="stable")[: len(COLOURS)])
    for place, colour in zip(largest[images[largest] > 0], COLOURS, strict=False):
        for axis, malignant in ((recalls, True), (rates, False)):
            chosen = np.sort(score[(groups.index == place) & (y_true == malignant)])
            if len(chosen):
                share = 1 - np.searchsorted(chosen, thresholds, side="left") / len(chosen)
                axis.plot(
                    thresholds, share, color=colour, linewidth=1.2, label=f"{groups.names[place]} ({len(chosen):,})"
                )
    if (images > 0).sum() > len(COLOURS):
        figure.suptitle(f"The {len(COLOURS)} largest groups", fontsize="medium")
    recalls.set(ylabel="recall", title="Malignant images called so")
    rates.set(ylabel="false positive rate", title="Benign images called malignant")
    for axis in (recalls, rates):
        axis.set(xlabel="threshold on P(malignant)", xlim=(0, 1), ylim=(0, 1.005))
        if axis.lines:
            axis.legend(fontsize="small")
        if threshold is not None:
            axis.axvline(threshold, color="black", linewidth=0.8, linestyle="--")
    return figure


def roc_points(y_true: Bools, score: Floats) -> tuple[Floats, Floats]:
    """False positive rate and recall at every threshold, from (0, 0) to (1, 1)."""
    step = steps(y_true, score)
    return np.append(0, step.fp / step.fp[-1]), np.append(0, step.tp / step.tp[-1])


def pr_points(y_true: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Recall and precision at every threshold, from recall 0 on."""
    step = steps(y_true, score)
    precision = step.tp / (step.last + 1)
    return np.append(0, step.tp / step.tp[-1]), np.append(precision[0], precision)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all, in fonts that have the letters of its words as far as any is installed."""
    for words in figure.findobj(Text):
        if not words.get_text().isascii():
            words.set_fontfamily([*rcParams["font.sans-serif"][:1], *fonts_for(words.get_text())])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # no font of this machine has it: the page shows the name
        _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


@functools.cache
def fonts_for(words: str) -> list[str]:
    """Installed fonts that have the letters which matplotlib's own lacks."""
    lacking = set(words) - _letters(findfont("DejaVu Sans"))
    found = []
    for font in sorted({(entry.name, entry.fname) for entry in fontManager.ttflist}) if lacking else ():
        if lacking & _letters(font[1]):
            found.append(font[0])
            lacking -= _letters(font[1])
        if not lacking:
            break
    return found


@functools.cache
def _letters(font: str) -> frozenset[str]:
    return frozenset(map(chr, FT2Font(font).get_charmap()))


def _cross(axis: Axes, overall: Mapping[str, Any], metrics: tuple[str, str], colour: str) -> None:
    """The point of two metrics at a model's threshold, with the interval of each; nothing without calls."""
    x, y = (overall.get(metric) for metric in metrics)
    if x is None or y is None or _missing(x["value"]) or _missing(y["value"]):
        return
    axis.plot([x["low"], x["high"]], [y["value"]] * 2, color=colour, linewidth=1)
    axis.plot([x["value"]] * 2, [y["low"], y["high"]], color=colour, linewidth=1)
    axis.plot(x["value"], y["value"], "o", color=colour, markersize=5)


def _figure(
    number: int,
    *,
    rows: int = 1,
    columns: int = 1,
    heights: Sequence[float] = (1,),
    size: tuple[float, float] = (5, 4.2),
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    ratios = heights if rows > 1 else None
    axes = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, height_ratios=ratios)
    flat = list(axes.ravel())
    assert len(flat) == number
    for axis in flat:
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    return figure, flat


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
