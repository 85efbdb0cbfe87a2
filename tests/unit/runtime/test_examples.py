"""`onex test`: examples that hold, that differ, and that are none."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from time import time

import pytest
from pydantic import JsonValue

from omnibase_runtime.commands._examples import Example, judge
from tests.support.cli import Onex
from tests.support.compute import contract, transformation

MACHINE = """\
reducer_subcontract:
  state_machine:
    state_machine_name: door
    initial_state: SHUT
    strict: false
    states:
      - state_name: SHUT
      - {state_name: OPEN, entry_intents: [{intent_type: audit, target: doors, payload: {who: "${payload.who}"}}]}
    transitions:
      - {transition_name: open, from_state: SHUT, to_state: OPEN, trigger: OPEN, assign: {who: "${payload.who}"}}
      - {transition_name: shut, from_state: OPEN, to_state: SHUT, trigger: SHUT}
"""


@pytest.fixture
def pipeline(onex: Onex) -> str:
    steps = [
        transformation("trim", "trim"),
        transformation("regex", "digits", pattern="[0-9]", replacement="#"),
        {**transformation("split", "split", separator=" "), "timeout_ms": 500},
    ]
    Path("clean.yaml").write_text(contract(steps, pipeline_timeout_ms=1_000))
    return "clean.yaml"


def examples(*entries: Mapping[str, object], file: str = "clean.examples.yaml") -> None:
    Path(file).write_text(json.dumps({"examples": entries}))


def test_examples_that_hold(onex: Onex, pipeline: str) -> None:
    """Outputs, errors with their step, and examples that only run; limits of time are no look at the clock."""
    examples(
        {"name": "two words", "input": " a 1 ", "output": ["a", "#"]},
        {"input": 5, "error": "VALIDATION_ERROR", "step": "trim"},
        {"input": "a"},
    )

    done = onex("test", pipeline)

    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == ["ok    two words", "ok    example 1", "ok    example 2", "3 of 3 examples hold"]


def test_an_example_that_differs_is_told_as_a_diff(onex: Onex, pipeline: str) -> None:
    """What was expected, what was found; an error is shown with its reason, and tools get one document."""
    examples(
        {"name": "wrong", "input": "a b", "output": ["a", "c"]},
        {"name": "error", "input": 5, "output": []},
        {"name": "unexpected", "input": 5},
        {"name": "no error", "input": "a", "error": "VALIDATION_ERROR"},
        file="other.yaml",
    )

    plain = onex("test", pipeline, "--examples", "other.yaml")
    told = json.loads(onex("test", pipeline, "--examples", "other.yaml", "--json").out)

    assert plain.status == 1
    assert '      -    "c"' in plain.out.splitlines()
    assert '      +    "b"' in plain.out.splitlines()
    assert plain.out.splitlines()[-1] == "0 of 4 examples hold"
    assert told["examples"] == 4
    problems = {one["name"]: one["problem"] for one in told["failed"]}
    assert "the input must be a text, found a number" in problems["error"]
    assert "the input must be a text" in problems["unexpected"]
    assert '-  "error": "VALIDATION_ERROR"' in problems["no error"]


def test_examples_of_a_machine(onex: Onex, tmp_path: Path) -> None:
    """Of the output the parts that are named, and of an intent the keys."""
    (tmp_path / "door.yaml").write_text(MACHINE)
    opened = {"actions": [{"action": "OPEN", "payload": {"who": "me"}}]}
    examples(
        {"input": opened, "output": {"state": "OPEN", "intents": [{"target": "doors", "payload": {"who": "me"}}]}},
        {"input": {"actions": [{"action": "KNOCK"}]}, "output": {"events": [{"event_type": "fsm.action_ignored"}]}},
        {"input": {"actions": [{"action": "OPEN"}]}, "error": "VALIDATION_ERROR"},
        {"name": "wrong", "input": opened, "output": {"context": {"who": "you"}, "intents": []}},
        file="door.examples.yaml",
    )

    done = onex("test", "door.yaml")

    assert done.status == 1
    assert done.out.splitlines()[:4] == ["ok    example 0", "ok    example 1", "ok    example 2", "FAIL  wrong"]
    assert '      -      "who": "you"' in done.out.splitlines()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "holds examples"),
        ("examples: []", "holds examples"),
        ("examples: [{name: a}]", "examples[0] is a map with input"),
        ("examples: [{input: 1, outptu: 2}]", "examples[0] is a map with input"),
        ("examples: [{input: 1, output: 2, error: X}]", "exclude each other"),
        ("examples: [{input: 1, name: 5}]", "name is a text"),
        ("examples: [", "examples.yaml:2:1"),
    ],
)
def test_a_file_that_holds_no_examples_is_refused(onex: Onex, pipeline: str, text: str, words: str) -> None:
    """The message says what it should hold."""
    Path("clean.examples.yaml").write_text(text)

    done = onex("test", pipeline)

    assert done.status == 2
    assert words in done.err


def test_contracts_without_examples_and_of_other_kinds_are_refused(onex: Onex, pipeline: str) -> None:
    """What is not pure is not tested so; neither is a machine's output of unknown parts."""
    assert "clean.examples.yaml: no such file" in onex("test", pipeline).err
    onex("new", "effect", "hello")
    assert "only computations and state machines are pure" in onex("test", "hello.yaml").err
    Path("door.yaml").write_text(MACHINE)
    examples({"input": {}, "output": {"stat": "OPEN"}}, file="door.examples.yaml")
    assert "context, events, intents, state" in onex("test", "door.yaml").err
    examples({"input": 5}, file="door.examples.yaml")
    assert "is a log" in onex("test", "door.yaml").err


def test_what_is_impure_or_differs_from_run_to_run_fails() -> None:
    """Both are told."""
    numbers = count()
    example = Example("e", 1, {})

    def looks(_data: JsonValue) -> dict[str, JsonValue]:
        return {"output": time()}

    impure = judge(example, looks)
    shaky = judge(example, lambda _data: {"output": next(numbers)})

    assert "touched the clock" in str(impure.problem)
    assert "+++ second run" in str(shaky.problem)
