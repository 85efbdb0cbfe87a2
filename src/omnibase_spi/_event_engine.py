"""The engine of the memory bus: who handles what next, repetition, giving up, and going on in another event loop."""

import asyncio
import inspect
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import CoroutineType
from typing import Final, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.logging.redaction import redact
from omnibase_core.models.events.model_event_bus import ModelDeadLetter
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope, set_current_envelope
from omnibase_spi._event_groups import Delivery, Group, Member

_log = logging.getLogger("onex.events")
_TURNS: Final = 64  # events that a task handles before it lets others run, where handlers never wait
_MAX_REASON: Final = 1_000
_current: ContextVar[Delivery | None] = ContextVar("onex_delivery", default=None)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and after which delays, an event is given to a handler that raises; see `MemoryEventBus`."""

    max_attempts: int
    base_delay_s: float
    max_delay_s: float
    jitter: Callable[[], float]

    def delay_s(self, attempts: int) -> float:
        """Seconds after the given number of attempts."""
        longest = min(self.max_delay_s, self.base_delay_s * 2.0 ** min(attempts - 1, 60))
        return longest * (1 - self.jitter() / 2)


class Engine:
    """Brings queued events to the members of their groups. `left` is called with a group whose last event is gone."""

    def __init__(self, patience: Patience, max_letters: int, left: Callable[[Group], None]) -> None:
        self.groups: dict[str, Group] = {}
        self.parked: dict[Delivery, asyncio.TimerHandle] = {}
        self.letters: OrderedDict[UUID, tuple[ModelDeadLetter, Delivery]] = OrderedDict()
        self.forgotten = 0
        self.pending = 0
        self.idle: list[asyncio.Future[None]] = []
        self._patience = patience
        self._max_letters = max_letters
        self._left = left
        self._loop: asyncio.AbstractEventLoop | None = None

    def inside(self) -> bool:
        """Whether a handler of this bus called, or something that it started while it still runs."""
        delivery = _current.get()
        if delivery is None or not delivery.running:
            return False
        group = delivery.queue.group
        return self.groups.get(group.name) is group

    def bind(self) -> asyncio.AbstractEventLoop:
        """Go on in the running loop with what an earlier one left. CONFIGURATION_ERROR while that one still runs."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return loop
        if self._loop is not None and self._loop.is_running():
            message = "a memory event bus is used from one event loop at a time, and another one is running it; "
            message += "make one bus per loop, or publish with asyncio.run_coroutine_threadsafe in the loop of the bus"
            raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)
        self._loop = loop
        self.idle.clear()
        for group in self.groups.values():
            group.waiters.clear()
            group.places_taken = group.pending
            for queue in group.queues.values():
                for member in queue.members:
                    for delivery in [each for each in member.workers.values() if each is not None]:
                        member.give_back(delivery)  # its loop ended without even cancelling
                    member.workers = {}
        parked, self.parked = self.parked, {}
        for delivery in parked:
            self._again(delivery)
        self.start_idle()
        return loop

    def start_idle(self) -> None:
        for group in self.groups.values():
            for queue in group.queues.values():
                for member in queue.members:
                    if not member.workers and (member.ready or queue.ready):
                        self._start(member)

    def put(self, delivery: Delivery) -> None:
        group = delivery.queue.group
        group.pending += 1
        self.pending += 1
        key = delivery.key
        if key is not None:
            lane = group.lanes.get(key)
            if lane is not None:
                lane.append(delivery)
                return
            group.lanes[key] = deque()
        self.make_ready(delivery)

    def make_ready(self, delivery: Delivery) -> None:
        """Lay the event where a member takes it, and see that one works; its queue has members."""
        queue = delivery.queue
        if delivery.key is None:
            queue.ready.append(delivery)
            member = queue.free_member()
            if member is not None:
                self._start(member)
        else:
            member = queue.owner(delivery.key)
            member.ready.append(delivery)
            if len(member.workers) < member.concurrency:
                self._start(member)

    def _start(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._work(member), context=member.context.copy())
        member.workers[task] = None

    async def _work(self, member: Member) -> None:
        """Handle events of a subscription until there is none left."""
        task = cast("asyncio.Task[None]", asyncio.current_task())  # a coroutine of a task has one
        turns = 0
        try:
            while (delivery := member.take()) is not None:
                member.workers[task] = delivery
                await self._handle(member, delivery, task)
                member.workers[task] = None
                if task.cancelling():  # the handler swallowed it
                    return
                turns += 1
                if turns % _TURNS == 0:
                    await asyncio.sleep(0)
        finally:
            member.workers.pop(task, None)

    async def _handle(self, member: Member, delivery: Delivery, task: asyncio.Task[None]) -> None:
        group = delivery.queue.group
        group.delivered += 1
        if delivery.attempts:
            group.retried += 1
        delivery.attempts += 1
        envelope = delivery.envelope
        set_current_envelope(envelope)
        current_correlation_id.set(envelope.correlation_id)
        _current.set(delivery)
        delivery.running = True
        try:
            if member.model is not None and not isinstance(envelope.payload, member.model):
                envelope = _with_model(envelope, member.model)
            result = member.handler(envelope)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                await result
        except _UnfitError as error:
            self._give_up(delivery, str(error), "ValidationError")
        except Exception as error:  # noqa: BLE001 # this is the boundary: a handler may raise anything
            self._failed(delivery, error)
        except asyncio.CancelledError as error:
            if task.cancelling():
                member.give_back(delivery)
                raise
            self._failed(delivery, error)  # the handler's own: something that it awaited was cancelled
        except BaseException:
            member.give_back(delivery)
            raise
        else:
            group.acknowledged += 1
            self._finish(delivery)
        finally:
            delivery.running = False

    def _failed(self, delivery: Delivery, error: BaseException) -> None:
        if delivery.attempts >= self._patience.max_attempts:
            self._give_up(delivery, str(error) or type(error).__name__, type(error).__name__)
            return
        delay = self._patience.delay_s(delivery.attempts)
        loop = asyncio.get_running_loop()
        self.parked[delivery] = loop.call_later(delay, self._again, delivery)

    def _again(self, delivery: Delivery) -> None:
        self.parked.pop(delivery, None)
        if delivery.queue.members:
            self.make_ready(delivery)
        else:
            self.drop(delivery)

    def _give_up(self, delivery: Delivery, reason: str, error_type: str) -> None:
        delivery.queue.group.dead += 1
        letter = letter_of(delivery, reason, error_type)
        self.letters[letter.letter_id] = (letter, delivery)
        if len(self.letters) > self._max_letters:
            self.letters.popitem(last=False)
            self.forgotten += 1
        _log.warning(
            "event %s %s of group %s is a dead letter after %d attempts: %s",
            letter.envelope.event_type,
            letter.envelope.envelope_id,
            letter.group,
            letter.attempts,
            letter.reason,
        )
        self._finish(delivery)

    def drop(self, delivery: Delivery) -> None:
        delivery.queue.group.dropped += 1
        self._finish(delivery)

    def _finish(self, delivery: Delivery) -> None:
        """Free the event's place, and let the next one of its key come."""
        group = delivery.queue.group
        while True:
            group.pending -= 1
            self.pending -= 1
            group.free_place()
            if delivery.key is None:
                break
            lane = group.lanes[delivery.key]
            if not lane:
                del group.lanes[delivery.key]
                break
            delivery = lane.popleft()
            if delivery.queue.members:
                self.make_ready(delivery)
                break
            group.dropped += 1
        if not group.pending and not group.queues and not group.named:
            self._left(group)
        if not self.pending:
            self.wake_idle()

    def wake_idle(self) -> None:
        for waiter in self.idle:
            if not waiter.done():
                waiter.set_result(None)


class _UnfitError(Exception):
    """The payload is not what the subscription names; a repetition would find the same."""


def _with_model(envelope: ModelEventEnvelope[object], model: type[BaseModel]) -> ModelEventEnvelope[object]:
    try:
        payload = model.model_validate_json(to_json(envelope.payload))
    except ValidationError as error:
        places = ", ".join(sorted({".".join(map(str, each["loc"])) or "payload" for each in error.errors()}))
        message = f"the payload is no {model.__name__}: {error.error_count()} problems, at {places}"
        raise _UnfitError(message) from None
    return envelope.model_copy(update={"payload": payload})


def letter_of(delivery: Delivery, reason: str, error_type: str) -> ModelDeadLetter:
    return ModelDeadLetter(
        envelope=delivery.envelope,
        topic=delivery.topic,
        key=delivery.key,
        group=delivery.queue.group.name,
        subscription=delivery.queue.name,
        attempts=delivery.attempts,
        reason=redact(reason)[:_MAX_REASON],
        error_type=error_type,
        failed_at=datetime.now(UTC),
    )
