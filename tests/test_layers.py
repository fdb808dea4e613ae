"""Imports of melfast go down only: each package imports from those before it, and no two modules import each other."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import melfast

ROOT = Path(melfast.__file__).parent
# From the lowest to the highest. A package may import itself and those before it.
LAYERS = (
    "_core",
    "core",
    "io",
    "skin",
    "distributed",
    "data",
    "models",
    "metrics",
    "prepare",
    "config",
    "losses",
    "report",
    "train",
    "engines",
    "predict",
    "export",
    "evaluate",
    "doctor",
    "cli",
    "__main__",
)


def module_name(path: Path) -> str:
    parts = ("melfast", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of melfast that a file imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "melfast":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES or full == "melfast._core" else node.module, node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "melfast")


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def test_every_module_stands_in_a_layer() -> None:
    assert {name.split(".")[1] for name in MODULES if name != "melfast"} <= set(LAYERS)


def test_imports_go_down() -> None:
    upward = [
        f"{path.relative_to(ROOT.parent)}:{line} imports {imported}"
        for name, path in MODULES.items()
        if name != "melfast"
        for imported, line in imports(path)
        if imported != "melfast" and layer(imported) > layer(name)
    ]
    assert not upward, "\n".join(upward)


def test_no_circle() -> None:
    """Nor within a package, nor inside functions: graphlib raises CycleError with the circle."""
    graph = {
        name: {imported for imported, _ in imports(path) if imported != "melfast"} - {name}
        for name, path in MODULES.items()
        if name != "melfast"
    }
    assert len(tuple(TopologicalSorter(graph).static_order())) >= len(graph)


def test_contributing_names_files_that_exist() -> None:
    table = "".join(
        line for line in (ROOT.parent / "CONTRIBUTING.md").read_text().splitlines(True) if line.startswith("| ")
    )
    names = re.findall(r"`([\w./]+(?:\.py|\.yaml|\.cpp|/))`", table)
    assert len(names) > 30
    assert [name for name in names if not any((start / name).exists() for start in (ROOT, ROOT.parent))] == []
