"""The Kafka adapter against a mock cluster and a real one."""

import asyncio
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError
from pydantic import SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedKafkaContext
from omnibase_core.models.primitives.strict_types import Scalar
from omnibase_core.protocols.protocol_effect_handler import ProtocolEffectHandler
from omnibase_spi.kafka import KafkaAdapter
from tests.support.kafka import KafkaCluster, mock_cluster
from tests.support.real_kafka import SASL_PASSWORD, SASL_USER
from tests.support.tcp_proxy import TcpProxy

Acks = Literal["0", "1", "all"]


def adapter_for(url: str, **options: Scalar) -> KafkaAdapter:
    named = {name.replace("_", "."): value for name, value in options.items()}
    return KafkaAdapter(ModelSettings(connections={"default": ModelConnection(url=SecretStr(url), options=named)}))


def message(topic: str, payload: str = "x", *, acks: Acks = "1", timeout_ms: int = 5_000) -> ModelResolvedKafkaContext:
    return ModelResolvedKafkaContext(topic=topic, payload=payload, acks=acks, timeout_ms=timeout_ms)


def kafka_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("omnibase-kafka")]


async def eventually(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)


@pytest.fixture
async def adapter(kafka_clusters: KafkaCluster) -> AsyncIterator[KafkaAdapter]:
    adapter = adapter_for(kafka_clusters.url)
    yield adapter
    await adapter.aclose()


@contextlib.asynccontextmanager
async def proxied(cluster: KafkaCluster) -> AsyncIterator[TcpProxy]:
    """A proxy before a cluster of one broker, which announces the proxy's port instead of its own."""
    host, _, port = cluster.bootstrap.partition(":")
    async with TcpProxy(host, int(port)) as proxy:
        name = host.encode()
        proxy.rewrite[name + int(port).to_bytes(4)] = name + proxy.port.to_bytes(4)
        yield proxy


def test_the_module_does_not_import_the_client() -> None:
    """Importing the adapter loads no client library."""
    code = "import sys, omnibase_spi.kafka; sys.exit('confluent_kafka' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_an_effect_handler() -> None:
    """The adapter fits the seam of the executor."""
    assert isinstance(KafkaAdapter(), ProtocolEffectHandler)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_what_was_sent_can_be_read(
    adapter: KafkaAdapter, kafka_clusters: KafkaCluster, compression: Literal["none", "gzip", "snappy", "lz4", "zstd"]
) -> None:
    """Key, headers and payload arrive as UTF-8, and the document says where."""
    topic = kafka_clusters.topic()
    context = ModelResolvedKafkaContext(
        topic=topic,
        partition_key="schlüssel",
        headers={"trace": "a1", "näme": "wért"},
        payload='{"text": "Größe \u0000 ✓"}',
        compression=compression,
        timeout_ms=5_000,
    )

    document = await adapter.execute(resolved_context=context, correlation_id=uuid4())
    (read,) = await asyncio.to_thread(kafka_clusters.read, topic, 1)

    assert (read.key(), read.value()) == ("schlüssel".encode(), '{"text": "Größe \u0000 ✓"}'.encode())
    assert read.headers() == [("trace", b"a1"), ("näme", "wért".encode())]
    assert set(document) == {"topic", "partition", "offset", "timestamp"}
    assert (document["topic"], document["partition"], document["offset"]) == (topic, read.partition(), read.offset())


async def test_the_timestamp_is_that_of_the_stored_message(adapter: KafkaAdapter, kafka_clusters: KafkaCluster) -> None:
    """The timestamp is ISO-8601 in UTC and equals the one that a consumer reads."""
    topic = kafka_clusters.topic()

    document = await adapter.execute(message(topic), uuid4())
    (read,) = await asyncio.to_thread(kafka_clusters.read, topic, 1)

    stamp = datetime.fromisoformat(str(document["timestamp"]))
    assert stamp.utcoffset() == timedelta(0)
    if kafka_clusters.is_real:  # the mock answers with a fixed log-append time, and stores the producer's
        assert stamp == datetime.fromtimestamp(read.timestamp()[1] / 1000, UTC)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
