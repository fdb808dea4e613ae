"""Suite scaling: how rates and memory grow with threads, image size, batch and rows.

Each comparison says at which point of which curve it stands (`at`); benchmarks/plots.py draws the
curves, and benchmarks/simulate.py takes its constants from here. Last come the stages of predicting
and of training, alone and together: what the simulation is held against.
"""

import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import images
from benchmarks.harness import WARMUPS, CheckFailedError, Contestant, Run, suite
from benchmarks.peers import loaders
from benchmarks.suites import inference, train
from benchmarks.suites.loader import check, counter, installed, references, resized_copies
from melfast.data.loader import available_cores

if TYPE_CHECKING:
    import torch

    from melfast.engines.base import Engine
    from melfast.models.record import ModelRecord

SIDE = 224  # of what comes out of the loaders
BATCH = 8  # small, so that an epoch of a few large images has several
# Width, height, images drawn, images a run: runs of the slowest peer take a second or two.
SIZES = ((600, 450, 16, 160), (1024, 768, 16, 96), (2048, 1536, 8, 32), (3072, 2304, 8, 16), (6000, 4000, 4, 8))
MOST_FILES, THREADS_RUN = 24, 48  # at the curve over threads
BATCHES = (1, 4, 16, 64)
TRAINED, PREDICTED = 256, 16  # images a run at least
BACKBONE = inference.BACKBONE
ROWS = (1_000, 10_000, 100_000, 1_000_000)
STEPS, TOGETHER_IMAGES = 8, 24
COPIED = 2**29  # bytes, far more than any cache holds
MALIGNANT, GROUPS = 0.02, 4  # of the drawn tables; the first as in ISIC 2020, about

# Peers that do all of it, by module; the last two decode every pixel, as PIL does without `draft`.
PEERS = {
    "torch DataLoader, PIL draft": (loaders.torch_loader("draft"), "torchvision"),
    "DALI cpu": (loaders.dali_cpu, "nvidia.dali"),
    "OpenCV threads": (loaders.opencv, "cv2"),
}
NATIVE, DECODE = "melfast native", "simplejpeg scaled decode alone"
STRANGE = 1e-9  # seconds or spread that no measurement falls below


