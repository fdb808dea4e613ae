"""python tests/chaos.py [SCENARIO...]: tries to break the commands with kills, mutated files and bad folders.

About 15 minutes on two cores. A run that was killed must end, once it is repeated, with the same bytes as one that was
not. No command may crash, hang, print a traceback or leave a file half-written. Prints a line for each scenario, and
exits with 1 if one fails. `--seed` draws other kills and mutations.
"""

import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory

import click

ROOT = Path(__file__).resolve().parents[1]
MELFAST = [sys.executable, "-m", "melfast"]
LONGEST = 240.0  # seconds of any command here; more is a hang
KILLS = 20
# What a command may end with: done, refused, interrupted by SIGTERM.
ENDS = (0, 1, 2, 143)

Argv = list[str]
SCENARIOS: dict[str, Callable[["Chaos"], str]] = {}


def scenario(function: Callable[["Chaos"], str]) -> Callable[["Chaos"], str]:
    """A function that returns what it did in a few words, or fails with an AssertionError."""
    SCENARIOS[function.__name__] = function
    return function


class Chaos:
    """A folder to work in, and the draws, which depend on its name."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(f"{seed} {folder.name}")
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def start(self, *words: object, program: Argv = MELFAST) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*program, *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def run(self, *words: object, program: Argv = MELFAST, ends: tuple[int, ...] = (0,)) -> str:
        """Output of a command, which must end in time, with one of `ends` and without a traceback."""
        process = self.start(*words, program=program)
        try:
            said, _ = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{' '.join(map(str, words))}: hangs") from None
        check_end(words, process.returncode, said, ends)
        return said

    def prepare(self) -> None:
        """What the scenarios start from: drawn images, `manifest.csv` with skin tones and masks, a run, a model."""
        self.run("synth", "data", "--images", 240, "--size", "240x180")
        self.run("prepare", "import", "data", "--output", "imported.csv")
        self.run("prepare", "split", "imported.csv", "--output", "manifest.csv")
        self.run(*TRAIN, "--output-dir", "run")
        self.run("export", "--checkpoint", "run", "--format", "onnx", "--output", "model.onnx")


TRAIN = [
    *("train", "--config", str(ROOT / "configs" / "quickstart.yaml"), "--data-path", "manifest.csv"),
    *("--epochs", "3", "--set", "train.threads=1", "--set", "train.checkpoint_minutes=0.005"),
]


def check_end(words: object, code: int, said: str, ends: tuple[int, ...] = ENDS) -> None:
    assert code in ends, f"{words}: ended with {code}, expected {ends}\n{said[-2000:]}"
    # torchrun reports each failed run by a traceback of its own.
    said = re.sub(r"Traceback \(most recent call last\):\n(?:  .*\n)+torch\S*ChildFailedError", "", said)
    for sign in ("Traceback (most recent call last)", "melfast: unexpected"):
        assert sign not in said, f"{words}: {sign}\n{said[-3000:]}"


def contents(*places: Path) -> dict[str, bytes]:
    """Bytes of files, and of all files in folders, by path."""
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def killed(chaos: Chaos, start: Argv, resume: Argv, outputs: list[str], begun: str, kept: str = "") -> str:
    """Kills a command KILLS times at random moments, each time resuming; compares the end with that of a whole run.

    A run that ends before it is killed is compared, thrown away and started anew.

    Args:
        outputs: files and folders that the command writes.
        begun: pattern of a file that is there once there is something to resume; three of four kills come after it.
        kept: pattern of the files that must be the same; by default all of the outputs.
    """
    places = [chaos.folder / output for output in outputs]

    def clear() -> None:
        for place in (*places, *chaos.folder.glob(begun)):
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)

    def is_begun() -> bool:
        return any(True for _ in chaos.folder.glob(begun))

    def end() -> dict[str, bytes]:
        return {path: data for path, data in contents(*places).items() if Path(path).match(kept or "*")}

    def wait_until(deadline: float, condition: Callable[[], bool] = lambda: False) -> None:
        while process.poll() is None and time.monotonic() < deadline and not condition():
            time.sleep(0.005)

    clear()
    began = time.monotonic()
    process = chaos.start(*start)
    wait_until(began + LONGEST, is_begun)
    starting = time.monotonic() - began
    wait_until(began + LONGEST)
    working = time.monotonic() - began - starting
    check_end(start, process.wait(), process.communicate()[0], (0,))
    expected = end()
    assert expected, f"{start}: wrote nothing"
    clear()
    kills = late = ends = 0
    while kills < KILLS or ends == 0:
        resumes = is_begun()
        process = chaos.start(*(resume if resumes else start))
        now = time.monotonic()
        if kills >= KILLS:
            wait_until(now + LONGEST)
            assert process.poll() is not None, f"{start}: hangs after {kills} kills"
        elif chaos.random.random() < 0.25:
            wait_until(now + chaos.random.uniform(0.1, 1) * starting)
        else:
            # What was there before does not count: the work goes on some time after the command has started.
            wait_until(now + (0.8 * starting if resumes else LONGEST), is_begun if not resumes else lambda: False)
            wait_until(time.monotonic() + chaos.random.uniform(0, 0.7) * working)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills, late = kills + 1, late + is_begun()
            if not is_begun():  # nothing to resume: too early, or after the end
                found = {path: data for path, data in end().items() if not Path(path).name.startswith(".")}
                assert found in ({}, expected), f"{start}: half-written, and nothing to resume: {sorted(found)}"
                clear()
            continue
        check_end(start, process.returncode, process.communicate()[0], (0,))
        assert end() == expected, f"{start}: other bytes after {kills} kills"
        names = [path.name for place in places for path in (place.parent.iterdir() if place.exists() else ())]
        left = [name for name in names if name.endswith((".partial", ".tmp", ".lock"))]
        assert not left, f"{start}: left behind: {left}"
        clear()
        ends += 1
    return f"{kills} kills, {late} of them with work to resume, {ends} ends the same ({starting + working:.1f} s alone)"


@scenario
def kill_ita(chaos: Chaos) -> str:
    command = ["prepare", "ita", "manifest.csv", "--output", "toned.csv", "--force"]
    return killed(chaos, command, command, ["toned.csv", "toned.bad.csv"], "toned.csv.*.partial")


@scenario
def kill_masks(chaos: Chaos) -> str:
    command = ["prepare", "masks", "manifest.csv", "--output", "masked.csv", "--force"]
    return killed(chaos, command, command, ["masked.csv", "masked.bad.csv", "masks-lesion"], "masked.csv.*.partial")


@scenario
def kill_resize(chaos: Chaos) -> str:
    command = ["prepare", "resize", "manifest.csv", "--output", "small.csv", "--size", "48"]
    return killed(chaos, command, command, ["small.csv", "small.bad.csv", "resized-48"], "small.csv.*.partial")


@scenario
def kill_dedup(chaos: Chaos) -> str:
    command = ["prepare", "dedup", "manifest.csv", "--output", "unique.csv"]
    return killed(chaos, command, command, ["unique.csv", "unique.bad.csv"], "unique.csv.*.partial")


@scenario
def kill_prepare_all(chaos: Chaos) -> str:
    command = ["prepare", "all", "data", "--output", "all.csv", "--size", "48", "--force"]
    outputs = ["all.csv", "all.bad.csv", "masks-lesion", "resized-48"]
    return killed(chaos, command, command, outputs, "all.csv.*.partial")


@scenario
def kill_predict(chaos: Chaos) -> str:
    command = ["predict", "--model", "model.onnx", "--images", "data/images", "--output", "p.csv", "--batch-size", "8"]
    return killed(chaos, command, [*command, "--resume"], ["p.csv"], "p.csv*.partial")


@scenario
def kill_train(chaos: Chaos) -> str:
    start, resume = [*TRAIN, "--output-dir", "killed"], ["train", "--resume", "--output-dir", "killed"]
    weights = "epoch-003*/model.safetensors"
    return killed(chaos, start, resume, ["killed"], "killed/checkpoints/index.json", weights)


@scenario
def torchrun(chaos: Chaos) -> str:
    """A killed rank is restarted, a stopped launcher leaves a checkpoint, a bad image of one rank stops both."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch = [*launcher, "--max-restarts", "2", "-m", "melfast"]
    process = chaos.start(*TRAIN, "--output-dir", "ranks", program=launch)
    index = chaos.folder / "ranks" / "checkpoints" / "index.json"
    wait_for(index.is_file, process)
    ranks = children_of(process.pid, "melfast")
    os.kill(chaos.random.choice(ranks), signal.SIGKILL)
    said, _ = process.communicate(timeout=LONGEST)
    check_end("a killed rank", process.returncode, said, (0,))
    assert (chaos.folder / "ranks" / "checkpoints" / "epoch-003").is_dir(), said[-2000:]

    process = chaos.start(*TRAIN, "--epochs", 8, "--output-dir", "stopped", program=launch)
    wait_for((chaos.folder / "stopped" / "checkpoints" / "index.json").is_file, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONGEST)
    said = chaos.run("train", "--resume", "--output-dir", "stopped")

    text = (chaos.folder / "manifest.csv").read_text().replace("data/images/", "bad/images/")
    shutil.copytree(chaos.folder / "data" / "images", chaos.folder / "bad" / "images")
    (chaos.folder / "bad.csv").write_text(text)
    victim = next(line.split(",")[0] for line in text.splitlines() if ",train" in line)
    (file,) = (chaos.folder / "bad" / "images").glob(f"{victim}.*")
    file.write_bytes(file.read_bytes()[:200])
    words = ["bad.csv" if word == "manifest.csv" else word for word in TRAIN]
    said = chaos.run(*words, "--output-dir", "bad-run", program=[*launcher, "-m", "melfast"], ends=(1,))
    assert victim in said, said[-2000:]
    return "killed rank restarted, SIGTERM to the launcher answered, bad image named"


