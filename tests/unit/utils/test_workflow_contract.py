"""Workflow contracts through the loader: every mistake at its place, all in one go."""

import time

import pytest

from omnibase_core.errors import ModelOnexError
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract
from omnibase_core.utils.contract_loader import judge_text
from omnibase_core.utils.workflow_compiler import compile_workflow
from tests.support.workflow_contracts import NODES, codes, findings, loaded, only, workflow

ASK = "step_id: ask, step_type: wait, wait: {signal: go}"
CALL = "step_id: call, step_type: effect, node: service"
ASK_SOMEBODY = "step_id: a, step_type: approval, approval: {prompt: x}"
TYPED = "step_id: t, step_type: effect, node: typed.yaml, input: {n: 1}"
READ = "step_id: read, step_type: effect, node: service, input: {a: '${steps.call.id}'}"


def test_a_small_workflow_is_fine() -> None:
    """Defaults are those of the specification."""
    contract = loaded(workflow(CALL)).subcontract

    assert contract.coordination_type == "sequential"
    assert contract.max_parallel_steps == 5
    assert contract.durability == "step"
    assert contract.lease.ttl_ms == 15_000
    assert contract.steps[0].enabled


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (workflow(f"{ASK}\n{ASK}"), "E-STEP-DUPLICATE", "steps[0] and steps[1]"),
        (workflow(f"{ASK}, depends_on: [nobody]"), "E-UNKNOWN-STEP", "'nobody', which is no step"),
        (workflow(f"{CALL}\n{ASK}, depends_on: [call, call]"), "E-STEP-DUPLICATE", "twice"),
        (workflow(f"{ASK}, depends_on: [ask]"), "E-CYCLE", "ask -> ask"),
        (
            workflow(f"{ASK}, depends_on: [b]\n{ASK}, depends_on: [ask]".replace("ask, step_type", "b, step_type", 2)
            .replace("step_id: b", "step_id: ask", 1)),
            "E-CYCLE",
            "ask -> b -> ask",
        ),
        (workflow(f"{READ}\n{CALL}"), "E-ORDER", "step 'call' comes later"),
        (workflow(f"{CALL}\n{READ}", coordination_type="parallel"), "E-ORDER", "does not wait for 'call'"),
        (
            workflow(f"{CALL}, depends_on: [read]\n{READ}", coordination_type="parallel"),
            "E-ORDER",
            "waits for 'read', so it comes later",
        ),
        (workflow(READ.replace("call.id", "read.id")), "E-ORDER", "reads its own output"),
        (workflow(READ), "E-UNKNOWN-STEP", "there is no step 'call'"),
        (workflow(f"{CALL}, enabled: false\n{READ}"), "W-STEP-DISABLED", "its output is null"),
        (workflow(f"{CALL}, when: 'false'"), "E-STEP-UNREACHABLE", "its condition is false"),
        (workflow(CALL, coordination_type="event_driven"), "E-STEP-UNREACHABLE", "never started"),
        (workflow(f"{CALL}, when: 1 / 0 > 1"), "E-CEL", "divi"),
        (workflow(f"{CALL}, when: size(steps) > 1"), "E-CEL", "read as a whole"),
        (workflow(f"{CALL}, when: item.a"), "E-CEL", "undeclared name 'item'"),
        (workflow(f"{CALL}, when: steps.later.a\n{ASK}".replace("ask", "later")), "E-ORDER", "steps.later"),
        (workflow(CALL + ", input: {a: '${item}'}"), "E-TEMPLATE", "those of a for_each"),
        (workflow(CALL + ", input: {a: '${event.x}'}"), "E-TEMPLATE", "event is what has started"),
        (workflow(CALL + ", input: {a: '${secret.x}'}"), "E-TEMPLATE", "unknown source"),
        (workflow(CALL + ", input: {a: '${workflow.nope}'}"), "E-TEMPLATE", "has no 'nope' here"),
        (workflow(CALL + ", for_each: input.a, input: {a: '${index.a}'}"), "E-TEMPLATE", "index is a number"),
        (workflow(CALL + ", for_each: '${input.a}${input.b}'"), "E-TEMPLATE", "gives no list"),
        (workflow(CALL + ", for_each: orders"), "E-TEMPLATE", "unknown source 'orders'"),
        (workflow(CALL + ", input: {'${input.a}': 1}"), "E-JSON-KEY", "keys are the contract's own"),
        (workflow(CALL + ", input: {a: .inf}"), "E-JSON", "no JSON form"),
        (workflow(CALL, output="{a: '${item}'}"), "E-TEMPLATE", "the output cannot read"),
        (workflow(CALL, output="{a: '${workflow.token}'}"), "E-TEMPLATE", "has no 'token' here"),
        (workflow(CALL, coordination_type="pipeline", items="'${steps.call}'"), "E-TEMPLATE", "no step has run"),
        (workflow(CALL, items="[1]"), "E-STEP-FIELD", "items stream through a pipeline"),
        (workflow(CALL + ", for_each: [1]", coordination_type="pipeline"), "E-STEP-FIELD", "no for_each in a pipeline"),
        (workflow(ASK, coordination_type="pipeline"), "E-STEP-FIELD", "no wait in a pipeline"),
        (workflow(CALL + ", on_event: a"), "E-STEP-FIELD", "on_event is of event-driven"),
        (workflow(CALL + ", debounce_ms: 5"), "E-STEP-FIELD", "on_event, which is missing"),
        (workflow(CALL + ", wait: {signal: a}"), "E-STEP-FIELD", "an effect step has no wait"),
        (workflow(ASK + ", node: a"), "E-STEP-FIELD", "a wait step has no node"),
        (workflow(ASK + ", for_each: [1]"), "E-STEP-FIELD", "has no for_each"),
        (workflow(ASK + ", on_failure: retry"), "E-STEP-FIELD", "is not repeated"),
        (workflow("step_id: a, step_type: effect"), "E-STEP-FIELD", "needs a node"),
        (workflow("step_id: a, step_type: wait"), "E-STEP-FIELD", "needs wait"),
        (workflow("step_id: a, step_type: approval"), "E-STEP-FIELD", "needs approval"),
        (workflow(CALL + ", compensate: {step_type: wait}"), "E-STEP-FIELD", "nothing waits for it"),
        (workflow(CALL + ", compensate: {step_type: effect}"), "E-STEP-FIELD", "needs a node"),
        (workflow(ASK.replace("signal: go", "")), "E-WAIT", "found none"),
        (workflow(ASK.replace("go", "go, duration_ms: 5")), "E-WAIT", "signal and duration_ms"),
        (workflow(ASK.replace("signal: go", "duration_ms: 5, timeout_ms: 6")), "E-WAIT", "ends by itself"),
        (workflow(ASK.replace("go", "go, on_timeout: continue")), "E-WAIT", "this wait has no end"),
        (workflow(ASK.replace("go", "go, timeout_ms: 5, value: 1")), "E-WAIT", "but then the step fails"),
        (workflow(ASK.replace("signal: go", "until: '2030-01-01T00:00:00'")), "E-WAIT", "with its zone"),
        (workflow("step_id: a, step_type: approval, approval: {prompt: x, on_timeout: fail}"), "E-WAIT", "no end"),
        (workflow(ASK_SOMEBODY.replace("x}", "x, escalate_after_ms: 5}")), "E-WAIT", "go together"),
        (
            workflow(
                "step_id: a, step_type: approval, approval: {prompt: x, timeout_ms: 5, escalate_after_ms: 5, "
                "escalate: {step_type: effect, node: call}}"
            ),
            "E-WAIT",
            "before it is escalated",
        ),
        (workflow(CALL, triggers="[{}]"), "E-TRIGGER", "found none"),
        (workflow(CALL, triggers="[{schedule: {cron: '* * * *'}}]"), "E-TRIGGER", "found 4"),
        (workflow(CALL, triggers="[{schedule: {cron: '@daily'}}]"), "E-TRIGGER", "five fields"),
        (workflow(CALL, triggers="[{schedule: {cron: '0 0 * * *', timezone: Mars}}]"), "E-TRIGGER", "no time zone"),
        (workflow(CALL, dependencies="[{service_name: a}, {service_name: a}]"), "E-STEP-DUPLICATE", "service 'a'"),
        (workflow(CALL, dependencies="[{service_name: a, version_constraint: latest}]"), "E-TEXT", "not well-formed"),
        (workflow(CALL, conflict_resolution="{retry_conditions: [TIMED_OUT]}"), "W-RETRY-CONDITION", "no error code"),
        (workflow(CALL, conflict_resolution="{retry_config: {budget: false}}"), "W-STEP-RETRY", "no effect on a step"),
        (workflow(CALL + ", retry: {retryable_errors: [ETIMEDOUT]}"), "W-RETRY-CONDITION", "no error code"),
        (workflow(CALL + ", idempotency_key: once"), "W-STEP-KEY", "the same in every run"),
        (workflow(CALL + ", idempotency_key: '${workflow.name}'"), "W-STEP-KEY", "the same in every run"),
        (
            workflow(CALL + ", idempotency_key: '${workflow.id}', for_each: [1, 2]"),
            "W-STEP-KEY",
            "the same for every entry",
        ),
        (
            workflow(CALL + ", idempotency_key: '${workflow.id}'", coordination_type="pipeline"),
            "W-STEP-KEY",
            "the same for every item",
        ),
        (
            workflow(CALL, input_schema="{required: [n]}", triggers="[{schedule: {cron: '0 2 * * *'}}]"),
            "E-STEP-INPUT",
            "does not take the input of this trigger: the input: breaks 'required' 'n'",
        ),
        (
            workflow(CALL, input_schema="{required: [n]}", triggers="[{event: {on_event: a}, input: {m: 1}}]"),
            "E-STEP-INPUT",
            "does not take the input of this trigger",
        ),
        (workflow(CALL + ", on_failure: compensate"), "W-STEP-NOTHING-UNDONE", "no step has a compensate"),
        (workflow(CALL + ", priority: 1"), "W-STEP-PRIORITY", "no effect in a workflow that is sequential"),
        (workflow(CALL + ", priority: 1", coordination_type="pipeline"), "W-STEP-PRIORITY", "that is pipeline"),
        (workflow(CALL, max_parallel_steps="101"), "E-BOUNDS", "out of bounds"),
        (workflow("", x="1").replace("  steps:\n", "  steps: []\n").replace("  x: 1\n", ""), "E-LENGTH", "0 entries"),
        (workflow("\n".join(f"step_id: s{i}, step_type: effect, node: a" for i in range(1_001))), "E-LENGTH", "1001"),
        (workflow(CALL.replace("call", "no space", 1)), "E-TEXT", "not well-formed"),
        (workflow(CALL, input_schema="{type: nonsense}"), "E-INPUT-SCHEMA", "no JSON Schema"),
        (workflow(CALL, input_schema="nowhere.json"), "E-SCHEMA-FILE", "no such file"),
    ],
)  # fmt: skip  # one case, one line
def test_a_mistake_is_found_once_with_its_reason(text: str, code: str, words: str) -> None:
    """One finding for one mistake, at a line of its own."""
    found = only(text)

    assert (found.code, found.line > 0) == (code, True)
    assert words in found.message


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (workflow("step_id: a, step_type: compute, node: send.yaml"), "E-NODE-KIND", "is an effect contract"),
        (workflow("step_id: a, step_type: effect, node: gone.yaml"), "E-NODE-FILE", "no such file"),
        (workflow("step_id: a, step_type: effect, node: nodes/send"), "E-NODE-FILE", "none of a contract's"),
        (workflow("step_id: a, step_type: effect, node: /send.yaml"), "E-NODE-FILE", "relative to this file"),
        (workflow("step_id: a, step_type: effect, node: send.yaml, input: {by: x}"), "E-STEP-INPUT", "lacks order.id"),
        (
            workflow("step_id: a, step_type: effect, node: send.yaml, input: {order: {id: null}, by: x}"),
            "E-STEP-INPUT",
            "lacks order.id",
        ),
        (
            workflow("step_id: a, step_type: effect, node: send.yaml, input: {order: {id: 7}}"),
            "E-STEP-INPUT",
            "lacks by, which operation 'post' reads",
        ),
        (workflow("step_id: a, step_type: effect, node: send.yaml, input: [1]"), "E-STEP-INPUT", "is a map"),
        (
            workflow("step_id: a, step_type: effect, node: typed.yaml, input: {n: x}"),
            "E-STEP-INPUT",
            "n: breaks 'type'",
        ),
        (
            workflow("step_id: a, step_type: effect, node: typed.yaml, input: {n: 'x ${input.n}'}"),
            "E-STEP-INPUT",
            "n: breaks 'type'",
        ),
        (workflow("step_id: a, step_type: compute, node: total.yaml"), "E-STEP-INPUT", "'required' 'lines'"),
        (
            workflow("step_id: a, step_type: compute, node: total.yaml, input: {lines: [1], lins: '${input.x}'}"),
            "E-STEP-INPUT",
            "'additionalProperties' ('lins')",
        ),
        (
            workflow("step_id: a, step_type: compute, node: total.yaml, input: {lines: ['${input.x}', one]}"),
            "E-STEP-INPUT",
            "lines.1: breaks 'type'",
        ),
        (
            workflow("step_id: a, step_type: compute, node: total.yaml, input: {lines: [1], mode: c}"),
            "E-STEP-INPUT",
            "mode: breaks 'enum'",
        ),
        (workflow("step_id: a, step_type: reducer, node: machine.yaml"), "E-STEP-INPUT", "it lacks action"),
        (
            workflow("step_id: a, step_type: reducer, node: machine.yaml, input: 7"),
            "E-STEP-INPUT",
            "a reducer is given",
        ),
        (
            workflow("step_id: a, step_type: reducer, node: machine.yaml, input: {action: SHUT}"),
            "E-STEP-INPUT",
            "no trigger 'SHUT'; it knows CLOSE",
        ),
        (
            workflow("step_id: a, step_type: reducer, node: machine.yaml, input: {action: CLOSE, total: 7}"),
            "E-STEP-INPUT",
            "unknown field 'total'",
        ),
        (
            workflow("step_id: a, step_type: reducer, node: machine.yaml, input: {action: CLOSE, payload: 7}"),
            "E-STEP-INPUT",
            "payload is a map",
        ),
        (
            workflow(
                "step_id: a, step_type: reducer, node: machine.yaml, input: {action: CLOSE, state: {state: ajar}}"
            ),
            "E-STEP-INPUT",
            "no state 'ajar'; it knows closed, open",
        ),
        (
            workflow("step_id: a, step_type: reducer, node: machine.yaml, input: {action: CLOSE, state: open}"),
            "E-STEP-INPUT",
            "state is a snapshot",
        ),
        (
            workflow(f"{TYPED}\nstep_id: b, step_type: effect, node: x, input: {{a: '${{steps.t.raed}}'}}"),
            "E-UNKNOWN-FIELD-REFERENCE",
            "step 't' gives no 'raed'",
        ),
        (
            workflow(f"{TYPED}\nstep_id: b, step_type: effect, node: x, input: {{a: '${{steps.t.read.path}}'}}"),
            "E-UNKNOWN-FIELD-REFERENCE",
            "operation 'read' of step 't' gives no 'path'",
        ),
        (workflow("step_id: a, step_type: orchestrator, node: deep/child.yaml"), "E-STEP-INPUT", "'required' 'n'"),
        (
            workflow(CALL + ", compensate: {step_type: effect, node: store.yaml}"),
            "E-STEP-INPUT",
            "lacks id, which operation 'note' reads",
        ),
        (
            workflow("step_id: a, step_type: effect, node: send.yaml, input: '${input}', retry: {max_retries: 1}"),
            "W-STEP-NOT-IDEMPOTENT",
            "only where surely nothing was done",
        ),
        (
            workflow("step_id: a, step_type: effect, node: send.yaml, input: '${input}', on_failure: retry"),
            "W-STEP-NOT-IDEMPOTENT",
            "only where surely nothing was done",
        ),
    ],
)
def test_what_does_not_fit_the_contract_of_a_step_is_found(text: str, code: str, words: str) -> None:
    """Kind, file and input are judged by the node's own contract."""
    found = only(text)

    assert found.code == code
    assert words in found.message


