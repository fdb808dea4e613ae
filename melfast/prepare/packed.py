"""Images packed in an HDF5 file, like ISIC 2024 on Kaggle: the bytes of a JPEG under the name of each image."""

import os
from pathlib import Path

from melfast.data.manifest import relative_folder
from melfast.io.errors import InputError
from melfast.io.files import atomic_path
from melfast.io.folders import scan_images
from melfast.io.headers import JPEG_MAGIC
from melfast.prepare.importers import Draft
from melfast.prepare.pairing import index_images


def unpack_images(draft: Draft, packed: list[Path], folder: Path, root: Path) -> None:
    """Writes the images of a table that are not files yet, and sets their `path`.

    Raises:
        InputError: h5py is missing, the file is not of this kind, or the folder cannot be written.
    """
    names = draft.cells("image_name")
    paths = index_images(str(root), scan_images(root)).find(names)
    missing = [name for name, path in zip(names, paths, strict=True) if not path]
    if not missing:
        return
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{packed[0]}: holds {len(missing):,} of the listed images in HDF5: pip install h5py reads it"
        ) from None
    prefix = relative_folder(str(folder.resolve()), draft.table.path.parent.resolve())
    found = {}
    for file in packed:
        try:
            with h5py.File(file, "r") as archive:
                for name in missing:
                    if name in archive and name not in found:
                        found[name] = os.path.join(prefix, f"{name}.jpg")
                        _write(folder / f"{name}.jpg", bytes(archive[name][()]))
        except OSError as error:
            raise InputError(f"{file}: cannot be unpacked into {folder}: {error}") from None
    if found:
        start = relative_folder(str(root.resolve()), draft.table.path.parent.resolve())
        draft.set(
            "path",
            [
                found.get(name) or (os.path.join(start, path) if path else "")
                for name, path in zip(names, paths, strict=True)
            ],
        )
        draft.notes.append(
            f"images unpacked from {' and '.join(file.name for file in packed)} into {folder}: {len(found):,}"
        )


def _write(path: Path, data: bytes) -> None:
    if not data.startswith(JPEG_MAGIC):
        raise OSError(f"{path.stem} is not a JPEG")
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
