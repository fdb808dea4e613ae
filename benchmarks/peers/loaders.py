"""File-to-batch loaders: each is a context that yields `epoch()`, which iterates normalised batches.

All take the same arguments and return float32 [B, H, W, 3] (or a view of that shape): decoded,
resized (stretched, antialiased) and normalised with ImageNet's mean and std. Set-up, worker
processes included, happens once, outside of what is timed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melfast.data.preprocess import RGB_MEAN, RGB_STD, Preprocess

Batches = Iterator[NDArray[np.float32]]
Epoch = Callable[[], Batches]


@contextmanager
def melfast(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
    """NativeLoader."""
    from melfast.data.native import NativeLoader
    from melfast.data.plan import evaluation_plan

    plan = evaluation_plan(len(paths), batch_size=batch)
    with NativeLoader(paths, Preprocess(size, size), plan, threads=threads) as loader:
        yield lambda: (batch.images for batch in loader)


def training_work(count: int, size: int, batch: int) -> tuple[Any, Preprocess]:
    """The work of training: a plan that rotates, crops and jitters every image, and CIELAB."""
    from melfast.data.augment import Augment
    from melfast.data.plan import Rows, training_plan

    augment = Augment(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    rows = Rows(np.zeros(count, np.int64), np.zeros(count, np.int16))
    plan = training_plan(rows, Preprocess(size, size), augment, batch_size=batch, seed=0, epoch=0)
    return plan, Preprocess.for_colour(size, size, "cielab")


def training_loader(executor: str) -> Callable[..., Any]:
    """NativeLoader or DaliLoader doing the work of training."""

    @contextmanager
    def open_loader(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
        from melfast.data.dali import DaliLoader
        from melfast.data.native import NativeLoader

        plan, preprocess = training_work(len(paths), size, batch)
        make: Any = NativeLoader if executor == "native" else DaliLoader
        with make(paths, preprocess, plan, threads=threads) as loader:
            yield lambda: (batch.images for batch in loader)

    return open_loader


class TorchTraining:
    """The same work with Pillow and OpenCV, as a map-style dataset."""

    def __init__(self, paths: Sequence[Path], size: int, batch: int) -> None:
        plan, self.preprocess = training_work(len(paths), size, batch)
        self.paths = [str(paths[row]) for row in plan.index]
        to_centred = np.array([[2 / size, 0, 1 / size - 1], [0, 2 / size, 1 / size - 1], [0, 0, 1]])
        whole = np.concatenate([plan.affine, np.zeros((len(plan.affine), 1, 3))], axis=1)
        whole[:, 2, 2] = 1
        self.matrices = (np.linalg.inv(to_centred) @ whole @ to_centred)[:, :2]
        self.jitter, self.size = plan.jitter, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        import cv2
        from PIL import Image

        cv2.setNumThreads(0)
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = (
            cv2.warpAffine(
                np.asarray(image),
                self.matrices[index],
                (self.size, self.size),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            ).astype(np.float32)
            / 255
        )
        pixels = np.clip(cv2.transform(pixels, self.jitter[index]), 0, 1)
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        mean, std = self.preprocess.mean, self.preprocess.std
        return ((lab - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


@contextmanager
def torch_training(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
    """torch DataLoader over TorchTraining."""
    yield from _epochs(TorchTraining(paths, size, batch), threads, batch)


def _epochs(dataset: Any, threads: int, batch: int) -> Iterator[Epoch]:
    """Epochs of a DataLoader; its worker processes live as long as the iterator."""
    from torch.utils.data import DataLoader

    # Not fork, which would copy the threads of the other contestants in an undefined state.
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=batch, num_workers=threads, persistent_workers=True, multiprocessing_context="forkserver"
    )
    yield lambda: (images.permute(0, 2, 3, 1).numpy() for images in loader)


class TorchImages:
    """A map-style dataset. At module level, because worker processes must find it by name."""

    def __init__(self, paths: Sequence[Path], size: int, decoder: str) -> None:
        self.paths, self.size, self.decoder = [str(path) for path in paths], size, decoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        from torchvision.transforms import functional

        image = functional.resize(self.decode(index), [self.size, self.size], antialias=True)
        pixels = functional.to_tensor(image) if self.decoder != "torchvision" else image.float() / 255
        return functional.normalize(pixels, RGB_MEAN, RGB_STD)

    def decode(self, index: int) -> Any:
        if self.decoder == "torchvision":
            from torchvision.io import ImageReadMode, decode_jpeg, read_file

            return decode_jpeg(read_file(self.paths[index]), mode=ImageReadMode.RGB)
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            if self.decoder == "draft":
                image.draft("RGB", (self.size, self.size))
            return image.convert("RGB")


def torch_loader(decoder: str) -> Callable[..., Any]:
    """torch DataLoader over `threads` worker processes that live as long as the context.

    decoder: `pil` (the usual idiom), `draft` (PIL's scaled decode) or `torchvision` (its own).
    """

    @contextmanager
    def open_loader(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
        yield from _epochs(TorchImages(paths, size, decoder), threads, batch)

    return open_loader


class ListReader:
    """Paths as timm's ImageDataset reads them; at module level like TorchImages."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return open(self.paths[index], "rb"), 0


@contextmanager
def timm_loader(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
    """timm.data.create_loader, called as in timm's validate.py on the CPU; images are stretched."""
    import timm.data
    import torch

    loader: Any = timm.data.create_loader(
        timm.data.ImageDataset(root="", reader=ListReader(paths)),
        (3, size, size),
        batch,
        interpolation="bilinear",
        mean=RGB_MEAN,
        std=RGB_STD,
        num_workers=threads,
        crop_pct=1.0,
        crop_mode="squash",
        device=torch.device("cpu"),
        use_prefetcher=False,
    )
    loader.multiprocessing_context = "forkserver"  # see _epochs
    yield lambda: (images.permute(0, 2, 3, 1).numpy() for images, _ in loader)


@contextmanager
def dali_cpu(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
    """DALI's CPU operators; no GPU is touched.

    The files come from an external source that ends with the epoch: a reader that runs on would
    have the first batches of the next timed epoch ready before its clock starts.
    """
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline
    from nvidia.dali.types import FLOAT, INTERP_TRIANGULAR, RGB

    class Files:
        def __iter__(self) -> Iterator[list[NDArray[np.uint8]]]:
            for first in range(0, len(paths), batch):
                yield [np.fromfile(path, np.uint8) for path in paths[first : first + batch]]

    mean, std = [255 * value for value in RGB_MEAN], [255 * value for value in RGB_STD]
    with Pipeline(batch_size=batch, num_threads=threads, device_id=None) as pipe:
        encoded: Any = fn.external_source(source=Files(), cycle="raise")
        images: Any = fn.decoders.image(encoded, device="cpu", output_type=RGB)
        images = fn.resize(images, size=[size, size], interp_type=INTERP_TRIANGULAR, antialias=True)
        layout = {"dtype": FLOAT, "output_layout": "HWC"}
        pipe.set_outputs(fn.crop_mirror_normalize(images, mean=mean, std=std, **layout))
    pipe.build()

    def epoch() -> Batches:
        pipe.reset()
        for _ in range(0, len(paths), batch):
            (images,) = pipe.run()
            yield np.asarray(images.as_tensor())

    yield epoch


@contextmanager
def opencv(paths: Sequence[Path], size: int, threads: int, batch: int) -> Iterator[Epoch]:
    """OpenCV in a pool of threads: imread, area resize, normalise."""
    import cv2

    cv2.setNumThreads(0)  # we start the threads; a second level of threads would compete for the cores
    scale = (1 / (255 * np.array(RGB_STD))).astype(np.float32)
    offset = (-np.array(RGB_MEAN) / RGB_STD).astype(np.float32)

    def load(path: Path, out: NDArray[np.float32]) -> None:
        image = cv2.imread(os.fspath(path), cv2.IMREAD_COLOR_RGB)
        assert image is not None, path
        small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        np.multiply(small, scale, out=out)
        out += offset

    # Memory for the whole epoch, allocated once: no waiting for buffers, no page faults.
    images = np.zeros((len(paths), size, size, 3), np.float32)
    with ThreadPoolExecutor(threads) as pool:

        def epoch() -> Batches:
            jobs: list[Future[None]] = [pool.submit(load, *job) for job in zip(paths, images, strict=True)]
            for first in range(0, len(paths), batch):
                for job in jobs[first : first + batch]:
                    job.result()
                yield images[first : first + batch]

        yield epoch


@contextmanager
def scaled_decode(paths: Sequence[Path], size: int, threads: int) -> Iterator[Callable[[], int]]:
    """simplejpeg's scaled decode alone, from bytes in memory, to an image at least `size` large.

    It produces no batches: this is the limit for any loader with this decoder.
    """
    import simplejpeg

    encoded = {path: path.read_bytes() for path in set(paths)}

    def work(todo: Iterator[Path]) -> int:
        done = 0
        for path in todo:  # threads share it: next() on a list's iterator is atomic
            simplejpeg.decode_jpeg(encoded[path], min_height=size, min_width=size)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        yield lambda: sum(pool.map(work, [iter(list(paths))] * threads))