async def test_each_kind_of_acknowledgement_works(
    adapter: KafkaAdapter, kafka_clusters: KafkaCluster, acks: Acks
) -> None:
    """Without an acknowledgement there is no offset; with one there is."""
    topic = kafka_clusters.topic()

    document = await adapter.execute(message(topic, acks=acks), uuid4())
    (read,) = await asyncio.to_thread(kafka_clusters.read, topic, 1)

    assert document["offset"] == (None if acks == "0" else read.offset())


async def test_no_key_and_an_empty_key_are_two_things(adapter: KafkaAdapter, kafka_clusters: KafkaCluster) -> None:
    """A message without a key has none; the empty text is a key."""
    topic = kafka_clusters.topic()

    for key in (None, ""):
        context = ModelResolvedKafkaContext(topic=topic, partition_key=key, timeout_ms=5_000)
        await adapter.execute(context, uuid4())
    read = await asyncio.to_thread(kafka_clusters.read, topic, 2)

    assert {each.key() for each in read} == {None, b""}


async def test_many_messages_at_once_keep_the_order_of_a_key(
    adapter: KafkaAdapter, kafka_clusters: KafkaCluster
) -> None:
    """Messages of one key, sent together, are stored in the order of the calls, each once."""
    topic = kafka_clusters.topic()

    def numbered(number: int) -> ModelResolvedKafkaContext:
        return ModelResolvedKafkaContext(topic=topic, partition_key="k", payload=str(number), timeout_ms=5_000)

    documents = await asyncio.gather(*(adapter.execute(numbered(number), uuid4()) for number in range(300)))
    read = await asyncio.to_thread(kafka_clusters.read, topic, 300)

    assert [int(each.value() or b"") for each in read] == list(range(300))
    assert [document["offset"] for document in documents] == list(range(300))


async def test_an_awaited_message_takes_a_round_trip_and_not_a_polling_interval(
    adapter: KafkaAdapter, kafka_clusters: KafkaCluster
) -> None:
    """Messages awaited one after another do not wait for a timer of any kind."""
    topic = kafka_clusters.topic()
    await adapter.execute(message(topic), uuid4())

    taken = []
    for _ in range(50):
        began = time.perf_counter()
        await adapter.execute(message(topic), uuid4())
        taken.append(time.perf_counter() - began)

    assert statistics.median(taken) < 0.05


async def test_a_topic_that_does_not_exist_is_rejected_for_good(real_kafka_cluster: KafkaCluster) -> None:
    """An unknown topic is REJECTED and NOT_FOUND, not a timeout."""
    adapter = adapter_for(real_kafka_cluster.url, topic_metadata_propagation_max_ms=300)

    with pytest.raises(EffectFault, match="no-such-topic") as caught:
        await adapter.execute(message("no-such-topic"), uuid4())
    await adapter.aclose()

    fault = caught.value
    assert (fault.error_kind, fault.phase, fault.transient) == ("UNKNOWN_TOPIC", EnumFaultPhase.REJECTED, False)
    assert fault.error_code is EnumCoreErrorCode.NOT_FOUND


async def test_a_message_above_the_clients_limit_is_rejected(
    adapter: KafkaAdapter, kafka_clusters: KafkaCluster
) -> None:
    """A message that is larger than message.max.bytes is REJECTED, and what to do is said."""
    topic = kafka_clusters.topic()

    with pytest.raises(EffectFault, match=r"message\.max\.bytes") as caught:
        await adapter.execute(message(topic, "x" * 1_100_000), uuid4())

    assert (caught.value.error_kind, caught.value.phase) == ("MESSAGE_TOO_LARGE", EnumFaultPhase.REJECTED)


