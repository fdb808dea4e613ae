"""Import a table or a folder, of a recognised or stated kind, as a manifest."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from melfast.data.manifest import REQUIRED, Manifest, check_table, relative_folder
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.folders import named_in_utf8, none_found, scan, scan_images, separate_masks
from melfast.io.log import logger
from melfast.io.tables import TABLE_SUFFIXES, Table, read_column_names, read_table, record_files, shortened, write_csv
from melfast.io.words import check_words
from melfast.prepare.datasets import DATASETS, FOLDER_KINDS, HEADERLESS, SPLIT_WORDS, recognise_dataset
from melfast.prepare.folders import find_classes, folder_table
from melfast.prepare.importers import Choice, Draft, convert_table, join_table, split_rows, unique_names
from melfast.prepare.packed import unpack_images
from melfast.prepare.pairing import FileIndex, index_images, index_masks
from melfast.prepare.split import unused_identities

KINDS = ("auto", *DATASETS)
# Among several tables in a folder, the one with this name is used.
LABELS = "labels.csv"
MISSING_COLUMNS = ("image_name", "reason")  # of the list of images without a file
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}
TABLE_DEPTH = 3  # depth of folders below the source that are searched for tables

OnMissing = Literal["error", "drop", "keep"]


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        kind: one of KINDS except `auto`.
        manifest: located beside the source; paths are relative to it.
        dropped: names of listed images without a file (only with `on_missing="drop"`).
        notes: notes for the user, one line each.
        target: source of the target; '' if no image has one.
        used: maps columns of the manifest to their source columns.
        unused: columns that were passed through.
    """

    kind: str
    manifest: Manifest
    dropped: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    target: str = ""
    used: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SourceLayout:
    """Tables of one kind, or none for a folder of images or classes; each table may be one split."""

    kind: str
    tables: tuple[Path, ...] = ()
    splits: tuple[str, ...] = ()
    unused: list[str] = field(default_factory=list)


def import_source(source: Path, kind: str = "auto", images: Path | None = None) -> Manifest:
    """`import_dataset` that logs its notes."""
    found = import_dataset(source, kind, images)
    for note in (*found.notes, *([f"target: {found.target}"] if found.target else ())):
        logger.info(f"{source}: {note}")
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
    choice: Choice | None = None,
    unpack: Path | None = None,
) -> Imported:
    """Imports a data set.

    Args:
        source: a table; a folder with one, or with class folders; or a folder of images.
        kind: one of KINDS; `auto` decides by the header or the folders.
        images: folder of the images of a table, at any depth; by default `images/` beside the table, or
            else anywhere beside it.
        masks: folder of the lesion masks of a table; by default `masks/` beside the table, or folders
            and files among the images with such names.
        require_images: False imports only the table, with an empty `path`.
        on_missing: what to do with listed images that have no file; `keep` leaves their `path` empty and looks for no
            masks.
        choice: what the user states about the columns.
        unpack: folder for images that are packed in an HDF5 file beside the table (ISIC 2024).
    Raises:
        InputError: the kind is ambiguous, the table is invalid or has no labels, files are missing, or a
            name matches two files.
    """
    choice = choice or Choice()
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; kinds are {', '.join(KINDS)}")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    found = _find(source, kind, choice)
    if found.kind in FOLDER_KINDS:
        if images or masks or not require_images:
            raise InputError(f"{source}: images and masks are looked up for tables, not for folders")
        draft = _folder_draft(source, found, choice)
    else:
        draft = _table_draft(source, found, choice)
    if found.unused:
        draft.notes.append(f"tables not used: {shortened(found.unused)}")
    check_table(draft.table)  # report a bad row before a missing file
    _require_labels(source, found, draft, choice.unlabelled or kind == "images")
    dropped: tuple[str, ...] = ()
    if not require_images:
        draft.set("path", [""] * len(draft.table.frame))
    elif found.kind not in FOLDER_KINDS:
        root = source if source.is_dir() else source.parent
        if images is None and unpack and (packed := sorted(root.glob("*.hdf5"))):
            unpack_images(draft, packed, unpack, root)
        dropped = _find_images(draft, root, images, on_missing)
        if on_missing != "keep":
            _find_masks(draft, root, images, masks)
    manifest = check_table(draft.table)
    draft.notes += [f"warning: {line}" for line in unused_identities(manifest, draft.unused)]
    return Imported(found.kind, manifest, dropped, draft.notes, _target_line(draft, manifest), draft.used, draft.unused)


