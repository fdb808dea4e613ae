"""Dedup: find copies of the same picture in a manifest, and choose the one to keep."""

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
from melfast.io.tables import read_table, require_columns
from melfast.prepare.alignment import SIDE, aligned_similarity
from melfast.prepare.lookalike import candidate_pairs, search_steps
from melfast.prepare.picture import Picture
from melfast.prepare.sweep import Bad, Bar, Result, Step, SweepResult, no_bar

# From the most to the least certain; a pair gets the first that applies.
KINDS = ("bytes", "pixels", "near", "table")
TABLE_COLUMNS = ("image_name_1", "image_name_2")
# Limits for the correlation of fine detail and the difference of mean colour (grey levels) of copies,
# chosen on HAM10000: planted copies have a correlation above 0.88 and a difference below 1. Of 6,000
# pairs with different lesion_ids, three correlate above 0.75 (0.84, 0.90, 0.98), and seem to show the
# same lesion. A second photograph of a lesion, once aligned, is similar in detail, but rarely in colour;
# above the upper limit, most pairs are one photograph in two tints.
_DETAIL, _COLOUR = 0.85, 1.5
_DETAIL_ANY_COLOUR = 0.98
_PAIRS_AT_A_TIME = 256

Pair = tuple[int, int]


@dataclass(frozen=True)
class Duplicates:
    """What a search found.

    Attributes:
        pairs: rows (the smaller first) that show the same picture, and the kind, one of KINDS.
        sizes: number of pixels of each image, 0 for a bad one.
        bad: images that could not be read.
        resumed: images taken from the journal.
    """

    pairs: dict[Pair, str]
    sizes: NDArray[np.int64]
    bad: list[Bad]
    resumed: int


def find_duplicates(manifest: Manifest, swept: SweepResult, *, threads: int = 1, bar: Bar = no_bar) -> Duplicates:
    """Finds images with the same bytes, the same pixels, or nearly the same picture.

    Nearly: turned by any angle, mirrored, rescaled, re-encoded, or cropped by up to 5 % a side.

    Args:
        swept: results of the step THUMBNAIL.
        threads: number of threads.
        bar: as melfast.cli.progress.progress_bar, for each stage.
    """
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
        # A picture without detail resembles no other, so equal thumbnails are compared, too.
        looks = ((*shapes[row], r["picture"]) for row, r in zip(good, results, strict=True))
        twins += _equal_neighbours(good, looks)
        twins = [pair for pair in dict.fromkeys(twins) if pair not in pairs]
        same = pool.map(lambda pair: _same_pixels(paths[pair[0]], paths[pair[1]]), twins)
        _add(pairs, (pair for pair, yes in zip(twins, same, strict=True) if yes), "pixels")
        _add(pairs, alike, "near")
    return Duplicates(pairs, sizes, swept.bad, swept.resumed)


def table_pairs(manifest: Manifest, path: str | Path) -> tuple[list[Pair], int]:
    """Pairs of a table with the columns image_name_1 and image_name_2.

    Returns:
        The pairs of rows, and the number of table rows that name an image missing from the manifest.
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


def with_duplicates(manifest: Manifest, copies: Duplicates, listed: Iterable[Pair] = ()) -> Manifest:
    """The manifest with duplicate_group, duplicate_of and duplicate_kind.

    Groups are numbered from 1 in the order of their first rows; an image without copies has ''. The
    row that is kept is labelled if any is, then has the most pixels, then comes first; the others have
    its name in duplicate_of, and the most certain kind of their pairs in duplicate_kind.

    Args:
        listed: further pairs, from a table.
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
    """The rows that are not copies of another row."""
    return manifest.select(manifest.column("duplicate_of") == "")


def duplicates_summary(manifest: Manifest) -> list[str]:
    """Number of copies of each kind, and of groups."""
    kinds = Counter(manifest.column("duplicate_kind"))
    groups = len(set(manifest.column("duplicate_group")) - {""})
    lines = [f"{kind:6} {kinds[kind]:7,}" for kind in KINDS if kinds[kind]]
    return [*lines, f"{'groups':6} {groups:7,}"]


def contradictions(manifest: Manifest) -> list[str]:
    """Groups with both benign and malignant images, one line each."""
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
    """The size, and a small square picture as a JPEG, which takes a third of the space in a journal."""
    image, (height, width), extent = picture.decoded(lambda height, width: (2 * SIDE, 2 * SIDE))
    small = np.empty((SIDE, SIDE, 3), np.uint8)
    core.resize(image, small, extent=extent)
    encoded = simplejpeg.encode_jpeg(small, quality=95, colorsubsampling="444")
    return {"height": height, "width": width, "picture": base64.b64encode(encoded).decode()}


THUMBNAIL = Step(lambda row, picture: thumbnail(picture))


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
        laid = pool.map(lambda chunk: aligned_similarity(pictures, chunk), chunks)
        for chunk, (detail, colour) in zip(chunks, laid, strict=True):
            same = (detail >= _DETAIL_ANY_COLOUR) | ((detail >= _DETAIL) & (colour <= _COLOUR))
            near += [(one, other) for one, other in chunk[same].tolist()]
            advance()
    return near


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Uses one torch thread per thread of ours, because torch's own threads would wait for each other."""
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
    """Pairs of consecutive rows with the same key, which is enough to connect all of them."""
    members = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        members[key].append(row)
    return [pair for equal in members.values() for pair in pairwise(equal)]


def _groups(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Groups of rows that are connected by pairs, ordered by their first row."""
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
