"""What a step reads of the events that it joins."""

import asyncio

import pytest
from pydantic import JsonValue

from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import StartRequest
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import run_virtual
from tests.support.workflow_contracts import loaded, workflow
from tests.support.workflows import Service


def joined(types: tuple[str, ...], reads: str) -> JsonValue:
    """What a step is given that joins these types, each with its own name as payload."""

    async def main() -> JsonValue:
        container, bus = ModelONEXContainer(), MemoryEventBus()
        container.register_service("work", Service())
        line = f'step_id: a, step_type: effect, node: work, on_event: [{", ".join(types)}], input: "{reads}"'
        engine = MemoryEngine(WorkflowRunner(container).run, events=RunEvents(lambda: bus))
        await engine.start(StartRequest("w", loaded(workflow(line, coordination_type="event_driven")).bundle))
        await asyncio.sleep(1)  # by then it listens: the time is virtual
        for name in types:
            event: ModelEventEnvelope[object] = ModelEventEnvelope(event_type=name, payload={"is": name})
            await bus.publish(event)
        view = await engine.wait("w")
        await engine.aclose()
        await bus.aclose()
        assert isinstance(view.output, dict), view.error
        output = view.output["output"]
        assert isinstance(output, dict), view.error
        return output["a"]

    return run_virtual(main())


@pytest.mark.parametrize(
    ("types", "reads", "found"),
    [
        (("placed", "paid"), "${event.paid.payload.is}", "paid"),
        (("order.placed", "order.paid"), "${event.order.paid.payload.is}", "order.paid"),
        (("order.placed", "order.paid"), "${event.order.placed.payload.is}", "order.placed"),
        (("order", "order.paid.late"), "${event.order.paid.late.payload.is}", "order.paid.late"),
        (("order", "order.paid.late"), "${event.order.payload.is}", "order"),
        (("order.paid.late", "order.paid"), "${event.order.paid.payload.is}", "order.paid"),
        (("order.paid.late", "order.paid"), "${event.order.paid.late.payload.is}", "order.paid.late"),
    ],
)
def test_each_event_is_found_by_its_type(types: tuple[str, ...], reads: str, found: str) -> None:
    """Dots are levels, and one name may be the beginning of another."""
    assert joined(types, reads) == found
