"""The ORCHESTRATOR node."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self, cast
from uuid import UUID, uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import DependencyResolutionError, ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.lease_manager import HeldLease, LeaseManager
from omnibase_core.mixins.workflow_lease import ended_actions, leased
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
from omnibase_core.protocols.protocol_lease import WorkflowLease
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

        The node holds the lease of the workflow meanwhile: that of `lease_id`, which stays with the caller, or one of
        its own; an engine with leases of its own needs none of ours. At the end the actions are in the audit of the
        lease store, and the epoch has grown by one for each.

        Raises OrchestrationFailedError for a run that was aborted, with its partial output; DependencyResolutionError
        and VALIDATION_ERROR before the first step; CONFLICT for a `workflow_id` that was used with another input;
        LeaseConflictError when somebody else has the lease; LeaseExpiredError or LeaseValidationError for a lease that
        does not hold or was lost; EpochMismatchError for an `epoch` that is not the last; TIMEOUT when the caller's
        time is up. The audit has what was sent until then.
        """
        correlation_id = input_data.correlation_id or current_correlation_id.get() or uuid4()
        if self._is_code_driven or self._bundle is None:
            async with leased(self._leases(), input_data, None, asks=False) as held:
                return await self._by_code(held, input_data, correlation_id)
        return await self._by_engine(self._bundle, input_data, correlation_id)

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

    def _leases(self) -> LeaseManager:
        return cast("LeaseManager", self.container.get_service("ProtocolLeaseManager"))  # its key

    async def _by_code(
        self, held: HeldLease, input_data: ModelOrchestratorInput, correlation_id: UUID
    ) -> ModelOrchestratorOutput:
        began = time.perf_counter()
        lease = held.lease
        input_data = input_data.model_copy(update={"lease_id": lease.lease_id, "epoch": lease.epoch})
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
        ended = {"lease_id": lease.lease_id, "epoch": held.lease.epoch}
        if isinstance(result, ModelOrchestratorOutput):
            return result if result.lease_id is not None else result.model_copy(update=ended)
        seconds = time.perf_counter() - began
        return ModelOrchestratorOutput(
            workflow_id=input_data.workflow_id,
            correlation_id=correlation_id,
            operation_id=input_data.operation_id,
            result=result,
            execution_metadata=ModelOrchestrationMetadata(execution_time=seconds, execution_time_ms=seconds * 1000),
            lease_id=lease.lease_id,
            epoch=held.lease.epoch,
            metadata=input_data.metadata,
        )

    async def _by_engine(
        self, bundle: WorkflowBundle, input_data: ModelOrchestratorInput, correlation_id: UUID
    ) -> ModelOrchestratorOutput:
        engine = cast("EngineDriver", self.container.get_service("EngineDriver"))  # its key
        request = StartRequest(str(input_data.workflow_id), bundle, input_data.input_data)
        if engine.has_leases and input_data.lease_id is None:
            view = await self._run(engine, request, input_data, correlation_id)
            return _judged(view, _output(view, input_data, correlation_id), correlation_id)
        subcontract = getattr(self, "orchestrator_subcontract", None)  # one over services has none
        ttl_ms = None if subcontract is None else subcontract.lease.ttl_ms
        manager = self._leases()
        async with leased(manager, input_data, ttl_ms, asks=True) as held:
            lease = held.lease
            request = replace(request, fence=(str(lease.lease_id), lease.token), may_issue=held.may_issue)
            is_new = not await _has_ended(engine, request.workflow_id)
            try:
                view = await self._run(engine, request, input_data, correlation_id)
            except (asyncio.CancelledError, ModelOnexError):
                with suppress(ModelOnexError):  # the call ends with what it was ended by; what was sent is written down
                    view = await engine.query(request.workflow_id)
                    output = _output(view, input_data, correlation_id, lease)
                    if is_new and output is not None:
                        await manager.report(lease, ended_actions(output))
                raise
            output = _output(view, input_data, correlation_id, lease)
            if output is not None:
                epoch = await manager.report(lease, ended_actions(output) if is_new else ())
                output = output.model_copy(update={"epoch": epoch})
        return _judged(view, output, correlation_id)

    async def _run(
        self,
        engine: EngineDriver,
        request: StartRequest,
        input_data: ModelOrchestratorInput,
        correlation_id: UUID,
    ) -> RunView:
        """Start a run and wait for its end; it is cancelled when this does not come to it."""
        limit = None if input_data.timeout_ms is None else timedelta(milliseconds=input_data.timeout_ms)
        token = current_correlation_id.set(correlation_id)
        ended = False
        try:
            await engine.start(request)
            view = await engine.wait(request.workflow_id, limit)
            ended = True
        finally:
            current_correlation_id.reset(token)
            if not ended:
                await self._cancel(engine, request.workflow_id)
        return view

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


async def _has_ended(engine: EngineDriver, workflow_id: str) -> bool:
    """Whether there is such a run already, and nothing more will happen in it."""
    try:
        return (await engine.query(workflow_id)).status.ended
    except ModelOnexError as error:
        if error.error_code is EnumCoreErrorCode.NOT_FOUND:
            return False
        raise


def _output(
    view: RunView, input_data: ModelOrchestratorInput, correlation_id: UUID, lease: WorkflowLease | None = None
) -> ModelOrchestratorOutput | None:
    document: JsonValue = view.output
    return output_of(document, input_data, correlation_id, lease) if isinstance(document, dict) else None


def _judged(view: RunView, output: ModelOrchestratorOutput | None, correlation_id: UUID) -> ModelOrchestratorOutput:
    """The output of a run that ended well; raises for another."""
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
