"""What a step does with its node: contracts of each kind, services, children."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumWorkflowStepType
from omnibase_core.logging.redaction import register_secret
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_workflow_engine import StartRequest, StepOutcome, Work
from omnibase_core.utils.contract_loader import load_contract
from omnibase_core.utils.workflow_plan import WorkflowPlan, WorkflowScope
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.testing import ScriptedHandler, container_with, fault, run_virtual
from tests.support.computing import compute_nodes, pure
from tests.support.workflows import BUNDLE, Bench, Ran, Service, StepSpec, failure, plan_of, ran, retried, step

EFFECT = """
effect_subcontract:
  subcontract_name: place
  version: "1.0.0"
  execution_mode: sequential_abort
  operations:
    - operation_name: post
      idempotent: {idempotent}
      io_config:
        handler_type: http
        method: POST
        url_template: "http://127.0.0.1/orders"
        headers: {{Idempotency-Key: "${{input.key}}"}}
        body_template: "${{input.order}}"
      retry_policy: {{max_retries: 0}}
      response_handling:
        success_codes: [200]
        extract_fields: {{id: $.id}}
"""
MACHINE = """
reducer_subcontract:
  state_machine:
    state_machine_name: orders
    initial_state: NEW
    states:
      - {state_name: NEW}
      - {state_name: PAID, is_terminal: true}
    transitions:
      - {transition_name: pay, from_state: NEW, to_state: PAID, trigger: PAY, assign: {sum: "${payload.sum}"}}
