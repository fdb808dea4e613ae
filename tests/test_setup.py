"""The files that set up the project agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def requirement_names() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    return {re.split(r"[<>=!~\[; ]", line)[0].lower() for names in lists for line in names}


def test_every_requirement_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert requirement_names() <= {line.split("==")[0].lower() for line in lines}


def test_the_version_is_the_same_everywhere() -> None:
    import melfast

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == melfast.__version__
    assert project["license"] == citation["license"]


def test_ci_runs_what_contributors_run() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert commands == {"make lint", "make test", "make test-sanitize", "make docs"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tried = jobs["test"]["strategy"]["matrix"]["python"]
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["project"]["requires-python"]).groups()  # type: ignore[union-attr]
    assert tried == [f"3.{minor}" for minor in range(int(low), int(high))]
    built = project["tool"]["cibuildwheel"]["build"]
    assert built == " ".join(f"cp{version.replace('.', '')}-*" for version in tried)


def test_the_installation_page_names_every_extra() -> None:
    page = (ROOT / "docs/install.md").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `[")]
    assert {name for row in rows for name in re.findall(r"\[(\w+)\]", row)} == set(extras)


def test_help_imports_nothing_heavy() -> None:
    heavy = {
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "pandas",
        "sklearn",
        "scipy",
        "numba",
        "fairlearn",
        "matplotlib",
        "onnx",
        "onnxruntime",
        "PIL",
        "rich",
        "yaml",
        "nvidia",
    }
    code = (
        "import sys, melfast.cli as cli\n"
        "cli.main.main(['--help'], standalone_mode=False)\n"
        f"print('imported', sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"


def test_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import melfast\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["melfast"]


def test_every_command_shows_help_with_an_example() -> None:
    from melfast.cli import COMMANDS, main

    for name in COMMANDS:
        code = f"from melfast.cli import main; main.main(['{name}', '--help'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert f"melfast {name}" in done.stdout.split("Options:")[0].split("\n", 1)[1], name
    assert set(main.list_commands(None)) == set(COMMANDS)  # type: ignore[arg-type]


def test_errors_are_one_line_with_exit_code(tmp_path: Path) -> None:
    def melfast(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "melfast", *words], capture_output=True, text=True, cwd=tmp_path)

    missing = ("prepare", "check", "missing.csv")
    plain, debug = melfast(*missing), melfast(*missing, "--debug")
    assert plain.returncode == debug.returncode == 1
    assert plain.stderr.count("\n") == 1
    assert "missing.csv" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert melfast("trian").returncode == 2