@scenario
def awkward_training(chaos: Chaos) -> str:
    said = chaos.run(*TRAIN, "--batch-size", 5000, "--output-dir", "large", ends=(1, 2))
    assert "5000" in said or "5,000" in said, said
    said = chaos.run(*TRAIN, "--batch-size", 1, "--epochs", 1, "--output-dir", "one", ends=ENDS)
    said = chaos.run(*TRAIN, "--set", "train.precision=fp16", "--set", "optim.lr=1e6", "--output-dir", "hot", ends=ENDS)
    return "batch larger than the data, batch of one with batch norm, fp16 that overflows"


@scenario
def read_only_folder(chaos: Chaos) -> str:
    """Outputs into a folder that cannot be written; root may write anywhere, so there it is a file in the way."""
    place = chaos.folder / "closed"
    if os.geteuid() == 0:
        place.write_text("in the way")
    else:
        place.mkdir()
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
    commands = [
        ["prepare", "import", "data", "--output", "closed/m.csv"],
        ["prepare", "ita", "manifest.csv", "--output", "closed/m.csv", "--force"],
        ["prepare", "masks", "manifest.csv", "--output", "m.csv", "--masks-dir", "closed/masks", "--force"],
        ["prepare", "resize", "manifest.csv", "--output", "m.csv", "--copies-dir", "closed/copies"],
        ["predict", "--model", "model.onnx", "--images", "data/images", "--output", "closed/p.csv"],
        ["export", "--checkpoint", "run", "--format", "onnx", "--output", "closed/m.onnx"],
        ["evaluate", "--checkpoint", "run", "--output-dir", "closed/e"],
        [*TRAIN, "--output-dir", "closed/run"],
        ["synth", "closed/data", "--images", "3"],
        ["show", "manifest.csv", "--output", "closed/s.png"],
    ]
    for command in commands:
        said = chaos.run(*command, ends=(1, 2))
        assert "closed" in said, f"{command}: does not name the folder\n{said}"
    return f"{len(commands)} commands refuse in a line"


