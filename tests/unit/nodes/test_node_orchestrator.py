"""The orchestrator node: contracts, subclasses, leases; its service base and contracts over services."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_action import EnumActionStatus, EnumActionTarget, EnumActionType
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors import ContractError, DependencyResolutionError, LeaseConflictError, ModelOnexError
from omnibase_core.errors.onex_error import LeaseValidationError, WorkflowExecutionError
from omnibase_core.infrastructure.infra_bases import ModelServiceOrchestrator
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_orchestrator import ModelContractOrchestrator
from omnibase_core.nodes import (
    ModelOrchestratorInput,
    ModelOrchestratorOutput,
    NodeOrchestrator,
    OrchestrationFailedError,
)
from omnibase_core.protocols.protocol_lease import ProtocolLeaseManager
from omnibase_core.protocols.protocol_workflow_engine import DurableContext, EngineDriver, StartRequest, WorkflowBundle
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.testing import RecordingBus
from tests.support.computing import TEXT
from tests.support.workflows import Service, failure

WORKFLOW = """
orchestrator_subcontract:
  workflow_name: orders
  version: "1.2.0"
  coordination_type: parallel
  input_schema:
    type: object
    required: [order]
    properties: {order: {type: integer}}
  steps:
    - {step_id: pick, step_type: compute, node: pick.yaml, input: {value: "${input.order}"}}
    - {step_id: place, step_type: effect, node: shop, input: {order: "${steps.pick}"}, depends_on: [pick]}
    - {step_id: never, step_type: effect, node: shop, input: {}, when: "input.order > 100"}
  output: {placed: "${steps.place.order}", again: "${steps.never}"}
