"""Cluster: predict a list of images in parts, each by one worker of a Ray cluster.

Every part is a separate table in a folder that all machines share, written by `write_predictions`, so a
run that is started again does only the incomplete parts.
"""

import contextlib
import hashlib
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melfast.engines.backends import ModelFile
from melfast.engines.base import Engine
from melfast.io.errors import ImageError, InputError
from melfast.io.files import OwnFolder, own_folder, write_json
from melfast.io.tables import read_table
from melfast.io.words import check_words
from melfast.models.running import InferenceSettings
from melfast.predict.outputs import failed_path, require_overlay_apart
from melfast.predict.partial import Partial, require_utf8, write_rows
from melfast.predict.predictor import Backend, open_engine
from melfast.predict.sources import ImageFiles
from melfast.predict.writer import (
    FAILED_COLUMNS,
    NothingReadError,
    Summary,
    TableOptions,
    settings_of,
    write_predictions,
)

INSTALL_RAY = "pip install 'ray[data]' pyarrow"
FAILED, PLAN = "failed.csv", "parts.json"
COMMAND = "melfast predict --engine ray"
IMAGES_A_PART = 1024
THREADS_A_WORKER = 4


@dataclass(frozen=True)
class Workers:
    """
    Attributes:
        address: address of the cluster, HOST:PORT; `auto`: the one that this machine belongs to; `local`:
            a new one on this machine.
        count: number of processes, each with an engine; 0: one per GPU if the backend uses GPUs and the
            cluster has any, otherwise as many as its processors allow.
        threads: threads per process.
    """

    address: str = "auto"
    count: int = 0
    threads: int = THREADS_A_WORKER


@check_words
@dataclass(frozen=True)
class Job:
    """The settings of every worker.

    Attributes:
        model: a file that all machines can read.
        foreign: keywords of `open_engine` for a model that melfast did not write.
    """

    model: Path
    backend: Backend
    wanted: TableOptions
    settings: InferenceSettings
    folder: Path
    foreign: Mapping[str, Any] = field(default_factory=dict)


class Worker:
    """An engine that predicts parts."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.engine: Engine | None = None  # opened with the first part, where a failure can be reported

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Predicts one part: {"part": [k], "paths": [[...]], "names": [[...]], "groups": [[...]]}.

        Returns:
            The part, and the error message or ''. An exception would come back wrapped in those of
            Ray.
        """
        part = int(batch["part"][0])
        paths, names, groups = (list(batch[what][0]) for what in ("paths", "names", "groups"))
        files = ImageFiles(paths, names, groups=groups)
        table, failed = part_table(self.job.folder, part), ""
        try:
            self.engine = self.engine or open_engine(
                self.job.model, self.job.backend, threads=self.job.settings.threads, **self.job.foreign
            )
            write_predictions(self.engine, files, table, self.job.wanted, self.job.settings, resume=True)
        except NothingReadError:
            pass  # such a part has no table, only a list of failures
        except Exception as error:  # any error must reach the user
            known = isinstance(error, (InputError, OSError))
            failed = f"{error}" if known else f"{type(error).__name__}: {error}"
        return {"part": [part], "failed": [failed]}


def predict_on_ray(
    model: ModelFile,
    job: Job,
    files: ImageFiles,
    workers: Workers,
    *,
    images_a_part: int = IMAGES_A_PART,
    progress: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Predicts the files in parts, `part-00000.parquet` and so on in the folder of the job.

    Images that cannot be read are listed in `failed.csv` there. When started again, only incomplete
    parts and parts with failed images are done.

    Args:
        model: the model of the job, as read here; each worker opens an engine for it.
        files: paths that are valid on all machines.
        progress: called with the number of images of each finished part.
    Raises:
        InputError: Ray is not installed or cannot be reached, the folder contains parts of a different
            list of images, model or settings, or no image could be read.
    """
    parts = [
        files.select(range(first, min(first + images_a_part, len(files))))
        for first in range(0, len(files), images_a_part)
    ]
    _require_ray()
    if job.wanted.overlay is not None:
        require_overlay_apart(job.wanted.overlay, files)
    require_utf8("a Ray cluster", (*files.names, *files.paths))
    with own_folder(job.folder, COMMAND) as own:
        settings = settings_of(model.origin, model.record, job.wanted, job.settings.tta)
        _require_same(own, settings, files, images_a_part)
        return _predict_parts(job, parts, files, workers, settings, progress)


def _predict_parts(
    job: Job,
    parts: list[ImageFiles],
    files: ImageFiles,
    workers: Workers,
    settings: dict[str, Any],
    progress: Callable[[int], None],
) -> Summary:
    found = [_about(job.folder, i, part, settings) for i, part in enumerate(parts)]
    done = {i for i, about in enumerate(found) if about and not about["failed"]}
    for i in done:
        progress(len(parts[i]))
    items = [
        {
            "part": i,
            "paths": list(part.paths),
            "names": list(part.names),
            "groups": list(part.groups or [""] * len(part)),
        }
        for i, part in enumerate(parts)
        if i not in done
    ]
    if items:
        with _cluster(workers) as ray:
            for row in _answers(ray, items, job, workers):
                progress(len(parts[row["part"]]))
    found = [_about(job.folder, i, part, settings) for i, part in enumerate(parts)]
    made = [about for about in found if about]
    if len(made) < len(parts):
        raise InputError(
            f"{job.folder}: {len(parts) - len(made)} of {len(parts)} parts are missing; the same command resumes"
        )
    return _gather(job.folder, made, files, len(done))


def part_table(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.parquet"


def _about(folder: Path, part: int, files: ImageFiles, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON next to a part; None if the part is not done."""
    table = part_table(folder, part)
    unfinished = Partial(table, settings["columns"], settings, {})
    if unfinished.is_made():
        found: dict[str, Any] = json.loads(unfinished.about_path.read_text(encoding="utf-8"))
        return found
    failed = failed_path(table)
    if failed.is_file() and len(read_table(failed).frame) == len(files):
        return {"predicted": 0, "malignant": 0, "failed": len(files), "engines": []}
    return None


def _require_same(own: OwnFolder, settings: dict[str, Any], files: ImageFiles, images_a_part: int) -> None:
    digest = hashlib.sha256("\n".join(map(str, files.paths)).encode("utf-8", "surrogateescape"))
    plan = settings | {"images": digest.hexdigest(), "images_a_part": images_a_part}
    folder, path = own.path, own.path / PLAN
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != json.loads(json.dumps(plan)):
            differ = sorted(key for key in {*found, *plan} if found.get(key) != plan.get(key))
            raise InputError(
                f"{folder}: holds parts of a run with other settings ({', '.join(differ)}); expected "
                "the same command, or another `output`"
            )
        return
    write_json(own.claim(FAILED, PLAN), plan)


def _require_ray() -> None:
    try:
        import ray.data  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"Ray is not installed: {INSTALL_RAY}") from None


