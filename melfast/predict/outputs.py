"""Outputs: the files that predictions are written to; they must not be inputs."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from melfast.engines.base import Engine
from melfast.engines.tensorrt_file import sidecar_path
from melfast.io.errors import InputError
from melfast.predict.sources import ImageFiles


def about_path(table: Path) -> Path:
    """NAME.json for NAME.csv, NAME.parquet.json for NAME.parquet, since both may be in one folder."""
    return table.with_name(f"{_stem(table)}.json")


def failed_path(table: Path) -> Path:
    """NAME.failed.csv for NAME.csv, NAME.parquet.failed.csv for NAME.parquet."""
    return table.with_name(f"{_stem(table)}.failed.csv")


def partial_path(table: Path) -> Path:
    return table.with_name(f"{table.name}.partial")


def _stem(table: Path) -> str:
    return table.stem if table.suffix.lower() == ".csv" else table.name


def require_apart(table: Path, files: ImageFiles, engine: Engine) -> None:
    """Raises InputError if a table, or a file written next to it, would replace an image, the list of
    images, or the model."""
    written = (table, about_path(table), failed_path(table), partial_path(table))
    there = _there(written)
    if not there:
        return
    model = Path(engine.info.model)
    read: list[str | Path] = [files.source, model, sidecar_path(model)]
    if model.suffix == ".safetensors":
        read += model.parent.glob("*")  # including the record
    for path in (*read, *files.paths):
        if replaced := there.get(_identity(path)):
            raise InputError(f"{replaced}: would be replaced, but is read as {path}; expected another `output`")


def require_overlay_apart(overlay: Path, files: ImageFiles) -> None:
    """Raises InputError if pictures would replace predicted images, would themselves be predicted by the
    next run, or would be outside the folder."""
    for name in files.names:
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise InputError(f"`overlay`: image_name {name!r} leads out of the folder")
    folder = overlay.resolve()
    if os.path.isdir(files.source) and folder.is_relative_to(Path(files.source).resolve()):
        raise InputError(
            f"`overlay={overlay}`: lies in {files.source}, so the next run would predict the "
            "pictures; expected a folder elsewhere"
        )
    for images in dict.fromkeys(os.path.dirname(path) for path in files.paths):
        if Path(images).resolve().is_relative_to(folder):
            raise InputError(
                f"`overlay={overlay}`: images that are predicted lie there, in {images or '.'}; "
                "expected a folder for the pictures alone"
            )
    there = _there(overlay_path(overlay, name) for name in files.names)
    for path in files.paths if there else ():
        if replaced := there.get(_identity(path)):
            raise InputError(f"`overlay`: {replaced} is {path}, an image that is predicted; expected another folder")


def overlay_path(overlay: Path, name: str) -> Path:
    return overlay / f"{name}.jpg"


def _there(paths: Iterable[Path]) -> dict[tuple[int, int] | None, Path]:
    """The existing paths by identity."""
    found = {_identity(path): path for path in paths}
    found.pop(None, None)
    return found


def _identity(path: str | Path) -> tuple[int, int] | None:
    """An id that is the same for all names of a file; None if it does not exist."""
    with suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None
