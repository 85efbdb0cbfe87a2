"""Envelopes: defaults, rules, exact JSON, causes."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.models.events.model_event_envelope import (
    ModelEnvelopeMetadata,
    ModelEventEnvelope,
    ModelOnexEnvelope,
    as_envelope,
    current_envelope,
    set_current_envelope,
)
from omnibase_core.models.primitives.model_semver import ModelSemVer


class Money(BaseModel):
    cents: int
    currency: str = "EUR"


class Order(BaseModel):
    number: UUID
    placed: datetime
    total: Money


class Rebate(Money):
    percent: float


ORDER = Order(number=uuid4(), placed=datetime(2024, 2, 29, 23, 59, 59, 123456, UTC), total=Money(cents=0))

JSON_VALUES: list[JsonValue] = [
    None,
    True,
    0,
    -1,
    10**30,
    0.1,
    -0.0,
    1e300,
    "",
    "ä\n\x00😀",
    [],
    {},
    [1, [2, {"a": None}]],
    {"": {"b": [True, False]}},
]


def test_ids_and_time_are_made_and_in_utc() -> None:
    """New ids for each envelope; the rest has the defaults of the specification."""
    before = datetime.now(UTC)
    one, two = (ModelEventEnvelope[object](event_type="t", payload=1) for _ in range(2))

    assert len({one.envelope_id, one.correlation_id, two.envelope_id, two.correlation_id}) == 4
    assert before <= one.timestamp <= datetime.now(UTC)
    assert one.timestamp.tzinfo is UTC
    assert (one.causation_id, one.subject, one.headers, one.schema_version) == (None, None, {}, ModelSemVer(1, 0, 0))


def test_the_correlation_id_is_that_of_the_current_context() -> None:
    """So that what a call says about itself stays together."""
    current = uuid4()
    token = current_correlation_id.set(current)
    try:
        made = [ModelEventEnvelope[object](event_type="t", payload=1), ModelEventEnvelope.of(ORDER)]
    finally:
        current_correlation_id.reset(token)

    assert [each.correlation_id for each in made] == [current, current]


@pytest.mark.parametrize("payload", JSON_VALUES)
def test_an_envelope_of_json_comes_back_equal(payload: JsonValue) -> None:
    """Through JSON text, and with the same text again."""
    made = ModelEventEnvelope[object](
        event_type="t", payload=payload, causation_id=uuid4(), source="urn:x:y", subject="s", headers={"A b": "ä"}
    )

    text = made.model_dump_json()
    back = ModelEventEnvelope.model_validate_json(text)

    assert back == made
    assert repr(back.payload) == repr(payload)
    assert back.model_dump_json() == text


def test_an_envelope_of_a_model_comes_back_equal_when_it_says_which() -> None:
    """Without the parameter the payload is JSON; with it, the model, nested ones included."""
    made = ModelEventEnvelope.of(ORDER)

    typed = ModelEventEnvelope[Order].model_validate_json(made.model_dump_json())
    untyped = ModelEventEnvelope.model_validate_json(made.model_dump_json())

    assert typed == made
    assert typed.payload == ORDER
    assert untyped.payload == ORDER.model_dump(mode="json")
    assert untyped.model_dump_json() == made.model_dump_json()


def test_a_subclass_loses_no_field_on_its_way_into_json() -> None:
    """The payload is written as what it is, not as what the parameter says."""
    made = ModelEventEnvelope[Money](event_type="t", payload=Rebate(cents=5, percent=0.5))

    assert made.model_dump(mode="json")["payload"] == {"cents": 5, "currency": "EUR", "percent": 0.5}


@pytest.mark.parametrize("payload", [object(), (1, 2), {1: 2}, {"a": b"x"}, float("nan"), [float("inf")], {3}])
def test_a_payload_that_json_would_not_give_back_is_refused(payload: object) -> None:
    """Objects, tuples, bytes, keys that are no text, numbers that JSON does not have."""
    with pytest.raises(ValidationError, match="payload"):
        ModelEventEnvelope(event_type="t", payload=payload)


def test_json_is_copied_and_an_envelope_is_frozen() -> None:
    """Whoever keeps the payload cannot change an event by it."""
    payload: dict[str, JsonValue] = {"a": [1]}
    made: ModelEventEnvelope[object] = ModelEventEnvelope(event_type="t", payload=payload)

    payload["a"] = 2

    assert made.payload == {"a": [1]}
    with pytest.raises(ValidationError, match="frozen"):
        made.event_type = "u"  # type: ignore[misc]  # what is under test
    with pytest.raises(ValidationError, match="extra"):
        ModelEventEnvelope(event_type="t", payload=1, colour="red")  # type: ignore[call-arg]  # what is under test


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_type": ""},
        {"event_type": "a\nb"},
        {"event_type": 7},
        {"source": ""},
        {"source": "a b"},
        {"source": "127.0.0.1:80/x"},
        {"source": "/a%2"},
        {"source": "a#b#c"},
        {"subject": ""},
        {"subject": "\x7f"},
        {"subject": "\ufdd0"},
        {"subject": "\U0001ffff"},
        {"timestamp": datetime(2024, 1, 1)},  # noqa: DTZ001 # what is under test
        {"timestamp": "2024-01-01T00:00:00"},
        {"headers": {"a": 1}},
        {"schema_version": "1.0"},
        {"schema_version": "v1.0.0"},
        {"envelope_id": "x"},
    ],
)
def test_fields_obey_the_rules_of_cloudevents(wrong: dict[str, object]) -> None:
    """Text without control characters and not empty, a URI reference, a time with its offset."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ModelEventEnvelope(**{"event_type": "t", "payload": 1, **wrong})


