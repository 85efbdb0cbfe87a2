"""Envelopes: what travels with a payload, so that an event can be found, ordered, told apart and traced back."""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated, Final, Generic, Literal, Self, cast
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SerializeAsAny,
    ValidationError,
    field_validator,
)
from typing_extensions import TypeVar  # pydantic's own dependency; typing has defaults from Python 3.13 on

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.models.events import cloudevents
from omnibase_core.models.events.payload import model_or_json
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.model_semver import ModelSemVer
from omnibase_core.models.primitives.strict_types import StrictText
from omnibase_core.models.primitives.trusted import trusted

P_co = TypeVar("P_co", covariant=True, default=object)
Q = TypeVar("Q")

DEFAULT_SOURCE: Final = "/onex"
_FIRST_VERSION: Final = ModelSemVer(1, 0, 0)
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_TRACE_HEADERS: Final = ("traceparent", "tracestate")


def _attribute(value: str) -> str:
    if not cloudevents.is_attribute_text(value):
        message = f"must be text without control characters, not empty; found {value!r}"
        raise ValueError(message)
    return value


def _source(value: str) -> str:
    if not cloudevents.is_uri_reference(value):
        message = f"must be a URI reference such as '/orders' or 'https://example.com/orders'; found {value!r}"
        raise ValueError(message)
    return value


def _version(value: object) -> object:
    if isinstance(value, str):
        if not _VERSION.fullmatch(value):
            message = f"must be three numbers such as '1.0.0'; found {value!r}"
            raise ValueError(message)
        return ModelSemVer.parse(value)
    return value


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _has_no_parameter(model: type[BaseModel]) -> bool:
    annotation: object = model.model_fields["payload"].annotation
    return isinstance(annotation, TypeVar)


def _now() -> datetime:
    return datetime.now(UTC)


def _current_correlation_id() -> UUID:
    return current_correlation_id.get() or new_id()


AttributeText = Annotated[StrictText, AfterValidator(_attribute)]
SourceText = Annotated[StrictText, AfterValidator(_source)]
VersionText = Annotated[ModelSemVer, BeforeValidator(_version), PlainSerializer(str)]
UtcTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Headers = dict[StrictText, StrictText]


class ModelEventEnvelope(BaseModel, Generic[P_co]):
    """An event: what happened (`event_type`, `payload`), and whence.

    payload: any pydantic model, or JSON. `ModelEventEnvelope[Order]` reads an `Order` back from JSON; without a
        parameter what is read is JSON. An instance is kept as it is, JSON is copied.
    envelope_id: what deduplication goes by. correlation_id: that of the current context, else a new one.
    causation_id: `envelope_id` of the event that led to this one. source: URI reference of who says so.
    subject: what the event is about within `source`. timestamp: aware, converted to UTC, in microseconds.
    headers: anything else that travels along, such as W3C trace context (`traceparent`, `tracestate`) and
        `partitionkey`. schema_version: that of the payload; also given and written as text.

    `event_type`, `source` and `subject` obey the rules of CloudEvents 1.0, so that every envelope can be one. Hashed by
    `envelope_id`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: AttributeText
    payload: SerializeAsAny[P_co]
    envelope_id: UUID = Field(default_factory=new_id)
    correlation_id: UUID = Field(default_factory=_current_correlation_id)
    causation_id: UUID | None = None
    source: SourceText = DEFAULT_SOURCE
    subject: AttributeText | None = None
    timestamp: UtcTime = Field(default_factory=_now)
    headers: Headers = Field(default_factory=dict)
    schema_version: VersionText = _FIRST_VERSION

    @field_validator("payload")
    @classmethod
    def _model_or_json(cls, value: object) -> object:
        return model_or_json(value) if _has_no_parameter(cls) else value  # with one, the parameter has judged it

    def __hash__(self) -> int:
        return hash(self.envelope_id)

    @staticmethod
    def of(payload: Q, *, event_type: str | None = None) -> "ModelEventEnvelope[Q]":
        """The envelope of a model, whose class name is the event type unless one is given.

        Inside the handler of another event that one is the cause: its correlation id and trace context go on. JSON has
        no class name: without `event_type` it is refused with VALIDATION_ERROR.
        """
        cause = _current_envelope.get()
        if cause is not None:
            return cause.reply(payload, event_type=event_type)
        if event_type is not None or not isinstance(payload, BaseModel):
            return ModelEventEnvelope(event_type=_type_of(payload, event_type), payload=payload)
        return _fresh(type(payload).__name__, payload, current_correlation_id.get() or new_id(), None, {})

    def reply(
        self,
        payload: Q,
        *,
        event_type: str | None = None,
        source: str = DEFAULT_SOURCE,
        subject: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "ModelEventEnvelope[Q]":
        """An event that this one caused: same correlation id and trace context, `causation_id` is this one's id."""
        traced: dict[str, str] = {name: self.headers[name] for name in _TRACE_HEADERS if name in self.headers}
        if event_type is None and subject is None and source is DEFAULT_SOURCE and isinstance(payload, BaseModel):
            traced.update(headers or {})
            return _fresh(type(payload).__name__, payload, self.correlation_id, self.envelope_id, traced)
        return ModelEventEnvelope(
            event_type=_type_of(payload, event_type),
            payload=payload,
            correlation_id=self.correlation_id,
            causation_id=self.envelope_id,
            source=source,
            subject=subject,
            headers=traced | dict(headers or {}),
        )

    @property
    def partition_key(self) -> str | None:
        """The header `partitionkey`, after CloudEvents' extension: events of one key stay in order."""
        return self.headers.get("partitionkey")

    def to_cloudevent(self) -> dict[str, JsonValue]:
        """The event in CloudEvents 1.0's JSON format. `cloudevents` says how headers travel; nothing is lost.

        VALIDATION_ERROR when a header `datacontenttype` says that the payload is no JSON, but it is not text either.
        """
        fields = self.model_dump(mode="json")
        return cloudevents.to_attributes(cast("cloudevents.EnvelopeFields", fields))  # this model's own dump

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, JsonValue] | str | bytes) -> Self:
        """The envelope of a CloudEvent 1.0 in JSON format, parsed or as text. VALIDATION_ERROR names what is wrong.

        What CloudEvents does not demand is filled in: a missing time with now, a missing correlation id with the
        envelope's id. An id that is no UUID becomes one made of source and id, the same each time, and is kept.
        """
        return cls._built(cloudevents.from_attributes(event))

    def to_kafka(
        self, *, mode: Literal["structured", "binary"] = "structured", key: str | None = None
    ) -> cloudevents.KafkaRecord:
        """The record of CloudEvents' Kafka binding; its key is `key`, else the header `partitionkey`, else none.

        Trace context is written as the attributes and as plain headers, where tracing tools look for it.
        """
        chosen = self.partition_key if key is None else key
        return cloudevents.to_record(self.to_cloudevent(), chosen, structured=mode == "structured")

    @classmethod
    def from_kafka(
        cls, _key: bytes | None, headers: Iterable[tuple[str, bytes | None]], value: bytes | None, /
    ) -> Self:
        """The envelope of a record in either mode. A record's key is no part of an event, so it is not looked at.

        Headers that are not CloudEvents' become headers of the envelope; where both carry trace context, the plain ones
        win, because they tell of the last hop.
        """
        return cls._built(cloudevents.from_record(headers, value))

    @classmethod
    def _built(cls, fields: dict[str, object]) -> Self:
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            message = f"CloudEvent {fields['event_type']!r} cannot be read as {cls.__name__}: {found}"
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR, {"errors": error.error_count()}) from None