def _folder_draft(source: Path, found: SourceLayout, choice: Choice) -> Draft:
    scanned = named_in_utf8(scan(source))
    images, masks = separate_masks(scanned.files)
    if not images and found.kind == "images":
        raise none_found(source, scanned)
    table, notes = folder_table(source, images, found.kind, bool(choice.positive or choice.target))
    draft = convert_table(table, found.kind, choice)
    draft.notes += [*scanned.notes(*TABLE_SUFFIXES), *notes]
    if masks:
        _set_masks(draft, index_masks(str(source), masks), draft.cells("path"))
    return draft


def _table_draft(source: Path, found: SourceLayout, choice: Choice) -> Draft:
    """The rows of all tables of a data set, with the columns of its side tables."""
    drafts = []
    for path in found.tables:
        table = _read(path)
        for side in _side_tables(path, found.kind):
            table = join_table(table, read_table(side))
        if splits := _beside(path, DATASETS[found.kind].row_splits):
            table = split_rows(table, splits)
        drafts.append(convert_table(table, found.kind, choice))
    several = list(zip(found.tables, drafts, found.splits or [""], strict=True))
    several = [each for each in several if each[1].target] or several
    used = {path for path, *_ in several}
    found.unused.extend(os.path.relpath(path, source) for path in found.tables if path not in used)
    if len(several) == 1:
        return several[0][1]
    for path, draft, split in several:
        prefix = relative_folder(str(path.parent.resolve()), source.resolve())
        draft.set("path", [os.path.join(prefix, cell) if cell else "" for cell in draft.cells("path")])
        draft.set("split", [split] * len(draft.table.frame))
        draft.notes[:] = [f"{path.name}: {note}" for note in draft.notes]
    drafts = [draft for _, draft, _ in several]
    frame = pd.concat([draft.table.frame for draft in drafts], ignore_index=True).fillna("")
    lines = np.concatenate([draft.table.lines for draft in drafts])
    joined = shortened([os.path.relpath(path, source) for path, *_ in several])
    notes = [f"tables joined: {joined}", *(note for draft in drafts for note in draft.notes)]
    both = Draft(Table(source / "manifest.csv", frame, lines), notes, drafts[0].target, drafts[0].used, drafts[0].made)
    if any(both.cells("path")) and both.table.frame["image_name"].duplicated().any():
        both.set("image_name", unique_names(both.cells("path")))  # numbered from 0 in each folder
    return both


def _read(path: Path) -> Table:
    headerless = recognise_dataset(read_column_names(path)) == HEADERLESS
    return read_table(path, ("image_name", "target") if headerless else ())


def _side_tables(path: Path, kind: str) -> list[Path]:
    names = [path.name.replace(old, new) for old, new in DATASETS[kind].joins if old in path.name]
    return [found[0] for name in names if (found := _beside(path, (name,)))]


def _beside(path: Path, names: Sequence[str]) -> list[Path]:
    """The files with the given names in the folder of a table, below or beside it; [] if one is missing."""
    places = [place for near in (path.parent, path.parent.parent) for place in (near, *sorted(near.glob("*/")))]
    found = [next((place / name for place in places if (place / name).is_file()), None) for name in names]
    return [file for file in found if file] if all(found) else []


def _splits(kind: str, paths: Sequence[Path], source: Path) -> tuple[str, ...]:
    """The splits that some tables of one data set are; () if they are not."""
    splits = [_split_of(path, source) for path in paths]
    if kind != "csv" and splits.count("") == 1 and "train" not in splits:
        splits[splits.index("")] = "train"  # HAM10000, beside the test set of ISIC 2018
    return tuple(splits) if len(paths) > 1 and all(splits) and len(set(splits)) == len(splits) else ()


def _split_of(path: Path, source: Path) -> str:
    """The split stated in the name or folder of a table, '' for none."""
    words = os.path.relpath(path.with_suffix(""), source).lower().replace(os.sep, "_").replace("-", "_").split("_")
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


