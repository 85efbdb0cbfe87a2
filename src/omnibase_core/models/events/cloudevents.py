"""Envelopes as CloudEvents 1.0: the JSON format, and the Kafka binding in both of its modes.

How the fields travel. `type`, `source`, `id`, `time`, `subject` and `data` are CloudEvents' own; `correlationid`,
`causationid` and `schemaversion` are extension attributes. A header whose name and value an attribute may have (at most
20 lower-case letters and digits; text without control characters) is an attribute of that name; all others travel
together as JSON in the attribute `onexheaders`. So nothing is lost, and foreign attributes come back as they were.

What other systems send may be wider than an envelope. An id that is no UUID becomes one made of source and id, and the
original is kept in the header `cloudeventid` (`correlationid` and `causationid` likewise) and written back. Data that
is not JSON is text in the payload, with the header `datacontenttype`, or base64 with `datacontentencoding` beside it.
Not kept: the type of an attribute that is no text, parts of a second below microseconds, and whether data was null or
missing.
"""

import contextlib
import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypedDict, cast
from uuid import UUID, uuid5

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

SPEC_VERSION: Final = "1.0"
STRUCTURED_TYPE: Final = "application/cloudevents+json; charset=UTF-8"
JSON_TYPE: Final = "application/json"
_TRACE: Final = ("traceparent", "tracestate")
_NAMESPACE: Final = UUID("8f0f4f0c-3ad6-5a0e-9c3c-0d1f5a6b7e21")

_NAME: Final = re.compile(r"[a-z0-9]+")
_MAX_NAME: Final = 20
_MAX_INTEGER: Final = 2**31
_NOT_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_PLANE_END: Final = 0xFFFE
_URI_CHARACTERS: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/([\w!#$&^.+-]+)\s*(?:;.*)?", re.ASCII)
_OWN: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "data", "correlationid", "causationid", "schemaversion"}
    | {"onexheaders", "cloudeventid", "datacontentencoding"}
)
"""Names that a header cannot have as an attribute, because they mean something else there."""


class EnvelopeFields(TypedDict):
    """An envelope in JSON."""

    event_type: str
    payload: JsonValue
    envelope_id: str
    correlation_id: str
    causation_id: str | None
    source: str
    subject: str | None
    timestamp: str
    headers: dict[str, str]
    schema_version: str


class KafkaRecord(NamedTuple):
    """What goes into a Kafka record; no value at all is a tombstone where a topic is compacted."""

    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes | None


def is_attribute_text(value: str) -> bool:
    """Whether CloudEvents allows it as a String attribute that must not be empty."""
    if value.isascii() and value.isprintable():
        return value != ""
    return _NOT_TEXT.search(value) is None and all(ord(each) & _PLANE_END != _PLANE_END for each in value)


def is_uri_reference(value: str) -> bool:
    """Whether it is a URI reference of RFC 3986, and not empty."""
    if not _URI_CHARACTERS.fullmatch(value) or value.count("#") > 1:
        return False
    first, colon, _rest = re.split(r"[/?#]", value, maxsplit=1)[0].partition(":")
    return not colon or _SCHEME.fullmatch(first) is not None


def to_attributes(fields: EnvelopeFields) -> dict[str, JsonValue]:
    """The JSON format of an envelope."""
    headers = dict(fields["headers"])
    event: dict[str, JsonValue] = {
        "specversion": SPEC_VERSION,
        "id": _original(headers, "cloudeventid", fields["envelope_id"], fields["source"]),
        "source": fields["source"],
        "type": fields["event_type"],
        "time": fields["timestamp"],
        "datacontenttype": JSON_TYPE,
        "correlationid": _original(headers, "correlationid", fields["correlation_id"]),
        "schemaversion": fields["schema_version"],
    }
    if fields["subject"] is not None:
        event["subject"] = fields["subject"]
    if fields["causation_id"] is not None:
        event["causationid"] = _original(headers, "causationid", fields["causation_id"])
    _put_data(event, fields["payload"], headers)
    for name in [name for name in headers if _fits(name, headers[name])]:
        event[name] = headers.pop(name)
    if headers:
        event["onexheaders"] = json.dumps(headers, separators=(",", ":"))
    return event


def _original(headers: dict[str, str], name: str, own: str, source: str = "") -> str:
    """The text that `own` was derived from, when the headers hold it; else `own`."""
    foreign = headers.get(name)
    if foreign is None or not is_attribute_text(foreign) or _identified(foreign, source) != (own, foreign):
        return own
    del headers[name]
    return foreign


def _identified(text: str, source: str = "") -> tuple[str, str | None]:
    """(UUID, and the text where it is another one than the UUID's own)."""
    try:
        same = str(UUID(text)) == text
    except ValueError:
        same = False
    return (text, None) if same else (str(uuid5(_NAMESPACE, f"{source}\n{text}")), text)