@scenario
def replaced_files(chaos: Chaos) -> str:
    """Images are replaced, cut off and deleted while commands read them."""
    shutil.copytree(chaos.folder / "data", chaos.folder / "moving" / "data")
    images = sorted((chaos.folder / "moving" / "data" / "images").iterdir())
    spare = [file.read_bytes() for file in images[:8]]
    for command in (
        ["predict", "--model", "model.onnx", "--images", "moving/data/images", "--output", "moving.csv"],
        ["prepare", "check", "moving/m.csv", "--output", "moving/c.csv"],
        ["prepare", "ita", "moving/m.csv", "--output", "moving/t.csv", "--force"],
    ):
        if command[0] == "prepare" and not (chaos.folder / "moving" / "m.csv").exists():
            for file in images:
                file.write_bytes(spare[0])
            chaos.run("prepare", "import", "moving/data", "--output", "moving/m.csv")
        process = chaos.start(*command)
        while process.poll() is None:
            file, act = chaos.random.choice(images), chaos.random.random()
            if act < 0.3:
                file.unlink(missing_ok=True)
            elif act < 0.6:
                file.write_bytes(chaos.random.choice(spare)[: chaos.random.randrange(3000)])
            else:
                file.write_bytes(chaos.random.choice(spare))
            time.sleep(0.002)
        check_end(command, process.returncode, process.communicate()[0], (0, 1))
    return "images replaced, cut off and deleted under predict, check and ita"