"""


def effect(step_id: str, **fields: object) -> StepSpec:
    given: dict[str, object] = {"node": "effect.yaml", "is_service": False, **fields}
    return step(step_id, **given)


def with_handler(spec: StepSpec, handler: ScriptedHandler, *, idempotent: bool = True) -> Ran:
    """A run of one effect step on a scripted handler."""
    nodes = {"effect.yaml": load_contract(EFFECT.format(idempotent=str(idempotent).lower()))}
    bench = Bench(plan_of(spec), Service(), nodes, container_with(http=handler))

    async def main() -> Ran:
        engine = MemoryEngine(bench.run)
        await engine.start(StartRequest("w", BUNDLE, None))
        view = await engine.wait("w")
        records = await engine.steps("w")
        await engine.aclose()
        return Ran(view, bench.service, records)

    return run_virtual(main())


def order(scope: WorkflowScope) -> JsonValue:
    return {"key": scope.workflow["action_id"], "order": "one"}


def test_an_effect_gives_its_extracted_fields_and_its_action_id_reaches_the_target() -> None:
    """By operation; the id is in the result too."""
    handler = ScriptedHandler({"id": 7})

    done = with_handler(effect("a", make_input=order), handler)

    assert done.statuses == {"a": "completed"}, done.document
    assert done.output == {"a": {"post": {"id": 7}}}
    headers = getattr(handler.contexts[0], "headers")  # noqa: B009  # of the HTTP context
    assert headers["Idempotency-Key"] == done.result("a")["action_id"]


def test_the_key_of_a_step_is_the_key_that_its_effect_carries() -> None:
    """The same for the same key, whatever run asks; without one it is made of the action."""
    text = EFFECT.format(idempotent="true")
    own = text.replace('headers: {Idempotency-Key: "${input.key}"}', "idempotency_key: auto")
    handler = ScriptedHandler({"id": 1}, {"id": 2}, {"id": 3}, {"id": 4})
    nodes = {"effect.yaml": load_contract(own)}
    keys = [lambda _: "order-7", lambda _: "order-7", lambda _: "order-8", None]

    async def main() -> None:
        for number, key in enumerate(keys):
            spec = effect("a", make_input=order, idempotency_key=key)
            engine = MemoryEngine(Bench(plan_of(spec), Service(), nodes, container_with(http=handler)).run)
            await engine.start(StartRequest(f"w{number}", BUNDLE, None))
            assert (await engine.wait(f"w{number}")).status is EnumRunStatus.COMPLETED
            await engine.aclose()

    run_virtual(main())
    sent = [getattr(context, "headers")["Idempotency-Key"] for context in handler.contexts]  # noqa: B009  # as above
    assert sent[0] == sent[1]
    assert len(set(sent)) == 3


def test_an_effect_of_which_nobody_knows_stays_unknown_and_is_not_repeated() -> None:
    """The contract says that it is not idempotent; one that is, is repeated."""
    lost = ScriptedHandler(fault(phase=EnumFaultPhase.AMBIGUOUS), {"id": 1})
    again = ScriptedHandler(fault(phase=EnumFaultPhase.AMBIGUOUS), {"id": 1})

    done = with_handler(effect("a", make_input=order, retry=retried(3)), lost, idempotent=False)
    repeated = with_handler(effect("a", make_input=order, retry=retried(3)), again)

    assert done.statuses == {"a": "unknown"}
    assert lost.calls == 1
    assert repeated.statuses == {"a": "completed"}
    assert repeated.result("a")["attempts"] == 2


def test_an_effect_wants_an_object() -> None:
    """Other input is refused with its type."""
    done = with_handler(effect("a", make_input=lambda _: [1]), ScriptedHandler())

    assert done.error("a") == "step 'a': its input is list, allowed: an object"


def test_a_reducer_step_folds_an_action_into_a_state() -> None:
    """Input `{action, state, payload}`, output `{state, intents, transition}`; a state goes from step to step."""
    nodes = {"machine.yaml": load_contract(MACHINE)}
    reducer = {"kind": EnumWorkflowStepType.REDUCER, "node": "machine.yaml", "is_service": False, "pure": True}
    plan = plan_of(step("pay", make_input=lambda _: {"action": "PAY", "payload": {"sum": 5}}, **reducer))

    done = ran(plan, nodes=nodes)

    value = done.result("pay")["value"]
    assert isinstance(value, dict)
    assert value["state"] == {"state": "PAID", "context": {"sum": 5}, "version": 1, "history_length": 1}
    assert value["transition"] == "pay"
    assert value["intents"] == []
    for bad, message in (
        ({}, "name of a trigger"),
        ({"action": "PAY", "payload": 5}, "objects as `payload`"),
        ({"action": "SHIP"}, "no transition has this trigger"),
    ):
        given = plan_of(step("pay", make_input=lambda _, bad=bad: bad, **reducer))
        assert message in ran(given, nodes=nodes).error("pay")


def test_a_computation_that_fails_is_a_failure_with_its_code() -> None:
    """EXTRACTION_ERROR or whatever the pipeline says."""
    done = ran(plan_of(pure("a", make_input=lambda _: {})), nodes=compute_nodes())

    assert done.statuses == {"a": "failed"}
    assert "compute 'pick'" in done.error("a")


def test_a_computation_in_a_workflow_with_a_time_limit_is_stopped_by_it_too() -> None:
    """It does not begin when the time is up, recorded or not."""
    for recorded in (True, False):
        plan = plan_of(step("slow", kind=EnumWorkflowStepType.COMPUTE), pure("a"), timeout_ms=1_000)
        units = tuple(replace(unit, recorded=recorded or unit.index == 0) for unit in plan.units)
        late = Service({"slow": _late})

        done = ran(replace(plan, units=units), late, nodes=compute_nodes())

        assert done.statuses["a"] == "failed"
        assert done.view.error is not None
        assert done.view.error.code is EnumCoreErrorCode.TIMEOUT


async def _late(_parameters: JsonValue) -> str:
    end = asyncio.get_running_loop().time() + 1.5
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return "late"


def test_a_computation_that_may_be_long_runs_where_it_can_be_stopped() -> None:
    """In a process; its result is the same, recorded or computed again."""
    text = """
compute_subcontract:
  operation_name: match
  operation_version: "1.0.0"
  pipeline_timeout_ms: 20000
  pipeline:
    - step_name: sort
      step_type: transformation
      transformation_type: sort
      transformation_config: {config_type: sort}