@contextlib.contextmanager
def _cluster(workers: Workers) -> Iterator[Any]:
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"address": workers.address, "logging_level": logging.ERROR, "log_to_driver": False}
    if workers.address == "local":
        options |= {"include_dashboard": False}
        if workers.count:
            options |= {"num_cpus": workers.count * workers.threads}
    _require_reachable(workers.address)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"`address={workers.address}`: no Ray cluster can be reached: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Checks the address first, because Ray itself would retry for many minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=20).close()
    except OSError as error:
        raise InputError(f"`address={address}`: nothing answers there: {error}") from None


def _answers(ray: Any, items: list[dict[str, Any]], job: Job, workers: Workers) -> Iterator[dict[str, Any]]:
    """Yields {"part": k} for each part when it is done."""
    count, gpu = _share(ray.cluster_resources(), len(items), job, workers)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    class Own(Worker):
        """Holds the job itself, because arguments stored in the cluster could be lost when it restarts."""

        def __init__(self) -> None:
            super().__init__(job)

    found = ray.data.from_items(items).map_batches(
        Own, batch_size=1, num_cpus=workers.threads, num_gpus=gpu, compute=ray.data.ActorPoolStrategy(size=count)
    )
    failed = ""
    try:
        with _python_alone_on_stderr():
            for row in found.iter_rows():
                if failed := row["failed"]:
                    break
                yield row
    except ray.exceptions.RayError as error:
        failed = str(error).strip().splitlines()[-1]
    if failed:
        raise InputError(f"a worker failed: {failed}; the same command resumes")


@contextlib.contextmanager
def _python_alone_on_stderr() -> Iterator[None]:
    """Keeps the output of Ray's compiled code, which no setting turns off, and of its loggers away from
    stderr; it is also in Ray's log files."""
    sys.stderr.flush()
    shown = os.dup(2)
    with (
        open(os.devnull, "wb") as nothing,
        open(os.dup(2), "w", buffering=1, errors="backslashreplace") as stderr,
        contextlib.redirect_stderr(stderr),
    ):
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def _share(there: Mapping[str, float], parts: int, job: Job, workers: Workers) -> tuple[int, int | None]:
    """Number of workers, and GPUs per worker.

    Raises:
        InputError: the cluster has too few resources.
    """
    gpus, processors = (int(there.get(what, 0)) for what in ("GPU", "CPU"))
    # Ray hides the GPUs from a worker that did not request one.
    gpu = job.backend in ("onnx-cuda", "tensorrt") or (job.backend in ("auto", "torch") and gpus > 0)
    most = processors // workers.threads
    if gpu:
        most = min(most, gpus)
    count = min(workers.count or most, parts)
    if not 1 <= count <= most:
        each = f"{workers.threads} processors"
        raise InputError(
            f"`address={workers.address}`: the cluster has {processors} processors and {gpus} "
            f"GPUs; expected {each} for {max(count, 1)} workers"
            + (", and a GPU each (none with `backend=onnx-cpu`)" if gpu else "")
        )
    return count, 1 if gpu else None


def _gather(folder: Path, made: list[dict[str, Any]], files: ImageFiles, parts_kept: int) -> Summary:
    """Combines the counts, the engines and the lists of failures."""
    rows: list[list[str]] = []
    for part in range(len(made)):
        path = failed_path(part_table(folder, part))
        if path.is_file():
            rows += read_table(path).frame[list(FAILED_COLUMNS)].values.tolist()
    failed = folder / FAILED
    failed.unlink(missing_ok=True)
    if rows:
        write_rows(failed, FAILED_COLUMNS, rows)
    counts = ("predicted", "malignant", "unknown_groups")
    predicted, malignant, unknown = (sum(each.get(key, 0) for each in made) for key in counts)
    if predicted + len(rows) != len(files):
        raise InputError(f"{folder}: the parts hold {predicted + len(rows):,} images, expected {len(files):,}")
    failures = tuple(ImageError(path, reason) for _, path, reason in rows)
    if not predicted:
        raise InputError(f"none of {len(files):,} images could be predicted, see {failed}; the first: {failures[0]}")
    engines: dict[str, dict[str, Any]] = {}
    for about in made:
        for each in about["engines"]:
            latest = about["engine"] if about["engine"]["provider"] == each["provider"] else {}
            known = engines.setdefault(each["provider"], latest | each | {"rows": 0})
            known["rows"] += each["rows"]
    return Summary(
        predicted, malignant, failures, failed if rows else None, parts_kept, unknown, tuple(engines.values())
    )
