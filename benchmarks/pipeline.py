"""Pipeline: batches pass through stages on every rank; their pace by a formula and by a simulation.

    read -> decode -> copy and compute -> [all ranks wait for each other, all-reduce] -> next step

A stage processes one batch at a time and passes it on if there is room; otherwise it waits. What
does the work (cores, a drive, a GPU) may be shared by stages and by ranks; it then serves all at
once, in equal shares. `closed_form` is a calculation on paper; `simulate` simulates every event.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

import numpy as np

ALL_REDUCE = "all-reduce"
WARM_STEPS = 0.2  # fraction of the simulated steps that does not count for the pace
DONE = 1e-12  # remaining work, in seconds, that counts as none


@dataclass(frozen=True)
class Resource:
    """Something that does the work of stages.

    Attributes:
        units: unit-seconds of work that it does per second: cores, or 1 for a drive or a GPU.
        of: whether each rank or each node has one.
    """

    units: float
    of: Literal["rank", "node"] = "rank"


@dataclass(frozen=True)
class Stage:
    """One step in the processing of a batch.

    Attributes:
        resource: name of the resource that does the work.
        work: mean unit-seconds per batch.
        width: number of units that it can use at once, that is, its threads.
        spread: deviation / mean of the work from batch to batch.
        room: number of finished batches that may wait after it.
    """

    name: str
    resource: str
    work: float
    width: float = 1
    spread: float = 0
    room: int = 1


@dataclass(frozen=True)
class Pipeline:
    """The stages of every rank; the last one ends with the step that all ranks do together.

    Attributes:
        batch: images per rank and step.
        all_reduce: seconds that no other work hides.
    """

    stages: tuple[Stage, ...]
    resources: dict[str, Resource]
    batch: int
    ranks: int = 1
    ranks_a_node: int = 1
    all_reduce: float = 0

    def steps(self, images: int) -> int:
        return max(1, images // (self.batch * self.ranks))


@dataclass(frozen=True)
class Pace:
    """The speed of a pipeline.

    Attributes:
        step: seconds.
        images: images per second, of all ranks.
        shares: fraction of a step's time that each resource takes, by name; the largest is the bottleneck.
        fill: extra seconds of the first step, until the pipeline is full.
    """

    step: float
    images: float
    shares: dict[str, float] = field(default_factory=dict)
    fill: float = 0

    @property
    def bottleneck(self) -> str:
        return max(self.shares, key=lambda name: self.shares[name])

    def epoch(self, steps: int) -> float:
        """Seconds for a number of steps."""
        return self.fill + steps * self.step


def closed_form(pipe: Pipeline) -> Pace:
    """The longest of what each resource and the last stage need for a step.

    All ranks wait for the slowest. Of n that take m with a deviation of s, that one takes
    m + s E(n), E being the expected largest of n normal numbers (Blom 1958). A stage before the
    last may run ahead: the batch it makes, those there is room for, the one that the last stage
    has. By so many batches, K, the slowest is late after (K m / (s E))^2 steps, for lateness grows
    with the root of their number; so it costs (s E / m)^2 / K of a step, each step.
    """
    largest = expected_largest(pipe.ranks)
    bounds: dict[str, float] = {}
    for name, resource in pipe.resources.items():
        stages = [stage for stage in pipe.stages if stage.resource == name]
        sharing = min(pipe.ranks, pipe.ranks_a_node) if resource.of == "node" else 1
        late = [1 + _lateness(stage, largest) for stage in stages]
        of_all = sum(s.work * x for s, x in zip(stages, late, strict=True)) * sharing
        alone = [s.work * x / min(s.width, resource.units) for s, x in zip(stages, late, strict=True)]
        bounds[" and ".join(s.name for s in stages)] = max([of_all / resource.units, *alone])
    last = pipe.stages[-1]
    units = min(last.width, pipe.resources[last.resource].units)
    longest = last.work / units * (1 + last.spread * largest) + pipe.all_reduce
    name = f"{last.name} and {ALL_REDUCE}" if pipe.all_reduce else last.name
    sharing = [stage.name for stage in pipe.stages if stage.resource == last.resource]
    if len(sharing) == 1:
        bounds.pop(last.name, None)
        bounds[name] = longest
    else:  # other stages continue to work during the all-reduce
        key = " and ".join(sharing)
        bounds[key] = max(bounds[key], longest)
    step = max(bounds.values())
    way = sum(s.work / min(s.width, pipe.resources[s.resource].units) for s in pipe.stages)
    fill = max(0.0, way + pipe.all_reduce - step)
    shares = {name: seconds / step for name, seconds in bounds.items()}
    return Pace(step, pipe.batch * pipe.ranks / step, shares, fill)


def _lateness(stage: Stage, largest: float) -> float:
    """How much longer a step of all ranks takes because of a stage before the last on the slowest rank."""
    late = stage.spread * largest
    return min(late, late**2 / (stage.room + 2))


def expected_largest(count: int) -> float:
    """Expected maximum of `count` standard normal numbers, by Blom's approximation; 0 for one."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0


def simulate(pipe: Pipeline, steps: int, seed: int = 0) -> Pace:
    """Simulates `steps` steps of all ranks, event by event."""
    return _Play(pipe, steps, np.random.default_rng(seed)).run()


