"""Envelopes as CloudEvents 1.0: JSON format, Kafka binding, and what other systems may send."""

import base64
import json
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.events.cloudevents import is_attribute_text
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope

Event = ModelEventEnvelope[object]
Mode = Literal["structured", "binary"]
MODES: list[Mode] = ["structured", "binary"]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

FOREIGN: dict[str, JsonValue] = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/mycontext",
    "type": "com.example.someevent",
}


class Order(BaseModel):
    number: int


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
attribute_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(is_attribute_text)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
SPECIAL_NAMES = """
id type source subject time data datacontenttype dataschema correlationid causationid schemaversion specversion
onexheaders cloudeventid datacontentencoding traceparent tracestate partitionkey content-type ce_id X-A a0
"""
header_names = texts | st.sampled_from(SPECIAL_NAMES.split())
header_values = texts | st.sampled_from(["application/json", "text/plain", "base64", "https://a.example/s", "a/b+json"])
envelopes = st.builds(
    ModelEventEnvelope[object],
    event_type=attribute_texts,
    payload=json_values,
    causation_id=st.none() | st.uuids(),
    correlation_id=st.uuids(),
    envelope_id=st.uuids(),
    source=st.sampled_from(["/onex", "urn:a:b", "https://example.com/x?y#z"]),
    subject=st.none() | attribute_texts,
    timestamp=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 # bounds are naive in hypothesis
    headers=st.dictionaries(header_names, header_values, max_size=4),
    schema_version=st.sampled_from(["1.0.0", "0.0.10"]),
)


def _events(envelope: Event) -> dict[str, JsonValue] | None:
    """The CloudEvent; None where a header says that the payload is no JSON, and it is not text either."""
    if envelope.headers.get("datacontenttype") != "text/plain":
        return envelope.to_cloudevent()
    try:
        return envelope.to_cloudevent()
    except ModelOnexError:
        return None


@given(envelopes)
def test_an_envelope_comes_back_equal_in_every_form(envelope: Event) -> None:
    """JSON format as an object and as text, Kafka records in both modes."""
    event = _events(envelope)
    if event is None:
        return

    assert ModelEventEnvelope.from_cloudevent(event) == envelope
    assert ModelEventEnvelope.from_cloudevent(json.dumps(event)) == envelope
    assert ModelEventEnvelope.from_cloudevent(json.dumps(event).encode()) == envelope
    for mode in MODES:
        assert ModelEventEnvelope.from_kafka(*envelope.to_kafka(mode=mode)) == envelope


@given(envelopes)
def test_every_attribute_obeys_the_naming_and_the_type_rules(envelope: Event) -> None:
    """Names of lower-case letters and digits, at most 20; values are text without control characters, not empty."""
    event = _events(envelope)
    if event is None:
        return

    for name, value in event.items():
        if name not in {"data", "data_base64"}:
            assert name.isascii()
            assert name.isalnum()
            assert name == name.lower()
            assert len(name) <= 20
            assert isinstance(value, str)
            assert is_attribute_text(value)
    assert event["specversion"] == "1.0"
    assert {"id", "source", "type"} <= event.keys()
    assert datetime.fromisoformat(str(event["time"])) == envelope.timestamp


def test_the_json_format_of_an_envelope() -> None:
    """Field by field."""
    envelope = ModelEventEnvelope[Order](
        event_type="com.example.order",
        payload=Order(number=1),
        envelope_id=UUID(int=1),
        correlation_id=UUID(int=2),
        causation_id=UUID(int=3),
        source="/orders",
        subject="o-1",
        timestamp=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
        headers={"traceparent": TRACE, "X-Tenant": "a"},
        schema_version="2.0.0",
    )

    event = envelope.to_cloudevent()

    assert event == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000001",
        "source": "/orders",
        "type": "com.example.order",
        "subject": "o-1",
        "time": "2024-05-06T07:08:09Z",
        "datacontenttype": "application/json",
        "correlationid": "00000000-0000-0000-0000-000000000002",
        "causationid": "00000000-0000-0000-0000-000000000003",
        "schemaversion": "2.0.0",
        "traceparent": TRACE,
        "onexheaders": '{"X-Tenant":"a"}',
        "data": {"number": 1},
    }
    assert ModelEventEnvelope[Order].from_cloudevent(event) == envelope


