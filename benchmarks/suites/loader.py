"""Suite loader: JPEG files to normalised 224 px float32 batches on the CPU."""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import images
from benchmarks.harness import CheckFailedError, Contestant, Run, suite
from benchmarks.peers import loaders
from benchmarks.peers.loaders import Epoch
from melfast.data.preprocess import RGB_MEAN, RGB_STD

SIZE, BATCH = 224, 32
COPY_SIDE = 288
IMAGES_PER_RUN = 200  # minimum; shorter runs would measure the start and the end of an epoch

# Against a full decode and a resize in floating point, per image, over 8-bit units. Half a pixel of
# shift costs a detailed image 20 dB; wrong order, channels or normalisation give less than 20 dB.
MEDIAN_PSNR_DB, LEAST_PSNR_DB = 40, 25


@dataclass(frozen=True)
class Entry:
    """A loader to compare: the module it needs, and the target for large images."""

    name: str
    open: Callable[..., AbstractContextManager[Epoch]]
    needs: str
    target: float | None = None


ENTRIES = (
    Entry("melfast native", loaders.melfast, "melfast"),
    Entry("torch DataLoader, PIL", loaders.torch_loader("pil"), "torchvision", 3.5),
    Entry("torch DataLoader, PIL draft", loaders.torch_loader("draft"), "torchvision"),
    Entry("torch DataLoader, torchvision", loaders.torch_loader("torchvision"), "torchvision"),
    Entry("timm create_loader", loaders.timm_loader, "timm"),
    Entry("DALI cpu", loaders.dali_cpu, "nvidia.dali", 3.5),
    Entry("OpenCV threads", loaders.opencv, "cv2"),
)
LIMIT = "simplejpeg scaled decode alone"
LIMIT_TARGET = 0.85


@suite("loader")
def loader(run: Run) -> None:
    """JPEG files in the page cache to normalised 224 px float32 batches, images per second."""
    with images.groups(run.data) as (source, groups):
        run.note(f"{source}; {run.threads} threads or worker processes each, batches of {BATCH}")
        for name in (images.LARGE, images.SMALL):
            if groups.get(name):
                race(run, name, groups[name])
                train(run, name, groups[name])
            else:
                run.miss(f"images {name}", f"none in {source}")


