"""`onex` over state machine contracts: validate, graph, run."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.cli import Onex

CONTRACT = """\
reducer_subcontract:
  state_machine:
    state_machine_name: orders
    initial_state: IDLE
    states:
      - state_name: IDLE
      - {state_name: 'PLA"C<E>D', entry_intents: [{intent_type: notification, target: mail}]}
      - {state_name: DONE, is_terminal: true}
    transitions:
      - {transition_name: place, from_state: IDLE, to_state: 'PLA"C<E>D', trigger: PLACE, guard: payload.n > 0}
      - {transition_name: again, from_state: 'PLA"C<E>D', to_state: 'PLA"C<E>D', trigger: AGAIN}
      - {transition_name: back, from_state: 'PLA"C<E>D', to_state: IDLE, trigger: BACK}
      - {transition_name: done, from_state: "*", to_state: DONE, trigger: DONE}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "machine.yaml"
    path.write_text(CONTRACT)
    return str(path)


def test_a_machine_is_validated(onex: Onex, file: str) -> None:
    """It counts as a reducer contract."""
    done = onex("validate", file)

    assert done.status == 0, done.err
    assert "reducer orders 1.0.0, 3 states" in done.out
    [found] = json.loads(onex("validate", file, "--json").out)["files"]
    assert found["contracts"] == [{"kind": "reducer", "name": "orders", "version": "1.0.0"}]


def test_a_machine_is_drawn_from_its_table(onex: Onex, file: str) -> None:
    """In three languages; names cannot break out of their labels."""
    mermaid, dot, svg = (onex("graph", file, "--format", name).out for name in ("mermaid", "dot", "svg"))

    assert "  s0 --> s1: PLACE #91;payload.n #62; 0#93;" in mermaid.splitlines()
    assert [line for line in mermaid.splitlines() if "DONE" in line and "-->" in line] == [
        "  s0 --> s2: DONE",
        "  s1 --> s2: DONE",
    ]
    assert '  s1 [label="PLA\\"C<E>D", peripheries=1]' in dot.splitlines()
    tree = ET.fromstring(svg)
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"IDLE", 'PLA"C<E>D', "DONE", "AGAIN", "BACK", "PLACE [payload.n > 0]"} <= set(texts)
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}path"))) == 5 + 1


def test_svg_is_for_machines(onex: Onex, tmp_path: Path) -> None:
    """Other contracts are told the way."""
    contract = tmp_path / "effect.yaml"
    contract.write_text(
        "effect_subcontract:\n  subcontract_name: t\n  operations:\n    - operation_name: a\n"
        "      io_config: {handler_type: filesystem, operation: read, file_path_template: x}\n"
    )

    done = onex("graph", str(contract), "--format", "svg")

    assert (done.status, "dot -Tsvg" in done.err) == (2, True)


def test_a_log_of_actions_is_run(onex: Onex, file: str) -> None:
    """The same log gives the same document, ids included; it goes on from a state."""
    log = json.dumps({"actions": [{"action": "PLACE", "payload": {"n": 1}}, {"action": "AGAIN"}]})

    first, second = onex("run", file, "--input", log), onex("run", file, "--input", log)
    said = json.loads(first.out)
    onward = {"state": said["state"], "actions": [{"action": "DONE", "timestamp": "2026-01-31T12:00:00Z"}]}
    ended = json.loads(onex("run", file, "--input", json.dumps(onward)).out)

    assert (first.status, first.out) == (0, second.out)
    assert said["state"]["state"] == 'PLA"C<E>D'
    assert [intent["target"] for intent in said["intents"]] == ["mail", "mail"]
    assert ended["state"]["state"] == "DONE"


def test_actions_of_other_logs_have_other_ids(onex: Onex, file: str) -> None:
    """Whether the action, what came before it, the state at the beginning or the machine is another one."""

    def ids(name: str, *actions: object, state: object = None) -> list[str]:
        done = onex("run", name, "--input", json.dumps({"actions": actions, "state": state}))
        assert done.status == 0, done.err
        return [intent["intent_id"] for intent in json.loads(done.out)["intents"]]

    other = Path(file).with_name("other.yaml")
    other.write_text(CONTRACT.replace("name: orders", "name: parcels"))
    place, again = {"action": "PLACE", "payload": {"n": 1}}, {"action": "AGAIN"}
    begun = {"state": "IDLE", "history_length": 2}
    found = [
        ids(file, place, again),
        ids(file, {"action": "PLACE", "payload": {"n": 2}}, again),
        ids(file, place, again, state=begun),
        ids(file, place, again, state={**begun, "context": {"id": "o-1"}}),
        ids(str(other), place, again),
    ]

    every = [one for log in found for one in log]
    assert len(set(every)) == len(every) == 10
    assert ids(file, place) == found[0][:1]
    assert ids(file, place, again, state={"state": "IDLE"}) == found[0]


def test_a_failing_action_ends_the_log(onex: Onex, file: str) -> None:
    """What came before it stands; the error names its place."""
    log = {"actions": [{"action": "PLACE", "payload": {"n": 1}}, {"action": "PLACE"}, {"action": "DONE"}]}

    done = onex("run", file, "--json", "--input", json.dumps(log))

    said = json.loads(done.out)
    assert done.status == 11
    assert said["state"]["version"] == 1
    assert said["error"]["context"]["action_index"] == 1


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ({"action": []}, "allowed: actions, state"),
        ({"state": 1}, "a snapshot"),
        ({"actions": {}}, "a list of actions"),
        ({"actions": [1]}, "actions[0] is a map"),
        ({"actions": [{"action": "DONE", "more": 1}]}, "actions[0] is a map"),
        ({"actions": [{"payload": {}}]}, "needs action"),
        ({"actions": [{"action": "DONE", "action_id": "x"}]}, "actions[0]"),
        ({"actions": [{"action": "DONE", "timestamp": "2026-01-31T12:00:00"}]}, "no time zone"),
    ],
)
def test_what_is_no_log_is_refused(onex: Onex, file: str, log: object, reason: str) -> None:
    """With what is allowed."""
    done = onex("run", file, "--input", json.dumps(log))

    assert done.status == 2
    assert reason in " ".join(done.err.split())


def test_a_time_limit_is_for_effects(onex: Onex, file: str) -> None:
    """A machine waits for nothing."""
    assert onex("run", file, "--timeout-ms", "5").status == 2