def mutated(text: bytes, draw: random.Random) -> bytes:
    """A table with one to four of its bytes, cells or lines changed, doubled, moved or dropped."""
    for _ in range(draw.randint(1, 4)):
        lines = text.split(b"\n")
        row = draw.randrange(len(lines))
        cells = lines[row].split(b",")
        cell = draw.randrange(len(cells))
        strange = [
            b"",
            b"nan",
            b"inf",
            b"-1",
            b"2",
            b"1e999",
            b'"',
            b"\x00",
            "é𝔸".encode(),
            b"=1+1",
            b"0x1f",
            b"../../x",
        ]
        match draw.randrange(8):
            case 0:
                cells[cell] = draw.choice(strange)
            case 1:
                cells.pop(cell)
            case 2:
                cells.insert(cell, draw.choice(strange))
            case 3:
                draw.shuffle(cells)
        lines[row] = b",".join(cells)
        match draw.randrange(8):
            case 0:
                lines.pop(row)
            case 1:
                lines.insert(row, draw.choice(lines))
            case 2:
                lines = lines[: row + 1]
        text = b"\n".join(lines)
        if draw.random() < 0.3 and text:
            place = draw.randrange(len(text))
            text = text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :]
    return text


def in_process(chaos: Chaos, table: Path, command: Callable[[int], Argv], count: int) -> str:
    """Mutants of a table through a command, in one process.

    The whole table comes first: it pays for imports, compiled loops and fonts, and is timed apart.
    """
    from click.testing import CliRunner

    from melfast.cli import main
    from melfast.io.errors import InputError

    whole, ends = table.read_bytes(), Counter[int]()
    first = slowest = 0.0
    os.chdir(chaos.folder)
    for number in range(-1, count):
        (chaos.folder / "mutant.csv").write_bytes(mutated(whole, chaos.random) if number >= 0 else whole)
        began = time.monotonic()
        done = CliRunner().invoke(main, command(number))
        took = time.monotonic() - began
        if number < 0:
            assert done.exit_code == 0, f"the whole table: {done.output[-2000:]}"
            first = took
            continue
        slowest = max(slowest, took)
        if done.exit_code not in (0, 1) or not isinstance(done.exception, SystemExit | InputError | None):
            shutil.copy("mutant.csv", ROOT / "build" / "chaos-mutant.csv")
            raise AssertionError(f"{command(number)}: {done.exception!r}\n{done.output[-2000:]}")
        ends[done.exit_code] += 1
    assert len(ends) == 2, f"all ended with {set(ends)}"
    assert slowest < 10, f"the slowest took {slowest:.1f} s"
    return f"{count} tables: {dict(ends)}, slowest {slowest:.1f} s (the whole table, first: {first:.1f} s)"


@scenario
def mutated_report(chaos: Chaos) -> str:
    chaos.run("predict", "--model", "model.onnx", "--images", "data/images", "--output", "whole.csv")
    return in_process(
        chaos,
        chaos.folder / "whole.csv",
        lambda number: [
            "report",
            "mutant.csv",
            "--manifest",
            "manifest.csv",
            "--output",
            f"reports/{number}",
            "--permutations",
            "100",
        ],
        500,
    )


@scenario
def mutated_split(chaos: Chaos) -> str:
    return in_process(
        chaos,
        chaos.folder / "imported.csv",
        lambda number: ["prepare", "split", "mutant.csv", "--output", "mutant-split.csv", "--force"],
        500,
    )


@scenario
def mutated_train(chaos: Chaos) -> str:
    """One epoch of the first 40 rows."""
    rows = (chaos.folder / "manifest.csv").read_text().splitlines(keepends=True)[:41]
    (chaos.folder / "rows.csv").write_text("".join(rows))
    tiny = [*TRAIN[:3], "--data-path", "mutant.csv", "--epochs", "1", "--input-size", "32x32", "--batch-size", "16"]
    return in_process(
        chaos, chaos.folder / "rows.csv", lambda number: [*tiny, "--output-dir", f"mutants/{number}"], 500
    )


def mutated_pictures(chaos: Chaos, folder: Path, count: int) -> None:
    """Drawn images in every format, with bytes changed, cut off, doubled and taken from one another."""
    from PIL import Image

    folder.mkdir()
    sources = sorted((chaos.folder / "data" / "images").iterdir())[:20]
    formats = {
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".jfif": "JPEG",
        ".png": "PNG",
        ".webp": "WEBP",
        ".bmp": "BMP",
        ".tif": "TIFF",
    }
    whole: list[tuple[str, bytes]] = []
    for number, source in enumerate(sources):
        with Image.open(source) as image:
            for suffix, name in formats.items():
                file = folder / f"source-{number}{suffix}"
                options = {"progressive": True} if number % 3 == 0 and name == "JPEG" else {}
                image.convert("RGB").save(file, name, **options)
                whole.append((suffix, file.read_bytes()))
                file.unlink()
    for number in range(count):
        suffix, data = chaos.random.choice(whole)
        changed = bytearray(data)
        for _ in range(chaos.random.randint(1, 12)):
            place = chaos.random.randrange(min(len(changed), 600) if chaos.random.random() < 0.7 else len(changed))
            changed[place] = chaos.random.randrange(256)
        match chaos.random.randrange(6):
            case 0:
                del changed[chaos.random.randrange(len(changed)) :]
            case 1:
                place = chaos.random.randrange(len(changed))
                changed[place:place] = chaos.random.choice(whole)[1][:200]
            case 2:
                suffix = chaos.random.choice(list(formats))
        (folder / f"m{number:04}{suffix}").write_bytes(changed)