"""
    nodes = {"pick.yaml": load_contract(text)}
    spec = pure("a", make_input=lambda _: [3, 1, 2])
    plan = plan_of(spec)
    free = replace(plan, units=tuple(replace(unit, recorded=False) for unit in plan.units))

    async def main(which: WorkflowPlan) -> JsonValue:
        bench = Bench(which, Service(), nodes)
        engine = MemoryEngine(bench.run)
        await engine.start(StartRequest("w", BUNDLE, None))
        view = await engine.wait("w")
        await engine.aclose()
        assert isinstance(view.output, dict)
        return view.output["output"]

    assert asyncio.run(main(plan)) == {"a": [1, 2, 3]}
    assert asyncio.run(main(free)) == {"a": [1, 2, 3]}


def test_services_that_cannot_be_called_are_told() -> None:
    """One that is not there, and one without `execute`; plain functions work too."""
    missing = ran(plan_of(step("a", node="nobody")))
    bench = Bench(plan_of(step("a", node="odd")))
    bench.container.register_service("odd", type("Odd", (), {})())
    plain = type("Plain", (), {"execute": lambda _self, parameters: {"got": parameters}})()
    other = Bench(plan_of(step("a", node="plain")))
    other.container.register_service("plain", plain)

    async def main(which: Bench) -> Ran:
        engine = MemoryEngine(which.run)
        await engine.start(StartRequest("w", BUNDLE, None))
        view = await engine.wait("w")
        records = await engine.steps("w")
        await engine.aclose()
        return Ran(view, which.service, records)

    assert "no service 'nobody'" in missing.error("a")
    assert run_virtual(main(bench)).error("a") == (
        "step 'a': service 'odd' is a Odd without a method `execute(parameters)`"
    )
    assert run_virtual(main(other)).output == {"a": {"got": "a"}}


def _cycle() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid utf-8"),
        (_cycle(), "Circular reference detected (id repeated)"),
        ({"price": float("nan")}, "Out of range float values are not JSON compliant"),
        ([float("-inf")], "Out of range float values are not JSON compliant"),
        ("\ud800", "'utf-8' codec can't encode character '\\ud800' in position 1: surrogates not allowed"),
    ],
)
def test_an_effect_whose_value_is_no_json_was_carried_out(value: object, why: str) -> None:
    """It is not repeated but undone; the error names step, service and what came back."""
    service = Service({"charge": lambda _: value})
    charge = step("charge", retry=retried(3), compensate=step("undo"))

    done = ran(plan_of(charge), service)

    assert service.calls == ["charge", "undo"]
    assert done.error("charge") == (
        f"step 'charge': what service 'work' did is done, but the {type(value).__name__} that it gave back is no "
        f"JSON: {why}"
    )


def test_a_computation_whose_value_is_no_json_has_failed() -> None:
    """It has no effect that somebody would have to know of."""
    service = Service({"a": float("inf")})

    done = ran(plan_of(step("a", kind=EnumWorkflowStepType.COMPUTE, retry=retried(3))), service)

    assert done.statuses == {"a": "failed"}
    assert service.calls == ["a"]
    assert done.error("a").startswith("step 'a': the float that service 'work' gave back is no JSON: ")


def test_an_effect_contract_whose_result_is_no_json_was_carried_out() -> None:
    """As of a service; where a failure rolls back what was done, it has failed."""
    handler = ScriptedHandler({"id": float("nan")})

    done = with_handler(effect("a", make_input=order, retry=retried(3)), handler)
    rolled_back = with_handler(effect("a", make_input=order, connection="shop"), ScriptedHandler({"id": float("nan")}))

    assert handler.calls == 1
    assert done.statuses == {"a": "unknown"}
    assert done.error("a") == (
        "step 'a': what contract 'effect.yaml' did is done, but the dict that it gave back is no JSON: "
        "Out of range float values are not JSON compliant"
    )
    assert rolled_back.statuses == {"a": "failed"}


def test_an_effect_of_whose_answer_nothing_can_be_extracted_was_carried_out() -> None:
    """One that is not idempotent is not repeated but undone."""
    handler = ScriptedHandler({"id": {"not": "primitive"}})
    spec = effect("a", make_input=order, retry=retried(3), compensate=step("undo"))

    done = with_handler(spec, handler, idempotent=False)

    assert handler.calls == 1
    assert done.service.calls == ["undo"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"node": "nothing.yaml", "is_service": False}, "but 'nothing.yaml' is nothing"),
        ({"node": "pick.yaml", "is_service": False}, "step 'a' is of type effect, but 'pick.yaml' is compute"),
        (
            {"node": "pick.yaml", "is_service": False, "kind": EnumWorkflowStepType.ORCHESTRATOR},
            "step 'a' starts a workflow, but 'pick.yaml' is none",
        ),
    ],
)
def test_a_node_of_another_kind_is_a_failure_of_its_step(fields: dict[str, object], message: str) -> None:
    """A plan that was made by hand may say so."""
    assert message in ran(plan_of(step("a", **fields)), nodes=compute_nodes()).error("a")


def test_a_key_that_cannot_be_made_is_a_failure_of_its_step() -> None:
    """A template of the contract."""

    def key(_scope: object) -> JsonValue:
        raise failure("no order")

    assert ran(plan_of(step("a", idempotency_key=key))).error("a") == "no order"


def test_steps_read_who_they_are() -> None:
    """Ids of workflow, step and action, token and attempt; a given key replaces the action id as key."""
    plan = plan_of(
        step("a", make_input=lambda s: dict(s.workflow), idempotency_key=lambda s: f"order-{s.input}"),
    )

    done = ran(plan, input_data=5)

    assert done.output == {
        "a": {
            "id": "w",
            "name": "by hand",
            "version": "1.0.0",
            "token": 1,
            "attempt": 1,
            "step_id": "a",
            "action_id": done.result("a")["action_id"],
            "idempotency_key": "order-5",
        }
    }


def test_known_secrets_are_in_no_outcome() -> None:
    """Neither in values nor in messages."""
    register_secret("s3cr3t-of-the-shop")
    good = ran(plan_of(step("a")), Service({"a": {"token": "s3cr3t-of-the-shop"}}))
    bad = ran(plan_of(step("a")), Service({"a": ValueError("s3cr3t-of-the-shop is wrong")}))

    assert "s3cr3t" not in str(good.view)
    assert bad.error("a") == "ValueError: *** is wrong"


def test_a_database_step_is_handed_to_the_connection_of_its_effect() -> None:
    """Its work runs inside; its failure is an outcome."""
    seen: list[tuple[str, str, int]] = []

    async def transact(connection: str, workflow_id: str, position: int, work: Work) -> StepOutcome:
        seen.append((connection, workflow_id, position))
        if len(seen) == 1:
            raise failure("the database is away", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        return await work()

    async def main() -> list[str]:
        found = []
        for _ in range(2):
            engine = MemoryEngine(Bench(plan_of(step("a", connection="shop"))).run, transact=transact)
            await engine.start(StartRequest("w", BUNDLE, None))
            view = await engine.wait("w")
            assert isinstance(view.output, dict)
            found.append(str(view.output["status"]))
            await engine.aclose()
        return found

    assert run_virtual(main()) == ["failed", "completed"]
    assert seen == [("shop", "w", 1_000_000)] * 2


def test_a_container_may_be_shared_by_runs_of_several_loops() -> None:
    """Nothing is bound to one."""
    bench = Bench(plan_of(step("a", timeout_ms=1_000), step("b")), container=ModelONEXContainer())
    run = bench.run

    async def main() -> object:
        engine = MemoryEngine(run)
        await engine.start(StartRequest("w", BUNDLE, None))
        view = await engine.wait("w")
        await engine.aclose()
        return view.status.value

    assert [run_virtual(main()) for _ in range(3)] == ["completed"] * 3