class _Server:
    """A working resource: its jobs share the units, each up to its width."""

    def __init__(self, play: "_Play", units: float) -> None:
        self.play, self.units = play, units
        self.jobs: list[_Job] = []
        self.since, self.version, self.used = 0.0, 0, 0.0

    def add(self, job: "_Job") -> None:
        self._settle()
        self.jobs.append(job)
        self._plan()

    def due(self) -> None:
        """Called when a job is done."""
        self._settle()
        done = [job for job in self.jobs if job.left <= DONE]
        self.jobs = [job for job in self.jobs if job.left > DONE]
        self._plan()
        for job in done:
            job.then()

    @property
    def _share(self) -> float:
        return min(1.0, self.units / sum(job.width for job in self.jobs))

    def _settle(self) -> None:
        elapsed, self.since = self.play.now - self.since, self.play.now
        if self.jobs and elapsed:
            share = self._share
            for job in self.jobs:
                job.left -= job.width * share * elapsed
                self.used += job.width * share * elapsed

    def _plan(self) -> None:
        self.version += 1
        if self.jobs:
            share, version = self._share, self.version
            soonest = min(max(job.left, 0) / (job.width * share) for job in self.jobs)

            def due() -> None:
                if version == self.version:
                    # Rounding may leave a tiny rest of the current job.
                    next_job = min(self.jobs, key=lambda job: job.left / job.width)
                    self._settle()
                    next_job.left = 0
                    self.due()

            self.play.at(self.play.now + soonest, due)


@dataclass
class _Job:
    left: float
    width: float
    then: Callable[[], None]


class _Rank:
    """The batches of one rank: where they are, and which stages may start."""

    def __init__(self, play: "_Play", servers: list[_Server]) -> None:
        count = len(servers)
        self.play, self.servers = play, servers
        self.waiting, self.running, self.held = [0] * count, [False] * count, [False] * count
        self.begun = 0

    def go_on(self) -> None:
        """Starts every stage that can start, from the last to the first, because each makes room for the one before."""
        stages = self.play.pipe.stages
        for i in reversed(range(len(stages))):
            if self.held[i] and self._takes(i + 1, stages[i].room):
                self.held[i] = False
                self.waiting[i + 1] += 1
                return self.go_on()
            if self.running[i] or self.held[i]:
                continue
            if i == 0 and self.begun < self.play.steps:
                self.begun += 1
            elif i > 0 and self.waiting[i]:
                self.waiting[i] -= 1
            else:
                continue
            self.running[i] = True
            work = self.play.draw(stages[i].spread) * stages[i].work
            self.servers[i].add(_Job(work, stages[i].width, self._ended(i)))
            return self.go_on()

    def _takes(self, i: int, room: int) -> bool:
        """Whether a stage can receive another batch; an idle stage takes it at once."""
        at_rest = not (self.running[i] or self.held[i] or self.waiting[i])
        return self.waiting[i] < room or at_rest

    def _ended(self, i: int) -> Callable[[], None]:
        def then() -> None:
            if i == len(self.servers) - 1:
                self.play.arrive()
                return
            self.running[i], self.held[i] = False, True
            self.go_on()

        return then


class _Play:
    """The clock, the ranks, and the step that they do together."""

    def __init__(self, pipe: Pipeline, steps: int, rng: np.random.Generator) -> None:
        self.pipe, self.steps, self.rng = pipe, steps, rng
        self.now, self.order = 0.0, itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.arrived, self.ends = 0, [0.0]
        self.servers: dict[tuple[str, int], _Server] = {}
        self.ranks = []
        for number in range(pipe.ranks):
            servers = [self._server(stage.resource, number) for stage in pipe.stages]
            self.ranks.append(_Rank(self, servers))

    def _server(self, name: str, rank: int) -> _Server:
        resource = self.pipe.resources[name]
        key = (name, rank if resource.of == "rank" else rank // self.pipe.ranks_a_node)
        if key not in self.servers:
            self.servers[key] = _Server(self, resource.units)
        return self.servers[key]

    def at(self, time: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time, next(self.order), what))

    def draw(self, spread: float) -> float:
        """A positive number with mean 1 and the given deviation, from a gamma distribution."""
        return self.rng.gamma(spread**-2, spread**2) if spread else 1.0

    def arrive(self) -> None:
        """Called when a rank has done the last stage of a step."""
        self.arrived += 1
        if self.arrived == self.pipe.ranks:
            self.at(self.now + self.pipe.all_reduce, self.step)

    def step(self) -> None:
        self.arrived = 0
        self.ends.append(self.now)
        for rank in self.ranks:
            rank.running[-1] = False
        for rank in self.ranks:
            rank.go_on()

    def run(self) -> Pace:
        for rank in self.ranks:
            rank.go_on()
        while self.events:
            self.now, _, what = heapq.heappop(self.events)
            what()
        assert len(self.ends) == self.steps + 1, "some batch has come to a stand"
        warm = int(WARM_STEPS * self.steps)
        step = (self.ends[-1] - self.ends[warm]) / (self.steps - warm)
        shares: dict[str, float] = {}
        for name in self.pipe.resources:
            mine = [server for (key, _), server in self.servers.items() if key == name]
            used = sum(server.used for server in mine) / sum(server.units for server in mine)
            stages = [stage.name for stage in self.pipe.stages if stage.resource == name]
            if stages == [self.pipe.stages[-1].name] and self.pipe.all_reduce:
                stages, used = [*stages, ALL_REDUCE], used + self.steps * self.pipe.all_reduce
            shares[" and ".join(stages)] = used / self.now
        return Pace(step, self.pipe.batch * self.pipe.ranks / step, shares, self.ends[1] - step)
