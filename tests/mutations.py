"""python tests/mutations.py [MODULE...]: change one expression at a time; do the tests fail?

The modules are those whose mistakes nobody would see in use. Each mutant is a copy of the
package with one number, operator or condition changed; the module's tests must fail on it. Prints
the mutants that live, but for those known to do the same, and exits with 1 where there are any.
"""

import ast
import contextlib
import io
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import TypeVar

import click

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "melfast/skin/tone.py": ["tests/skin/test_tone.py"],
    "melfast/models/decode.py": ["tests/models/test_models.py", "tests/metrics/test_calibration.py"],
    "melfast/models/heads.py": ["tests/models/test_models.py", "tests/losses/test_losses.py"],
    **{
        f"melfast/losses/{name}.py": ["tests/losses/test_losses.py"]
        for name in ("cross_entropy", "focal", "group_dro", "ohem", "recall_ce", "weights")
    },
    "melfast/metrics/metrics.py": ["tests/metrics/test_metrics.py"],
    "melfast/data/plan.py": ["tests/data/test_plan.py"],
    "melfast/data/sampler.py": ["tests/data/test_sampler.py"],
}
# Loaded once, before the mutants' processes are forked: they take longer than most tests.
PRELOADED = ["numba", "onnxruntime", "pandas", "pytest", "sklearn.metrics", "timm", "torch"]
MOST_SECONDS = 300

NEVER = "a draw is never that very number"
CELLS_ARE = "cells = targets if sampler.name == 'oversample' else"
CELLS = "other numbers for the same cells"
FLAT = "the slope of a ramp without width, times 0"
LAST = "the last of two classes"
SCALE = "it goes when shares are normalised"

# Mutants that do the same as the module, each by its place (see Mutant), and why.
EQUIVALENT: dict[str, dict[str, str]] = {
    "melfast/models/decode.py": {
        "calibrated: slope = torch.where(wide >= 0, high / wide.clamp_min(1e-300), 0.0)": FLAT,
        "calibrated: slope = torch.where(wide > 0, high / wide.clamp_min(1e-300), 1.0)": FLAT,
        "calibrated: return (y[0] + (ramps * slope).sum(dim=1)).clamp(0, 2)"
        ".to(probability.dtype)": "the bound is for rounding",
    },
    "melfast/models/heads.py": {
        "plain_probability: return logits.softmax(dim=1)[:, +1]": LAST,
        "discriminative_probability: weights = torch.where(share > 0, 2 / share, 0.0)": SCALE,
        "discriminative_probability: return by_class[:, +1] / by_class.sum(dim=1)": LAST,
        "independent_probability: return mean_bc.softmax(dim=1)[:, +1]": LAST,
    },
    "melfast/metrics/metrics.py": {
        "pauc_above_tpr: rise = np.where(tpr[1:] > tpr[:-1], tpr[1:] - tpr[:-1], 2.0)": "divides "
        "by a rise of 0, and is multiplied by it"
    },
    "melfast/data/plan.py": {
        "batches: for first, last in zip(self.bounds[start:-1], self.bounds[start + 1:], "
        "strict=False):": "zip of two slices of one array",
        "reaches_out: outside: NDArray[np.bool_] = furthest >= 1 + 1e-06": NEVER,
        "_draw_masked: return np.full(len(index), always) | (rng.random(len(index)) <= augment.mask)": NEVER,
        "_draw_former: moved = np.flatnonzero(draws <= chance[index])": NEVER,
    },
    "melfast/data/sampler.py": {
        f"expected_draws: {CELLS_ARE} 2 * groups.astype(np.int64) - targets": CELLS,
        f"expected_draws: {CELLS_ARE} 3 * groups.astype(np.int64) + targets": CELLS,
        f"draw_order: {CELLS_ARE} 2 * groups.astype(np.int64) - targets": CELLS,
        f"draw_order: {CELLS_ARE} 3 * groups.astype(np.int64) + targets": CELLS,
        "_balanced: rounds = -(-steps * half * len(rows))": "more rounds than are used",
    },
}

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """One module with one expression changed.

    Attributes:
        before, after: the expression.
        place: the function, and the statement as it is after the change; of one that holds others
            its first line.
    """

    module: str
    line: int
    before: str
    after: str
    place: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.change}"

    @property
    def change(self) -> str:
        return f"{self.before} -> {self.after}"


