"""One Kafka producer, the thread that serves it, and the bridge from its delivery reports to futures.

librdkafka reports deliveries only to a thread that polls. Polling on the event loop's thread would make every message
wait for the next round, so each producer has a thread of its own. It makes the producer (loading certificates may
block), finds out whether the cluster can be reached, blocks in `poll` while messages are under way and for a moment
afterwards, and then sleeps until somebody sends again. All reports of one poll round wake a loop once.

Who may touch what: the thread alone calls `poll`, except that the loop's thread may while the thread sleeps (`listen`).
Sets and deques are shared without a lock because each step on them is one atomic operation. A sleeping thread is never
missed: the sender first adds to `pending` and then looks at `asleep`, the thread first sets `asleep` and then looks at
`pending`.
"""

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_spi._errors import KAFKA_CODES, FaultRow

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_POLL_SECONDS = 0.1
_NAP_SECONDS = 30.0  # a sleeping thread looks for log lines and errors this often, so that they do not pile up
_FIRST_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 0.3  # a name may have a second address (::1, then 127.0.0.1), which is tried after about 0.1 s
_UNKNOWN_CODE = FaultRow("KAFKA_CLIENT", EnumFaultPhase.AMBIGUOUS)

_log = logging.getLogger("onex.kafka")
_log.addHandler(logging.NullHandler())

_T = TypeVar("_T")
Report = tuple["KafkaError | None", "Message | None"]
_Settled = tuple["asyncio.Future[Report]", "KafkaError | None", "Message | None"]


class Refusal(NamedTuple):
    """Why nothing can be sent: the fault's row and a sentence about what was found."""

    row: FaultRow
    text: str


class LinkClosedError(Exception):
    """The link was stopped by another thread in the moment of sending; nothing was sent."""


def row_of(error: "KafkaError") -> FaultRow:
    """The row of the error's code; the careful one (ambiguous) for a code that is newer than the table."""
    if error.fatal():
        return KAFKA_CODES["_FATAL"]
    return KAFKA_CODES.get(error.name(), _UNKNOWN_CODE)