def race(run: Run, group: str, files: list[Path]) -> None:
    """Checks and times all loaders on files of one size."""
    run.note(f"{len(files)} images {group}, each {-(-IMAGES_PER_RUN // len(files))} times an epoch")
    paths = files * -(-IMAGES_PER_RUN // len(files))
    wanted = references(files, run.threads)
    large = group == images.LARGE
    with ExitStack() as stack:
        contestants = []
        for entry in ENTRIES:
            if not installed(entry.needs):
                run.miss(entry.name, f"no module {entry.needs}")
                continue
            epoch = stack.enter_context(entry.open(paths, SIZE, run.threads, BATCH))
            check(run, entry.name, epoch, len(paths), wanted)
            target = entry.target if large else None
            contestants.append(Contestant(entry.name, counter(epoch), target))
        decode = stack.enter_context(loaders.scaled_decode(paths, SIZE, run.threads))
        contestants.append(Contestant(LIMIT, decode, LIMIT_TARGET if large else None))
        run.compare(f"{len(files)} images {group}, to {SIZE} px", "images/s", contestants)


# With the work of training: the module needed, and the targets for large and small images.
TRAINING = {
    "torch DataLoader, PIL and OpenCV": (loaders.torch_training, ("torch", "cv2"), 4.0, 2.0),
    "DALI cpu": (loaders.training_loader("dali"), ("nvidia.dali",), 4.0, None),
}
TRAINING_LIMIT_TARGET, COPIES_TARGET = 0.9, 12
# Of normalised CIELAB, whose deviations are about 1.
MOST_APART = 0.05


def train(run: Run, group: str, files: list[Path]) -> None:
    """The same with the work of training: CIELAB, rotated, jittered, in the order of the plan."""
    paths = files * -(-IMAGES_PER_RUN // len(files))
    large = group == images.LARGE
    with ExitStack() as stack:

        def start(open_loader: Callable[..., Any], paths: list[Path]) -> Epoch:
            epoch: Epoch = stack.enter_context(open_loader(paths, SIZE, run.threads, BATCH))
            return epoch

        native = start(loaders.training_loader("native"), paths)
        first = np.array(next(iter(native())))
        contestants = [Contestant("melfast native", counter(native))]
        for name, (open_loader, needs, if_large, if_small) in TRAINING.items():
            if missing := [module for module in needs if not installed(module)]:
                run.miss(f"training, {name}", f"no module {missing[0]}")
                continue
            epoch = start(open_loader, paths)
            apart = float(np.abs(np.asarray(next(iter(epoch()))) - first).mean())
            run.check(f"training, {name}: mean difference to melfast", apart, at_most=MOST_APART)
            target = if_large if large else if_small
            contestants.append(Contestant(name, counter(epoch), target))
        decode = stack.enter_context(loaders.scaled_decode(paths, SIZE, run.threads))
        limit_target = TRAINING_LIMIT_TARGET if large else None
        limit = Contestant(LIMIT, decode, limit_target)
        run.compare(f"training, {len(files)} images {group}", "images/s", [*contestants, limit])
        if large and len(contestants) > 1:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="melfast-bench-")))
            copies = resized_copies(files, folder, run.threads) * (len(paths) // len(files))
            from_copies = start(loaders.training_loader("native"), copies)
            peer = contestants[1]
            run.compare(
                f"training from copies of {COPY_SIDE} px against the originals",
                "images/s",
                [
                    Contestant("melfast native, copies", counter(from_copies)),
                    Contestant(f"{peer.name}, originals", peer.run, COPIES_TARGET),
                ],
            )


def resized_copies(files: list[Path], folder: Path, threads: int) -> list[Path]:
    """JPEGs whose shorter side is COPY_SIDE, as made by `melfast prepare resize`."""

    def copy(number: int) -> Path:
        path = folder / f"{number}.jpg"
        with images.open_image(files[number]) as image:
            scale = COPY_SIDE / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        small.save(path, quality=95, subsampling=0)
        return path

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(copy, range(len(files))))


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not there either
        return False


def counter(epoch: Epoch) -> Callable[[], int]:
    return lambda: sum(len(batch) for batch in epoch())


def references(files: list[Path], threads: int) -> list[NDArray[np.float32]]:
    """Every pixel decoded by Pillow, then its triangle filter in floating point: 0..255."""

    def reference(path: Path) -> NDArray[np.float32]:
        with images.open_image(path) as image:
            bands = image.convert("RGB").split()
        small = [b.convert("F").resize((SIZE, SIZE), Image.Resampling.BILINEAR) for b in bands]
        return np.stack([np.asarray(band) for band in small], axis=-1)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(reference, files))


def check(run: Run, name: str, epoch: Epoch, count: int, wanted: list[NDArray[np.float32]]) -> None:
    """Checks an epoch against the references, which repeat: the right images in the right order."""
    psnr_db, done = [], 0
    for batch in epoch():
        for image in batch:
            if done < len(wanted):
                psnr_db.append(psnr(255 * (image * RGB_STD + RGB_MEAN), wanted[done]))
            done += 1
    if done != count:
        raise CheckFailedError(f"{name} gave {done} images, expected {count}")
    run.check(f"{name}: median PSNR in dB", float(np.median(psnr_db)), at_least=MEDIAN_PSNR_DB)
    run.check(f"{name}: least PSNR in dB", min(psnr_db), at_least=LEAST_PSNR_DB)


def psnr(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of images in 0..255."""
    error = np.square(np.subtract(found, wanted, dtype=np.float64)).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
