"""Import: a table or a folder, of a kind recognised or named, to a manifest."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from melfast.data.manifest import Manifest, check_table, relative_folder
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.images import IMAGE_SUFFIXES, scan_images
from melfast.io.tables import Table, read_table, write_csv
from melfast.io.words import check_words
from melfast.prepare.folders import find_layout, import_folder
from melfast.prepare.importers import TABLE_KINDS, Draft, convert_table, recognise_table
from melfast.prepare.pairing import FileIndex, index_images, index_masks, separate_masks

FOLDER_KINDS = ("folder", "images")
KINDS = ("auto", *TABLE_KINDS, *FOLDER_KINDS)
# Of several tables in a folder, the one of this name is meant.
LABELS = "labels.csv"

OnMissing = Literal["error", "drop"]


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Attributes:
        kind: one of KINDS but `auto`.
        manifest: lies beside the source; paths are relative to it.
        dropped: names of listed images that have no file (`on_missing="drop"` only).
        notes: what the user should know of, a line each.
    """

    kind: str
    manifest: Manifest
    dropped: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def import_source(source: Path, kind: str = "auto", images: Path | None = None) -> Manifest:
    """`import_dataset` with its notes on stderr."""
    found = import_dataset(source, kind, images)
    for note in found.notes:
        print(f"{source}: {note}", file=sys.stderr)
    return found.manifest


