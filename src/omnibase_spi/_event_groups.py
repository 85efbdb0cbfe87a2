"""The parts of the memory bus: what is queued, for whom, in which order, and which ids were seen.

A *group* is a name: it has a buffer of so many places, a memory of ids, and a lane per key. A *queue* is what one group
hears about one topic or event type; its *members* are subscriptions. Of a lane only the first event is ready, that is,
lies where a member takes it; the others wait in the lane until the first one is finished. An event without a key is
ready at once, for whichever member is free.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import Context

from pydantic import BaseModel

from omnibase_core.models.events.model_event_bus import ModelEventGroupStatistics
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope

Handler = Callable[[ModelEventEnvelope[object]], object]


class Delivery:
    """One event on its way to one group. `number` grows with every event of the bus."""

    __slots__ = ("attempts", "envelope", "key", "number", "queue", "running", "topic")

    def __init__(
        self, envelope: ModelEventEnvelope[object], topic: str, key: str | None, queue: "Queue", number: int
    ) -> None:
        self.envelope = envelope
        self.topic = topic
        self.key = key
        self.queue = queue
        self.number = number
        self.attempts = 0
        self.running = False


class SeenIds:
    """Ids of the last `seconds`, at most `most` of them."""

    __slots__ = ("_ids", "_most", "_order", "_seconds")

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most if seconds > 0 else 0
        self._ids: set[int] = set()
        self._order: deque[tuple[float, int]] = deque()

    def has(self, identity: int, now: float) -> bool:
        order = self._order
        if order and order[0][0] <= now - self._seconds:
            while order and order[0][0] <= now - self._seconds:
                self._ids.discard(order.popleft()[1])
        return identity in self._ids

    def add(self, identity: int, now: float) -> None:
        """Keep an id that `has` did not know."""
        if self._most:
            self._ids.add(identity)
            self._order.append((now, identity))
            if len(self._order) > self._most:
                self._ids.discard(self._order.popleft()[1])


class Group:
    """A consumer group: places in its buffer, who waits for one, lanes, ids seen, counts."""

    def __init__(self, name: str, capacity: int, seen: SeenIds, *, named: bool) -> None:
        self.name = name
        self.capacity = capacity
        self.seen = seen
        self.named = named
        self.queues: dict[str, Queue] = {}
        self.lanes: dict[str, deque[Delivery]] = {}
        self.places_taken = 0
        self.waiters: deque[asyncio.Future[bool]] = deque()
        self.pending = 0
        self.queued = self.delivered = self.acknowledged = self.retried = 0
        self.dead = self.dropped = self.duplicates = self.redelivered = 0

    def free_place(self) -> None:
        """Give the place to whoever has waited longest, else free it."""
        waiters = self.waiters
        while waiters and self.places_taken <= self.capacity:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)
                return
        self.places_taken -= 1

    def wake_all(self, error: Callable[[], BaseException] | None = None) -> None:
        """Have all that wait for a place look again, or fail."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                if error is None:
                    waiter.set_result(False)
                else:
                    waiter.set_exception(error())

    def numbers(self) -> ModelEventGroupStatistics:
        return ModelEventGroupStatistics(
            queued=self.queued,
            delivered=self.delivered,
            acknowledged=self.acknowledged,
            retried=self.retried,
            dead=self.dead,
            dropped=self.dropped,
            duplicates=self.duplicates,
            redelivered=self.redelivered,
            lag=self.pending,
            members=sum(len(queue.members) for queue in self.queues.values()),
        )


class Queue:
    """What a group hears about one name. `owners` are the keys lately seen, and who has them."""

    def __init__(self, group: Group, name: str, most_keys: int) -> None:
        self.group = group
        self.name = name
        self.members: list[Member] = []
        self.ready: deque[Delivery] = deque()
        self.owners: OrderedDict[str, Member] = OrderedDict()
        self._most_keys = most_keys

    def owner(self, key: str) -> "Member":
        """The member that has the key as long as it lives, else the one with the fewest keys. There must be one."""
        member = self.owners.get(key)
        if member is not None:
            if member.live:
                self.owners.move_to_end(key)
                return member
            del self.owners[key]
        member = min(self.members, key=_fewest_keys)
        member.keys += 1
        self.owners[key] = member
        if len(self.owners) > self._most_keys:
            _key, forgotten = self.owners.popitem(last=False)
            forgotten.keys -= 1
        return member

    def free_member(self) -> "Member | None":
        for member in self.members:
            if len(member.workers) < member.concurrency:
                return member
        return None


class Member:
    """One subscription: its handler, the keyed events that are its turn, and the tasks that work for it."""

    def __init__(
        self, queue: Queue, handler: Handler, model: type[BaseModel] | None, concurrency: int, context: Context
    ) -> None:
        self.queue = queue
        self.handler = handler
        self.model = model
        self.concurrency = concurrency
        self.context = context
        self.ready: deque[Delivery] = deque()
        self.workers: dict[asyncio.Task[None], Delivery | None] = {}
        self.keys = 0
        self.live = True

    def take(self) -> Delivery | None:
        """The oldest event that this member may handle now."""
        if not self.live:
            return None
        own, shared = self.ready, self.queue.ready
        if own and (not shared or own[0].number < shared[0].number):
            return own.popleft()
        return shared.popleft() if shared else None

    def give_back(self, delivery: Delivery) -> None:
        """Put an event that was not handled first again; its attempt does not count. Does nothing a second time."""
        if not delivery.running:
            return
        delivery.running = False
        delivery.attempts -= 1
        if delivery.key is not None and self.live:
            self.ready.appendleft(delivery)
        else:
            self.queue.ready.appendleft(delivery)


def _fewest_keys(member: Member) -> int:
    return member.keys