def test_a_structured_record_holds_the_event_in_its_value() -> None:
    """With the media type of the format, and trace context as plain headers beside it."""
    envelope: Event = ModelEventEnvelope(event_type="t", payload=1, headers={"traceparent": TRACE, "tracestate": "a=b"})

    key, headers, value = envelope.to_kafka(key="k")

    assert key == b"k"
    assert headers == [
        ("content-type", b"application/cloudevents+json; charset=UTF-8"),
        ("traceparent", TRACE.encode()),
        ("tracestate", b"a=b"),
    ]
    assert value is not None
    assert json.loads(value) == envelope.to_cloudevent()


def test_a_binary_record_holds_the_data_in_its_value() -> None:
    """All other attributes are headers that begin with `ce_`; the content type is a header without that."""
    envelope: Event = ModelEventEnvelope(event_type="t", payload={"a": "ä"}, headers={"partitionkey": "p", "x": "ü"})

    key, headers, value = envelope.to_kafka(mode="binary")

    found = dict(headers)
    assert key == b"p"
    assert value == '{"a":"ä"}'.encode()
    assert found["content-type"] == b"application/json"
    assert found["ce_id"] == str(envelope.envelope_id).encode()
    assert found["ce_type"] == b"t"
    assert found["ce_specversion"] == b"1.0"
    assert found["ce_partitionkey"] == b"p"
    assert found["ce_x"] == "ü".encode()
    assert not found.keys() & {"ce_data", "ce_datacontenttype"}


def test_a_payload_of_nothing_is_no_tombstone() -> None:
    """JSON's null is a value, which a compacted topic keeps."""
    envelope: Event = ModelEventEnvelope(event_type="t", payload=None)

    assert envelope.to_kafka(mode="binary").value == b"null"
    assert envelope.to_kafka(mode="binary").key is None


def test_a_foreign_event_needs_four_attributes_only() -> None:
    """The rest is filled in; reading it twice gives the same ids, because deduplication goes by them."""
    before = datetime.now(UTC)

    one, two = ModelEventEnvelope.from_cloudevent(FOREIGN), ModelEventEnvelope.from_cloudevent(FOREIGN)
    elsewhere = ModelEventEnvelope.from_cloudevent({**FOREIGN, "source": "/other"})

    assert (one.event_type, one.source, one.payload) == ("com.example.someevent", "/mycontext", None)
    assert one.envelope_id == two.envelope_id == one.correlation_id
    assert elsewhere.envelope_id != one.envelope_id
    assert one.timestamp >= before


def test_a_foreign_event_goes_on_as_it_came() -> None:
    """Ids that are no UUIDs, extensions, other content types and binary data."""
    data = base64.b64encode(b"\x00\xff").decode()
    event: dict[str, JsonValue] = {
        **FOREIGN,
        "time": "2018-04-05T17:31:00.5Z",
        "correlationid": "txn-abc-123",
        "causationid": "order-123",
        "comexampleextension1": "value",
        "comexampleothervalue": 5,
        "flag": True,
        "unsetextension": None,
        "dataschema": "https://example.com/schema",
        "datacontenttype": "application/vnd.apache.thrift.binary",
        "data_base64": data,
    }

    envelope = ModelEventEnvelope.from_cloudevent(event)
    again = envelope.to_cloudevent()
    _key, headers, value = envelope.to_kafka(mode="binary")

    expected = {name: text for name, text in event.items() if text is not None}
    expected |= {"comexampleothervalue": "5", "flag": "true", "time": "2018-04-05T17:31:00.500000Z"}
    assert {name: again[name] for name in expected} == expected
    assert value == b"\x00\xff"
    assert ("ce_id", b"A234-1234-1234") in headers
    assert ModelEventEnvelope.from_kafka(None, headers, value) == envelope


def test_xml_is_text_and_json_in_base64_is_json() -> None:
    """The content type decides what the payload is."""
    xml = ModelEventEnvelope.from_cloudevent({**FOREIGN, "datacontenttype": "application/xml", "data": "<a/>"})
    packed = ModelEventEnvelope.from_cloudevent({**FOREIGN, "data_base64": base64.b64encode(b'{"a":1}').decode()})

    assert xml.payload == "<a/>"
    assert xml.to_kafka(mode="binary").value == b"<a/>"
    assert packed.payload == {"a": 1}


