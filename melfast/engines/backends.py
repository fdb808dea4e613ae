"""Backends: which engines can run a model on this machine, and which one is used."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from melfast.data.preprocess import ColourSpace
from melfast.engines.base import BackendName, Engine, UnusableError, file_sha256
from melfast.engines.foreign import Foreign, Numbers, OutputKind
from melfast.engines.tensorrt_file import is_engine, read_sidecar
from melfast.io.errors import InputError
from melfast.io.words import check_words
from melfast.models.record import ModelRecord

Backend = Literal["auto", BackendName]
# The fastest first, and the kinds of model that each runs.
RUNS: dict[BackendName, tuple[str, ...]] = {
    "tensorrt": ("engine", "onnx"),
    "onnx-cuda": ("onnx",),
    "onnx-cpu": ("onnx",),
    "torch": ("checkpoint",),
}
KINDS = {"onnx": "an ONNX model", "engine": "a TensorRT engine", "checkpoint": "a checkpoint"}


@check_words
def open_engine(
    model: str | Path,
    backend: Backend = "auto",
    *,
    threads: int | None = None,
    input_size: tuple[int, int] | None = None,
    colour: ColourSpace | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    model_output: OutputKind | None = None,
) -> Engine:
    """Loads a model; `info` of the engine tells what runs it and why nothing faster does.

    Args:
        model: an ONNX file, a TensorRT engine, or a run folder or checkpoint.
        backend: `auto` takes the first of RUNS that can run the model here. It uses a TensorRT
            engine next to the ONNX file but does not build one, which may take minutes. `tensorrt`
            builds it if it is missing or does not fit.
        threads: threads on the CPU; None: one per core that the process may use.
        input_size, colour, mean, std, model_output: for an ONNX file that melfast did not write, see
            melfast.engines.foreign.
    Raises:
        InputError: the file does not exist or is broken, or the backend cannot run it here.
    """
    path, foreign = Path(model), Foreign(input_size, colour, mean, std, model_output)
    kind = _fitting_kind(path, foreign)
    if backend != "auto":
        try:
            return _open(backend, path, kind, threads, foreign, build=True)
        except UnusableError as error:
            raise InputError(f"{path}: backend {backend} cannot run it: {error}") from None
    passed_over: dict[str, str] = {}
    for name in RUNS:
        try:
            engine = _open(name, path, kind, threads, foreign, build=False)
        except UnusableError as error:
            passed_over[name] = str(error)
            continue
        engine.info = replace(engine.info, passed_over=passed_over)
        return engine
    reasons = "; ".join(f"{name}: {passed_over[name]}" for name in RUNS if kind in RUNS[name])
    raise InputError(f"{path}: no backend can run it here: {reasons}")


@dataclass(frozen=True)
class ModelFile:
    """Information in a model file, independent of where it runs.

    Attributes:
        origin, assumed: as in the EngineInfo of any engine that runs it.
    """

    record: ModelRecord
    origin: str
    assumed: str = ""


@check_words
def read_model(
    model: str | Path,
    *,
    input_size: tuple[int, int] | None = None,
    colour: ColourSpace | None = None,
    model_output: OutputKind | None = None,
) -> ModelFile:
    """Reads the information in a model file, without the GPU or TensorRT that running it may need.

    Args:
        model, input_size, colour, model_output: as for open_engine.
    Raises:
        InputError: the file does not exist or is broken.
    """
    path, foreign = Path(model), Foreign(input_size, colour, output=model_output)
    kind = _fitting_kind(path, foreign)
    if kind == "engine":
        sidecar = read_sidecar(path)
        return ModelFile(sidecar.record, sidecar.source_sha256)
    if kind == "checkpoint":
        from melfast.models.checkpoint import WEIGHTS, find_checkpoint, read_record

        folder = find_checkpoint(path)
        return ModelFile(read_record(folder), file_sha256(folder / WEIGHTS))
    from melfast.engines.onnx_runtime import OnnxEngine

    engine = OnnxEngine(path, threads=1, foreign=foreign)
    return ModelFile(engine.record, engine.info.origin, engine.info.assumed)


def _fitting_kind(path: Path, foreign: Foreign) -> str:
    kind = model_kind(path)
    if foreign.given and kind != "onnx":
        raise InputError(
            f"{path}: {foreign.given} applies only to ONNX files that melfast did not write, this is {KINDS[kind]}"
        )
    return kind


def model_kind(path: Path) -> str:
    """`onnx`, `engine` or `checkpoint`, judged by the name; the engine checks the content.

    Raises:
        InputError: the file does not exist.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file, expected a model that melfast export wrote, or a run folder")
    if path.is_dir() or path.suffix == ".safetensors":
        return "checkpoint"
    return "engine" if is_engine(path) else "onnx"


def _open(name: BackendName, path: Path, kind: str, threads: int | None, foreign: Foreign, *, build: bool) -> Engine:
    if kind not in RUNS[name]:
        runs = " or ".join(KINDS[each] for each in RUNS[name])
        raise UnusableError(f"the file is {KINDS[kind]}, expected {runs}")
    if name == "torch":
        from melfast.engines.torch import TorchEngine

        return TorchEngine(path, threads=threads)
    if name == "tensorrt":
        from melfast.engines.tensorrt import TensorRtEngine

        if foreign.given:
            raise UnusableError("melfast did not write the file")
        return TensorRtEngine(path, build=build)
    from melfast.engines.onnx_runtime import OnnxEngine

    device: Literal["cpu", "cuda"] = "cuda" if name == "onnx-cuda" else "cpu"
    return OnnxEngine(path, device=device, threads=threads, foreign=foreign)
