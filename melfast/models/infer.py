"""Logits of many images, each exactly once, on one process or several."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.data.feed import Precision, autocast, feed, open_loader
from melfast.data.image_list import ImageList
from melfast.data.loader import LoaderName, OnError
from melfast.data.plan import Share, evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.data.views import Tta, View, require_views
from melfast.distributed import World
from melfast.io.errors import ImageError, InputError
from melfast.models.decode import decode
from melfast.models.record import ModelRecord

# Always the same, so that training and `melfast evaluate` see the same batches.
BATCH_SIZE = 64
# Images that one thread of the CPU works through at a time. A number of its own, for how many
# threads share an operation decides its last bits: so 1, 2 and 4 processes say the same.
PIECE = 8


@dataclass(frozen=True)
class Inference:
    """What a model says of the images that could be read.

    Attributes:
        index: int64 [N], place in the list of files, ascending.
        logits: float32 [N, V * K], the K logits of each of V views one after the other.
        failures: one a file that could not be read.
    """

    index: NDArray[np.int64]
    logits: NDArray[np.float32]
    failures: tuple[ImageError, ...] = ()

    def probabilities(self, record: ModelRecord, groups: NDArray[np.int16]) -> NDArray[np.float64]:
        """P(malignant) [N], the mean over the views; float64, as the threshold is: float32 would
        round that.

        Args:
            groups: [N] tone groups by their index in record.groups, -1 unknown.
        """
        group_b = torch.from_numpy(groups.astype(np.int64))
        views = torch.from_numpy(self.logits).split(record.num_logits, dim=1)
        by_view = [decode(logits, record, group_b).double().numpy() for logits in views]
        mean: NDArray[np.float64] = np.mean(by_view, axis=0)
        return mean


def infer(
    model: torch.nn.Module,
    images: Sequence[Path] | ImageList,
    preprocess: Preprocess,
    world: World,
    *,
    loader: LoaderName = "auto",
    batch_size: int = BATCH_SIZE,
    precision: Precision = "fp32",
    threads: int = 0,
    on_error: OnError = "raise",
    tta: Tta = "none",
    advance: Callable[[int], None] = lambda images: None,
) -> Inference:
    """Runs a model, which stands on `world.device` in eval mode, over image files.

    Whole batches are dealt to the processes and their results gathered, so every process returns
    the same whole answer, on the CPU to the last bit however many processes and threads there are.

    Args:
        images: files, with lesion masks for a masked `preprocess`.
        loader: see open_loader.
        tta: of which views of each image the model is asked, see melfast.data.views.
        advance: told how many images this process has done since it was last told.
    Raises:
        ImageError: a file cannot be read, under `on_error="raise"`.
        InputError: no file at all could be read, or the model gives no number for one.
    """
    files = ImageList.of(images)
    plan = evaluation_plan(
        len(files), batch_size=batch_size, share=Share(world.rank, world.size), masked=preprocess.masked
    )
    views = require_views(tta, preprocess)
    index: list[NDArray[np.int64]] = []
    logits: list[torch.Tensor] = []
    failures: list[ImageError] = []
    batches = open_loader(
        files, preprocess, plan, world, loader=loader, threads=threads, on_error=on_error, precision=precision
    )
    with batches, answering(model, world, precision) as answer:
        for pixels, batch in feed(batches, world.device):
            failures.extend(batch.failures)
            if len(batch.index):
                logits.append(torch.cat([answer(_viewed(pixels, v)) for v in views], dim=1))
                index.append(batch.index)
            advance(len(batch.index) + len(batch.failures))
    # Host-device sync, once: the logits come to the host together.
    mine = (np.concatenate(index), torch.cat(logits).cpu().numpy()) if index else None
    parts = world.gather((mine, failures))
    found = [part for part, _ in parts if part is not None]
    failed = tuple(failure for _, part in parts for failure in part)
    if not found:
        raise InputError(f"none of the {len(files)} images can be read; the first: {failed[0]}")
    all_index = np.concatenate([part[0] for part in found])
    order = np.argsort(all_index)
    all_logits = np.concatenate([part[1] for part in found])
    if (bad := np.flatnonzero(~np.isfinite(all_logits).all(axis=1))).size:
        raise InputError(
            f"the model's answer is not a number for {bad.size} of {len(all_index)} images, "
            f"the first: {files.paths[all_index[bad[0]]]}"
        )
    assert len(np.unique(all_index)) == len(all_index), "an image was seen twice"
    return Inference(all_index[order], all_logits[order], failed)


@contextlib.contextmanager
def answering(
    model: torch.nn.Module, world: World, precision: Precision
) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """The model as a function of images [B, 3, H, W], without gradients; float32 logits [B, K].

    On the CPU each thread answers for PIECE images alone, with torch's threads as many; faster,
    too, than all threads at every operation.
    """

    def whole(images: torch.Tensor) -> torch.Tensor:
        # Both are of the thread that enters them.
        with torch.inference_mode(), autocast(world.device, precision):
            logits: torch.Tensor = model(images).float()
            return logits

    if world.device.type != "cpu":
        yield whole
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "infer", torch.set_num_threads, (1,)) as pool:
            yield lambda images: torch.cat(list(pool.map(whole, images.split(PIECE))))
    finally:
        torch.set_num_threads(threads)  # of all libraries; what a worker sets is partly global


def _viewed(images_b3hw: torch.Tensor, view: View) -> torch.Tensor:
    turned = images_b3hw.transpose(2, 3) if view.transpose else images_b3hw
    flipped = [axis for axis, wanted in ((2, view.flip_y), (3, view.flip_x)) if wanted]
    return turned.flip(flipped) if flipped else turned