def _find(source: Path, kind: str, choice: Choice) -> SourceLayout:
    """Determines the kind of a source."""
    if source.is_file():
        if kind in FOLDER_KINDS:
            raise InputError(f"{source}: is a file, expected a folder for kind {kind!r}")
        header = read_column_names(source)
        found = recognise_dataset(header) if kind == "auto" else kind
        return SourceLayout(found or "csv", (source,))  # which says what is missing
    if kind in FOLDER_KINDS:
        return SourceLayout(kind)
    tables = dict(_tables(source))
    images, _ = separate_masks(scan_images(source))
    kinds = _candidates(source, kind, tables, any(find_classes(images)) or bool(choice.positive and not tables))
    name, paths = next(iter(kinds.items()), ("", []))
    splits = _splits(name, paths, source)
    if len(kinds) == 1 and (len(paths) < 2 or splits):
        sides = [file for path in paths for file in _side_tables(path, name)]
        sides += _beside(paths[0], DATASETS[name].row_splits) if paths else []
        return SourceLayout(name, tuple(paths), splits, _names(source, tables, [*paths, *sides]))
    if kinds:
        listed = [f"{os.path.relpath(path, source)} ({each})" for each, paths in kinds.items() for path in paths]
        listed += ["class folders (folder)"] if "folder" in kinds else []
        raise InputError(f"{source}: holds {' and '.join(listed)}: name one as SOURCE, or its kind by `kind`")
    if images and (choice.unlabelled or any(os.path.dirname(file) in ("", "images") for file in images)):
        return SourceLayout("images", unused=_names(source, tables, []))
    raise InputError(_nothing(source, tables, images))


def _candidates(source: Path, kind: str, tables: dict[Path, str | None], classes: bool) -> dict[str, list[Path]]:
    """The kinds that a folder may be imported as, with their tables; none for `folder`."""
    labels = source / LABELS
    if labels.is_file():
        return {(tables.get(labels) or "csv") if kind == "auto" else kind: [labels]}
    if kind == "auto":
        known = [(each, path) for path, each in tables.items() if each and each != "csv"]
    else:
        known = [(kind, path) for path, each in tables.items() if each == kind]
    found: dict[str, list[Path]] = {}
    for each, path in [pair for pair in known if DATASETS[pair[0]].labelled] or known:
        found.setdefault(each, []).append(path)
    if kind == "auto" and classes:
        found["folder"] = []
    elif (
        kind == "auto" and not found and (plain := [p for p, each in tables.items() if each == "csv" and _plausible(p)])
    ):
        # A manifest was made of another table, if there is one.
        found["csv"] = [path for path in plain if not set(REQUIRED) <= set(read_column_names(path))] or plain
    return {each: _one_of_each(paths) for each, paths in found.items()}


def _names(source: Path, tables: dict[Path, str | None], used: Sequence[Path]) -> list[str]:
    """Names of unused tables, without text files that are not tables."""
    left = [path for path, kind in tables.items() if path not in used and (kind or path.suffix.lower() != ".txt")]
    return [os.path.relpath(path, source) for path in left]


