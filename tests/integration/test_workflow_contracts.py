"""Workflows from their text to their end, in virtual time: what the compiler makes is what the interpreter runs."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from pydantic import JsonValue

from omnibase_core.errors import ContractError
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import RunView, Signal, StartRequest
from omnibase_core.utils.contract_loader import load_contract
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_events import RunEvents
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import run_virtual
from tests.support.workflows import Service, failure

HEAD = "orchestrator_subcontract:\n  workflow_name: w\n"
Drive = Callable[[MemoryEngine, MemoryEventBus], Coroutine[object, object, object]]


def ran(body: str, input_data: JsonValue = None, service: Service | None = None, drive: Drive | None = None) -> RunView:
    """Load a workflow whose steps call the service `work`, and run it."""
    loaded = load_contract(HEAD + body).workflow
    assert loaded is not None
    bundle = loaded.bundle

    async def main() -> RunView:
        bus = MemoryEventBus()
        container = ModelONEXContainer()
        container.register_service("work", service or Service())
        engine = MemoryEngine(WorkflowRunner(container).run, events=RunEvents(lambda: bus))
        await engine.start(StartRequest("r", bundle, input_data))
        if drive is not None:
            await drive(engine, bus)
        view = await engine.wait("r")
        await engine.aclose()
        await bus.aclose()
        return view

    return run_virtual(main())


def output(view: RunView) -> JsonValue:
    assert isinstance(view.output, dict), view.error
    return view.output["output"]


def statuses(view: RunView) -> dict[str, str]:
    assert isinstance(view.output, dict), view.error
    steps = view.output["steps"]
    assert isinstance(steps, dict)
    return {name: str(entry["status"]) for name, entry in steps.items() if isinstance(entry, dict)}


def seconds(view: RunView) -> int:
    return round((view.updated_at - view.created_at).total_seconds())


@pytest.mark.parametrize("durability", ["step", "level", "run"])
def test_conditions_lists_and_templates(durability: str) -> None:
    """CEL over input, item and outputs; a placeholder alone keeps its type; the output is of the contract's shape."""
    view = ran(
        f"""
  durability: {durability}
  coordination_type: parallel
  steps:
    - {{step_id: each, step_type: effect, node: work, for_each: "${{input.list}}", when: "item > 1",
       input: {{n: "${{item}}", at: "${{index}}", text: "no ${{item}}"}}}}
    - {{step_id: some, step_type: effect, node: work, depends_on: [each], when: "size(steps.each) > 2",
       input: {{all: "${{steps.each}}", key: "${{workflow.step_id}}"}}}}
    - {{step_id: none, step_type: effect, node: work, when: "input.list[0] > 5", input: {{}}}}
    - {{step_id: off, step_type: effect, node: work, enabled: false, input: {{}}}}
  output: {{first: "${{steps.each[1].n}}", key: "${{steps.some.key}}", none: "${{steps.none}}"}}
""",
        {"list": [1, 2, 3]},
    )

    assert output(view) == {"first": 2, "key": "some", "none": None}
    assert statuses(view) == {"each": "completed", "some": "completed", "none": "skipped", "off": "skipped"}


def test_retries_policies_and_compensation() -> None:
    """Conditions of the whole workflow, a policy of a step, and undoing in reverse order."""
    service = Service({"{'do': 'b'}": [TimeoutError("x"), TimeoutError("x"), "ok"], "{'do': 'd'}": failure("no")})
    view = ran(
        """
  conflict_resolution: {retry_conditions: [TimeoutError], max_retries: 2, retry_config: {base_delay_ms: 1000}}
  steps:
    - step_id: a
      step_type: effect
      node: work
      input: {do: a}
      compensate: {step_id: undo_a, step_type: effect, node: work, input: {undo: "${steps.a.do}"}}
    - {step_id: b, step_type: compute, node: work, input: {do: b},
       compensate: {step_id: undo_b, step_type: effect, node: work, input: {undo: b}}}
    - {step_id: c, step_type: effect, node: work, input: {do: d}, on_failure: skip}
    - {step_id: d, step_type: effect, node: work, input: {do: d}}
""",
        service=service,
    )

    assert statuses(view) == {"a": "compensated", "b": "compensated", "c": "skipped", "d": "failed"}
    assert service.calls[-2:] == [{"undo": "b"}, {"undo": "a"}]
    assert view.error is not None
    assert "step 'd' is failed" in view.error.message