async def test_a_message_above_the_topics_limit_is_rejected(real_kafka_cluster: KafkaCluster) -> None:
    """The broker's refusal of a large message is REJECTED too, and the next message passes."""
    topic = real_kafka_cluster.topic(max_message_bytes="2000")
    adapter = adapter_for(real_kafka_cluster.url)

    with pytest.raises(EffectFault) as caught:
        await adapter.execute(message(topic, "x" * 5_000), uuid4())
    await adapter.execute(message(topic), uuid4())
    await adapter.aclose()

    assert (caught.value.error_kind, caught.value.phase) == ("MESSAGE_TOO_LARGE", EnumFaultPhase.REJECTED)


def _sasl_options(password: str) -> dict[str, Scalar]:
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": SASL_USER,
        "sasl_password": password,
    }


async def test_a_topic_that_one_may_not_write_to_is_rejected(real_kafka_cluster: KafkaCluster) -> None:
    """A missing right is REJECTED and a SECURITY_VIOLATION."""
    if real_kafka_cluster.sasl is None:
        pytest.skip("the given cluster has no listener with passwords that we know of")
    topic = real_kafka_cluster.topic()
    adapter = adapter_for(f"kafka://{real_kafka_cluster.sasl}", **_sasl_options(SASL_PASSWORD))

    with pytest.raises(EffectFault) as caught:
        await adapter.execute(message(topic), uuid4())
    await adapter.aclose()

    assert (caught.value.error_kind, caught.value.phase) == ("AUTHORIZATION", EnumFaultPhase.REJECTED)
    assert caught.value.error_code is EnumCoreErrorCode.SECURITY_VIOLATION


async def test_an_idempotent_producer_that_may_not_write_fails_and_is_replaced(
    real_kafka_cluster: KafkaCluster,
) -> None:
    """A producer that the cluster turned away for good is made anew at the next call."""
    if real_kafka_cluster.sasl is None:
        pytest.skip("the given cluster has no listener with passwords that we know of")
    topic = real_kafka_cluster.topic()
    adapter = adapter_for(f"kafka://{real_kafka_cluster.sasl}", **_sasl_options(SASL_PASSWORD))

    kinds = []
    for _ in range(2):
        with pytest.raises(EffectFault) as caught:
            await adapter.execute(message(topic, acks="all"), uuid4())
        kinds.append(caught.value.error_kind)
    await adapter.aclose()

    assert set(kinds) <= {"AUTHORIZATION", "PRODUCER_FATAL"}
    assert await asyncio.to_thread(real_kafka_cluster.count, topic) == 0


async def test_a_wrong_password_is_not_sent_and_not_shown(real_kafka_cluster: KafkaCluster) -> None:
    """A refused login is NOT_SENT, quickly, and the password is not in the message."""
    if real_kafka_cluster.sasl is None:
        pytest.skip("the given cluster has no listener with passwords that we know of")
    topic = real_kafka_cluster.topic()
    adapter = adapter_for(f"kafka://{real_kafka_cluster.sasl}", **_sasl_options("wrong-password-0"))

    with pytest.raises(EffectFault) as caught:
        await adapter.execute(message(topic), uuid4())
    await adapter.aclose()

    assert (caught.value.error_kind, caught.value.phase) == ("AUTHENTICATION", EnumFaultPhase.NOT_SENT)
    assert "wrong-password-0" not in f"{caught.value} {caught.value.context} {caught.value.__cause__!r}"


async def test_an_unknown_connection_is_named_with_those_that_exist() -> None:
    """A connection that is not in the settings is RESOURCE_UNAVAILABLE, and nothing was sent."""
    adapter = KafkaAdapter(ModelSettings(connections={"orders": ModelConnection(url=SecretStr("kafka://127.0.0.1:1"))}))
    correlation_id = uuid4()

    with pytest.raises(EffectFault, match="'orders'") as caught:
        await adapter.execute(message("t"), correlation_id)

    assert caught.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
    assert (caught.value.phase, caught.value.correlation_id) == (EnumFaultPhase.NOT_SENT, correlation_id)