@scenario
def mutated_images(chaos: Chaos) -> str:
    folder, count = chaos.folder / "pictures", 5000
    mutated_pictures(chaos, folder, count)
    said = chaos.run("predict", "--model", "model.onnx", "--images", "pictures", "--output", "pictures.csv")
    rows = (chaos.folder / "pictures.csv").read_text().count("\n") - 1
    failed = (chaos.folder / "pictures.failed.csv").read_text().count("\n") - 1
    assert rows + failed == count, f"{rows} rows and {failed} failures of {count}\n{said[-1000:]}"
    names = "\n".join(f"{file.stem}-{file.suffix[1:]},pictures/{file.name}" for file in sorted(folder.iterdir()))
    (chaos.folder / "pictures-m.csv").write_text(f"image_name,path\n{names}\n")
    chaos.run("prepare", "check", "pictures-m.csv", "--output", "pictures-c.csv", ends=(0, 1))
    chaos.run("prepare", "ita", "pictures-m.csv", "--output", "pictures-t.csv", ends=(0, 1))
    return f"{count} pictures through predict, check and ita: {rows} predicted, {failed} refused by name"


@scenario
def two_at_once(chaos: Chaos) -> str:
    """Two of the same command on one output: one works, the other says who does."""
    predict = [
        "predict",
        "--model",
        "model.onnx",
        "--images",
        "data/images",
        "--output",
        "two.csv",
        "--batch-size",
        "1",
    ]
    with ThreadPoolExecutor(2) as pool:
        for command in (predict, [*TRAIN, "--output-dir", "two"]):
            processes = [chaos.start(*command) for _ in range(2)]
            said = list(pool.map(lambda process: process.communicate(timeout=LONGEST)[0], processes))
            codes = sorted(process.returncode for process in processes)
            assert codes[0] == 0, f"{command}: {codes}\n{said}"
            assert codes[1] in ENDS, f"{command}: {codes}\n{said}"
            for words, process in zip(said, processes, strict=True):
                check_end(command, process.returncode, words)
    assert (chaos.folder / "two.csv").read_text().count("\n") == 241
    return "predict and train, two processes each on one output"


def children_of(pid: int, word: str) -> list[int]:
    """Processes below one whose command line holds a word."""
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True) if word in " ".join(child.cmdline())]


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert process.poll() is None, process.communicate()[0][-2000:]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def attempt(name: str, prepared: Path, seed: int) -> tuple[bool, str]:
    """Whether a scenario holds, in a copy of the prepared folder, and a line on it."""
    start = time.monotonic()
    folder = prepared.with_name(name)
    shutil.copytree(prepared, folder)
    try:
        outcome, holds = SCENARIOS[name](Chaos(folder, seed)), True
    except (AssertionError, subprocess.TimeoutExpired) as error:
        outcome, holds = f"FAILED: {error}", False
    return holds, f"{name}: {outcome} [{time.monotonic() - start:.0f} s]"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[SCENARIO]...", type=click.Choice(list(SCENARIOS)))
@click.option("--seed", type=int, default=0, show_default=True, help="Draw other kills and mutations.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Scenarios at a time.")
def main(names: tuple[str, ...], seed: int, jobs: int) -> None:
    """Try to break melfast: all scenarios, or those named."""
    (ROOT / "build").mkdir(exist_ok=True)
    failures, began = 0, time.monotonic()
    with TemporaryDirectory(prefix="melfast-chaos-") as root, ProcessPoolExecutor(jobs) as pool:
        prepared = Path(root) / "prepared"
        prepared.mkdir()
        Chaos(prepared, seed).prepare()
        for done in as_completed([pool.submit(attempt, name, prepared, seed) for name in names or SCENARIOS]):
            holds, line = done.result()
            failures += not holds
            click.echo(line)
            sys.stdout.flush()
    click.echo(f"{failures} failed, {time.monotonic() - began:.0f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
