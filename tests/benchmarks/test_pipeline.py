"""Pipelines by hand, by queueing theory, and the formula against the simulation."""

import dataclasses

import numpy as np
import pytest

from benchmarks.pipeline import Pipeline, Resource, Stage, closed_form, expected_largest, simulate


def apart(*works: float, **more: float) -> Pipeline:
    """Stages that each have their own machine."""
    stages = [Stage(f"s{i}", f"r{i}", work) for i, work in enumerate(works)]
    return Pipeline(tuple(stages), {f"r{i}": Resource(1) for i in range(len(works))}, 10, **more)


# By hand.


def test_the_slowest_stage_sets_the_pace():
    pipe = apart(1, 3, 2)
    for pace in (closed_form(pipe), simulate(pipe, 20)):
        assert pace.step == pytest.approx(3)
        assert pace.images == pytest.approx(10 / 3)
        assert pace.bottleneck == "s1"
        assert pace.epoch(10) == pytest.approx(1 + 3 + 2 + 9 * 3)
    assert pipe.steps(105) == 10


def test_stages_that_share_cores_add_up():
    stages = (Stage("decode", "cores", 2, width=2), Stage("compute", "cores", 4, width=2))
    pipe = Pipeline(stages, {"cores": Resource(2)}, 10)
    for pace in (closed_form(pipe), simulate(pipe, 100)):
        assert pace.step == pytest.approx(3, rel=0.01)
        assert pace.bottleneck == "decode and compute"


def test_a_stage_uses_no_more_cores_than_it_has_threads():
    stages = (Stage("decode", "cores", 2, width=1), Stage("compute", "cores", 1, width=1))
    pipe = Pipeline(stages, {"cores": Resource(8)}, 10)
    for pace in (closed_form(pipe), simulate(pipe, 50)):
        assert pace.step == pytest.approx(2)


def test_ranks_of_a_node_share_its_drive():
    stages = (Stage("read", "drive", 0.5), Stage("compute", "gpu", 1))
    resources = {"drive": Resource(1, "node"), "gpu": Resource(1)}
    pipe = Pipeline(stages, resources, 10, ranks=8, ranks_a_node=4)
    for pace in (closed_form(pipe), simulate(pipe, 50)):
        assert pace.step == pytest.approx(2)  # four ranks, not eight
        assert pace.images == pytest.approx(40)
        assert pace.bottleneck == "read"


def test_the_all_reduce_holds_up_all():
    pipe = apart(0.5, 1, ranks=4, all_reduce=0.25)
    for pace in (closed_form(pipe), simulate(pipe, 50)):
        assert pace.step == pytest.approx(1.25)
        assert pace.images == pytest.approx(40 / 1.25)
        assert pace.bottleneck == "s1 and all-reduce"


def test_one_seed_gives_one_course():
    pipe = dataclasses.replace(apart(1, 1), ranks=3)
    stages = tuple(dataclasses.replace(stage, spread=0.3) for stage in pipe.stages)
    pipe = dataclasses.replace(pipe, stages=stages)
    assert simulate(pipe, 50, seed=1) == simulate(pipe, 50, seed=1)
    assert simulate(pipe, 50, seed=1) != simulate(pipe, 50, seed=2)


# Known results for queues.


@pytest.mark.parametrize("room", [0, 1, 3])
def test_two_exponential_stages_with_room_between(room):
    """A saturated line of two, blocking after service, goes at (b + 2) / (b + 3) of its rate."""
    stages = (Stage("a", "a", 1, spread=1, room=room), Stage("b", "b", 1, spread=1))
    pipe = Pipeline(stages, {"a": Resource(1), "b": Resource(1)}, 1)
    assert simulate(pipe, 20_000).images == pytest.approx((room + 2) / (room + 3), rel=0.02)


def test_ranks_with_exponential_steps_wait_for_the_longest():
    """The expected largest of four is 1 + 1/2 + 1/3 + 1/4."""
    pipe = Pipeline((Stage("a", "a", 1, spread=1),), {"a": Resource(1)}, 1, ranks=4)
    assert simulate(pipe, 10_000).step == pytest.approx(25 / 12, rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 8, 64, 512])
def test_expected_largest_of_normal_numbers(count):
    drawn = np.random.default_rng(0).standard_normal((4000, count)).max(axis=1)
    assert expected_largest(count) == pytest.approx(drawn.mean(), abs=0.04)


# Formula and simulation.


@pytest.mark.parametrize("ranks", [1, 8, 64])
@pytest.mark.parametrize("spread", [0.05, 0.2])
@pytest.mark.parametrize(("decode", "compute"), [(0.3, 1), (0.8, 1), (1, 0.8), (1, 0.3)])
def test_formula_and_simulation(ranks, spread, decode, compute):
    stages = (
        Stage("read", "drive", 0.02),
        Stage("decode", "cores", decode * 14, 14, spread),
        Stage("compute", "gpu", compute, spread=0.02),
    )
    resources = {"drive": Resource(1, "node"), "cores": Resource(14), "gpu": Resource(1)}
    pipe = Pipeline(stages, resources, 64, ranks, 8, all_reduce=0.01)
    by_hand, played = closed_form(pipe), simulate(pipe, 600 if ranks < 64 else 300)
    assert played.step == pytest.approx(by_hand.step, rel=0.05)
    assert played.bottleneck == by_hand.bottleneck
