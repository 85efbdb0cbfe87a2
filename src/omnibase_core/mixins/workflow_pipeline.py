"""Pipelines: items stream through the steps, each step a stage with a bounded queue before it.

A stage works on one item at a time and hands it on in the order of its coming, so order needs no care. A queue that is
full makes the stage before it wait, and so in the end the source: what is under way is bounded by the queues. Outputs
of all items are kept of the last step only, and of the others where the workflow's `output` may read them.
"""

import asyncio
from collections import deque
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumDurability, EnumOnFailure, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.workflow_run import WorkflowRun, end_all, list_of, skipped
from omnibase_core.protocols.protocol_workflow_engine import (
    StepError,
    StepOutcome,
    WorkflowStoppedError,
    position_of,
)
from omnibase_core.utils.workflow_plan import PlannedStep, WorkflowScope

_COMPLETED: Final = EnumStepStatus.COMPLETED
_GOOD: Final = frozenset({EnumStepStatus.COMPLETED, EnumStepStatus.SKIPPED})
_QUEUED: Final = 32
"""Items that may wait before a stage."""
_GROUPED: Final = 256
"""The same where they share a record."""
_GROUP_S: Final = 0.25
"""After so long a group is closed: what a crash repeats stays small."""
_BREATH: Final = 64


class _Item:
    """One item on its way. dropped: a step failed, and the item goes no further, but keeps its place."""

    __slots__ = ("dropped", "number", "outputs", "value")

    def __init__(self, number: int, value: JsonValue) -> None:
        self.number = number
        self.value = value
        self.outputs: dict[str, JsonValue] = {}
        self.dropped = False


class _Queue:
    """A bounded queue of one giver and one taker; None is the end."""

    __slots__ = ("_items", "_most", "_room", "_some")

    def __init__(self, most: int = _QUEUED) -> None:
        self._most = most
        self._items: deque[_Item | None] = deque()
        self._some: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def put(self, item: _Item | None) -> None:
        while len(self._items) >= self._most:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        self._items.append(item)
        if self._some is not None and not self._some.done():
            self._some.set_result(None)

    async def get(self) -> _Item | None:
        while not self._items:
            self._some = asyncio.get_running_loop().create_future()
            await self._some
        item = self._items.popleft()
        if self._room is not None and not self._room.done() and len(self._items) <= self._most // 2:
            self._room.set_result(None)
        return item

    def has_item(self) -> bool:
        """Whether `get` gives an item at once."""
        return bool(self._items) and self._items[0] is not None


class _Tally:
    """What became of a stage's items; their outputs only where somebody reads them."""

    __slots__ = ("attempts", "began", "ended", "error", "failed", "total", "values")

    def __init__(self, *, keeps: bool) -> None:
        self.total = self.failed = 0
        self.attempts = 1
        self.began = self.ended = 0.0
        self.error: StepOutcome | None = None
        self.values: list[JsonValue] | None = [] if keeps else None

    def add(self, outcome: StepOutcome) -> None:
        self.total += 1
        self.attempts = max(self.attempts, outcome.attempts)
        if outcome.started_at:
            self.began = self.began or outcome.started_at
            self.ended = max(self.ended, outcome.ended_at)
        if outcome.status not in _GOOD:
            self.failed += 1
            self.error = self.error or outcome

    def outcome(self) -> StepOutcome:
        error: StepError | None = None if self.error is None else self.error.error
        status = _COMPLETED if self.error is None else self.error.status
        value: JsonValue = self.values
        return StepOutcome(status, value, error, self.attempts, self.began, self.ended)


