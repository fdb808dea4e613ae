"""Dedup: copies of one picture among the images of a manifest, and which of them is kept."""

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from melfast import core
from melfast.data.manifest import Manifest
from melfast.io.errors import ImageError
from melfast.io.images import read_bytes, read_image
from melfast.io.journal import Journal
from melfast.io.tables import read_table, require_columns
from melfast.prepare.lookalike import candidate_pairs, search_steps
from melfast.prepare.picture import Picture, open_picture
from melfast.prepare.registration import SIDE, lay_over
from melfast.prepare.sweep import Bad, Bar, Result, Swept, no_bar, sweep

# From the surest to the least: a pair is called by the first that holds.
KINDS = ("bytes", "pixels", "near", "table")
TABLE_COLUMNS = ("image_name_1", "image_name_2")
# Correlation of fine detail and difference of mean colour (grey levels) of one picture, chosen on
# HAM10000: copies planted there lie above 0.88 and below 1. Of 6,000 pairs of two lesion_ids three
# lie above 0.75 (0.84, 0.90, 0.98), and seem to show one lesion. A second photograph of a lesion,
# registered, comes close in detail, but rarely in colour; above the upper limit most pairs seen are
# one photograph in another tint.
_DETAIL, _COLOUR = 0.85, 1.5
_DETAIL_ANY_COLOUR = 0.98
_PAIRS_AT_A_TIME = 256

Pair = tuple[int, int]


@dataclass(frozen=True)
class Copies:
    """What a search found.

    Attributes:
        pairs: rows (the smaller first) that are one picture, and the kind, one of KINDS.
        sizes: pixels of each image, 0 where it is bad.
        bad: images that could not be looked at.
        resumed: images taken from the journal.
    """

    pairs: dict[Pair, str]
    sizes: NDArray[np.int64]
    bad: list[Bad]
    resumed: int


def find_copies(manifest: Manifest, *, threads: int = 1, journal: Journal | None = None, bar: Bar = no_bar) -> Copies:
    """Finds images with the same bytes, the same pixels, or nearly the same picture.

    Nearly: turned by any angle, mirrored, rescaled, encoded anew, or cropped by up to 5 % a side.

    Args:
        threads: images at a time.
        journal: images that it knows are not read again.
        bar: as melfast.cli.progress.progress_bar, for each of the stages.
    Raises:
        InputError: as sweep.
    """
    paths = manifest.image_paths

    def work(row: int) -> Result:
        with open_picture(paths[row]) as picture:
            return thumbnail(picture)

    with bar("reading", len(manifest)) as advance:
        swept = sweep(manifest, work, threads=threads, journal=journal, progress=advance)
    return compare(manifest, swept, threads=threads, bar=bar)


