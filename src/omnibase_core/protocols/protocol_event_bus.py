"""The seam to whatever carries events between nodes: memory, or a broker."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel

from omnibase_core.models.events.event_handler import EventName
from omnibase_core.models.events.model_event_bus import EventReceipt, ModelDeadLetter, ModelEventBusStatistics
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope

P = TypeVar("P")


class ProtocolSubscription(Protocol):
    """A handler's tie to a bus."""

    @property
    def group(self) -> str:
        """Name of the consumer group; made up when none was given."""
        ...

    async def ready(self) -> None:
        """Return once events that are published from now on will reach the handler."""
        ...

    def unsubscribe(self) -> Awaitable[None]:
        """Take no further event, at once. Await what it returns to know that a handler that was running has ended.

        Other members of the group take over what was queued. Without one, a bus that keeps nothing drops and counts it.
        """
        ...


@runtime_checkable
class ProtocolEventBus(Protocol):
    """Carries events from publishers to the groups of their subscribers, at least once.

    What every bus promises. A topic is a name; without one an event's topic is its type. A subscription hears of the
    events whose topic *or* type it names. Each group gets each event once: its members share the work. An event is
    acknowledged when its handler has returned; when that raises it is repeated after a growing delay, and becomes a
    dead letter when the attempts are used up. Events of one topic and key are handled one after the other in the order
    in which they were published, also while one of them is repeated; a key stays with its member while that lives and
    the bus keeps the key in mind. Without a key no order is promised. An id that a group has seen within the bus's
    window is not handled again. A repeated or redelivered event may have been handled in part before: handlers that
    must not act twice look at `envelope_id`.

    Handlers, plain functions or coroutine functions, run in the subscriber's context with the current correlation id
    set. Plain ones must not block. A payload is a model where the subscription names the model class; elsewhere it may
    be JSON, depending on what the event came through.
    """

    async def publish(
        self, event: ModelEventEnvelope[object] | BaseModel, *, topic: str | None = None, key: str | None = None
    ) -> EventReceipt:
        """Hand an event over; returns when it is queued (stored, with a broker), not when it is handled.

        event: an envelope, or a pydantic model, whose class name is the event type. key: by default the envelope's
        `partition_key`.

        Waits while a group's buffer is full, but never inside a handler of the same bus: there it goes beyond the
        buffer, up to a limit, and is then refused with RATE_LIMITED. RESOURCE_UNAVAILABLE when the bus is closed.
        Cancelled while it waits, nothing has been queued.
        """
        ...

    def subscribe(
        self,
        event: EventName,
        handler: Callable[[ModelEventEnvelope[P]], object],
        group: str | None = None,
        *,
        concurrency: int = 1,
    ) -> ProtocolSubscription:
        """Call `handler` for events of this topic or type. Needs no running loop.

        event: a name, or a model class, as which payloads are then handed over; one that does not fit is a dead letter.
        group: subscriptions of one name share events; None makes a group of its own. concurrency: how many events this
        subscription handles at a time, at least 1.
        """
        ...

    def subscribe_handlers(
        self, holder: object, group: str | None = None, *, concurrency: int = 1
    ) -> Sequence[ProtocolSubscription]:
        """Subscribe every function of a module, or method of an object, that `@event_handler` marked."""
        ...

    async def dead_letters(self, group: str | None = None) -> Sequence[ModelDeadLetter]:
        """Dead letters, oldest first, of one group or of all."""
        ...

    async def redeliver(self, letter: ModelDeadLetter) -> bool:
        """Give a dead letter to its group once more, with all its attempts; False when it is not there any more.

        RESOURCE_UNAVAILABLE when the group has nobody who could take it; the letter then stays.
        """
        ...

    def statistics(self) -> ModelEventBusStatistics:
        """The numbers of now, as far as this process knows them."""
        ...

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that was queued is acknowledged or given up; False when the time ran out."""
        ...

    async def aclose(self, timeout_s: float = 30.0) -> Sequence[ModelDeadLetter]:
        """Refuse new events, wait for queued ones, then cancel what is left and return it; a second call has nothing.

        Handlers may still publish while the bus drains. CONFLICT inside a handler of this bus, which would wait for
        itself.
        """
        ...
