"""Kafka: one message per operation, awaited until the broker has answered for it.

What a timeout means. `timeout_ms` belongs to one message, librdkafka's delivery timeout to a whole producer, and a
single message cannot be called back. The executor cancels a call at `timeout_ms`; the message may then still be queued
or on its way, so the outcome is ambiguous, which is what a cancelled attempt counts as. To keep such a message from
being delivered much later, producers are kept apart by a ladder of delivery timeouts (1, 5, 30, 120, 300 s): a call
uses the lowest one that is not below its `timeout_ms`. A report that a message timed out is ambiguous too, because the
client does not tell whether it had been written to a socket.

What is provably not sent. Before the first message of a producer, and again after all its brokers were lost, the
adapter waits until the cluster answers; a cluster that cannot be reached is ECONNREFUSED, or ETIMEDOUT, with the phase
`not_sent`, and so are a full local queue and messages that were still queued when the adapter was closed.

What the client repeats. With `acks: all` the producer is idempotent: the client repeats a lost request and the broker
drops the double. With `acks` 0 and 1 the client's own retries are off, because they could deliver twice unseen.
"""

import asyncio
import atexit
import os
import threading
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedKafkaContext
from omnibase_spi._errors import KAFKA_CODES, FaultRow
from omnibase_spi._kafka_config import producer_settings, refused_settings
from omnibase_spi._kafka_link import LinkClosedError, ProducerLink, Refusal, Report, producer_config, row_of

if TYPE_CHECKING:
    from confluent_kafka import Producer

_DELIVERY_LADDER_MS = (1_000, 5_000, 30_000, 120_000, 300_000)
_REACH_SECONDS = 5.0  # at most, to find out whether the cluster answers; and never more than a part of `timeout_ms`
_REACH_SHARE = 0.8  # ends before the executor's limit, so that "not sent" is said while it is still provable
_FLUSH_SECONDS = 5.0

_ADVICE = {
    "ECONNREFUSED": "check the connection's url and that the brokers run",
    "ETIMEDOUT": "the message may or may not have been stored",
    "ECONNRESET": "the message may or may not have been stored",
    "AUTHENTICATION": "check security.protocol, sasl.* and ssl.* in the connection's options",
    "AUTHORIZATION": "ask for the right to write to this topic",
    "UNKNOWN_TOPIC": "create the topic, or correct its name in the contract",
    "MESSAGE_TOO_LARGE": "send less, or raise message.max.bytes in the connection's options and on the broker",
    "QUEUE_FULL": "send fewer messages at once, or raise queue.buffering.max.messages in the connection's options",
    "PRODUCER_FATAL": "the producer is replaced at the next call",
}

_Key = tuple[str, str, str, int]
_Headers = list[tuple[str, str | bytes | None]]


