"""CPU time of what we do beside what one does without us, in the same run.

Wall time says little on a machine that does other things as well; CPU time of the process (all its threads) says more,
but still moves by a tenth with the load of the neighbours and the clock of the processor. So the subjects are measured
in turn, a short round each, and the fastest round of each one counts: what disturbs only ever adds.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import isnan, nan

Run = Callable[[int], Awaitable[object]]
"""Carries out so many operations, in whatever calls the subject makes of them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Microseconds of CPU per operation.

    added, ratio: of the fastest rounds. typical: median of the ratios of neighbouring rounds, which shows how calm the
    run was.
    """

    ours: float
    bare: float
    typical: float

    @property
    def added(self) -> float:
        return self.ours - self.bare

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds per operation of each round, by subject."""

    rounds: dict[str, list[float]]

    def best(self, name: str) -> float:
        return min(self.rounds[name])

    def compare(self, ours: str, bare: str) -> Comparison:
        pairs = zip(self.rounds[ours], self.rounds[bare], strict=True)
        return Comparison(self.best(ours), self.best(bare), statistics.median(mine / theirs for mine, theirs in pairs))


async def paired(subjects: Mapping[str, Run], *, operations: int, rounds: int = 50) -> Times:
    """Measure the subjects in turn: `rounds` rounds of `operations` operations each, after a round that does not count.

    Every round begins with another subject, so that none has the same neighbour always.
    """
    names = list(subjects)
    for run in subjects.values():
        await run(operations)
    times = Times({name: [] for name in names})
    gc.collect()
    gc.freeze()  # what pytest holds is no part of the program that is measured
    try:
        for number in range(rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                started = time.process_time_ns()
                await subjects[name](operations)
                times.rounds[name].append((time.process_time_ns() - started) / operations / 1000)
    finally:
        gc.unfreeze()
    return times


def one_by_one(call: Callable[[], Awaitable[object]], operations_per_call: int = 1) -> Run:
    """A subject that makes one call after another."""

    async def run(operations: int) -> None:
        for _ in range(operations // operations_per_call):
            await call()

    return run


def repeated(once: Callable[[], object]) -> Run:
    """A subject that waits for nothing."""

    async def run(operations: int) -> None:
        for _ in range(operations):
            once()

    return run


def in_flight(call: Callable[[], Awaitable[object]], calls: int, operations_per_call: int = 1) -> Run:
    """A subject that keeps `calls` calls under way, each followed by the next."""

    async def run(operations: int) -> None:
        await asyncio.gather(*(each(operations // operations_per_call // calls) for _ in range(calls)))

    async def each(count: int) -> None:
        for _ in range(count):
            await call()

    return run


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. limit, goal: what the figure should stay below, or above; None: nothing was promised."""

    group: str
    figure: str
    value: float
    unit: str
    limit: float | None = None
    goal: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        if not self._holds(self.limit):
            return "MISSED"
        return "goal" if self.goal is not None and self._holds(self.goal) else "met"

    def _holds(self, bound: float) -> bool:
        return self.value >= bound if self.at_least else self.value <= bound


@dataclass(slots=True)
class Table:
    """Everything that a run found out."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        group: str,
        figure: str,
        value: float,
        unit: str,
        limit: float | None = None,
        *,
        goal: float | None = None,
        at_least: bool = False,
        note: str = "",
    ) -> None:
        self.rows.append(Row(group, figure, value, unit, limit, goal, at_least, note))

    def add_absent(self, group: str, figure: str, package: str) -> None:
        """A line for what could not be measured, because a package that we compare with is not there."""
        self.add(group, figure, nan, "", note=f"{package} is not installed (pip install 'omnibase[bench]')")

    def add_comparison(
        self,
        group: str,
        figure: str,
        found: Comparison,
        *,
        ratio: float | None = None,
        goal: float | None = None,
        added_us: float | None = None,
    ) -> None:
        """Two lines: the ratio, and the microseconds added."""
        note = f"{found.ours:.1f} us beside {found.bare:.1f}; median of pairs {found.typical:.2f}"
        self.add(group, f"{figure}, ratio", found.ratio, "x", ratio, goal=goal, note=note)
        self.add(group, f"{figure}, added", found.added, "us", added_us)

    def text(self) -> str:
        """The table in Markdown, as `RESULTS.md` takes it."""
        head = ("what", "measured", "limit", "", "how")
        lines = [
            (f"{row.group}: {row.figure}", _number(row.value, row.unit), _bound(row), row.verdict, row.note)
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
        ruled = [head, tuple("-" * width for width in widths), *lines]
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in ruled
        )


def _bound(row: Row) -> str:
    if row.limit is None:
        return ""
    sign = ">=" if row.at_least else "<="
    goal = "" if row.goal is None else f" (goal {row.goal:g})"
    return f"{sign} {row.limit:g}{goal}"


def _number(value: float, unit: str) -> str:
    if isnan(value):
        return "not measured"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}"