async def test_an_option_that_librdkafka_refuses_is_named() -> None:
    """An unknown option is CONFIGURATION_ERROR with its name, at every call."""
    adapter = adapter_for("kafka://127.0.0.1:1", no_such_option=1)

    for _ in range(2):
        with pytest.raises(ModelOnexError, match=r"no\.such\.option") as caught:
            await adapter.execute(message("t"), uuid4())
        assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    await adapter.aclose()


async def test_text_that_is_not_unicode_is_a_validation_error(
    adapter: KafkaAdapter, kafka_clusters: KafkaCluster
) -> None:
    """A lone surrogate is refused before anything is sent."""
    topic = kafka_clusters.topic()

    with pytest.raises(ModelOnexError, match="surrogate") as caught:
        await adapter.execute(message(topic, "\ud800"), uuid4())

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_an_unreachable_cluster_is_refused_quickly_each_time() -> None:
    """Nothing listens: ECONNREFUSED and NOT_SENT well before the timeout, by `execute` and by `ping`."""
    adapter = adapter_for("kafka://127.0.0.1:1")

    for _ in range(2):
        began = time.perf_counter()
        with pytest.raises(EffectFault) as caught:
            await adapter.execute(message("t", acks="all", timeout_ms=30_000), uuid4())
        assert (caught.value.error_kind, caught.value.phase) == ("ECONNREFUSED", EnumFaultPhase.NOT_SENT)
        assert time.perf_counter() - began < 3
    with pytest.raises(EffectFault) as caught:
        await adapter.ping("default")
    await adapter.aclose()

    assert caught.value.error_kind == "ECONNREFUSED"


async def test_a_silent_cluster_is_not_sent_before_the_attempts_limit() -> None:
    """A server that accepts and says nothing: ETIMEDOUT and NOT_SENT, in time for the executor to hear it."""
    cluster = mock_cluster()
    async with proxied(cluster) as proxy:
        proxy.stall()
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}")
        began = time.perf_counter()

        with pytest.raises(EffectFault) as caught:
            await adapter.execute(message("t", timeout_ms=2_000), uuid4())

        assert time.perf_counter() - began < 2
        await adapter.aclose()

    assert (caught.value.error_kind, caught.value.phase) == ("ETIMEDOUT", EnumFaultPhase.NOT_SENT)


async def test_ping_hears_a_cluster_and_later_its_silence(kafka_clusters: KafkaCluster) -> None:
    """`ping` returns while the cluster answers, raises when it is gone, and returns again when it is back."""
    async with proxied(kafka_clusters) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}", reconnect_backoff_max_ms=100)
        await adapter.ping("default")
        await proxy.refuse()

        with pytest.raises(EffectFault) as caught:
            await adapter.ping("default")
        await proxy.listen()
        await adapter.ping("default")
        await adapter.aclose()

    assert caught.value.phase is EnumFaultPhase.NOT_SENT


async def test_a_cluster_that_went_away_while_idle_is_not_sent(kafka_clusters: KafkaCluster) -> None:
    """After the cluster was lost the next message is refused as NOT_SENT; once it is back a message passes."""
    topic = kafka_clusters.topic()
    async with proxied(kafka_clusters) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}", reconnect_backoff_max_ms=100)
        await adapter.execute(message(topic), uuid4())
        (link,) = adapter._links.values()
        await eventually(lambda: link.asleep)
        await proxy.refuse()
        await asyncio.to_thread(link._wake.wait, 0.3)  # nobody sets it: time for librdkafka to notice the cut

        with pytest.raises(EffectFault) as caught:
            await adapter.execute(message(topic), uuid4())
        await proxy.listen()
        await adapter.execute(message(topic), uuid4())
        await adapter.aclose()

    assert (caught.value.error_kind, caught.value.phase) == ("ECONNREFUSED", EnumFaultPhase.NOT_SENT)
    assert await asyncio.to_thread(kafka_clusters.count, topic) == 2