class Pipeline:
    """Streams the items of a run through its steps."""

    def __init__(self, run: WorkflowRun) -> None:
        self._run = run
        self._recorded = {index: unit.recorded for unit in run.plan.units for index in unit.steps}
        self._stages = [run.steps[index] for index in run.plan.order if run.steps[index].enabled]
        everything = run.plan.make_output is not None
        self._tallies = {
            step.index: _Tally(keeps=everything or number == len(self._stages))
            for number, step in enumerate(self._stages, 1)
        }
        self._trouble: BaseException | None = None
        self._done: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Returns when all items have left the last stage, or one aborted the run."""
        run = self._run
        for step in run.plan.steps:
            if not step.enabled:
                run.settle(step, skipped("the step is disabled"))
        loop = asyncio.get_running_loop()
        queues = [_Queue(_GROUPED if self._groups(step) else _QUEUED) for step in self._stages] + [_Queue()]
        self._done = loop.create_future()
        work = [self._source(queues[0])]
        for n, step in enumerate(self._stages):
            stage = self._stage_of_groups if self._groups(step) else self._stage
            work.append(stage(step, queues[n], queues[n + 1]))
        work.append(self._sink(queues[-1]))
        tasks = [loop.create_task(each) for each in work]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            await self._done
        finally:
            await end_all(tasks)
        if self._trouble is not None:
            raise self._trouble
        for step in self._stages:
            await self._settle(step)

    def _groups(self, step: PlannedStep) -> bool:
        """Whether items share records at this step."""
        return step.pure and self._run.plan.durability is EnumDurability.LEVEL and self._recorded[step.index]

    async def _settle(self, step: PlannedStep) -> None:
        run, tally = self._run, self._tallies[step.index]
        if run.aborted is not None and run.aborted[0] is step:
            run.outcomes[step.index] = run.aborted[1]
        else:
            outcome = tally.outcome()
            run.outcomes[step.index] = outcome
            if tally.values is not None:
                run.outputs[step.step_id] = outcome.value
        run.epoch += 1
        await run.tell(step)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self._trouble is None:
            self._trouble = error
            if not isinstance(error, WorkflowStoppedError) or not self._run.running:
                self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _source(self, into: _Queue) -> None:
        run = self._run
        if run.plan.items is None:
            raise ModelOnexError(f"pipeline {run.plan.name!r} has no items", EnumCoreErrorCode.CONFIGURATION_ERROR)
        scope = WorkflowScope(run.input, run.outputs, {"id": run.context.workflow_id})
        for number, value in enumerate(list_of(run.plan.items(scope), "items")):
            await into.put(_Item(number, value))
        await into.put(None)

    async def _sink(self, source: _Queue) -> None:
        while (item := await source.get()) is not None:
            for step in self._stages:
                kept = self._tallies[step.index].values
                if kept is not None:
                    kept.append(item.outputs.get(step.step_id))
        self._finish()

    async def _stage(self, step: PlannedStep, source: _Queue, sink: _Queue) -> None:
        run, tally = self._run, self._tallies[step.index]
        run.begun.add(step.index)
        handled = 0
        while (item := await source.get()) is not None:
            if not item.dropped:
                run.running += 1
                run.most_running = max(run.most_running, run.running)
                try:
                    outcome = await self._one(step, item)
                finally:
                    run.running -= 1
                tally.add(outcome)
                if run.aborted is not None or self._trouble is not None:
                    if not run.running:
                        self._finish()
                    return
            await sink.put(item)
            handled += 1
            if handled % _BREATH == 0:
                await asyncio.sleep(0)
        await sink.put(None)

    async def _stage_of_groups(self, step: PlannedStep, source: _Queue, sink: _Queue) -> None:
        run, tally = self._run, self._tallies[step.index]
        run.begun.add(step.index)
        while (item := await source.get()) is not None:
            if item.dropped:
                await sink.put(item)
                continue
            run.running += 1
            run.most_running = max(run.most_running, run.running)
            try:
                taken, outcomes = await self._group(step, item, source)
            finally:
                run.running -= 1
            at = 0
            for each in outcomes:
                while at == len(taken) or taken[at].dropped:  # of a record, whose items come again
                    if at == len(taken):
                        following = await source.get()
                        if following is None:
                            raise self._strange(step, item)
                        taken.append(following)
                    else:
                        await sink.put(taken[at])
                        at += 1
                self._judge(step, taken[at], each)
                tally.add(each)
                if run.aborted is not None or self._trouble is not None:
                    if not run.running:
                        self._finish()
                    return
                await sink.put(taken[at])
                at += 1
            for dropped in taken[at:]:
                await sink.put(dropped)
        await sink.put(None)

    async def _group(self, step: PlannedStep, first: _Item, source: _Queue) -> tuple[list[_Item], list[StepOutcome]]:
        """The items that were taken, and the outcomes of those that were not dropped before; of a record only the
        first has been taken.
        """
        run = self._run
        clock = run.context.clock
        taken, outcomes = [first], list[StepOutcome]()

        async def work() -> StepOutcome:
            began = clock()
            at = 0
            outcomes.clear()
            while True:
                item = taken[at]
                at += 1
                if not item.dropped:
                    outcomes.append(await self._outcome(step, item, recorded=False))
                    if self._aborts(step, outcomes[-1]) or clock() - began > _GROUP_S:
                        break
                if at < len(taken):
                    continue
                if at >= _GROUPED or not source.has_item():
                    break
                following = await source.get()
                if following is not None:  # as `has_item` says
                    taken.append(following)
                if at % _BREATH == 0:
                    await asyncio.sleep(0)
            value: list[JsonValue] = [each.as_json() for each in outcomes]
            return StepOutcome(_COMPLETED, value, None, 1, began, clock())

        name = f"{step.step_id}[{first.number}]"
        record = await run.context.step(position_of(step.index, 2 + first.number), name, work)
        if record.status is not _COMPLETED or not isinstance(record.value, list) or not record.value:
            raise self._strange(step, first)
        if not outcomes:
            outcomes = [StepOutcome.from_json(each) for each in record.value if isinstance(each, dict)]
        return taken, outcomes

    def _strange(self, step: PlannedStep, item: _Item) -> ModelOnexError:
        return ModelOnexError(
            f"workflow {self._run.plan.name!r}: the record of step {step.step_id!r} at item {item.number} is not about "
            "the items of this run; start it afresh",
            EnumCoreErrorCode.INTERNAL_ERROR,
        )

    async def _one(self, step: PlannedStep, item: _Item) -> StepOutcome:
        outcome = await self._outcome(step, item, recorded=self._recorded[step.index])
        self._judge(step, item, outcome)
        return outcome

    async def _outcome(self, step: PlannedStep, item: _Item, *, recorded: bool) -> StepOutcome:
        run = self._run
        call = run.call(step, item.number)
        scope = run.scope(step, call, item.value, item.number, item.outputs)
        outcome = run.holds(step, scope)
        return outcome or await run.carry_out(step, scope, call, item.number, recorded=recorded)

    def _aborts(self, step: PlannedStep, outcome: StepOutcome) -> bool:
        if outcome.status in _GOOD or step.on_failure is EnumOnFailure.SKIP:
            return False
        return step.on_failure is not None or self._run.times_out(outcome)

    def _judge(self, step: PlannedStep, item: _Item, outcome: StepOutcome) -> None:
        run = self._run
        undo = WorkflowScope(run.input, item.outputs, {}, item.value, item.number)
        run.item_done(step, outcome, undo, item.number)
        if outcome.status in _GOOD:
            item.outputs[step.step_id] = outcome.value
        elif step.on_failure is EnumOnFailure.SKIP:
            item.outputs[step.step_id] = None
        elif self._aborts(step, outcome):
            run.aborted = run.aborted or (step, outcome)
        else:
            item.dropped = True