@pytest.mark.parametrize(
    "step",
    [
        "step_type: effect, node: send.yaml, input: '${input}'",
        "step_type: effect, node: send.yaml, input: {order: '${input.order}', by: me}",
        "step_type: effect, node: typed.yaml, input: {n: '${input.n}'}",
        "step_type: effect, node: store.yaml, input: {id: 7}, retry: {max_retries: 2}",
        "step_type: compute, node: total.yaml, input: {lines: '${input.lines}', mode: '${input.mode}'}",
        "step_type: compute, node: total.yaml, input: {lines: [1], title: 'a${input.x}'}",
        "step_type: compute, node: total.yaml, input: {lines: [1], title: 'a$${input.x}'}",
        "step_type: reducer, node: machine.yaml, input: {action: CLOSE, payload: {a: 1}, state: {state: open}}",
        "step_type: reducer, node: machine.yaml, input: {action: '${input.a}', state: '${input.b}'}",
        "step_type: orchestrator, node: deep/child.yaml, input: {n: '${input.n}'}",
        (
            f"step_type: effect, node: x\n{TYPED}\n"
            "step_id: b, step_type: effect, node: x, input: ['${steps.t.read.size}', '${steps.t}', '${steps.t.x:-1}']"
        ),
        (
            f"step_type: effect, node: x\n{TYPED}, for_each: [1]\n"
            "step_id: b, step_type: effect, node: x, input: '${steps.t.0.read}'"
        ),
    ],
)
def test_what_may_fit_is_left_to_the_run(step: str) -> None:
    """A placeholder is taken for whatever the contract wants."""
    assert codes(workflow(f"step_id: a, {step}")) == []


