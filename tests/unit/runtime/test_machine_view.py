"""`onex plan`, `explain` and `new` for state machines."""

import json
from pathlib import Path

import pytest

from tests.support.cli import Onex

CONTRACT = """\
reducer_subcontract:
  state_machine:
    state_machine_name: orders
    initial_state: IDLE
    strict: false
    states:
      - {state_name: IDLE, exit_intents: [{intent_type: message_publish, target: log}]}
      - state_name: PLACED
        entry_intents: [{intent_type: notification, target: mail}]
        invariants: [state.total > 0]
      - {state_name: DONE, is_terminal: true}
    transitions:
      - {transition_name: rich, from_state: IDLE, to_state: PLACED, trigger: PLACE, priority: 5, guard: payload.n > 9,
         assign: {total: payload.n}, intents: [{intent_type: database_write, target: orders}]}
      - {transition_name: poor, from_state: IDLE, to_state: PLACED, trigger: PLACE, assign: {total: payload.n}}
      - {transition_name: late, from_state: "*", to_state: DONE, trigger: PLACE}
      - {transition_name: end, from_state: "*", to_state: DONE, trigger: END}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "machine.yaml"
    path.write_text(CONTRACT)
    return str(path)


def test_plan_shows_what_is_tried_in_which_order(onex: Onex, file: str) -> None:
    """In each state, with guards, fields and intents."""
    lines = onex("plan", file).out.splitlines()

    assert lines[:2] == ["state machine 'orders' 1.0.0: begins in IDLE, ignores what it cannot do", "  IDLE"]
    assert [line.strip() for line in lines if " by " in line][:4] == [
        "PLACE -> PLACED by rich when payload.n > 9",
        "PLACE -> PLACED by poor",
        "PLACE -> DONE by late",
        "END -> DONE by end",
    ]
    assert lines[3:6] == [
        "      sets total",
        "      emits message_publish to log, database_write to orders, notification to mail",
        "      then holds state.total > 0",
    ]
    assert lines[-1] == "  DONE (terminal)"


def test_plan_tells_where_actions_would_lead(onex: Onex, file: str) -> None:
    """Up to the first that fails; those that are ignored are told too."""
    end = {"action": "END"}
    log = json.dumps({"actions": [{"action": "NEVER"}, {"action": "PLACE", "payload": {"n": 10}}, end, end]})
    bad = '{"actions": [{"action": "PLACE", "payload": {"n": 0}}, {"action": "END"}]}'

    told = [line for line in onex("plan", file, "--input", log).out.splitlines() if line.startswith("action")]
    failed = json.loads(onex("plan", file, "--json", "--input", bad).out)

    emitted = "message_publish to log, database_write to orders, notification to mail"
    assert told == [
        "action 0, NEVER: ignored in IDLE",
        f"action 1, PLACE: IDLE -> PLACED by rich, emits {emitted}",
        "action 2, END: PLACED -> DONE by end",
        "action 3, END: ignored in DONE",
    ]
    assert len(failed["actions"]) == 1
    assert "invariant" in failed["actions"][0]["error"]["message"]
    assert [state["name"] for state in failed["states"]] == ["IDLE", "PLACED", "DONE"]
    assert onex("plan", file, "--input", '{"actions": 5}').status == 2
    assert "fails: state machine" in onex("plan", file, "--input", bad).out


def test_explain_says_when_a_transition_is_taken(onex: Onex, file: str) -> None:
    """And why it comes after others, what it does in order, and what makes it fail."""
    document = json.loads(onex("explain", file, "--json").out)
    found = {one["name"]: one for one in document["transitions"]}

    assert list(found) == ["rich", "poor", "late", "end"]
    assert found["rich"]["taken"] == ["in IDLE, when payload.n > 9"]
    assert found["poor"]["taken"] == [
        "in IDLE, after rich (a state by name goes before *, then the higher priority, then the earlier line)"
    ]
    assert found["late"]["taken"] == [
        "never in IDLE: poor is tried before it and has no guard",
        "in PLACED",
    ]
    assert found["rich"]["emits"] == [
        "exit intents of IDLE",
        "database_write to orders",
        "notification to mail (entry)",
    ]
    assert len(found["rich"]["fails"]) == 3
    plain = onex("explain", file, "rich").out
    assert "state.total > 0" in plain
    assert "poor" not in plain
    assert "late" in onex("explain", file).out
    wrong = onex("explain", file, "nobody")
    assert (wrong.status, "there is no transition 'nobody'" in wrong.err) == (2, True)


def test_a_new_machine_runs_at_once(onex: Onex) -> None:
    """As it is written, and checked by its schema; nothing is overwritten."""
    written = onex("new", "reducer", "hello")
    log = '{"actions": [{"action": "GREET", "payload": {"name": "world"}}]}'

    assert written.status == 0
    assert log in written.out
    assert onex("validate", "hello.yaml").status == 0
    said = json.loads(onex("run", "hello.yaml", "--input", log).out)
    assert said["state"]["context"]["greeting"] == "Hello, world!"
    assert json.loads(Path("onex-reducer.schema.json").read_text())["$id"].endswith("reducer:1.0.0")
    assert onex("new", "reducer", "hello").status == 2
