"""The harness: turns, ratios, checks, output; and the suite loader on small files."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import harness, images, run
from benchmarks.harness import CheckFailedError, Comparison, Contestant, Run, Timing
from benchmarks.peers.loaders import Epoch
from benchmarks.suites import loader
from melfast.io.errors import InputError

ROOT = Path(__file__).parents[2]


def quiet_run(repeats: int = 3, data: Path | None = None) -> Run:
    return Run(data, threads=1, repeats=repeats, console=Console(file=StringIO(), width=110))


def printed(found: Run) -> str:
    assert isinstance(found.console.file, StringIO)
    return found.console.file.getvalue()


# By hand.


def test_ratio_is_taken_repeat_by_repeat() -> None:
    """If the machine becomes half as fast in the middle, the ratios stay the same."""
    subject = Timing("new", None, items=10, seconds=[1.0, 2.0, 4.0])
    peer = Timing("old", 2.0, items=10, seconds=[2.0, 4.0, 12.0])
    comparison = Comparison("race", "images/s", [subject, peer])
    assert subject.rates.tolist() == [10, 5, 2.5]
    assert comparison.ratios(peer).tolist() == [2, 2, 3]
    assert comparison.met(peer) is True
    assert comparison.met(subject) is None
    line = comparison.to_dict()["contestants"][1]
    assert line["ratio"] == {"median": 2.0, "q1": 2.0, "q3": 2.5}
    assert line["rate"]["median"] == 2.5
    assert line["seconds"] == [2.0, 4.0, 12.0]
    peer.target = 2.1
    assert comparison.met(peer) is False


def test_contestants_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    def runner(name: str) -> Callable[[], int]:
        return lambda: calls.append(name) or 7  # type: ignore[func-returns-value]

    found = quiet_run(repeats=3)
    comparison = found.compare("race", "images/s", [Contestant(n, runner(n)) for n in "ABC"])
    assert "".join(calls) == "ABC" * (harness.WARMUPS + 3)
    assert [len(timing.seconds) for timing in comparison.timings] == [3, 3, 3]
    assert [timing.items for timing in comparison.timings] == [7, 7, 7]


def test_time_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(harness.time, "perf_counter", lambda: float(next(clock)))
    comparison = quiet_run(2).compare("race", "images/s", [Contestant("A", lambda: 12)])
    assert comparison.timings[0].seconds == [3.0, 3.0]
    assert comparison.timings[0].rates.tolist() == [4.0, 4.0]


def test_table_says_how_fast_how_sure_and_whether_targets_are_met() -> None:
    found = quiet_run()
    timings = [
        Timing("melfast", None, 100, [1.0, 1.0, 1.0]),
        Timing("slow", 3.5, 100, [4.0, 4.0, 4.0]),
        Timing("fast", 0.9, 100, [0.5, 0.5, 0.5]),
    ]
    found.console.print(harness.table(Comparison("race", "images/s", timings)))
    rows = {row.split()[1]: " ".join(row.split()) for row in printed(found).splitlines()[4:-1]}
    assert "100 │ 100 - 100" in rows["melfast"]
    assert "25 │ 25 - 25 │ 4.00x │ 4.00x - 4.00x │ >= 3.5x met" in rows["slow"]
    assert "200 │ 200 - 200 │ 0.50x │ 0.50x - 0.50x │ >= 0.9x missed" in rows["fast"]


def test_points_of_curves_and_numbers_that_are_no_rates() -> None:
    found = quiet_run(1)
    found.compare("race", "images/s", [Contestant("A", lambda: 1)], {"threads": 2})
    found.compare("race", "images/s", [Contestant("A", lambda: 1)])
    found.measured("memory", "bytes", 4096, {"rows": 7})
    record = found.to_dict()
    assert [c.get("at") for c in record["comparisons"]] == [{"threads": 2}, None]
    assert record["measurements"] == [{"title": "memory", "unit": "bytes", "value": 4096.0, "at": {"rows": 7}}]
    assert "memory: 4096 bytes" in printed(found)
    assert "measurements" not in quiet_run().to_dict()


# Wrong results end a suite.


@pytest.mark.parametrize(
    ("found", "limits", "message"),
    [
        (39.0, {"at_least": 40}, "wrong result: PSNR: 39 (expected >= 40)"),
        (3.0, {"at_most": 2.5}, "wrong result: PSNR: 3 (expected <= 2.5)"),
        (float("nan"), {"at_least": 0, "at_most": 1}, "wrong result: PSNR: nan (expected >= 0 and <= 1)"),
    ],
)
def test_check_outside_its_limits(found: float, limits: dict[str, float], message: str) -> None:
    bench = quiet_run()
    bench.check("fine", 1, at_least=1, at_most=1)
    with pytest.raises(CheckFailedError, match=f"^{re.escape(message)}$"):
        bench.check("PSNR", found, **limits)
    assert [check["passed"] for check in bench.to_dict()["checks"]] == [True, False]


def test_a_contestant_that_does_less_the_second_time() -> None:
    counts = iter([10, 10, 9])
    with pytest.raises(CheckFailedError, match=r"^A did 9 items, 10 the time before$"):
        quiet_run(5).compare("race", "images/s", [Contestant("A", lambda: next(counts))])


def test_a_name_is_taken_once() -> None:
    with pytest.raises(AssertionError, match="two suites are called loader"):
        harness.suite("loader")(lambda run: None)


# The command.


def invoke(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(run.main, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def two_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    def good(bench: Run) -> None:
        """Counts to ten."""
        bench.check("ten", 10, at_least=10)
        bench.miss("a peer", "no module peer")
        bench.compare("count", "numbers/s", [Contestant("A", lambda: 10), Contestant("B", lambda: 10)])

    def bad(bench: Run) -> None:
        """Is wrong."""
        bench.check("ten", 9, at_least=10)

    monkeypatch.setattr(run, "SUITES", {"bad": bad, "good": good})


def test_json_has_every_sample_and_what_it_was_measured_with(two_suites: None, tmp_path: Path) -> None:
    code, out, _ = invoke("good", "--repeats", 4, "--threads", 2, "--json", tmp_path / "a.json")
    assert code == 0
    assert "missing: a peer: no module peer" in out
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["settings"] == {"threads": 2, "repeats": 4, "data": None}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert head.returncode != 0 or record["commit"].startswith(head.stdout.strip())
    assert record["versions"]["numpy"] == np.__version__
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["cpu"]
    assert record["hardware"]["memory_gib"] > 0
    found = record["suites"]["good"]
    assert found["failure"] is None
    assert found["missing"] == {"a peer": "no module peer"}
    assert [len(line["seconds"]) for line in found["comparisons"][0]["contestants"]] == [4, 4]


def test_a_wrong_result_is_exit_code_1_and_the_others_still_run(two_suites: None, tmp_path: Path) -> None:
    code, _, errors = invoke("all", "--repeats", 1, "--json", tmp_path / "a.json")
    assert code == 1
    assert "error: bad: wrong result: ten: 9 (expected >= 10)" in errors
    suites = json.loads((tmp_path / "a.json").read_text())["suites"]
    assert suites["bad"]["failure"] == "wrong result: ten: 9 (expected >= 10)"
    assert suites["good"]["failure"] is None
    assert invoke("good", "--repeats", 1)[0] == 0


def test_all_leaves_out_what_is_run_by_name(two_suites: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "APART", {"bad"})
    code, out, _ = invoke("all", "--repeats", 1)
    assert code == 0
    assert "bad: left out, it takes long: python benchmarks/run.py bad" in out
    assert invoke("bad", "--repeats", 1)[0] == 1


def test_list_and_an_unknown_suite(two_suites: None) -> None:
    code, out, _ = invoke("--list")
    assert code == 0
    assert out.splitlines() == ["bad         Is wrong.", "good        Counts to ten."]
    code, _, errors = invoke("lodaer")
    assert code == 2
    assert "no suite 'lodaer'; there are: all, bad, good" in errors


def test_the_script_finds_its_suites() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--list"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert re.search(r"^loader +JPEG files", found.stdout, re.MULTILINE)


# Suite loader.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drawn")
    images.draw(made, 5, 300, 400)
    return made


def melfast_only(wrong: Callable[[Any], Any]) -> tuple[loader.Entry, ...]:
    """The native loader, and a peer that returns wrong images."""

    @contextmanager
    def spoilt(*arguments: Any) -> Iterator[Epoch]:
        with loader.ENTRIES[0].open(*arguments) as epoch:
            yield lambda: (wrong(batch) for batch in epoch())

    opened: Callable[..., AbstractContextManager[Epoch]] = spoilt
    return (loader.ENTRIES[0], loader.Entry("spoilt", opened, "numpy"))


def test_loader_suite_with_all_its_peers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "IMAGES_PER_RUN", 40)
    found = quiet_run(repeats=1, data=folder)
    loader.loader(found)
    assert found.missing == {f"images {images.LARGE}": f"none in {folder}"}
    comparison, training = found.comparisons
    names = [timing.name for timing in comparison.timings]
    assert names == [*(e.name for e in loader.ENTRIES), loader.LIMIT]
    assert [timing.items for timing in comparison.timings] == [40] * len(names)
    assert all(timing.target is None for timing in comparison.timings)
    names = [timing.name for timing in training.timings]
    assert names == ["melfast native", *loader.TRAINING, loader.LIMIT]
    # A training epoch leaves out what does not fill its last batch.
    assert [timing.items for timing in training.timings] == [32] * (len(names) - 1) + [40]
    assert [timing.target for timing in training.timings] == [None, 2.0, None, None]
    assert len(found.checks) == 2 * len(loader.ENTRIES) + len(loader.TRAINING)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda batch: batch[:, :, ::-1], "wrong result: spoilt: median PSNR in dB"),
        (lambda batch: batch[..., ::-1], "wrong result: spoilt: median PSNR in dB"),
        (lambda batch: np.roll(batch, 1, axis=0), "wrong result: spoilt: median PSNR in dB"),
        (lambda batch: batch * 1.05, "wrong result: spoilt: median PSNR in dB"),
        (lambda batch: batch[:-1], "spoilt gave 8 images, expected 10"),
    ],
)
def test_loader_suite_finds_what_is_wrong(
    wrong: Callable[[Any], Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "IMAGES_PER_RUN", 10)
    monkeypatch.setattr(loader, "BATCH", 5)
    monkeypatch.setattr(loader, "ENTRIES", melfast_only(wrong))
    with pytest.raises(CheckFailedError, match=message):
        loader.loader(quiet_run(repeats=1, data=folder))


def test_loader_suite_names_the_peers_it_has_not_got(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = loader.Entry("DALI cpu", loader.loaders.dali_cpu, "no_such.package")
    monkeypatch.setattr(loader, "ENTRIES", (loader.ENTRIES[0], absent))
    found = quiet_run(repeats=1, data=folder)
    loader.loader(found)
    assert found.missing["DALI cpu"] == "no module no_such.package"
    assert "missing: DALI cpu: no module no_such.package" in printed(found)


def test_loader_suite_names_a_file_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"^\S+a\.jpg: "):
        loader.loader(quiet_run(data=tmp_path))


def test_images_are_drawn_where_there_are_no_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELFAST_TEST_DATA", str(tmp_path))
    monkeypatch.setattr(images, "DRAWN", {images.LARGE: (1, 30, 1600), images.SMALL: (2, 30, 40)})
    with images.groups(None) as (source, groups):
        assert source == "synthetic images"
        assert {name: len(paths) for name, paths in groups.items()} == {images.LARGE: 1, images.SMALL: 2}
        kept = groups[images.LARGE][0]
        assert images.by_size([*groups[images.SMALL], kept]) == groups
    assert not kept.exists()


def test_drawn_images_are_taken_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELFAST_TEST_DATA", str(tmp_path))
    assert images.real(None) == tmp_path
    assert images.real("drawn") is None
    for name in images.REAL.values():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        images.draw(folder, 1, 30, 40)
    monkeypatch.setattr(images, "DRAWN", {images.SMALL: (2, 30, 40)})
    with images.groups(None) as (source, groups):
        assert source == "real dermoscopic images"
    with images.groups("drawn") as (source, groups):
        assert source == "synthetic images"
        assert len(groups[images.SMALL]) == 2


@pytest.mark.parametrize(("word", "seen"), [("drawn", "drawn"), ("./drawn", Path("./drawn"))])
def test_data_is_a_folder_or_the_word_drawn(
    word: str, seen: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn").mkdir()
    found = []
    monkeypatch.setitem(run.SUITES, "loader", lambda each: found.append(each.data))
    assert CliRunner().invoke(run.main, ["loader", "--data", word]).exit_code == 0
    assert found == [seen]


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.SUITES, "loader", lambda each: None)
    for busy, said in ((50.0, "warning: others keep 50 % of the processor busy"), (1.0, "")):
        monkeypatch.setattr("psutil.cpu_percent", lambda interval, busy=busy: busy)
        output = CliRunner().invoke(run.main, ["loader"]).output
        assert said in output
        assert ("warning" in output) == bool(said)
