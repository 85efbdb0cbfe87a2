"""What a handler of each node kind may return, and nothing else (overview, section 1)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Generic, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    SerializeAsAny,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from typing_extensions import TypeVar  # pydantic's own dependency; typing has defaults from Python 3.13 on

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_node_kind import EnumNodeKind
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope, current_envelope
from omnibase_core.models.events.payload import Payload, model_or_json
from omnibase_core.models.primitives.identifiers import new_id

R_co = TypeVar("R_co", covariant=True, default=object)
Q = TypeVar("Q")

ALLOWED: Final[Mapping[EnumNodeKind, frozenset[str]]] = {
    EnumNodeKind.COMPUTE: frozenset({"result"}),
    EnumNodeKind.EFFECT: frozenset({"events"}),
    EnumNodeKind.REDUCER: frozenset({"projections"}),
    EnumNodeKind.ORCHESTRATOR: frozenset({"events", "intents"}),
}
"""The table of the specification; COMPUTE's `result` is also required."""

_FIELDS: Final = ("result", "events", "intents", "projections")
_ENVELOPE_FIELDS: Final = frozenset(ModelEventEnvelope.model_fields)


def _event(value: object) -> BaseModel | JsonValue:
    """An envelope that was written as JSON has all of its fields, and comes back as an envelope."""
    if isinstance(value, dict) and value.keys() == _ENVELOPE_FIELDS:
        return ModelEventEnvelope[JsonValue].model_validate(value)
    return model_or_json(value)


EventPayload = Annotated[
    SerializeAsAny[BaseModel | JsonValue], PlainValidator(_event), WithJsonSchema({"description": "any JSON"})
]


class ModelHandlerOutput(BaseModel, Generic[R_co]):
    """What one handler made of one input. Built through `for_compute`, `for_effect`, `for_reducer`, `for_orchestrator`.

    result: any pydantic model or JSON. None is no result; `0`, `False`, `""`, `[]` are results.
    events: envelopes, or models that `envelopes` wraps. intents, projections: pydantic models or JSON objects.
    input_envelope_id: the envelope that was handled. correlation_id: that of the call.

    A field that the kind does not allow, or a result that is missing, is a VALIDATION_ERROR however it is built. JSON
    comes back equal; a model comes back as JSON unless the parameter says which: `ModelHandlerOutput[Order]` for the
    result. Empty lists count as nothing returned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    node_kind: EnumNodeKind
    input_envelope_id: UUID
    correlation_id: UUID
    result: SerializeAsAny[R_co] | None = None
    events: list[EventPayload] = Field(default_factory=list)
    intents: list[Payload] = Field(default_factory=list)
    projections: list[Payload] = Field(default_factory=list)

    @field_validator("result")
    @classmethod
    def _model_or_json(cls, value: object) -> object:
        return model_or_json(value) if cls is ModelHandlerOutput else value  # with a parameter, that has judged it

    @model_validator(mode="after")
    def _only_what_the_kind_allows(self) -> Self:
        allowed = ALLOWED[self.node_kind]
        for name in _FIELDS:
            value: object = getattr(self, name)
            given = value is not None if name == "result" else value != []
            if given and name not in allowed:
                raise _refusal(self.node_kind, name, value, self.correlation_id)
        if "result" in allowed and self.result is None:
            raise _missing(self.node_kind, "result", self.correlation_id)
        return self

    @staticmethod
    def for_compute(
        *, result: Q | None = None, input_envelope_id: UUID | None = None, correlation_id: UUID | None = None
    ) -> "ModelHandlerOutput[Q]":
        """The result of a COMPUTE handler; it is required.

        input_envelope_id: by default that of the event whose handler is running; without one it is required.
        correlation_id: by default that of the current context, else a new one. Both hold for all four.
        """
        return _build(EnumNodeKind.COMPUTE, input_envelope_id, correlation_id, result=result)

    @staticmethod
    def for_effect(
        *,
        events: Sequence[BaseModel | JsonValue] = (),
        input_envelope_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> "ModelHandlerOutput[None]":
        """The events that say what an EFFECT handler did."""
        return _build(EnumNodeKind.EFFECT, input_envelope_id, correlation_id, events=list(events))

    @staticmethod
    def for_reducer(
        *,
        projections: Sequence[BaseModel | JsonValue] = (),
        input_envelope_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> "ModelHandlerOutput[None]":
        """The new state that a REDUCER handler arrived at."""
        return _build(EnumNodeKind.REDUCER, input_envelope_id, correlation_id, projections=list(projections))

    @staticmethod
    def for_orchestrator(
        *,
        events: Sequence[BaseModel | JsonValue] = (),
        intents: Sequence[BaseModel | JsonValue] = (),
        input_envelope_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> "ModelHandlerOutput[None]":
        """What an ORCHESTRATOR handler says happened, and what it wants done."""
        kind = EnumNodeKind.ORCHESTRATOR
        return _build(kind, input_envelope_id, correlation_id, events=list(events), intents=list(intents))

    def envelopes(self) -> list[ModelEventEnvelope[object]]:
        """The events ready to be published: a model is wrapped, caused by the input. VALIDATION_ERROR for bare JSON."""
        return [self._envelope(event) for event in self.events]

    def _envelope(self, event: BaseModel | JsonValue) -> ModelEventEnvelope[object]:
        if isinstance(event, ModelEventEnvelope):
            return event
        if not isinstance(event, BaseModel):
            message = (
                f"an event of {self.node_kind} cannot be published: {type(event).__name__} has no event type; "
                "return a pydantic model or a ModelEventEnvelope"
            )
            raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR, None, self.correlation_id)
        return ModelEventEnvelope[object](
            event_type=type(event).__name__,
            payload=event,
            correlation_id=self.correlation_id,
            causation_id=self.input_envelope_id,
        )


def _build(
    kind: EnumNodeKind, input_envelope_id: UUID | None, correlation_id: UUID | None, **returned: object
) -> ModelHandlerOutput[Q]:
    correlation_id = correlation_id or current_correlation_id.get() or new_id()
    if input_envelope_id is None:
        handled = current_envelope()
        if handled is None:
            raise _missing(kind, "input_envelope_id", correlation_id)
        input_envelope_id = handled.envelope_id
    fields = {"node_kind": kind, "input_envelope_id": input_envelope_id, "correlation_id": correlation_id, **returned}
    made: ModelHandlerOutput[Q] = ModelHandlerOutput.model_validate(fields)
    return made


def _refusal(kind: EnumNodeKind, name: str, value: object, correlation_id: UUID) -> ModelOnexError:
    allowed = ", ".join(sorted(ALLOWED[kind]))
    message = (
        f"output of kind {kind}: {name!r} is forbidden (found {type(value).__name__}), allowed: {allowed}. "
        f"Build it with ModelHandlerOutput.for_{kind.lower()}(...), or do this in a node of another kind"
    )
    return ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR, _context(kind, name), correlation_id)


def _missing(kind: EnumNodeKind, name: str, correlation_id: UUID) -> ModelOnexError:
    message = (
        f"output of kind {kind}: {name!r} is missing (found None), and required; "
        f"give it: ModelHandlerOutput.for_{kind.lower()}({name}=...)"
    )
    return ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR, _context(kind, name), correlation_id)


def _context(kind: EnumNodeKind, name: str) -> dict[str, object]:
    return {"field": name, "node_kind": kind.value}
