"""The scaling plan: its arithmetic by hand, against what was measured, and as the page has it."""

import dataclasses
import json
import re

import click
import pytest
from click.testing import CliRunner

from benchmarks import plants, simulate
from benchmarks.constants import PUBLIC, RESULTS, Results, scaling_record
from benchmarks.pipeline import closed_form
from benchmarks.plants import best, middle, worst

COMMITTED = RESULTS / "scaling-cpu.json"
needs_results = pytest.mark.skipif(not COMMITTED.exists(), reason=f"{COMMITTED.name} is not there")


@pytest.fixture(scope="module")
def measured() -> tuple[Results, dict[str, Results]]:
    if not COMMITTED.exists():
        pytest.skip(f"{COMMITTED.name} is not there")
    return simulate.read_results()


# By hand.


def test_all_reduce_by_hand():
    assert plants.all_reduce(1, middle) == 0
    # Half of: 2 (n - 1) / n of 28 million float32 over the link, and 20 us a doubling.
    assert plants.all_reduce(8, middle) == pytest.approx(
        (2 * 7 / 8 * 112e6 / 380e9 + 3 * 20e-6) / 2
    )
    assert plants.all_reduce(16, middle) == pytest.approx(
        (2 * 15 / 16 * 112e6 / 40e9 + 4 * 20e-6) / 2
    )


def test_gpu_training_by_hand(measured):
    results, _ = measured
    read, decode, step = plants.gpu_training(results, plants.COPIES)(middle).stages
    compute = 64 * 6 * 4.5e9 / 98.94e12
    assert step.work == pytest.approx(compute + 64 * 224 * 224 * 6 / 51.2e9)
    assert decode.width == 14
    seconds = results.measurement("scaling", "copies of 288 px: mean seconds an image, one core")
    assert decode.work == pytest.approx(64 * seconds.value / 0.8)
    num_bytes = results.measurement("scaling", "copies of 288 px: mean bytes a file").value
    assert read.work == pytest.approx(64 * num_bytes / (8 * 3.4e9))


