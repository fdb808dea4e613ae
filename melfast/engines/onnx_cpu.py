"""OnnxCpuEngine: an exported model on the CPU with ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from melfast.data.loader import available_cores
from melfast.engines.base import INPUT, METADATA_KEY, OUTPUTS
from melfast.errors import InputError
from melfast.models.record import ModelRecord

PROVIDER = "CPUExecutionProvider"

# ONNX Runtime's errors have no common base of their own.
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


class OnnxCpuEngine:
    """See melfast.engines.base.Engine. `run` may be called from several threads."""

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        """
        Args:
            path: a file that `melfast export` wrote.
            threads: that one `run` uses; None: one a core that the process may use.
        Raises:
            InputError: the file is missing, no whole ONNX file, or not melfast's.
        """
        threads = available_cores() if threads is None else threads
        if threads < 1:
            raise ValueError(f"threads must be >= 1, got {threads}")
        self.session = load_session(Path(path), threads)
        self.record = read_record(self.session, Path(path))
        (self.provider,) = self.session.get_providers()
        assert self.provider == PROVIDER, self.provider
        size = self.record.preprocess
        self.image_shape = (size.height, size.width, 3)

    def run(
        self, images_bhw3: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = images_bhw3.shape
        if images_bhw3.dtype != np.uint8 or len(found) != 4 or found[1:] != self.image_shape:
            height, width, _ = self.image_shape
            raise ValueError(
                f"images must be uint8 [B, {height}, {width}, 3], "
                f"got {images_bhw3.dtype} {list(found)}"
            )
        probability, logits = self.session.run(OUTPUTS, {INPUT: images_bhw3})
        return probability, logits


def load_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Raises InputError where there is no ONNX file that can be run."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}, wanted a model that melfast export wrote")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take the cores from the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they come as exceptions as well
    try:
        return onnxruntime.InferenceSession(path, options, providers=[PROVIDER])
    except LOAD_ERRORS as error:
        reason = str(error).replace(f"Load model from {path} failed:", "")
        raise InputError(
            f"{path}: cannot be loaded as an ONNX file; is it whole? ({reason})"
        ) from None


def read_record(session: onnxruntime.InferenceSession, path: Path) -> ModelRecord:
    """The model record in the metadata. Raises InputError where the model is not melfast's."""
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise InputError(
            f"{path}: an ONNX model without {METADATA_KEY!r} in its metadata, "
            "wanted one that melfast export wrote"
        )
    record = ModelRecord.from_json(metadata[METADATA_KEY], f"{path}: metadata {METADATA_KEY!r}")
    size = record.preprocess
    inputs = [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()]
    outputs = tuple(output.name for output in session.get_outputs())
    wanted = [(INPUT, "tensor(uint8)", [size.height, size.width, 3])]
    if inputs != wanted or outputs != OUTPUTS:
        raise InputError(
            f"{path}: inputs and outputs do not fit its metadata: "
            f"wanted {wanted} and {OUTPUTS}, got {inputs} and {outputs}"
        )
    return record