class KafkaAdapter:
    """Handler of `kafka`. Connections are named in `settings.connections`, with urls `kafka://host:port,host2:port`.

    A connection's options are librdkafka's; one that it refuses is CONFIGURATION_ERROR naming it. Options that the
    contract or this adapter decides (acks, idempotence, compression, delivery timeout, retries) are refused likewise.
    Defaults of the adapter that options may change: `linger.ms` 0, `reconnect.backoff.max.ms` 1000,
    `topic.metadata.propagation.max.ms` 5000 (after that long an unknown topic is reported).

    Calls that run at once are sent in the order in which they began, except while the client's local queue is full.

    One adapter serves any number of event loops. Left open, it ends its threads when it is garbage collected and at
    exit, without waiting for messages that nobody awaits any more.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        self._connections = (settings or ModelSettings()).connections
        self._pool = _Pool()
        self._links = self._pool.links
        weakref.finalize(self, self._pool.stop).atexit = False
        _adapters.add(self)

    async def execute(self, resolved_context: ModelResolvedKafkaContext, correlation_id: UUID) -> dict[str, JsonValue]:
        """Send one message and wait for its delivery report.

        Returns `topic`, `partition`, `offset` (null with acks 0) and `timestamp` (ISO-8601 UTC in milliseconds: when
        the message was made, or when the broker stored it if the topic says so; null when the broker keeps none).
        Raises EffectFault as `_errors.KAFKA_CODES` has it, ModelOnexError CONFIGURATION_ERROR for a connection that
        cannot be used, VALIDATION_ERROR for text that is not Unicode.
        """
        context = resolved_context
        timeout_ms = context.timeout_ms
        for limit_ms in _DELIVERY_LADDER_MS:  # the last rung stands for everything above it
            if timeout_ms <= limit_ms:
                break
        link = self._links.get((context.connection_name, context.acks, context.compression, limit_ms))
        if link is None or link.asleep or link.waiting or not link.ready:
            key = (context.connection_name, context.acks, context.compression, limit_ms)
            link = await self._ready_link(key, context.topic, timeout_ms, correlation_id)
        try:
            value = context.payload.encode()
            partition_key = context.partition_key
            record_key = None if partition_key is None else partition_key.encode()
            headers: _Headers = [(name, text.encode()) for name, text in context.headers.items()]
        except UnicodeEncodeError:
            text = f"{_doing(context)}: key, headers and payload must be Unicode text, found a lone surrogate"
            raise ModelOnexError(text, EnumCoreErrorCode.VALIDATION_ERROR, None, correlation_id) from None
        report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        try:
            link.send(report, context.topic, value, record_key, headers)
        except BufferError:
            await self._send_when_there_is_room(link, report, context, (value, record_key, headers), correlation_id)
        except Exception as error:  # noqa: BLE001 # translated, or raised again
            raise self._local_fault(error, context, correlation_id) from None
        failure, message = await report
        if failure is not None:
            raise _fault(row_of(failure), f"{_doing(context)}: {failure.name()}: {failure.str()}", correlation_id)
        if message is None:
            raise _fault(KAFKA_CODES["_PURGE_INFLIGHT"], f"{_doing(context)}: the adapter was closed", correlation_id)
        offset = message.offset()
        kind, stamp = message.timestamp()
        return {
            "topic": context.topic,
            "partition": message.partition(),
            "offset": offset if offset is not None and offset >= 0 else None,
            "timestamp": _iso(stamp) if kind else None,
        }

    async def ping(self, connection_name: str) -> None:
        """Ask the cluster of `connection_name` for its metadata; raises as `execute` does when it is silent for 5 s."""
        link = self._link((connection_name, "all", "none", 30_000), None)
        refusal = await link.reach(None, _REACH_SECONDS)
        if refusal is not None:
            raise self._refused(refusal, connection_name, None)

    async def aclose(self) -> None:
        """Wait at most 5 s for messages that are under way, then give up the rest and close all connections."""
        links = self._pool.take()
        for link in links:
            link.stop(_FLUSH_SECONDS)
        for link in links:
            await link.ended()

    async def _ready_link(self, key: _Key, topic: str, timeout_ms: int, correlation_id: UUID) -> ProducerLink:
        link = self._link(key, correlation_id)
        link.listen()
        if link.waiting or not link.ready:
            refusal = await link.reach(topic, min(_REACH_SECONDS, timeout_ms / 1000 * _REACH_SHARE))
            if refusal is not None:
                if link.lost:
                    self._pool.drop(key, link)
                raise self._refused(refusal, key[0], correlation_id)
        return link

    def _link(self, key: _Key, correlation_id: UUID | None) -> ProducerLink:
        pool = self._pool
        with pool.lock:
            link = pool.links.get(key)
            if link is None or link.lost:
                if link is not None:
                    link.stop()
                link = pool.links[key] = self._open(key, correlation_id)
                _pools.add(pool)
        return link

    def _open(self, key: _Key, correlation_id: UUID | None) -> ProducerLink:
        connection_name, acks, compression, limit_ms = key
        connection = self._connection(connection_name, correlation_id)
        settings = producer_settings(connection_name, connection, acks, compression, limit_ms)
        return ProducerLink(connection_name, lambda link: _make(link, connection, settings))

    def check_connection(self, connection_name: str) -> None:
        """Raise like `execute` for a name that is unknown or set up wrongly; nothing is connected."""
        connection = self._connection(connection_name, None)
        producer_settings(connection_name, connection, "all", "none", _DELIVERY_LADDER_MS[0])

    def _connection(self, connection_name: str, correlation_id: UUID | None) -> ModelConnection:
        connection = self._connections.get(connection_name)
        if connection is None:
            known = ", ".join(map(repr, sorted(self._connections))) or "none"
            text = (
                f"produce over connection {connection_name!r}: no such connection in the settings, known are {known}. "
                f"Add [connections.{connection_name}] with a kafka:// url, or set "
                f"ONEX_CONNECTIONS__{connection_name.upper()}__URL"
            )
            raise EffectFault(
                text,
                EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
                {"connection_name": connection_name},
                correlation_id,
                phase=EnumFaultPhase.NOT_SENT,
            )
        return connection

    async def _send_when_there_is_room(
        self,
        link: ProducerLink,
        report: "asyncio.Future[Report]",
        context: ModelResolvedKafkaContext,
        parts: tuple[bytes, bytes | None, _Headers],
        correlation_id: UUID,
    ) -> None:
        deadline = time.monotonic() + context.timeout_ms / 1000 * _REACH_SHARE
        while True:
            try:
                await asyncio.wait_for(link.room(), deadline - time.monotonic())
                link.send(report, context.topic, *parts)
            except BufferError:
                continue
            except TimeoutError:
                text = f"{_doing(context)}: the producer's local queue stayed full"
                raise _fault(KAFKA_CODES["_QUEUE_FULL"], text, correlation_id) from None
            except Exception as error:  # noqa: BLE001 # translated, or raised again
                raise self._local_fault(error, context, correlation_id) from None
            return

    def _local_fault(self, error: Exception, context: ModelResolvedKafkaContext, correlation_id: UUID) -> Exception:
        """What it means that the client refused a message: whatever the reason, nothing was sent."""
        if isinstance(error, LinkClosedError):
            return _fault(KAFKA_CODES["_PURGE_QUEUE"], f"{_doing(context)}: the adapter was closed", correlation_id)
        from confluent_kafka import KafkaException

        if not isinstance(error, KafkaException):
            return error
        cause = error.args[0]
        row = row_of(cause)
        if row.phase is EnumFaultPhase.AMBIGUOUS:
            row = FaultRow(row.error_kind, EnumFaultPhase.NOT_SENT, transient=True)
        return _fault(row, f"{_doing(context)}: {cause.name()}: {cause.str()}", correlation_id)

    def _refused(self, refusal: Refusal, connection_name: str, correlation_id: UUID | None) -> ModelOnexError:
        text = f"produce over connection {connection_name!r}: {refusal.text}"
        if refusal.row.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR:
            return ModelOnexError(text, refusal.row.error_code, {"connection_name": connection_name}, correlation_id)
        return _fault(refusal.row, text, correlation_id, sent=False)


class _Pool:
    """The links of one adapter; outlives it for the moment in which they are stopped."""

    __slots__ = ("__weakref__", "links", "lock", "pid")

    def __init__(self) -> None:
        self.links: dict[_Key, ProducerLink] = {}
        self.lock = threading.Lock()
        self.pid = os.getpid()

    def take(self) -> list[ProducerLink]:
        with self.lock:
            links = list(self.links.values())
            self.links.clear()
        return links

    def drop(self, key: _Key, link: ProducerLink) -> None:
        with self.lock:
            if self.links.get(key) is link:
                del self.links[key]

    def stop(self) -> None:
        """Tell all threads to end. No lock: the garbage collector may call this anywhere."""
        if os.getpid() == self.pid:
            for link in list(self.links.values()):
                link.stop()


_pools: "weakref.WeakSet[_Pool]" = weakref.WeakSet()
_adapters: "weakref.WeakSet[KafkaAdapter]" = weakref.WeakSet()
_of_parent: list[_Pool] = []


@atexit.register
def _stop_all() -> None:
    links = [link for pool in _pools for link in pool.links.values() if pool.pid == os.getpid()]
    for link in links:
        link.stop()
    limit = time.monotonic() + 2
    for link in links:
        link.thread.join(max(0.0, limit - time.monotonic()))


def _after_fork() -> None:
    """A forked child has none of the threads, and destroying a producer would wait for them: keep it, start afresh."""
    for adapter in list(_adapters):
        _of_parent.append(adapter._pool)  # noqa: SLF001 # of this module
        adapter._pool = _Pool()  # noqa: SLF001
        adapter._links = adapter._pool.links  # noqa: SLF001
        weakref.finalize(adapter, adapter._pool.stop).atexit = False  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _make(link: ProducerLink, connection: ModelConnection, settings: dict[str, str]) -> "Producer | Refusal":
    configuration = FaultRow("CONFIGURATION", EnumFaultPhase.NOT_SENT, error_code=EnumCoreErrorCode.CONFIGURATION_ERROR)
    try:
        from confluent_kafka import KafkaException, Producer
    except ImportError:
        return Refusal(
            configuration, "confluent-kafka is not installed; install it with: pip install 'omnibase[kafka]'"
        )
    try:
        return Producer(producer_config(link, settings))
    except (KafkaException, TypeError, ValueError) as error:
        cause = error.args[0]
        said = cause.str() if isinstance(error, KafkaException) else str(cause)
        return Refusal(configuration, refused_settings(connection, said))


def _doing(context: ModelResolvedKafkaContext) -> str:
    return f"produce to topic {context.topic!r} over connection {context.connection_name!r}"


def _fault(row: FaultRow, text: str, correlation_id: UUID | None, *, sent: bool = True) -> EffectFault:
    phase = row.phase if sent else EnumFaultPhase.NOT_SENT
    advice = _ADVICE.get(row.error_kind) if phase is row.phase else None
    return EffectFault(
        f"{text}; {advice}" if advice else text,
        row.error_code,
        {"error_kind": row.error_kind},
        correlation_id,
        error_kind=row.error_kind,
        phase=phase,
        transient=row.transient,
    )


def _iso(stamp_ms: int) -> str | None:
    try:
        return datetime.fromtimestamp(stamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (
        ValueError,
        OverflowError,
        OSError,
    ):  # a date beyond the calendar must not turn a stored message into a failure
        return None
