"""The scaling predictions: arithmetic by hand, comparison with measurements, and the page."""

import dataclasses
import json
import re

import click
import pytest
from click.testing import CliRunner

from benchmarks import machine_models, simulate
from benchmarks.constants import PUBLIC, RESULTS, Constant, Results
from benchmarks.machine_models import best, middle, worst
from benchmarks.pipeline import Pipeline, Resource, Stage, closed_form


@pytest.fixture(scope="module")
def measured() -> tuple[Results, dict[str, Results]]:
    return simulate.read_results()


# By hand.


def test_all_reduce_by_hand():
    assert machine_models.all_reduce(1, middle) == 0
    # Half of 2 (n - 1) / n of 28 million float32 over the link, plus 20 us per doubling.
    assert machine_models.all_reduce(8, middle) == pytest.approx((2 * 7 / 8 * 112e6 / 380e9 + 3 * 20e-6) / 2)
    # Eight ports of 47 GB/s a node, less than NVLink.
    assert machine_models.all_reduce(16, middle) == pytest.approx((2 * 15 / 16 * 112e6 / 376e9 + 4 * 20e-6) / 2)


def test_all_reduce_over_nodes_goes_as_fast_as_published(monkeypatch):
    """NVIDIA measures a bus bandwidth of 192 GB/s on DGX A100, eight ports of 200 Gb/s a node.

    https://github.com/NVIDIA/nccl/issues/812; the bus bandwidth as nccl-tests defines it.
    """
    port = PUBLIC["InfiniBand, one port"].value / 2  # ours is of 400 Gb/s
    for name, value in (
        ("InfiniBand, one port", port),
        ("latency of an all-reduce a doubling of ranks", 0),
        ("share of the all-reduce behind the backward pass", 0),
    ):
        monkeypatch.setitem(PUBLIC, name, dataclasses.replace(PUBLIC[name], value=value))
    bus = 2 * 15 / 16 * 112e6 / machine_models.all_reduce(16, middle)
    assert bus == pytest.approx(192e9, rel=0.05)
    # More ports than NVLink can feed are no help.
    monkeypatch.setitem(PUBLIC, "InfiniBand, one port", machine_models.published(1e12, "", ""))
    assert 2 * 15 / 16 * 112e6 / machine_models.all_reduce(16, middle) == pytest.approx(380e9)


def test_gpu_training_by_hand(measured):
    results, _ = measured
    read, decode, step = machine_models.gpu_training(results, machine_models.COPIES)(middle).stages
    compute = 64 * 6 * 4.5e9 / 98.94e12
    assert step.work == pytest.approx(compute + 64 * 224 * 224 * 6 / 51.2e9)
    assert decode.width == 14
    rate = results.rate("scaling", "copies of 288 px: one core", machine_models.NATIVE).value
    assert decode.work == pytest.approx(64 / rate / 0.8)
    num_bytes = results.measurement("scaling", "copies of 288 px: mean bytes a file").value
    assert read.work == pytest.approx(64 * num_bytes / (8 * 3.4e9))


def test_network_and_files_on_the_same_cores():
    rates = [dataclasses.replace(PUBLIC["drives of a node"], value=value) for value in (30, 60)]
    both, apart = (
        closed_form(machine_models.on_cores(2, decode=rates[0], compute=rates[1], threads=n)(middle)) for n in (2, 1)
    )
    assert both.images == pytest.approx(20)  # 1 / (1/30 + 1/60)
    assert apart.images == pytest.approx(30)  # one core each: the slower of the two


def test_what_follows_is_said_to_be_undecided_where_ranges_meet(monkeypatch):
    def plant(name, rate, plan=None):
        def build(pick):
            stages = (Stage("decode", "cores", 1), Stage("compute", "gpu", 1 / pick(rate)))
            return Pipeline(stages, {"cores": Resource(1), "gpu": Resource(1)}, 10)

        return machine_models.Plant(name, 10, build, plan)

    slow, unsure = Constant(0.5, 0.4, 0.8, "", ""), Constant(0.8, 0.5, 2, "", "")
    found = [plant("a", slow, lambda pick: 3), plant("b", unsure)]
    monkeypatch.setattr(simulate, "plants", lambda results: found)
    # The plan takes 3 s; the one step 1 s and 1 / 0.5, 1 / 0.4 or 1 / 0.8.
    assert simulate.follows(Results("", {})).splitlines() == [
        "- a: bound by compute at worst, in the middle and at best.",
        "  Drawing the plan is 50 % of an epoch, between 46 and 57 % within the ranges.",
        "- b: undecided; bound by compute at worst, compute in the middle, decode at best, but "
        "decode may take longer than compute.",
    ]


