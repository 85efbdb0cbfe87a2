"""A Kafka message, awaited, beside a bare producer whose delivery reports a thread hands to futures.

The cluster is librdkafka's mock in another process; a second time in this one, as the tests use it, where the broker's
CPU time counts on both sides.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, Message, Producer
from pydantic import SecretStr

from benchmarks.measure import Table, Times, one_by_one, paired
from benchmarks.nodes import calling, container_of, node_of
from benchmarks.servers import kafka_mock
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from tests.support.kafka import mock_cluster

TOPIC = "measured"


def test_kafka(table: Table) -> None:
    """Each message is awaited before the next one is sent."""
    with kafka_mock() as bootstrap:
        found = asyncio.run(_measure(bootstrap))
    table.add_comparison("kafka", "awaited, 1 per call", found.compare("single", "bare"), ratio=1.5, added_us=45)
    table.add_comparison("kafka", "awaited, 10 per call", found.compare("ten", "bare"), ratio=1.5, added_us=35)

    cluster = mock_cluster()
    found = asyncio.run(_measure(cluster.bootstrap))
    for subject, calls in (("single", 1), ("ten", 10)):
        both = found.compare(subject, "bare")
        note = f"{both.ours:.1f} us beside {both.bare:.1f}; added {both.added:.1f}"
        table.add("kafka", f"awaited, {calls} per call, broker in this process", both.ratio, "x", note=note)


async def _measure(bootstrap: str) -> Times:
    settings = ModelSettings(connections={"events": ModelConnection(url=SecretStr(f"kafka://{bootstrap}"))})
    container = container_of(settings)
    io_config: dict[str, object] = {
        "handler_type": "kafka",
        "connection_name": "events",
        "topic": TOPIC,
        "partition_key_template": "${input.id}",
        "payload_template": '{"event": "order.created", "id": "${input.id}"}',
    }
    extract = {"offset": "$.offset"}
    with _bridged(bootstrap) as bridge:
        times = await paired(
            {
                "bare": one_by_one(bridge.send),
                "single": one_by_one(calling(node_of(container, io_config, extract=extract), id="o-5")),
                "ten": one_by_one(calling(node_of(container, io_config, 10, extract=extract), id="o-5"), 10),
            },
            operations=100,
        )
    await container.aclose()
    return times


class _Bridge:
    """What everybody writes who needs confluent-kafka's producer in asyncio."""

    def __init__(self, bootstrap: str) -> None:
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0})
        self.ended = False
        self.thread = threading.Thread(target=self._poll)
        self.thread.start()

    def _poll(self) -> None:
        while not self.ended:
            self.producer.poll(0.1)

    async def send(self) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        report: asyncio.Future[Message] = loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                loop.call_soon_threadsafe(report.set_exception, RuntimeError(str(error)))
            else:
                loop.call_soon_threadsafe(report.set_result, message)

        self.producer.produce(TOPIC, b'{"event": "order.created", "id": "o-5"}', b"o-5", on_delivery=delivered)
        message = await report
        return {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}


@contextmanager
def _bridged(bootstrap: str) -> Iterator[_Bridge]:
    bridge = _Bridge(bootstrap)
    try:
        yield bridge
    finally:
        bridge.ended = True
        bridge.thread.join()