@suite("scaling", apart=True)
def scaling(run: Run) -> None:
    """Curves: loading over threads and image size, networks over batch, tables over rows."""
    copies(run)
    with images.groups(run.data) as (source, groups):
        large = groups.get(images.LARGE, [])
        if large:
            over_threads(run, source, large[:: -(-len(large) // MOST_FILES)])
        else:
            run.miss("curve over threads", f"no images {images.LARGE} in {source}")
        over_sizes(run)
        steps_over_batches(run)
        with large_network(run.threads) as network:
            inference_over_batches(run, network)
            if large:
                predict_together(run, source, large[:TOGETHER_IMAGES], network)
        over_rows(run)
    train_together(run)


def copies(run: Run) -> None:
    """The bandwidth of the memory: bytes read and bytes written, of a plain copy."""
    source = np.arange(COPIED // 8)
    target = np.zeros_like(source)
    for threads in sorted({1, run.threads}):
        parts = [np.array_split(array, threads) for array in (target, source)]
        with ThreadPoolExecutor(threads) as pool:

            def copy(pool: ThreadPoolExecutor = pool, parts: list[Any] = parts) -> int:
                list(pool.map(np.copyto, *parts))
                return 2 * source.nbytes

            title = f"memory copied, {threads} threads"
            run.compare(title, "bytes/s", [Contestant("numpy.copyto", copy)])
        run.check("numbers not copied", (source != target).sum(), at_most=0)
        target[:] = 0


def over_threads(run: Run, source: str, files: list[Path]) -> None:
    """The loaders at 1, 2, ... threads, as many as there are cores, and at twice as many."""
    run.note(f"over threads: {len(files)} of {source}, {images.LARGE}, to {SIDE} px")
    services(run, f"images {images.LARGE}", files)
    with TemporaryDirectory(prefix="melfast-bench-") as folder:
        services(run, "copies of 288 px", resized_copies(files, Path(folder), run.threads))
    cores = available_cores()
    for threads in sorted({1, 2, cores, 2 * cores}):
        paths = files * -(-THREADS_RUN // len(files))
        race(run, files, paths, threads, f"images {images.LARGE}", {"threads": threads})


def over_sizes(run: Run) -> None:
    """The loaders on drawn JPEGs of one size after the other."""
    run.note(f"over image sizes: drawn images, to {SIDE} px, {run.threads} threads")
    for width, height, number, count in SIZES:
        with TemporaryDirectory(prefix="melfast-bench-") as folder:
            files = images.draw(Path(folder), number, height, width)
            at = {"megapixels": width * height / 1e6}
            num_bytes = float(np.mean([path.stat().st_size for path in files]))
            run.measured(f"drawn {width}x{height}, bytes", "bytes", num_bytes, at)
            paths = files * -(-count // len(files))
            race(run, files, paths, run.threads, f"drawn {width}x{height}", at)


def race(run: Run, files: list[Path], paths: list[Path], threads: int, what: str, at: dict[str, float]) -> None:
    """Checks and times the loaders, and the decode alone."""
    wanted = references(files, run.threads)
    with ExitStack() as stack:
        contestants = []
        for name, (open_loader, module) in {NATIVE: (loaders.melfast, "melfast"), **PEERS}.items():
            if not installed(module):
                run.miss(name, f"no module {module}")
                continue
            epoch = stack.enter_context(open_loader(paths, SIDE, threads, BATCH))
            check(run, f"{what}, {threads} threads, {name}", epoch, len(paths), wanted)
            contestants.append(Contestant(name, counter(epoch)))
        decode = stack.enter_context(loaders.scaled_decode(paths, SIDE, threads))
        contestants.append(Contestant(DECODE, decode))
        run.compare(f"{what}, {threads} threads", "images/s", contestants, at)


def services(run: Run, what: str, files: list[Path]) -> None:
    """From the page cache into the batch on one core, image by image."""
    from melfast.data.image_list import ImageList
    from melfast.data.native import load_record
    from melfast.data.plan import evaluation_plan
    from melfast.data.preprocess import Preprocess

    plan = evaluation_plan(len(files), batch_size=BATCH)
    out = np.empty((SIDE, SIDE, 3), np.float32)
    preprocess, photographs = Preprocess(SIDE, SIDE), ImageList.of(files)
    seconds = []

    def one_by_one() -> int:
        for record in range(len(files)):
            begin = time.perf_counter()
            load_record(plan, record, photographs, preprocess, out)
            seconds.append(time.perf_counter() - begin)
        return len(files)

    run.compare(f"{what}: one core", "images/s", [Contestant(NATIVE, one_by_one)])
    by_image = np.median(np.reshape(seconds, (-1, len(files)))[WARMUPS:], axis=0)
    run.check(f"{what}: least seconds an image", by_image.min(), at_least=STRANGE)
    run.measured(f"{what}: spread of the seconds over images (deviation / mean)", "", by_image.std() / by_image.mean())
    num_bytes = [path.stat().st_size for path in files]
    run.measured(f"{what}: mean bytes a file", "bytes", float(np.mean(num_bytes)))
    pixels = [size[0] * size[1] for size in map(image_size, files)]
    run.measured(f"{what}: mean pixels", "megapixels", float(np.mean(pixels)) / 1e6)


def image_size(path: Path) -> tuple[int, int]:
    with images.open_image(path) as image:
        return image.size


def steps_over_batches(run: Run) -> None:
    """Training steps of the small network."""
    for batch in BATCHES:
        steps = max(2, TRAINED // batch)
        config = train.recipe(run.threads, batch_size=batch)
        loop, bare = (train.make_trainer(config, [Path("none.jpg")], steps) for _ in range(2))
        in_memory(loop)
        contestants = [
            Contestant("melfast train, batches in memory", train.epoch(loop)),
            Contestant("bare step by hand, the same", train.epoch_by_hand(bare)),
        ]
        name = f"training steps of {train.RECIPE.name}, batches of {batch}"
        run.compare(name, "images/s", contestants, {"training batch": batch})


@dataclass(frozen=True)
class Network:
    """One in torch and, exported, in ONNX Runtime."""

    classifier: "torch.nn.Module"
    record: "ModelRecord"
    engine: "Engine"


@contextmanager
def large_network(threads: int) -> Iterator[Network]:
    from melfast.predict.predictor import open_engine

    with TemporaryDirectory(prefix="melfast-bench-") as folder:
        classifier, record = inference.network(BACKBONE, SIDE)
        path = Path(folder) / "model.onnx"
        inference.export(classifier, record, path)
        yield Network(classifier, record, open_engine(path, "onnx-cpu", threads=threads))


def inference_over_batches(run: Run, network: Network) -> None:
    for batch in BATCHES:
        count = max(batch, PREDICTED)
        eager = inference.eager(network.classifier, network.record, count, run.threads, batch)
        contestants = [
            Contestant("ONNX Runtime", inference.alone(network.engine, count, batch)),
            Contestant("torch, eager", eager),
        ]
        name = f"inference of {BACKBONE}, batches of {batch}"
        run.compare(name, "images/s", contestants, {"inference batch": batch})


def in_memory(trainer: Any) -> None:
    trainer.open_batches = lambda: train.in_memory_batches(trainer)


def over_rows(run: Run) -> None:
    """Tables of ever more images: rate and memory."""
    with TemporaryDirectory(prefix="melfast-bench-") as folder:
        for rows in ROWS:
            draw_tables(Path(folder), rows)
            for name, (mine, peers) in table_jobs(Path(folder), rows).items():
                contestants = [Contestant("melfast", mine)]
                contestants += [Contestant(peer, job) for peer, job in peers.items()]
                run.compare(f"{name}, {rows:,} rows", "rows/s", contestants, {"rows": rows})
        if not sys.platform.startswith("linux"):
            return run.miss("memory over rows", "only Linux tells the peak of a piece of work")
        for name, rows, taken in apart(peaks, Path(folder), ROWS):
            run.measured(f"{name}: peak memory", "bytes", taken, {"rows": rows})


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process, where nothing freed hides what is taken anew."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def draw_tables(folder: Path, rows: int) -> None:
    """manifest-ROWS.csv and predictions-ROWS.csv of drawn images."""
    rng = np.random.default_rng(rows)
    target = rng.random(rows) < MALIGNANT
    score = 1 / (1 + np.exp(-(1.5 * rng.normal(size=rows) + 2.4 * target - 1.5)))
    group, patient = rng.integers(0, GROUPS, rows), rng.integers(0, max(1, rows // 16), rows)
    with open(folder / f"manifest-{rows}.csv", "w") as file:
        file.write("image_name,path,target,patient_id,split,group,group_str,ita\n")
        for i in range(rows):
            file.write(
                f"ISIC_{i:07d},images/{i % 256:02x}/ISIC_{i:07d}.jpg,{target[i]:d},"
                f"IP_{patient[i]},train,{group[i]},group {group[i]},"
                f"{60 - 20 * group[i]}.5\n"
            )
    with open(folder / f"predictions-{rows}.csv", "w") as file:
        file.write("image_name,prediction,probability\n")
        for i in range(rows):
            file.write(f"ISIC_{i:07d},{score[i] >= 0.5:d},{score[i]:.6f}\n")


Job = Callable[[], int]


def table_jobs(folder: Path, rows: int) -> dict[str, tuple[Job, dict[str, Job]]]:
    """What is done with tables of `rows` images, and its peers; each returns the rows it did.

    Raises:
        CheckFailedError: in the job, a table that was read is not what was written.
    """
    import pandas as pd

    from melfast.data.augment import Augment
    from melfast.data.manifest import read_manifest
    from melfast.data.plan import Rows, training_plan
    from melfast.data.preprocess import Preprocess
    from melfast.report.predictions import read_predictions

    manifest, predictions = (folder / f"{n}-{rows}.csv" for n in ("manifest", "predictions"))
    true = (np.arange(rows) % 50 == 0).astype(np.int64)
    group = np.arange(rows) // 50 % GROUPS  # some malignant images in each
    plan_rows = Rows(true, group.astype(np.int16))
    augment = Augment(rotation_deg=180, scale=0.2, brightness=0.2, hue=0.05, erase=0.25)

    def by_pandas(path: Path) -> Job:
        return lambda: len(pd.read_csv(path, dtype=str, keep_default_na=False))

    def read() -> int:
        found = read_manifest(manifest)
        require(found.image_names[-1] == f"ISIC_{rows - 1:07d}", "the manifest's last row")
        return len(found)

    def draw() -> int:
        plan = training_plan(plan_rows, Preprocess(SIDE, SIDE), augment, batch_size=10, seed=0, epoch=0)
        require(len(np.unique(plan.index)) == rows, "each image once in the plan")
        return len(plan.index)

    def read_answers() -> int:
        found = read_predictions(predictions)
        require(found.score is not None and len(found.score) == rows, "a score for each image")
        return len(found)

    return {
        "reading a manifest": (read, {"pandas.read_csv": by_pandas(manifest)}),
        "drawing the plan of an epoch": (draw, {}),
        "reading predictions": (read_answers, {"pandas.read_csv": by_pandas(predictions)}),
    }


def require(right: bool, what: str) -> None:
    if not right:
        raise CheckFailedError(f"wrong result: {what}")


def peaks(folder: Path, sizes: Sequence[int]) -> list[tuple[str, int, float]]:
    """Bytes that each job took at its peak above what the process held before, smallest first."""
    found = []
    for name in table_jobs(folder, sizes[0]):  # what a first call imports
        table_jobs(folder, sizes[0])[name][0]()
    for rows in sizes:
        for name, (job, _) in table_jobs(folder, rows).items():
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is held now
            before = held("VmRSS")
            job()
            found.append((name, rows, held("VmHWM") - before))
    return found


def held(key: str) -> float:
    """Bytes of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * float(line.split()[1])
    raise AssertionError(key)


def predict_together(run: Run, source: str, files: list[Path], network: Network) -> None:
    """Decoding, the network, and both at once."""
    run.note(f"predicting: {len(files)} of {source}, {BACKBONE} at {SIDE} px")
    files, engine = files * 2, network.engine  # decoding has something to do meanwhile
    answers = inference.predict(engine, files, run.threads)
    run.check("images answered", len(answers), at_least=len(files), at_most=len(files))

    def decode() -> int:
        return sum(len(batch.index) for batch in uint8_batches(files, run.threads))

    def both() -> int:
        return len(inference.predict(engine, files, run.threads))

    contestants = [
        Contestant("melfast predict", both),
        Contestant("the model alone", inference.alone(engine, len(files))),
        Contestant("the files alone", decode),
    ]
    run.compare("predicting: together and apart", "images/s", contestants)


def uint8_batches(files: list[Path], threads: int) -> Iterator[Any]:
    """What `melfast predict` gives its engine."""
    from melfast.data.native import NativeLoader
    from melfast.data.plan import evaluation_plan
    from melfast.data.preprocess import Preprocess

    plan = evaluation_plan(len(files), batch_size=inference.BATCH)
    preprocess = Preprocess(SIDE, SIDE, "cielab")
    with NativeLoader(files, preprocess, plan, threads=threads, dtype=np.uint8) as batches:
        yield from batches


def train_together(run: Run) -> None:
    """Files to batches, steps on batches in memory, and both at once; 1, 2, ... threads."""
    with train.small_images(run.data) as (source, files):
        for threads in sorted({1, run.threads}):
            config = train.recipe(threads)
            on_files, apart, memory = (train.make_trainer(config, files, STEPS) for _ in range(3))
            run.note(f"training: {len(files)} files, {source}, {threads} threads")
            train.check(run, on_files, memory)
            in_memory(memory)
            contestants = [
                Contestant("melfast train, files", train.epoch(on_files)),
                Contestant("the steps alone, batches in memory", train.epoch(memory)),
                Contestant("the files alone", batches_alone(apart)),
            ]
            title = f"training: together and apart, {threads} threads"
            run.compare(title, "images/s", contestants)


def batches_alone(trainer: Any) -> Job:
    """An epoch's batches of files, and no step."""

    def run() -> int:
        with trainer.open_batches() as batches:
            return sum(len(batch.index) for _, batch in batches)

    return run
