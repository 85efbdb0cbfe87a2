"""The table of Kafka's faults, and the settings that a connection may hold."""

import confluent_kafka
import confluent_kafka.error
import pytest
from confluent_kafka import KafkaError, KafkaException
from pydantic import SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection
from omnibase_spi._errors import KAFKA_CODES, KAFKA_ROWS, find_row
from omnibase_spi._kafka_config import brokers, producer_settings, refused_settings
from omnibase_spi._kafka_link import row_of

CODES = {
    name: value for name in dir(KafkaError) if name.isupper() and isinstance(value := getattr(KafkaError, name), int)
}


def test_every_code_of_the_client_has_a_row_and_no_row_is_without_a_code() -> None:
    """The table names exactly the codes that the installed client knows."""
    assert len(CODES) > 150
    assert set(KAFKA_CODES) == set(CODES)


@pytest.mark.parametrize("name", sorted(CODES))
def test_a_reported_error_finds_its_row_by_its_code(name: str) -> None:
    """An error as the client reports it leads to the row of its code."""
    assert row_of(KafkaError(CODES[name])) is KAFKA_CODES[name]


def test_a_fatal_error_is_ambiguous_whatever_its_code() -> None:
    """What was under way when a producer broke may have been stored."""
    row = row_of(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "broken", fatal=True))

    assert (row.error_kind, row.phase) == ("PRODUCER_FATAL", EnumFaultPhase.AMBIGUOUS)


def test_every_exception_class_of_the_client_has_a_row() -> None:
    """Exceptions derive from the one class that the table names."""
    classes = [each for each in vars(confluent_kafka.error).values() if isinstance(each, type)]
    exceptions = [each for each in classes if issubclass(each, Exception)]

    assert KafkaException in exceptions
    for each in exceptions:
        assert find_row(KAFKA_ROWS, each.__new__(each)) is not None, each


@pytest.mark.parametrize(
    ("name", "kind", "phase", "transient"),
    [
        ("_ALL_BROKERS_DOWN", "ECONNREFUSED", "not_sent", False),
        ("_RESOLVE", "ECONNREFUSED", "not_sent", False),
        ("_MSG_TIMED_OUT", "ETIMEDOUT", "ambiguous", False),
        ("REQUEST_TIMED_OUT", "ETIMEDOUT", "ambiguous", False),
        ("_TRANSPORT", "ECONNRESET", "ambiguous", False),
        ("_PURGE_QUEUE", "PRODUCER_CLOSED", "not_sent", True),
        ("_PURGE_INFLIGHT", "ECONNRESET", "ambiguous", False),
        ("_QUEUE_FULL", "QUEUE_FULL", "not_sent", True),
        ("UNKNOWN_TOPIC_OR_PART", "UNKNOWN_TOPIC", "rejected", False),
        ("TOPIC_AUTHORIZATION_FAILED", "AUTHORIZATION", "rejected", False),
        ("MSG_SIZE_TOO_LARGE", "MESSAGE_TOO_LARGE", "rejected", False),
        ("NOT_ENOUGH_REPLICAS", "BROKER_BUSY", "rejected", True),
        ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", "BROKER_ERROR", "ambiguous", False),
    ],
)
def test_what_a_producer_meets_is_told_apart(name: str, kind: str, phase: str, transient: bool) -> None:
    """Each fault that a producer can meet has the kind and phase that the retry rules need."""
    row = KAFKA_CODES[name]

    assert (row.error_kind, row.phase.value, row.transient) == (kind, phase, transient)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("kafka://a:1", "a:1"),
        ("kafka://a:1,b-2.example:9093/", "a:1,b-2.example:9093"),
        ("kafka://a,b", "a:9092,b:9092"),
        ("kafka://[::1]:9094,[fe80::1]", "[::1]:9094,[fe80::1]:9092"),
    ],
)
def test_brokers_are_read_from_the_url(url: str, expected: str) -> None:
    """Hosts are separated by commas and have the port 9092 when they name none."""
    assert brokers("c", ModelConnection(url=SecretStr(url))) == expected


@pytest.mark.parametrize(
    "url", ["http://a:1", "kafka://", "kafka://user:hunter2hunter2@a:1", "kafka://a:1/topic", "kafka://a:1?x=1", "a:1"]
)
def test_another_url_is_refused_without_being_quoted(url: str) -> None:
    """A url of another form is CONFIGURATION_ERROR, and the message does not repeat it."""
    with pytest.raises(ModelOnexError, match="kafka://host:port") as caught:
        brokers("c", ModelConnection(url=SecretStr(url)))

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "acks",
        "enable.idempotence",
        "compression.type",
        "delivery.timeout.ms",
        "message.timeout.ms",
        "retries",
        "error_cb",
    ],
)
def test_the_adapters_own_settings_cannot_be_overridden(name: str) -> None:
    """An option that the contract or the adapter decides is CONFIGURATION_ERROR naming it."""
    connection = ModelConnection(url=SecretStr("kafka://a:1"), options={name: "1"})

    with pytest.raises(ModelOnexError, match=name) as caught:
        producer_settings("c", connection, "all", "none", 30_000)

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


def test_defaults_of_the_adapter_give_way_to_options() -> None:
    """`linger.ms` is 0 unless an option, under either of its names, says otherwise."""
    url = SecretStr("kafka://a:1")
    plain = producer_settings("c", ModelConnection(url=url), "1", "lz4", 1_000)
    given = ModelConnection(url=url, options={"queue.buffering.max.ms": 5, "socket.keepalive.enable": True})

    settings = producer_settings("c", given, "all", "none", 30_000)

    assert plain["linger.ms"] == "0"
    assert (plain["acks"], plain["enable.idempotence"], plain["message.send.max.retries"]) == ("1", "false", "0")
    assert "linger.ms" not in settings
    assert (settings["queue.buffering.max.ms"], settings["socket.keepalive.enable"]) == ("5", "true")
    assert (settings["enable.idempotence"], "message.send.max.retries" in settings) == ("true", False)


def test_a_refusal_does_not_repeat_secret_values() -> None:
    """What the client says about the options is passed on without the values of passwords and keys."""
    connection = ModelConnection(url=SecretStr("kafka://a:1"), options={"sasl.password": "hunter2hunter2", "foo": 1})

    said = refused_settings(connection, 'No such property "foo" beside hunter2hunter2')

    assert "'foo'" in said
    assert "hunter2" not in said
