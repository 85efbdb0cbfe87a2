"""Events that a node tells about itself."""

from uuid import UUID

from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.nodes import NodeEffect
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import RecordingBus, run_virtual


class _Node(NodeEffect):
    """A node like users write them."""


async def test_an_event_is_published_on_the_containers_bus() -> None:
    """With type, payload, correlation id and the class as its source."""
    container = ModelONEXContainer()
    bus = RecordingBus()
    container.register_service("ProtocolEventBus", bus)

    taken = await _Node(container).emit_state_change_event("file.done", {"path": "x", "id": UUID(int=1)}, UUID(int=7))

    event = bus.published[0][0]
    assert taken
    assert (event.event_type, event.correlation_id, event.source) == ("file.done", UUID(int=7), "onex:_Node")
    assert event.payload == {"path": "x", "id": str(UUID(int=1))}


async def test_an_own_bus_goes_before_the_containers() -> None:
    """A subclass may assign `event_bus`."""
    node = _Node(ModelONEXContainer())
    own = RecordingBus()
    node.event_bus = own  # type: ignore[attr-defined]  # an attribute that users add

    assert await node.emit_state_change_event("x.y", {})
    assert len(own.published) == 1


def test_a_subscriber_of_the_memory_bus_hears_of_it() -> None:
    """The default bus of a bare container carries it."""
    heard: list[object] = []

    async def main() -> None:
        container = ModelONEXContainer()
        bus = container.get_service("ProtocolEventBus")
        assert isinstance(bus, MemoryEventBus)
        bus.subscribe("file.done", lambda event: heard.append(event.payload))
        assert await _Node(container).emit_state_change_event("file.done", {"n": 1})
        await bus.drain()
        await container.aclose()

    run_virtual(main())
    assert heard == [{"n": 1}]


async def test_without_a_bus_or_with_one_that_refuses_it_is_false() -> None:
    """What the event is about has happened: the caller must not fail for the sake of the event."""
    closed = MemoryEventBus()
    await closed.aclose()
    container = ModelONEXContainer()
    container.register_service("ProtocolEventBus", closed)

    assert not await _Node(container).emit_state_change_event("x.y", {})
    assert not await _Node(object()).emit_state_change_event("x.y", {})  # type: ignore[arg-type]  # as users do