def test_a_record_of_another_system_is_read_in_either_mode() -> None:
    """Without a content type it is binary JSON; plain headers stay, and plain trace context wins."""
    ours = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/s"), ("ce_type", b"t")]
    plain = [("traceparent", b"00-hop"), ("ce_traceparent", b"00-start"), ("trace-note", b"\xff"), ("empty", None)]

    binary = ModelEventEnvelope.from_kafka(None, [*ours, *plain], b'{"a":1}')
    tombstone = ModelEventEnvelope.from_kafka(None, ours, None)
    structured = ModelEventEnvelope.from_kafka(
        None, [("Content-Type", b"application/CloudEvents+json")], json.dumps(FOREIGN).encode()
    )

    assert binary.payload == {"a": 1}
    assert binary.headers["traceparent"] == "00-hop"
    assert (binary.headers["trace-note"], binary.headers["empty"]) == ("\\xff", "")
    assert tombstone.payload is None
    assert structured.event_type == "com.example.someevent"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"source": "a b"}, "source"),
        ({"type": "a\tb"}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2024-01-01T00:00:00"}, "time"),
        ({"time": "1714979289"}, "time"),
        ({"time": "2024-13-01T00:00:00Z"}, "time"),
        ({"subject": ""}, "subject"),
        ({"bad-name": "x"}, "bad-name"),
        ({"Upper": "x"}, "Upper"),
        ({"extension": 1.5}, "extension"),
        ({"extension": 2**31}, "extension"),
        ({"extension": {"a": 1}}, "extension"),
        ({"datacontenttype": "nonsense"}, "datacontenttype"),
        ({"datacontenttype": "text/plain", "data": {"a": 1}}, "data"),
        ({"data": 1, "data_base64": "AA=="}, "data"),
        ({"data_base64": "?"}, "data_base64"),
        ({"data_base64": base64.b64encode(b"{").decode()}, "data"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(change: dict[str, JsonValue], named: str) -> None:
    """VALIDATION_ERROR says which attribute, what was found and what is allowed."""
    with pytest.raises(ModelOnexError, match=named) as caught:
        ModelEventEnvelope.from_cloudevent({**FOREIGN, **change})

    assert caught.value.error_code is Code.VALIDATION_ERROR


@pytest.mark.parametrize("text", ["", "[]", "{", "NaN", b"\xff", '{"specversion": NaN}'])
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    """Also numbers that JSON does not have."""
    with pytest.raises(ModelOnexError, match="CloudEvent"):
        ModelEventEnvelope.from_cloudevent(text)


def test_a_format_that_is_not_known_is_refused() -> None:
    """Structured mode in Avro cannot be read."""
    with pytest.raises(ModelOnexError, match="avro"):
        ModelEventEnvelope.from_kafka(None, [("content-type", b"application/cloudevents+avro")], b"")


def test_a_payload_of_another_model_is_refused_with_its_place() -> None:
    """The typed envelope says what does not fit, without the value."""
    with pytest.raises(ModelOnexError, match=r"payload\.number") as caught:
        ModelEventEnvelope[Order].from_cloudevent({**FOREIGN, "data": {"number": "secret-value"}})

    assert "secret-value" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        ({"a": 1}, {"datacontenttype": "text/plain"}),
        ("no base64", {"datacontenttype": "image/png", "datacontentencoding": "base64"}),
    ],
)
def test_a_payload_that_is_not_what_its_headers_say_cannot_be_sent(payload: object, headers: dict[str, str]) -> None:
    """VALIDATION_ERROR before anything leaves."""
    envelope: Event = ModelEventEnvelope(event_type="t", payload=payload, headers=headers)

    with pytest.raises(ModelOnexError) as caught:
        envelope.to_kafka(mode="binary")

    assert caught.value.error_code is Code.VALIDATION_ERROR


def test_an_id_is_unique_within_its_source() -> None:
    """Two sources may use one text; a UUID stays what it is."""
    identifier = str(uuid4())

    envelope = ModelEventEnvelope.from_cloudevent({**FOREIGN, "id": identifier})

    assert str(envelope.envelope_id) == identifier
    assert envelope.headers == {}
    assert envelope.to_cloudevent()["id"] == identifier
