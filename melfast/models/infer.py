"""Logits of many images, each exactly once, on one process or several."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melfast.data.feed import autocast, feed, open_loader
from melfast.data.image_list import ImageList
from melfast.data.loader import Precision
from melfast.data.plan import Share, evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.data.views import require_views
from melfast.distributed import World
from melfast.io.errors import ImageError, InputError
from melfast.io.words import check_words
from melfast.models.decode import decode
from melfast.models.record import ModelRecord
from melfast.models.running import Ask, InferenceSettings, in_pieces, run_batches, take_usable

DEFAULT = InferenceSettings()
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
    settings: InferenceSettings = DEFAULT,
    *,
    advance: Callable[[int], None] = lambda images: None,
) -> Inference:
    """Runs a model, which stands on `world.device` in eval mode, over image files.

    Whole batches are dealt to the processes and their results gathered, so every process returns
    the same whole result, on the CPU to the last bit however many processes and threads there are.

    Args:
        images: with lesion masks, for a masked `preprocess`.
        advance: told how many images this process has done since it was last told.
    Raises:
        ImageError: a file cannot be read or the model gives no number for it, under `on_error="raise"`.
        InputError: that is so of all files.
    """
    files, share = ImageList.of(images), Share(world.rank, world.size)
    plan = evaluation_plan(len(files), batch_size=settings.batch_size, share=share, masked=preprocess.masked)
    views = require_views(settings.tta, preprocess)
    index: list[NDArray[np.int64]] = []
    logits: list[torch.Tensor] = []
    failures: list[ImageError] = []
    batches = open_loader(files, preprocess, plan, world, settings)
    with batches, asking(model, world, settings.precision) as ask:
        for batch, by_view in run_batches(feed(batches, world.device), ask, views, planes=True):
            failures.extend(batch.failures)
            if by_view:
                logits.append(torch.cat([found for (found,) in by_view], dim=1))
                index.append(batch.index)
            advance(len(batch.index) + len(batch.failures))
    # Host-device sync, once: the logits come to the host together.
    mine = (np.concatenate(index), torch.cat(logits).cpu().numpy()) if index else None
    parts = world.gather((mine, failures))
    found = [part for part, _ in parts if part is not None]
    failed = [failure for _, part in parts for failure in part]
    if found:
        all_index, all_logits = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(all_index)
        all_index, all_logits = all_index[order], all_logits[order]
        usable, others = take_usable(all_logits, [files.paths[i] for i in all_index], settings.on_error)
        failed.extend(others.values())
        assert len(np.unique(all_index)) == len(all_index), "an image was seen twice"
    if not found or not usable.any():
        raise InputError(f"none of the {len(files)} images can be used; the first: {failed[0]}")
    return Inference(all_index[usable], all_logits[usable], tuple(failed))


@check_words
@contextlib.contextmanager
def asking(model: torch.nn.Module, world: World, precision: Precision) -> Iterator[Ask]:
    """The model as a function of images [B, 3, H, W], without gradients; float32 logits [B, K].

    On the CPU each thread answers for PIECE images alone, with torch's threads as many; faster,
    too, than all threads at every operation.
    """

    def whole(images: torch.Tensor) -> tuple[torch.Tensor]:
        # Both are of the thread that enters them.
        with torch.inference_mode(), autocast(world.device, precision):
            return (model(images).float(),)

    if world.device.type != "cpu":
        yield lambda images, index: whole(images)
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "infer", torch.set_num_threads, (1,)) as pool:
            yield lambda images, index: (torch.cat([part for (part,) in in_pieces(pool, whole, PIECE, images)]),)
    finally:
        torch.set_num_threads(threads)  # of all libraries; what a worker sets is partly global
