"""Load files to the device: the loader with this machine's settings, and its batches as tensors."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.data.batch import Batch
from melfast.data.image_list import ImageList
from melfast.data.loader import LoaderName, LoaderSettings, PlanLoader, Precision, available_cores
from melfast.data.native import NativeLoader
from melfast.data.plan import EpochPlan
from melfast.data.preprocess import Preprocess
from melfast.distributed import World
from melfast.io.errors import InputError
from melfast.io.words import check_words

DEFAULT = LoaderSettings()
AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@check_words
def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Mixed precision of the given name; `fp32` does nothing."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, dtype=AUTOCAST[precision], enabled=enabled)


def set_tf32(wanted: bool) -> None:
    """Sets whether CUDA may multiply fp32 values as TF32; torch allows it for convolutions by default."""
    torch.backends.cuda.matmul.allow_tf32 = wanted
    torch.backends.cudnn.allow_tf32 = wanted


def set_threads(threads: int, world: World) -> None:
    """Sets the number of torch threads of this process; 0: its share of the cores.

    Set explicitly because torchrun sets OMP_NUM_THREADS=1 for each of several processes.
    """
    torch.set_num_threads(threads or max(1, available_cores() // world.local_size))


@check_words
def choose_loader(loader: LoaderName, device: str) -> tuple[LoaderName, str]:
    """The executor to use, and why.

    Args:
        device: "cpu" or "cuda", where the model runs.
    Raises:
        InputError: the requested one cannot be used here.
    """
    if loader == "native":
        return "native", "as requested"
    if loader == "auto":
        if device == "cuda":
            return "native", "dali-gpu has not been measured yet: try `loader=dali-gpu`"
        return "native", "3 times as fast as dali-cpu where measured"
    from melfast.data.dali import require_dali

    require_dali("gpu" if loader == "dali-gpu" else "cpu")
    if loader == "dali-gpu" and device != "cuda":
        raise InputError(f"`loader=dali-gpu` needs a CUDA device, the model runs on {device}")
    return loader, "as requested"


def open_loader(
    images: Sequence[Path] | ImageList,
    preprocess: Preprocess,
    plan: EpochPlan,
    world: World,
    settings: LoaderSettings = DEFAULT,
    *,
    start: int = 0,
) -> PlanLoader:
    """A loader for `feed`; raises InputError if the requested one cannot be used."""
    name, _ = choose_loader(settings.loader, world.device.type)
    cuda = world.device.type == "cuda"
    options: dict[str, Any] = {
        "start": start,
        "on_error": settings.on_error,
        "threads": settings.threads or max(1, available_cores() // world.local_size),
        "dtype": np.float16 if cuda and settings.precision != "fp32" else np.float32,
    }
    if name == "native":
        allocate = _pinned if cuda else np.empty
        return NativeLoader(images, preprocess, plan, allocate=allocate, **options)
    from melfast.data.dali import DaliLoader

    device: Any = name.removeprefix("dali-")
    return DaliLoader(images, preprocess, plan, device=device, **options)


def feed(loader: PlanLoader, device: torch.device) -> Iterator[tuple[torch.Tensor, Batch]]:
    """Yields the images of each batch [B, 3, H, W] on the device, channels last, and the batch itself.

    Both are valid until the next batch is requested.
    """
    copies = torch.cuda.Stream(device) if device.type == "cuda" else None
    for batch in loader:
        if isinstance(batch.images, torch.Tensor):  # made on the device
            yield _channels_first(batch.images), batch
            continue
        images = torch.from_numpy(batch.images)
        if copies is not None:
            with torch.cuda.stream(copies):
                images = images.to(device, non_blocking=True)
            # Host-device sync with the copy only: the previous step still runs meanwhile,
            # and the loader may now write to its memory again.
            copies.synchronize()
            images.record_stream(torch.cuda.current_stream(device))
        yield _channels_first(images), batch


def _channels_first(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2)  # a view: NHWC memory is torch's channels_last


def _pinned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    torch_dtype = torch.float16 if dtype == np.float16 else torch.float32
    array: NDArray[Any] = torch.empty(shape, dtype=torch_dtype, pin_memory=True).numpy()
    return array
