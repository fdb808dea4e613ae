"""A TensorRT engine on disk: NAME.engine and its sidecar NAME.engine.json."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from melfast.engines.base import METADATA_KEY, UnusableError, file_sha256
from melfast.engines.gpu import Gpu, find_gpu
from melfast.engines.tensorrt_builder import build_engine, find_tensorrt, is_portable
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.schema import checked, read_json, refused
from melfast.models.record import ModelRecord, Name

SUFFIXES = (".engine", ".plan")


def _file_name(name: str) -> str:
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise refused("the name of a file in the same folder", name)
    return name


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise refused("64 hexadecimal digits", text)
    return text


def _in_order(batches: tuple[int, int, int]) -> tuple[int, int, int]:
    if list(batches) != sorted(batches):
        raise refused("three rising numbers", list(batches))
    return batches


Digest = Annotated[str, AfterValidator(_digest)]
NumImages = Annotated[int, Field(ge=1, le=65536)]


@checked()
class Sidecar:
    """What must be known about an engine to run it, or to refuse to run it.

    Attributes:
        source: name of the ONNX file that it was built from, if that was next to it; otherwise ''.
        source_sha256, engine_sha256: hashes of the two files.
        runtime: name and version of the runtime that built it; no other can load it.
        gpu: the GPU that it was built for; no other can run it. None: built without a GPU, for every
            GPU that TensorRT-RTX supports.
        batches: smallest, optimal and largest number of images per batch.
        record: record of the model.
    """

    source: Annotated[str, AfterValidator(_file_name)]
    source_sha256: Digest
    engine_sha256: Digest
    runtime: Name
    gpu: Gpu | None
    batches: Annotated[tuple[NumImages, NumImages, NumImages], AfterValidator(_in_order)]
    record: ModelRecord
    melfast_engine_format: Literal[1] = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def is_engine(path: Path) -> bool:
    """Whether a file is named like an engine, or has the sidecar of one."""
    return path.suffix in SUFFIXES or sidecar_path(path).is_file()


def sidecar_path(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def write_engine(
    onnx_path: str | Path,
    output: str | Path,
    *,
    batches: tuple[int, int, int] = (1, 32, 64),
    tf32: bool = False,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Builds the engine of a file that `melfast export` wrote, and writes it with its sidecar.

    TensorRT-RTX needs no GPU, and its engine is for every GPU; an engine of TensorRT is for the GPU
    that built it. Timings of the build are kept in NAME.timing next to it, for the next build.

    Args:
        batches, tf32: see build_engine.
        check: called with the engine and its sidecar before they get their final names; if it raises,
            nothing is left behind.
    Returns:
        The sidecar.
    Raises:
        InputError: see build_engine; or the file has no model record, or a file cannot be written.
            Nothing is left behind, and files that were there stay.
    """
    onnx_path, output = Path(onnx_path), Path(output)
    trt = find_tensorrt()
    # The files come first, so an unwritable folder is reported before the work. A crash
    # between the two renames leaves the sidecar of another engine, which its hash reveals.
    with atomic_path(output) as engine, atomic_path(sidecar_path(output)) as sidecar:
        digest, record = file_sha256(onnx_path), onnx_record(onnx_path)
        timings = output.with_suffix(".timing")
        content = build_engine(onnx_path, batches=batches, timing_cache=timings, tf32=tf32)
        engine.write_bytes(content)
        beside = onnx_path.resolve().parent == output.resolve().parent
        written = Sidecar(
            source=onnx_path.name if beside else "",
            source_sha256=digest,
            engine_sha256=file_sha256(engine),
            runtime=runtime_name(trt),
            gpu=None if is_portable(trt) else find_gpu(),
            batches=batches,
            record=record,
        )
        sidecar.write_text(written.to_json(), encoding="utf-8")
        if check:
            with tempfile.TemporaryDirectory() as folder:
                trial = Path(folder, output.name)
                shutil.copyfile(engine, trial)
                shutil.copyfile(sidecar, sidecar_path(trial))
                check(trial)
    return sidecar_path(output)


def onnx_record(path: Path) -> ModelRecord:
    """The model record in an ONNX file's metadata; raises InputError if there is none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        raise InputError(f"{path}: cannot be read as an ONNX file; is it complete?") from None
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return ModelRecord.from_json(entry.value, f"{path}: metadata {METADATA_KEY!r}")
    raise InputError(
        f"{path}: an ONNX model without {METADATA_KEY!r} in its metadata, expected one that melfast export wrote"
    )


def read_sidecar(engine: Path) -> Sidecar:
    """The sidecar of an engine.

    Raises:
        InputError: it is missing or broken, or belongs to another engine.
    """
    path = sidecar_path(engine)
    if not path.exists():
        raise InputError(f"{engine}: its sidecar {path.name} is missing; expected both files that melfast export wrote")
    sidecar = read_json(Sidecar, path)
    if file_sha256(engine) != sidecar.engine_sha256:
        raise InputError(f"{engine}: is not the engine that {path.name} describes, or is incomplete")
    return sidecar


def require_fits(sidecar: Sidecar, engine: Path, trt: ModuleType, gpu: Gpu) -> None:
    """Raises UnusableError if an engine is outdated, or for another version or GPU."""
    if sidecar.runtime != runtime_name(trt):
        raise UnusableError(f"{engine} was built by {sidecar.runtime}, but {runtime_name(trt)} is installed")
    if sidecar.gpu not in (None, gpu):
        raise UnusableError(f"{engine} was built for {sidecar.gpu}, found {gpu}")
    source = engine.parent / sidecar.source  # the folder itself where it is ''
    if source.is_file() and file_sha256(source) != sidecar.source_sha256:
        raise UnusableError(f"{engine} is stale: {source.name} has changed since it was built")


def runtime_name(trt: ModuleType) -> str:
    """For example "tensorrt_rtx 1.7.1.116", whatever name the module was imported by."""
    return f"{trt.__name__.removesuffix('_bindings')} {trt.__version__}"
