"""synthesize: write a folder of synthetic images, masks and the table of their truth."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
from PIL import Image

from melfast.data.manifest import Manifest, write_manifest
from melfast.io.errors import InputError
from melfast.io.files import LOCK, atomic_path, own_folder
from melfast.io.words import check_words
from melfast.prepare.synth.draw import DEFAULT_MALIGNANT, DEFAULT_SIZE, SynthSample, draw_sample
from melfast.skin.tone import FITZPATRICK, TONE_GROUPS, ToneGroups, classify

LABELS = "labels.csv"
RECORD = "synth.json"
# Stored in the record; raise it when the same settings draw different images than before.
VERSION = 1
SMALLEST, LARGEST = 64, 4096
JPEG_QUALITY = 92


@check_words
@dataclass(frozen=True)
class SynthSettings:
    """Settings of a synthetic data set.

    Attributes:
        images: number of images.
        seed: the same seed gives the same images; a larger set starts with those of a smaller one.
        size: (width, height) in pixels.
        malignant: fraction of the lesions that are malignant.
        groups: the tone scale of the columns `group` and `group_str`.
    """

    images: int
    seed: int = 0
    size: tuple[int, int] = DEFAULT_SIZE
    malignant: float = DEFAULT_MALIGNANT
    groups: ToneGroups = "six"

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"`images` must be 1 or more, got {self.images}")
        if self.seed < 0:
            raise InputError(f"`seed` must be 0 or more, got {self.seed}")
        if not SMALLEST <= min(self.size) <= max(self.size) <= LARGEST:
            raise InputError(f"`size` must be {SMALLEST} to {LARGEST} pixels a side, got {self.size[0]}x{self.size[1]}")
        if not 0.0 <= self.malignant <= 1.0:
            raise InputError(f"`malignant` must be a fraction in 0..1, got {self.malignant:g}")

    def record(self) -> dict[str, Any]:
        """The settings as stored in synth.json."""
        return {"synth_version": VERSION, **asdict(self), "size": list(self.size)}


def synthesize(
    folder: str | Path,
    settings: SynthSettings,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Manifest:
    """Writes images/, masks/ and, at the end, labels.csv, a manifest.

    Worker processes are spawned, so a script must call this under `if __name__ == "__main__"`, or with one
    worker, which is this process.

    Args:
        folder: new or empty, or a synthetic data set with the same settings, which is drawn again.
        workers: number of processes, all cores by default. The images do not depend on it.
        overwrite: replace a data set with other settings, or write into a folder with other files, which
            are kept.
        progress: called after each image.
    Returns:
        The manifest, at folder/labels.csv.
    Raises:
        InputError: the folder contains something else, or is not writable.
    """
    folder = Path(folder)
    if workers is not None and workers < 1:
        raise InputError(f"`workers` must be 1 or more, got {workers}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder")
    # Its record says what the folder is.
    with own_folder(folder, "melfast synth", known=True):
        _claim(folder, settings, overwrite)
        count = min(settings.images, workers or len(os.sched_getaffinity(0)))
        rows: list[dict[str, Any]] = [{}] * settings.images
        with _drawn(folder, settings, count) as drawn:
            for index, row in drawn:
                rows[index] = row
                progress()
        path = folder / LABELS
        empty = Manifest(path, pd.DataFrame(index=range(settings.images)))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return write_manifest(empty.with_columns(**columns), path)


def _claim(folder: Path, settings: SynthSettings, overwrite: bool) -> None:
    """Prepares the folder: removes labels.csv of an earlier run, writes the record of this one."""
    record = folder / RECORD
    try:
        if not overwrite and any(entry.name != LOCK for entry in folder.iterdir()):
            _require_same(folder, settings)
        drawn = _drawn_before(record)
        if not drawn and (folder / LABELS).exists():
            raise InputError(f"{folder / LABELS}: already exists and 'melfast synth' did not write it; move it")
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "masks").mkdir(exist_ok=True)
        (folder / LABELS).unlink(missing_ok=True)
        # Of an earlier, larger set: labels.csv would not list them.
        for name in map(image_name, range(settings.images, drawn)):
            (folder / f"images/{name}.jpg").unlink(missing_ok=True)
            (folder / f"masks/{name}.png").unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{error.filename or folder}: cannot be written: {reason}") from None
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(settings.record(), indent=2) + "\n", encoding="utf-8")


def _require_same(folder: Path, settings: SynthSettings) -> None:
    hint = "expected an empty folder, or `overwrite=True`"
    record = folder / RECORD
    if not record.is_file():
        raise InputError(f"{folder}: holds other files, {hint}")
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{record}: not a record of melfast synth, {hint}") from None
    wanted = settings.record()
    if found != wanted:
        names = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
        raise InputError(f"{folder}: drawn with another {', '.join(names) or 'record'}, {hint}")


def _drawn_before(record: Path) -> int:
    """Images that an earlier run wrote or started in the folder of a record."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(record.read_text(encoding="utf-8"))["images"])
    return 0