async def test_a_lost_answer_is_ambiguous_and_not_repeated_without_idempotence(kafka_clusters: KafkaCluster) -> None:
    """With acks 1 a connection that breaks after the message was sent is AMBIGUOUS, and it was stored only once."""
    topic = kafka_clusters.topic()
    async with proxied(kafka_clusters) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}", reconnect_backoff_max_ms=100)
        await adapter.execute(message(topic), uuid4())
        proxy.stall("down")

        call = asyncio.create_task(adapter.execute(message(topic), uuid4()))
        await asyncio.to_thread(kafka_clusters.wait_for_count, topic, 2)
        proxy.cut()
        with pytest.raises(EffectFault) as caught:
            await call
        proxy.flow()
        await adapter.aclose()

    assert (caught.value.error_kind, caught.value.phase) == ("ECONNRESET", EnumFaultPhase.AMBIGUOUS)
    assert await asyncio.to_thread(kafka_clusters.count, topic) == 2


async def test_a_lost_answer_is_repeated_safely_with_idempotence(kafka_clusters: KafkaCluster) -> None:
    """With acks all the client sends the message again, and the cluster holds it once."""
    topic = kafka_clusters.topic()
    async with proxied(kafka_clusters) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}", reconnect_backoff_max_ms=100)
        await adapter.execute(message(topic, acks="all"), uuid4())
        proxy.stall("down")

        call = asyncio.create_task(adapter.execute(message(topic, acks="all"), uuid4()))
        await asyncio.to_thread(kafka_clusters.wait_for_count, topic, 2)
        proxy.cut()
        proxy.flow()
        await call
        await adapter.aclose()

    if kafka_clusters.is_real:  # the mock does not keep sequence numbers
        assert await asyncio.to_thread(kafka_clusters.count, topic) == 2


async def test_a_silent_broker_ends_in_an_ambiguous_timeout(kafka_clusters: KafkaCluster) -> None:
    """A message whose answer never comes is reported at the delivery timeout as ETIMEDOUT, AMBIGUOUS."""
    topic = kafka_clusters.topic()
    async with proxied(kafka_clusters) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}")
        await adapter.execute(message(topic, timeout_ms=1_000), uuid4())
        proxy.stall()

        with pytest.raises(EffectFault) as caught:
            await adapter.execute(message(topic, timeout_ms=1_000), uuid4())
        proxy.flow()
        await adapter.aclose()

    fault = caught.value
    assert (fault.error_kind, fault.phase, fault.error_code) == (
        "ETIMEDOUT",
        EnumFaultPhase.AMBIGUOUS,
        EnumCoreErrorCode.TIMEOUT,
    )


