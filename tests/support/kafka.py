"""Kafka clusters for tests: librdkafka's mock cluster in every run, a real Apache Kafka where one can be had."""

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support import backends, real_kafka


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """A cluster to test against.

    is_real: Apache Kafka, which refuses unknown topics; the mock makes them up.
    sasl: bootstrap servers of the listener with passwords, if there is one.
    owner: what must live as long as the cluster.
    """

    bootstrap: str
    is_real: bool
    sasl: str | None = None
    owner: object = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}"

    def topic(self, **config: str) -> str:
        """A new topic of four partitions; `config` (underscores for dots) is heeded by a real cluster only."""
        name = f"onex-{uuid.uuid4().hex[:12]}"
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        if self.is_real:
            settings = {key.replace("_", "."): value for key, value in config.items()}
            admin.create_topics([NewTopic(name, 4, 1, config=settings)])[name].result(10)
            self._wait_for_leaders(name)
        else:
            admin.list_topics(name, 10)
        return name

    def _wait_for_leaders(self, topic: str) -> None:
        """Until each partition has one, which a message without acknowledgement does not wait for; fails after 10 s."""
        limit = time.monotonic() + 10
        while True:
            try:
                self.count(topic)
            except KafkaException:
                if time.monotonic() > limit:
                    raise
            else:
                return

    def read(self, topic: str, count: int) -> list[Message]:
        """The first `count` messages of a topic; fails when there are fewer, after 10 s."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": topic,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
            messages: list[Message] = []
            while len(messages) < count:
                message = consumer.poll(10)
                assert message is not None, f"only {len(messages)} of {count} messages in {topic}"
                assert message.error() is None, message.error()
                messages.append(message)
            return messages
        finally:
            consumer.close()

    def count(self, topic: str) -> int:
        """How many messages the topic holds, by its offsets."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": topic})
        try:
            marks = [consumer.get_watermark_offsets(TopicPartition(topic, each), 10) for each in range(4)]
        finally:
            consumer.close()
        return sum(high - low for low, high in marks)

    def wait_for_count(self, topic: str, count: int) -> None:
        """Block until the topic holds that many messages; fails after 10 s."""
        limit = time.monotonic() + 10
        while (found := self.count(topic)) < count:
            assert time.monotonic() < limit, f"{found} of {count} messages in {topic}"


def mock_cluster(**config: str | int) -> KafkaCluster:
    """A mock cluster of its own; `config` (underscores for dots) such as `test_mock_broker_rtt=200` (milliseconds)."""
    settings = {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 3}
    owner = Producer(settings | {key.replace("_", "."): value for key, value in config.items()})
    found = owner.list_topics(timeout=10).brokers.values()
    return KafkaCluster(",".join(f"{broker.host}:{broker.port}" for broker in found), is_real=False, owner=owner)


@pytest.fixture(scope="session")
def kafka_cluster() -> KafkaCluster:
    """The mock cluster."""
    backends.ran_against("Kafka (mock)", "librdkafka's mock cluster")
    return mock_cluster()


@pytest.fixture(scope="session")
def kafka_url(kafka_cluster: KafkaCluster) -> str:
    """The url of the mock cluster."""
    return kafka_cluster.url


@pytest.fixture(scope="session")
def real_kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Apache Kafka; skips, and says so in the summary, where there is none."""
    given = os.environ.get("ONEX_TEST_KAFKA")
    if given:
        backends.ran_against("Apache Kafka", f"the one given by ONEX_TEST_KAFKA, {given}")
        yield KafkaCluster(given, is_real=True)
        return
    if os.environ.get("ONEX_TEST_KAFKA_REAL") != "1":
        _skip("set ONEX_TEST_KAFKA_REAL=1 (needs java and mvn) or ONEX_TEST_KAFKA=host:port")
    try:
        with real_kafka.running(tmp_path_factory.mktemp("kafka")) as kafka:
            backends.ran_against("Apache Kafka", f"{kafka.version}, KRaft, one node, started by the tests")
            yield KafkaCluster(kafka.bootstrap, is_real=True, sasl=kafka.sasl)
    except real_kafka.UnavailableError as error:
        _skip(str(error))


def _skip(why: str) -> None:
    backends.not_run("Apache Kafka", why)
    pytest.skip(f"Apache Kafka: {why}")


@pytest.fixture(scope="session", params=["mock", "real"])
def kafka_clusters(request: pytest.FixtureRequest) -> KafkaCluster:
    """Both clusters, one after the other."""
    name = {"mock": "kafka_cluster", "real": "real_kafka_cluster"}[request.param]
    cluster = request.getfixturevalue(name)
    assert isinstance(cluster, KafkaCluster)
    return cluster


@pytest.fixture(scope="session")
def kafka_urls(kafka_clusters: KafkaCluster) -> str:
    """The url of both clusters, one after the other."""
    return kafka_clusters.url
