"""Engine: runs an exported model. Predictions, parity tests and benchmarks use only engines.

The exported file: one input `images`, uint8 sRGB [B, H, W, 3]; outputs `probability` [B] and
`logits` [B, C], float32; the ModelRecord as JSON in the metadata under `melfast`. If
`record.takes_group` there is a second input `group`, int64 [B], -1 unknown, optional in an ONNX file.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.record import ModelRecord

INPUT, GROUP, OUTPUTS = "images", "group", ("probability", "logits")
METADATA_KEY = "melfast"

OptionalGroups = NDArray[np.int64] | None
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # probability [B], logits [B, K]
BackendName = Literal["tensorrt", "onnx-cuda", "onnx-cpu", "torch"]


class UnusableError(InputError):
    """A backend cannot run a file here, but another may; the message says why."""


@check_words
@dataclass(frozen=True)
class EngineInfo:
    """What ran a model, to show and to record next to its predictions.

    Attributes:
        backend: the one in use.
        provider: what it runs on, as reported by the runtime after loading.
        runtime: its name and version.
        model, sha256: the file with the weights, and its hash.
        assumed: what was assumed about a file that melfast did not write.
        passed_over: backends that `auto` would have preferred, and why it did not use them.
        source_sha256: hash of the file that `model` was built from; '' if it was not built from another.
    """

    backend: BackendName
    provider: str
    runtime: str
    model: str
    sha256: str
    assumed: str = ""
    passed_over: dict[str, str] = field(default_factory=dict)
    source_sha256: str = ""

    @property
    def origin(self) -> str:
        """Hash of the model itself: the same for an ONNX file and the engines built from it."""
        return self.source_sha256 or self.sha256

    def identity(self) -> dict[str, str]:
        """Distinguishes engines whose rows are in the same table."""
        return {
            "backend": self.backend,
            "provider": self.provider,
            "runtime": self.runtime,
            "model": self.model,
            "sha256": self.sha256,
        }

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Engine(Protocol):
    """An exported model, ready to run.

    Attributes:
        record: what the model is; its `preprocess` gives the input size.
        provider: what it runs on, as reported by the runtime after loading.
        info: the same and more, to be recorded.
        in_flight: number of simultaneous calls of `run`, each in its own thread, that is fastest.
    """

    record: ModelRecord
    provider: str
    info: EngineInfo
    in_flight: int

    def run(self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Outputs:
        """P(malignant) [B] and logits [B, C], float32, owned by the caller.

        Args:
            images_bhw3: uint8 sRGB [B, H, W, 3] at the model's size, C-contiguous, B >= 1.
            group_b: int64 [B], tone group of each image by its index in `record.groups`, -1 unknown; None: all
                unknown. Used if `record.takes_group`.
        Raises:
            ValueError: wrong shape or dtype.
        """
        ...


def require_images(images_bhw3: NDArray[np.uint8], record: ModelRecord) -> None:
    """Raises ValueError if an engine cannot take the images."""
    size, found = record.preprocess, images_bhw3.shape
    wanted = (size.height, size.width, 3)
    if images_bhw3.dtype != np.uint8 or len(found) != 4 or found[1:] != wanted or not found[0]:
        raise ValueError(
            f"images must be uint8 [B, {size.height}, {size.width}, 3], got {images_bhw3.dtype} {list(found)}"
        )


def groups_or_unknown(group_b: OptionalGroups, images_bhw3: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The tone groups to feed to a model that takes them; raises ValueError for a wrong shape."""
    group_b = np.full(len(images_bhw3), -1) if group_b is None else np.asarray(group_b, np.int64)
    if group_b.shape != images_bhw3.shape[:1]:
        raise ValueError(f"group must be int64 [{len(images_bhw3)}], got {list(group_b.shape)}")
    return group_b


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; raises InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
