"""The event bus inside one process; what it promises stands at `ProtocolEventBus`.

No task runs while there is nothing to do: the first event for an idle subscription starts a task, which ends with the
last one. So a bus needs no closing to leave nothing behind, and serves one event loop after another: what was queued,
or waited to be repeated, when a loop ended goes on in the next one, with the event in hand delivered again.

Beyond the protocol. Order holds per key over all topics of a group. An event that waits to be repeated holds up its own
key only, not its subscription. What is queued for a name whose last subscriber leaves is dropped and counted. Events
live in memory: they end with the process.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from itertools import count
from typing import Final, TypeVar, cast

from pydantic import BaseModel

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.events.event_handler import EventName, event_name, marked_handlers
from omnibase_core.models.events.model_event_bus import (
    EventReceipt,
    ModelDeadLetter,
    ModelEventBusStatistics,
    ModelEventGroupStatistics,
)
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope, as_envelope
from omnibase_spi._event_engine import Engine, Patience, letter_of
from omnibase_spi._event_groups import Delivery, Group, Handler, Member, Queue, SeenIds

P = TypeVar("P")

_log = logging.getLogger("onex.events")
_GRACE_SECONDS: Final = 1.0  # for cancelled handlers to put their things in order


class MemoryEventBus:
    """Events inside one process. Used from one event loop at a time; not thread-safe.

    buffer: events that a group may have queued or in hand before `publish` waits. overflow: how many more handlers may
        add by publishing themselves, before they are refused with RATE_LIMITED.
    max_attempts: calls of a handler before its event is a dead letter. The delay before the next one is `base_delay_s`,
        doubled each time, at most `max_delay_s`, and shortened by up to a half at random (`jitter` gives 0..1).
    dedup_window_s, dedup_ids: for how long, and how many, ids a group keeps; 0 of either turns deduplication off.
    max_dead_letters: beyond this the oldest is forgotten and counted. max_keys: keys whose member is kept in mind, for
        each group and name.
    """

    def __init__(
        self,
        *,
        buffer: int = 1_000,
        overflow: int = 10_000,
        max_attempts: int = 5,
        base_delay_s: float = 0.1,
        max_delay_s: float = 30.0,
        jitter: Callable[[], float] = random.random,
        dedup_window_s: float = 600.0,
        dedup_ids: int = 100_000,
        max_dead_letters: int = 10_000,
        max_keys: int = 10_000,
    ) -> None:
        least_one = {"buffer": buffer, "max_attempts": max_attempts, "max_keys": max_keys}
        least_none = {"overflow": overflow, "base_delay_s": base_delay_s, "max_delay_s": max_delay_s}
        least_none |= {"dedup_window_s": dedup_window_s, "dedup_ids": dedup_ids, "max_dead_letters": max_dead_letters}
        for least, numbers in ((1, least_one), (0, least_none)):
            for name, value in numbers.items():
                if value < least:
                    message = f"memory event bus: {name} must be at least {least}, found {value!r}"
                    raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)
        self._buffer = buffer
        self._overflow = overflow
        self._dedup = (dedup_window_s, dedup_ids)
        self._max_keys = max_keys
        patience = Patience(max_attempts, base_delay_s, max_delay_s, jitter)
        self._engine = Engine(patience, max_dead_letters, self._retire)
        self._routes: dict[str, list[Queue]] = {}
        self._numbers = count()
        self._published = self._unheard = 0
        self._retired = ModelEventGroupStatistics()
        self._closing = self._closed = False

    # Publishing

    async def publish(
        self, event: ModelEventEnvelope[object] | BaseModel, *, topic: str | None = None, key: str | None = None
    ) -> EventReceipt:
        """See `ProtocolEventBus.publish`."""
        envelope = as_envelope(event)
        loop = self._engine.bind()
        if self._closing and not self._engine.inside():
            raise _closed_error("publish")
        name = envelope.event_type if topic is None else topic
        if key is None:
            key = envelope.headers.get("partitionkey")
        queues = self._routes.get(name, ())
        if name != envelope.event_type and (others := self._routes.get(envelope.event_type)):
            chosen = {queue.group for queue in queues}
            queues = [*queues, *(queue for queue in others if queue.group not in chosen)]
        if not queues:
            self._published += 1
            self._unheard += 1
            return EventReceipt(envelope.envelope_id, name, 0)
        identity = envelope.envelope_id.int
        now = loop.time()
        reserved: list[Queue] = []
        try:
            for queue in queues:
                group = queue.group
                if group.seen.has(identity, now):
                    group.duplicates += 1
                elif group.places_taken < group.capacity and not group.waiters:
                    group.places_taken += 1
                    reserved.append(queue)
                elif await self._wait_for_place(queue):
                    reserved.append(queue)
        except BaseException:
            for queue in reserved:
                queue.group.free_place()
            raise
        return self._put_all(envelope, name, key, reserved, loop.time())

    def wants(self, event_type: str) -> bool:
        """Whether somebody would hear an event of this type, published under no other topic, now."""
        return event_type in self._routes

    def _put_all(
        self, envelope: ModelEventEnvelope[object], topic: str, key: str | None, queues: list[Queue], now: float
    ) -> EventReceipt:
        """Queue the event for groups in which it has a place. Nothing waits here, so it is all or none."""
        identity = envelope.envelope_id.int
        groups = 0
        for queue in queues:
            group = queue.group
            if not queue.members or group.seen.has(identity, now):  # since it began to wait
                group.duplicates += 1 if queue.members else 0
                group.free_place()
                continue
            group.seen.add(identity, now)
            group.queued += 1
            groups += 1
            self._engine.put(Delivery(envelope, topic, key, queue, next(self._numbers)))
        self._published += 1
        return EventReceipt(envelope.envelope_id, topic, groups)

    async def _wait_for_place(self, queue: Queue) -> bool:
        """Take a place in the group's buffer; False when the last member left meanwhile."""
        group = queue.group
        if self._engine.inside():  # waiting could wait for itself, by whatever way round
            if group.places_taken >= group.capacity + self._overflow:
                message = (
                    f"publish inside a handler: group {group.name!r} holds {group.places_taken} events, allowed are "
                    f"{group.capacity} and {self._overflow} more; publish less, or raise buffer or overflow"
                )
                raise ModelOnexError(message, EnumCoreErrorCode.RATE_LIMITED, {"group": group.name})
            group.places_taken += 1
            return True
        while queue.members:
            if group.places_taken < group.capacity and not group.waiters:
                group.places_taken += 1
                return True
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            group.waiters.append(waiter)
            try:
                if await waiter:
                    return True
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None and waiter.result():
                    group.free_place()
                raise
        return False

    # Subscribing

    def subscribe(
        self,
        event: EventName,
        handler: Callable[[ModelEventEnvelope[P]], object],
        group: str | None = None,
        *,
        concurrency: int = 1,
    ) -> "MemorySubscription":
        """See `ProtocolEventBus.subscribe`."""
        name = event_name(event)
        if self._closing:
            raise _closed_error("subscribe")
        found: object = handler
        if not callable(found) or concurrency < 1 or group == "":
            message = (
                f"subscribe to {name!r}: needs a callable (found {type(handler).__name__}), a concurrency of at least "
                f"1 (found {concurrency!r}) and a group that has a name, or None (found {group!r})"
            )
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
        if group is None:
            called = getattr(handler, "__qualname__", type(handler).__name__)
            group_name = f"{called}#{next(self._numbers)}"
        else:
            group_name = group
        joined = self._engine.groups.get(group_name)
        if joined is None:
            joined = Group(group_name, self._buffer, SeenIds(*self._dedup), named=group is not None)
            self._engine.groups[group_name] = joined
        queue = joined.queues.get(name)
        if queue is None:
            queue = joined.queues[name] = Queue(joined, name, self._max_keys)
            self._routes[name] = [*self._routes.get(name, ()), queue]
        model = None if isinstance(event, str) else event
        member = Member(queue, cast("Handler", handler), model, concurrency, copy_context())
        queue.members.append(member)
        return MemorySubscription(self, member)

    def subscribe_handlers(
        self, holder: object, group: str | None = None, *, concurrency: int = 1
    ) -> "list[MemorySubscription]":
        """See `ProtocolEventBus.subscribe_handlers`."""
        marked = list(marked_handlers(holder))
        return [self.subscribe(event, handler, group, concurrency=concurrency) for event, handler in marked]

    def _unsubscribe(self, member: Member) -> None:
        if not member.live:
            return
        member.live = False
        queue, group = member.queue, member.queue.group
        queue.members.remove(member)
        moved = [*member.ready]
        member.ready.clear()
        if queue.members:
            for delivery in moved:
                self._engine.make_ready(delivery)
            return
        if group.queues.get(queue.name) is queue:
            del group.queues[queue.name]
        rest = [each for each in self._routes.get(queue.name, ()) if each is not queue]
        if rest:
            self._routes[queue.name] = rest
        else:
            self._routes.pop(queue.name, None)
        moved += queue.ready
        queue.ready.clear()
        for delivery in [each for each in self._engine.parked if each.queue is queue]:
            self._engine.parked.pop(delivery).cancel()
            moved.append(delivery)
        group.wake_all()
        for delivery in moved:
            self._engine.drop(delivery)
        if not group.pending and not group.queues and not group.named:
            self._retire(group)

    def _retire(self, group: Group) -> None:
        """Forget a group that nobody can join again; its counts stay in the total."""
        if self._engine.groups.pop(group.name, None) is not None:
            self._retired = _sum(self._retired, group.numbers())

    # Dead letters and numbers

    async def dead_letters(self, group: str | None = None) -> list[ModelDeadLetter]:
        """See `ProtocolEventBus.dead_letters`."""
        return [letter for letter, _delivery in self._engine.letters.values() if group is None or letter.group == group]

    async def redeliver(self, letter: ModelDeadLetter) -> bool:
        """See `ProtocolEventBus.redeliver`; does not wait for a place in the buffer."""
        self._engine.bind()
        if self._closing:
            raise _closed_error("redeliver")
        if letter.letter_id not in self._engine.letters:
            return False
        _letter_kept, delivery = self._engine.letters[letter.letter_id]
        group = self._engine.groups.get(letter.group)
        queue = None if group is None else group.queues.get(delivery.queue.name)
        if group is None or queue is None:
            message = (
                f"dead letter {letter.letter_id}: group {letter.group!r} has no subscription to "
                f"{delivery.queue.name!r}; subscribe first, then redeliver"
            )
            raise ModelOnexError(message, EnumCoreErrorCode.RESOURCE_UNAVAILABLE, {"group": letter.group})
        del self._engine.letters[letter.letter_id]
        group.redelivered += 1
        group.places_taken += 1
        self._engine.put(Delivery(delivery.envelope, delivery.topic, delivery.key, queue, next(self._numbers)))
        return True

    def statistics(self) -> ModelEventBusStatistics:
        """See `ProtocolEventBus.statistics`."""
        groups = {name: group.numbers() for name, group in self._engine.groups.items()}
        total = self._retired
        for numbers in groups.values():
            total = _sum(total, numbers)
        return ModelEventBusStatistics(
            published=self._published,
            dropped=self._unheard + total.dropped,
            dead_letters=len(self._engine.letters),
            forgotten_dead_letters=self._engine.forgotten,
            total=total,
            groups=groups,
        )

    # Life

    def _refuse_inside(self) -> None:
        if self._engine.inside():
            message = "drain or aclose inside a handler of the same bus would wait for that handler; call it elsewhere"
            raise ModelOnexError(message, EnumCoreErrorCode.CONFLICT)

    async def drain(self, timeout_s: float | None = None) -> bool:
        """See `ProtocolEventBus.drain`. CONFLICT inside a handler of this bus, which would wait for itself."""
        loop = self._engine.bind()
        self._refuse_inside()
        if not self._engine.pending or self._closed:
            return not self._engine.pending
        self._engine.start_idle()
        waiter: asyncio.Future[None] = loop.create_future()
        self._engine.idle.append(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
            return not self._engine.pending
        finally:
            self._engine.idle.remove(waiter)

    async def aclose(self, timeout_s: float = 30.0) -> list[ModelDeadLetter]:
        """See `ProtocolEventBus.aclose`."""
        self._engine.bind()
        self._refuse_inside()
        self._closing = True
        try:
            for group in self._engine.groups.values():
                group.wake_all(lambda: _closed_error("publish"))
            await self.drain(timeout_s)
        finally:
            left = await self._stop()
        return left

    async def _stop(self) -> list[ModelDeadLetter]:
        if self._closed:
            return []
        self._closed = True
        self._engine.wake_idle()
        members = [
            m for group in self._engine.groups.values() for queue in group.queues.values() for m in queue.members
        ]
        tasks = [task for member in members for task in member.workers]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        left = [delivery for member in members for delivery in member.workers.values() if delivery is not None]
        for timer in self._engine.parked.values():
            timer.cancel()
        left += self._engine.parked
        self._engine.parked.clear()
        for group in self._engine.groups.values():
            left += [delivery for lane in group.lanes.values() for delivery in lane]
            left += [delivery for queue in group.queues.values() for delivery in queue.ready]
        left += [delivery for member in members for delivery in member.ready]
        for member in members:
            member.live = False
        self._routes.clear()
        if left:
            _log.warning("event bus closed with %d events that were not handled", len(left))
        left.sort(key=lambda delivery: delivery.number)
        return [letter_of(each, "not handled when the bus was closed", "") for each in left]


class MemorySubscription:
    """A subscription of a `MemoryEventBus`."""

    def __init__(self, bus: MemoryEventBus, member: Member) -> None:
        self._bus = bus
        self._member = member

    @property
    def group(self) -> str:
        """See `ProtocolSubscription.group`."""
        return self._member.queue.group.name

    async def ready(self) -> None:
        """See `ProtocolSubscription.ready`; at once, in memory."""

    def unsubscribe(self) -> Awaitable[None]:
        """See `ProtocolSubscription.unsubscribe`."""
        self._bus._unsubscribe(self._member)  # noqa: SLF001 # the two are one
        return _Ended(self._member)


class _Ended:
    """Awaited, it waits until the handlers of a subscription have ended; not awaited, it costs nothing."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        tasks = [task for task in self._member.workers if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks)


def _closed_error(doing: str) -> ModelOnexError:
    return ModelOnexError(
        f"{doing}: the event bus is closed; make a new one, or close it later", EnumCoreErrorCode.RESOURCE_UNAVAILABLE
    )


def _sum(one: ModelEventGroupStatistics, other: ModelEventGroupStatistics) -> ModelEventGroupStatistics:
    pairs = {name: getattr(one, name) + getattr(other, name) for name in ModelEventGroupStatistics.model_fields}
    return ModelEventGroupStatistics(**pairs)
