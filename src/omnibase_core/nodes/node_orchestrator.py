"""The ORCHESTRATOR node."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self, cast
from uuid import UUID, uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import DependencyResolutionError, ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.workflow_outcome import output_of
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_orchestrator import ModelContractOrchestrator, workflow_of
from omnibase_core.models.model_orchestrator_input import ModelOrchestratorInput
from omnibase_core.models.model_orchestrator_output import (
    ModelOrchestrationMetadata,
    ModelOrchestratorOutput,
    OrchestrationFailedError,
)
from omnibase_core.protocols.protocol_lease import ProtocolLeaseManager, WorkflowLease
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunView, StartRequest, WorkflowBundle

if TYPE_CHECKING:
    from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract


class NodeOrchestrator:
    """Coordinates a workflow of steps over other nodes: as a contract says, or as a subclass does.

    `NodeOrchestrator.from_contract(container, contract)` runs a workflow on the container's engine (`EngineDriver`), in
    memory unless the program has registered another one. A run is started and waited for; cancelling the call cancels
    the run. A subclass that overrides `async def orchestrate(self, input_data)` is code-driven. The node does no I/O of
    its own.
    """

    container: Container
    orchestrator_subcontract: "ModelOrchestratorSubcontract"

    _is_code_driven: ClassVar[bool] = False
    _bundle: WorkflowBundle | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_code_driven = cls.orchestrate is not NodeOrchestrator.orchestrate

    def __init__(self, container: Container | None = None) -> None:
        self.container = ModelONEXContainer() if container is None else container
        self.node_id: UUID = uuid4()

    @classmethod
    def from_contract(cls, container: Container | None, contract: str | Path) -> Self:
        """A node that runs `contract`: YAML text as a `str`, or a file as a `Path`, beside which its nodes lie.

        Raises ContractError with every problem of the contract and of those it names, ModelOnexError VALIDATION_ERROR
        for a contract of another kind, and CONFIGURATION_ERROR when it has expressions and the extra `cel` is missing.
        """
        from omnibase_core.utils.contract_loader import load_kind  # YAML: a node written in Python never needs it

        loaded = load_kind(contract, "orchestrator", "NodeOrchestrator")
        node = cls(container)
        workflow = loaded.workflow
        if workflow is not None:
            node.orchestrator_subcontract = workflow.subcontract
            node._bundle = workflow.bundle
        return node

    async def orchestrate(self, input_data: ModelOrchestratorInput) -> object:
        """The coordination of a code-driven node."""
        raise ModelOnexError(
            f"{type(self).__name__} has neither a contract nor an orchestrate of its own; use from_contract, or "
            "override async def orchestrate(self, input_data)",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
            {"workflow_id": str(input_data.workflow_id)},
        )

    async def process(self, input_data: ModelOrchestratorInput) -> ModelOrchestratorOutput:
        """Run the workflow once.

        Raises OrchestrationFailedError for a run that was aborted, with its partial output; DependencyResolutionError
        and VALIDATION_ERROR before the first step; CONFLICT for a `workflow_id` that was used with another input;
        LeaseExpiredError or LeaseValidationError for a lease that does not hold; TIMEOUT when the caller's time is up.
        """
        correlation_id = input_data.correlation_id or current_correlation_id.get() or uuid4()
        lease = None
        if input_data.lease_id is not None:
            lease = await self._leases().verify_lease(input_data.workflow_id, input_data.lease_id)
        if self._is_code_driven or self._bundle is None:
            return await self._by_code(input_data, correlation_id)
        return await self._by_engine(self._bundle, input_data, correlation_id, lease)

    async def execute_orchestration(self, input_data: ModelOrchestratorInput) -> ModelOrchestratorOutput:
        """Another name of `process`."""
        return await self.process(input_data)

    async def acquire_lease(
        self,
        workflow_id: UUID | str,
        lease_id: UUID | str | None = None,
        expires_at: datetime | None = None,
    ) -> WorkflowLease:
        """Take the lease of a workflow, or renew one's own under its id. Raises LeaseConflictError."""
        return await self._leases().acquire_lease(workflow_id, lease_id, expires_at)

    def _leases(self) -> ProtocolLeaseManager:
        return cast("ProtocolLeaseManager", self.container.get_service("ProtocolLeaseManager"))  # its key

    async def _by_code(self, input_data: ModelOrchestratorInput, correlation_id: UUID) -> ModelOrchestratorOutput:
        began = time.perf_counter()
        token = current_correlation_id.set(correlation_id)
        try:
            result = await self.orchestrate(input_data)
        except ModelOnexError:
            raise
        except Exception as error:  # the boundary of a code-driven node
            raise OrchestrationFailedError(
                f"{type(self).__name__}: orchestrate failed with {type(error).__name__}: {error}",
                EnumCoreErrorCode.OPERATION_FAILED,
                {"workflow_id": str(input_data.workflow_id)},
                correlation_id,
            ) from error
        finally:
            current_correlation_id.reset(token)
        if isinstance(result, ModelOrchestratorOutput):
            return result
        seconds = time.perf_counter() - began
        return ModelOrchestratorOutput(
            workflow_id=input_data.workflow_id,
            correlation_id=correlation_id,
            operation_id=input_data.operation_id,
            result=result,
            execution_metadata=ModelOrchestrationMetadata(execution_time=seconds, execution_time_ms=seconds * 1000),
            lease_id=input_data.lease_id,
            epoch=input_data.epoch,
            metadata=input_data.metadata,
        )

    async def _by_engine(
        self,
        bundle: WorkflowBundle,
        input_data: ModelOrchestratorInput,
        correlation_id: UUID,
        lease: WorkflowLease | None = None,
    ) -> ModelOrchestratorOutput:
        engine = cast("EngineDriver", self.container.get_service("EngineDriver"))  # its key
        workflow_id = str(input_data.workflow_id)
        limit = None if input_data.timeout_ms is None else timedelta(milliseconds=input_data.timeout_ms)
        token = current_correlation_id.set(correlation_id)
        ended = False
        try:
            await engine.start(StartRequest(workflow_id, bundle, input_data.input_data))
            view = await engine.wait(workflow_id, limit)
            ended = True
        finally:
            current_correlation_id.reset(token)
            if not ended:
                await self._cancel(engine, workflow_id)
        return self._output(view, input_data, correlation_id, None if lease is None else lease.token)

    async def run_services(self, contract: ModelContractOrchestrator) -> ModelOrchestratorOutput:
        """Run a workflow over registered services. Raises like `process`, and VALIDATION_ERROR for a bad contract."""
        from omnibase_core.utils.workflow_compiler import compile_workflow  # most programs run contracts of files

        plan = compile_workflow(workflow_of(contract))
        runner = cast("WorkflowRunner", self.container.get_service("WorkflowRunner"))  # its key
        bundle = runner.prepare(plan)
        asked = ModelOrchestratorInput(
            workflow_id=contract.workflow_id,
            input_data=contract.initial_state,
            correlation_id=contract.correlation_id,
        )
        try:
            return await self._by_engine(bundle, asked, contract.correlation_id)
        finally:
            runner.forget(bundle)

    @staticmethod
    async def _cancel(engine: EngineDriver, workflow_id: str) -> None:
        try:
            if await engine.cancel([workflow_id]):
                await engine.wait(workflow_id)
        except ModelOnexError:
            return  # the call ends with what it was ended by; a run that is away or unknown cannot be cancelled

    def _output(
        self, view: RunView, input_data: ModelOrchestratorInput, correlation_id: UUID, token: int | None
    ) -> ModelOrchestratorOutput:
        document: JsonValue = view.output
        output = output_of(document, input_data, correlation_id, token) if isinstance(document, dict) else None
        error = view.error
        if error is None and output is not None:
            return output
        message = f"workflow run {view.workflow_id!r} is {view.status.value}" if error is None else error.message
        code = EnumCoreErrorCode.OPERATION_FAILED if error is None else error.code
        context: dict[str, object] = {"workflow_id": view.workflow_id}
        if error is not None and output is None:
            raise _EARLY.get(error.kind, ModelOnexError)(message, code, context, correlation_id)
        if output is not None:
            context["partial_output"] = output.model_dump(mode="json")
        failed = OrchestrationFailedError(message, code, context, correlation_id)
        failed.partial_output = output
        raise failed


_EARLY: Final = {"DependencyResolutionError": DependencyResolutionError}
"""Errors from before the first step that callers tell apart."""
