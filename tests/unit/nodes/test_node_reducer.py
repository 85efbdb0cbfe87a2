"""The REDUCER node: a machine from a contract, a machine from Python, and a node of code."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid5

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ContractError, ModelOnexError
from omnibase_core.mixins.purity_guard import PurityError
from omnibase_core.models.fsm_state import FsmState, LayeredMap
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.models.model_reducer_output import ModelReducerOutput
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.utils.fsm_executor import FsmAction, begin

ID = UUID("6f4d1f0e-5f0b-4d53-9f0a-0e1c5a7d2b11")
CONTRACT = """\
reducer_subcontract:
  state_machine:
    state_machine_name: orders
    initial_state: IDLE
    initial_context: {count: 0}
    strict: false
    states:
      - state_name: IDLE
      - {state_name: PLACED, entry_intents: [{intent_type: notification, target: mail, payload: "${state.total}"}]}
      - {state_name: CANCELLED, is_terminal: true}
    transitions:
      - transition_name: place
        from_state: IDLE
        to_state: PLACED
        trigger: PLACE
        assign: {total: "${payload.total}"}
      - {transition_name: cancel, from_state: "*", to_state: CANCELLED, trigger: CANCEL}
"""


async def test_a_machine_from_a_contract_gives_state_intents_and_what_happened() -> None:
    """The new state is the state of the next input; the node keeps none."""
    node = NodeReducer.from_contract(None, CONTRACT)

    placed = await node.process(ModelReducerInput(action="PLACE", payload={"total": 5}, operation_id=ID))
    again = await node.process(ModelReducerInput(action="PLACE", payload={"total": 5}, operation_id=ID))
    ended = await node.process(ModelReducerInput(action="CANCEL", state=placed.new_state))

    assert placed.result == {
        "state": "PLACED",
        "context": {"count": 0, "total": 5},
        "version": 1,
        "history_length": 1,
    }
    assert (placed.new_state, placed.intents) == (again.new_state, again.intents)
    assert placed.state_metadata.model_dump() == {
        "previous_state": "IDLE",
        "new_state": "PLACED",
        "transition": "place",
        "intents_emitted": 1,
    }
    assert [(made.intent_id, made.payload, made.correlation_id) for made in placed.intents] == [
        (uuid5(ID, "place:0"), 5, ID)
    ]
    assert placed.reduction_metrics.state_size == 2
    assert ended.state_metadata.new_state == "CANCELLED"


async def test_an_output_is_written_as_json_and_its_state_goes_on() -> None:
    """A snapshot from a store works as the state itself; so does the name of a state, with the initial data."""
    node = NodeReducer.from_contract(None, CONTRACT)
    placed = await node.process(ModelReducerInput(action="PLACE", payload={"total": 5}, operation_id=ID))

    document = json.loads(placed.model_dump_json())
    from_store, from_name = [
        await node.process(ModelReducerInput(action="CANCEL", state=state, operation_id=ID))
        for state in (document["new_state"], "PLACED")
    ]

    assert document["result"] == document["new_state"] == placed.new_state
    assert from_store.new_state == {**document["new_state"], "state": "CANCELLED", "version": 2, "history_length": 2}
    assert from_name.state_metadata.previous_state == "PLACED"
    assert from_name.result == {"state": "CANCELLED", "context": {"count": 0}, "version": 1, "history_length": 1}


async def test_a_state_is_handed_on_without_a_look_at_all_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """So an action costs the same however large the state is."""
    node = NodeReducer.from_contract(None, CONTRACT)
    state = begin(node._compiled(), {"state": "IDLE", "context": {f"k{index}": index for index in range(1_000)}})
    monkeypatch.delattr(LayeredMap, "flat")

    given = ModelReducerInput(action="PLACE", payload={"total": 5}, state=state)
    done = await node.process(given)

    assert given.state is state
    assert done.reduction_metrics.state_size == 1_001


def test_an_input_with_a_state_is_written_as_json() -> None:
    """As its snapshot."""
    state = begin(NodeReducer.from_contract(None, CONTRACT)._compiled())

    given = ModelReducerInput(action="PLACE", state=state)

    assert json.loads(given.model_dump_json())["state"] == given.model_dump()["state"] == state.snapshot()


async def test_an_ignored_action_is_an_event_and_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of a machine that is not strict; the state stays."""
    node = NodeReducer.from_contract(None, CONTRACT)

    with caplog.at_level(logging.INFO, "onex.reducer"):
        done = await node.process(ModelReducerInput(action="SHIP"))

    assert [event["event_type"] for event in done.events] == ["fsm.action_ignored"]
    assert (done.state_metadata.transition, done.state_metadata.new_state) == (None, "IDLE")
    assert "ignored action 'SHIP' in state 'IDLE'" in caplog.text