def test_the_errors_of_a_node_are_shown_in_its_own_file() -> None:
    """Once, however many steps name it, with its own line and column."""
    step = "step_type: effect, node: broken.yaml"

    found = only(workflow(f"step_id: a, {step}\nstep_id: b, {step}"))

    assert (found.file, found.code, found.line) == ("broken.yaml", "E-LENGTH", 3)


def test_the_errors_of_a_childs_node_are_shown_too() -> None:
    """They come through the child, in the file where they are; those of the workflow itself come first."""
    nodes = {
        "sub/child.yaml": workflow("step_id: a, step_type: effect, node: x.yaml"),
        "sub/x.yaml": NODES["broken.yaml"],
    }

    found = findings(workflow("step_id: a, step_type: orchestrator, node: sub/child.yaml\nstep_id: a"), nodes)

    assert [(one.file, one.code) for one in found] == [
        ("main.yaml", "E-MISSING-FIELD"),
        ("main.yaml", "E-STEP-DUPLICATE"),
        ("sub/x.yaml", "E-LENGTH"),
    ]


def test_workflows_that_start_each_other_are_refused_with_the_path() -> None:
    """Whoever is loaded first."""
    child = "step_id: a, step_type: orchestrator, node: "
    nodes = {"b.yaml": workflow(child + "c/c.yaml"), "c/c.yaml": workflow(child + "../b.yaml")}

    found = only(workflow(child + "b.yaml"), nodes)

    assert (found.file, found.code) == ("c/c.yaml", "E-CYCLE")
    assert "b.yaml -> c/c.yaml -> b.yaml" in found.message


