"""Split: train, valid and test without shared patients, lesions or duplicates; stratified by target and group."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from melfast.data.manifest import COLUMNS, MISSING_ID, SPLITS, Manifest
from melfast.io.errors import InputError

FRACTIONS = (0.7, 0.15, 0.15)
# Names of id columns, such as `Patient`, `case no` or `Paciente`, but not `patient age` or `lesion type`.
IDENTITY = re.compile(
    r"\b(patient(en|in)?|paciente|pasien|pazienten?|subject|sujeto?|participant|person[ae]?|personne|proband|donor|client|"
    r"individual|case|caso|cas|fall|lesion|lesi[oó]n|läsion|mole|nevus)"
    r" ?(id|ids|uid|no|nr|num|number|nummer|numero|code|codigo|key|ref|hash|name|index)?$|^(id|pid|uid|mrn)$"
)
NUMBERED = re.compile(r"[A-Za-z]+[ _-]?\d{3,}")
FLAGS = {"0", "1", "0.0", "1.0", "yes", "no", "true", "false", "y", "n", "x"}
# Images that share one of these stay in one split; duplicate_group comes from 'melfast prepare dedup'.
IDS = {"patient_id": "patient", "lesion_id": "lesion", "duplicate_group": "duplicate group"}


def split_manifest(manifest: Manifest, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> Manifest:
    """Draws a split column.

    See `deal`; unlabelled images get no split.

    Args:
        fractions: of the labelled images for train, valid and test; they sum to 1.
    Raises:
        InputError: the fractions are invalid, no image is labelled, or a requested split is empty.
    """
    wanted = _require_fractions(fractions)
    place = deal(manifest, wanted, seed)
    names = np.array([*SPLITS, ""], dtype=object)[place]
    for name, fraction in zip(SPLITS, wanted, strict=True):
        if fraction > 0 and not (names == name).any():
            parts = len(set(connected_parts(manifest)[place >= 0].tolist()))
            raise InputError(
                f"{manifest.path}: split {name!r} would be empty: {parts} patients, lesions "
                f"or images cannot be divided {' : '.join(f'{f:g}' for f in wanted)}"
            )
    return manifest.with_columns(split=names)


def lacks_validation(manifest: Manifest) -> bool:
    """Whether a data set is split into images to train on and images to test on alone."""
    splits = set(manifest.splits)
    return "train" in splits and "valid" not in splits


def complete_split(manifest: Manifest, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> Manifest:
    """`split_manifest`; if the manifest only lacks validation images, draws these from train and keeps the rest.

    Raises:
        InputError: as split_manifest.
    """
    if not lacks_validation(manifest):
        return split_manifest(manifest, fractions, seed)
    train, valid, _ = _require_fractions(fractions)
    rows = np.flatnonzero(manifest.splits == "train")
    splits = manifest.splits.copy()
    shares = (train / (train + valid), valid / (train + valid), 0.0)
    splits[rows] = split_manifest(manifest.select(rows), shares, seed).splits
    return manifest.with_columns(split=splits)


def deal(manifest: Manifest, fractions: NDArray[np.float64], seed: int = 0) -> NDArray[np.intp]:
    """Distributes the labelled images, stratified by target and group.

    Images that share a patient, a lesion or a duplicate group stay together, also indirectly. These
    parts are distributed greedily, those with the rarest stratum (target x group) and the largest first
    (the order of Sechidis et al. 2011). The result depends on names, ids,
    targets, groups and the seed, not on the order of the rows.

    Args:
        fractions: target fraction of each share [K]; they sum to 1.
    Returns:
        Share of each image [N], -1 for the unlabelled.
    Raises:
        InputError: no image is labelled.
    """
    labelled = manifest.targets >= 0
    if not labelled.any():
        manifest.require("target")
        raise InputError(f"{manifest.path}: no image is labelled, nothing to split by target")
    parts = connected_parts(manifest)
    counts = _stratum_counts(manifest, parts, labelled)
    order = _order(manifest, parts, counts, seed)
    return np.where(labelled, _deal(counts, order, fractions)[parts], -1)


def connected_parts(manifest: Manifest) -> NDArray[np.intp]:
    """Part of each row [N]: rows that share an id of IDS, directly or indirectly."""
    count = len(manifest)
    rows: list[NDArray[np.intp]] = [np.arange(count)]
    nodes: list[NDArray[np.intp]] = [np.arange(count)]
    size = count
    for column in IDS:
        cells = manifest.column(column)
        known = np.flatnonzero(cells != "")
        ids, inverse = np.unique(cells[known].astype(str), return_inverse=True)
        rows.append(known)
        nodes.append(size + inverse)
        size += len(ids)
    ends = (np.concatenate(rows), np.concatenate(nodes))
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][:count]
    # Renumbered, because ids without a row would leave gaps.
    return np.unique(labels, return_inverse=True)[1]


def require_disjoint(manifest: Manifest) -> None:
    """Raises InputError if a patient, lesion or duplicate group is in more than one split."""
    found = []
    for column, word in IDS.items():
        shared = shared_ids(manifest, column)
        if shared:
            listed = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
            found.append(f"{len(shared)} {word}{'s' if len(shared) > 1 else ''} ({listed})")
    if found:
        raise InputError(
            f"{manifest.path}: {' and '.join(found)} in more than one split; expected each in one: "
            "split with 'melfast prepare split --force', or set data.allow_overlap"
        )


def unused_identities(manifest: Manifest, columns: Sequence[str] | None = None) -> list[str]:
    """A warning for each column that looks like an id but is not used to keep images together.

    Args:
        columns: columns to check; by default all that are not columns of a manifest.
    """
    candidates = [
        name
        for name in (list(map(str, manifest.table)) if columns is None else columns)
        if name not in (*COLUMNS, *IDS) and _looks_like_identity(name, pd.unique(manifest.column(name)), len(manifest))
    ]
    if not candidates:
        return []
    rows = pd.DataFrame({"part": connected_parts(manifest), "split": manifest.splits})
    warnings = []
    for name in candidates:
        cells = manifest.table[name].str.strip()
        there = rows[~cells.str.lower().isin(MISSING_ID)]
        known = there.groupby(cells)
        torn = int((known["part"].nunique() > 1).sum())
        in_two = int((there[there["split"] != ""].groupby(cells)["split"].nunique() > 1).sum())
        if torn:
            found = (
                f"{in_two:,} of its {known.ngroups:,} values are in more than one split"
                if (rows["split"] != "").any()
                else f"{torn:,} of its {known.ngroups:,} values have several images, which a split may separate"
            )
            warnings.append(
                f"column {name!r} looks like an id but is not used: {found}; name it with "
                f"'melfast prepare import --patient-column {name}' (or --lesion-column), or rename it to patient_id"
            )
    return warnings


def _looks_like_identity(name: str, values: NDArray[np.object_], count: int) -> bool:
    """Judges a column by its name, or else by its values [K] for `count` images."""
    if not 2 <= len(values) <= count or {value.lower() for value in values[:9]} <= FLAGS | MISSING_ID:
        return False
    if IDENTITY.search(re.sub(r"(?<=[a-z])(?=[A-Z])|[^\w]+|_", " ", name).lower().strip()):
        return True
    # Other names with running numbers, such as P0042 or ISIC-00231; not a device or a diagnosis code.
    first = values[:100]
    return len(values) >= max(10, count // 20) and sum(bool(NUMBERED.fullmatch(v)) for v in first) > len(first) / 2


def shared_ids(manifest: Manifest, column: str, splits: Sequence[str] = SPLITS) -> list[str]:
    """Ids of a column that are in more than one split, sorted."""
    cells, names = manifest.column(column), manifest.splits
    seen = [set(cells[names == name]) - {""} for name in splits]
    return sorted({cell for i, one in enumerate(seen) for other in seen[i + 1 :] for cell in one & other})


def balance(manifest: Manifest) -> list[str]:
    """Composition of each split, one line each."""
    lines = []
    targets, groups, splits = manifest.targets, manifest.groups, manifest.splits
    for name in (*SPLITS, ""):
        rows = splits == name
        if not rows.any():
            continue
        known = targets[rows & (targets >= 0)]
        line = f"{name or 'none':<5} {rows.sum():>6,} images"
        if known.size:
            line += f", {known.sum():,} malignant ({known.mean():.2%})"
        for column, word in IDS.items():
            images = Counter(manifest.column(column)[rows].tolist())
            # A group of copies with a single remaining image is no longer a group.
            least = 2 if column == "duplicate_group" else 1
            if count := sum(n >= least for name, n in images.items() if name):
                line += f", {count:,} {word}{'s' if count > 1 else ''}"
        if (groups >= 0).any():
            shares = [
                f"{group} {(groups[rows] == index).mean():.1%}" for index, group in enumerate(manifest.group_names)
            ]
            line += f"; {', '.join(shares)}"
        lines.append(line)
    return lines


def _require_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    wanted = np.asarray(fractions, dtype=np.float64)
    if wanted.shape != (3,) or not (wanted >= 0).all() or abs(wanted.sum() - 1) > 1e-6:
        got = ",".join(f"{f:g}" for f in wanted.ravel())
        raise InputError(f"fractions must be three for train, valid, test with sum 1, got {got}")
    return wanted


def _stratum_counts(manifest: Manifest, parts: NDArray[np.intp], labelled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number of labelled images of each part [P, S]: by target and group, by target, and in total."""
    targets, groups = manifest.targets[labelled], manifest.groups[labelled]
    strata, inverse = np.unique(np.stack([targets, groups]), axis=1, return_inverse=True)
    counts = np.zeros((int(parts.max()) + 1, strata.shape[1]))
    np.add.at(counts, (parts[labelled], inverse), 1.0)
    by_target = [counts[:, strata[0] == target].sum(axis=1) for target in np.unique(strata[0])]
    return np.column_stack([counts, *by_target, counts.sum(axis=1)])


