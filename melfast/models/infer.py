"""Compute logits of many images, each exactly once, in one process or several."""

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
from melfast.data.plan import Rank, evaluation_plan
from melfast.data.preprocess import Preprocess
from melfast.data.views import require_views
from melfast.distributed import World
from melfast.io.errors import ImageError, InputError
from melfast.io.words import check_words
from melfast.models.decode import decode
from melfast.models.record import ModelRecord
from melfast.models.running import Ask, InferenceSettings, in_pieces, run_batches, take_usable

DEFAULT = InferenceSettings()
# Images per CPU thread at a time. Fixed, because the number of threads that share an operation affects
# its last bits; this way 1, 2 and 4 processes give the same result.
PIECE = 8


@dataclass(frozen=True)
class Inference:
    """Outputs of a model for the images that could be read.

    Attributes:
        index: int64 [N], index in the list of files, ascending.
        logits: float32 [N, V * K], the K logits of each of V views in turn.
        failures: one for each file that could not be read.
    """

    index: NDArray[np.int64]
    logits: NDArray[np.float32]
    failures: tuple[ImageError, ...] = ()

    def probabilities(self, record: ModelRecord, groups: NDArray[np.int16]) -> NDArray[np.float64]:
        """P(malignant) [N], the mean over the views; float64 like the threshold, which float32 would
        round.

        Args:
            groups: tone groups [N] as indices into record.groups, -1 unknown.
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
    """Runs a model (in eval mode, on `world.device`) on image files.

    Each process receives whole batches and the results are gathered, so every process returns the same
    complete result; on the CPU it is bit-identical for any number of processes and threads.

    Args:
        images: with lesion masks, for a masked `preprocess`.
        advance: called with the number of images that this process has done since the last call.
    Raises:
        ImageError: a file cannot be read or its result is not a number, under `on_error="raise"`.
        InputError: this happens for all files.
    """
    files, share = ImageList.of(images), Rank(world.rank, world.size)
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
    # Host-device sync, once: all logits are copied to the host together.
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

    On the CPU each thread processes PIECE images alone, which is also faster than sharing every
    operation among all threads.
    """

    def whole(images: torch.Tensor) -> tuple[torch.Tensor]:
        # Both apply only to the thread that enters them.
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
        torch.set_num_threads(threads)  # of all libraries; some settings of a worker are global