async def test_a_cancelled_call_passes_on_at_once_and_its_late_report_is_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Cancellation does not wait for the broker; the report that comes later finds nobody and says nothing."""
    cluster = mock_cluster(test_mock_broker_rtt=500)
    adapter = adapter_for(cluster.url)
    topic = cluster.topic()
    await adapter.execute(message(topic), uuid4())
    (link,) = adapter._links.values()

    call = asyncio.create_task(adapter.execute(message(topic), uuid4()))
    await eventually(lambda: bool(link.pending))
    began = time.perf_counter()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    waited = time.perf_counter() - began
    await eventually(lambda: not link.pending)
    await adapter.aclose()

    assert waited < 0.4
    assert not caplog.records
    assert cluster.count(topic) == 2


async def test_a_full_local_queue_is_waited_for_without_blocking_the_loop() -> None:
    """More messages than the queue holds all pass, and the loop stays free meanwhile."""
    cluster = mock_cluster(test_mock_broker_rtt=30)
    adapter = adapter_for(cluster.url, queue_buffering_max_messages=10)
    topic = cluster.topic()
    await adapter.execute(message(topic), uuid4())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(tick())
        await asyncio.gather(*(adapter.execute(message(topic), uuid4()) for _ in range(60)))
        ticking.cancel()
    await adapter.aclose()

    assert ticks >= 5
    assert cluster.count(topic) == 61


async def test_a_queue_that_stays_full_is_not_sent() -> None:
    """When no room comes in time the fault is QUEUE_FULL: NOT_SENT and transient."""
    cluster = mock_cluster()
    topic = cluster.topic()
    async with proxied(cluster) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}", queue_buffering_max_messages=1)
        await adapter.execute(message(topic), uuid4())
        (link,) = adapter._links.values()
        proxy.stall()
        first = asyncio.create_task(adapter.execute(message(topic), uuid4()))
        await eventually(lambda: bool(link.pending))

        with pytest.raises(EffectFault) as caught:
            await adapter.execute(message(topic, timeout_ms=1_001), uuid4())
        proxy.flow()
        await first
        await adapter.aclose()

    fault = caught.value
    assert (fault.error_kind, fault.phase, fault.transient) == ("QUEUE_FULL", EnumFaultPhase.NOT_SENT, True)


async def test_a_fatal_error_replaces_the_producer(kafka_cluster: KafkaCluster) -> None:
    """After a fatal error of the idempotent producer the next call uses a new one."""
    adapter = adapter_for(kafka_cluster.url)
    topic = kafka_cluster.topic()
    await adapter.execute(message(topic, acks="all"), uuid4())
    (broken,) = adapter._links.values()

    broken.heard(KafkaError(KafkaError._FATAL, "sequence lost", fatal=True))
    document = await adapter.execute(message(topic, acks="all"), uuid4())
    (link,) = adapter._links.values()
    await adapter.aclose()
    await asyncio.to_thread(broken.thread.join, 5)

    assert link is not broken
    assert isinstance(document["offset"], int)
    assert not broken.thread.is_alive()


async def test_producers_are_shared_by_what_makes_them_different(kafka_cluster: KafkaCluster) -> None:
    """Calls with the same acks, compression and rung of timeout share a producer, others do not."""
    adapter = adapter_for(kafka_cluster.url)
    topic = kafka_cluster.topic()

    for timeout_ms in (20_000, 30_000, 6_000):
        await adapter.execute(message(topic, timeout_ms=timeout_ms), uuid4())
    shared = len(adapter._links)
    await adapter.execute(message(topic, timeout_ms=5_000), uuid4())
    await adapter.execute(message(topic, timeout_ms=30_000, acks="all"), uuid4())
    apart = len(adapter._links)
    await adapter.aclose()

    assert (shared, apart) == (1, 3)


async def test_closing_waits_for_what_is_under_way() -> None:
    """`aclose` lets a message that is under way arrive, and ends every thread."""
    cluster = mock_cluster(test_mock_broker_rtt=100)
    adapter = adapter_for(cluster.url)
    topic = cluster.topic()
    await adapter.execute(message(topic), uuid4())
    (link,) = adapter._links.values()

    call = asyncio.create_task(adapter.execute(message(topic), uuid4()))
    await eventually(lambda: bool(link.pending))
    await adapter.aclose()

    assert (await call)["offset"] is not None
    link.thread.join(5)  # its last word was that it has let go of the producer
    assert not link.thread.is_alive()


async def test_closing_gives_up_what_cannot_be_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """`aclose` is bounded; a message that had been sent without an answer is then AMBIGUOUS."""
    monkeypatch.setattr("omnibase_spi.kafka._FLUSH_SECONDS", 0.2)
    cluster = mock_cluster()
    topic = cluster.topic()
    async with proxied(cluster) as proxy:
        adapter = adapter_for(f"kafka://127.0.0.1:{proxy.port}")
        await adapter.execute(message(topic), uuid4())
        proxy.stall("down")
        call = asyncio.create_task(adapter.execute(message(topic), uuid4()))
        await asyncio.to_thread(cluster.wait_for_count, topic, 2)

        began = time.perf_counter()
        await adapter.aclose()

        assert time.perf_counter() - began < 3
        with pytest.raises(EffectFault) as caught:
            await call

    assert caught.value.phase is EnumFaultPhase.AMBIGUOUS


def test_one_adapter_serves_several_runs_of_asyncio(kafka_cluster: KafkaCluster) -> None:
    """The same adapter and producer work in one event loop after another."""
    adapter = adapter_for(kafka_cluster.url)
    topic = kafka_cluster.topic()

    offsets = [asyncio.run(adapter.execute(message(topic), uuid4()))["offset"] for _ in range(3)]

    assert all(isinstance(offset, int) for offset in offsets)
    assert len(adapter._links) == 1
    asyncio.run(adapter.aclose())


def test_a_report_for_a_loop_that_is_gone_is_ignored() -> None:
    """A message whose loop was closed before its answer came leaves no error behind, and the adapter goes on."""
    cluster = mock_cluster(test_mock_broker_rtt=100)
    adapter = adapter_for(cluster.url)
    topic = cluster.topic()

    async def leave_early() -> None:
        await adapter.execute(message(topic), uuid4())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(adapter.execute(message(topic), uuid4()), 0.02)

    asyncio.run(leave_early())
    document = asyncio.run(adapter.execute(message(topic), uuid4()))
    asyncio.run(adapter.aclose())

    assert isinstance(document["offset"], int)


def test_a_forgotten_adapter_ends_its_threads(kafka_cluster: KafkaCluster) -> None:
    """Garbage collection of an adapter that was never closed ends its threads, without a warning."""
    adapter = adapter_for(kafka_cluster.url)
    asyncio.run(adapter.execute(message(kafka_cluster.topic()), uuid4()))
    (link,) = adapter._links.values()
    thread, gone = link.thread, weakref.ref(adapter)

    del adapter, link
    gc.collect()
    thread.join(5)

    assert gone() is None
    assert not thread.is_alive()


def test_an_adapter_that_is_never_closed_does_not_hold_up_exit(kafka_cluster: KafkaCluster) -> None:
    """A program that forgets to close the adapter ends at once, with status 0 and nothing on stderr."""
    code = f"""
