"""Write a report from tables of predictions: page, document, tables and pictures in a folder."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.data.manifest import Manifest, is_manifest, read_manifest
from melfast.io.contact_sheet import write_grid
from melfast.io.errors import InputError
from melfast.io.files import OwnFolder, atomic_path, own_folder
from melfast.io.images import read_resized
from melfast.io.log import logger
from melfast.io.tables import shortened, write_csv
from melfast.metrics.gaps import FEWEST
from melfast.metrics.groups import MOST_GROUPS, Groups, cross, group_by
from melfast.prepare.sources import import_dataset
from melfast.report import plots
from melfast.report.analysis import Images, Model, Settings, analyse
from melfast.report.measures import write_metrics
from melfast.report.page import write_page
from melfast.report.predictions import (
    TRUTH_COLUMNS,
    Predictions,
    image_key,
    odd,
    require_distinct,
    settle,
    threshold_between,
)
from melfast.report.shown import title_of
from melfast.skin.tone import TONE_GROUPS, classify

PAGE, DOCUMENT, TABLES = "report.html", "metrics.json", "tables.csv"
COMMAND = "melfast report"  # as the folder's list of files says it
DEFAULT_COLUMNS = ("group", "sex", "age_approx", "anatom_site_general_challenge")
TONE_TABLE = "six"  # makes tone groups of a bare ITA
WORST_SHOWN, WORST_WIDTH = 24, 240  # images of the sheet, and their pixels
DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True)
class ReportOptions:
    """Content of a report.

    Attributes:
        names: names of the models; empty: the file names.
        by: columns of the manifest whose groups are compared; empty: those of DEFAULT_COLUMNS that exist.
        crossed: pairs of columns whose combinations are compared.
        threshold: threshold of all models; None: each model's own calls.
        title: title of the page.
    """

    names: Sequence[str] = ()
    by: Sequence[str] = ()
    crossed: Sequence[tuple[str, str]] = ()
    threshold: float | None = None
    title: str = ""


EVERYTHING = ReportOptions()


@dataclass(frozen=True)
class Data:
    """The reported images, and data for the pictures.

    Attributes:
        ita: [N] degrees, NaN unknown.
        paths: [N], paths of the image files, relative to `folder`; '' if there is none.
        remarks: pairs of a kind (see `melfast.report.summary.NOTE_TITLES`) and a text.
    """

    images: Images
    ita: NDArray[np.float64]
    paths: Sequence[str]
    folder: Path
    remarks: list[dict[str, str]]


def run_report(
    tables: Sequence[Predictions],
    output: Path,
    wanted: ReportOptions = EVERYTHING,
    *,
    manifest: Manifest | None = None,
    trained_on: Manifest | None = None,
    settings: Settings = DEFAULT_SETTINGS,
) -> dict[str, Any]:
    """Writes a report on one or several models.

    Args:
        manifest: truth, groups, patients and images; None: truth and groups of the tables.
        trained_on: manifest with the training split; None: `manifest`.
    Returns:
        The document, as it is written to metrics.json.
    Raises:
        InputError: the tables and the manifest do not match, a column is missing or has too many values,
            no image has a known class, or a threshold is given without probabilities.
    """
    labels = list(wanted.names) or _model_names(tables)
    if len(labels) != len(tables) or len(set(labels)) < len(labels):
        raise InputError(f"`names` must name each of the {len(tables)} models once, got {', '.join(labels)}")
    data, tables = align(tables, manifest, wanted)
    if manifest is not None:
        data.remarks[:0] = seen_in_training(manifest, trained_on or manifest, data.images.names)
    for table in tables:
        logger.info(
            f"{table.path}: " + ", ".join(f"{what} from column {column}" for what, column in table.columns.items())
        )
    models = [_model(label, table, wanted.threshold) for label, table in zip(labels, tables, strict=True)]
    logger.info(
        f"{len(data.images.names):,} images, {int(data.images.y_true.sum()):,} malignant; "
        f"groups: {', '.join(g.name for g in data.images.groupings) or 'none'}"
    )
    read = {(table.path, column) for table in tables for column in table.columns.values()}
    about = {
        "title": wanted.title or f"{', '.join(labels)}: how good, for whom, how sure",
        "predictions": [
            {
                "path": str(table.path),
                "columns": dict(table.columns),
                "passed_over": [column for column in table.passed_over if (table.path, column) not in read],
            }
            for table in tables
        ],
        "manifest": None if manifest is None else str(manifest.path),
        "remarks": data.remarks,
    }
    with own_folder(output, COMMAND) as own:
        own.claim(DOCUMENT, TABLES, PAGE)
        document = analyse(data.images, models, settings, about)
        data.remarks.extend(line for model in document["models"] for line in _on_scores(model))
        write_metrics(output / DOCUMENT, document)
        # The page is made from the written file, so it shows exactly what metrics.json contains.
        written: dict[str, Any] = json.loads((output / DOCUMENT).read_text(encoding="utf-8"))
        write_tables(output / TABLES, written)
        logger.info("drawing")
        pictures = draw(data, models, written, own, settings)
        written["pictures"] = [path.name for path, _ in pictures]
        write_metrics(output / DOCUMENT, written)
        with atomic_path(output / PAGE) as file:
            file.write_text(write_page(written, pictures), encoding="utf-8")
        # Pictures of an earlier report, which would be mixed with the new ones.
        own.remove({name for name in own.files if name.endswith(".png")}.difference(written["pictures"]))
    return written


def read_any_manifest(path: Path) -> Manifest:
    """Reads a manifest, or a table or folder that `melfast prepare import` can read; the image files of a
    table need not exist."""
    if is_manifest(path):
        return read_manifest(path)
    if not path.is_file():
        return import_dataset(path).manifest
    try:
        return import_dataset(path, on_missing="keep").manifest
    except InputError:  # an error in the table itself occurs again; an image name with two files does not
        return import_dataset(path, require_images=False).manifest


def align(
    tables: Sequence[Predictions], manifest: Manifest | None, wanted: ReportOptions
) -> tuple[Data, list[Predictions]]:
    """The images of known class that all tables contain, and the rows of the tables in that order.

    Raises:
        InputError: a table has different images from the first, or images that the manifest lacks; no image
            has a known class; or a grouping has more than MOST_GROUPS groups.
    """
    first = tables[0]
    aligned = [first, *(_in_order_of(first, table) for table in tables[1:])]
    remarks: list[dict[str, str]] = []
    if manifest is None:
        if wanted.by or wanted.crossed:
            raise InputError("`by` and `crossed` name columns of a manifest; expected `manifest`")
        require_distinct(first)
        truth = _own_truth(aligned)
        rows = np.flatnonzero(truth >= 0)
        own = (_own_groups(table, rows) for table in aligned if table.groups is not None)
        groupings = [groups for groups in own if groups.known.any()][:1]
        patients, ita = None, np.full(len(rows), math.nan)
        paths: Sequence[str] = [""] * len(rows)
    else:
        manifest, rest = _rows_of(first, manifest)
        if rest:
            line = f"{len(rest):,} images of the manifest have no prediction: left out: {shortened(rest)}"
            remarks.append(_remark("images", line))
        truth = manifest.targets.astype(np.int64)
        for i, table in enumerate(aligned):
            aligned[i], found = settle(table, truth, manifest.path)
            remarks += [_remark("tables", line) for line in found]
        rows = np.flatnonzero(truth >= 0)
        manifest, found = with_tone_groups(manifest.select(rows))
        remarks += [_remark("groups", line) for line in found]
        groupings = groups_of(manifest, wanted.by, wanted.crossed)
        patients = _patients(manifest)
        ita = np.array([float(cell or "nan") for cell in manifest.column("ita")])
        paths = manifest.column("path").tolist()
    remarks += [_remark("scores", line) for table in aligned for line in odd(table, truth)]
    if unlabelled := [first.names[i] for i in np.flatnonzero(truth < 0)]:
        line = f"{len(unlabelled):,} images are of unknown class: left out: {shortened(unlabelled)}"
        remarks.append(_remark("images", line))
    if not len(rows):
        raise InputError(f"{first.path}: none of its {len(first):,} images has a known class")
    malignant = int(truth[rows].sum())
    if malignant in (0, len(rows)):
        remarks.append(
            _remark("images", f"{malignant:,} of the {len(rows):,} images are malignant: there is only one class")
        )
    else:
        remarks += [_remark("groups", line) for groups in groupings for line in _too_few(groups, truth[rows])]
    if len(tables) > 1 and patients is not None and len(set(patients)) < len(patients):
        remarks.append(
            _remark(
                "groups",
                "DeLong's and McNemar's tests treat the images of one patient as independent; the intervals and the "
                "tests of gaps do not",
            )
        )
    names = [first.names[i] for i in rows]
    images = Images(names, truth[rows], groupings, patients)
    folder = first.path.parent if manifest is None else manifest.path.parent
    return Data(images, ita, paths, folder, remarks), [table.select(rows) for table in aligned]


def groups_of(manifest: Manifest, by: Sequence[str], crossed: Sequence[tuple[str, str]]) -> list[Groups]:
    """The groups of the columns, and of the pairs of columns; groups without images are left out."""
    columns = by or [c for c in DEFAULT_COLUMNS if c in manifest.table.columns]
    found = [group_by(manifest, column) for column in columns]
    found += [cross(group_by(manifest, a), group_by(manifest, b)) for a, b in crossed]
    for groups in found:
        if not groups.known.any() and (by or crossed):
            raise InputError(f"{manifest.path}: no image has a value of {groups.name!r}")
        _require_few(groups, manifest.path)
    return [groups for groups in found if groups.known.any()]


def _require_few(groups: Groups, path: Path) -> None:
    if (count := len(np.unique(groups.index[groups.known]))) > MOST_GROUPS:
        raise InputError(
            f"{path}: column {groups.name!r} has {count:,} different values, expected at most {MOST_GROUPS} groups"
        )


def with_tone_groups(manifest: Manifest) -> tuple[Manifest, list[str]]:
    """The manifest with tone groups from column `ita` if it has no groups, and a remark about it."""
    cells = manifest.column("ita")
    if (manifest.column("group") != "").any() or not (cells != "").any():
        return manifest, []
    scale = TONE_GROUPS[TONE_TABLE]
    index = classify(np.where(cells == "", "nan", cells).astype(float), scale)
    manifest = manifest.with_columns(
        group=["" if i < 0 else i for i in index],
        group_str=["" if i < 0 else scale.names[i] for i in index],
        tone_groups=[TONE_TABLE] * len(manifest),
    )
    return manifest, [f"tone groups: made of column ita by the table of {TONE_TABLE} groups ({scale.source})"]


def seen_in_training(manifest: Manifest, trained_on: Manifest, names: Sequence[str]) -> list[dict[str, str]]:
    """Remarks on reported images, patients and lesions that are in the training split.

    Args:
        trained_on: a manifest with splits.
        names: names of the reported images, as in the predictions.
    """
    training = trained_on.select(trained_on.splits == "train")
    if not len(training):
        return []
    own = set(map(image_key, training.image_names))
    reported = manifest.select(np.array(_places(names, manifest.image_names)))
    trained = np.array([image_key(name) in own for name in reported.image_names])
    remarks = []
    if trained.any():
        remarks.append(
            f"{trained.sum():,} of the {len(trained):,} reported images are of the training split: the model has "
            "seen them and looks better than it is"
        )
    for column, what in (("patient_id", "patients"), ("lesion_id", "lesions")):
        ids = set(reported.select(~trained).column(column).tolist()) - {""}
        shared = ids & set(training.column(column).tolist())
        if shared:
            remarks.append(
                f"{len(shared):,} of the {len(ids):,} reported {what} also have images in the training split: expect "
                f"worse results for new {what}"
            )
    return [_remark("training", line) for line in remarks]


def _on_scores(model: dict[str, Any]) -> list[dict[str, str]]:
    """Remarks on a model without calls or without scores, or with inverted scores."""
    name, auc = model["name"], model["overall"].get("auc")
    if auc is None:
        line = f"{name}: only calls, so no AUC, calibration or anything else that needs probabilities"
        return [_remark("lacking", line)]
    remarks = []
    if auc["high"] < 0.5:
        line = f"{name}: its AUC is below 0.5 beyond chance: the probabilities seem to be those of benign"
        remarks.append(_remark("scores", line))
    if model["confusion"] is None:
        line = f"{name}: no calls and no --threshold, so no sensitivity, specificity or missed cancers"
        remarks.append(_remark("lacking", line))
    return remarks


def _remark(kind: str, text: str) -> dict[str, str]:
    return {"kind": kind, "text": text}


def draw(
    data: Data, models: Sequence[Model], document: dict[str, Any], own: OwnFolder, settings: Settings
) -> list[tuple[Path, str]]:
    """Draws the pictures into the folder; returns file and caption of each."""
    malignant = data.images.y_true == 1
    both = malignant.any() and not malignant.all()
    drawn: list[tuple[Path, str]] = []

    def keep(name: str, figure: Any, caption: str) -> None:
        path = own.claim(f"{name}.png")
        plots.save(figure, path)
        drawn.append((path, caption))

    scores = {model.name: model.score for model in models if model.score is not None}
    level = f"{settings.level:.0%}"
    if scores and both:
        of_models = {found["name"]: found for found in document["models"]}
        overall = {name: of_models[name]["overall"] for name in scores}
        crosses = f"the cross: at the model's threshold, with {level} intervals"
        keep("roc", plots.roc(malignant, scores, overall), f"ROC curves; {crosses}.")
        keep(
            "precision-recall",
            plots.precision_recall(malignant, scores, overall),
            f"Precision over recall; {crosses}; dotted: chance.",
        )
        keep(
            "calibration",
            plots.calibration({name: of_models[name]["calibration"]["curve"] for name in scores}, scores),
            f"Share of malignant images by P(malignant), with {level} bands, and the images by P(malignant).",
        )
        keep(
            "decision-curve",
            plots.net_benefit({name: of_models[name]["decision_curve"] for name in scores}),
            "Net benefit of acting on the model's probability (cancers found, less false alarms weighed by the odds of "
            "the threshold), beside treating all lesions or none.",
        )
    for i, (model, found) in enumerate(zip(models, document["models"], strict=True)):
        suffix = f"-{i + 1}" if len(models) > 1 else ""
        of = f" ({model.name})" if len(models) > 1 else ""
        metric = "auc" if model.called is None else "recall"
        for groups in data.images.groupings:
            figure = plots.forest(found["groupings"][groups.name], found["overall"], metric, by=groups.name)
            keep(
                f"forest-{_file_name(groups.name)}{suffix}",
                figure,
                f"{title_of(metric)} by {groups.name}{of}, with {level} intervals; dashed: over all images; "
                "grey: as wide as the gap that chance makes on average.",
            )
        if model.called is not None:
            parts = {"all": found["confusion"]}
            if data.images.groupings:
                first = found["groupings"][data.images.groupings[0].name]["groups"]
                parts |= {name: g["confusion"] for name, g in first.items() if g["images"]}
            keep(
                f"confusion{suffix}",
                plots.confusion_matrices(parts),
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
        path = own.claim(f"worst-misses{suffix}.png")
        if count := draw_worst(data, model, path):
            drawn.append((path, f"The {count} malignant images of the lowest P(malignant){of}."))
    if not np.isnan(data.ita).all():
        keep("ita", plots.ita_histogram(malignant, data.ita), "Skin tone (ITA) by class.")
    return drawn


def draw_worst(data: Data, model: Model, path: Path) -> int:
    """Draws a sheet of the malignant images with the lowest P(malignant); returns their number.

    Missing image files are left out.
    """
    assert model.score is not None
    called = np.zeros(len(model.score)) if model.called is None else model.called
    missed = np.flatnonzero((data.images.y_true == 1) & (called == 0))
    pictures: list[tuple[NDArray[np.uint8], str]] = []
    for row in missed[np.argsort(model.score[missed], kind="stable")]:
        file = data.folder / data.paths[row]
        if len(pictures) == WORST_SHOWN or not file.is_file():
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
            raise InputError(f"{table.path}: has only calls, for which `threshold` means nothing")
        called = (table.score >= threshold).astype(np.int64)
        return Model(name, table.score, called, threshold, "as requested")
    if table.called is None:
        return Model(name, table.score, None, None, "no calls and no threshold")
    if lacking := int((table.called < 0).sum()):
        raise InputError(
            f"{table.path}: {lacking:,} of {len(table):,} images have no call (column "
            f"{table.columns['prediction']}); expected `threshold`, chosen on other images than these"
        )
    return Model(name, table.score, table.called, table.threshold, "the table's own calls")


def _too_few(groups: Groups, y_true: NDArray[np.int64]) -> list[str]:
    """One line each about groups with few or no malignant images, and without benign ones."""
    lines = []
    malignant = np.bincount(groups.index[(y_true == 1) & groups.known], minlength=len(groups.names))
    few = [f"{name} ({count})" for name, count in zip(groups.names, malignant, strict=True) if 0 < count < FEWEST]
    if few:
        lines.append(
            f"{groups.name}: fewer than {FEWEST} malignant images in {', '.join(few)}: recall, AUC and their "
            "intervals say little there"
        )
    for target, lacking, undefined in ((1, "malignant", "recall"), (0, "benign", "specificity")):
        there = set(groups.index[y_true == target].tolist())
        without = [name for i, name in enumerate(groups.names) if i not in there and (groups.index == i).any()]
        if without:
            lines.append(f"{groups.name}: no {lacking} images in {shortened(without)}: no {undefined} and no AUC there")
    return lines


def _in_order_of(first: Predictions, other: Predictions) -> Predictions:
    rows = _places(first.names, other.names)
    for more, less, missing in (
        (first, other, [name for name, row in zip(first.names, rows, strict=True) if row < 0]),
        (other, first, [other.names[i] for i in sorted(set(range(len(other))) - set(rows))]),
    ):
        if missing:
            raise InputError(f"{less.path}: lacks {len(missing):,} images of {more.path}: {shortened(missing)}")
    return other.select(rows)


def _rows_of(table: Predictions, manifest: Manifest) -> tuple[Manifest, list[str]]:
    """The rows of the manifest in the order of the table, and the names of its other rows."""
    known = manifest.image_names
    rows = _places(table.names, known)
    if missing := [name for name, row in zip(table.names, rows, strict=True) if row < 0]:
        raise InputError(
            f"{manifest.path}: lacks {len(missing):,} of the {len(table):,} images of "
            f"{table.path}: {shortened(missing)}"
        )
    taken = set(rows)
    rest = [name for row, name in enumerate(known) if row not in taken]
    return manifest.select(np.array(rows)), rest


def _places(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Row of each name among the known ones, -1 if not found.

    A name that is not found is searched without its image suffix, then without its folder; a form that two
    names share does not match.
    """
    rows = [-1] * len(names)
    taken: set[int] = set()
    for form in (str, image_key, lambda name: PurePath(image_key(name)).name):
        todo = [i for i, row in enumerate(rows) if row < 0]
        if not todo:
            break
        counts = Counter(form(names[i]) for i in todo)
        place: dict[str, int] = {}
        for row, name in enumerate(known):
            if row not in taken:
                place[form(name)] = -1 if form(name) in place else row
        for i in todo:
            rows[i] = place.get(form(names[i]), -1) if counts[form(names[i])] == 1 else -1
        taken |= set(rows) - {-1}
    return rows


