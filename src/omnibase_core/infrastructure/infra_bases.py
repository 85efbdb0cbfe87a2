"""The service bases: nodes with health, metrics, events and configuration, and nothing to set up.

What a service adds is one mixin composed of parts (a window of outcomes, dependencies, the container's services), not
inherited level by level.
"""

from typing import Protocol, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.aggregation_run import run_aggregation
from omnibase_core.mixins.algorithm_run import run_algorithm
from omnibase_core.mixins.compute_parallel import OnProgress
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.mixin_service import MixinService, Verdict
from omnibase_core.mixins.service_health import Ping
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_compute import ModelContractCompute
from omnibase_core.models.contracts.model_contract_effect import ModelContractEffect
from omnibase_core.models.contracts.model_contract_orchestrator import ModelContractOrchestrator
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.models.contracts.subcontracts.effect_io_configs import ModelDbIOConfig, ModelKafkaIOConfig
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_compute_output import ModelComputeOutput
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput
from omnibase_core.models.model_orchestrator_input import ModelOrchestratorInput
from omnibase_core.models.model_orchestrator_output import ModelOrchestratorOutput
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.models.model_reducer_output import ModelReducerOutput
from omnibase_core.nodes.node_compute import NodeCompute
from omnibase_core.nodes.node_effect import NodeEffect
from omnibase_core.nodes.node_orchestrator import NodeOrchestrator
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.protocols.protocol_services import ProtocolAlgorithmRegistry
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry
from omnibase_core.utils.contract_request import request_of
from omnibase_core.utils.result_cache import ResultCache


class _Pinged(Protocol):
    """A handler that can ask a named connection how it is."""

    async def ping(self, connection_name: str) -> None: ...


def _well(_output: object) -> Verdict:
    return Verdict()


def _judge(node: object, given: object, input_type: type, contract_type: type) -> None:
    """VALIDATION_ERROR for what is no contract."""
    if not isinstance(given, contract_type):
        raise ModelOnexError(
            f"{type(node).__name__} takes a {input_type.__name__} or {contract_type.__name__}; found "
            f"{type(given).__name__}",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )


class ModelServiceEffect(MixinService, NodeEffect):
    """An effect node that runs as a service; works with a bare container.

    Every call of `process` counts in the error rate of the last minute, and of a code-driven node in the metrics under
    its class name and effect type (a contract's operations have their own). Liveness says that the process answers,
    readiness that it can do its work now.
    """

    container: Container

    async def process(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Like `NodeEffect.process`, counted."""
        metric = None if hasattr(self, "effect_subcontract") else input_data.effect_type.value
        run = super().process
        return await self._counted(lambda: run(input_data), _effect_verdict, metric)

    async def execute_effect(self, input_data: ModelEffectInput | ModelContractEffect) -> ModelEffectOutput:
        """Run the node's contract with this input; or a `ModelContractEffect`, which brings contract and input."""
        if isinstance(input_data, ModelEffectInput):
            return await super().execute_effect(input_data)
        _judge(self, input_data, ModelEffectInput, ModelContractEffect)
        subcontract, data = request_of(input_data)
        node = NodeEffect(self.container)
        node.effect_subcontract = subcontract
        effect = ModelEffectInput(operation_data=data, correlation_id=input_data.correlation_id)
        return await self._counted(lambda: node.execute_effect(effect), _effect_verdict, None)

    def _usage(self) -> dict[str, float]:
        return {"concurrency": min(1.0, self._counters.in_flight / max(1, self.max_concurrent_effects))}

    def _connections(self, container: ModelONEXContainer) -> dict[str, Ping]:
        contract = getattr(self, "effect_subcontract", None)
        if contract is None:
            return {}
        registry = cast("EffectHandlerRegistry", container.get_service("EffectHandlerRegistry"))  # the container's own
        found: dict[str, Ping] = {}
        for operation in contract.operations:
            config = operation.io_config
            if not isinstance(config, ModelDbIOConfig | ModelKafkaIOConfig):
                continue
            handler = container.get_service_optional(registry.resolve(operation.handler_type))
            if hasattr(handler, "ping"):
                pinged, name = cast("_Pinged", handler), config.connection_name  # hasattr above
                found[f"{operation.handler_type}:{name}"] = lambda p=pinged, n=name: p.ping(n)  # type: ignore[misc]  # bound now, not at the call
        return found


def _effect_verdict(output: ModelEffectOutput) -> Verdict:
    return Verdict(success=output.failed_operation is None, attempts=output.total_retry_count + 1)


class ModelServiceCompute(MixinService, NodeCompute):
    """A compute node that runs as a service. Calls are counted under the class name and `compute`."""

    container: ModelONEXContainer

    async def process(self, input_data: ModelComputeInput) -> ModelComputeOutput:
        """Like `NodeCompute.process`, counted."""
        run = super().process
        return await self._counted(lambda: run(input_data), _well, "compute")

    async def execute_compute(
        self, input_data: ModelComputeInput | ModelContractCompute, *, on_progress: OnProgress | None = None
    ) -> ModelComputeOutput:
        """Compute once; or carry out a `ModelContractCompute`, which names an algorithm and brings its input.

        on_progress: called on the event loop with the number of items that an algorithm is done with, and of all.
        """
        if isinstance(input_data, ModelComputeInput):
            return await self.process(input_data)
        _judge(self, input_data, ModelComputeInput, ModelContractCompute)
        contract = input_data
        registry = cast("ProtocolAlgorithmRegistry", self.container.get_service("ProtocolAlgorithmRegistry"))  # its key
        cache = self.__dict__.setdefault("_algorithm_results", ResultCache())
        return await self._counted(
            lambda: run_algorithm(contract, registry, on_progress=on_progress, cache=cache, cluster=self._cluster),
            _well,
            "compute",
        )


class ModelServiceReducer(MixinService, NodeReducer):
    """A reducer node that runs as a service. Calls are counted under the class name and `reduce`."""

    async def process(self, input_data: ModelReducerInput) -> ModelReducerOutput:
        """Like `NodeReducer.process`, counted."""
        run = super().process
        return await self._counted(lambda: run(input_data), _well, "reduce")

    async def execute_reduction(self, input_data: ModelReducerInput | ModelContractReducer) -> ModelReducerOutput:
        """Another name of `process`; or carry out a `ModelContractReducer`, which brings its input."""
        if isinstance(input_data, ModelReducerInput):
            return await self.process(input_data)
        _judge(self, input_data, ModelReducerInput, ModelContractReducer)
        contract = input_data
        return await self._counted(lambda: run_aggregation(contract, self.container), _well, "reduce")


class ModelServiceOrchestrator(MixinService, NodeOrchestrator):
    """An orchestrator node that runs as a service. Calls are counted under the class name and `orchestrate`."""

    async def process(self, input_data: ModelOrchestratorInput) -> ModelOrchestratorOutput:
        """Like `NodeOrchestrator.process`, counted."""
        run = super().process
        return await self._counted(lambda: run(input_data), _well, "orchestrate")

    async def execute_orchestration(
        self, input_data: ModelOrchestratorInput | ModelContractOrchestrator
    ) -> ModelOrchestratorOutput:
        """Run the node's workflow; or a `ModelContractOrchestrator`, which brings steps over services and input."""
        if isinstance(input_data, ModelOrchestratorInput):
            return await self.process(input_data)
        _judge(self, input_data, ModelOrchestratorInput, ModelContractOrchestrator)
        contract = input_data
        return await self._counted(lambda: self.run_services(contract), _well, "orchestrate")
