"""What the demo talks to, all on this machine: a small HTTP service that can be told to fail, and a Kafka cluster."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Producer, TopicPartition

_CUSTOMERS = {
    "c-1": {"name": "Ada Lovelace", "contact": {"email": "ada@example.org"}},
    "c-2": {"name": 'Grace "Amazing" Hopper', "contact": {"email": "grace@example.org"}},
}


@dataclass(slots=True)
class CustomerService:
    """Answers `GET /customers/<id>`; fails with 503 as often as `failures` says. `requests` counts what arrived."""

    host: str = "127.0.0.1"
    port: int = 0
    failures: int = 0
    requests: int = 0
    _server: asyncio.Server | None = field(default=None, repr=False)

    @property
    def base(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen; again on the same port after a `stop`."""
        self._server = await asyncio.start_server(self._connection, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening: whoever comes now is refused."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        status, document = self._answer(head.split(b" ", 2)[1].decode())
        body = json.dumps(document).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def _answer(self, path: str) -> tuple[int, object]:
        if self.failures:
            self.failures -= 1
            return 503, {"error": "having a bad moment"}
        customer = _CUSTOMERS.get(path.removeprefix("/customers/"))
        return (404, {"error": "unknown"}) if customer is None else (200, customer)


@asynccontextmanager
async def customer_service() -> AsyncIterator[CustomerService]:
    """A customer service that runs for the length of the block."""
    service = CustomerService()
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


class MockKafka:
    """librdkafka's own mock cluster: real brokers as far as a producer and a consumer can tell, in this process."""

    def __init__(self) -> None:
        self._owner = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
        brokers = self._owner.list_topics(timeout=10).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def message(self, topic: str, partition: int, offset: int) -> dict[str, object]:
        """The JSON message at this place, read back by a consumer of its own."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "demo", "log_level": 0})
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            message = consumer.poll(10)
            if message is None or message.value() is None:
                raise LookupError(f"no message at {topic}[{partition}]@{offset}")
            document: dict[str, object] = json.loads(message.value() or b"")
            return document
        finally:
            consumer.close()
