"""Models of machines: pipelines for each machine and task, and checks of them against measurements."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.constants import PUBLIC, Constant, Results, published
from benchmarks.pipeline import Pace, Pipeline, Resource, Stage, closed_form, simulate

ISIC_2020, MANY = 33_126, 10_000_000
GPUS = 8  # of a node
BATCH = 64  # of a GPU and step
SIDE = 224
MOST_STEPS, MOST_RANK_STEPS = 400, 30_000  # of a simulation, from whose pace the epoch is computed
# Formula and simulation of the same pipeline.
AGREE = 0.05

LARGE, COPIES = "images at least 1500 px wide", "copies of 288 px"
NATIVE = "melfast native"
HERE = published(1, "", "the core measured here")
Pick = Callable[[Constant], float]


@dataclass(frozen=True)
class Plant:
    """A machine and a task to predict.

    Attributes:
        build: makes the pipeline from constants picked from their ranges.
        plan: seconds for drawing the plan of an epoch beforehand; None: no plan.
    """

    name: str
    images: int
    build: Callable[[Pick], Pipeline]
    plan: Callable[[Pick], float] | None = None


@dataclass(frozen=True)
class Check:
    """A measured rate, and its prediction from other measurements.

    Attributes:
        of: the measurements that the prediction is based on.
        within: allowed deviation, as a fraction of the measured rate.
    """

    name: str
    pipe: Pipeline
    measured: Constant
    of: tuple[Constant, ...]
    within: float

    @property
    def spread(self) -> float:
        """Half the relative interquartile range of the least certain figure."""
        return max((c.high - c.low) / 2 / c.value for c in (self.measured, *self.of))

    @property
    def sure(self) -> bool:
        """Whether the figures are certain enough to be compared."""
        return self.spread <= self.within


def middle(constant: Constant) -> float:
    return constant.value


def worst(constant: Constant) -> float:
    return constant.low


def best(constant: Constant) -> float:
    return constant.high


# Constants of which less is better.
def least(pick: Pick) -> Pick:
    return {middle: middle, worst: best, best: worst}[pick]


def pace_both(pipe: Pipeline, images: int) -> tuple[Pace, Pace]:
    """The pace by the formula and by the simulation."""
    most = min(MOST_STEPS, max(40, MOST_RANK_STEPS // pipe.ranks))
    return closed_form(pipe), simulate(pipe, min(pipe.steps(images), most))


# Training on GPUs.


def gpu_training(
    results: Results, files: str, *, nodes: int = 1, gpus: int = GPUS, decoder: str = "cores"
) -> Callable[[Pick], Pipeline]:
    """ConvNeXt-T at 224 px in bf16; a GPU has its share of its node's cores.

    Args:
        files: LARGE or COPIES.
        decoder: `cores` (native), or `gpu`, which decodes every pixel.
    """

    def build(pick: Pick) -> Pipeline:
        def of(name: str) -> float:
            return pick(PUBLIC[name])

        def found(what: str) -> float:
            return results.measurement("scaling", f"{files}: {what}").value

        cores = of("cores of a node") / GPUS
        drives = of("drives of a node") * of("sequential reads of a drive")
        read = Stage("read", "drives", BATCH * found("mean bytes a file") / drives)
        if decoder == "cores":
            one_core = pick(results.rate("scaling", f"{files}: one core", NATIVE))
            image_spread = found("spread of the seconds over images (deviation / mean)")
            of_batches = image_spread / math.sqrt(BATCH)
            work = BATCH / one_core / of("speed of such a core")
            decode = Stage("decode", "cores", work, cores, of_batches)
            copied = BATCH * SIDE * SIDE * 3 * 2  # float16
        else:
            pixels = found("mean pixels") * 1e6
            decode = Stage("decode", "decoder", BATCH * pixels / of("JPEG pixels by an A100's decoder"))
            copied = BATCH * found("mean bytes a file")
        # Between steps, the loop requests a batch and waits for its copy.
        copy = copied / of("copy to the GPU")
        # Two operations per multiply-add; the backward pass takes twice the time of the forward pass.
        operations = 6 * BATCH * of("multiply-adds of ConvNeXt-T at 224 px")
        compute = operations / (of("bf16 peak of an H100") * of("share of the peak in training"))
        spread = least(pick)(PUBLIC["spread of a GPU's step"])
        step = Stage("copy and compute", "gpu", copy + compute, spread=spread)
        resources = {"drives": Resource(1, "node"), decode.resource: Resource(decode.width), "gpu": Resource(1)}
        ranks = nodes * gpus
        return Pipeline((read, decode, step), resources, BATCH, ranks, gpus, all_reduce(ranks, pick))

    return build


def all_reduce(ranks: int, pick: Pick) -> float:
    """Seconds for averaging float32 gradients in rings over all GPUs, without what other work hides.

    NCCL's rings share a node's ports: the bandwidth between nodes is that of all of them together.
    """
    if ranks == 1:
        return 0.0
    link = pick(PUBLIC["NVLink of an H100, one way"])
    if ranks > GPUS:
        ports = pick(PUBLIC["InfiniBand ports of a node"]) * pick(PUBLIC["InfiniBand, one port"])
        link = min(link, ports)
    num_bytes = 4 * PUBLIC["parameters of ConvNeXt-T"].value
    latency = least(pick)(PUBLIC["latency of an all-reduce a doubling of ranks"])
    seconds = 2 * (ranks - 1) / ranks * num_bytes / link
    seconds += latency * math.log2(ranks)
    return seconds * (1 - pick(PUBLIC["share of the all-reduce behind the backward pass"]))


# On the cores of one machine.


def on_cores(
    cores: int, *, decode: Constant | None, compute: Constant | None, threads: int = 0, batch: int = BATCH
) -> Callable[[Pick], Pipeline]:
    """Files to batches, and a network, sharing the cores.

    Args:
        decode, compute: images/s of each alone, on `threads` cores; None: not part of the task.
        threads: threads of each; 0: one per core.
    """
    threads = threads or cores

    def build(pick: Pick) -> Pipeline:
        stages = [
            Stage(name, "cores", batch * threads / pick(rate), threads)
            for name, rate in (("decode", decode), ("compute", compute))
            if rate is not None
        ]
        return Pipeline(tuple(stages), {"cores": Resource(cores)}, batch)

    return build


def plants(results: Results) -> list[Plant]:
    cores = results.cores
    here = f"{cores} cores"
    predict = "predicting: together and apart"
    train = f"training: together and apart, {cores} threads"
    rate = results.rate
    drawing = rate("scaling", "drawing the plan of an epoch, 1,000,000", "melfast")

    def plan(images: int, speed: Constant = HERE) -> Callable[[Pick], float]:
        # Each process draws the plan for all images before the first step.
        return lambda pick: images / pick(drawing) / pick(speed)

    def on_gpus(name: str, files: str, images: int = ISIC_2020, **how: Any) -> Plant:
        build = gpu_training(results, files, **how)
        return Plant(name, images, build, plan(images, PUBLIC["speed of such a core"]))

    decode = rate("scaling", predict, "the files alone")
    compute = rate("scaling", predict, "the model alone")
    small = rate("scaling", train, "the files alone")
    steps = rate("scaling", train, "the steps alone, batches in memory")
    return [
        Plant(
            f"{here}: predict, ConvNeXt-T, originals",
            ISIC_2020,
            on_cores(cores, decode=decode, compute=compute, batch=32),
        ),
        Plant(
            f"{here}: train ham10000.yaml, files of 200x150",
            ISIC_2020,
            on_cores(cores, decode=small, compute=steps),
            plan(ISIC_2020),
        ),
        on_gpus("one H100: train ConvNeXt-T, originals", LARGE, gpus=1),
        on_gpus("one H100: originals, decoded by the GPU", LARGE, gpus=1, decoder="gpu"),
        on_gpus("one H100: copies", COPIES, gpus=1),
        on_gpus("eight H100: originals", LARGE),
        on_gpus("eight H100: copies", COPIES),
        on_gpus("64 nodes of eight H100: originals", LARGE, MANY, nodes=64),
        on_gpus("64 nodes of eight H100: copies", COPIES, MANY, nodes=64),
    ]


# Comparison with measurements.


def checks(results: Results, others: dict[str, Results]) -> Iterator[Check]:
    """Predictions of measured rates from other measurements on the same machine."""
    cores = results.cores
    images = results.rate("scaling", f"{LARGE}: one core", NATIVE)
    one = results.rate("scaling", f"{LARGE}, 1 threads", NATIVE)
    for threads in sorted({1, cores, 2 * cores}):
        measured = results.rate("scaling", f"{LARGE}, {threads} threads", NATIVE)
        for what, rate, within in (("single images", images, 0.15), ("one thread", one, 0.10)):
            if measured == one == rate:
                continue
            decode = scaled(rate, min(threads, cores))
            width = min(threads, cores)
            pipe = on_cores(cores, decode=decode, compute=None, threads=width, batch=8)(middle)
            name = f"loader on {threads} threads, from {what}"
            yield Check(name, pipe, measured, (rate,), within)
    for suite, title, together, parts, threads in (
        ("scaling", "predicting: together and apart", "melfast predict", ("the files alone", "the model alone"), cores),
        *(
            (
                "scaling",
                f"training: together and apart, {threads} threads",
                "melfast train, files",
                ("the files alone", "the steps alone, batches in memory"),
                threads,
            )
            for threads in sorted({1, cores})
        ),
    ):
        files, network = (results.rate(suite, title, part) for part in parts)
        # Two processes with one thread each share the cores.
        pipe = on_cores(cores, decode=files, compute=network, threads=threads, batch=32)(middle)
        name = f"{together}, from files and network alone, {threads} threads"
        yield Check(name, pipe, results.rate(suite, title, together), (files, network), 0.10)
    yield from across_files(others)


def across_files(others: dict[str, Results]) -> Iterator[Check]:
    """Checks across the files of the suites loader, inference and train, if they come from one machine."""
    loader, inference, train = (others[name] for name in ("loader", "inference", "train"))
    large, small = "70 images at least 1500 px wide, to", "60 images under 1500 px wide, to"
    native = loader.rate("loader", large, NATIVE)
    cores = loader.cores
    if inference.machine == loader.machine:
        model = inference.rate("inference", "files to prob", "the model alone, random batches")
        pipe = on_cores(cores, decode=native, compute=model, batch=32)(middle)
        measured = inference.rate("inference", "files to prob", "melfast predict")
        name = "melfast predict, from suites loader and inference"
        yield Check(name, pipe, measured, (native, model), 0.10)
    limit = "simplejpeg scaled decode alone"
    whole, bare = (loader.rate("loader", small, name) for name in (NATIVE, limit))
    alone = loader.rate("loader", large, limit)
    preparing = 1 / whole.value - 1 / bare.value
    rate = 1 / (1 / alone.value + preparing)
    decode = dataclasses.replace(native, value=rate)
    pipe = on_cores(cores, decode=decode, compute=None, batch=32)(middle)
    name = "loader on large files, from their decode and small files"
    yield Check(name, pipe, native, (whole, bare, alone), 0.15)
    title = "24 steps of ham10000.yaml: processes"
    all_of_one, half_of_two = (f"1 process x {train.cores} threads", f"2 processes x {train.cores // 2}")
    of_one = train.rate("train", title, f"{all_of_one}, the same")
    of_two = train.rate("train", title, f"{half_of_two} threads (gloo), batches in memory")
    half = Stage("compute", "cores", 32 * train.cores / of_one.value, train.cores / 2)
    pipe = Pipeline((half,), {"cores": Resource(train.cores, "node")}, 32, 2, 2)
    yield Check("training on two processes, from one", pipe, of_two, (of_one,), 0.10)


def scaled(rate: Constant, factor: float) -> Constant:
    return dataclasses.replace(rate, value=rate.value * factor)