def test_waits_approvals_and_their_times() -> None:
    """A duration, a moment, a signal with its time, an approval with its escalation."""

    async def drive(engine: MemoryEngine, _bus: MemoryEventBus) -> None:
        await asyncio.sleep(3_600 + 40)
        await engine.signal("r", Signal("ok", {"approved": True}, sender="ann"))

    service = Service()
    view = ran(
        """
  steps:
    - {step_id: hour, step_type: wait, wait: {duration_ms: 3600000}}
    - {step_id: past, step_type: wait, wait: {until: "${input.when}"}}
    - {step_id: paid, step_type: wait, wait: {signal: paid, timeout_ms: 10000, on_timeout: continue, value: none came}}
    - step_id: ok
      step_type: approval
      approval:
        prompt: "ship ${input.what}?"
        approvers: [ann]
        timeout_ms: 100000
        escalate_after_ms: 20000
        escalate: {step_id: boss, step_type: effect, node: work, input: {tell: boss}}
    - {step_id: ship, step_type: effect, node: work, when: steps.ok.approved, input: {ship: "${input.what}"}}
""",
        {"when": "2020-01-01T00:00:00Z", "what": "book"},
        service,
        drive,
    )

    assert output(view) == {
        "hour": None,
        "past": None,
        "paid": "none came",
        "ok": {"approved": True, "by": "ann"},
        "ship": {"ship": "book"},
    }
    assert service.calls == [{"tell": "boss"}, {"ship": "book"}]
    assert seconds(view) == 3_640


@pytest.mark.parametrize(("what", "expected"), [("reject", False), ("approve", True)])
def test_an_approval_that_nobody_gives(what: str, expected: bool) -> None:
    """Means what its contract says."""
    body = f"""
  steps:
    - {{step_id: ok, step_type: approval, approval: {{prompt: go on, timeout_ms: 5000, on_timeout: {what}}}}}
  output: "${{steps.ok.approved}}"
"""

    assert output(ran(body)) is expected


def test_events_start_and_join_steps() -> None:
    """on_event with filter and key, and a wait for an event of the run's own key."""

    async def drive(_engine: MemoryEngine, bus: MemoryEventBus) -> None:
        for event_type, payload in (
            ("OrderPlaced", {"order": 7, "sum": 0}),
            ("OrderPlaced", {"order": 7, "sum": 5}),
            ("Paid", {"order": 7}),
            ("Packed", {"order": 8}),
            ("Packed", {"order": 7}),
        ):
            event: ModelEventEnvelope[object] = ModelEventEnvelope(event_type=event_type, payload=payload)
            await bus.publish(event)
            await bus.drain()
        await asyncio.sleep(1)
        for name in ("x", "order-7"):
            last: ModelEventEnvelope[object] = ModelEventEnvelope(
                event_type="Sent", payload={"by": name}, headers={"partitionkey": name}
            )
            await bus.publish(last)
            await bus.drain()

    view = ran(
        """
  coordination_type: event_driven
  steps:
    - {step_id: placed, step_type: effect, node: work, on_event: OrderPlaced, filter: "event.payload.sum > 0",
       input: {order: "${event.payload.order}"}}
    - {step_id: ready, step_type: effect, node: work, on_event: [Paid, Packed], key: "${event.payload.order}",
       input: {paid: "${event.Paid.payload.order}", packed: "${event.Packed.payload.order}"}}
    - {step_id: sent, step_type: wait, depends_on: [placed, ready],
       wait: {event: {type: Sent, key: "order-${steps.placed.order}"}}}
  output: "${steps.sent.by}"
""",
        drive=drive,
    )

    assert output(view) == "order-7"
    assert view.output is not None