def test_a_workflow_that_starts_itself_is_refused() -> None:
    """The shortest circle."""
    text = workflow("step_id: a, step_type: orchestrator, node: main.yaml")

    assert "main.yaml -> main.yaml" in only(text, {"main.yaml": text}).message


def test_children_nest_to_a_limit() -> None:
    """A chain that is too long is refused before it fills the stack."""
    nodes = {f"w{n}.yaml": workflow(f"step_id: a, step_type: orchestrator, node: w{n + 1}.yaml") for n in range(40)} | {
        "w40.yaml": workflow(CALL)
    }

    assert "nest deeper than" in only(workflow("step_id: a, step_type: orchestrator, node: w0.yaml"), nodes).message


def test_a_text_has_no_files_beside_it() -> None:
    """A contract that is no file names services only."""
    (judged,) = judge_text(workflow("step_id: a, step_type: effect, node: send.yaml"))

    assert "nothing lies beside it" in judged.diagnostics[0].message


def test_everything_is_found_in_one_go() -> None:
    """What is wrong in one step hides nothing of the others, nor what is wrong around them."""
    text = workflow(
        "step_id: a, step_type: effekt, node: send.yaml, input: {a: '${steps.zzz}'}, when: 'foo'\n"
        "step_id: b, step_type: compute, node: total.yaml, for_each: '${input'\n"
        "step_type: effect, node: gone.yaml\n"
        "step_id: d, step_type: wait, wait: {signal: a, until: x}, depends_on: [e]\n"
        "step_id: e, step_type: approval, approval: {prompt: '${secret.x}'}, depends_on: [d], idempotency_key: 5",
        triggers="[{schedule: {cron: x}}]",
        output="{a: '${nope}'}",
    )

    found = codes(text)

    for code in (
        "E-VALUE", "E-UNKNOWN-STEP", "E-CEL", "E-TEMPLATE", "E-MISSING-FIELD", "E-NODE-FILE", "E-WAIT", "E-CYCLE",
        "E-TYPE", "E-TRIGGER", "E-STEP-INPUT",
    ):  # fmt: skip  # a list of words
        assert code in found, code