import asyncio, uuid
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedKafkaContext
from omnibase_spi.kafka import KafkaAdapter
kept = KafkaAdapter(ModelSettings(connections={{"default": ModelConnection(url={kafka_cluster.url!r})}}))
context = ModelResolvedKafkaContext(topic={kafka_cluster.topic()!r}, timeout_ms=5000)
print(asyncio.run(kept.execute(context, uuid.uuid4())))
"""

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "'offset': " in done.stdout


async def test_an_idle_adapter_uses_no_processor(kafka_cluster: KafkaCluster) -> None:
    """The thread of an idle producer sleeps."""
    adapter = adapter_for(kafka_cluster.url)
    await adapter.execute(message(kafka_cluster.topic()), uuid4())
    (link,) = adapter._links.values()

    await eventually(lambda: link.asleep)
    clock = time.pthread_getcpuclockid(link.thread.ident or 0)
    before = time.clock_gettime(clock)
    await asyncio.sleep(0.3)

    assert time.clock_gettime(clock) - before < 0.001
    await adapter.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_afresh(kafka_cluster: KafkaCluster) -> None:
    """A child of a process that has producers uses its own, and neither of the two hangs."""
    code = f"""
import asyncio, os, sys, uuid
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedKafkaContext
from omnibase_spi.kafka import KafkaAdapter
adapter = KafkaAdapter(ModelSettings(connections={{"default": ModelConnection(url={kafka_cluster.url!r})}}))
context = ModelResolvedKafkaContext(topic={kafka_cluster.topic()!r}, acks="1", timeout_ms=5000)
def send():
    return asyncio.run(adapter.execute(context, uuid.uuid4()))
send()
child = os.fork()
send()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    assert subprocess.run([sys.executable, "-c", code], timeout=15, check=False).returncode == 0
