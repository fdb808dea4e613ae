"""docs/api/index.md: its examples run one after another, and show each name that `import melfast` offers."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import torch

import melfast

API = Path(__file__).parents[2] / "docs" / "api"
PAGE = (API / "index.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.basicConfig", lambda **options: None)  # pytest has handlers of its own
    torch.set_num_threads(1)
    known: dict[str, object] = {}
    for block in BLOCKS:
        exec(block, known)
    assert isinstance(known["logits"], torch.Tensor)
    assert known["logits"].shape == (1, 2)
    assert known["image"].shape == (3, 72, 96)  # type: ignore[attr-defined]
    assert len(known["probabilities"]) == len(known["tones"]) == 96  # type: ignore[arg-type]
    assert 0 <= known["gap"] <= 1  # type: ignore[operator]


def test_each_name_is_shown() -> None:
    code = "\n".join(BLOCKS)
    for name in set(melfast.__all__) - {"__version__", "InputError", "ImageError", "load_predictor"}:
        assert re.search(rf"melfast\.{name}\b|import {name}\b", code), name


def test_examples_are_short() -> None:
    assert max(len(block.splitlines()) for block in BLOCKS) <= 12


def test_each_documented_name_exists() -> None:
    for page in sorted(API.glob("*.md")):
        for module, members in re.findall(r"automodule:: (\S+)\n(?:   :members: (.+)\n)?", page.read_text()):
            for name in filter(None, members.split(", ")):
                assert hasattr(importlib.import_module(module), name), (page.name, module, name)


def test_a_name_means_one_thing() -> None:
    """No two modules define a function or class of the same name (but each command has its `command`)."""
    places: dict[str, list[str]] = {}
    for file in sorted(Path(melfast.__file__).parent.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(file.stem)
    assert {name: found for name, found in places.items() if len(found) > 1 and name != "command"} == {}