def test_rules_hold_in_python_as_well() -> None:
    """A contract that is built by a program raises the first rule that it breaks."""
    step = {"step_id": "a", "step_type": "effect", "node": "x"}

    with pytest.raises(ModelOnexError, match="there twice"):
        ModelOrchestratorSubcontract.model_validate({"workflow_name": "w", "steps": [step, step]})
    with pytest.raises(ModelOnexError, match="needs a node"):
        ModelOrchestratorSubcontract.model_validate({"workflow_name": "w", "steps": [{**step, "node": None}]})


def test_compiling_in_python_raises_the_first_problem() -> None:
    """With its place."""
    step = {"step_id": "a", "step_type": "effect", "node": "x", "input": {"a": "${steps.b}"}}
    contract = ModelOrchestratorSubcontract.model_validate({"workflow_name": "w", "steps": [step]})

    with pytest.raises(ModelOnexError, match=r"steps\.0\.input\.a: .*no step 'b'"):
        compile_workflow(contract)


def test_loading_time_grows_with_the_number_of_steps_only() -> None:
    """A thousand steps, each with condition, input and dependencies, take at most 20 times as long as a hundred."""

    def text(count: int) -> str:
        steps = ["step_id: s0, step_type: effect, node: a"]
        steps += [
            f"step_id: s{i}, step_type: effect, node: a, depends_on: [s{i - 1}], when: 'input.a > {i}', "
            f"input: {{a: '${{steps.s{i - 1}.x}}', b: [1, '${{input.b}}']}}"
            for i in range(1, count)
        ]
        return workflow("\n".join(steps), coordination_type="parallel")

    hundred, thousand = text(100), text(1_000)

    assert codes(thousand) == []
    small = min(cpu_time(hundred) for _ in range(3))
    large = min(cpu_time(thousand) for _ in range(2))
    assert large < 20 * small, (small, large)


def cpu_time(text: str) -> float:
    """CPU seconds of one load."""
    started = time.process_time()
    judge_text(text)
    return time.process_time() - started