def _tables(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Tables under a folder with their kinds, judged by their headers; None for a table without images."""
    for root, folders, names in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and depth < TABLE_DEPTH)
        tables = [path for path in (Path(root, name) for name in sorted(names)) if _is_table(path)]
        for path in [Path(root), *tables] if record_files(Path(root)) else tables:
            try:
                yield path, recognise_dataset(read_column_names(path))
            except InputError:
                yield path, None


def _is_table(path: Path) -> bool:
    """Judges a file by its name; a JSON file is one if it is a list."""
    if path.suffix.lower() == ".json":
        with suppress(OSError), open(path, "rb") as file:
            return file.read(64).lstrip().startswith(b"[")
    # Harvard Dataverse provides HAM10000_metadata without a suffix.
    return path.suffix.lower() in TABLE_SUFFIXES or path.name == "HAM10000_metadata"


def _plausible(path: Path) -> bool:
    """Whether a table of an unknown data set may contain labels."""
    return path.suffix.lower() != ".txt" and "submission" not in path.name.lower()


def _one_of_each(paths: list[Path]) -> list[Path]:
    """Drops tables that exist again in another format, such as metadata.csv and metadata.jsonl."""
    first = {path.with_suffix(""): path for path in reversed(paths)}
    return sorted(first.values())


def _nothing(source: Path, tables: dict[Path, str | None], images: list[str]) -> str:
    """The error that nothing was recognised, and what was found instead."""
    reasons = []
    said = [path for path, kind in tables.items() if kind]
    for path in tables:
        try:
            read_column_names(path)
        except InputError as error:
            reasons.append(str(error).replace(f"{path}: ", f"{path.name} "))
            said.append(path)
    if unknown := _names(source, tables, said):
        reasons.append(f"tables without a column of images that is known: {shortened(unknown)}")
    if images:
        places = Counter((os.path.dirname(file), os.path.splitext(file)[1].lower()) for file in images)
        reasons.append(shortened([f"{place}: {count:,} {suffix}" for (place, suffix), count in sorted(places.items())]))
        return (
            f"{source}: holds images in folders that name no class ({'; '.join(reversed(reasons))}); expected "
            f"{LABELS} or another table, or benign/ and malignant/ folders (`positive=WORD,WORD` names the folders of "
            "the positive class, `unlabelled=True` imports without labels)"
        )
    suffixes = Counter(path.suffix.lower() or "without a suffix" for path in source.rglob("*") if path.is_file())
    there = shortened([f"{count:,} {suffix}" for suffix, count in suffixes.most_common()]) or "nothing"
    packed = "; unpack the archives" if set(suffixes) & ARCHIVES else ""
    return (
        f"{source}: nothing known found ({'; '.join([f'it holds {there}{packed}', *reasons])}); expected {LABELS} or "
        "another table, benign/ and malignant/ folders, or images (melfast prepare import --list tells the known data "
        "sets)"
    )


def _require_labels(source: Path, found: SourceLayout, draft: Draft, unlabelled: bool) -> None:
    """Raises InputError if labels seem to be missing by mistake; otherwise notes that there are none."""
    if draft.target:
        return
    if not (unlabelled or (not DATASETS[found.kind].labelled and (found.tables or not found.unused))):
        if not found.tables:
            raise InputError(
                f"{source}: holds images without labels, and tables that were not used: {shortened(found.unused)}; "
                "name one as SOURCE, or say `unlabelled=True`"
            )
        raise InputError(
            f"{draft.table.path}: no column 'target'; columns are {', '.join(draft.given)} "
            "(`target=COLUMN` names it, `unlabelled=True` imports without)"
        )
    draft.notes.append("no labels: all images are unlabelled")


def _target_line(draft: Draft, manifest: Manifest) -> str:
    if not draft.target:
        return ""
    counts = {value: int((manifest.targets == value).sum()) for value in (1, 0, -1)}
    unknown = f", {counts[-1]:,} unlabelled" if counts[-1] else ""
    return f"{draft.target}: {counts[1]:,} positive, {counts[0]:,} negative{unknown}"


def _find_images(draft: Draft, root: Path, images: Path | None, on_missing: OnMissing) -> tuple[str, ...]:
    """Fills `path`; returns the names of rows left out because their file is missing."""
    folder = draft.table.path.parent
    given = draft.cells("path")
    paths = _existing([_under(images, folder, cell) for cell in given], folder)
    where = str(images or root)
    if not all(paths):
        records = draft.table.path.is_dir() or draft.table.path.suffix.lower() == ".json"
        index, left = _image_index(root, images, [".json"] if records else [])
        draft.notes += left
        where = index.folder
        names = [cell or name for cell, name in zip(given, draft.cells("image_name"), strict=True)]
        found = _under_manifest(index, index.find(names), folder)
        if not any(given) and (extra := index.extra(names)):
            draft.notes.append(f"images in {where} that are in no row: {extra}")
        if index.copies:
            draft.notes.append(f"images in {where} that lie there several times, alike: {len(index.copies)}")
        by_name = sum(1 for cell, here, path in zip(given, paths, found, strict=True) if cell and not here and path)
        if by_name and any("/" in cell or "\\" in cell for cell in given):
            draft.notes.append(f"files that are not where the table says, found by name: {by_name}")
        paths = [here or path for here, path in zip(paths, found, strict=True)]
    draft.set("path", paths)
    missing = np.array([not path for path in paths])
    if not missing.any() or on_missing == "keep":
        return ()
    names = [str(name) for name in draft.table.frame["image_name"].to_numpy()[missing]]
    listed = shortened(names)
    if on_missing == "error" or missing.all():
        cells = [cell or name for cell, name in zip(given, draft.cells("image_name"), strict=True)]
        packed = sorted(root.glob("*.hdf5"))
        hint = index.hint([cell for cell, path in zip(cells, paths, strict=True) if not path])
        hint = f"; they may be in {packed[0].name}: 'melfast prepare import' unpacks it" if packed else hint
        hint += "".join(f"; {line}" for line in left)
        raise InputError(
            f"{draft.table.path}: {len(names)} of {len(paths)} listed images are not in {where}: {listed}{hint} "
            "(`images` names another folder, `on_missing=drop` leaves them out)"
        )
    draft.notes.append(f"listed images left out because they have no file: {len(names)} ({listed})")
    draft.keep(np.flatnonzero(~missing))
    return tuple(names)


def _find_masks(draft: Draft, root: Path, images: Path | None, masks: Path | None) -> None:
    """Fills `mask_path` if there are masks and the table does not list them itself."""
    if "mask_path" in draft.table.frame and any(draft.cells("mask_path")) and masks is None:
        _require_masks(draft)
        return
    index = _mask_index(root, images, masks)
    if index.files:
        _set_masks(draft, index, draft.cells("path"))
    elif masks is not None:
        raise InputError(f"{masks}: holds no image that melfast reads")


def _set_masks(draft: Draft, index: FileIndex, images: list[str]) -> None:
    paths = _under_manifest(index, index.find(images), draft.table.path.parent)
    if extra := index.extra(images):
        draft.notes.append(f"masks in {index.folder} without an image: {extra}")
    if without := paths.count(""):
        draft.notes.append(f"images without a mask: {without}")
    draft.set("mask_path", paths)


def _require_masks(draft: Draft) -> None:
    cells = draft.cells("mask_path")
    found = _existing([cell.replace("\\", "/") for cell in cells], draft.table.path.parent)
    missing = [cell for cell, path in zip(cells, found, strict=True) if cell and not path]
    if missing:
        raise InputError(f"{draft.table.path}: {len(missing)} listed masks are missing: {shortened(missing)}")


def _image_index(root: Path, images: Path | None, tables: Sequence[str]) -> tuple[FileIndex, tuple[str, ...]]:
    """The images, and a note on files that are none; those of tables are not counted among these."""
    folder = images or (root / "images" if (root / "images").is_dir() else root)
    found = scan(folder)
    return index_images(str(folder), separate_masks(found.files)[0]), found.notes(
        *TABLE_SUFFIXES, *tables, ".hdf5", "without a suffix"
    )


def _mask_index(root: Path, images: Path | None, masks: Path | None) -> FileIndex:
    if masks is None and (root / "masks").is_dir():
        masks = root / "masks"
    if masks is not None:
        return index_masks(str(masks), scan_images(masks))
    folder = images or root
    return index_masks(str(folder), separate_masks(scan_images(folder))[1])


def _under(images: Path | None, folder: Path, cell: str) -> str:
    cell = cell.replace("\\", "/")
    if images is None or not cell or cell.startswith(os.sep):
        return cell
    return os.path.join(relative_folder(str(images.resolve()), folder.resolve()), cell)


def _existing(cells: list[str], folder: Path) -> list[str]:
    """The paths, '' for those that are not files."""
    start = str(folder)
    return [cell if cell and os.path.isfile(os.path.join(start, cell)) else "" for cell in cells]


def _under_manifest(index: FileIndex, files: list[str], folder: Path) -> list[str]:
    """Files of an index relative to the folder of the manifest, '' if there is none."""
    prefix = relative_folder(str(Path(index.folder).resolve()), folder.resolve())
    return [os.path.join(prefix, file) if file else "" for file in files]


def write_missing(names: tuple[str, ...], path: Path) -> None:
    """Writes the names of listed images without a file."""
    with atomic_path(path) as temporary:
        write_csv(temporary, MISSING_COLUMNS, [(name, "no such file") for name in names])


def import_summary(found: Imported, manifest: Manifest) -> list[tuple[str, str]]:
    """Counts of an import as (what, counts) to show."""
    splits, groups = manifest.splits, manifest.groups
    rows = [("images", f"{len(manifest):,}"), ("target", found.target or "none: all images are unlabelled")]
    if known := int((manifest.column("diagnosis") != "").sum()):
        rows.append(("diagnoses", f"{known:,}, of {len(set(manifest.column('diagnosis')) - {''}):,} kinds"))
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
    renamed = [old if old == new else f"{new} from {old}" for new, old in found.used.items()]
    rows.append(("columns", ", ".join(renamed)))
    if found.unused:
        rows.append(("kept", f"{', '.join(found.unused)} (not used)"))
    return rows


def _counts(parts: dict[str, np.ndarray]) -> str:
    counts = {name: int(mask.sum()) for name, mask in parts.items()}
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
