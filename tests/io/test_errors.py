"""Printed text cannot control a terminal, whatever the name of a file."""

import pickle
import sys
from pathlib import Path

import pytest

from melfast.cli import run
from melfast.io.errors import ImageError, InputError, printable

NAME = "a\x1b]0;title\x07\n\u202eb\udc80\x9bm.png"
SHOWN = "a\\x1b]0;title\\x07\\n\\u202eb\\udc80\\x9bm.png"


def test_printable() -> None:
    assert printable(NAME) == SHOWN
    assert printable(SHOWN) == SHOWN  # not again, as when an error names another
    assert printable("naïve Größe 肌 – 5 °") == "naïve Größe 肌 – 5 °"


def test_errors() -> None:
    assert str(InputError(f"{NAME}: is a folder")) == f"{SHOWN}: is a folder"
    error = pickle.loads(pickle.dumps(ImageError(NAME, "found \x1b")))
    assert (str(error), error.path, error.reason) == (f"{SHOWN}: found \\x1b", NAME, "found \\x1b")


def run_melfast(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["melfast", *words])
    with pytest.raises(SystemExit):
        run()


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "b\x1b[2J\r.png"
    (tmp_path / name).write_text("no image")
    manifest = tmp_path / "m.csv"
    manifest.write_text(f'image_name,path\n"{name}","{name}"\n', newline="")
    run_melfast(monkeypatch, "prepare", "check", str(manifest))
    run_melfast(monkeypatch, "prepare", name)
    run_melfast(monkeypatch, "prepare", "check", name)
    found = capsys.readouterr()
    assert "bad: b\\x1b[2J\\r.png: " in found.err
    assert "No such command 'b\\x1b[2J\\r.png'" in found.err
    assert "b\\x1b[2J\\r.png: no such file" in found.err
    assert not {"\x1b", "\r"} & set(found.out + found.err)
