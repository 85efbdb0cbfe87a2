"""State machine contracts through the loader: every mistake at its place, and the plan of a sound one."""

import pytest

from omnibase_core.errors import ContractError
from omnibase_core.models.contracts.subcontracts.model_fsm_subcontract import ModelReducerSubcontract
from omnibase_core.utils.contract_loader import load_contract
from omnibase_core.utils.fsm_plan import FsmPlan

SOUND = """\
reducer_subcontract:
  subcontract_name: orders
  state_machine:
    state_machine_name: orders
    initial_state: IDLE
    states:
      - state_name: IDLE
      - {state_name: DONE, is_terminal: true, invariants: ["state.total > 0"]}
    transitions:
      - transition_name: place
        from_state: IDLE
        to_state: DONE
        trigger: PLACE
        guard: payload.total > 0
        assign: {total: payload.total, id: "${payload.id}"}
        intents:
          - {intent_type: database_write, target: orders, payload: {id: "${payload.id}"}, priority: critical}
"""


def places(text: str) -> list[tuple[str, int, int]]:
    with pytest.raises(ContractError) as raised:
        load_contract(text)
    return [(found.code, found.line, found.column) for found in raised.value.diagnostics]


def test_a_sound_contract_comes_with_its_plan() -> None:
    """Of kind reducer."""
    loaded = load_contract(SOUND)

    assert loaded.kind == "reducer"
    assert isinstance(loaded.subcontract, ModelReducerSubcontract)
    assert isinstance(loaded.plan, FsmPlan)
    assert set(loaded.plan.table) == {("IDLE", "PLACE")}
    assert loaded.findings == ()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("guard: payload.total > 0", "guard: payload.total > zero", [("E-CEL", 14, 32)]),
        ("guard: payload.total > 0", 'guard: "payload.total >"', [("E-CEL", 14, 32)]),
        ("guard: payload.total > 0", "guard: >-\n          payload.total >\n", [("E-CEL", 14, 16)]),
        ('"state.total > 0"', "'stat.total > 0'", [("E-CEL", 8, 61)]),
        ('id: "${payload.id}"}\n', 'id: "x ${secret.id}"}\n', [("E-TEMPLATE", 15, 47)]),
        ("to_state: DONE", "to_state: DON", [("E-STATE-UNREACHABLE", 8, 22), ("E-UNKNOWN-STATE", 12, 19)]),
        ("initial_state: IDLE", "initial_state: IDL", [("E-UNKNOWN-STATE", 5, 20)]),
        ("assign: {total:", 'assign: {"":', [("E-TEXT", 15, 18)]),
        ("initial_state: IDLE", 'initial_state: IDLE\n    initial_context: {"": 1}', [("E-TEXT", 6, 23)]),
        ("trigger: PLACE", "triggr: PLACE", [("E-MISSING-FIELD", 10, 9), ("E-UNKNOWN-FIELD", 13, 9)]),
    ],
)
def test_a_mistake_is_found_at_its_place(old: str, new: str, found: list[tuple[str, int, int]]) -> None:
    """Down to the character of an expression that is written on one line."""
    assert places(SOUND.replace(old, new)) == found


@pytest.mark.parametrize(
    ("payload", "places"),
    [
        ('{operation: insert, data: {id: 1}, where: "${payload.where}"}', [(19, 64)]),
        ("{operation: delete, data: {id: 1}, where: {id: 1}}", [(19, 42)]),
        ("{operation: upsert, data: {id: 1}, where: {id: 1}, key: id}", [(19, 57)]),
        ("{operation: insert, data: {id: 1}, where: null}", []),
        ('{operation: "${payload.what}", data: {id: 1}, where: {id: 1}}', []),
        ("{operation: archive, data: {id: 1}, where: {id: 1}}", []),
        ("[insert]", []),
    ],
)
def test_a_part_that_a_write_does_not_have_is_a_warning(payload: str, places: list[tuple[int, int]]) -> None:
    """The default route refuses it; one of the user's own may make something of it."""
    intents = f"- intent_type: database_write\n            target: orders\n            payload: {payload}\n"
    found = load_contract(SOUND.split("- {intent_type")[0] + intents).findings

    assert [(each.code, each.severity) for each in found] == [("W-INTENT-PAYLOAD", "warning")] * len(places)
    assert [(each.line, each.column) for each in found] == places


def test_templates_and_expressions_are_judged_beside_what_is_not_well_formed() -> None:
    """One run shows all there is to mend."""
    text = (
        SOUND.replace("trigger: PLACE", "trigger: 5")
        .replace("payload.total > 0", "stat.x")
        .replace("target: orders", "target: '${x}'")
        .replace("- state_name: IDLE", "- {state_name: IDLE, is_terminal: 1}")
        .replace('"state.total > 0"', '"payload.x"')
    )

    assert sorted(code for code, _, _ in places(text)) == ["E-CEL", "E-CEL", "E-TEMPLATE", "E-TYPE", "E-TYPE"]


def test_a_contract_without_a_machine_is_refused_at_its_key() -> None:
    """There is nothing else in a reducer's contract yet."""
    assert places("reducer_subcontract:\n  version: 1.0.0\n") == [("E-MISSING-FIELD", 1, 1)]
