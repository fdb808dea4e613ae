"""DaliLoader: a plan carried out by NVIDIA DALI's stock operators, on the CPU or a GPU.

    feeder threads:  read -> check -> bytes, mask plane and numbers of each record, batches ahead
    DALI:            decode -> resize -> warp -> skin-former -> jitter -> mask -> erase -> normalise

The steps and their order are those of core.prepare; tests hold the two together. DALI stops at a
bad file and cannot go on, so every file is decoded once before DALI sees it: by `melfast prepare
check`, or here the first time that it is read.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melfast.data.batch import Batch
from melfast.data.dali_graph import Parts, build_pipeline
from melfast.data.loader import Loader
from melfast.data.plan import EpochPlan, working_size
from melfast.data.retouch import require_mask
from melfast.errors import ImageError
from melfast.images import decode_image, read_bytes
from melfast.preprocess import Preprocess

Device = Literal["cpu", "gpu"]

# Files that were decoded in full by this process: path to size in bytes.
_decoded: dict[str, int] = {}


class DaliLoader(Loader):
    """The DALI executor; see Loader. On a GPU its batches hold torch tensors on the device."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        preprocess: Preprocess,
        plan: EpochPlan,
        *,
        device: Device = "cpu",
        device_id: int = 0,
        checked: NDArray[np.bool_] | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            device: where the images are made; JPEGs are decoded on the GPU too.
            device_id: which GPU.
            checked: bool [len(paths)], files that are known to be whole.
            options: of Loader.
        Raises:
            InputError: DALI is not installed.
        """
        super().__init__(paths, preprocess, plan, **options)
        self.device, self.device_id, self.checked = device, device_id, checked

    def _batches(self) -> Generator[Batch]:
        records = list(self.plan.batches(self.start))
        if not records:
            return
        parts = Parts.of(self.plan, self.preprocess, self.dtype)
        feeder = _Feeder(self, parts, records)
        largest = max(1, *(r.stop - r.start for r in records))
        gpu = self.device_id if self.device == "gpu" else None
        pipeline = build_pipeline(
            iter(feeder), parts, self.preprocess, batch_size=largest, threads=self.threads,
            device_id=gpu, prefetch=self.prefetch,
        )  # fmt: skip
        kept: deque[Any] = deque(maxlen=2)  # a GPU may still read what was given before
        made = None
        try:
            for _ in records:
                while not feeder.fed:
                    made = _run(pipeline)
                fed = feeder.fed.popleft()
                if fed.failures and self.on_error == "raise":
                    raise fed.failures[0]
                images: Any = np.empty((0, *parts.size, 3), self.dtype)
                if len(fed.index):
                    (output,) = made if made is not None else pipeline.run()
                    made = None
                    kept.append(output)
                    images = _images(output, gpu is not None)
                yield Batch(images, fed.index, fed.failures)
        finally:
            feeder.close()
            kept.clear()
            del pipeline


@dataclass(frozen=True)
class _Fed:
    """A batch that DALI was given; without an image it was not."""

    index: NDArray[np.int64]
    failures: tuple[ImageError, ...]


class _Feeder:
    """What DALI's external source takes, batch after batch; `fed` says what it was."""

    def __init__(self, loader: DaliLoader, parts: Parts, records: list[slice]) -> None:
        self.loader, self.parts = loader, parts
        self.fed: deque[_Fed] = deque()
        self._todo = deque(records)
        self._ahead: deque[tuple[slice, list[Future[Any]]]] = deque()
        self._pool = ThreadPoolExecutor(loader.threads, thread_name_prefix="melfast-feeder")

    def __iter__(self) -> Iterator[list[list[NDArray[Any]]]]:
        while self._todo or self._ahead:
            while self._todo and len(self._ahead) < self.loader.prefetch:
                self._submit(self._todo.popleft())
            records, futures = self._ahead.popleft()
            found = [future.result() for future in futures]
            good = [i for i, inputs in enumerate(found) if not isinstance(inputs, ImageError)]
            index = self.loader.plan.index[records][good]
            failures = tuple(entry for entry in found if isinstance(entry, ImageError))
            self.fed.append(_Fed(index, failures))
            if failures and self.loader.on_error == "raise":
                return
            if good:
                yield [list(column) for column in zip(*(found[i] for i in good), strict=True)]

    def _submit(self, records: slice) -> None:
        numbers = range(records.start, records.stop)
        self._ahead.append((records, [self._pool.submit(self._load, r) for r in numbers]))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _load(self, record: int) -> tuple[NDArray[Any], ...] | ImageError:
        """A record's inputs, as `Parts.inputs` names them."""
        loader, plan, size = self.loader, self.loader.plan, self.parts.size
        row = int(plan.index[record])
        path, affine = loader.paths[row], plan.affine[record]
        try:
            encoded = self._read(row)
            inputs: list[NDArray[Any]] = [np.frombuffer(encoded, np.uint8)]
            working = working_size(affine, *size)
            if self.parts.warp:
                inputs += [np.array(working, np.float32), pixel_matrix(affine, working, size)]
            if self.parts.mask:
                inputs += self._mask(record, path)
        except ImageError as error:
            return ImageError(error.path, error.reason)
        if self.parts.former:
            assert plan.gains is not None
            gains = plan.gains[record] if plan.is_moved(record) else _STILL
            inputs += list(gains.T.copy())
        if self.parts.jitter:
            assert plan.jitter is not None
            inputs.append(plan.jitter[record] * np.array([1, 1, 1, 255], np.float32))
        if self.parts.erase:
            assert plan.erase is not None
            box = plan.erase[record].astype(np.float32)
            inputs += [box[:2], box[2:] - box[:2]]
        return tuple(inputs)

    def _read(self, row: int) -> bytes:
        path, checked = str(self.loader.paths[row]), self.loader.checked
        encoded = read_bytes(path)
        if _decoded.get(path) != len(encoded) and (checked is None or not checked[row]):
            try:
                decode_image(encoded, min_height=1, min_width=1)
            except ValueError as error:
                raise ImageError(path, str(error)) from None
            _decoded[path] = len(encoded)
        return encoded

    def _mask(self, record: int, path: str | Path) -> list[NDArray[Any]]:
        """The mask's plane, and whether all but the lesion is made black."""
        loader, plan = self.loader, self.loader.plan
        masked = plan.masked is not None and bool(plan.masked[record])
        plane = np.full((*self.parts.size, 1), 255, np.uint8)
        if plan.needs_mask(record):
            plane = require_mask(plan, record, path, loader.masks, loader.preprocess)[..., None]
        return [plane, np.full(1, float(masked), np.float32)]


# Curves of light that leave it as it is.
_STILL = np.array([[1, 1, 0]] * 3, np.float32)


def pixel_matrix(
    affine: NDArray[np.float32], working: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float32]:
    """A plan's matrix in pixels: of an output of `size` to an input of `working` size, both
    (height, width), x before y, pixel i reaching from i to i + 1."""
    to_centred = np.array([[2 / size[1], 0, -1], [0, 2 / size[0], -1], [0, 0, 1]])
    to_pixels = np.array([[working[1] / 2, 0, working[1] / 2], [0, working[0] / 2, working[0] / 2]])
    whole = np.concatenate([affine.astype(np.float64), [[0, 0, 1]]])
    return (to_pixels @ whole @ to_centred).astype(np.float32)


def _run(pipeline: Any) -> Any:
    """The next output; None where the source has ended with batches that hold no image."""
    try:
        return pipeline.run()
    except StopIteration:
        return None


def _images(output: Any, on_gpu: bool) -> Any:
    if on_gpu:
        import torch

        return torch.from_dlpack(output.as_tensor())
    return np.asarray(output.as_tensor())