def image_name(index: int) -> str:
    return f"SYN_{index + 1:07d}"


@contextmanager
def _drawn(folder: Path, settings: SynthSettings, workers: int) -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
    """Yields (index, row) of each written image, in any order."""
    if workers == 1:
        yield ((i, _write_image(folder, settings, i)) for i in range(settings.images))
        return
    # Spawned, not forked: the caller may have threads (torch, a progress bar) that a fork breaks.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupt)
    try:
        yield _results(pool, folder, settings, workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor, folder: Path, settings: SynthSettings, workers: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Keeps only a few images per worker in progress, so that Ctrl-C waits for few."""
    pending: dict[Future[dict[str, Any]], int] = {}
    todo = iter(range(settings.images))
    while True:
        for index in islice(todo, 4 * workers - len(pending)):
            pending[pool.submit(_write_image, folder, settings, index)] = index
        if not pending:
            return
        for done in wait(pending, return_when=FIRST_COMPLETED).done:
            yield pending.pop(done), done.result()


def _ignore_interrupt() -> None:
    """Ctrl-C reaches every process of a terminal; the first one tells the others when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_image(folder: Path, settings: SynthSettings, index: int) -> dict[str, Any]:
    """Draws and writes one image and its mask; returns its row."""
    sample = draw_sample(settings.seed, index, settings.size, settings.malignant)
    name = image_name(index)
    image, mask = f"images/{name}.jpg", f"masks/{name}.png"
    path = folder / image
    try:
        path.write_bytes(simplejpeg.encode_jpeg(sample.image, JPEG_QUALITY, colorsubsampling="420"))
        path = folder / mask
        Image.fromarray(sample.mask.astype(np.uint8) * np.uint8(255)).save(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    return {"image_name": name, "path": image, "mask_path": mask, **_truth(sample, settings)}


def _truth(sample: SynthSample, settings: SynthSettings) -> dict[str, Any]:
    scale = TONE_GROUPS[settings.groups]
    fitzpatrick = FITZPATRICK["kinyanjui_groh"]
    group = int(classify(sample.ita_deg, scale))
    return {
        "patient_id": f"SYNP_{sample.patient + 1:06d}",
        "lesion_id": f"SYNL_{sample.lesion + 1:06d}",
        "target": sample.target,
        "ita": f"{sample.ita_deg:.4f}",
        "group": group,
        "group_str": scale.names[group],
        "fitzpatrick": fitzpatrick.names[int(classify(sample.ita_deg, fitzpatrick))],
        "skin_l": f"{sample.colour.l:.4f}",
        "skin_a": f"{sample.colour.a:.4f}",
        "skin_b": f"{sample.colour.b:.4f}",
        "lesion_area": f"{np.mean(sample.mask):.5f}",
        **{name: int(value) for name, value in asdict(sample.artefacts).items()},
    }
