"""Every block of code in README, features.md, the tutorial and howto/training.md runs, or is listed here.

The pages run from top to bottom, each in a folder of its own, next to small synthetic data under the
names that the text uses. On the other pages every melfast command is read by click without being
run, so that a renamed option or command is found wherever it is mentioned.
"""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from melfast.cli import main
from melfast.config.schema import load_config
from melfast.prepare.synth.dataset import SynthSettings, synthesize
from tests.docs.blocks import Block, Line, melfast_commands, parse, read_blocks, read_inline

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FEATURES = ROOT / "docs" / "features.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
TRAINING = ROOT / "docs" / "howto" / "training.md"
RUN = (README, FEATURES, TUTORIAL, TRAINING)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

# Replacements in lines that run.
SUBSTITUTES = {
    "find /data ": "find photos ",  # an existing folder
    "--shard 3/64": "--shard 1/2",  # there are fewer than 64 images
    "for k in 1 2 3 4 5;": "for k in 1 2 3;",  # as many folds as the next line combines
    "--n 32": "--n 4",
    "--images 2000 --size 300x225": "--images 160 --size 96x72",
    "--images 200 --size 300x225": "--images 80 --size 96x72",
}

# Lines of these pages that do not run here, by their beginning, and why.
NOT_RUN = {
    "make demo": "minutes; it is the steps below on more images",
    "make setup": "it sets up the environment that runs this",
    "pip install ": "needs a network; tests/test_wheel.py installs the wheel",
    "isic ": "needs a network, and isic-cli, which is no part of melfast",
    "torchrun --nproc-per-node 8": "eight GPUs; tests/train/test_distributed.py runs two processes",
    "melfast train --config configs/isic2020_multi_gpu.yaml --data-path manifest.csv "
    "--output-dir runs/second --slurm": "needs a cluster; tests/train/test_slurm.py has a stand-in",
    "melfast predict --model model.onnx --images manifest.csv --engine ray": "starts a cluster; "
    "tests/predict/test_cluster.py does",
}

# Between backticks, and not to be parsed.
NOT_COMMANDS = {"melfast COMMAND --help": "any command"}

# Config files that are not in the repository, and their replacements.
CONFIGS = {
    "CONFIG": ROOT / "configs" / "quickstart.yaml",  # the user's own
    "/opt/melfast/configs/ham10000.yaml": ROOT / "configs" / "ham10000.yaml",  # in the container
}

