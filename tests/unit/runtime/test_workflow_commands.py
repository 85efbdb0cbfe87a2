"""Workflows on the command line: validate, plan, explain, graph, schema, new."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support.cli import Onex, onex
from tests.support.workflow_contracts import NODES, workflow

__all__ = ["onex"]

FLOW = workflow(
    "step_id: total, step_type: compute, node: total.yaml, input: {lines: '${input.lines}'}\n"
    "step_id: store, step_type: effect, node: store.yaml, input: {id: '${steps.total}'}, depends_on: [total], "
    "when: size(input.lines) > 1, compensate: {step_type: effect, node: unstore}, retry: {max_retries: 2}\n"
    "step_id: ask, step_type: approval, depends_on: [total], approval: {prompt: 'Sure?', timeout_ms: 90, "
    "escalate_after_ms: 50, escalate: {step_type: effect, node: call}}\n"
    "step_id: later, step_type: wait, wait: {duration_ms: 5}, enabled: false\n"
    "step_id: each, step_type: effect, node: service, for_each: input.lines, when: item > 0, depends_on: [ask], "
    "on_failure: skip, timeout_ms: 2000\n"
    "step_id: deep, step_type: orchestrator, node: deep/child.yaml, input: {n: 1}\n"
    "step_id: post, step_type: effect, node: send.yaml, input: '${input}', on_failure: retry",
    coordination_type="parallel",
    durability="run",
    workflow_timeout_ms="60000",
    input_schema="{type: object, required: [lines]}",
    dependencies="[{service_name: mail, version_constraint: '>=1'}]",
    triggers="[{schedule: {cron: '0 2 * * *'}, input: {lines: [1]}}, {event: {on_event: placed}}]",
)


@pytest.fixture
def flow(tmp_path: Path) -> str:
    """A workflow among its nodes, in the directory of the test."""
    for name, text in {**NODES, "flow.yaml": FLOW}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return "flow.yaml"


def test_validate_names_the_workflow(onex: Onex, flow: str) -> None:
    """With the number of its steps; the warning about a repetition is shown."""
    ended = onex("validate", flow)

    assert ended.status == 0
    assert "orchestrator test 1.0.0, 7 steps" in ended.out
    assert "W-STEP-NOT-IDEMPOTENT" in ended.out
    (file,) = json.loads(onex("validate", flow, "--json").out)["files"]
    assert file["contracts"] == [{"kind": "orchestrator", "name": "test", "version": "1.0.0"}]


def test_validate_tells_a_cycle_as_a_path(onex: Onex, tmp_path: Path) -> None:
    """And ends with status 2."""
    wait = "step_type: wait, wait: {signal: x}"
    (tmp_path / "bad.yaml").write_text(
        workflow(f"step_id: a, {wait}, depends_on: [b]\nstep_id: b, {wait}, depends_on: [a]")
    )

    ended = onex("validate", "bad.yaml")

    assert ended.status == 2
    assert "bad.yaml:4:" in ended.out
    assert "a -> b -> a" in ended.out


def test_plan_shows_steps_in_their_order_and_what_is_recorded(onex: Onex, flow: str) -> None:
    """As data: everything that a run would go by."""
    document = json.loads(onex("plan", flow, "--set", "lines=[1,2]", "--json").out)
    steps = {step["step"]: step for step in document["steps"]}

    assert list(steps)[:3] == ["total", "store", "ask"]
    assert document["contract"]["durability"] == "run"
    assert document["contract"]["files"][0] == "deep/child.yaml"
    assert document["services"] == ["call", "service", "unstore"]
    assert document["triggers"] == [{"cron": "0 2 * * *", "timezone": "UTC"}, {"on_event": ["placed"]}]
    assert document["dependencies"] == [{"service": "mail", "kind": "required", "version": ">=1"}]
    assert steps["total"]["record"] == "none: it is computed again"
    assert steps["store"]["after"] == ["total"]
    assert steps["store"]["waits_ms"] == [1000, 2000]
    assert steps["store"]["compensate"] == "store.compensate"
    assert "exactly once" in steps["store"]["after_a_crash"]
    assert steps["ask"]["after_a_crash"] == "waits for what is left of its time"
    assert steps["later"]["enabled"] is False
    assert steps["each"]["record"] == "one for each entry, and one for all"
    assert steps["each"]["on_failure"] == "skip"
    assert "called again" in steps["each"]["after_a_crash"]
    assert "same child run" in steps["deep"]["after_a_crash"]
    assert "not idempotent" in steps["post"]["after_a_crash"]
    assert steps["post"]["on_failure"] == "abort, after the attempts"


def test_plan_is_readable(onex: Onex, flow: str) -> None:
    """A heading, a paragraph per step, and what else is needed."""
    out = onex("plan", flow, "--set", "lines=[1,2]").out

    for words in (
        "7 steps",
        "at most 5 at once",
        "at most 1 min",
        "durability run",
        "nothing was done",
        "3, with waits of 1 s, 2 s",
        "each at most 2 s",
        "mail >=1 (required)",
        "0 2 * * * (UTC)",
        "event placed",
        "call, service, unstore",
    ):
        assert words in out, words


def test_plan_judges_the_input(onex: Onex, flow: str) -> None:
    """By the schema of the workflow."""
    ended = onex("plan", flow)

    assert ended.status == 2
    assert "'required' 'lines'" in ended.err


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"durability": "level"}, ("one together with two", "level: pure steps")),
        ({"durability": "step"}, ("one", "step: each outcome")),
        ({"coordination_type": "pipeline"}, ("one for each item", "step: each outcome")),
        (
            {"coordination_type": "pipeline", "durability": "level"},
            ("one for all items that wait for it", "level: items"),
        ),
        ({"conflict_resolution": "{continue_on_error: true}"}, ("one", "step: each outcome")),
    ],
)
def test_explain_says_why(onex: Onex, tmp_path: Path, fields: dict[str, str], expected: tuple[str, str]) -> None:
    """Of one step or of all."""
    same = "step_type: compute, node: total.yaml, input: {lines: [1]}"
    (tmp_path / "total.yaml").write_text(NODES["total.yaml"])
    (tmp_path / "lines.json").write_text(NODES["lines.json"])
    (tmp_path / "two.yaml").write_text(workflow(f"step_id: one, {same}\nstep_id: two, {same}", **fields))

    out = onex("explain", "two.yaml", "one").out

    assert re.search(rf"record +{expected[0]}\n", out)
    assert expected[1] in out
    (step,) = json.loads(onex("explain", "two.yaml", "one", "--json").out)["steps"]
    assert step["step"] == "one"
    assert len(json.loads(onex("explain", "two.yaml", "--json").out)["steps"]) == 2
    assert "there are one, two" in onex("explain", "two.yaml", "three").err


def test_mermaid_draws_conditions_and_what_undoes(onex: Onex, flow: str) -> None:
    """Arrows of the order are solid, those aside dotted; texts cannot break the syntax."""
    lines = onex("graph", flow).out.splitlines()

    assert lines[0] == "flowchart TD"
    assert any(line.strip().startswith('s0 -- "when size#40;input.lines#41; #62; 1" --> s1') for line in lines)
    assert '    s1 -. "undone by" .-> c1' in lines
    assert '    s2 -. "after 50 ms" .-> e2' in lines
    assert any(line.strip().startswith("s2{{") for line in lines)
    assert any("disabled" in line for line in lines)
    assert any("for each of input.lines" in line for line in lines)


def test_dot_draws_the_same(onex: Onex, flow: str) -> None:
    """Conditions as labels, dashes aside."""
    out = onex("graph", flow, "--format", "dot").out

    assert 's0 -> s1 [label="when size(input.lines) > 1"]' in out
    assert 's1 -> c1 [label="undone by", style=dashed]' in out
    assert out.count("{") == out.count("}") == 1


@pytest.mark.parametrize("coordination", ["parallel", "sequential", "event_driven"])
def test_svg_is_a_picture_with_every_step(onex: Onex, tmp_path: Path, coordination: str) -> None:
    """Well-formed, each box within the picture, an arrow for each edge; text is text."""
    on_event = ", on_event: placed" if coordination == "event_driven" else ""
    (tmp_path / "flow.yaml").write_text(
        workflow(
            f"step_id: a, step_name: '<A & B>', step_type: effect, node: x{on_event}\n"
            "step_id: b, step_type: wait, wait: {event: {type: paid}}, depends_on: [a]\n"
            "step_id: c, step_type: effect, node: x, depends_on: [a], when: input.n > 1\n"
            "step_id: d, step_type: effect, node: x, depends_on: [a, b, c], "
            "compensate: {step_type: effect, node: y}\n",
            coordination_type=coordination,
        )
    )

    out = onex("graph", "flow.yaml", "--format", "svg").out

    root = ET.fromstring(out)
    space = "{http://www.w3.org/2000/svg}"
    boxes = root.findall(f".//{space}rect")
    texts = [text.text for text in root.findall(f".//{space}text")]
    assert len(boxes) == 5
    assert "<A & B>" in texts
    assert "when input.n > 1" in texts
    assert all(int(box.attrib["x"]) + 200 <= int(root.attrib["width"]) for box in boxes)
    assert all(int(box.attrib["y"]) + 56 <= int(root.attrib["height"]) for box in boxes)
    assert len({(box.attrib["x"], box.attrib["y"]) for box in boxes}) == 5
    arrows = [path for path in root.findall(f".//{space}path") if "marker-end" in path.attrib]
    assert len(arrows) == 6 + (coordination == "sequential")


def test_the_schema_of_workflows(onex: Onex) -> None:
    """Is that of the models."""
    schema = json.loads(onex("schema", "orchestrator").out)

    assert schema["$id"] == "urn:omnibase:contract:orchestrator:1.0.0"
    assert schema["$defs"]["ModelOrchestratorSubcontract"]["properties"]["max_parallel_steps"]["maximum"] == 100


def test_new_writes_a_set_that_is_valid(onex: Onex, tmp_path: Path) -> None:
    """The workflow with its nodes and the schemas; nothing is overwritten, and nothing half is left."""
    ended = onex("new", "workflow", "nightly", "--dir", "flows")
    files = sorted(path.name for path in (tmp_path / "flows").iterdir())

    assert ended.status == 0
    assert [name for name in files if name.endswith(".yaml")] == [
        "nightly.yaml", "nightly_greet.yaml", "nightly_remove.yaml", "nightly_write.yaml",
    ]  # fmt: skip  # one line of names
    assert onex("validate", *(f"flows/{name}" for name in files if name.endswith(".yaml"))).status == 0
    assert onex("plan", "flows/nightly.yaml", "--set", "name=world").status == 0
    assert onex("new", "workflow", "nightly", "--dir", "flows").status == 2
    (tmp_path / "flows" / "nightly.yaml").unlink()
    assert "nightly_greet.yaml: exists already" in onex("new", "workflow", "nightly", "--dir", "flows").err
    assert not (tmp_path / "flows" / "nightly.yaml").exists()
