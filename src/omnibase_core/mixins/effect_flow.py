"""In which order operations run, what they wait for, and what is skipped (section 2.7)."""

import asyncio
from collections.abc import Awaitable, Callable

from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome
from omnibase_core.mixins.effect_binding import BoundOperation
from omnibase_core.mixins.effect_operation import Call, Finished, run_operation
from omnibase_core.models.model_effect_output import ModelEffectOperationResult
from omnibase_core.utils.effect_plan import OperationPlan

RunOperation = Callable[[BoundOperation, Call], Awaitable[Finished]]


async def run_in_order(call: Call, run: RunOperation = run_operation) -> list[Finished | None]:
    """One after another; None for an operation that was not reached."""
    bound = call.bound
    aborts = bound.plan.mode.aborts
    finished: list[Finished | None] = [None] * len(bound.operations)
    for index, operation in enumerate(bound.operations):
        if operation.plan.depends_on and not _ready(operation.plan, finished):
            finished[index] = _skipped(operation.plan, finished)
            continue
        done = await run(operation, call)
        finished[index] = done
        if done.result.success:
            if index in bound.plan.referenced:
                _publish(call, operation.plan.name, done)
        elif aborts:
            break
    return finished


def _publish(call: Call, name: str, done: Finished) -> None:
    """Make an operation's fields and document readable as `${output.<name>...}`."""
    call.scope.output[name] = {**done.result.extracted_fields, "result": done.document}


def _ready(plan: OperationPlan, finished: list[Finished | None]) -> bool:
    for index in plan.depends_on:
        done = finished[index]
        if done is None or not done.result.success:
            return False
    return True


def _skipped(plan: OperationPlan, finished: list[Finished | None]) -> Finished:
    blamed = [
        f.result.operation_name for i in plan.depends_on if (f := finished[i]) is not None and not f.result.success
    ]
    return Finished(
        ModelEffectOperationResult(
            operation_name=plan.name,
            success=False,
            duration_ms=0.0,
            outcome=EnumOperationOutcome.SKIPPED,
            error_message=f"skipped: it depends on {', '.join(blamed) or 'an operation that was not reached'}",
        )
    )


async def run_in_parallel(call: Call) -> list[Finished | None]:
    """Each as soon as what it depends on is done, at most `max_concurrency` at once; nothing outlives this call."""
    bound = call.bound
    plan = bound.plan
    if len(bound.operations) == 1:  # nothing to overlap with
        return await run_in_order(call)
    finished: list[Finished | None] = [None] * len(bound.operations)
    waiting = dict(enumerate(bound.operations))
    running: dict[asyncio.Task[Finished], int] = {}
    ended = _Ended(call.loop)
    aborted = False
    try:
        while (waiting or running) and not aborted:
            if waiting:
                for task in _start_ready(call, waiting, running, finished):
                    task.add_done_callback(ended.add)
            for task in await ended.some() if running else ():
                index = running.pop(task)
                result = task.result()
                finished[index] = result
                if result.result.success:
                    if index in plan.referenced:
                        _publish(call, plan.operations[index].name, result)
                else:
                    aborted = aborted or plan.mode.aborts
    finally:
        await _cancel_all(running, finished)
    return finished


class _Ended:
    """Tasks that have ended, in order; `asyncio.wait` would look at all that run for each one that ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: list[asyncio.Task[Finished]] = []
        self._woken: asyncio.Future[None] | None = None

    def add(self, task: "asyncio.Task[Finished]") -> None:
        self._tasks.append(task)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def some(self) -> "list[asyncio.Task[Finished]]":
        """Those that have ended since the last time; waits for one where there is none."""
        if not self._tasks:
            self._woken = self._loop.create_future()
            await self._woken
        tasks, self._tasks = self._tasks, []
        return tasks


def _start_ready(
    call: Call,
    waiting: dict[int, BoundOperation],
    running: dict[asyncio.Task[Finished], int],
    finished: list[Finished | None],
) -> "list[asyncio.Task[Finished]]":
    started = []
    for index, operation in list(waiting.items()):
        depends_on = operation.plan.depends_on
        if any(finished[i] is None for i in depends_on):
            continue
        if not _ready(operation.plan, finished):
            finished[index] = _skipped(operation.plan, finished)
            del waiting[index]
        elif len(running) < call.bound.plan.max_concurrency:
            task = call.loop.create_task(run_operation(operation, call))
            running[task] = index
            started.append(task)
            del waiting[index]
    return started


async def _cancel_all(running: dict[asyncio.Task[Finished], int], finished: list[Finished | None]) -> None:
    """Cancel what still runs and wait for it; what ends with a result all the same keeps it."""
    for task in running:
        task.cancel()
    while pending := [task for task in running if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)
            raise
    for task, index in running.items():
        if not task.cancelled():
            finished[index] = task.result()