def _own_truth(tables: Sequence[Predictions]) -> NDArray[np.int64]:
    """The truth contained in tables of the same images."""
    told = [table for table in tables if table.truth is not None]
    if not told:
        raise InputError(
            f"{tables[0].path}: has no truth ({', '.join(TRUTH_COLUMNS)}) beside the model's answers; expected "
            "--manifest, or --truth-column"
        )
    truth = told[0].truth
    assert truth is not None
    enough = min(int((truth == target).sum()) for target in (0, 1)) >= FEWEST
    perfect = [table for table in tables if table.called is None and threshold_between(table.score, truth) is not None]
    if perfect and enough and not told[0].asked.truth:
        table = perfect[0]
        raise InputError(
            f"{table.path}: a threshold on column {table.columns['probability']!r} gives column "
            f"{told[0].columns['target']!r} for every image, so it seems to hold the model's calls and not the truth; "
            "expected --manifest, or --truth-column if it is the truth"
        )
    for table in told[1:]:
        assert table.truth is not None
        if wrong := int((table.truth != truth).sum()):
            raise InputError(f"{table.path}: its truth differs from that of {told[0].path} in {wrong:,} images")
    return truth


def _own_groups(table: Predictions, rows: NDArray[np.int64]) -> Groups:
    assert table.groups is not None
    cells = [table.groups[i] for i in rows]
    names = tuple(sorted(set(cells) - {""}))
    place = {name: i for i, name in enumerate(names)} | {"": -1}
    groups = Groups("group", np.array([place[cell] for cell in cells], np.int64), names)
    _require_few(groups, table.path)
    return groups


def _patients(manifest: Manifest) -> NDArray[np.str_] | None:
    cells = manifest.column("patient_id").astype(str)
    return cells if (cells != "").any() else None


def _model_names(tables: Sequence[Predictions]) -> list[str]:
    """Short names: the file name, with the folder if two are equal, and the column if a file has several models."""
    paths = [table.path for table in tables]
    stems = {path: path.stem for path in paths}
    if len(set(stems.values())) < len(stems) or set(stems.values()) == {"predictions"}:
        stems = {path: f"{path.resolve().parent.name}/{path.stem}" for path in paths}
    if len(stems) == len(paths):
        return list(stems.values())
    columns = [table.columns.get("probability", "") for table in tables]
    return columns if len(stems) == 1 else [f"{stems[p]}/{c}" for p, c in zip(paths, columns, strict=True)]


def _file_name(column: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in column)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