def mutants(source: str, module: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its expressions; annotations and messages are
    left alone."""
    tree = ast.parse(source)
    statements, functions = innermost(tree, ast.stmt), innermost(tree, ast.FunctionDef)
    for node in expressions(tree):
        function = functions.get(node)
        name = "" if function is None else f"{function.name}: "
        for change in changes(node):
            before = text(node)
            change.apply()
            place = name + first_line(statements[node])
            yield Mutant(module, node.lineno, before, text(node), place, ast.unparse(tree))
            change.undo()


Kind = TypeVar("Kind", bound=ast.AST)


def innermost(tree: ast.AST, kind: type[Kind]) -> dict[ast.AST, Kind]:
    """Of each node the nearest one of a kind that holds it, or itself; not of all there is one."""
    found = {}
    for outer in ast.walk(tree):  # from without to within
        if isinstance(outer, kind):
            found |= dict.fromkeys(ast.walk(outer), outer)
    return found


def first_line(statement: ast.stmt) -> str:
    """Of a statement as source; decorators are none."""
    return next(line for line in ast.unparse(statement).splitlines() if not line.startswith("@"))


def expressions(node: ast.AST) -> Iterator[ast.AST]:
    """What may be changed below a node; not in annotations, f-strings and what is raised."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            typing = isinstance(child, ast.If) and text(child) == "TYPE_CHECKING"
            said = isinstance(child, ast.JoinedStr | ast.Raise)
            if isinstance(child, ast.AST) and not (typing or said):
                if hasattr(child, "lineno"):
                    yield child
                yield from expressions(child)


def text(node: ast.AST) -> str:
    """As source; of a statement its condition alone."""
    return ast.unparse(node.test if isinstance(node, ast.If | ast.While) else node)


@dataclass
class Change:
    """One field of a node, to be set to another value and back."""

    node: ast.AST
    field: str
    new: object

    def apply(self) -> None:
        self.old = getattr(self.node, self.field)
        setattr(self.node, self.field, self.new)

    def undo(self) -> None:
        setattr(self.node, self.field, self.old)


def changes(node: ast.AST) -> Iterator[Change]:
    """What a mutation makes of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield Change(node, "value", not value)
        case ast.Constant(value=int() | float() as value):
            yield Change(node, "value", value + 1)
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield Change(node, "op", SWAPS[type(op)]())
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                swapped = SWAPS[type(op)]()
                yield Change(node, "ops", [*ops[:place], swapped, *ops[place + 1 :]])
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield Change(node, "op", ast.UAdd() if isinstance(node.op, ast.USub) else ast.USub())
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield Change(node, "test", ast.UnaryOp(ast.Not(), test))


def passes(folder: Path, tests: list[str]) -> None:
    """Exits with 0 where the tests of the copy in `folder` pass. For a process of its own."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # A plugin that is preloaded cannot be rewritten, which pytest warns of.
        quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *quiet, *tests])
    os._exit(int(code))


def lives(mutant: Mutant, folder: Path) -> bool:
    """Whether the tests of the module pass on a mutant."""
    path = folder / mutant.module
    original = path.read_text()
    path.write_text(mutant.source)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=passes, args=(folder, MODULES[mutant.module]))
    process.start()
    process.join(MOST_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    path.write_text(original)
    return process.exitcode == 0


def copy_of_package(folder: Path) -> None:
    for name in ("melfast", "tests", "benchmarks", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("modules", nargs=-1, type=click.Choice(list(MODULES)))
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True)
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Take each so-manieth mutant only."
)
def main(modules: tuple[str, ...], jobs: int, every: int) -> None:
    """Do the tests see a changed number, operator or condition? MODULE...: default all."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    survivors = 0
    with TemporaryDirectory() as root, ThreadPoolExecutor(jobs) as pool:
        folders: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            copy_of_package(Path(root) / str(job))
            folders.put(Path(root) / str(job))

        def attempt(mutant: Mutant) -> bool:
            folder = folders.get()
            try:
                return lives(mutant, folder)
            finally:
                folders.put(folder)

        for module in modules or MODULES:
            source = (ROOT / module).read_text()
            untouched = Mutant(module, 0, "", "", "", source)
            if not attempt(untouched):
                raise click.ClickException(f"{module}: its tests fail on the module as it is")
            found = list(mutants(source, module))[::every]
            living = [m for m, alive in zip(found, pool.map(attempt, found), strict=True) if alive]
            same = EQUIVALENT.get(module, {})
            missed = [mutant for mutant in living if mutant.place not in same]
            click.echo(
                f"{module}: {len(found)} mutants, {len(found) - len(living)} caught, "
                f"{len(living) - len(missed)} the same, {len(missed)} missed"
            )
            for mutant in missed:
                click.echo(f"  {mutant}")
            survivors += len(missed)
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
