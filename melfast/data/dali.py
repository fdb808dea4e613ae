"""DaliLoader: files to batches with NVIDIA DALI, on the CPU or on a GPU.

threads:   read the files ahead and check those not seen before (melfast.data.dali_feed)
DALI:      decodes and processes the records in its own threads (melfast.data.dali_graph)
consumer:  gives DALI the next files and takes the oldest batch
"""

import importlib.util
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np

from melfast.data.batch import Batch
from melfast.data.dali_feed import Feed
from melfast.data.image_list import ImageList
from melfast.data.loader import LoaderOptions, PlanLoader
from melfast.data.plan import EpochPlan
from melfast.data.preprocess import Preprocess
from melfast.io.errors import InputError
from melfast.io.words import check_words

Device = Literal["cpu", "gpu"]
INSTALL = "pip install nvidia-dali-cuda130"


class DaliLoader(PlanLoader):
    """The same batches as NativeLoader, except that DALI decodes and resamples slightly differently.

    On the GPU the images of a batch are a torch tensor on torch's current device and stream; on the
    CPU they are a NumPy array. Both use DALI's own memory without a copy.
    """

    @check_words
    def __init__(
        self,
        images: Sequence[str | Path] | ImageList,
        preprocess: Preprocess,
        plan: EpochPlan,
        *,
        device: Device = "cpu",
        **options: Unpack[LoaderOptions],
    ) -> None:
        """
        Args:
            device: where DALI runs; `gpu`: torch's current CUDA device.
            images: images of an ImageList that are marked `checked` are not checked again.
            others: as for PlanLoader; `threads` threads read and as many work in DALI.
        Raises:
            InputError: DALI is not installed, or there is no GPU.
        """
        super().__init__(images, preprocess, plan, **options)
        require_dali(device)
        self.device = device

    def _batches(self) -> Generator[Batch]:
        from melfast.data.dali_graph import build_pipeline

        feed = Feed(
            self.images,
            self.preprocess,
            self.plan,
            start=self.start,
            threads=self.threads,
            prefetch=self.prefetch,
            stop_at_failure=self.on_error == "raise",
        )
        pipe: Any = None
        try:
            pipe = build_pipeline(
                feed,
                feed.names,
                self.preprocess,
                self.dtype,
                device_id=self._device_id(),
                batch_size=max(1, self.largest_batch),
                threads=self.threads,
                prefetch=self.prefetch,
            )
            more = True
            while more:
                images = self._run(pipe)
                more = images is not None
                while feed.given:
                    work = feed.given.popleft()
                    if work.failures and self.on_error == "raise":
                        raise work.failures[0]
                    index = self.plan.index[work.records]
                    group = self.plan.groups_of(work.records)
                    if len(index):
                        yield Batch(images, index, work.failures, group)
                        break
                    yield Batch(self._no_images(), index, work.failures, group)
        finally:
            feed.close()
            pipe = None  # the traceback of an error would keep it and its threads alive

    def _device_id(self) -> int | None:
        if self.device == "cpu":
            return None
        import torch

        return torch.cuda.current_device()

    def _run(self, pipe: Any) -> Any:
        """The images of the next non-empty batch; None after the last."""
        try:
            if self.device == "cpu":
                (images,) = pipe.run()
                return np.asarray(images.as_tensor())
            import torch

            # Bound to torch's stream: the host does not wait, and DALI reuses the memory
            # only after the work that torch has queued on it.
            (images,) = pipe.run(cuda_stream=torch.cuda.current_stream())
            return torch.from_dlpack(images.as_tensor())
        except StopIteration:
            return None
        except RuntimeError as error:  # a file changed after its check; DALI does not say which
            first = str(error).strip().splitlines()[0]
            raise InputError(f"DALI failed: {first}; `loader=native` names the file") from None

    def _no_images(self) -> Any:
        empty = np.empty((0, self.preprocess.height, self.preprocess.width, 3), self.dtype)
        if self.device == "cpu":
            return empty
        import torch

        return torch.from_numpy(empty).cuda()


@check_words
def require_dali(device: Device) -> None:
    """
    Raises:
        InputError: DALI is not installed, or there is no GPU.
    """
    if not _installed("nvidia.dali"):
        raise InputError(f"loader dali-{device}: NVIDIA DALI is not installed: {INSTALL}")
    if device == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise InputError("loader dali-gpu: found no CUDA device (dali-cpu works without one)")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not installed either
        return False
