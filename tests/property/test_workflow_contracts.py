"""Whatever is wrong with a workflow, the loader answers with findings."""

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.errors import Diagnostic
from omnibase_core.utils.contract_files import files_of
from omnibase_core.utils.contract_loader import judge_text
from omnibase_core.utils.workflow_bundle import load_bundle
from omnibase_core.utils.workflow_graph import ancestors_of, topological_order
from omnibase_core.utils.yaml_document import read_documents
from tests.support.workflow_contracts import NODES, workflow

RICH = workflow(
    "step_id: total, step_type: compute, node: total.yaml, input: {lines: ['${input.n}']}, for_each: input.rows, "
    "when: item > input.n, retry: {max_retries: 1}, priority: 3, step_name: x\n"
    "step_id: send, step_type: effect, node: send.yaml, input: {order: {id: '${steps.total}'}, by: me}, "
    "depends_on: [total], compensate: {step_type: effect, node: store.yaml, input: {id: '${steps.send}'}}, "
    "idempotency_key: '${workflow.id}', on_failure: retry, timeout_ms: 5\n"
    "step_id: ask, step_type: approval, depends_on: [send], approval: {prompt: '${input.n}?', approvers: [a], "
    "timeout_ms: 9, on_timeout: fail, escalate_after_ms: 5, escalate: {step_type: effect, node: call}}\n"
    "step_id: wait, step_type: wait, wait: {event: {type: t, filter: event.a == steps.ask.by, key: '${input.n}'}, "
    "timeout_ms: 5, on_timeout: continue, value: 1}, depends_on: [ask]\n"
    "step_id: until, step_type: wait, wait: {until: '${steps.wait.at}'}, depends_on: [wait], enabled: false\n"
    "step_id: fold, step_type: reducer, node: machine.yaml, input: {action: CLOSE, state: null}\n"
    "step_id: child, step_type: orchestrator, node: deep/child.yaml, input: {n: 1}",
    coordination_type="parallel",
    durability="level",
    max_parallel_steps="7",
    workflow_timeout_ms="99",
    lease="{ttl_ms: 2000}",
    input_schema="{type: object}",
    dependencies="[{service_name: a, version_constraint: '>=1'}]",
    conflict_resolution="{retry_conditions: [TIMEOUT], retry_config: {base_delay_ms: 100}}",
    triggers="[{schedule: {cron: '0 2 * * *', timezone: UTC}}, {event: {on_event: [a], filter: event.x, key: k}}]",
    output="{a: ['${steps.total}']}",
)
DATA = read_documents(RICH)[0][0].data
STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2_000),
    st.floats(),
    st.sampled_from(
        [
            *("", "x", "total", "send", "${steps.send}", "${", "${input}", "1 +", "steps.ask", "item"),
            *("parallel", "pipeline", "event_driven", "wait", "effect", "orchestrator"),
            *("send.yaml", "broken.yaml", "gone.yaml", "../x.yaml", "a/b"),
        ]
    ),
    st.just([]),
    st.just({}),
    st.just(["total", "fold"]),
    st.just({"step_id": "total"}),
)


def places(value: JsonValue, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a document."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, entry in value.items():
            found += places(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            found += places(entry, (*path, index))
    return found


PLACES = places(DATA)


def changed(data: JsonValue, path: tuple[str | int, ...], action: str, value: JsonValue) -> None:
    """Put something else there, take it away, or give it another name; nothing when it is gone already."""
    here = data
    for key in path[:-1]:
        if isinstance(here, dict) and key in here:
            here = here[str(key)]
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            here = here[key]
        else:
            return
    last = path[-1]
    if isinstance(here, dict) and last in here:
        if action == "remove":
            del here[str(last)]
        elif action == "rename":
            here[f"{last}x"] = here.pop(str(last))
        else:
            here[str(last)] = value
    elif isinstance(here, list) and isinstance(last, int) and last < len(here):
        if action == "remove":
            del here[last]
        else:
            here[last] = value


def test_the_workflow_of_these_tests_is_sound() -> None:
    """All kinds of steps and all fields are in it."""
    (judged,) = judge_text(RICH, "main.yaml", files_of(NODES))

    assert [d.code for d in judged.diagnostics if d.severity == "error"] == []


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["replace", "remove", "rename"]), STRANGE),
        min_size=1,
        max_size=5,
    )
)
def test_every_change_is_judged(changes: list[tuple[tuple[str | int, ...], str, JsonValue]]) -> None:
    """No exception but findings; there is a contract exactly when none of them is an error, and its bundle loads."""
    data = copy.deepcopy(DATA)
    for path, action, value in changes:
        changed(data, path, action, copy.deepcopy(value))

    (judged,) = judge_text(
        json.dumps(data).replace("NaN", ".nan").replace("Infinity", ".inf"), "main.yaml", files_of(NODES)
    )

    errors = [found for found in judged.diagnostics if found.severity == "error"]
    assert (judged.contract is None) == bool(errors)
    if judged.contract is not None and judged.contract.workflow is not None:
        assert load_bundle(judged.contract.workflow.bundle).plan.order == judged.contract.workflow.plan.order


@st.composite
def readers(draw: st.DrawFn) -> tuple[list[list[int]], list[int], str]:
    """A workflow without a cycle: who waits for whom, whose output each step reads, and how the steps follow."""
    size = draw(st.integers(2, 8))
    rank = draw(st.permutations(range(size)))
    needed = [
        draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        for before in ([other for other in range(size) if rank[other] < rank[index]] for index in range(size))
    ]
    reads = [draw(st.integers(0, size - 1)) for _ in range(size)]
    return needed, reads, draw(st.sampled_from(["sequential", "parallel", "pipeline", "event_driven"]))


@settings(max_examples=200, deadline=None)
@given(readers())
def test_a_step_reads_what_surely_came_before_and_nothing_else(found: tuple[list[list[int]], list[int], str]) -> None:
    """In a sequence all that is earlier in the order; else what the step waits for, directly or not."""
    needed, reads, coordination = found
    event = ", on_event: e" if coordination == "event_driven" else ""
    text = workflow(
        "\n".join(
            f"step_id: s{index}, step_type: effect, node: x, depends_on: [{','.join(f's{n}' for n in needed[index])}], "
            f"input: {{a: '${{steps.s{reads[index]}}}'}}{event}"
            for index in range(len(needed))
        ),
        coordination_type=coordination,
    )

    refused = {d.key_path.split("[")[1].split("]")[0] for d in judged_of(text) if d.code == "E-ORDER"}

    order = topological_order(needed)
    expected = set()
    for index, other in enumerate(reads):
        before = set(order[: order.index(index)])
        if coordination in {"parallel", "event_driven"}:
            before = {n for n in range(len(needed)) if ancestors_of(needed, order)[index] >> n & 1}
        if other not in before:
            expected.add(str(index))
    assert refused == expected


def judged_of(text: str) -> list[Diagnostic]:
    """What is found in one document."""
    return list(judge_text(text, "main.yaml", files_of(NODES))[0].diagnostics)
