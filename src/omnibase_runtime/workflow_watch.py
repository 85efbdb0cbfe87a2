"""Looks on while runs of workflows are carried out: what a program tells its user of them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Concatenate, ParamSpec, Protocol, cast
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.workflow_run import STEP_COMPLETED_EVENT
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    RunWorkflow,
    StepOutcome,
    Work,
    WorkflowBundle,
    WorkflowStoppedError,
)

P = ParamSpec("P")


class RunWatch(Protocol):
    """Is told what happens to runs in this process. Its methods return soon and raise nothing."""

    def run_begun(self, workflow_id: str, bundle: WorkflowBundle) -> None:
        """A run is taken up, from its beginning or from its records."""
        ...

    def step_begun(self, workflow_id: str, step: str) -> None:
        """The work of a step, or of the first of its items, begins here; what is recorded is not begun again."""
        ...

    def step_ended(self, workflow_id: str, step: str, told: Mapping[str, JsonValue]) -> None:
        """A step has ended, here or before. told: status, attempts, started_at, ended_at, error."""
        ...

    def run_ended(self, workflow_id: str, how: str, error: ModelOnexError | None) -> None:
        """A run is over here.

        how: completed, failed, or why it was let go: cancelled, paused, drained, cut, lease, moved, interrupted.
        """
        ...


class WatchedRuns:
    """`WorkflowRunner.run` with somebody who looks on."""

    def __init__(self, run: RunWorkflow, watch: RunWatch) -> None:
        self._run = run
        self._watch = watch

    async def run(self, context: DurableContext, bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        """Carry a run out, and tell of it (`RunWorkflow`)."""
        watch, workflow_id = self._watch, context.workflow_id
        watch.run_begun(workflow_id, bundle)
        try:
            watched = cast("DurableContext", _WatchedContext(context, watch))  # it hands on what it does not name
            document = await self._run(watched, bundle, input_data)
        except WorkflowStoppedError as stopped:
            watch.run_ended(workflow_id, stopped.reason, None)
            raise
        except ModelOnexError as error:
            watch.run_ended(workflow_id, "failed", error)
            raise
        except BaseException:
            watch.run_ended(workflow_id, "interrupted", None)
            raise
        watch.run_ended(workflow_id, "completed", None)
        return document


class _WatchedContext:
    """A `DurableContext` that tells when the work of a step begins and that wants to hear of its end.

    What it does not name itself is the engine's.
    """

    def __init__(self, inner: DurableContext, watch: RunWatch) -> None:
        self._inner = inner
        self._watch = watch
        self._begun: set[str] = set()
        self.child = self._telling(inner.child)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def wants(self, event_type: str) -> bool:
        """Whether to make such an event: each end of a step is told."""
        asked = getattr(self._inner, "wants", None)
        return event_type == STEP_COMPLETED_EVENT or asked is None or bool(asked(event_type))

    def _begins(self, name: str) -> None:
        step = name.partition("[")[0]
        if step not in self._begun:
            self._begun.add(step)
            self._watch.step_begun(self._inner.workflow_id, step)

    def _told(self, name: str, work: Work) -> Work:
        async def begin() -> StepOutcome:
            self._begins(name)
            return await work()

        return begin

    def _telling(
        self, start: Callable[Concatenate[int, str, P], Awaitable[StepOutcome]]
    ) -> Callable[Concatenate[int, str, P], Awaitable[StepOutcome]]:
        async def begin(position: int, name: str, /, *args: P.args, **options: P.kwargs) -> StepOutcome:
            self._begins(name)
            return await start(position, name, *args, **options)

        return begin

    async def step(
        self, position: int, name: str, work: Work, *, preemptible: bool = True, timeout_s: float | None = None
    ) -> StepOutcome:
        return await self._inner.step(
            position, name, self._told(name, work), preemptible=preemptible, timeout_s=timeout_s
        )

    async def tx_step(
        self, position: int, name: str, connection_name: str, work: Work, *, timeout_s: float | None = None
    ) -> StepOutcome:
        return await self._inner.tx_step(position, name, connection_name, self._told(name, work), timeout_s=timeout_s)

    async def emit(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        if event_type == STEP_COMPLETED_EVENT and isinstance(payload, dict):
            self._watch.step_ended(self._inner.workflow_id, str(payload["step_id"]), payload)
        await self._inner.emit(event_type, payload, event_id)