def test_network_and_files_on_the_same_cores():
    rates = [dataclasses.replace(PUBLIC["drives of a node"], value=value) for value in (30, 60)]
    both, apart = (
        closed_form(plants.on_cores(2, decode=rates[0], compute=rates[1], threads=n)(middle))
        for n in (2, 1)
    )
    assert both.images == pytest.approx(20)  # 1 / (1/30 + 1/60)
    assert apart.images == pytest.approx(30)  # one core each: the slower of the two


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.234, "1.23 s"), (119, "119 s"), (1908, "31.8 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert simulate.duration(seconds) == text


def test_constants_say_where_they_are_from():
    for name, constant in PUBLIC.items():
        assert constant.low <= constant.value <= constant.high, name
        assert not constant.measured
        assert "http" in constant.source or "guess" in constant.source or "timm" in constant.source
        assert (
            constant.low == constant.high or "guess" in constant.source or "half" in constant.source
        )


# Formula, simulation and what was measured.


def test_plants_by_formula_and_by_simulation(measured):
    for plant in plants.plants(measured[0]):
        by_hand, played = plants.pace_both(plant.build(middle), plant.images)
        assert played.images == pytest.approx(by_hand.images, rel=plants.AGREE), plant.name
        assert played.bottleneck == by_hand.bottleneck, plant.name


def test_a_better_machine_is_no_slower(measured):
    for plant in plants.plants(measured[0]):
        rates = [closed_form(plant.build(pick)).images for pick in (worst, middle, best)]
        assert rates == sorted(rates), plant.name


def test_predictions_hold_against_what_was_measured(measured):
    done = [check for check in plants.checks(*measured) if check.sure]
    assert len(done) >= 6
    for check in done:
        for pace in plants.pace_both(check.pipe, 10_000):
            assert pace.images == pytest.approx(check.measured.value, rel=check.within), check.name


def test_a_prediction_from_a_wrong_constant_does_not_hold(measured):
    """Half a stage's work, and every prediction is off by more than it may be."""
    for check in plants.checks(*measured):
        stages = check.pipe.stages
        slowest = max(stages, key=lambda stage: stage.work / stage.width)
        halved = tuple(
            dataclasses.replace(s, work=s.work / 2) if s is slowest else s for s in stages
        )
        pace = closed_form(dataclasses.replace(check.pipe, stages=halved))
        if check.sure:
            assert pace.images > check.measured.value * (1 + check.within), check.name


def test_unsure_figures_are_not_held_against_each_other():
    rate = dataclasses.replace(PUBLIC["drives of a node"], value=10, low=9, high=11)
    noisy = dataclasses.replace(rate, low=7)
    check = plants.Check("a", plants.on_cores(1, decode=rate, compute=None)(middle), rate, (), 0.1)
    assert check.spread == pytest.approx(0.1)
    assert check.sure
    assert not dataclasses.replace(check, measured=noisy).sure
    assert not dataclasses.replace(check, of=(noisy,)).sure


def test_figures_of_two_machines_are_not_mixed(measured):
    _, others = measured
    names = [check.name for check in plants.across_files(others)]
    record = json.loads(json.dumps(others["inference"].record))
    record["hardware"]["isa"] = "another"
    other = others | {"inference": Results("inference-cpu.json", record)}
    left = [check.name for check in plants.across_files(other)]
    assert set(names) - set(left) == {"melfast predict, from suites loader and inference"}


def test_a_figure_that_is_not_there():
    results = Results.read("loader-cpu.json", RESULTS)
    with pytest.raises(LookupError, match=r"^loader-cpu\.json: 0 of 'no' in loader: '70 images"):
        results.rate("loader", "70 images", "no")
    with pytest.raises(LookupError, match=r"^x: no 'y' in s$"):
        Results("x", {"suites": {"s": {"measurements": []}}}).measurement("s", "y")


def test_what_was_measured_again_replaces_what_was_there(tmp_path):
    def write(name, cpu, **suites):
        record = {"hardware": {"cpu": cpu, "cores": 2, "isa": "avx2"}, "suites": suites}
        (tmp_path / name).write_text(json.dumps(record))

    def part(*found):
        return {"comparisons": [{"title": title, "unit": unit} for title, unit in found],
                "measurements": []}  # fmt: skip

    write("scaling-cpu.json", "X", scaling=part(("a", "old"), ("b", "old")))
    assert scaling_record(tmp_path)["suites"]["scaling"] == part(("a", "old"), ("b", "old"))
    again = {"scaling-threads": part(("b", "new")), "scaling-batches": part(("c", "new"))}
    write("scaling-parts-cpu.json", "X", **again)
    assert scaling_record(tmp_path)["suites"] == {
        "scaling": part(("a", "old"), ("b", "new"), ("c", "new"))
    }
    write("scaling-parts-cpu.json", "Y", **again)
    with pytest.raises(ValueError, match="differ in cpu"):
        scaling_record(tmp_path)


# The page and the command.


@needs_results
def test_page_holds_the_tables():
    found = CliRunner().invoke(simulate.main, ["--check"])
    assert found.exit_code == 0, found.output


@needs_results
def test_a_wrong_figure_is_seen_and_mended(tmp_path, monkeypatch):
    text = simulate.PAGE.read_text()
    page = tmp_path / "scaling.md"
    page.write_text(text.replace("| 10,000,000 |", "| 10,000,001 |"))
    monkeypatch.setattr(simulate, "PAGE", page)
    found = CliRunner().invoke(simulate.main, ["--check"])
    assert found.exit_code == 1
    assert "scaling.md differs: python benchmarks/simulate.py --write writes it" in found.output
    assert CliRunner().invoke(simulate.main, ["--write"]).exit_code == 0
    assert page.read_text() == text


def test_marks_must_be_there_once():
    with pytest.raises(click.ClickException, match=re.escape("<!-- predicted: ")):
        simulate.replaced("", {"predicted": "table"})


@needs_results
def test_command_prints_both_tables():
    found = CliRunner().invoke(simulate.main, [])
    assert found.exit_code == 0, found.output
    assert "Predicted" in found.output
    assert "Against what was measured" in found.output
