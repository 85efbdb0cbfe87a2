"""What a handler of each kind may return."""

from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_node_kind import EnumNodeKind
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.models.dispatch.model_handler_output import ModelHandlerOutput
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope, set_current_envelope


class Total(BaseModel):
    cents: int


INPUT, CALL = uuid4(), uuid4()
EVENT = ModelEventEnvelope[JsonValue](event_type="t", payload={"a": [1]})
VALUES: dict[str, object] = {
    "result": {"a": 1},
    "events": [EVENT],
    "intents": [{"kind": "send"}],
    "projections": [{"state": "new"}],
}
ALLOWED = {
    EnumNodeKind.COMPUTE: {"result"},
    EnumNodeKind.EFFECT: {"events"},
    EnumNodeKind.REDUCER: {"projections"},
    EnumNodeKind.ORCHESTRATOR: {"events", "intents"},
}


@pytest.mark.parametrize("result", [0, False, "", [], {}, 0.0, 1, "x", [None], {"a": {"b": []}}, True])
def test_a_falsy_result_is_a_result(result: object) -> None:
    """Of its own type, and it comes back from JSON as it was."""
    output = ModelHandlerOutput.for_compute(result=result, input_envelope_id=INPUT, correlation_id=CALL)

    back: ModelHandlerOutput[object] = ModelHandlerOutput.model_validate_json(output.model_dump_json())

    assert output.result == result
    assert type(output.result) is type(result)
    assert back == output
    assert type(back.result) is type(result)


def test_a_missing_result_is_an_error() -> None:
    """Left out, None, or not there in what was built directly."""
    expected = r"COMPUTE.*'result' is missing"

    with pytest.raises(ModelOnexError, match=expected) as caught:
        ModelHandlerOutput.for_compute(input_envelope_id=INPUT, correlation_id=CALL)
    with pytest.raises(ModelOnexError, match=expected):
        ModelHandlerOutput.for_compute(result=None, input_envelope_id=INPUT, correlation_id=CALL)
    with pytest.raises(ModelOnexError, match=expected):
        ModelHandlerOutput(node_kind="COMPUTE", input_envelope_id=INPUT, correlation_id=CALL)
    assert caught.value.error_code is Code.VALIDATION_ERROR


@pytest.mark.parametrize("kind", EnumNodeKind)
@pytest.mark.parametrize("field", VALUES)
def test_the_table_of_what_each_kind_may_return(kind: EnumNodeKind, field: str) -> None:
    """Directly built too: a forbidden field is VALIDATION_ERROR that names the field and the kind."""
    fields: dict[str, object] = {"node_kind": kind, "input_envelope_id": INPUT, "correlation_id": CALL}
    if kind is EnumNodeKind.COMPUTE:
        fields["result"] = 1
    fields[field] = VALUES[field]

    if field in ALLOWED[kind]:
        output: ModelHandlerOutput[object] = ModelHandlerOutput.model_validate(fields)
        assert getattr(output, field) == VALUES[field]
        return
    with pytest.raises(ModelOnexError) as caught:
        ModelHandlerOutput.model_validate(fields)
    assert caught.value.error_code is Code.VALIDATION_ERROR
    assert caught.value.context == {"field": field, "node_kind": kind.value}
    assert caught.value.correlation_id == CALL
    assert repr(field) in str(caught.value)
    assert kind.value in str(caught.value)


@pytest.mark.parametrize("result", [0, False, "", []])
def test_a_falsy_result_is_forbidden_where_a_result_is(result: object) -> None:
    """It is there, so it counts."""
    with pytest.raises(ModelOnexError, match="'result' is forbidden"):
        ModelHandlerOutput(node_kind="EFFECT", input_envelope_id=INPUT, correlation_id=CALL, result=result)