def _fits(name: str, value: str) -> bool:
    if name in _OWN or len(name) > _MAX_NAME or not _NAME.fullmatch(name) or not is_attribute_text(value):
        return False
    if name == "dataschema":
        return is_uri_reference(value) and _SCHEME.fullmatch(value.partition(":")[0]) is not None and ":" in value
    return name != "datacontenttype"  # a valid one has been used by now


def _put_data(event: dict[str, JsonValue], payload: JsonValue, headers: dict[str, str]) -> None:
    content_type = headers.get("datacontenttype", JSON_TYPE)
    if content_type == JSON_TYPE or not _is_foreign_type(content_type):
        event["data"] = payload
        return
    del headers["datacontenttype"]
    event["datacontenttype"] = content_type
    if is_json(content_type):
        event["data"] = payload
    elif isinstance(payload, str):
        encoded = headers.get("datacontentencoding") == "base64"
        if encoded and _decoded(payload) is None:
            message = f"event {event['type']!r} as a CloudEvent: datacontentencoding says base64, the payload is none"
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
        event["data_base64" if encoded else "data"] = payload
    elif payload is not None:
        message = (
            f"event {event['type']!r} as a CloudEvent: a payload that is not JSON ({content_type!r} in the header "
            f"datacontenttype) must be text, found {type(payload).__name__}; remove the header, or encode the payload"
        )
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def _is_foreign_type(content_type: str) -> bool:
    """Whether a header may stand as the type of the data; an event inside an event could not be told apart."""
    cloud_event = content_type.lower().startswith("application/cloudevents")
    return not cloud_event and is_attribute_text(content_type) and _MEDIA_TYPE.fullmatch(content_type) is not None


def is_json(content_type: str) -> bool:
    """Whether a media type says JSON: `*/json` or `*/*+json`."""
    match = _MEDIA_TYPE.fullmatch(content_type)
    subtype = "" if match is None else match[1].lower()
    return subtype == "json" or subtype.endswith("+json")


def _decoded(text: str) -> bytes | None:
    """The bytes of canonical base64, or None."""
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None
    return data if b64encode(data).decode() == text else None


def from_attributes(event: Mapping[str, JsonValue] | str | bytes) -> dict[str, object]:
    """The fields of an envelope out of the JSON format; VALIDATION_ERROR names the attribute that breaks a rule."""
    if isinstance(event, str | bytes):
        event = _object(event)
    attributes: dict[str, str] = {}
    for name, value in event.items():
        if name not in {"data", "data_base64"} and value is not None:  # null is unset
            attributes[name] = _text(name, value)
    if "data" in event and event.get("data_base64") is not None:
        raise _refused("data", "stands beside data_base64", "one of the two", event)
    return _fields(attributes, event.get("data"), event.get("data_base64"))


def _object(text: str | bytes) -> Mapping[str, JsonValue]:
    try:
        event = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        message = f"a CloudEvent in JSON format is a JSON object; {error}"
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR) from None
    if not isinstance(event, dict):
        message = f"a CloudEvent in JSON format is a JSON object, found {type(event).__name__}"
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
    return event


def _text(name: str, value: JsonValue) -> str:
    """An attribute's value in the canonical text form of its type."""
    if not _NAME.fullmatch(name):
        raise _refused(name, f"is called {name!r}", "lower-case letters and digits")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -_MAX_INTEGER <= value < _MAX_INTEGER:
        return str(value)
    if not isinstance(value, str):
        raise _refused(name, f"is {value!r}", "text, a truth value or a whole number of 32 bits")
    return value


def _fields(attributes: dict[str, str], data: JsonValue, data_base64: JsonValue) -> dict[str, object]:
    if (version := attributes.pop("specversion", None)) != SPEC_VERSION:
        raise _refused("specversion", f"is {version!r}", repr(SPEC_VERSION))
    for name in ("id", "source", "type"):
        if not is_attribute_text(attributes.get(name, "")):
            raise _refused(name, f"is {attributes.get(name)!r}", "text without control characters, not empty")
    source = attributes.pop("source")
    headers: dict[str, str] = {}
    fields: dict[str, object] = {"event_type": attributes.pop("type"), "source": source, "headers": headers}
    kept: dict[str, str] = {}
    fields["envelope_id"] = _read_id(attributes.pop("id"), "cloudeventid", kept, source)
    correlation = attributes.pop("correlationid", None)
    if correlation:
        fields["correlation_id"] = _read_id(correlation, "correlationid", kept)
    else:
        fields["correlation_id"] = fields["envelope_id"]
    if causation := attributes.pop("causationid", None):
        fields["causation_id"] = _read_id(causation, "causationid", kept)
    if "time" in attributes:
        fields["timestamp"] = _time(attributes.pop("time"))
    if "subject" in attributes:
        fields["subject"] = attributes.pop("subject")
    if _VERSION.fullmatch(attributes.get("schemaversion", "")):
        fields["schema_version"] = attributes.pop("schemaversion")
    content_type = attributes.pop("datacontenttype", JSON_TYPE)
    if not _MEDIA_TYPE.fullmatch(content_type):
        raise _refused("datacontenttype", f"is {content_type!r}", "a media type such as 'application/json'")
    fields["payload"], encoding = _payload(content_type, data, data_base64)
    more = _more_headers(attributes.get("onexheaders"))
    if more is not None:
        del attributes["onexheaders"]
    headers.update(attributes)
    if content_type != JSON_TYPE:
        headers["datacontenttype"] = content_type
    headers.update(encoding)
    headers.update(kept)
    headers.update(more or {})
    return fields