def test_only_training_draws_the_plan_of_an_epoch(measured):
    predict, train, *on_gpus = machine_models.plants(measured[0])
    assert predict.plan is None
    assert on_gpus[0].plan(middle) == pytest.approx(train.plan(middle) / 0.8)
    assert on_gpus[0].plan(worst) > on_gpus[0].plan(middle) > on_gpus[0].plan(best)


@pytest.mark.parametrize(("seconds", "text"), [(1.234, "1.23 s"), (119, "119 s"), (1908, "31.8 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert simulate.duration(seconds) == text


def test_constants_say_where_they_are_from():
    for name, constant in PUBLIC.items():
        assert constant.low <= constant.value <= constant.high, name
        assert "http" in constant.source or "guess" in constant.source or "timm" in constant.source
        assert (
            constant.low == constant.high
            or "guess" in constant.source
            or "half" in constant.source
            or "measured" in constant.source
        )


# Formula, simulation and measurements.


def test_plants_by_formula_and_by_simulation(measured):
    for plant in machine_models.plants(measured[0]):
        by_hand, played = machine_models.pace_both(plant.build(middle), plant.images)
        assert played.images == pytest.approx(by_hand.images, rel=machine_models.AGREE), plant.name
        assert played.bottleneck == by_hand.bottleneck, plant.name


def test_a_better_machine_is_no_slower(measured):
    for plant in machine_models.plants(measured[0]):
        rates = [closed_form(plant.build(pick)).images for pick in (worst, middle, best)]
        assert rates == sorted(rates), plant.name


def test_predictions_hold_against_what_was_measured(measured):
    done = [check for check in machine_models.checks(*measured) if check.sure]
    assert len(done) >= 6
    for check in done:
        for pace in machine_models.pace_both(check.pipe, 10_000):
            assert pace.images == pytest.approx(check.measured.value, rel=check.within), check.name


def test_a_prediction_from_a_wrong_constant_does_not_hold(measured):
    """With half the work of a stage, every prediction is outside its tolerance."""
    for check in machine_models.checks(*measured):
        stages = check.pipe.stages
        slowest = max(stages, key=lambda stage: stage.work / stage.width)
        halved = tuple(dataclasses.replace(s, work=s.work / 2) if s is slowest else s for s in stages)
        pace = closed_form(dataclasses.replace(check.pipe, stages=halved))
        if check.sure:
            assert pace.images > check.measured.value * (1 + check.within), check.name


def test_unsure_figures_are_not_held_against_each_other():
    rate = dataclasses.replace(PUBLIC["drives of a node"], value=10, low=9, high=11)
    noisy = dataclasses.replace(rate, low=7)
    check = machine_models.Check("a", machine_models.on_cores(1, decode=rate, compute=None)(middle), rate, (), 0.1)
    assert check.spread == pytest.approx(0.1)
    assert check.sure
    assert not dataclasses.replace(check, measured=noisy).sure
    assert not dataclasses.replace(check, of=(noisy,)).sure


def test_every_prediction_says_what_it_is_made_of(measured):
    assert all(check.of for check in machine_models.checks(*measured))


def test_figures_of_two_machines_are_not_mixed(measured):
    _, others = measured
    names = [check.name for check in machine_models.across_files(others)]
    record = json.loads(json.dumps(others["inference"].record))
    record["hardware"]["isa"] = "another"
    other = others | {"inference": Results("inference-cpu.json", record)}
    left = [check.name for check in machine_models.across_files(other)]
    assert set(names) - set(left) == {"melfast predict, from suites loader and inference"}


def test_a_figure_that_is_not_there():
    results = Results.read("loader-cpu.json", RESULTS)
    with pytest.raises(LookupError, match=r"^loader-cpu\.json: 0 of 'no' in loader: '70 images"):
        results.rate("loader", "70 images", "no")
    with pytest.raises(LookupError, match=r"^x: no 'y' in s$"):
        Results("x", {"suites": {"s": {"measurements": []}}}).measurement("s", "y")


# The page and the command.


def test_page_holds_the_tables():
    found = CliRunner().invoke(simulate.main, ["--check"])
    assert found.exit_code == 0, found.output


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


def test_command_prints_both_tables():
    found = CliRunner().invoke(simulate.main, [])
    assert found.exit_code == 0, found.output
    assert "Predicted" in found.output
    assert "Against what was measured" in found.output