def test_a_pipeline_streams_its_items() -> None:
    """In order, with the output of the last step."""
    view = ran(
        """
  coordination_type: pipeline
  steps:
    - {step_id: a, step_type: effect, node: work, input: {n: "${item}"}}
    - {step_id: b, step_type: effect, node: work, input: {n: "${steps.a.n}", at: "${index}"}}
""",
        {"items": ["x", "y"]},
        Service(seconds=1),
    )

    assert output(view) == {"b": [{"n": "x", "at": 0}, {"n": "y", "at": 1}]}
    assert seconds(view) == 3


def test_the_time_of_a_workflow_and_of_a_step() -> None:
    """An attempt that is cut off is repeated where that does no harm; the whole ends when its time is up."""
    view = ran(
        """
  workflow_timeout_ms: 10000
  steps:
    - {step_id: slow, step_type: compute, node: work, timeout_ms: 2000, input: {},
       retry: {max_retries: 9, base_delay_ms: 1000, jitter_factor: 0.0, backoff_strategy: fixed}}
""",
        service=Service(seconds=60),
    )

    assert statuses(view) == {"slow": "failed"}
    assert view.error is not None
    assert view.error.code.value == "TIMEOUT"
    assert 9 <= seconds(view) <= 10


ROUND = """
  input_schema: {type: object, required: [n], properties: {n: {type: integer, maximum: 4}}}
  steps:
    - {step_id: add, step_type: effect, node: work, input: {n: "${input.n}", key: "${workflow.action_id}"}}
  continue_as_new: {when: "WHEN", input: {n: "${steps.add.next}"}}
  output: {last: "${steps.add.next}"}
"""


def test_a_run_goes_round_until_its_condition_does_not_hold() -> None:
    """Each round has an empty history, another input and other ids; the last one's output is the run's."""
    service = Service()
    execute = service.execute

    async def adding(parameters: JsonValue) -> object:
        await execute(parameters)
        assert isinstance(parameters, dict)
        return {"next": int(str(parameters["n"])) + 1}

    service.execute = adding  # type: ignore[method-assign]  # one that adds
    view = ran(ROUND.replace("WHEN", "steps.add.next < 4"), {"n": 1}, service)

    assert output(view) == {"last": 4}
    assert view.input_data == {"n": 3}
    calls = [call for call in service.calls if isinstance(call, dict)]
    assert [call["n"] for call in calls] == [1, 2, 3]
    assert len({str(call["key"]) for call in calls}) == 3

    again = ran(ROUND.replace("WHEN", "steps.add.next < 9"), {"n": 1}, service)

    assert again.error is not None
    assert "maximum" in again.error.message
    assert again.error.code.value == "VALIDATION_ERROR"


def test_a_round_that_cannot_be_judged_is_a_failed_run() -> None:
    """Its steps are in the document."""
    view = ran(ROUND.replace("WHEN", "steps.add.nothing < 4"), {"n": 1})

    assert view.status.value == "failed"
    assert statuses(view) == {"add": "completed"}
    assert view.error is not None
    assert "continues as new" in view.error.message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{when: 'steps.b.x > 1'}", "E-UNKNOWN-STEP"),
        ("{when: 'item > 1'}", "E-CEL"),
        ("{input: {}}", "E-MISSING-FIELD"),
    ],
)
def test_a_round_is_judged_with_its_contract(text: str, code: str) -> None:
    """Names that are not there, and a condition that is missing."""
    body = f"  continue_as_new: {text}\n  steps: [{{step_id: a, step_type: effect, node: work, input: {{}}}}]\n"

    with pytest.raises(ContractError) as error:
        load_contract(HEAD + body)

    assert [each.code for each in error.value.diagnostics] == [code]