def _read_id(text: str, name: str, kept: dict[str, str], source: str = "") -> str:
    identifier, original = _identified(text, source)
    if original is not None:
        kept[name] = original
    return identifier


_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


def _time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise _refused("time", f"is {text!r}", "a time of RFC 3339 with its offset, such as '2024-05-06T07:08:09Z'")
    return text.upper()


def _payload(content_type: str, data: JsonValue, data_base64: JsonValue) -> tuple[JsonValue, dict[str, str]]:
    """(payload, headers that say how it is encoded)."""
    if data_base64 is None:
        if not is_json(content_type) and not isinstance(data, str | None):
            raise _refused("data", f"is {type(data).__name__}", f"text, because its type is {content_type!r}")
        return data, {}
    raw = _decoded(data_base64) if isinstance(data_base64, str) else None
    if raw is None:
        raise _refused("data_base64", "is no base64 text", "base64 with its padding")
    if is_json(content_type):
        return _json(raw), {}
    return data_base64, {"datacontentencoding": "base64"}


def _json(raw: bytes) -> JsonValue:
    try:
        return cast("JsonValue", from_json(raw, allow_inf_nan=False))  # what JSON holds
    except ValueError as error:
        raise _refused("data", f"is no JSON ({error})", "JSON, as its content type says") from None


def _more_headers(text: str | None) -> dict[str, str] | None:
    """Headers that could not be attributes; None when the attribute is not ours."""
    try:
        found = json.loads(text) if text is not None else None
    except ValueError:
        return None
    ours = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return cast("dict[str, str]", found) if ours else None  # checked on the line above


def _refused(name: str, found: str, allowed: str, event: Mapping[str, JsonValue] | None = None) -> ModelOnexError:
    of_event = f" (event {event.get('id')!r})" if event else ""
    message = f"a CloudEvent's attribute {name!r} {found}{of_event}; allowed: {allowed}. Correct the producer"
    return ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR, {"attribute": name})


def to_record(event: dict[str, JsonValue], key: str | None, *, structured: bool) -> KafkaRecord:
    """The Kafka record of an event in JSON format."""
    record_key = None if key is None else key.encode()
    plain = [(name, str(event[name]).encode()) for name in _TRACE if name in event]
    if structured:
        return KafkaRecord(record_key, [("content-type", STRUCTURED_TYPE.encode()), *plain], to_json(event))
    content_type = str(event["datacontenttype"])
    headers = [("content-type", content_type.encode())]
    for name, value in event.items():
        if name not in {"data", "data_base64", "datacontenttype"}:
            headers.append((f"ce_{name}", str(value).encode()))  # all of ours are texts
    return KafkaRecord(record_key, [*headers, *plain], _bytes(content_type, event))


def _bytes(content_type: str, event: Mapping[str, JsonValue]) -> bytes | None:
    if "data_base64" in event:
        return b64decode(str(event["data_base64"]))
    if is_json(content_type):
        return to_json(event["data"])
    return str(event["data"]).encode() if "data" in event else None


def from_record(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> dict[str, object]:
    """The fields of an envelope out of a Kafka record in either mode."""
    attributes: dict[str, str] = {}
    plain: dict[str, str] = {}
    content_type = ""
    for name, raw in headers:
        text = (raw or b"").decode(errors="backslashreplace")
        if name.lower() == "content-type":
            content_type = text
        elif name.startswith("ce_"):
            attributes[name[3:]] = _text(name[3:], text)
        else:
            plain[name] = text
    if content_type.lower().startswith("application/cloudevents"):
        if not is_json(content_type):
            raise _refused("content-type", f"is {content_type!r}", repr(STRUCTURED_TYPE))
        fields = from_attributes(value or b"")
    else:
        fields = _from_binary(attributes, content_type or JSON_TYPE, value)
    own = cast("dict[str, str]", fields["headers"])  # written by `_fields`
    for name, text in plain.items():
        if name in _TRACE or name not in own:
            own[name] = text
    return fields


def _from_binary(attributes: dict[str, str], content_type: str, value: bytes | None) -> dict[str, object]:
    attributes["datacontenttype"] = content_type
    if value is None:
        return _fields(attributes, None, None)
    if is_json(content_type):
        return _fields(attributes, _json(value), None)
    more = _more_headers(attributes.get("onexheaders")) or {}
    if more.get("datacontentencoding") != "base64":
        with contextlib.suppress(UnicodeDecodeError):
            return _fields(attributes, value.decode(), None)
    return _fields(attributes, None, b64encode(value).decode())
