"""The wheel, built from what the Dockerfiles copy, works without the repository around.

Without a network: compilers and dependencies are those of the environment that runs the tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILES = ("Dockerfile.cpu", "Dockerfile.gpu")


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, continued lines joined."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line.strip()[:1] != "#"]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.split("\n")) if word]


def copied(name: str) -> list[str]:
    """The files that the first stage of a Dockerfile copies to build the wheel."""
    stage = instructions(name)
    end = [index for index, (word, _) in enumerate(stage) if word == "FROM"][1]
    return [path for word, rest in stage[:end] if word == "COPY" for path in rest.split()[:-1]]


@pytest.fixture(scope="module")
def clean() -> dict[str, str]:
    """The environment without variables that would make the repository or another Python visible."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "MELFAST"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, clean: dict[str, str]) -> Path:
    """The wheel, built only from the files that Dockerfile.cpu copies."""
    folder = tmp_path_factory.mktemp("source")
    junk = shutil.ignore_patterns("__pycache__", "*.so")
    for name in copied("Dockerfile.cpu"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=junk)
        else:
            shutil.copy(ROOT / name, folder / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-cache-dir",
        "--wheel-dir",
        "dist",
        ".",
    ]
    # cmake and ninja are next to this interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), clean["PATH"]])
    environment = {**clean, "PATH": path, "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
    done = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (folder / "dist").iterdir()
    return file


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path, clean: dict[str, str]) -> Path:
    """The bin folder of a fresh environment with the wheel; its dependencies are this one's."""
    folder = tmp_path_factory.mktemp("environment")
    venv = [sys.executable, "-m", "venv", "--without-pip", folder]
    subprocess.run(venv, check=True, env=clean, capture_output=True)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin" / "python",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        wheel,
    ]
    subprocess.run(install, check=True, env=clean, capture_output=True)
    # A path in a .pth file is put behind the environment's own, and .pth files there, as that of an
    # editable melfast, are not read.
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"melfast", "melfast-0.1.0.dist-info"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "melfast").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {"melfast/py.typed", "melfast/_core.pyi"} <= set(names)
    assert len([name for name in names if name.endswith(".so")]) == 1


def test_it_works_in_another_folder(installed, clean, tmp_path):
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, env=clean, capture_output=True, text=True)

    where = "import melfast, melfast.core; print(melfast.__file__, melfast.core.__file__)"
    files = run(installed / "python", "-c", where).stdout.split()
    assert len(files) == 2
    assert all(Path(file).is_relative_to(installed.parent) for file in files), files

    shown = run(installed / "melfast", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "doctor" in shown.stdout

    drawn = run(installed / "melfast", "synth", "data", "--images", "4", "--size", "96x72")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 4

    looked = run(installed / "melfast", "doctor", "--json")
    assert looked.returncode == 0, looked.stdout
    found = json.loads(looked.stdout)
    assert Path(found["executable"]).parent == installed
    assert {f["name"]: f["status"] for f in found["findings"]}["core"] == "ok"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_of_two_stages_for_nobody_special(name):
    lines = instructions(name)
    words = [word for word, _ in lines]
    stages = [rest for word, rest in lines if word == "FROM"]
    assert len(stages) == 2
    base = stages[1]
    assert re.fullmatch(r"python:3\.1[123]-slim-[a-z]+@sha256:[0-9a-f]{64}", base)  # a tag, not latest
    assert stages[0] == f"{base} AS build"  # the environment is copied with its links to Python
    last = dict(lines[words.index("FROM", 1) :])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert json.loads(last["ENTRYPOINT"]) == ["melfast"]
    assert json.loads(last["HEALTHCHECK"].split("CMD ")[1]) == ["melfast", "doctor"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_pinned_by_the_constraints(name):
    lines = instructions(name)
    environment = " ".join(rest for word, rest in lines if word == "ENV")
    assert "UV_CONSTRAINT=/source/constraints.txt" in environment
    assert "UV_BUILD_CONSTRAINT=/source/constraints.txt" in environment
    for _, rest in lines:
        for command in re.findall(r"\S*/?pip install (?:(?!&&).)*", rest):
            assert "--constraint constraints.txt" in command or "uv pip" in rest, command


def test_both_images_build_the_wheel_of_the_same_files():
    assert copied("Dockerfile.cpu") == copied("Dockerfile.gpu")
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name in copied("Dockerfile.cpu"):
        assert (ROOT / name).exists()
        assert name not in ignored


def test_conda_installs_with_the_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (python,) = [w for w in environment["dependencies"] if str(w).startswith("python=")]
    assert "3.11" <= python.removeprefix("python=") <= "3.13"
    assert environment["dependencies"][-1] == {"pip": ["--constraint constraints.txt", "."]}