# Overrides for the configs that the pages name: the same recipes, but small.
TINY: dict[str, dict[str, Any]] = {
    "preprocess": {"height": 24, "width": 32},
    "model": {
        "backbone": "resnet10t",
        "backbone_options": {"channels": [4, 4, 8, 8], "stem_width": 4},
        "pretrained": False,
    },
    "train": {"epochs": 1, "batch_size": 8, "threads": 1},
    "data": {"threads": 1},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic images, and two tables like those of users: without tone and masks."""
    folder = tmp_path_factory.mktemp("drawn")
    settings = SynthSettings(images=64, size=(96, 72), malignant=0.4)
    manifest = synthesize(folder / "drawn", settings, workers=1)
    table = pd.read_csv(manifest.path, dtype=str)
    table["sex"] = ["female", "male"] * (len(table) // 2)
    own = table[["image_name", "path", "target", "patient_id", "lesion_id", "sex"]]
    archive = pd.DataFrame(
        {
            "isic_id": table["image_name"],
            "attribution": "melfast",
            "copyright_license": "CC-0",
            "age_approx": [str(20 + 5 * (i % 12)) for i in range(len(table))],
            "diagnosis_1": table["target"].map({"0": "Benign", "1": "Malignant"}),
            "diagnosis_2": table["target"].map(
                {"0": "Benign melanocytic proliferations", "1": "Malignant melanocytic proliferations (Melanoma)"}
            ),
            "lesion_id": table["lesion_id"],
            "sex": table["sex"],
        }
    )
    shutil.copytree(folder / "drawn" / "images", folder / "DATA" / "images")
    own.to_csv(folder / "DATA" / "labels.csv", index=False)
    for name in ("ham10000", "isic2020"):  # as isic-cli leaves them
        shutil.copytree(folder / "drawn" / "images", folder / name)
        archive.to_csv(folder / name / "metadata.csv", index=False)
    (folder / "photos").mkdir()
    for path in table["path"][:24]:
        shutil.copy(folder / "drawn" / path, folder / "photos")
    shutil.rmtree(folder / "drawn")
    return folder


@pytest.fixture
def stand(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with everything that the pages mention."""
    for name in ("DATA", "ham10000", "isic2020", "photos"):
        shutil.copytree(drawn / name, tmp_path / name)
    (tmp_path / "configs").mkdir()
    for config in (ROOT / "configs").glob("*.yaml"):
        recipe = yaml.safe_load(config.read_text())
        for section, values in TINY.items():
            recipe[section] = recipe.get(section, {}) | values
        (tmp_path / "configs" / config.name).write_text(yaml.safe_dump(recipe))
    shutil.copy(tmp_path / "configs" / "quickstart.yaml", tmp_path / "CONFIG")
    shutil.copy(next((tmp_path / "photos").iterdir()), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nobody_s_predictions(folder: Path) -> None:
    for name in ("a.csv", "b.csv"):
        shutil.copy(folder / "predictions.csv", folder / name)


def split_manifest(folder: Path) -> None:
    call(["prepare", "import", "DATA", "--output", "imported.csv"], "before the page")
    call(["prepare", "ita", "imported.csv", "--output", "toned.csv"], "before the page")
    call(["prepare", "split", "toned.csv", "--output", "manifest.csv"], "before the page")


def empty_folder(folder: Path) -> None:
    """Only the configs, as the section says."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != "configs":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


# What a section needs before its first block.
BEFORE: dict[tuple[Path, str], Callable[[Path], None]] = {
    (FEATURES, "Features"): nobody_s_predictions,
    (TRAINING, "Training"): split_manifest,
    (TUTORIAL, "Without a download"): empty_folder,
}


def call(words: list[str], place: str) -> None:
    done = CliRunner().invoke(main, words)
    if done.exit_code != 0:
        error = done.exception
        raise AssertionError(f"{place}: melfast {' '.join(words)}\n{done.output}\n{error!r}")


def in_a_process(command: list[str], place: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{place}: {command[-1]}\n{done.stdout}\n{done.stderr}"


def written_out(line: str) -> list[str]:
    """A line after replacements; a `for` loop as the lines that it runs."""
    for old, new in SUBSTITUTES.items():
        line = line.replace(old, new)
    loop = re.fullmatch(r"for (\w+) in ([^;]+); do (.*); done", line)
    if loop is None:
        return [line]
    name, values, body = loop.groups()
    return [body.replace(f"${name}", value) for value in values.split()]


def run_line(line: Line) -> None:
    for text in written_out(line.text):
        calls = melfast_commands(text)
        if text.startswith("melfast ") and len(calls) == 1 and "$" not in text:
            call(calls[0], line.place)
        else:
            in_a_process(["bash", "-euc", text], line.place)


def run_block(block: Block) -> None:
    if block.language == "python":
        in_a_process([sys.executable, "-c", block.code], block.place)
        return
    assert block.language == "sh", f"{block.place}: neither shell nor Python: run or list it"
    for line in block.commands:
        if reason_not_to_run(line) is None:
            run_line(line)


def reason_not_to_run(line: Line) -> str | None:
    text = " ".join(line.text.split())
    return next((why for start, why in NOT_RUN.items() if text.startswith(start)), None)


def run_page(page: Path, folder: Path, languages: set[str]) -> None:
    before = dict(BEFORE)
    for block in read_blocks(page):
        if prepare := before.pop((page, block.section), None):
            prepare(folder)
        if block.language in languages:
            continue
        run_block(block)
    assert [place for place in before if place[0] == page] == []  # a section has another name


@pytest.mark.timeout(600)
def test_readme_and_features_run(stand: Path) -> None:
    run_page(README, stand, languages=set())
    run_page(FEATURES, stand, languages=set())
    for made in ("manifest.csv", "sheet.png", "runs/first/evaluation/test/report/report.html"):
        assert (stand / made).is_file(), made
    for made in ("small.onnx", "p.parquet", "part-3.csv"):
        assert (stand / made).is_file(), made
    for made in ("report/report.html", "both/report.html", "maps/sheet.png"):
        assert (stand / made).is_file(), made


@pytest.mark.timeout(600)
def test_tutorial_runs(stand: Path) -> None:
    run_page(TUTORIAL, stand, languages={"text"})  # text: what a command printed
    assert (stand / "elsewhere-report" / "report.html").is_file()


@pytest.mark.timeout(600)
def test_training_page_runs(stand: Path) -> None:
    run_page(TRAINING, stand, languages=set())
    assert (stand / "sheet.png").is_file()
    assert (stand / "runs/three/metrics.json").is_file()


def test_nothing_is_listed_in_vain() -> None:
    lines = [line for page in RUN for block in read_blocks(page) if block.language == "sh" for line in block.commands]
    texts = [" ".join(line.text.split()) for line in lines]
    assert [start for start in NOT_RUN if not any(text.startswith(start) for text in texts)] == []
    assert [old for old in SUBSTITUTES if not any(old in text for text in texts)] == []
    everywhere = [line.text for page in PAGES for line in commands_of(page)]
    assert [old for old in CONFIGS if not any(f"--config {old} " in t for t in everywhere)] == []
    inline = {line.text for page in PAGES for line in read_inline(page)}
    assert set(NOT_COMMANDS) <= inline


def commands_of(page: Path) -> list[Line]:
    return [
        line
        for block in read_blocks(page)
        for line in (block.commands if block.language in ("sh", "bash") else block.prompted)
    ]


@each_page
def test_every_command_is_known(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of melfast has options that there are, each config file and make target exists."""
    monkeypatch.chdir(ROOT)
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    for line in commands_of(page):
        for words in melfast_commands(line.text):
            try:
                parse(words)
            except click.UsageError as error:
                pytest.fail(f"{line.place}: {line.text}\n{error.format_message()}")
            for config in (word for word in words if word.startswith("configs/")):
                assert (ROOT / config).is_file(), f"{line.place}: no {config}"
        if made := re.match(r"make (?:[A-Z]+=\S+ )*([a-z-]+)", line.text):
            assert made[1] in targets, f"{line.place}: {line.text}"
        for script in re.findall(r"python\S* ((?:benchmarks|docs|tests)/\S+\.py)", line.text):
            assert (ROOT / script).is_file(), f"{line.place}: no {script}"


def parse_shortened(words: list[str]) -> None:
    """Like `parse`, for a command that the text shortens."""
    try:
        parse(words)
    except click.MissingParameter:
        pass
    except click.BadOptionUsage as error:
        if error.option_name != words[-1]:  # `melfast train --slurm`: without its value
            raise


@each_page
def test_every_command_between_backticks_is_known(page: Path) -> None:
    for line in read_inline(page):
        if line.text in NOT_COMMANDS:
            continue
        for words in melfast_commands(line.text):
            try:
                parse_shortened(words)
            except click.UsageError as error:
                pytest.fail(f"{line.place}: {line.text}\n{error.format_message()}")


@each_page
def test_every_command_stands_in_a_block(page: Path) -> None:
    """A block indented by four spaces below a list would be a paragraph of the list, also on GitHub."""
    lines = page.read_text().splitlines()
    inside = {block.line + number for block in read_blocks(page) for number in range(len(block.code.splitlines()))}
    for number, line in enumerate(lines, start=1):
        if re.match(r" {4,}melfast ", line):
            assert number in inside, f"{page.name}:{number}: {line}"


def configs_of(page: Path, folder: Path) -> dict[str, Path]:
    """The files that a page itself writes out, each below a line that names it."""
    text = page.read_text(encoding="utf-8")
    found = {}
    for name, code in re.findall(r"`([\w-]+\.yaml)`:\n\n```yaml\n(.*?)```", text, re.S):
        found[name] = folder / name
        found[name].write_text(code)
    return found


@each_page
def test_every_config_key_is_known(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training commands, also those that need a cluster, resolve with the keys they set."""
    monkeypatch.chdir(ROOT)
    configs = CONFIGS | configs_of(page, tmp_path)
    for line in commands_of(page):
        for words in melfast_commands(line.text.replace("$k/", "1/")):
            if words[0] != "train" or "--config" not in words:
                continue
            place = words.index("--config") + 1
            words[place] = str(configs.get(words[place], words[place]))
            call([*words, "--print-config"], line.place)


@each_page
def test_every_block_of_yaml_is_a_config(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(read_blocks(page)):
        if block.language in ("yaml", "yml"):
            file = tmp_path / f"{number}.yaml"
            file.write_text(block.code)
            load_config(file)


@each_page
def test_every_block_of_python_names_what_there_is(page: Path) -> None:
    for block in read_blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("melfast"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{block.place}: {alias.name}"


def page_of(tmp_path: Path, text: str) -> list[Block]:
    path = tmp_path / "page.md"
    path.write_text(text)
    return read_blocks(path)


def test_blocks_of_a_page(tmp_path: Path) -> None:
    text = (
        "# One\n\ntext\n\n    melfast train --config a \\\n      --lr 1  # why\n    # a remark\n\n"
        "## Two\n\n```python\nimport melfast\n```\n\n```{toctree}\nx\n```\n\n    ok   core\n"
    )
    shell, python, said = page_of(tmp_path, text)
    assert (shell.section, shell.language, shell.place) == ("One", "sh", "page.md:5")
    assert [line.text for line in shell.commands] == ["melfast train --config a   --lr 1  # why"]
    assert (python.section, python.language, python.line) == ("Two", "python", 12)
    assert said.language == "text"


def test_commands_of_a_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\nSay `melfast train\n--lr 1` or\n\n| a |\n|---|\n| `melfast doctor` |\n\n"
        "```text\n$ melfast predict --modell a\nmelfast: error\n```\n"
    )
    lines = [(line.place, line.text) for line in read_inline(page)]
    assert lines == [("page.md:3", "melfast train --lr 1"), ("page.md:8", "melfast doctor")]
    (said,) = commands_of(page)
    assert (said.place, said.text) == ("page.md:11", "melfast predict --modell a")


def test_commands_of_a_line() -> None:
    assert melfast_commands("find . -name '*.jpg' | melfast predict --images -  # all") == [
        ["predict", "--images", "-"]
    ]
    assert melfast_commands("for k in 1 2; do melfast train --fold $k/2; done") == [["train", "--fold", "$k/2"]]
    assert melfast_commands("torchrun --nproc-per-node 2 -m melfast evaluate --tta flips") == [
        ["evaluate", "--tta", "flips"]
    ]
    assert melfast_commands("docker run --rm melfast:cpu doctor && melfast doctor --json") == [
        ["doctor"],
        ["doctor", "--json"],
    ]
    assert melfast_commands("CUDA_VISIBLE_DEVICES=$((k - 1)) melfast train --fold $k/5 &") == [
        ["train", "--fold", "$k/5"]
    ]
    assert melfast_commands("sbatch --array=1-64 --wrap 'melfast predict --shard $K/64'") == [
        ["predict", "--shard", "$K/64"]
    ]
    assert melfast_commands("ls melfast") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("melfast predict --modell m.onnx --images a --output b", "--modell"),
        ("melfast prepare maskes a.csv", "no such command: maskes"),
        ("melfast evaluate --checkpoint a --tta turns", "'turns' is not one of"),
        ("melfast export --checkpoint a", "Missing parameter: output"),
    ],
)
def test_a_wrong_command_is_seen(line: str, message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        parse(melfast_commands(line)[0])


def test_a_shortened_command_may_lack_what_is_not_spoken_of() -> None:
    for line in ("melfast export", "melfast train --slurm", "melfast prepare ita"):
        parse_shortened(melfast_commands(line)[0])
    for line in ("melfast exporte", "melfast export --formatt", "melfast evaluate --tta turns"):
        with pytest.raises(click.UsageError):
            parse_shortened(melfast_commands(line)[0])


def test_a_block_that_is_neither_run_nor_listed_is_seen(tmp_path: Path) -> None:
    (block,) = page_of(tmp_path, "# One\n\n    Some text\n")
    with pytest.raises(AssertionError, match=r"page\.md:3: neither shell nor Python"):
        run_block(block)
    (block,) = page_of(tmp_path, "# One\n\n    find nonesuch\n")
    with pytest.raises(AssertionError, match=r"page\.md:3: find nonesuch"):
        run_block(block)
