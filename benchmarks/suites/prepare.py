"""Suite prepare: full-size images to a manifest for training, with one command and with seven."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from benchmarks import images
from benchmarks.harness import CheckFailedError, Contestant, Run, suite
from benchmarks.machine import ROOT

SMALL, LARGE = (512, 384), (2048, 1536)  # of drawn images
STEPS = ("check", "dedup", "masks", "ita", "resize", "split")
SEVEN_TARGET, ITA_TARGET = 3.0, 0.8  # the one command takes at most 1.25 times as long


@suite("prepare")
def prepare(run: Run) -> None:
    """JPEG files at least 1500 px wide to a manifest, masks and copies; includes the start of the commands."""
    with images.groups(run.data) as (source, groups), TemporaryDirectory(prefix="melfast-bench-") as place:
        files = groups.get(images.LARGE)
        if not files:
            return run.miss(f"images {images.LARGE}", f"none in {source}")
        folder = Path(place)
        if source == images.DRAWN_SOURCE:
            files = draw(folder / "drawn", len(files))
        run.note(f"{source}: {len(files)} images {images.LARGE}")
        for number, file in enumerate(files):  # classes, so that they can be split
            target = folder / "data" / ("malignant" if number % 4 == 0 else "benign") / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())
        threads = ["--threads", str(run.threads)]
        compare(run, folder, len(files), threads)


def draw(folder: Path, count: int) -> list[Path]:
    """Photographs that are not copies of each other, unlike plain discs on skin."""
    from melfast.prepare.synth import draw_sample

    folder.mkdir()
    paths = [folder / f"{number:03d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(draw_sample(5, number, SMALL).image).resize(LARGE, Image.Resampling.BICUBIC).save(path)
    return paths


def compare(run: Run, folder: Path, count: int, threads: list[str]) -> None:
    def all_steps() -> None:
        melfast(folder, "all", "data", "--output", "all/manifest.csv", *threads)

    def seven() -> None:
        melfast(folder, "import", "data", "--output", "seven/import.csv")
        before = "import"
        for step in STEPS:
            more = threads if step != "split" else []
            melfast(folder, step, f"seven/{before}.csv", "--output", f"seven/{step}.csv", *more)
            before = step

    def ita_and_copies() -> None:
        for step in ("ita", "resize"):
            melfast(folder, step, "import.csv", "--output", f"two/{step}.csv", *threads)

    melfast(folder, "import", "data", "--output", "import.csv")
    all_steps()
    seven()
    run.check("files that differ from those of seven commands", differing(folder / "all", folder / "seven"), at_most=0)

    def fresh(name: str, work: Callable[[], None]) -> Callable[[], int]:
        def timed() -> int:
            shutil.rmtree(folder / name, ignore_errors=True)
            work()
            return count

        return timed

    contestants = [
        Contestant("prepare all", fresh("all", all_steps)),
        Contestant("seven commands", fresh("seven", seven), SEVEN_TARGET),
        Contestant("prepare ita and resize", fresh("two", ita_and_copies), ITA_TARGET),
    ]
    run.compare(f"{count} images to a manifest", "images/s", contestants)


def differing(one: Path, other: Path) -> int:
    """Number of files that differ: the manifest, the masks and the copies."""
    pairs = [(one / "manifest.csv", other / "split.csv")]
    pairs += [(path, other / path.relative_to(one)) for path in one.rglob("*") if path.suffix in (".png", ".jpg")]
    return sum(not second.is_file() or first.read_bytes() != second.read_bytes() for first, second in pairs)


def melfast(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "melfast", "prepare", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CheckFailedError(f"melfast prepare {' '.join(words)}: {done.stderr.splitlines()[-1]}")