def _order(manifest: Manifest, parts: NDArray[np.intp], counts: NDArray[np.float64], seed: int) -> list[int]:
    """Parts by rarest stratum, then size, then a draw from the seed and the part's name."""
    first: dict[int, str] = {}
    for part, name in zip(parts.tolist(), manifest.image_names, strict=True):
        if part not in first or name < first[part]:
            first[part] = name
    draws = {part: hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest() for part, name in first.items()}
    totals = counts.sum(axis=0)
    rarest = np.where(counts > 0, totals, np.inf).min(axis=1)
    size = counts[:, -1]
    return sorted(first, key=lambda part: (rarest[part], -size[part], draws[part]))


def _deal(counts: NDArray[np.float64], order: list[int], wanted: NDArray[np.float64]) -> NDArray[np.intp]:
    """Split of each part [P]: the one that adds least to the distance from the target counts.

    The distance is sum over splits k and columns s of (have - want)^2 / (fraction_k total_s^2): a
    rare stratum weighs as much as a common one, and small splits fill as evenly as large ones.
    """
    totals = counts.sum(axis=0)
    kept = np.flatnonzero(wanted > 0)
    fractions = wanted[kept, None]
    surplus = -np.broadcast_to(fractions, (len(kept), len(totals))).copy()
    shares = counts / totals
    choice = np.zeros(len(counts), dtype=np.intp)
    for part in order:
        share = shares[part]
        cost = ((share * (share + 2.0 * surplus)) / fractions).sum(axis=1)
        best = int(cost.argmin())
        surplus[best] += share
        choice[part] = kept[best]
    return choice
