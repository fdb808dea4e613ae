"""Suite train: how much the loop, the files and a second process cost compared with a bare training step."""

import contextlib
import dataclasses
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import images
from benchmarks.harness import Contestant, Run, suite
from benchmarks.machine import ROOT
from melfast.cli import calm_openmp
from melfast.data.batch import Batch
from melfast.io.folders import list_images

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from melfast.config.schema import Config
    from melfast.distributed import World
    from melfast.train.loop import Batches, Trainer

calm_openmp()  # as the melfast command does, before torch is loaded

RECIPE = ROOT / "configs" / "ham10000.yaml"
STEPS = 24  # steps per epoch, which takes a few seconds
FILES_TARGET = 0.95  # fraction of the rate with batches in memory
LOOP_TARGET = 0.97  # fraction of the rate of a step written by hand
PROCESSES_TARGET = 0.9  # fraction of the rate of one process with all threads
DRAWN = (64, 150, 200)  # number, height, width


@suite("train")
def train(run: Run) -> None:
    """Images/s of training: the loop against a step by hand, files against memory, and two processes."""
    with small_images(run.data) as (source, files):
        config = recipe(run.threads)
        on_files, in_memory, bare, timms = (make_trainer(config, files, STEPS) for _ in range(4))
        preprocess = on_files.record.preprocess
        run.note(
            f"{len(set(files))} files, {source}; {config.model.backbone} at {preprocess.width}x"
            f"{preprocess.height}, batches of {config.train.batch_size}, {run.threads} threads"
        )
        check(run, on_files, in_memory)
        in_memory.open_batches = lambda: in_memory_batches(in_memory)  # type: ignore[method-assign]
        alone = Contestant("melfast train, batches in memory", epoch(in_memory))
        steps = f"{STEPS} steps of {RECIPE.name}"
        by_hand = Contestant("bare step by hand, the same", epoch_by_hand(bare), LOOP_TARGET)
        by_timm = Contestant("timm's train.py step, the same", epoch_as_timm(timms))
        run.compare(f"{steps}: the loop", "images/s", [alone, by_hand, by_timm])
        files_first = Contestant("melfast train, files", epoch(on_files))
        run.compare(f"{steps}: the files", "images/s", [files_first, dataclasses.replace(alone, target=FILES_TARGET)])
    if run.threads < 2:
        run.miss("two processes", "they need two threads")
        return
    with processes(2, run.threads // 2) as epoch_of_two:
        name = f"2 processes x {run.threads // 2} threads (gloo), batches in memory"
        one = dataclasses.replace(alone, target=PROCESSES_TARGET, name=f"1 process x {run.threads} threads, the same")
        run.compare(f"{steps}: processes", "images/s", [Contestant(name, epoch_of_two), one])


@contextlib.contextmanager
def small_images(data: images.Data) -> Iterator[tuple[str, list[Path]]]:
    """Files of the size that the recipe is for: the user's, HAM10000's or synthetic ones."""
    if isinstance(data, Path):
        yield str(data), images.jpegs(list_images(data))
    elif (real := images.real(data)) and (folder := real / "ham10000" / "images").is_dir():
        yield "HAM10000 at 200x150", images.jpegs(list_images(folder))
    else:
        with TemporaryDirectory(prefix="melfast-bench-") as place:
            yield "drawn at 200x150", images.draw(Path(place), *DRAWN)


def recipe(threads: int, **more: object) -> "Config":
    """The recipe with a number of threads; `more`: further keys of section `train`."""
    from melfast.config.loading import Override
    from melfast.config.schema import load_config

    # The files have no tone groups, which the loss of the recipe needs; the loss is not measured here.
    settings = {"data.threads": threads, "train.threads": threads, "train.device": "cpu", "loss.name": "ce"}
    settings |= {f"train.{key}": value for key, value in more.items()}
    return load_config(RECIPE, [Override(k, v, "suite") for k, v in settings.items()])[0]


def make_trainer(config: "Config", files: list[Path], steps: int, world: "World | None" = None) -> "Trainer":
    """A trainer with an epoch of `steps` steps on these files, repeated if necessary."""
    import torch

    from melfast.data.feed import set_threads
    from melfast.data.image_list import ImageList
    from melfast.data.plan import Rows
    from melfast.distributed import World
    from melfast.models.checkpoint import State
    from melfast.train.cells import count_cells
    from melfast.train.data import LabelledImages, TrainingData
    from melfast.train.learner import build_learner, new_record
    from melfast.train.logging import SilentLog
    from melfast.train.loop import Trainer

    count = steps * config.train.batch_size
    paths = (files * -(-count // len(files)))[:count]
    rows = Rows(np.arange(count) % 2, np.full(count, -1, np.int16))
    split = LabelledImages(ImageList(paths), [path.stem for path in paths], rows)
    data = TrainingData(split, split, ())
    world = world or World(device=torch.device(config.train.device))
    set_threads(config.train.threads, world)
    cells = count_cells(config, rows, 0)
    record = new_record(config, data, cells)
    learner = build_learner(config, record, world, cells)
    return Trainer(config, data, Path(), world, record, learner, State(), SilentLog())


@contextlib.contextmanager
def in_memory_batches(trainer: "Trainer") -> "Iterator[Batches]":
    """One random batch on the device, repeatedly: no loader is faster."""
    import torch

    size = trainer.config.train.batch_size // trainer.world.size
    preprocess = trainer.record.preprocess
    shape = (size, preprocess.height, preprocess.width, 3)
    pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    batch = Batch(pixels, np.arange(size), group=np.full(size, -1, np.int16))
    tensor = torch.from_numpy(pixels).to(trainer.world.device).permute(0, 3, 1, 2)
    yield ((tensor, batch) for _ in range(trainer.steps_per_epoch))


@contextlib.contextmanager
def processes(size: int, threads: int) -> Iterator[Callable[[], int]]:
    """Processes that train together, each with a number of threads.

    Yields:
        A function that runs an epoch in all of them and returns the number of images.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(size)]
    workers = [
        context.Process(target=work, args=(rank, size, threads, STEPS, port, pipe[1]), daemon=True)
        for rank, pipe in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for _, theirs in pipes:
        theirs.close()  # so that the pipe of a dead worker ends

    def run() -> int:
        for mine, _ in pipes:
            mine.send("an epoch")
        return max(mine.recv() for mine, _ in pipes)  # waits for all

    try:
        yield run
    finally:
        for mine, _ in pipes:
            with contextlib.suppress(OSError):
                mine.send(None)
        for worker in workers:
            worker.join(timeout=20)
            worker.kill()


def work(rank: int, size: int, threads: int, steps: int, port: int, orders: "Connection") -> None:
    """One of several processes: runs an epoch for each order, until it receives None."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    from melfast.distributed import start_world

    with start_world("cpu") as world:
        trainer = make_trainer(recipe(threads), [Path("none.jpg")], steps, world)
        trainer.open_batches = lambda: in_memory_batches(trainer)  # type: ignore[method-assign]
        run = epoch(trainer)
        while orders.recv() is not None:
            orders.send(run())


def check(run: Run, on_files: "Trainer", in_memory: "Trainer") -> None:
    """Checks that both give the model the same kind of tensors, and that training on files works."""
    with on_files.open_batches() as files, in_memory_batches(in_memory) as memory:
        (mine, batch), (other, _) = next(files), next(memory)
        same = mine.shape == other.shape and mine.stride() == other.stride()
        run.check("tensors of one shape and layout", same, at_least=1)
        run.check("largest pixel after normalisation", np.abs(batch.images).max(), at_most=10)
        run.check("spread of the pixels", batch.images.std(), at_least=0.1)
    run.check("mean loss of an epoch on files", on_files.train_epoch().loss, at_most=2)


def epoch(trainer: "Trainer") -> Callable[[], int]:
    """One epoch of the loop as in `melfast train`; returns the number of images."""
    from melfast.models.checkpoint import State

    def run() -> int:
        trainer.state = State()
        return trainer.train_epoch().images

    return run


def epoch_by_hand(trainer: "Trainer") -> Callable[[], int]:
    """The same number of steps with only forward, backward and optimizer."""
    import torch
    from torch.nn import functional

    model, optimizer = trainer.learner.model, trainer.learner.optimizer

    def run() -> int:
        done = 0
        model.train()
        with in_memory_batches(trainer) as batches:
            for images_b3hw, batch in batches:
                loss = functional.cross_entropy(model(images_b3hw), trainer.targets[batch.index])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                done += len(batch.index)
        return done

    return run


def epoch_as_timm(trainer: "Trainer") -> Callable[[], int]:
    """The same number of steps as in timm's train.py: task, optimizer, clipping, meter, schedule."""
    import timm.optim
    import timm.scheduler
    import timm.task
    import timm.utils
    import torch

    model, optim = trainer.learner.model, trainer.config.optim
    task = timm.task.ClassificationTask(model, torch.nn.CrossEntropyLoss(), verbose=False)
    optimizer = timm.optim.create_optimizer_v2(model, opt=optim.name, lr=optim.lr, weight_decay=optim.weight_decay)
    schedule, _ = timm.scheduler.create_scheduler_v2(
        optimizer, num_epochs=10, step_on_epochs=False, updates_per_epoch=trainer.steps_per_epoch
    )

    def run() -> int:
        losses = timm.utils.AverageMeter()
        model.train()
        with in_memory_batches(trainer) as batches:
            for step, (images_b3hw, batch) in enumerate(batches):
                loss = task(images_b3hw, trainer.targets[batch.index])["loss"]
                loss.backward()
                timm.utils.dispatch_clip_grad(model.parameters(), 1.0, mode="norm")
                optimizer.step()
                losses.update(loss.item(), len(batch.index))
                optimizer.zero_grad()
                schedule.step_update(step, metric=losses.avg)
        return losses.count

    return run
