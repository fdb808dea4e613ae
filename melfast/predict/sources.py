"""Find the images to predict, from a folder, a pattern, a table or a list, and name them."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from melfast.io.errors import InputError
from melfast.io.folders import none_found, scan, sort_files, without_masks

STDIN = "-"
TABLE_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their names.

    Attributes:
        paths: paths of the files [N].
        names: image_name of each [N]; unique.
        notes: notes on the names, and on files that are not read.
        source: the folder or table that they come from; '' if neither.
        groups: name of the tone group of each image [N] from a table, '' unknown; empty: not stated.
    """

    paths: Sequence[str]
    names: Sequence[str]
    notes: tuple[str, ...] = ()
    source: str = ""
    groups: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: Iterable[int]) -> "ImageFiles":
        """The selected files, in that order."""
        rows = list(rows)
        groups = [self.groups[i] for i in rows] if self.groups else ()
        return replace(self, paths=[self.paths[i] for i in rows], names=[self.names[i] for i in rows], groups=groups)

    def absolute(self) -> "ImageFiles":
        """The same files with absolute paths."""
        return replace(self, paths=[os.path.abspath(path) for path in self.paths])

    def shard(self, text: str) -> "ImageFiles":
        """One of several disjoint parts: `3/64` is the third of 64.

        Raises:
            InputError: `text` is not of this form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= part <= parts:
            raise InputError(f"`shard` must be K/N as 3/64, K from 1 to N, got {text!r}")
        if len(self) < parts:
            raise InputError(f"`shard={text}`: there are {len(self):,} images, expected {parts}")
        return self.select(range(part - 1, len(self), parts))


def find_images(images: str, lines: Iterable[str] = ()) -> ImageFiles:
    """The images in a folder (recursively), a single file, the matches of a glob pattern, the rows of a
    table with a column `path` (relative to it), or the files listed in lines.

    Args:
        lines: lines of standard input, for `images` STDIN.
    Raises:
        InputError: there are no images, or two have the same name.
    """
    if images == STDIN:
        listed = [line.rstrip("\r\n").removeprefix("\ufeff") for line in lines]  # of Windows' editors
        return _named([line for line in listed if line.strip()], "standard input")
    if os.path.isdir(images):  # not Path(images): '' would be the current folder
        folder = without_masks(scan(images))
        if not folder.files:
            raise none_found(images, folder)
        found = _named([os.path.join(images, file) for file in folder.files], images, root=images)
        return replace(found, source=images, notes=(*found.notes, *folder.notes()))
    if os.path.isfile(images):
        if images.lower().endswith(TABLE_SUFFIXES):
            return replace(_of_table(Path(images)), source=images)
        return _named([images], images)
    if glob.has_magic(images):
        matched = sort_files(file for file in glob.iglob(images, recursive=True) if not os.path.isdir(file))
        if not matched.files:
            raise none_found(images, matched, "matches")
        found = _named(matched.files, images)
        return replace(found, notes=(*found.notes, *matched.notes()))
    raise InputError(f"{images or repr(images)}: no such file or folder of images")


def _named(paths: list[str], where: str, root: str | None = None) -> ImageFiles:
    """Names of files: their stems or, if two are equal, their paths below the common folder."""
    if not paths:
        raise InputError(f"{where}: names no image")
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    if len(set(stems)) == len(stems):
        return ImageFiles(paths, stems)
    root = root or os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names = [Path(os.path.relpath(path, root)).as_posix() for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"{where}: names {twice} twice")
    shown = os.path.relpath(root) if os.path.isabs(root) and not os.path.isabs(paths[0]) else root
    return ImageFiles(paths, names, (f"some images share a name: image_name is the path below {shown}",))


def _of_table(table: Path) -> ImageFiles:
    from melfast.io.tables import read_table

    read = read_table(table)
    if "path" not in read.frame:
        raise InputError(
            f"{table}: no column 'path'; there are {', '.join(read.frame.columns)}; melfast "
            "prepare import makes a manifest of other tables"
        )
    cells = read.frame["path"].tolist()
    if without := [row for row, cell in enumerate(cells) if not cell]:
        raise read.errors(without, "path", "path must name a file")
    paths = [os.path.join(table.parent, cell) for cell in cells]
    columns = [name for name in ("group", "group_str") if name in read.frame]
    groups = _groups_of({name: read.frame[name].tolist() for name in columns})
    if "image_name" not in read.frame:
        return replace(_named(paths, str(table)), groups=groups)
    if again := read.frame["image_name"].duplicated().to_numpy().nonzero()[0].tolist():
        raise read.errors(again, "image_name", "image_name must name each image once")
    return ImageFiles(paths, read.frame["image_name"].tolist(), groups=groups)


def _groups_of(cells: dict[str, list[str]]) -> Sequence[str]:
    """Names of the tone groups as in a manifest: `group_str`, or that of another row with the same number in
    `group`, or the value of `group`."""
    from melfast.io.tables import MISSING

    known = {
        name: ["" if cell.strip().lower() in MISSING | {"-1"} else cell.strip() for cell in column]
        for name, column in cells.items()
    }
    strings = known.get("group_str", [])
    numbers = known.get("group", strings)
    names = {number: name for number, name in zip(numbers, strings, strict=False) if name}
    return [names.get(number, number) if number else "" for number in numbers]
