"""In which order the steps of a workflow run: one by one, or each as soon as what it depends on is done.

Ready work stands in a heap by priority and topological order. Workers pull from it: one that leaves more behind than it
takes sees to it that there is another, so a run of pure steps has a single worker, and none has a task per step. What
only waits (timers, signals) takes no worker; a child workflow does, so that it counts.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumStepStatus, EnumWorkflowCoordination
from omnibase_core.mixins.workflow_run import WAITING, WorkflowRun, end_all, failed_with, joined, list_of
from omnibase_core.mixins.workflow_steps import StepCall
from omnibase_core.mixins.workflow_waits import await_trigger, await_what_it_says
from omnibase_core.protocols.protocol_workflow_engine import StepOutcome, WorkflowStoppedError, position_of
from omnibase_core.utils.workflow_plan import PlannedStep, Unit, WorkflowScope

_COMPLETED: Final = EnumStepStatus.COMPLETED
_GOOD: Final = frozenset({EnumStepStatus.COMPLETED, EnumStepStatus.SKIPPED})
_BREATH: Final = 64
"""Pieces of work after which a worker lets others have the loop, so that work that never waits does not hold it."""


class _Items:
    """A step that is done once for each of a list: one entry of the heap, taken as often as there are items."""

    __slots__ = ("left", "next", "outcomes", "recorded", "step", "stopped", "unit", "values")

    def __init__(self, unit: Unit, step: PlannedStep, values: list[JsonValue]) -> None:
        self.unit = unit
        self.step = step
        self.values = values
        self.next = 0
        self.left = len(values)
        self.outcomes: list[StepOutcome | None] = [None] * len(values)
        self.recorded = unit.recorded
        self.stopped = False


class Schedule:
    """Carries the units of a run out, until all have ended or one aborts the run."""

    def __init__(self, run: WorkflowRun) -> None:
        self._run = run
        plan = run.plan
        self._steps = run.steps
        sequential = plan.coordination is EnumWorkflowCoordination.SEQUENTIAL
        self._in_order = sequential and not any(step.trigger for step in plan.steps)
        self._most = 1 if sequential else plan.max_parallel_steps
        rank = {index: place for place, index in enumerate(plan.order)}
        self._key = [self._key_of(unit, rank) for unit in plan.units]
        self._pending = [len(unit.depends_on) for unit in plan.units]
        self._left = len(plan.units)
        self._heap: list[tuple[int, int, int, Unit | _Items]] = []
        self._count = 0
        self._idle: list[asyncio.Future[None]] = []
        self._workers = 0
        self._asked = False
        self._listening: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken: asyncio.Future[None] | None = None
        self._trouble: BaseException | None = None

    def _key_of(self, unit: Unit, rank: dict[int, int]) -> tuple[int, int]:
        first = unit.steps[0]
        if len(unit.steps) == 1:
            return (0 if self._in_order else self._steps[first].priority), rank[first]
        place = min(rank[index] for index in unit.steps)
        return (0 if self._in_order else min(self._steps[index].priority for index in unit.steps)), place

    async def run(self) -> None:
        """Returns when all units have ended or the run is aborted; then nothing of it is under way any more."""
        for unit in self._run.plan.units:
            step = self._steps[unit.steps[0]]
            if step.trigger is not None and step.enabled:
                self._pending[unit.index] += 1
                self._listening.add(unit.index)
                self._spawn(self._triggered(unit, step))
        for unit in self._run.plan.units:
            if self._pending[unit.index] == 0:
                self._ready(unit)
        if self._in_order:
            await self._work_in_order()
            return
        if self._heap:
            self._help()
        try:
            while self._left and not self._is_over():
                self._woken = asyncio.get_running_loop().create_future()
                await self._woken
        finally:
            await end_all(self._tasks)
        if self._trouble is not None:
            raise self._trouble

    def _stops(self) -> bool:
        """Whether nothing new is begun."""
        return self._trouble is not None or self._run.aborted is not None

    def _is_over(self) -> bool:
        """Whether to stop, with what is under way at its end; only our own mistakes do not wait for that."""
        if self._trouble is not None and not isinstance(self._trouble, WorkflowStoppedError):
            return True
        return self._stops() and not self._run.running

    # tasks

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._trouble is None:
            self._trouble = error
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _work_in_order(self) -> None:
        taken = 0
        self._run.most_running = 1
        while self._heap and self._run.aborted is None:
            await self._do(heappop(self._heap))
            taken += 1
            if taken % _BREATH == 0:
                await asyncio.sleep(0)

    async def _work(self) -> None:
        heap, run = self._heap, self._run
        call_soon = asyncio.get_running_loop().call_soon
        taken = 0
        while True:
            if not heap or self._stops():
                waiter = asyncio.get_running_loop().create_future()
                self._idle.append(waiter)
                await waiter
                continue
            entry = heappop(heap)
            if heap and not self._asked:
                self._asked = True
                call_soon(self._help)
            run.running += 1
            run.most_running = max(run.most_running, run.running)
            try:
                await self._do(entry)
            finally:
                run.running -= 1
            if not self._left:
                return
            if self._stops():
                self._wake()
            taken += 1
            if taken % _BREATH == 0:
                await asyncio.sleep(0)

    def _help(self) -> None:
        """There is more to do than who is at it will take: wake a worker that idles, or begin another one.

        Workers ask for it by `call_soon`, so that it happens only if they come to wait.
        """
        self._asked = False
        if not self._heap or self._stops():
            return
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        if self._workers < self._most:
            self._workers += 1
            self._spawn(self._work())

    async def _aside(self, unit: Unit) -> None:
        """A unit that only waits, in a task of its own."""
        await self._unit(unit)
        if self._heap:
            self._help()

    # units

    def _ready(self, unit: Unit) -> None:
        if len(unit.steps) == 1 and not self._in_order:
            step = self._steps[unit.steps[0]]
            if step.kind in WAITING and step.for_each is None:
                self._spawn(self._aside(unit))
                return
        self._put(unit, unit)

    def _put(self, unit: Unit, work: Unit | _Items) -> None:
        priority, place = self._key[unit.index]
        self._count += 1
        heappush(self._heap, (priority, place, self._count, work))

    async def _do(self, entry: tuple[int, int, int, Unit | _Items]) -> None:
        work = entry[3]
        if isinstance(work, Unit):
            await self._unit(work)
            return
        number = work.next
        work.next += 1
        if work.next < len(work.values) and not work.stopped:
            heappush(self._heap, entry)
            if not self._in_order:
                self._help()
        await self._item(work, number)

    async def _unit(self, unit: Unit) -> None:
        if len(unit.steps) > 1:
            await self._level(unit)
        else:
            step = self._steps[unit.steps[0]]
            if step.index not in self._run.outcomes:  # else its events did not come, and that was told
                if not await self._single(unit, step):
                    return  # its items are in the heap; the last one ends the unit
                await self._run.tell(step)
        self._finish(unit)

    def _finish(self, unit: Unit) -> None:
        self._left -= 1
        if self._run.aborted is None:
            for index in unit.dependents:
                self._pending[index] -= 1
                if self._pending[index] == 0 or self._is_in_vain(index):
                    self._ready(self._run.plan.units[index])
        if not self._left or self._run.aborted is not None:
            self._wake()

    def _is_in_vain(self, index: int) -> bool:
        """Whether a unit only waits for events that would start nothing, because what it depends on failed."""
        if self._pending[index] != 1 or index not in self._listening:
            return False
        step = self._steps[self._run.plan.units[index].steps[0]]
        return not self._run.blocked.isdisjoint(step.depends_on)

    async def _single(self, unit: Unit, step: PlannedStep) -> bool:
        """Whether the step has ended; False when its items have been put into the heap."""
        run = self._run
        if run.stands_aside(step):
            return True
        call = run.call(step)
        scope = run.scope(step, call)
        outcome = None if step.when_each else run.holds(step, scope)
        if outcome is None:
            run.begun.add(step.index)
            if step.for_each is not None:
                return self._begin_items(unit, step, scope)
            if step.kind in WAITING:
                outcome = await await_what_it_says(run, step, scope)
            else:
                outcome = await run.carry_out(step, scope, call, None, recorded=unit.recorded)
        run.settle(step, outcome, scope)
        return True

    async def _triggered(self, unit: Unit, step: PlannedStep) -> None:
        outcome = await await_trigger(self._run, step)
        self._listening.discard(unit.index)
        if step.index in self._run.outcomes:
            return
        if outcome is not None:
            await self._without_events(step, outcome)
        self._pending[unit.index] -= 1
        if self._pending[unit.index] == 0:
            self._ready(unit)
            if self._heap:
                self._help()
        self._wake()

    async def _without_events(self, step: PlannedStep, outcome: StepOutcome) -> None:
        """The step has failed, though its turn may be yet to come, or never comes."""
        run = self._run
        run.begun.add(step.index)
        run.settle(step, outcome)
        ends_run = run.aborted is not None
        run.running += ends_run  # it is not over before this is told
        try:
            await run.tell(step)
        finally:
            run.running -= ends_run

    # items

    def _begin_items(self, unit: Unit, step: PlannedStep, scope: WorkflowScope) -> bool:
        outcome = self._values(step, scope)
        if isinstance(outcome, StepOutcome):
            self._run.settle(step, outcome)
            return True
        self._put(unit, _Items(unit, step, outcome))
        return False

    def _values(self, step: PlannedStep, scope: WorkflowScope) -> list[JsonValue] | StepOutcome:
        try:
            values = list_of(None if step.for_each is None else step.for_each(scope), step.step_id)
        except Exception as error:  # noqa: BLE001  # the boundary of a step
            return failed_with(error)
        return values or StepOutcome(_COMPLETED, [], None, 1, self._run.context.clock(), self._run.context.clock())

    async def _item(self, items: _Items, number: int) -> None:
        run, step = self._run, items.step
        call = run.call(step, number)
        scope = run.scope(step, call, items.values[number], number)
        outcome = run.holds(step, scope) if step.when_each else None
        if outcome is None:
            outcome = await run.carry_out(step, scope, call, number, recorded=items.recorded)
        items.outcomes[number] = outcome
        run.item_done(step, outcome, scope, number)
        items.left -= 1
        if outcome.status not in _GOOD and run.ends_run(step, outcome):
            items.stopped = True
            if step.index not in run.outcomes:
                run.settle(step, outcome)
                await run.tell(step)
            self._wake()
        elif items.left == 0 and step.index not in run.outcomes:
            done = [each for each in items.outcomes if each is not None]
            run.settle(step, joined(done, tolerant=_skips(run, step)))
            await run.tell(step)
            self._finish(items.unit)

    # levels

    async def _level(self, unit: Unit) -> None:
        """Pure steps of one depth: done in one go, with one record, which has a list for a step over a list."""
        run = self._run
        todo = [each for index in unit.steps if (each := self._of_level(self._steps[index])) is not None]
        done: list[list[StepOutcome]] = []

        async def work() -> StepOutcome:
            began = run.context.clock()
            for each in todo:
                done.append([outcome async for outcome in self._pure(each)])
            value: list[JsonValue] = [[outcome.as_json() for outcome in outcomes] for outcomes in done]
            return StepOutcome(_COMPLETED, value, None, 1, began, run.context.clock())

        if todo and unit.recorded:
            first = self._steps[unit.steps[0]]
            name = f"{first.step_id} and {len(unit.steps) - 1} more"
            record = await run.context.step(position_of(first.index), name, work)
            if not done and isinstance(record.value, list):
                done = [_read(each) for each in record.value]
        elif todo:
            await work()
        for each, outcomes in zip(todo, done, strict=True):
            self._settle_pure(each, outcomes)
        for index in unit.steps:
            await run.tell(self._steps[index])

    def _of_level(self, step: PlannedStep) -> "_OfLevel | None":
        """What there is to do for a step; None when it has ended without."""
        run = self._run
        if run.stands_aside(step):
            return None
        call = run.call(step)
        scope = run.scope(step, call)
        values: list[JsonValue] | None = None
        outcome = None if step.when_each else run.holds(step, scope)
        if outcome is None and step.for_each is not None:
            found = self._values(step, scope)
            values, outcome = (None, found) if isinstance(found, StepOutcome) else (found, None)
        if outcome is not None:
            run.settle(step, outcome)
            return None
        run.begun.add(step.index)
        return _OfLevel(step, call, scope, values)

    async def _pure(self, each: "_OfLevel") -> AsyncIterator[StepOutcome]:
        """The outcome of a step, or those of its items up to the first that ends the run."""
        run, step = self._run, each.step
        if each.values is None:
            yield await run.carry_out(step, each.scope, each.call, None, recorded=False)
            return
        for number in range(len(each.values)):
            call, scope = self._item_scope(each, number)
            aside = run.holds(step, scope) if step.when_each else None
            outcome = aside or await run.carry_out(step, scope, call, number, recorded=False)
            yield outcome
            if outcome.status not in _GOOD and run.ends_run(step, outcome):
                return

    def _item_scope(self, each: "_OfLevel", number: int) -> tuple[StepCall, WorkflowScope]:
        call = self._run.call(each.step, number)
        value = None if each.values is None else each.values[number]
        return call, self._run.scope(each.step, call, value, number)

    def _settle_pure(self, each: "_OfLevel", outcomes: list[StepOutcome]) -> None:
        run, step = self._run, each.step
        if each.values is None:
            run.settle(step, outcomes[0], each.scope)
            return
        for number, outcome in enumerate(outcomes):
            run.item_done(step, outcome, self._item_scope(each, number)[1], number)
        last = outcomes[-1]
        ends = last.status not in _GOOD and run.ends_run(step, last)
        run.settle(step, last if ends else joined(outcomes, tolerant=_skips(run, step)))


@dataclass(slots=True)
class _OfLevel:
    """A step of a level that has something to do. values: the items of one over a list."""

    step: PlannedStep
    call: StepCall
    scope: WorkflowScope
    values: list[JsonValue] | None


def _read(value: JsonValue) -> list[StepOutcome]:
    """The outcomes that a level's record has of a step."""
    entries = value if isinstance(value, list) else []
    return [StepOutcome.from_json(entry) for entry in entries if isinstance(entry, dict)]


def _skips(run: WorkflowRun, step: PlannedStep) -> bool:
    policy = run.policy(step)
    return policy is not None and policy.value == "skip"
