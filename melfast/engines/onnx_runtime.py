"""OnnxEngine: an ONNX file on the CPU or a GPU with ONNX Runtime."""

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from melfast.data.loader import available_cores
from melfast.engines.base import (
    GROUP,
    INPUT,
    METADATA_KEY,
    OUTPUTS,
    EngineInfo,
    OptionalGroups,
    Outputs,
    UnusableError,
    file_sha256,
    groups_or_unknown,
    require_images,
)
from melfast.engines.foreign import Adapter, Foreign
from melfast.engines.gpu import find_gpu
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.record import ModelRecord
from melfast.models.running import in_pieces

Device = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Both packages provide the same module; the one installed last wins.
INSTALL = "pip uninstall onnxruntime, then pip install onnxruntime-gpu"

# Images per thread at a time. Sharing every operation of a large batch among four threads gave only
# 0.6 to 0.7 of the images/s of ConvNeXt-Tiny.
PIECE = 4
# Part of its error message for an unknown opset.
NEWER = r"Opset (\d+) is under development.* is till opset (\d+)"
# ONNX Runtime's errors have no common base class.
LOAD_ERRORS = (
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoModel,
    errors.NotImplemented,
    errors.RuntimeException,
)


class OnnxEngine:
    """See melfast.engines.base.Engine. `run` may be called from several threads."""

    in_flight = 1  # one call uses all threads

    @check_words
    def __init__(
        self, path: str | Path, *, device: Device = "cpu", threads: int | None = None, foreign: Foreign | None = None
    ) -> None:
        """
        Args:
            path: a file that `melfast export` wrote, or another one with `foreign`.
            threads: threads of one `run` on the CPU; None: one per core that the process may use.
            foreign: statements about a file that melfast did not write.
        Raises:
            UnusableError: `device` is cuda, but there is none or ONNX Runtime cannot use it.
            InputError: the file is missing or not a complete ONNX file, or melfast did not write it
                and `foreign` does not state enough.
        """
        path, foreign = Path(path), foreign or Foreign()
        threads = available_cores() if threads is None else threads
        if threads < 1:
            raise ValueError(f"threads must be >= 1, got {threads}")
        if device == "cuda":
            require_cuda()
        self.path, self.threads = path, threads
        self.pool: ThreadPoolExecutor | None = None
        if device == "cpu" and threads > 1:
            self.pool = ThreadPoolExecutor(threads, "melfast-onnx")
        self.session = load_session(path, 1 if self.pool else threads, device)
        self.provider = require_provider(self.session, device)
        self.adapter: Adapter | None = None
        if METADATA_KEY in self.session.get_modelmeta().custom_metadata_map:
            self.record = read_metadata(self.session, path)
            if foreign.given:
                raise InputError(
                    f"{path}: melfast export wrote this file, which records its own input and output; "
                    f"remove {foreign.given}"
                )
        else:
            if self.pool:  # it may take one image at a time
                self.session, self.pool = self.whole, None
            try:
                self.adapter = Adapter(self.session, path, foreign)
            except LOAD_ERRORS as error:
                reason = " ".join(str(error).split())
                raise InputError(f"{path}: does not run on such images: {reason}") from None
            self.record = self.adapter.record
        self.info = EngineInfo(
            backend="onnx-cuda" if device == "cuda" else "onnx-cpu",
            provider=self.provider,
            runtime=f"onnxruntime {onnxruntime.__version__}",
            model=str(path),
            sha256=file_sha256(path),
            assumed=self.adapter.assumed if self.adapter else "",
        )

    def run(self, images_bhw3: NDArray[np.uint8], group_b: OptionalGroups = None) -> Outputs:
        require_images(images_bhw3, self.record)
        if self.adapter:
            return self.adapter.run(self.session, images_bhw3)
        inputs = (images_bhw3, groups_or_unknown(group_b, images_bhw3)) if self.record.takes_group else (images_bhw3,)
        if not self.pool:
            return _run(self.session, *inputs)
        count = len(images_bhw3)
        if count == 1:
            return _run(self.whole, *inputs)
        size = min(PIECE, -(-count // self.threads))
        pieces = in_pieces(self.pool, partial(_run, self.session), size, *inputs)
        probability, logits = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return probability, logits

    @cached_property
    def whole(self) -> onnxruntime.InferenceSession:
        """A session in which all threads share every operation, for a single image."""
        return load_session(self.path, self.threads)


def _run(session: onnxruntime.InferenceSession, *inputs: NDArray[Any]) -> Outputs:
    probability, logits = session.run(OUTPUTS, dict(zip((INPUT, GROUP), inputs, strict=False)))
    return probability, logits


def require_cuda() -> None:
    """Raises UnusableError if there is no GPU or ONNX Runtime is not built for one."""
    find_gpu()
    if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        raise UnusableError(f"onnxruntime-gpu is not installed: {INSTALL}")
    onnxruntime.preload_dlls()  # the CUDA libraries that other packages installed


@check_words
def require_provider(session: onnxruntime.InferenceSession, device: Device) -> str:
    """The provider of the session, which ONNX Runtime may have changed silently.

    Raises:
        UnusableError: it is not the requested one.
    """
    found = session.get_providers()
    if found[:1] != [PROVIDERS[device]]:
        hint = ": the CUDA or cuDNN libraries that it needs are missing or of another version"
        raise UnusableError(
            f"ONNX Runtime uses {', '.join(found)} instead of {PROVIDERS[device]}" + (hint if device == "cuda" else "")
        )
    return PROVIDERS[device]


@check_words
def load_session(path: Path, threads: int, device: Device = "cpu") -> onnxruntime.InferenceSession:
    """Loads a session; raises InputError if the file cannot be run."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}, expected a model that melfast export wrote")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait would take cores from the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only, which are also raised as exceptions
    try:
        # No fallback: otherwise, when a run fails on the GPU, it prints and uses the CPU.
        return onnxruntime.InferenceSession(path, options, providers=[PROVIDERS[device]], enable_fallback=0)
    except LOAD_ERRORS as error:
        reason = " ".join(str(error).replace(f"Load model from {path} failed:", "").split())
        if device == "cuda" and isinstance(error, errors.EPFail | errors.RuntimeException):
            raise UnusableError(f"ONNX Runtime cannot use the GPU ({reason})") from None
        if newer := re.search(NEWER, reason):
            raise InputError(
                f"{path}: has opset {newer[1]}, onnxruntime {onnxruntime.__version__} supports up "
                f"to {newer[2]}; expected a newer onnxruntime, or a file with an older opset"
            ) from None
        raise InputError(f"{path}: cannot be loaded as an ONNX file; is it complete? ({reason})") from None


def read_metadata(session: onnxruntime.InferenceSession, path: Path) -> ModelRecord:
    """The model record in the metadata; raises InputError if the model does not fit it."""
    metadata = session.get_modelmeta().custom_metadata_map
    record = ModelRecord.from_json(metadata[METADATA_KEY], f"{path}: metadata {METADATA_KEY!r}")
    size = record.preprocess
    given = (*session.get_inputs(), *session.get_overridable_initializers())
    inputs = [(i.name, i.type, i.shape[1:]) for i in given]
    outputs = tuple(output.name for output in session.get_outputs())
    wanted = [(INPUT, "tensor(uint8)", [size.height, size.width, 3])]
    if record.takes_group:
        wanted.append((GROUP, "tensor(int64)", []))
    if inputs != wanted or outputs != OUTPUTS:
        raise InputError(
            f"{path}: inputs and outputs do not fit its metadata: "
            f"expected {wanted} and {OUTPUTS}, got {inputs} and {outputs}"
        )
    return record
