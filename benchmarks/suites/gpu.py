"""Suite gpu: everything that runs on a GPU, in one run; the tests run a small version on the CPU."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import images
from benchmarks.harness import Contestant, Run, suite
from benchmarks.peers import engines, loaders
from benchmarks.peers.engines import Engine
from benchmarks.suites.loader import installed, resized_copies
from benchmarks.suites.train import epoch, in_memory_batches, make_trainer
from melfast.data.loader import LoaderName, LoaderSettings
from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError

if TYPE_CHECKING:
    from melfast.config.schema import Config
    from melfast.data.plan import EpochPlan
    from melfast.distributed import World
    from melfast.models.deploy import ExportedClassifier

PARITY_IMAGES = 32  # of a size
MEDIAN_APART, MOST_APART = 1.5, 4.0  # mean difference of an image in levels of 255
INFERENCE_BATCHES = (1, 64)
# Of probabilities against ONNX Runtime on the CPU: TF32 and fp16 have 10 bits of mantissa, bf16 7.
SAME_PROBABILITY, SAME_IN_BF16 = 5e-3, 5e-2
COMPILED_TARGET = 1.3  # TensorRT in fp16 against torch.compile in bf16


@dataclass(frozen=True)
class Scale:
    """Amount and kind of data that is measured."""

    device: str = "cuda"
    backbone: str = "convnext_tiny"
    size: int = 224
    batch: int = 64
    images: int = 2000  # minimum number of images in a timed epoch of a loader
    steps: int = 30  # of a timed epoch of training
    compiled: tuple[bool, ...] = (False, True)

    @property
    def dali(self) -> LoaderName:
        return "dali-gpu" if self.device == "cuda" else "dali-cpu"


@suite("gpu", needs_gpu=True)
def gpu(run: Run) -> None:
    """DALI and its parity, loading, ConvNeXt training and inference, all on a GPU."""
    import torch

    if not torch.cuda.is_available():
        raise InputError("suite gpu needs a CUDA device, found none")
    measure(run, Scale())


def measure(run: Run, scale: Scale) -> None:
    with images.groups(run.data) as (source, groups), TemporaryDirectory() as folder:
        run.note(
            f"{source}; {run.threads} threads or worker processes each, batches of {scale.batch} to {scale.device}"
        )
        found = [(name, groups[name]) for name in (images.LARGE, images.SMALL) if groups.get(name)]
        if installed("nvidia.dali"):
            for name, files in found:
                parity(run, scale, name, files)
        else:
            run.miss("DALI", "no module nvidia.dali")
        for name, files in found:
            loading(run, scale, name, files)
        # Small images load fastest; and copies of them.
        name, files = found[-1]
        copies = resized_copies(files, Path(folder), run.threads)
        for compiled in scale.compiled:
            training(run, scale, name, files, copies, compiled)
        inference(run, scale, files, Path(folder))


def parity(run: Run, scale: Scale, group: str, files: list[Path]) -> None:
    """Compares the images of DALI with those of the native executor, for the same plan."""
    files = files[:: -(-len(files) // PARITY_IMAGES)]
    for colour in ("rgb", "cielab"):
        preprocess = Preprocess.for_colour(scale.size, scale.size, colour)  # type: ignore[arg-type]
        for kind, plan in plans(len(files), preprocess, scale.batch).items():
            made = [all_images(name, files, preprocess, plan, scale, run.threads) for name in ("native", scale.dali)]
            # A level of CIELAB is 1/255 of the range of each channel in images.
            unit = 255.0 if colour == "rgb" else np.array([2.55, 1.0, 1.0])
            apart = np.abs((made[0] - made[1]) * preprocess.std * unit).mean(axis=(1, 2, 3))
            what = f"{scale.dali} and native, {kind} {colour}, {group}"
            run.check(f"{what}: median difference", float(np.median(apart)), at_most=MEDIAN_APART)
            run.check(f"{what}: largest difference", float(apart.max()), at_most=MOST_APART)


def plans(count: int, preprocess: Preprocess, batch: int) -> "dict[str, EpochPlan]":
    from melfast.data.augment import Augment
    from melfast.data.plan import Rows, evaluation_plan, training_plan

    augment = Augment(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, erase=0.25)
    rows = Rows(np.zeros(count, np.int64), np.zeros(count, np.int16))
    batch = min(batch, count)
    return {
        "plain": evaluation_plan(count, batch_size=batch),
        "augmented": training_plan(rows, preprocess, augment, batch_size=batch, seed=0, epoch=0),
    }


def all_images(
    loader: LoaderName, files: list[Path], preprocess: Preprocess, plan: "EpochPlan", scale: Scale, threads: int
) -> NDArray[np.float32]:
    """All images [N, H, W, 3] on the host, as they arrived on the device."""
    from melfast.data.feed import feed, open_loader

    world = world_of(scale)
    batches = open_loader(files, preprocess, plan, world, settings=LoaderSettings(loader=loader, threads=threads))
    with batches:
        made = [pixels.cpu().numpy().copy() for pixels, _ in feed(batches, world.device)]
    return np.concatenate(made).transpose(0, 2, 3, 1)


def loading(run: Run, scale: Scale, group: str, files: list[Path]) -> None:
    """Files to batches on the device, with the work of training."""
    repeats = -(-scale.images // len(files))
    paths = files * repeats
    run.note(f"{len(files)} images {group}, each {repeats} times an epoch")
    names: list[LoaderName] = ["native"]
    if installed("nvidia.dali"):
        names.append(scale.dali)
    with ExitStack() as stack:
        contestants = [Contestant(f"melfast {name}", loading_epoch(name, paths, scale, run.threads)) for name in names]
        if installed("cv2"):
            opened = loaders.torch_training(paths, scale.size, run.threads, scale.batch)
            peer = to_device(stack.enter_context(opened), scale)
            contestants.append(Contestant("torch DataLoader, PIL and OpenCV", peer))
        else:
            run.miss("torch DataLoader", "no module cv2")
        run.compare(f"{group} to {scale.device}, CIELAB and augmented", "images/s", contestants)


def loading_epoch(loader: LoaderName, paths: list[Path], scale: Scale, threads: int) -> Callable[[], int]:
    """One epoch to the device, in float16 on CUDA; returns the number of images."""
    from melfast.data.feed import feed, open_loader

    plan, preprocess = loaders.training_work(len(paths), scale.size, scale.batch)
    world = world_of(scale)

    def run() -> int:
        settings = LoaderSettings(loader, threads, precision="bf16")
        with open_loader(paths, preprocess, plan, world, settings) as batches:
            done = sum(len(batch.index) for _, batch in feed(batches, world.device))
        finish(scale)
        return done

    return run


def to_device(batches: loaders.Epoch, scale: Scale) -> Callable[[], int]:
    """The same for a loader on the host."""
    import torch

    def run() -> int:
        done = 0
        for batch in batches():
            done += len(torch.from_numpy(batch).to(scale.device))
        finish(scale)
        return done

    return run


def training(run: Run, scale: Scale, group: str, files: list[Path], copies: list[Path], compiled: bool) -> None:
    """The training loop on files, on copies of 288 px, and on a batch on the device."""
    sources: dict[str, tuple[LoaderName, list[Path]]] = {
        "native": ("native", files),
        "native, copies": ("native", copies),
    }
    if installed("nvidia.dali"):
        sources[scale.dali] = (scale.dali, files)
        sources[f"{scale.dali}, copies"] = (scale.dali, copies)
    # One network for all, because the time does not depend on the data.
    memory = make_trainer(training_config(scale, "native", run.threads, compiled), files, scale.steps)
    memory.open_batches = lambda: in_memory_batches(memory)  # type: ignore[method-assign]
    contestants = [Contestant("one batch on the device", epoch(memory))]
    for name, (loader, paths) in sources.items():
        config = training_config(scale, loader, run.threads, compiled)
        trainer = make_trainer(config, paths, scale.steps)
        trainer.learner = memory.learner
        contestants.append(Contestant(name, epoch(trainer)))
    title = f"training {scale.backbone}, bf16, channels-last, {group}"
    run.compare(f"{title}{', compiled' if compiled else ''}", "images/s", contestants)


def training_config(scale: Scale, loader: LoaderName, threads: int, compiled: bool) -> "Config":
    from melfast.config.loading import Override
    from melfast.config.schema import load_config

    settings = {
        "preprocess.height": scale.size,
        "preprocess.width": scale.size,
        "preprocess.colour": "cielab",
        "model.backbone": scale.backbone,
        "augment.brightness": 0.2,
        "augment.contrast": 0.2,
        "augment.saturation": 0.2,
        "augment.hue": 0.05,
        "data.threads": threads,
        "data.loader": loader,
        "train.batch_size": scale.batch,
        "train.device": scale.device,
        "train.precision": "bf16",
        "train.compile": compiled,
        "train.log_every": scale.steps,
    }
    return load_config(None, [Override(k, v, "suite") for k, v in settings.items()])[0]


def inference(run: Run, scale: Scale, files: list[Path], folder: Path) -> None:
    """An exported model from images on the host to probabilities on the host."""
    from melfast.engines.onnx_runtime import OnnxEngine

    path, half, exported = export(scale, files, folder)
    pixels = host_images(files, scale, max(INFERENCE_BATCHES))
    wanted, _ = OnnxEngine(path).run(pixels)
    spread = float(wanted.max() - wanted.min())
    run.check("spread of the probabilities that are compared", spread, at_least=0.05)
    single_precision(run, scale, path, exported, pixels, wanted)
    half_precision(run, scale, half, exported, pixels, wanted)


def single_precision(
    run: Run,
    scale: Scale,
    path: Path,
    exported: "ExportedClassifier",
    pixels: NDArray[np.uint8],
    wanted: NDArray[np.float32],
) -> None:
    """The same in float32, with TF32."""
    import torch

    most = len(pixels)
    ways = {
        "TensorRT": engines.tensorrt_engine(path, most),
        f"ONNX Runtime {scale.device}": engines.onnx_engine(path, scale.device),
        f"torch {scale.device}": engines.torch_engine(exported, scale.device),
    }
    with ExitStack() as stack, tf32(torch):
        running: dict[str, Engine] = {}
        for name, way in ways.items():
            if (engine := opened(run, name, way, stack)) is None:
                continue
            for batch in INFERENCE_BATCHES:
                apart = float(np.abs(engine(pixels[:batch]) - wanted[:batch]).max())
                what = f"{name}, batch {batch}: largest difference to ONNX Runtime on the CPU"
                run.check(what, apart, at_most=SAME_PROBABILITY)
            running[name] = engine
        for batch in INFERENCE_BATCHES:
            times = max(1, scale.images // batch // 4)
            contestants = [
                Contestant(name, predictions(engine, pixels[:batch], times)) for name, engine in running.items()
            ]
            title = f"inference {scale.backbone}, fp32 with TF32, batches of {batch}"
            run.compare(title, "images/s", contestants)


def half_precision(
    run: Run,
    scale: Scale,
    path: Path,
    exported: "ExportedClassifier",
    pixels: NDArray[np.uint8],
    wanted: NDArray[np.float32],
) -> None:
    """TensorRT in fp16 against the fastest way of torch, with the largest batch."""
    batch = len(pixels)
    subject = "TensorRT, fp16"
    ways = {
        subject: (engines.tensorrt_engine(path, batch), SAME_PROBABILITY, None),
        **{
            f"torch{'.compile' if compiled else ', eager'}, bf16": (
                engines.bf16_engine(exported, scale.device, compiled=compiled),
                SAME_IN_BF16,
                COMPILED_TARGET if compiled else None,
            )
            for compiled in sorted(scale.compiled, reverse=True)
        },
    }
    with ExitStack() as stack:
        contestants = []
        for name, (way, same, target) in ways.items():
            if (engine := opened(run, name, way, stack)) is None:
                continue
            apart = float(np.abs(engine(pixels) - wanted).max())
            what = f"{name}, batch {batch}: largest difference to ONNX Runtime on the CPU"
            run.check(what, apart, at_most=same)
            work = predictions(engine, pixels, max(1, scale.images // batch))
            contestants.append(Contestant(name, work, None if subject in run.missing else target))
        run.compare(f"inference {scale.backbone}, 16 bits, batches of {batch}", "images/s", contestants)


def opened(run: Run, name: str, way: AbstractContextManager[Engine], stack: ExitStack) -> Engine | None:
    """The engine; None, with a note, if it cannot run here."""
    try:
        return stack.enter_context(way)
    except InputError as error:
        run.miss(name, " ".join(str(error).split()))
        return None


def predictions(engine: Engine, pixels: NDArray[np.uint8], times: int) -> Callable[[], int]:
    return lambda: sum(len(engine(pixels)) for _ in range(times))


def export(scale: Scale, files: list[Path], folder: Path) -> "tuple[Path, Path, ExportedClassifier]":
    """Exports a network with random weights and different outputs for the images: fp32 file, fp16 file, and module."""
    import torch

    from melfast.export.formats import export_onnx
    from melfast.export.onnx import write_onnx
    from melfast.models.classifier import build_classifier
    from melfast.models.deploy import ExportedClassifier
    from melfast.models.record import ModelRecord

    record = ModelRecord(scale.backbone, Preprocess.for_colour(scale.size, scale.size, "cielab"))
    torch.manual_seed(0)
    classifier = build_classifier(record, pretrained=False).eval()
    exported = ExportedClassifier(classifier, record).eval()
    with torch.inference_mode():  # logits of a mean of 0 and a deviation of 1
        _, logits = exported(torch.from_numpy(host_images(files, scale, 16)))
        last: Any = classifier.get_classifier()
        last.weight /= logits.std(dim=0)[:, None]
        last.bias.sub_(logits.mean(dim=0)).div_(logits.std(dim=0))
    path, half = folder / "model.onnx", folder / "half.onnx"
    export_onnx(classifier, record, path)
    # Not with export_model, whose tolerance for fp16 is too small for random
    # weights; the suite has its own check.
    write_onnx(classifier, record, half, "fp16")
    return path, half, exported


def host_images(files: list[Path], scale: Scale, count: int) -> NDArray[np.uint8]:
    """uint8 [count, size, size, 3], repeated if need be."""
    from melfast.data.native import NativeLoader
    from melfast.data.plan import evaluation_plan

    paths = (files * -(-count // len(files)))[:count]
    plan = evaluation_plan(count, batch_size=count)
    (batch,) = NativeLoader(paths, Preprocess(scale.size, scale.size), plan, dtype=np.uint8)
    return batch.images.copy()


@contextmanager
def tf32(torch: Any) -> Iterator[None]:
    """Allows TF32 in torch as well, the default of ONNX Runtime and TensorRT."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def world_of(scale: Scale) -> "World":
    import torch

    from melfast.distributed import World

    return World(device=torch.device(scale.device))


def finish(scale: Scale) -> None:
    """Waits for the device."""
    import torch

    if scale.device == "cuda":
        torch.cuda.synchronize()