@pytest.mark.parametrize(
    "source", ["/orders", "urn:x:y", "https://example.com/a?b=c#d", "1-555-123-4567", "mailto:a@b.example", "a/b:c"]
)
def test_a_source_is_any_uri_reference(source: str) -> None:
    """Absolute or relative."""
    assert ModelEventEnvelope[object](event_type="t", payload=1, source=source).source == source


def test_time_is_converted_to_utc() -> None:
    """Another offset is the same moment."""
    there = datetime(2024, 5, 6, 9, 0, tzinfo=timezone(timedelta(hours=2)))

    made = ModelEventEnvelope[object](event_type="t", payload=1, timestamp=there)

    assert made.timestamp == there
    assert made.model_dump(mode="json")["timestamp"] == "2024-05-06T07:00:00Z"


def test_the_envelope_of_a_model_is_the_same_as_one_that_was_validated() -> None:
    """The fast way of building equals the slow one in every respect, for the pydantic that is installed."""
    made = ModelEventEnvelope.of(ORDER)
    validated: ModelEventEnvelope[Order] = ModelEventEnvelope.model_validate(dict(made.__dict__))

    assert made == validated
    assert validated == made
    assert hash(made) == hash(validated)
    assert made.model_fields_set == validated.model_fields_set
    assert made.model_dump() == validated.model_dump()
    for other in (copy.copy(made), copy.deepcopy(made), made.model_copy(), pickle.loads(pickle.dumps(made))):
        assert other == validated
    with pytest.raises(ValidationError, match="frozen"):
        made.event_type = "u"  # type: ignore[misc]  # what is under test


def test_a_reply_says_what_caused_it() -> None:
    """Same correlation id and trace context; other headers do not go on by themselves."""
    first: ModelEventEnvelope[object] = ModelEventEnvelope(
        event_type="t", payload=1, headers={"traceparent": "00-a", "tracestate": "b=c", "x": "y"}
    )

    replies = [
        first.reply(ORDER),
        first.reply(ORDER, headers={"z": "1"}),
        first.reply({"a": 1}, event_type="u", source="/s", subject="about", headers={"traceparent": "00-other"}),
    ]

    for reply in replies:
        assert (reply.correlation_id, reply.causation_id) == (first.correlation_id, first.envelope_id)
        assert reply.envelope_id != first.envelope_id
    assert [reply.event_type for reply in replies] == ["Order", "Order", "u"]
    assert [reply.headers for reply in replies] == [
        {"traceparent": "00-a", "tracestate": "b=c"},
        {"traceparent": "00-a", "tracestate": "b=c", "z": "1"},
        {"traceparent": "00-other", "tracestate": "b=c"},
    ]
    assert (replies[2].source, replies[2].subject) == ("/s", "about")


def test_inside_a_handler_an_event_is_caused_by_the_one_that_is_handled() -> None:
    """Buses and dispatchers say whose handler runs."""
    first: ModelEventEnvelope[object] = ModelEventEnvelope(event_type="t", payload=1)
    token = set_current_envelope(first)
    try:
        made = ModelEventEnvelope.of(ORDER)
        assert current_envelope() is first
    finally:
        token.var.reset(token)

    assert (made.causation_id, made.correlation_id) == (first.envelope_id, first.correlation_id)
    assert current_envelope() is None


def test_json_has_no_event_type_of_its_own() -> None:
    """VALIDATION_ERROR says how to give one."""
    with pytest.raises(ModelOnexError, match="event_type") as caught:
        ModelEventEnvelope.of({"a": 1})

    assert caught.value.error_code is Code.VALIDATION_ERROR
    assert ModelEventEnvelope.of({"a": 1}, event_type="t").event_type == "t"
    assert ModelEventEnvelope.of(ORDER, event_type="t").event_type == "t"


def test_publish_takes_an_envelope_as_it_is_and_a_model_in_one() -> None:
    """A `ModelOnexEnvelope` becomes the event that it is."""
    envelope = ModelEventEnvelope.of(ORDER)

    assert as_envelope(envelope) is envelope
    assert as_envelope(ORDER).payload is ORDER
    assert as_envelope(ModelOnexEnvelope.of_event(envelope)) == envelope


def test_the_two_shapes_of_an_envelope_hold_the_same() -> None:
    """An event in the shape that node handlers get, and back; its JSON is exact as well."""
    event = ModelEventEnvelope[Money](
        event_type="t", payload=Money(cents=1), causation_id=uuid4(), subject="s", headers={"a": "b"}
    )

    envelope = ModelOnexEnvelope.of_event(event)

    assert envelope.metadata.envelope_id == event.envelope_id
    assert envelope.to_event() == event
    assert ModelOnexEnvelope[Money].model_validate_json(envelope.model_dump_json()) == envelope
    assert len({envelope, ModelOnexEnvelope.of_event(event)}) == 1


def test_a_command_needs_no_event_type() -> None:
    """Metadata have defaults like those of an event; JSON payloads are judged alike."""
    envelope: ModelOnexEnvelope[object] = ModelOnexEnvelope(payload={"do": "it"})

    assert envelope.metadata.event_type is None
    assert ModelOnexEnvelope.model_validate_json(envelope.model_dump_json()) == envelope
    assert ModelEnvelopeMetadata() != ModelEnvelopeMetadata()
    with pytest.raises(ModelOnexError, match="event_type"):
        envelope.to_event()
    with pytest.raises(ValidationError, match="payload"):
        ModelOnexEnvelope(payload=object())