_FIELDS: Final = frozenset(ModelEventEnvelope.model_fields)
_current_envelope: ContextVar[ModelEventEnvelope[object] | None] = ContextVar("onex_envelope", default=None)


def current_envelope() -> ModelEventEnvelope[object] | None:
    """The event whose handler is running, or None."""
    return _current_envelope.get()


set_current_envelope: Final = _current_envelope.set
"""For buses and dispatchers: say whose handler runs in this context from now on."""


def _fresh(
    event_type: str, payload: Q, correlation_id: UUID, causation_id: UUID | None, headers: dict[str, str]
) -> ModelEventEnvelope[Q]:
    values: dict[str, object] = {
        "event_type": event_type,
        "payload": payload,
        "envelope_id": new_id(),
        "correlation_id": correlation_id,
        "causation_id": causation_id,
        "source": DEFAULT_SOURCE,
        "subject": None,
        "timestamp": datetime.now(UTC),
        "headers": headers,
        "schema_version": _FIRST_VERSION,
    }
    made: ModelEventEnvelope[Q] = trusted(ModelEventEnvelope, values, set(_FIELDS))
    return made


def _type_of(payload: object, event_type: str | None) -> str:
    if event_type is not None:
        return event_type
    if isinstance(payload, BaseModel):
        return type(payload).__name__
    message = (
        f"an event is an envelope or a pydantic model, whose class name is its type; found {type(payload).__name__}. "
        "Say ModelEventEnvelope(event_type=..., payload=...)"
    )
    raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


class ModelEnvelopeMetadata(BaseModel):
    """All of an envelope but its payload; the fields are those of `ModelEventEnvelope`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    envelope_id: UUID = Field(default_factory=new_id)
    correlation_id: UUID = Field(default_factory=_current_correlation_id)
    causation_id: UUID | None = None
    event_type: AttributeText | None = None
    source: SourceText = DEFAULT_SOURCE
    subject: AttributeText | None = None
    timestamp: UtcTime = Field(default_factory=_now)
    headers: Headers = Field(default_factory=dict)
    schema_version: VersionText = _FIRST_VERSION

    def __hash__(self) -> int:
        return hash(self.envelope_id)


class ModelOnexEnvelope(BaseModel, Generic[P_co]):
    """What a node's handler is given: `metadata`, and the payload, which may be a command as well as an event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payload: SerializeAsAny[P_co]
    metadata: ModelEnvelopeMetadata = Field(default_factory=ModelEnvelopeMetadata)

    @field_validator("payload")
    @classmethod
    def _model_or_json(cls, value: object) -> object:
        return model_or_json(value) if _has_no_parameter(cls) else value  # as above

    def __hash__(self) -> int:
        return hash(self.metadata)

    @staticmethod
    def of_event(event: ModelEventEnvelope[Q]) -> "ModelOnexEnvelope[Q]":
        """The same event in this shape."""
        fields = dict(event.__dict__)
        payload: Q = fields.pop("payload")
        return ModelOnexEnvelope(payload=payload, metadata=ModelEnvelopeMetadata(**fields))

    def to_event(self) -> ModelEventEnvelope[P_co]:
        """The event; without `event_type` in the metadata, that of `ModelEventEnvelope.of`."""
        fields = dict(self.metadata.__dict__)
        fields["event_type"] = _type_of(self.payload, self.metadata.event_type)
        return ModelEventEnvelope(payload=self.payload, **fields)


def as_envelope(event: ModelEventEnvelope[object] | BaseModel) -> ModelEventEnvelope[object]:
    """What `publish` makes of its argument: an envelope as it is, a model in one; VALIDATION_ERROR for the rest."""
    if isinstance(event, ModelEventEnvelope):
        return event
    if isinstance(event, ModelOnexEnvelope):
        return event.to_event()
    return ModelEventEnvelope.of(event)
