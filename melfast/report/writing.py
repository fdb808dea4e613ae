"""A report from tables of predictions: page, document, tables and pictures in a folder."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.data.manifest import Manifest, read_manifest
from melfast.io.contact_sheet import write_grid
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.images import read_resized
from melfast.io.tables import shortened, write_csv
from melfast.metrics.groups import Groups, cross, group_by
from melfast.prepare.sources import import_dataset
from melfast.report import plots
from melfast.report.analysis import Images, Model, Settings, analyse
from melfast.report.measures import write_metrics
from melfast.report.page import write_page
from melfast.report.predictions import Predictions
from melfast.train.data import is_manifest

PAGE, DOCUMENT, TABLES = "report.html", "metrics.json", "tables.csv"
DEFAULT_COLUMNS = ("group", "sex", "age_approx", "anatom_site_general_challenge")
FEW = 10  # malignant images of a group
WORST_SHOWN, WORST_WIDTH = 24, 240  # images of the sheet, and their pixels
DEFAULT_SETTINGS = Settings()
Say = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """The reported images, and what there is to draw of them.

    Attributes:
        ita: [N] degrees, NaN unknown.
        paths: of the image files, None where there is none.
    """

    images: Images
    ita: NDArray[np.float64]
    paths: list[Path | None]
    remarks: list[str]


def run_report(
    tables: Sequence[Predictions],
    output: Path,
    *,
    manifest: Manifest | None = None,
    names: Sequence[str] = (),
    by: Sequence[str] = (),
    crossed: Sequence[tuple[str, str]] = (),
    threshold: float | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    title: str = "",
    say: Say = lambda message: None,
) -> dict[str, Any]:
    """Writes a report on one model or several; see the module.

    Args:
        manifest: truth, groups, patients and images; None: the tables' own truth and groups.
        names: of the models; the files' names without them.
        by: columns of the manifest whose values are compared; none: DEFAULT_COLUMNS, as far as they
            are there.
        crossed: pairs of columns that are compared crossed.
        threshold: of all models; None: each one's own calls.
        say: told of each step.
    Returns:
        The document, as it is written to metrics.json.
    Raises:
        InputError: the tables and the manifest do not go together, a column is missing, no image
            is of known class, or a model has neither calls nor a threshold.
    """
    labels = list(names) or _labels([table.path for table in tables])
    if len(labels) != len(tables) or len(set(labels)) < len(labels):
        raise InputError(f"--name must name each of the {len(tables)} tables once, got {', '.join(labels)}")
    data, tables = align(tables, manifest, by, crossed)
    for table in tables:
        say(f"{table.path}: {table.columns}")
    models = [_model(label, table, threshold) for label, table in zip(labels, tables, strict=True)]
    say(
        f"{len(data.images.names):,} images, {int(data.images.y_true.sum()):,} malignant; "
        f"groups: {', '.join(g.name for g in data.images.groupings) or 'none'}"
    )
    data.remarks.extend(
        f"{model.name}: calls alone, so AUC, calibration and all else of P(malignant) are not available"
        for model in models
        if model.score is None
    )
    about = {
        "title": title or "How good, for whom, how sure: " + ", ".join(labels),
        "predictions": [str(table.path) for table in tables],
        "manifest": None if manifest is None else str(manifest.path),
        "remarks": data.remarks,
    }
    document = analyse(data.images, models, settings, about, say)
    output.mkdir(parents=True, exist_ok=True)
    _remove_earlier_pictures(output)
    write_metrics(output / DOCUMENT, document)
    # The page is made of what was written: it shows what metrics.json says.
    written: dict[str, Any] = json.loads((output / DOCUMENT).read_text(encoding="utf-8"))
    write_tables(output / TABLES, written)
    say("drawing")
    pictures = draw(data, models, written, output, settings)
    written["pictures"] = [path.name for path, _ in pictures]
    write_metrics(output / DOCUMENT, written)
    with atomic_path(output / PAGE) as file:
        file.write_text(write_page(written, pictures), encoding="utf-8")
    return written


def _remove_earlier_pictures(output: Path) -> None:
    """Those of an earlier report in the folder, which would stand beside the new ones."""
    try:
        earlier = json.loads((output / DOCUMENT).read_text(encoding="utf-8"))["pictures"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in earlier:
        if Path(name).name == name:
            (output / name).unlink(missing_ok=True)


def read_any_manifest(path: Path) -> Manifest:
    """A manifest, or a table or folder that `melfast prepare import` knows; of a table the image
    files need not be at hand."""
    if is_manifest(path):
        return read_manifest(path)
    if not path.is_file():
        return import_dataset(path).manifest
    try:
        return import_dataset(path).manifest
    except InputError:  # what is wrong with the table itself is found again
        return import_dataset(path, require_images=False).manifest


def align(
    tables: Sequence[Predictions], manifest: Manifest | None, by: Sequence[str], crossed: Sequence[tuple[str, str]]
) -> tuple[Data, list[Predictions]]:
    """The images of known class that all tables have, and the tables' rows in their order.

    Raises:
        InputError: a table has other images than the first, or images that the manifest lacks; or
            no image is of known class.
    """
    first = tables[0]
    aligned = [first, *(_in_order_of(first, table) for table in tables[1:])]
    remarks: list[str] = []
    if manifest is None:
        if by or crossed:
            raise InputError("--by and --cross name columns of a manifest; wanted --manifest")
        truth = next((t.truth for t in aligned if t.truth is not None), None)
        if truth is None:
            raise InputError(
                f"{first.path}: has no truth beside the calls (columns target and target_predicted); wanted --manifest"
            )
        known = truth >= 0
        rows = np.flatnonzero(known)
        groupings = [] if first.groups is None else [_own_groups(first, rows)]
        patients, ita = None, np.full(len(rows), math.nan)
        paths: list[Path | None] = [None] * len(rows)
    else:
        manifest, rest = _rows_of(first, manifest)
        if rest:
            remarks.append(f"{len(rest):,} images of the manifest have no prediction: left out: {shortened(rest)}")
        truth = manifest.targets.astype(np.int64)
        rows = np.flatnonzero(truth >= 0)
        manifest = manifest.select(rows)
        groupings = groups_of(manifest, by, crossed)
        patients = _patients(manifest)
        ita = np.array([float(cell or "nan") for cell in manifest.column("ita")])
        folder = manifest.path.parent
        paths = [folder / cell if cell else None for cell in manifest.column("path")]
    if unlabelled := [first.names[i] for i in np.flatnonzero(truth < 0)]:
        remarks.append(f"{len(unlabelled):,} images are of unknown class: left out: {shortened(unlabelled)}")
    if not len(rows):
        raise InputError(f"{first.path}: none of its {len(first):,} images is of known class")
    malignant = int(truth[rows].sum())
    if malignant in (0, len(rows)):
        remarks.append(f"{malignant:,} of the {len(rows):,} images are malignant: one class alone")
    else:
        remarks += [line for groups in groupings for line in _too_few(groups, truth[rows])]
    if patients is not None and len(set(patients)) < len(patients):
        remarks.append(
            "DeLong's and McNemar's tests take the images of one patient for independent; the intervals "
            "and the tests of gaps do not"
        )
    names = [first.names[i] for i in rows]
    images = Images(names, truth[rows], groupings, patients)
    return Data(images, ita, paths, remarks), [table.select(rows) for table in aligned]


def groups_of(manifest: Manifest, by: Sequence[str], crossed: Sequence[tuple[str, str]]) -> list[Groups]:
    """The groups of the columns, and of the pairs of columns; those without any image left out."""
    columns = by or [c for c in DEFAULT_COLUMNS if c in manifest.table.columns]
    found = [group_by(manifest, column) for column in columns]
    found += [cross(group_by(manifest, a), group_by(manifest, b)) for a, b in crossed]
    for groups in found:
        if not groups.known.any() and (by or crossed):
            raise InputError(f"{manifest.path}: no image has a value of {groups.name!r}")
    return [groups for groups in found if groups.known.any()]


def draw(
    data: Data, models: Sequence[Model], document: dict[str, Any], output: Path, settings: Settings
) -> list[tuple[Path, str]]:
    """Draws the pictures into the folder; file and caption of each."""
    malignant = data.images.y_true == 1
    both = malignant.any() and not malignant.all()
    drawn: list[tuple[Path, str]] = []

    def keep(name: str, figure: Any, caption: str) -> None:
        plots.save(figure, output / f"{name}.png")
        drawn.append((output / f"{name}.png", caption))

    scores = {model.name: model.score for model in models if model.score is not None}
    level = f"{settings.level:.0%}"
    if scores and both:
        options = {"level": settings.level, "seed": settings.seed}
        keep(
            "roc",
            plots.roc(malignant, scores, **options),  # type: ignore[arg-type]
            f"ROC curves with pointwise {level} bands.",
        )
        keep(
            "precision-recall",
            plots.precision_recall(malignant, scores, **options),  # type: ignore[arg-type]
            f"Precision over recall with pointwise {level} bands; dotted: chance.",
        )
        keep(
            "calibration",
            plots.calibration(malignant, scores),
            "Share of malignant images by P(malignant), and the images in each bin.",
        )
    for i, (model, found) in enumerate(zip(models, document["models"], strict=True)):
        suffix = f"-{i + 1}" if len(models) > 1 else ""
        of = f" ({model.name})" if len(models) > 1 else ""
        for groups in data.images.groupings:
            grouping = found["groupings"][groups.name]
            column = _file_name(groups.name)
            figure = plots.forest(grouping, found["overall"], "recall", by=groups.name)
            keep(
                f"forest-{column}{suffix}",
                figure,
                f"Recall by {groups.name}{of}, with {level} intervals; dashed: over all images; "
                "grey: as wide as the gap that chance alone makes on average.",
            )
        parts = {"all": found["confusion"]}
        if data.images.groupings:
            first = found["groupings"][data.images.groupings[0].name]["groups"]
            parts |= {name: g["confusion"] for name, g in first.items() if g["images"]}
        keep(
            f"confusion{suffix}",
            plots.confusions(parts),
            f"Counts of images by truth and call, over all and by group{of}; percentages and "
            "shades are of the images of that truth.",
        )
        if model.score is None:
            continue
        keep(
            f"scores{suffix}",
            plots.score_distributions(malignant, model.score, model.threshold),
            f"Distribution of P(malignant) by class{of}.",
        )
        if data.images.groupings:
            groups = data.images.groupings[0]
            figure = plots.threshold_sweep(malignant, model.score, groups, model.threshold)
            keep(f"threshold-sweep{suffix}", figure, f"Recall and false positive rate by group over the threshold{of}.")
        path = output / f"worst-misses{suffix}.png"
        if count := draw_worst(data, model, path):
            drawn.append((path, f"The {count} malignant images of the lowest P(malignant){of}."))
    if not np.isnan(data.ita).all():
        keep("ita", plots.ita_histogram(malignant, data.ita), "Skin tone (ITA) by class.")
    return drawn


def draw_worst(data: Data, model: Model, path: Path) -> int:
    """A sheet of the malignant images that the model is surest are benign; how many it has.

    Images that are not at hand are left out.
    """
    assert model.score is not None
    missed = np.flatnonzero((data.images.y_true == 1) & (model.called == 0))
    pictures: list[tuple[NDArray[np.uint8], str]] = []
    for row in missed[np.argsort(model.score[missed], kind="stable")]:
        file = data.paths[row]
        if len(pictures) == WORST_SHOWN or file is None or not file.is_file():
            continue
        try:
            picture, _ = read_resized(file, _shown_size)
        except InputError:
            continue
        pictures.append((picture, f"{model.score[row]:.3f} {data.images.names[row]}"))
    if pictures:
        write_grid(pictures, 6, path)
    return len(pictures)


def _shown_size(height: int, width: int) -> tuple[int, int]:
    return max(1, round(height * WORST_WIDTH / width)), WORST_WIDTH


def write_tables(path: Path, document: dict[str, Any]) -> None:
    """Every metric of the document, and every gap, as one long table: CSV."""
    header = (
        "model",
        "grouping",
        "group",
        "images",
        "malignant",
        "metric",
        "value",
        "low",
        "high",
        "interval",
        "p_value",
        "p_adjusted",
    )
    rows: list[tuple[object, ...]] = []
    about = document["about"]
    for model in document["models"]:
        name = model["name"]
        parts = [("all", "all", about["images"], about["malignant"], model["overall"])]
        for column, grouping in model["groupings"].items():
            parts += [
                (column, group, found["images"], found["malignant"], found["metrics"])
                for group, found in grouping["groups"].items()
            ]
        for column, group, count, malignant, metrics in parts:
            for metric, found in metrics.items():
                numbers = [_digits(found[key]) for key in ("value", "low", "high")]
                rows.append((name, column, group, count, malignant, metric, *numbers, found["method"] or "", "", ""))
        for column, grouping in model["groupings"].items():
            for metric, found in grouping["gaps"].items():
                numbers = [_digits(found[key]) for key in ("gap", "low", "high")]
                tested = [_digits(found["null"][key]) for key in ("p_value", "p_adjusted")]
                kind = "simultaneous" if numbers[1] else ""
                rows.append((name, column, "", "", "", f"gap in {metric}", *numbers, kind, *tested))
    with atomic_path(path) as file:
        write_csv(file, header, rows)


def _model(name: str, table: Predictions, threshold: float | None) -> Model:
    if threshold is not None:
        if table.score is None:
            raise InputError(f"{table.path}: has calls alone, for which --threshold means nothing")
        called = (table.score >= threshold).astype(np.int64)
        return Model(name, table.score, called, threshold, "as asked for")
    if table.called is None or (table.called < 0).any():
        lacking = len(table) if table.called is None else int((table.called < 0).sum())
        raise InputError(
            f"{table.path}: {lacking:,} of {len(table):,} images have no call (column "
            "target_predicted); wanted --threshold, chosen on other images than these"
        )
    return Model(name, table.score, table.called, table.threshold, "the table's own calls")


def _too_few(groups: Groups, y_true: NDArray[np.int64]) -> list[str]:
    """A line each on the groups with few malignant, with none, and without benign images."""
    lines = []
    malignant = np.bincount(groups.index[(y_true == 1) & groups.known], minlength=len(groups.names))
    few = [f"{name} ({count})" for name, count in zip(groups.names, malignant, strict=True) if 0 < count < FEW]
    if few:
        lines.append(
            f"{groups.name}: fewer than {FEW} malignant images, on which recall, AUC and their "
            f"intervals say little, of {', '.join(few)}"
        )
    for target, lacking, undefined in ((1, "malignant", "recall"), (0, "benign", "specificity")):
        there = set(groups.index[y_true == target].tolist())
        without = [name for i, name in enumerate(groups.names) if i not in there and (groups.index == i).any()]
        if without:
            lines.append(f"{groups.name}: no {lacking} images, so no {undefined} and no AUC, of {shortened(without)}")
    return lines


def _in_order_of(first: Predictions, other: Predictions) -> Predictions:
    place = {name: i for i, name in enumerate(other.names)}
    for more, less in ((first, other), (other, first)):
        if missing := sorted(set(more.names) - set(less.names)):
            raise InputError(f"{less.path}: lacks {len(missing):,} images of {more.path}: {shortened(missing)}")
    return other.select([place[name] for name in first.names])


def _rows_of(table: Predictions, manifest: Manifest) -> tuple[Manifest, list[str]]:
    """The manifest's rows in the order of the table, and the names of the others that it has.

    Where no name is the same, names are compared without their suffix.
    """
    known = manifest.image_names
    place = {name: i for i, name in enumerate(known)}
    names = table.names
    if not place.keys() & set(names):
        place = {Path(name).stem: i for i, name in enumerate(known)}
        names = [Path(name).stem for name in names]
        if len(place) < len(known) or len(set(names)) < len(names):
            place = {}
    if missing := [name for name in names if name not in place]:
        raise InputError(
            f"{manifest.path}: lacks {len(missing):,} of the {len(names):,} images of "
            f"{table.path}: {shortened(missing)}"
        )
    rows = [place[name] for name in names]
    taken = set(rows)
    rest = [name for row, name in enumerate(known) if row not in taken]
    return manifest.select(np.array(rows)), rest


def _own_groups(table: Predictions, rows: NDArray[np.int64]) -> Groups:
    assert table.groups is not None
    cells = [table.groups[i] for i in rows]
    names = tuple(dict.fromkeys(sorted(set(cells) - {""})))
    place = {name: i for i, name in enumerate(names)} | {"": -1}
    return Groups("group", np.array([place[cell] for cell in cells], np.int64), names)


def _patients(manifest: Manifest) -> NDArray[np.str_] | None:
    cells = manifest.column("patient_id").astype(str)
    return cells if (cells != "").any() else None


def _labels(paths: Sequence[Path]) -> list[str]:
    """Short names of files: their own, with the folder's where two are the same."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems) and stems != ["predictions"]:
        return stems
    return [f"{path.resolve().parent.name}/{path.stem}" for path in paths]


def _file_name(column: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in column)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