def test_each_kind_has_its_constructor() -> None:
    """Ids are kept; what is not given is empty; nothing to say is allowed but for COMPUTE."""
    outputs: list[ModelHandlerOutput[object]] = [
        ModelHandlerOutput.for_compute(result=Total(cents=1), input_envelope_id=INPUT, correlation_id=CALL),
        ModelHandlerOutput.for_effect(events=[EVENT], input_envelope_id=INPUT, correlation_id=CALL),
        ModelHandlerOutput.for_reducer(projections=[Total(cents=2)], input_envelope_id=INPUT, correlation_id=CALL),
        ModelHandlerOutput.for_orchestrator(
            events=[EVENT], intents=[{"a": 1}], input_envelope_id=INPUT, correlation_id=CALL
        ),
        ModelHandlerOutput.for_effect(input_envelope_id=INPUT, correlation_id=CALL),
    ]

    assert [output.node_kind for output in outputs] == ["COMPUTE", "EFFECT", "REDUCER", "ORCHESTRATOR", "EFFECT"]
    assert {output.input_envelope_id for output in outputs} == {INPUT}
    assert {output.correlation_id for output in outputs} == {CALL}
    assert [len(output.events) for output in outputs] == [0, 1, 0, 1, 0]
    assert outputs[2].projections == [Total(cents=2)]
    assert outputs[3].intents == [{"a": 1}]


def test_events_and_json_come_back_from_json_equal() -> None:
    """Envelopes as envelopes; models as JSON, except the result whose model the parameter names."""
    output = ModelHandlerOutput.for_orchestrator(
        events=[EVENT, {"x": 1}], intents=[{"kind": "send"}], input_envelope_id=INPUT, correlation_id=CALL
    )
    total = ModelHandlerOutput.for_compute(result=Total(cents=3), input_envelope_id=INPUT, correlation_id=CALL)

    back: ModelHandlerOutput[object] = ModelHandlerOutput.model_validate_json(output.model_dump_json())
    typed = ModelHandlerOutput[Total].model_validate_json(total.model_dump_json())

    assert back == output
    assert isinstance(back.events[0], ModelEventEnvelope)
    assert back.model_dump_json() == output.model_dump_json()
    assert typed == total
    assert typed.result == Total(cents=3)


def test_an_output_is_frozen_and_knows_its_fields() -> None:
    """Unknown fields are refused; what JSON cannot hold too."""
    output = ModelHandlerOutput.for_compute(result=1, input_envelope_id=INPUT, correlation_id=CALL)

    with pytest.raises(ValidationError, match="frozen"):
        output.result = 2  # type: ignore[misc]  # what is under test
    with pytest.raises(ValidationError, match="extra"):
        ModelHandlerOutput(node_kind="EFFECT", input_envelope_id=INPUT, correlation_id=CALL, extra=1)  # type: ignore[call-arg]  # what is under test
    with pytest.raises(ValidationError, match="result"):
        ModelHandlerOutput.for_compute(result=object(), input_envelope_id=INPUT)
    with pytest.raises(ValidationError, match="intents"):
        ModelHandlerOutput.for_orchestrator(intents=[object()], input_envelope_id=INPUT)  # type: ignore[list-item]  # what is under test


def test_ids_come_from_the_context_when_they_are_not_given() -> None:
    """The event whose handler runs, and the current correlation id; without an event the input has to be named."""
    correlation = uuid4()
    correlation_token = current_correlation_id.set(correlation)
    envelope_token = set_current_envelope(EVENT)
    try:
        inside = ModelHandlerOutput.for_effect()
    finally:
        envelope_token.var.reset(envelope_token)
        current_correlation_id.reset(correlation_token)

    assert (inside.input_envelope_id, inside.correlation_id) == (EVENT.envelope_id, correlation)
    with pytest.raises(ModelOnexError, match="input_envelope_id"):
        ModelHandlerOutput.for_effect(correlation_id=CALL)
    assert isinstance(ModelHandlerOutput.for_effect(input_envelope_id=INPUT).correlation_id, UUID)


def test_events_are_ready_to_be_published() -> None:
    """Models are wrapped as caused by the input; envelopes stay; bare JSON has no event type."""
    output = ModelHandlerOutput.for_effect(events=[EVENT, Total(cents=1)], input_envelope_id=INPUT, correlation_id=CALL)

    same, wrapped = output.envelopes()

    assert same is EVENT
    assert (wrapped.event_type, wrapped.payload) == ("Total", Total(cents=1))
    assert (wrapped.causation_id, wrapped.correlation_id) == (INPUT, CALL)
    with pytest.raises(ModelOnexError, match="event type"):
        ModelHandlerOutput.for_effect(events=[{"a": 1}], input_envelope_id=INPUT).envelopes()
