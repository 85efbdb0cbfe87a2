"""Events of a bus to and from runs: what a run waits for is put before it as signals, what it tells is published."""

import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from omnibase_core.logging.redaction import redact
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus, ProtocolSubscription
from omnibase_core.protocols.protocol_workflow_engine import Signal, event_types_of
from omnibase_spi.engine_memory_store import MemoryRun
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.workflow_checks import check_value

_log = logging.getLogger("onex.workflow")
Deliver = Callable[[MemoryRun, Signal], None]


class RunEvents:
    """The bus as runs see it. find_bus: asked when it is first needed.

    An event is for a run from the moment at which the run first waits for its type; it then waits for the run.
    """

    def __init__(self, find_bus: Callable[[], ProtocolEventBus | None]) -> None:
        self._find_bus = find_bus
        self._subscriptions: dict[tuple[str, str], list[ProtocolSubscription]] = {}
        self._leaving: list[Awaitable[None]] = []

    def wants(self, event_type: str) -> bool:
        """Whether anybody could hear such an event; a bus in memory knows, others are told everything."""
        bus = self._find_bus()
        return bus is not None and (not isinstance(bus, MemoryEventBus) or bus.wants(event_type))

    async def publish(self, event_type: str, payload: JsonValue, event_id: UUID) -> None:
        """Publish an event of a run. One that cannot be published is logged: what it tells has happened already."""
        try:
            bus = self._find_bus()
            if bus is not None:
                event: ModelEventEnvelope[object] = ModelEventEnvelope(
                    event_type=event_type, payload=payload, envelope_id=event_id, source="/onex/workflow"
                )
                await bus.publish(event)
        except Exception as error:  # noqa: BLE001  # a run does not fail because nobody could be told
            _log.warning("event %s of a workflow was not published: %s", event_type, redact(str(error)))

    def knows(self, run: MemoryRun, topic: str) -> bool:
        """Whether events of this topic come already."""
        return (run.request.workflow_id, topic) in self._subscriptions

    def listen(self, run: MemoryRun, topic: str, deliver: Deliver) -> None:
        """Put events of the topic's types before the run from now on."""
        bus = self._find_bus()
        if bus is None:
            return

        def handle(event: ModelEventEnvelope[object]) -> None:
            deliver(run, Signal(topic, as_signal(event), str(event.envelope_id), event.source))

        self._subscriptions[run.request.workflow_id, topic] = [
            bus.subscribe(name, handle) for name in event_types_of(topic)
        ]

    def forget(self, run: MemoryRun) -> None:
        """The run has ended: nothing is put before it any more."""
        for topic in run.topics:
            for subscription in self._subscriptions.pop((run.request.workflow_id, topic), []):
                self._leaving.append(subscription.unsubscribe())
        run.topics.clear()
        del self._leaving[:-100]  # to be awaited by who closes; older ones have ended

    async def aclose(self) -> None:
        """Leave the bus, which is not closed."""
        for subscriptions in self._subscriptions.values():
            self._leaving.extend(subscription.unsubscribe() for subscription in subscriptions)
        self._subscriptions.clear()
        leaving, self._leaving = self._leaving, []
        for each in leaving:
            await each


def as_signal(event: ModelEventEnvelope[object]) -> dict[str, JsonValue]:
    """An event as a step reads it: `{type, id, key, payload}`. Raises VALIDATION_ERROR where that is no JSON."""
    payload: JsonValue = to_jsonable_python(event.payload, fallback=str)
    check_value(payload, f"The payload of event {event.envelope_id}")
    return {
        "type": event.event_type,
        "id": str(event.envelope_id),
        "key": event.partition_key,
        "payload": payload,
    }
