"""Runs of workflows without a contract: each case is a coroutine function over `DurableContext`, named by the input."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from uuid import uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.protocols.protocol_workflow_engine import (
    DurableContext,
    RunWorkflow,
    StartRequest,
    StepOutcome,
    Work,
    WorkflowBundle,
    position_of,
)

Case = Callable[[DurableContext, JsonValue], Awaitable[JsonValue]]


def bundle_named(name: str, version: str = "1.0.0") -> WorkflowBundle:
    text = f"orchestrator_subcontract:\n  workflow_name: {name}\n  version: {version}\n"
    return WorkflowBundle("workflow.yaml", {"workflow.yaml": text}, sha256(text.encode()).hexdigest())


BUNDLE = bundle_named("demo")


def giving(value: JsonValue) -> Work:
    """Work that is done at once."""

    async def work() -> StepOutcome:
        return StepOutcome(EnumStepStatus.COMPLETED, value)

    return work


async def done(context: DurableContext, index: int, value: JsonValue = None, name: str | None = None) -> JsonValue:
    """A step that gives `value`."""
    return (await context.step(position_of(index), name or f"step_{index}", giving(value))).value


def interpreter(cases: Mapping[str, Case]) -> RunWorkflow:
    """What a driver runs: the case that the input names, with the rest of the input."""

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        assert isinstance(input_data, dict)
        return await cases[str(input_data["case"])](context, input_data.get("data"))

    return run


def request(case: str, data: JsonValue = None, **more: object) -> StartRequest:
    """A run of a case, under a new id unless one is given."""
    document: JsonValue = {"case": case, "data": data}
    fields: dict[str, object] = {"workflow_id": f"{case}-{uuid4().hex[:10]}", "bundle": BUNDLE, "input_data": document}
    return StartRequest(**(fields | more))  # type: ignore[arg-type]  # the fields of the request, checked by the callers


class Gate:
    """Lets a step of a run wait in the same process until the test says so."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> StepOutcome:
        self.reached.set()
        await self.opened.wait()
        return StepOutcome(EnumStepStatus.COMPLETED, "through")
