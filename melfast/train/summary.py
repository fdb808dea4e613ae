"""Summary of a run: its table of metrics and its curves, from log.jsonl."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from melfast.io.files import atomic_path
from melfast.report.plots import COLOURS

SHOWN = ("auc", "average_precision", "balanced_accuracy")
WITHOUT_ROW = ("kind", "step", "epoch")


def read_log(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of RUN/log.jsonl, separately for training and validation, in order."""
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    train, valid = ([r for r in records if r["kind"] == kind] for kind in ("train", "valid"))
    return train, valid


def summary_table(valid: Sequence[dict[str, Any]], best_epoch: int) -> str:
    """Every validation metric in the best and in the last epoch.

    Args:
        valid: validation records from `read_log`, one per epoch.
    """
    best = next(record for record in valid if record["epoch"] == best_epoch)
    last = valid[-1]
    grid = Table(title="validation", title_justify="left")
    grid.add_column("metric")
    for heading, record in (("best", best), ("last", last)):
        grid.add_column(f"{heading}: epoch {record['epoch']:g}", justify="right")
    for name in last:
        if name not in WITHOUT_ROW:
            cells = [record.get(name) for record in (best, last)]
            grid.add_row(name, *("-" if cell is None else f"{cell:.4f}" for cell in cells))
    text = io.StringIO()
    Console(file=text, width=120, markup=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def draw_curves(train: Sequence[dict[str, Any]], valid: Sequence[dict[str, Any]], best_epoch: int, path: Path) -> None:
    """Writes a PNG with loss and learning rate, validation metrics, and recall by tone group over the
    epochs; a line marks the best epoch.

    Raises:
        InputError: the file cannot be written.
    """
    groups = [name for name in valid[-1] if name.startswith("recall/")]
    figure = Figure(figsize=(5 * (2 + bool(groups)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 + bool(groups))
    loss, metrics = axes[0], axes[1]
    loss.plot(*_curve(train, "loss"), color=COLOURS[0], label="training loss", linewidth=1)
    loss.set(ylabel="mean loss per image", ylim=(0, None))
    rate = loss.twinx()
    rate.plot(*_curve(train, "lr"), color=COLOURS[7], linewidth=1, linestyle="--")
    rate.set(ylabel="learning rate (dashed)", ylim=(0, None))
    for name, colour in zip(SHOWN, COLOURS, strict=False):
        metrics.plot(*_curve(valid, name), color=colour, label=name.replace("_", " "), marker=".", linewidth=1)
    metrics.set(ylabel="of the validation split", ylim=(None, 1))
    metrics.legend(fontsize="small", loc="best")
    if groups:
        for name, colour in zip(groups, COLOURS, strict=False):
            label = name.removeprefix("recall/")
            axes[2].plot(*_curve(valid, name), color=colour, label=label, marker=".", linewidth=1)
        axes[2].set(ylabel="recall by tone group, at the threshold", ylim=(0, 1.02))
        axes[2].legend(fontsize="small", loc="best")
    for axis in axes:
        axis.set_xlabel("epochs")
        axis.grid(alpha=0.25)
        axis.axvline(best_epoch, color="black", linewidth=0.8, linestyle=":")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _curve(records: Sequence[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    known = [(r["epoch"], r[name]) for r in records if r.get(name) is not None]
    return [epoch for epoch, _ in known], [value for _, value in known]