class ProducerLink:
    """A producer with its thread. Made by any thread; ends by `stop`, or by itself when the producer cannot be made.

    ready: the cluster answered and has not been lost since; only then may `send` be called.
    waiting: calls that wait for `reach`; later calls queue behind them, so that nobody is overtaken.
    asleep: the thread sleeps; news from librdkafka wait for `listen`.
    """

    __slots__ = (
        "__weakref__",
        "_checks",
        "_closers",
        "_done",
        "_down",
        "_ended",
        "_flush_seconds",
        "_last_words",
        "_on_delivery",
        "_producer",
        "_refusal",
        "_room",
        "_stopping",
        "_wake",
        "asleep",
        "pending",
        "ready",
        "thread",
        "waiting",
    )

    def __init__(self, name: str, make: Callable[["ProducerLink"], "Producer | Refusal"]) -> None:
        self.ready = False
        self.asleep = False
        self.pending: set[asyncio.Future[Report]] = set()
        self.waiting: set[asyncio.Future[Refusal | None]] = set()
        self._producer: Producer | None = None
        self._done: deque[_Settled] = deque()
        self._checks: deque[tuple[asyncio.Future[Refusal | None], str | None, float]] = deque()
        self._room: deque[asyncio.Future[Report]] = deque()
        self._closers: deque[asyncio.Future[None]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._ended = False
        self._flush_seconds = 0.0
        self._refusal: Refusal | None = None
        self._down: KafkaError | None = None
        self._last_words = ""
        self._on_delivery = self._delivered
        self.thread = threading.Thread(target=self._run, args=(make,), name=f"omnibase-kafka-{name}", daemon=True)
        self.thread.start()

    # For the loop's thread.

    def send(
        self,
        future: "asyncio.Future[Report]",
        topic: str,
        value: bytes,
        key: bytes | None,
        headers: "list[tuple[str, str | bytes | None]]",
    ) -> None:
        """Hand one message over; `future` gets the delivery report.

        Raises BufferError (the local queue is full), KafkaException or LinkClosedError; nothing was sent then.
        """
        self.pending.add(future)
        try:
            producer = self._producer
            if producer is None:
                raise LinkClosedError
            producer.produce(topic, value, key, headers=headers, on_delivery=partial(self._on_delivery, future))
        except BaseException:
            self.pending.discard(future)
            raise
        if self.asleep:
            self._wake.set()

    def listen(self) -> None:
        """Hear what happened while the thread slept; `ready` may change."""
        producer = self._producer
        if producer is not None:
            producer.poll(0)

    async def reach(self, topic: str | None, seconds: float) -> Refusal | None:
        """Find out within `seconds` whether the cluster answers; None when it does. Waiters go on in order."""
        future: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self._checks.append((future, topic, time.monotonic() + seconds))
        self._wake.set()
        if self._ended:
            self._answer(self._refusal or _closed(), everyone=True)
        self.waiting.add(future)
        try:
            return await future
        finally:
            self.waiting.discard(future)

    def room(self) -> "asyncio.Future[Report]":
        """A future that is done when something was delivered, so that the queue may have room again."""
        future: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._room.append(future)
        self._wake.set()
        return future

    def stop(self, flush_seconds: float = 0.0) -> None:
        """Tell the thread to end after at most `flush_seconds` for what is under way. Waits for nothing."""
        self.ready = False
        self._flush_seconds = flush_seconds
        self._stopping = True
        self._wake.set()

    def ended(self) -> "asyncio.Future[None]":
        """A future that is done when the thread has let go of the producer."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closers.append(future)
        if self._ended:
            self._release_closers()
        return future

    def heard(self, error: "KafkaError") -> None:
        """Note what librdkafka says about the cluster; its error callback."""
        name = error.name()
        if name in {"_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_SSL"} or error.fatal():
            self.ready = False
            if self._down is None or name != "_ALL_BROKERS_DOWN":  # which also follows on a refused login
                self._down = error
            if error.fatal():
                self._refusal = Refusal(KAFKA_CODES["_FATAL"], error.str())
        if name != "_ALL_BROKERS_DOWN":
            self._last_words = error.str()

    @property
    def lost(self) -> bool:
        """The producer is of no further use: it could not be made, met a fatal error, or was stopped."""
        return self._refusal is not None or self._stopping or self._ended

    # The thread.

    def _run(self, make: Callable[["ProducerLink"], "Producer | Refusal"]) -> None:
        made = make(self)
        if isinstance(made, Refusal):
            self._refusal = made
        else:
            self._producer = made
            try:
                self._serve(made)
            finally:
                self._finish(made)
                del made
                self._producer = None  # the last reference: librdkafka closes its sockets here
        self._ended = True
        while self.pending:
            future = self.pending.pop()
            lost: list[_Settled] = [(future, None, None)]
            _post(future.get_loop(), _settle, lost)
        self._answer(self._refusal or _closed(), everyone=True)
        self._release_closers()

    def _serve(self, producer: "Producer") -> None:
        lively = False  # something was delivered a moment ago, so that more is likely to be sent
        while not self._stopping:
            if self._checks:
                self._check(producer)
            if not (lively or self.pending):
                self._sleep(producer)
                continue
            producer.poll(_POLL_SECONDS)
            lively = bool(self._done)
            if lively:
                self._hand_over()

    def _busy(self) -> bool:
        return bool(self.pending or self._checks or self._stopping)

    def _sleep(self, producer: "Producer") -> None:
        self.asleep = True
        while not (self._busy() or self._wake.wait(_NAP_SECONDS)):
            producer.poll(0)
        self.asleep = False
        self._wake.clear()

    def _check(self, producer: "Producer") -> None:
        from confluent_kafka import KafkaException

        began = time.monotonic()
        look = _FIRST_LOOK_SECONDS
        while self._checks and not self._stopping:
            _future, topic, deadline = self._checks[0]
            try:
                producer.list_topics(topic, min(look, max(deadline - time.monotonic(), 0.001)))
            except KafkaException:
                pass
            else:
                self._down = None
                self.ready = self._refusal is None
                self._answer(self._refusal, everyone=True)
                return
            producer.poll(0)
            if self._done:
                self._hand_over()
            down = self._down
            if down is not None and time.monotonic() - began >= _GRACE_SECONDS:
                self._answer(Refusal(row_of(down), self._last_words or down.str()), everyone=True)
                return
            late = FaultRow("ETIMEDOUT", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.TIMEOUT)
            self._answer(Refusal(late, self._last_words or "no broker answered in time"), everyone=False)
            look *= 2

    def _answer(self, verdict: Refusal | None, *, everyone: bool) -> None:
        now = time.monotonic()
        for _ in range(len(self._checks)):
            try:
                check = self._checks.popleft()
            except IndexError:  # another thread took it
                return
            future, _topic, deadline = check
            if everyone or deadline <= now or future.done():
                _post(future.get_loop(), partial(_settle_one, future), verdict)
            else:
                self._checks.append(check)

    def _delivered(self, future: "asyncio.Future[Report]", error: "KafkaError | None", message: "Message") -> None:
        self.pending.discard(future)
        self._done.append((future, error, message))

    def _hand_over(self) -> None:
        done = self._done
        batch: list[_Settled] = []
        while done:
            batch.append(done.popleft())
        while self._room:
            batch.append((self._room.popleft(), None, None))
        loop = batch[0][0].get_loop()
        if len(batch) == 1 or all(item[0].get_loop() is loop for item in batch):
            _post(loop, _settle, batch)
            return
        for loop in {item[0].get_loop() for item in batch}:
            _post(loop, _settle, [item for item in batch if item[0].get_loop() is loop])

    def _finish(self, producer: "Producer") -> None:
        self.ready = False
        self._stopping = True
        limit = time.monotonic() + self._flush_seconds
        if self.pending and self._flush_seconds:
            producer.flush(self._flush_seconds)
        # What is left is given up; the reports of the purge say for each message whether it had been sent.
        producer.purge()
        limit = max(limit, time.monotonic() + 0.2)
        while self.pending and time.monotonic() < limit:
            producer.poll(0.02)
        if self._done or self._room:
            self._hand_over()

    def _release_closers(self) -> None:
        while self._closers:
            with contextlib.suppress(IndexError):
                future = self._closers.popleft()
                _post(future.get_loop(), partial(_settle_one, future), None)


def producer_config(link: ProducerLink, settings: Mapping[str, str]) -> dict[str, object]:
    """The settings, with errors and log lines led to the link. The producer must not keep the link alive."""
    me = weakref.ref(link)

    def on_error(error: "KafkaError") -> None:
        alive = me()
        if alive is not None:
            alive.heard(error)

    return {**settings, "error_cb": on_error, "logger": _log}


def _closed() -> Refusal:
    return Refusal(KAFKA_CODES["_PURGE_QUEUE"], "the adapter was closed")


def _post(loop: asyncio.AbstractEventLoop, call: Callable[[_T], None], what: _T) -> None:
    try:  # noqa: SIM105 # on the hot path, where suppress costs more than the call
        loop.call_soon_threadsafe(call, what)
    except RuntimeError:
        pass  # the loop was closed, and with it everyone who waited


def _settle(batch: list[_Settled]) -> None:
    for future, error, message in batch:
        if not future.done():
            future.set_result((error, message))


def _settle_one(future: "asyncio.Future[_T]", value: _T) -> None:
    if not future.done():
        future.set_result(value)