@check_words
def import_dataset(
    source: Path,
    kind: str = "auto",
    images: Path | None = None,
    masks: Path | None = None,
    *,
    require_images: bool = True,
    on_missing: OnMissing = "error",
) -> Imported:
    """Imports a data set.

    Args:
        source: a CSV file; a folder with one, or with class folders; or a folder of images.
        kind: one of KINDS; `auto` goes by the header or the folders.
        images: where the images of a table are, at any depth; by default `images/` beside the
            table, or else anywhere beside it.
        masks: where the lesion masks of a table are; by default `masks/` beside the table, or
            folders and files among the images that are named so.
        require_images: False imports a table alone, its `path` empty.
        on_missing: what to do with listed images that have no file.
    Raises:
        InputError: the kind is not plain to see, the table is wrong, files are missing, or one name
            stands for two files.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; kinds are {', '.join(KINDS)}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    table, kind = _recognise(source, kind)
    if table is None:
        if images or masks or not require_images:
            raise InputError(f"{source}: images and masks are looked up for tables, not for folders")
        manifest, notes = import_folder(source, kind)
        return Imported(kind, manifest, notes=notes)
    draft = convert_table(table, kind)
    check_table(draft.table)  # a bad row comes before a missing file
    if not require_images:
        draft.set("path", [""] * len(draft.table.frame))
        return Imported(kind, check_table(draft.table), notes=draft.notes)
    dropped = _find_images(draft, images, on_missing)
    _find_masks(draft, images, masks)
    return Imported(kind, check_table(draft.table), dropped, draft.notes)


def _recognise(source: Path, kind: str) -> tuple[Table | None, str]:
    """The table, or None for a folder without one, and the kind."""
    if source.is_file():
        if kind in FOLDER_KINDS:
            raise InputError(f"{source}: is a file, wanted a folder for kind {kind!r}")
        table = read_table(source)
        return table, recognise_table(list(table.frame.columns)) if kind == "auto" else kind
    if kind in FOLDER_KINDS:
        return None, kind
    tables = _tables(source, kind)
    labelled = any(table.path.name == LABELS for table, _ in tables)
    layout = find_layout(source) if kind == "auto" and not labelled else None
    found = [f"{table.path.name} ({name})" for table, name in tables]
    if layout == "folder":
        found.append("class folders (folder)")
    if len(found) == 1:
        return tables[0] if tables else (None, "folder")
    if found:
        raise InputError(f"{source}: holds {' and '.join(found)}: name one as SOURCE, or its kind with --kind")
    if layout == "images":
        return None, layout
    raise InputError(
        f"{source}: nothing known found; wanted {LABELS} or another table, benign/ and malignant/ folders, or images"
    )


def _tables(folder: Path, kind: str) -> list[tuple[Table, str]]:
    """Tables of a folder that can be meant: labels.csv alone if there; else the published kinds."""
    if (folder / LABELS).is_file():
        table = read_table(folder / LABELS)
        name = recognise_table(list(table.frame.columns)) if kind == "auto" else kind
        return [(table, name)]
    tables = []
    for path in sorted(folder.iterdir()):
        # Harvard Dataverse hands out HAM10000_metadata without a suffix.
        if path.suffix.lower() != ".csv" and path.name != "HAM10000_metadata":
            continue
        table = read_table(path)
        name = recognise_table(list(table.frame.columns))
        if name == kind or (kind == "auto" and name != "csv"):
            tables.append((table, name))
    return tables


def _find_images(draft: Draft, images: Path | None, on_missing: OnMissing) -> tuple[str, ...]:
    """Fills `path`; returns the names of rows left out because their file is missing."""
    folder = draft.table.path.parent
    given = draft.cells("path")
    if any(given) and not _only_names(given, images or folder):
        paths = _existing([_under(images, folder, cell) for cell in given], folder)
        where = str(images or folder)
    else:
        index = _image_index(folder, images)
        names = draft.cells("image_name")
        index.require_single(names, "images")
        paths = _under_manifest(index, names, folder)
        where = index.folder
        if extra := len(index.files.keys() - set(names)):
            draft.notes.append(f"images in {where} that stand in no row: {extra}")
    draft.set("path", paths)
    missing = np.array([not path for path in paths])
    if not missing.any():
        return ()
    names = [str(name) for name in draft.table.frame["image_name"].to_numpy()[missing]]
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    if on_missing == "error" or missing.all():
        raise InputError(
            f"{draft.table.path}: {len(names)} of {len(paths)} listed images are not in {where}: "
            f"{listed} (--images names another folder, --on-missing drop leaves them out)"
        )
    draft.notes.append(f"listed images left out because they have no file: {len(names)} ({listed})")
    draft.keep(np.flatnonzero(~missing))
    return tuple(names)


def _find_masks(draft: Draft, images: Path | None, masks: Path | None) -> None:
    """Fills `mask_path` where there are masks and the table does not name them itself."""
    folder = draft.table.path.parent
    if "mask_path" in draft.table.frame and any(draft.cells("mask_path")) and masks is None:
        _require_masks(draft)
        return
    index = _mask_index(folder, images, masks)
    if not index.files:
        if masks is not None:
            raise InputError(f"{masks}: holds no {', '.join(IMAGE_SUFFIXES)} file")
        return
    names = draft.cells("image_name")
    index.require_single(names, "masks")
    paths = _under_manifest(index, names, folder)
    if extra := len(index.files.keys() - set(names)):
        draft.notes.append(f"masks in {index.folder} without an image: {extra}")
    if without := paths.count(""):
        draft.notes.append(f"images without a mask: {without}")
    draft.set("mask_path", paths)


def _require_masks(draft: Draft) -> None:
    cells = draft.cells("mask_path")
    found = _existing([cell.replace("\\", "/") for cell in cells], draft.table.path.parent)
    missing = [cell for cell, path in zip(cells, found, strict=True) if cell and not path]
    if missing:
        listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise InputError(f"{draft.table.path}: {len(missing)} listed masks are missing: {listed}")


def _image_index(folder: Path, images: Path | None) -> FileIndex:
    root = images or (folder / "images" if (folder / "images").is_dir() else folder)
    return index_images(str(root), separate_masks(scan_images(root))[0])


def _mask_index(folder: Path, images: Path | None, masks: Path | None) -> FileIndex:
    if masks is None and (folder / "masks").is_dir():
        masks = folder / "masks"
    if masks is not None:
        return index_masks(str(masks), scan_images(masks))
    root = images or folder
    return index_masks(str(root), separate_masks(scan_images(root))[1])


def _only_names(cells: list[str], folder: Path) -> bool:
    """Whether a path column holds bare file names that do not lie in the folder itself."""
    return not any("/" in cell or "\\" in cell for cell in cells) and not any(
        (folder / cell).is_file() for cell in cells if cell
    )


def _under(images: Path | None, folder: Path, cell: str) -> str:
    cell = cell.replace("\\", "/")
    if images is None or not cell or cell.startswith(os.sep):
        return cell
    return os.path.join(relative_folder(str(images.resolve()), folder.resolve()), cell)


def _existing(cells: list[str], folder: Path) -> list[str]:
    """The paths, '' for those that are no file."""
    start = str(folder)
    return [cell if cell and os.path.isfile(os.path.join(start, cell)) else "" for cell in cells]


def _under_manifest(index: FileIndex, names: list[str], folder: Path) -> list[str]:
    """Path of each name's file relative to the manifest's folder, '' where there is none."""
    prefix = relative_folder(str(Path(index.folder).resolve()), folder.resolve())
    files = index.files
    return [os.path.join(prefix, files[name]) if name in files else "" for name in names]


def write_missing(names: tuple[str, ...], path: Path) -> None:
    """Writes the names of listed images that have no file."""
    with atomic_path(path) as temporary:
        write_csv(temporary, ("image_name", "reason"), [(name, "no such file") for name in names])


def summary(manifest: Manifest) -> list[tuple[str, str]]:
    """Figures of a manifest as (what, counts) for people."""
    targets, splits, groups = manifest.targets, manifest.splits, manifest.groups
    rows = [
        ("images", f"{len(manifest):,}"),
        ("targets", _counts({"benign": targets == 0, "malignant": targets == 1, "unlabelled": targets == -1})),
    ]
    for name, column in (("patients", "patient_id"), ("lesions", "lesion_id")):
        ids = pd.unique(manifest.column(column))
        if known := sum(1 for cell in ids if cell):
            rows.append((name, f"{known:,}"))
    if (groups >= 0).any():
        parts = {name: groups == index for index, name in enumerate(manifest.group_names)}
        rows.append(("groups", _counts({**parts, "unknown": groups == -1})))
    if (splits != "").any():
        parts = {name: splits == name for name in ("train", "valid", "test")}
        rows.append(("splits", _counts({**parts, "none": splits == ""})))
    if count := int((manifest.column("mask_path") != "").sum()):
        rows.append(("masks", f"{count:,}"))
    return rows


def _counts(parts: dict[str, np.ndarray]) -> str:
    counts = {name: int(mask.sum()) for name, mask in parts.items()}
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