async def test_a_machine_may_be_given_in_python_and_replaced() -> None:
    """The next call heeds it."""
    first = NodeReducer.from_contract(None, CONTRACT)
    node = NodeReducer()
    node.reducer_subcontract = first.reducer_subcontract
    assert (await node.process(ModelReducerInput(action="CANCEL"))).state_metadata.transition == "cancel"

    node.reducer_subcontract = NodeReducer.from_contract(
        None, CONTRACT.replace("name: cancel", "name: stop")
    ).reducer_subcontract

    assert (await node.process(ModelReducerInput(action="CANCEL"))).state_metadata.transition == "stop"


async def test_a_subclass_with_a_reduce_of_its_own_is_code_driven() -> None:
    """It gets the state as it is, and an action."""

    class Counter(NodeReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
            before = state if isinstance(state, dict) else {"n": 0}
            intent = ModelIntent(intent_type="told", target=action.trigger, intent_id=action.action_id)
            return {"n": before["n"] + int(str(action.payload["by"])), "state": "counting"}, [intent]

    done = await Counter().process(ModelReducerInput(action="ADD", state={"n": 2}, payload={"by": 3}, operation_id=ID))

    assert done.aggregated_data == done.new_state == {"n": 5, "state": "counting"}
    assert [(made.target, made.intent_id) for made in done.intents] == [("ADD", ID)]
    assert (done.state_metadata.previous_state, done.state_metadata.new_state) == (None, "counting")
    assert done.state_metadata.intents_emitted == 1


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyError("total"), EnumCoreErrorCode.OPERATION_FAILED, "Own.reduce failed for action 'GO' with KeyError"),
        (None, EnumCoreErrorCode.OPERATION_FAILED, "returns the new state and intents"),
        (ModelOnexError("mine", EnumCoreErrorCode.CONFLICT), EnumCoreErrorCode.CONFLICT, "^mine$"),
    ],
)
async def test_what_a_reduce_of_ones_own_raises_is_an_error_of_the_node(
    raised: Exception | None, code: EnumCoreErrorCode, message: str
) -> None:
    """It names the class and the action; one that was raised on purpose passes as it is."""

    class Own(NodeReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
            if raised is None:
                return "no pair"  # type: ignore[return-value]  # what is tested
            raise raised

    with pytest.raises(ModelOnexError, match=message) as caught:
        await Own().process(ModelReducerInput(action="GO", operation_id=ID))

    assert caught.value.error_code is code
    assert caught.value is raised or caught.value.context == {"action_id": str(ID)}


@pytest.mark.parametrize("made", [{"intent_type": "told"}, {"intent_type": "told", "target": ""}, "told"])
async def test_an_intent_that_is_none_is_an_error_of_the_node(made: object) -> None:
    """Whether it was returned, or could not be built; said without the pages of pydantic."""

    class Returns(NodeReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
            return state, [made]  # type: ignore[list-item]  # what is tested

    class Builds(NodeReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
            return state, [ModelIntent.model_validate(made)]

    for node in (Returns(), Builds()):
        with pytest.raises(ModelOnexError, match=r"\.reduce failed for action 'GO'.*ModelIntent, 1 finding") as caught:
            await node.process(ModelReducerInput(action="GO", operation_id=ID))
        assert caught.value.error_code is EnumCoreErrorCode.OPERATION_FAILED
        assert caught.value.context == {"action_id": str(ID)}
        assert "pydantic.dev" not in str(caught.value)


async def test_an_intent_may_be_returned_as_its_fields() -> None:
    """As the output's own validation reads it."""

    class Own(NodeReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
            return state, [{"intent_type": "told", "target": "me"}]  # type: ignore[list-item]  # what is tested

    assert (await Own().process(ModelReducerInput(action="GO"))).intents[0].target == "me"


@pytest.mark.parametrize(
    ("node", "given", "code", "message"),
    [
        (NodeReducer(), ModelReducerInput(action="GO"), EnumCoreErrorCode.CONFIGURATION_ERROR, "neither a contract"),
        (NodeReducer(), ModelReducerInput(data=[1]), EnumCoreErrorCode.VALIDATION_ERROR, "has no action"),
        (
            NodeReducer.from_contract(None, CONTRACT),
            ModelReducerInput(action="PLACE", state="SHIPPED"),
            EnumCoreErrorCode.VALIDATION_ERROR,
            "no state 'SHIPPED'",
        ),
        (
            NodeReducer.from_contract(None, CONTRACT),
            ModelReducerInput(action="PLACE", state=FsmState("SHIPPED", LayeredMap())),
            EnumCoreErrorCode.VALIDATION_ERROR,
            "no state 'SHIPPED'",
        ),
    ],
)
async def test_what_a_node_cannot_do_is_said(
    node: NodeReducer, given: ModelReducerInput, code: EnumCoreErrorCode, message: str
) -> None:
    """Before anything is made."""
    with pytest.raises(ModelOnexError, match=message) as raised:
        await node.process(given)

    assert raised.value.error_code is code


def test_reduce_is_the_pure_function_without_the_node() -> None:
    """For tests and for replays; another kind of state is refused."""
    node = NodeReducer.from_contract(None, CONTRACT)
    action = FsmAction("CANCEL", ID, {}, datetime(2026, 1, 31, tzinfo=UTC))

    assert node.reduce(None, action)[0] == node.reduce("IDLE", action)[0]
    with pytest.raises(ModelOnexError, match="found int"):
        node.reduce(5, action)


def test_a_contract_of_another_kind_is_refused() -> None:
    """So is one with mistakes, with all of them."""
    effect = """\
effect_subcontract:
  subcontract_name: t
  operations:
    - operation_name: a
      io_config: {handler_type: filesystem, operation: read, file_path_template: x}
"""
    with pytest.raises(ModelOnexError, match="found effect_subcontract"):
        NodeReducer.from_contract(None, effect)
    with pytest.raises(ContractError, match="E-UNKNOWN-STATE"):
        NodeReducer.from_contract(None, CONTRACT.replace("initial_state: IDLE", "initial_state: IDL"))


def test_an_output_can_be_built_from_its_payload_under_either_name() -> None:
    """All else has defaults; what JSON cannot hold is written as text."""
    one, other = ModelReducerOutput(result=[1]), ModelReducerOutput.model_validate({"aggregated_data": [1]})

    assert one.result == other.aggregated_data == [1]
    assert one.correlation_id != other.correlation_id
    assert json.loads(ModelReducerOutput(result={"a": ID, "b": object}).model_dump_json())["result"]["a"] == str(ID)


async def test_purity_is_enforced_where_it_is_asked_for() -> None:
    """Also in the code of a generator of intents."""

    class Clocked(NodeReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, Iterator[ModelIntent]]:
            return state, self._intents(action)

        def _intents(self, action: FsmAction) -> Iterator[ModelIntent]:
            at = time.time() if action.trigger == "LOOK" else 0
            yield ModelIntent(intent_type="audit", target="log", payload={"at": at})

    node = Clocked()
    free = await node.process(ModelReducerInput(action="LOOK"))
    node.purity = "enforce"

    with pytest.raises(PurityError, match=r"Clocked\.reduce has to be pure"):
        await node.process(ModelReducerInput(action="LOOK"))

    assert len(free.intents) == 1
    assert (await node.process(ModelReducerInput(action="PASS"))).intents[0].payload == {"at": 0}