"""
CHILD = """
orchestrator_subcontract:
  workflow_name: outer
  steps:
    - {step_id: inner, step_type: orchestrator, node: orders.yaml, input: {order: "${input.n}"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Workflows and the contract that they name."""
    for name, text in (("orders.yaml", WORKFLOW), ("outer.yaml", CHILD), ("pick.yaml", TEXT)):
        (tmp_path / name).write_text(text)
    return tmp_path


def container_of(**services: object) -> ModelONEXContainer:
    container = ModelONEXContainer()
    for name, service in services.items():
        container.register_service(name, service)
    return container


async def test_a_workflow_from_a_contract_runs_in_a_bare_container(folder: Path) -> None:
    """Output, results, numbers, actions and events."""
    bus = RecordingBus()
    async with container_of(shop=Service(), ProtocolEventBus=bus) as container:
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")

        output = await node.execute_orchestration(ModelOrchestratorInput(input_data={"order": 7}, metadata={"a": "b"}))

    assert output.result == output.orchestration_result == output.final_result == {"placed": 7, "again": None}
    assert output.completed_steps == ["pick", "place"]
    assert (output.failed_steps, output.skipped_steps) == ([], ["never"])
    place = output.step_results["place"]
    assert (place.status, place.value, place.attempts) == (EnumStepStatus.COMPLETED, {"order": 7}, 1)
    assert place.duration_ms >= 0
    assert output.step_results["never"].duration_ms == 0
    numbers = output.execution_metadata
    assert (numbers.total_services, numbers.success_rate, numbers.coordination_type) == (3, 1.0, "parallel")
    assert numbers["execution_time_ms"] == output.processing_time_ms == numbers.execution_time * 1000
    assert [action.action_id for action in output.actions] == [
        output.step_results["pick"].action_id,
        output.step_results["place"].action_id,
    ]
    action = output.actions[1]
    assert action.action_type is EnumActionType.DELEGATE_TASK
    assert action.target_node is EnumActionTarget.EFFECT
    assert action.status is EnumActionStatus.COMPLETED
    assert action.command_payload == {"workflow": "orders", "step_id": "place", "node": "shop"}
    assert action.workflow_id == output.workflow_id
    assert (output.epoch, output.metadata) == (2, {"a": "b"})
    assert [(each.lease_id, each.token, each.epoch) for each in output.actions] == [
        (output.lease_id, 1, 0),
        (output.lease_id, 1, 1),
    ]
    told = [event["step_id"] for event in output.events]
    published = [event["step_id"] for event in bus.payloads("WorkflowStepCompletedEvent") if isinstance(event, dict)]
    assert sorted(map(str, published)) == sorted(map(str, told)) == ["never", "pick", "place"]
    assert ModelOrchestratorOutput.model_validate_json(output.model_dump_json()).step_results == output.step_results


async def test_a_child_workflow_is_a_run_of_its_own(folder: Path) -> None:
    """Its output is that of the step; the action starts a workflow."""
    async with container_of(shop=Service()) as container:
        node = NodeOrchestrator.from_contract(container, folder / "outer.yaml")

        output = await node.process(ModelOrchestratorInput(workflow_id="w", input_data={"n": 3}))
        engine = container.get_service("EngineDriver")
        assert isinstance(engine, EngineDriver)
        child = await engine.query("w.inner")

    assert output.result == {"inner": {"placed": 3, "again": None}}
    assert output.actions[0].action_type is EnumActionType.START_WORKFLOW
    assert (child.parent_id, child.name, child.version) == ("w", "orders", "1.2.0")


async def test_a_child_workflow_that_fails_is_resumed_as_its_step_says(folder: Path) -> None:
    """What it has done is not done again; what repeating cannot mend is not repeated."""
    retry = "retry: {max_retries: 2, base_delay_ms: 100}"
    (folder / "outer.yaml").write_text(CHILD.replace("node: orders.yaml,", f"node: orders.yaml, {retry},"))
    shop = Service({"{'order': 7}": [failure("busy"), {"order": 7}], "{'order': 8}": failure("busy")})
    async with container_of(shop=shop) as container:
        node = NodeOrchestrator.from_contract(container, folder / "outer.yaml")
        well = await node.process(ModelOrchestratorInput(input_data={"n": 7}))
        with pytest.raises(OrchestrationFailedError, match="busy"):
            await node.process(ModelOrchestratorInput(input_data={"n": 8}))
        with pytest.raises(OrchestrationFailedError) as unfit:
            await node.process(ModelOrchestratorInput(input_data={"n": "x"}))

    assert well.result == {"inner": {"placed": 7, "again": None}}
    assert well.step_results["inner"].attempts == 2
    assert len(shop.calls) == 2 + 3
    partial = unfit.value.partial_output
    assert partial is not None
    assert partial.step_results["inner"].attempts == 1


async def test_a_failed_run_raises_with_what_had_happened(folder: Path) -> None:
    """Partial output, the code of the step's error, and the action that failed."""
    async with container_of(
        shop=Service({"{'order': 7}": failure("sold out", EnumCoreErrorCode.CONFLICT)})
    ) as container:
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")

        with pytest.raises(OrchestrationFailedError, match="sold out") as error:
            await node.process(ModelOrchestratorInput(input_data={"order": 7}))

    partial = error.value.partial_output
    assert partial is not None
    assert error.value.error_code is EnumCoreErrorCode.CONFLICT
    assert partial.failed_steps == ["place"]
    assert partial.completed_steps == ["pick"]
    assert partial.step_results["place"].error is not None
    assert partial.actions[1].status is EnumActionStatus.FAILED
    assert isinstance(error.value.context["partial_output"], dict)


async def test_input_that_does_not_fit_is_refused(folder: Path) -> None:
    """Before the first step, as VALIDATION_ERROR."""
    async with container_of(shop=Service()) as container:
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")

        with pytest.raises(ModelOnexError, match="order") as error:
            await node.process(ModelOrchestratorInput(input_data={"order": "seven"}))

    assert error.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert not isinstance(error.value, OrchestrationFailedError)


async def test_the_same_workflow_id_is_the_same_run(folder: Path) -> None:
    """With another input it is refused."""
    shop = Service()
    async with container_of(shop=shop) as container:
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")
        for _ in range(2):
            await node.process(ModelOrchestratorInput(workflow_id="w", input_data={"order": 7}))

        with pytest.raises(ModelOnexError) as error:
            await node.process(ModelOrchestratorInput(workflow_id="w", input_data={"order": 8}))

    assert error.value.error_code is EnumCoreErrorCode.CONFLICT
    assert len(shop.calls) == 1


async def test_cancelling_the_call_cancels_the_run(folder: Path) -> None:
    """And a caller whose time is up does the same."""
    shop = Service(seconds=60)
    async with container_of(shop=shop) as container:
        engine = container.get_service("EngineDriver")
        assert isinstance(engine, MemoryEngine)
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")
        task = asyncio.ensure_future(node.process(ModelOrchestratorInput(workflow_id="w", input_data={"order": 7})))
        await shop.called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ModelOnexError) as error:
            await node.process(ModelOrchestratorInput(workflow_id="v", input_data={"order": 7}, timeout_ms=50))

        assert error.value.error_code is EnumCoreErrorCode.TIMEOUT
        for name in ("w", "v"):
            assert (await engine.query(name)).status is EnumRunStatus.CANCELLED
        assert shop.running == 0


async def test_a_run_that_others_cancel_is_a_failed_call(folder: Path) -> None:
    """With its partial output."""
    shop = Service(seconds=60)
    async with container_of(shop=shop) as container:
        engine = container.get_service("EngineDriver")
        assert isinstance(engine, MemoryEngine)
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")
        task = asyncio.ensure_future(node.process(ModelOrchestratorInput(workflow_id="w", input_data={"order": 7})))
        await shop.called.wait()
        await engine.cancel(["w"])
        with pytest.raises(OrchestrationFailedError) as error:
            await task

    assert error.value.error_code is EnumCoreErrorCode.CANCELLED
    partial = error.value.partial_output
    assert partial is not None
    assert partial.step_results["place"].status is EnumStepStatus.CANCELLED
    assert partial.actions[-1].status is EnumActionStatus.CANCELLED


def test_one_node_serves_several_loops(folder: Path) -> None:
    """One after another, never closed, without a warning."""
    container = container_of(shop=Service())
    node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")

    for number in range(3):
        output = asyncio.run(node.process(ModelOrchestratorInput(input_data={"order": number})))
        assert output.result == {"placed": number, "again": None}


async def test_actions_are_issued_under_the_lease_of_the_caller(folder: Path) -> None:
    """A lease that does not hold is refused before the run."""
    shop = Service()
    async with container_of(shop=shop) as container:
        node = NodeOrchestrator.from_contract(container, folder / "orders.yaml")
        lease = await node.acquire_lease("w")
        output = await node.process(
            ModelOrchestratorInput(workflow_id="w", lease_id=lease.lease_id, epoch=lease.epoch, input_data={"order": 7})
        )
        with pytest.raises(LeaseValidationError):
            await node.process(ModelOrchestratorInput(workflow_id="w", lease_id=uuid4(), input_data={"order": 7}))
        from omnibase_core.mixins.lease_manager import LeaseManager

        manager = container.get_service(ProtocolLeaseManager)
        assert isinstance(manager, LeaseManager)
        with pytest.raises(LeaseConflictError):
            await LeaseManager(manager.store).acquire_lease("w")

    assert (output.lease_id, output.epoch) == (lease.lease_id, lease.epoch + 2)
    assert {action.lease_id for action in output.actions} == {lease.lease_id}
    assert {action.token for action in output.actions} == {lease.token}
    assert len(shop.calls) == 1


class Greeter(NodeOrchestrator):
    """A workflow in code."""

    async def orchestrate(self, input_data: ModelOrchestratorInput) -> object:
        if input_data.input_data == "bad":
            message = "no"
            raise ValueError(message)
        if input_data.input_data == "known":
            raise failure("as it is")
        if input_data.input_data == "whole":
            return ModelOrchestratorOutput(result=1, completed_steps=["x"])
        return {"hello": input_data.input_data}


async def test_a_subclass_coordinates_in_code() -> None:
    """Its result is the output's; whatever it raises is OPERATION_FAILED, save ModelOnexErrors."""
    node = Greeter()

    output = await node.process(ModelOrchestratorInput(input_data="you", correlation_id=UUID(int=3)))

    assert output.result == {"hello": "you"}
    assert output.correlation_id == UUID(int=3)
    whole = await node.process(ModelOrchestratorInput(input_data="whole"))
    assert (whole.result, whole.completed_steps) == (1, ["x"])
    with pytest.raises(OrchestrationFailedError, match="Greeter: orchestrate failed with ValueError: no") as error:
        await node.process(ModelOrchestratorInput(input_data="bad"))
    assert error.value.error_code is EnumCoreErrorCode.OPERATION_FAILED
    with pytest.raises(ModelOnexError, match="as it is"):
        await node.process(ModelOrchestratorInput(input_data="known"))


async def test_a_node_with_nothing_to_run_says_so() -> None:
    """CONFIGURATION_ERROR."""
    with pytest.raises(ModelOnexError, match="neither a contract nor") as error:
        await NodeOrchestrator().process(ModelOrchestratorInput())

    assert error.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


def test_contracts_of_another_kind_and_bad_ones_are_refused(folder: Path) -> None:
    """At load."""
    with pytest.raises(ModelOnexError, match="NodeOrchestrator runs an orchestrator_subcontract, found compute"):
        NodeOrchestrator.from_contract(None, folder / "pick.yaml")
    with pytest.raises(ContractError, match="steps wait for each other: a -> b -> a"):
        NodeOrchestrator.from_contract(
            None,
            """
orchestrator_subcontract:
  workflow_name: circle
  steps:
    - {step_id: a, step_type: effect, node: shop, depends_on: [b]}
    - {step_id: b, step_type: effect, node: shop, depends_on: [a]}
""",
        )


@pytest.mark.parametrize("name", ["result", "orchestration_result", "final_result"])
def test_an_output_is_built_from_either_name_of_its_payload(name: str) -> None:
    """Everything else has defaults."""
    output = ModelOrchestratorOutput.model_validate({"correlation_id": UUID(int=1), name: {"a": 1}})

    assert output.result == output.final_result == {"a": 1}
    assert output.execution_metadata.success_rate == 1.0
    with pytest.raises(KeyError):
        output.execution_metadata["nothing"]


def contract(*steps: Mapping[str, object], **fields: object) -> ModelContractOrchestrator:
    config: dict[str, object] = {"steps": list(steps)}
    if "coordination_type" in fields:
        config["coordination_type"] = fields.pop("coordination_type")
    return ModelContractOrchestrator.model_validate({"workflow_config": config, **fields})


class TestServices:
    """`ModelServiceOrchestrator` and contracts that bring steps over services."""

    async def test_services_are_called_with_their_parameters(self) -> None:
        """`await service.execute(parameters)`; parameters read the initial state and what came before."""
        shop = Service()
        async with container_of(shop=shop) as container:
            service = ModelServiceOrchestrator(container)

            output = await service.execute_orchestration(
                contract(
                    {"step_id": "a", "service_name": "shop", "parameters": {"n": "${input.n}"}},
                    {
                        "step_id": "b",
                        "service_name": "shop",
                        "parameters": {"n": "${steps.a.n}"},
                        "target_node_type": "compute",
                    },
                    initial_state={"n": 5},
                    workflow_id=str(UUID(int=7)),
                )
            )
            rate = (await service.health_check()).details["error_rate"]

        assert shop.calls == [{"n": 5}, {"n": 5}]
        assert output.workflow_id == UUID(int=7)
        assert output.completed_steps == ["a", "b"]
        assert output.execution_metadata.total_services == 2
        assert [action.target_node.value for action in output.actions] == ["effect", "compute"]
        assert rate == 0.0

    async def test_parallel_steps_overlap_and_failures_follow_the_contract(self) -> None:
        """continue_on_error, and retries by the class name of an exception."""
        service = Service({"{'n': 1}": [ConnectionError("x"), {"n": 1}], "{'n': 2}": failure("no")}, 0.01)
        async with container_of(shop=service) as container:
            output = await ModelServiceOrchestrator(container).execute_orchestration(
                contract(
                    *({"step_id": f"s{n}", "service_name": "shop", "parameters": {"n": n}} for n in range(3)),
                    coordination_type="parallel",
                    conflict_resolution={
                        "retry_conditions": ["ConnectionError"],
                        "max_retries": 2,
                        "retry_config": {"base_delay_ms": 100, "jitter_factor": 0.0},
                        "continue_on_error": True,
                    },
                )
            )

        assert service.most_running == 3
        assert (output.completed_steps, output.failed_steps) == (["s0", "s1"], ["s2"])
        assert output.step_results["s1"].attempts == 2
        assert output.execution_metadata.success_rate == pytest.approx(2 / 3)

    async def test_dependencies_that_fail_are_named(self) -> None:
        """Every required one."""
        async with container_of(shop=Service()) as container:
            with pytest.raises(DependencyResolutionError, match=r"'missing'.*'shop'"):
                await ModelServiceOrchestrator(container).execute_orchestration(
                    contract(
                        {"step_id": "a", "service_name": "shop"},
                        dependency_resolution=[
                            {"service_name": "missing"},
                            {"service_name": "shop", "version_constraint": ">=2"},
                            {"service_name": "extra", "dependency_type": "optional"},
                        ],
                    )
                )

    async def test_a_contract_of_the_node_s_own_runs_too_and_counts(self, folder: Path) -> None:
        """Health knows failures of the last minute."""
        async with container_of(shop=Service({"{'order': 7}": failure("no")})) as container:
            node = ModelServiceOrchestrator.from_contract(container, folder / "orders.yaml")

            with pytest.raises(OrchestrationFailedError):
                await node.execute_orchestration(ModelOrchestratorInput(input_data={"order": 7}))

            assert (await node.health_check()).details["error_rate"] == 1.0

    def test_steps_that_do_not_fit_together_are_refused(self) -> None:
        """In Python, as everywhere."""
        with pytest.raises(ValidationError):
            contract()
        with pytest.raises(ValidationError):
            contract({"step_id": "a b", "service_name": "shop"})

    async def test_unknown_steps_and_cycles_are_refused(self) -> None:
        """Before anything runs."""
        node = ModelServiceOrchestrator(container_of(shop=Service()))

        for needs in (["nobody"], ["a"]):
            with pytest.raises(ModelOnexError) as error:
                await node.execute_orchestration(
                    contract({"step_id": "a", "service_name": "shop", "depends_on": needs})
                )
            assert error.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_a_bundle_that_nobody_prepared_is_refused() -> None:
    """A run whose plan was made in a process that is gone."""
    async with ModelONEXContainer() as container:
        engine = container.get_service("EngineDriver")
        assert isinstance(engine, EngineDriver)
        await engine.start(StartRequest("w", WorkflowBundle("services", {}, "0" * 64)))
        view = await engine.wait("w")

    assert view.status is EnumRunStatus.FAILED
    assert view.error is not None
    assert view.error.code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_only_the_latest_runs_are_kept() -> None:
    """In memory a thousand that have ended, of a bare container."""
    seen: list[JsonValue] = []

    async def run(_context: object, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        seen.append(input_data)
        return input_data

    engine = MemoryEngine(run, keep_ended=3)
    for number in range(5):
        await engine.start(StartRequest(f"w{number}", WorkflowBundle("x.yaml", {}, ""), number))
        await engine.wait(f"w{number}")

    assert sorted(engine.store.runs) == ["w2", "w3", "w4"]
    await engine.aclose()


async def test_a_child_that_failed_is_kept_for_its_parent() -> None:
    """While that one is there, which may be resumed; both go together."""
    bundle = WorkflowBundle("x.yaml", {}, "")

    async def run(context: DurableContext, _bundle: WorkflowBundle, input_data: JsonValue) -> JsonValue:
        if input_data == "parent":
            await context.child(0, "c", StartRequest("p.c", bundle, "child"))
        if isinstance(input_data, str):
            raise WorkflowExecutionError("no")
        return input_data

    engine = MemoryEngine(run, keep_ended=1)
    kept: list[list[str]] = []
    requests: list[tuple[str, JsonValue]] = [("p", "parent"), ("w", 1)]
    for name, data in requests:
        await engine.start(StartRequest(name, bundle, data))
        await engine.wait(name)
        kept.append(sorted(engine.store.runs))

    assert kept == [["p", "p.c"], ["w"]]
    await engine.aclose()