def compare(manifest: Manifest, swept: Swept, *, threads: int = 1, bar: Bar = no_bar) -> Copies:
    """`find_copies` of the results of `thumbnail`."""
    paths = manifest.image_paths
    good = [row for row, result in enumerate(swept.results) if result is not None]
    results = [result for result in swept.results if result is not None]
    sizes = np.zeros(len(manifest), np.int64)
    sizes[good] = [result["height"] * result["width"] for result in results]
    pairs: dict[Pair, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        _add(pairs, _same_bytes(pool, paths, good), "bytes")
        alike = [(good[a], good[b]) for a, b in _near(results, pool, bar)]
        shapes = {row: (r["height"], r["width"]) for row, r in zip(good, results, strict=True)}
        twins = [pair for pair in alike if shapes[pair[0]] == shapes[pair[1]]]
        # A picture without detail is like no other: found by its looks alone.
        looks = ((*shapes[row], r["picture"]) for row, r in zip(good, results, strict=True))
        twins += _equal_neighbours(good, looks)
        twins = [pair for pair in dict.fromkeys(twins) if pair not in pairs]
        same = pool.map(lambda pair: _same_pixels(paths[pair[0]], paths[pair[1]]), twins)
        _add(pairs, (pair for pair, yes in zip(twins, same, strict=True) if yes), "pixels")
        _add(pairs, alike, "near")
    return Copies(pairs, sizes, swept.bad, swept.resumed)


def table_pairs(manifest: Manifest, path: str | Path) -> tuple[list[Pair], int]:
    """Pairs of a table with the columns image_name_1 and image_name_2.

    Returns:
        The pairs of rows, and how many rows of the table name an image that is not in the manifest.
    Raises:
        InputError: as read_table, or a column is missing.
    """
    table = read_table(path)
    require_columns(table.path, table.frame.columns, TABLE_COLUMNS)
    rows = {name: row for row, name in enumerate(manifest.image_names)}
    pairs, unknown = [], 0
    for one, other in zip(*(table.frame[name].str.strip() for name in TABLE_COLUMNS), strict=True):
        if one in rows and other in rows:
            pairs.append(_ordered(rows[one], rows[other]))
        else:
            unknown += 1
    return [pair for pair in pairs if pair[0] != pair[1]], unknown


def with_copies(manifest: Manifest, copies: Copies, listed: Iterable[Pair] = ()) -> Manifest:
    """The manifest with duplicate_group, duplicate_of and duplicate_kind.

    A group is numbered from 1 in the order of its first row; images alone have ''. The row kept of
    a group is labelled before unlabelled, then has the most pixels, then stands first; the others
    have its name in duplicate_of, and the surest kind of their pairs in duplicate_kind.

    Args:
        listed: pairs of a table, joined to those found.
    """
    pairs = dict(copies.pairs)
    _add(pairs, listed, "table")
    count = len(manifest)
    groups, of, kinds = ([""] * count for _ in range(3))
    for pair, kind in pairs.items():
        for row in pair:
            if not kinds[row] or KINDS.index(kind) < KINDS.index(kinds[row]):
                kinds[row] = kind
    names, labelled = manifest.image_names, manifest.targets >= 0
    for number, members in enumerate(_groups(count, pairs), 1):
        kept = min(members, key=lambda row: (not labelled[row], -copies.sizes[row], row))
        for row in members:
            groups[row] = str(number)
            of[row] = "" if row == kept else names[kept]
        kinds[kept] = ""
    return manifest.with_columns(duplicate_group=groups, duplicate_of=of, duplicate_kind=kinds)


def rows_kept(manifest: Manifest) -> Manifest:
    """The rows that are no copy of another."""
    return manifest.select(manifest.column("duplicate_of") == "")


def summary(manifest: Manifest) -> list[str]:
    """How many copies of each kind, in how many groups."""
    kinds = Counter(manifest.column("duplicate_kind"))
    groups = len(set(manifest.column("duplicate_group")) - {""})
    lines = [f"{kind:6} {kinds[kind]:7,}" for kind in KINDS if kinds[kind]]
    return [*lines, f"{'groups':6} {groups:7,}"]


def contradictions(manifest: Manifest) -> list[str]:
    """Groups with benign and malignant images, a line each."""
    members = defaultdict(list)
    for row, group in enumerate(manifest.column("duplicate_group")):
        if group and manifest.targets[row] >= 0:
            members[group].append(row)
    names, targets = manifest.image_names, manifest.targets
    return [
        f"group {group}: " + ", ".join(f"{names[row]} has target {targets[row]}" for row in rows)
        for group, rows in members.items()
        if len(set(targets[rows].tolist())) > 1
    ]


def thumbnail(picture: Picture) -> Result:
    """The size and a small square picture, itself a JPEG: a journal holds a third as much then."""
    image, (height, width), extent = picture.decoded(lambda height, width: (2 * SIDE, 2 * SIDE))
    small = np.empty((SIDE, SIDE, 3), np.uint8)
    core.resize(image, small, extent=extent)
    encoded = simplejpeg.encode_jpeg(small, quality=95, colorsubsampling="444")
    return {"height": height, "width": width, "picture": base64.b64encode(encoded).decode()}


def _near(results: list[Result], pool: ThreadPoolExecutor, bar: Bar) -> list[Pair]:
    pictures = np.empty((len(results), SIDE, SIDE, 3), np.uint8)
    for row, result in enumerate(results):
        pictures[row] = simplejpeg.decode_jpeg(base64.b64decode(result["picture"]))
    with bar("searching", search_steps(len(pictures))) as advance:
        candidates = candidate_pairs(pictures, advance)
    if len(candidates) == 0:
        return []
    chunks = np.array_split(candidates, -(-len(candidates) // _PAIRS_AT_A_TIME))
    near: list[Pair] = []
    with _one_torch_thread(), bar("comparing", len(chunks)) as advance:
        laid = pool.map(lambda chunk: lay_over(pictures, chunk), chunks)
        for chunk, (detail, colour) in zip(chunks, laid, strict=True):
            same = (detail >= _DETAIL_ANY_COLOUR) | ((detail >= _DETAIL) & (colour <= _COLOUR))
            near += [(one, other) for one, other in chunk[same].tolist()]
            advance()
    return near


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Threads of ours, each with its pairs, instead of torch's, which wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _same_bytes(pool: ThreadPoolExecutor, paths: list[Path], rows: list[int]) -> list[Pair]:
    sizes = {row: paths[row].stat().st_size for row in rows}
    often = Counter(sizes.values())
    rows = [row for row in rows if often[sizes[row]] > 1]
    return _equal_neighbours(rows, pool.map(lambda row: _digest(paths[row]), rows))


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(read_bytes(path), digest_size=20).digest()


def _same_pixels(one: Path, other: Path) -> bool:
    try:
        return bool(np.array_equal(read_image(one), read_image(other)))
    except ImageError:  # decoded when small, but not in full
        return False


def _equal_neighbours(rows: list[int], keys: Iterable[object]) -> list[Pair]:
    """Each row with the next of the same key: enough to tie all of them."""
    members = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        members[key].append(row)
    return [pair for equal in members.values() for pair in pairwise(equal)]


def _groups(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Rows of two and more that pairs tie together, by their first row."""
    ends = np.array(list(pairs), np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    members = defaultdict(list)
    for row in np.unique(ends).tolist():
        members[int(labels[row])].append(row)
    return sorted(members.values())


def _add(pairs: dict[Pair, str], more: Iterable[Pair], kind: str) -> None:
    for pair in more:
        pairs.setdefault(pair, kind)


def _ordered(one: int, other: int) -> Pair:
    return (one, other) if one < other else (other, one)
