"""The service bases: nodes with health, metrics, events and configuration, and nothing to set up.

What a service adds is composed of parts (a window of outcomes, dependencies, the container's services), not inherited
level by level.
"""

import asyncio
from typing import Final, Protocol, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.service_health import OutcomeWindow, Ping, ask, judge_health, resource_usage
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_effect import ModelContractEffect
from omnibase_core.models.contracts.subcontracts.effect_io_configs import ModelDbIOConfig, ModelKafkaIOConfig
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput
from omnibase_core.models.model_health import NodeHealthStatus
from omnibase_core.nodes.node_effect import NodeEffect
from omnibase_core.protocols.protocol_effect_metrics import ProtocolEffectMetrics, ProtocolOperationMeter
from omnibase_core.protocols.protocol_services import NodeConfigProvider
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry
from omnibase_core.utils.contract_request import request_of

_NOT_THE_NODES: Final = frozenset({EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.CANCELLED})
"""Codes of the caller's mistakes and wishes: they say nothing about the node, and are left out of its error rate."""


class _Pinged(Protocol):
    """A handler that can ask a named connection how it is."""

    async def ping(self, connection_name: str) -> None: ...


class ServiceParts:
    """What a service base has beside its node."""

    __slots__ = ("dependencies", "draining", "meters", "outcomes")

    def __init__(self) -> None:
        self.outcomes = OutcomeWindow()
        self.dependencies: dict[str, Ping] = {}
        self.meters: dict[str, ProtocolOperationMeter | None] = {}
        self.draining = False


def _service(container: Container, key: str) -> object | None:
    find = getattr(container, "get_service_optional", None)
    return find(key) if callable(find) else None


class ModelServiceEffect(NodeEffect):
    """An effect node that runs as a service; works with a bare container.

    Every call of `process` counts in the error rate of the last minute, and of a code-driven node in the metrics under
    its class name and effect type (a contract's operations have their own). Liveness says that the process answers,
    readiness that it can do its work now.
    """

    def __init__(self, container: Container | None = None) -> None:
        super().__init__(container)
        self._service_parts = ServiceParts()

    @property
    def _parts(self) -> ServiceParts:
        """Also there when a subclass never called the constructor of its base."""
        parts: ServiceParts = self.__dict__.setdefault("_service_parts", ServiceParts())
        return parts

    async def process(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Like `NodeEffect.process`, counted."""
        return await self._counted(super().process, input_data)

    async def execute_effect(self, input_data: ModelEffectInput | ModelContractEffect) -> ModelEffectOutput:
        """Run the node's contract with this input; or a `ModelContractEffect`, which brings contract and input."""
        if isinstance(input_data, ModelEffectInput):
            return await super().execute_effect(input_data)
        subcontract, data = request_of(input_data)
        node = NodeEffect(self.container)
        node.effect_subcontract = subcontract
        effect = ModelEffectInput(operation_data=data, correlation_id=input_data.correlation_id)
        return await self._counted(node.execute_effect, effect)

    async def _counted(self, call: "_Call", input_data: ModelEffectInput) -> ModelEffectOutput:
        parts = self._parts
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome, reason, attempts, counts, success = "failed", "not_retryable", 1, True, False
        try:
            output = await call(input_data)
            success = output.failed_operation is None
            outcome, reason, attempts = (
                ("succeeded", "success", output.total_retry_count + 1)
                if success
                else ("failed", "continued", output.total_retry_count + 1)
            )
            return output
        except ModelOnexError as error:
            counts = error.error_code not in _NOT_THE_NODES
            reason = str(error.context.get("stop_reason", reason))
            found = error.context.get("attempts", attempts)
            attempts = found if isinstance(found, int) else attempts
            raise
        except asyncio.CancelledError:
            outcome, reason, counts = "failed", "cancelled", False
            raise
        finally:
            if counts:
                parts.outcomes.record(success=success)
            if not hasattr(self, "effect_subcontract"):
                meter = self._meter(input_data.effect_type.value)
                if meter is not None:
                    meter.finished(outcome, reason, loop.time() - started, attempts)

    def _meter(self, effect: str) -> ProtocolOperationMeter | None:
        meters = self._parts.meters
        if effect not in meters:
            metrics = _service(self.container, "ProtocolEffectMetrics")
            is_real = isinstance(metrics, ProtocolEffectMetrics) and isinstance(self.container, ModelONEXContainer)
            meters[effect] = (
                cast("ProtocolEffectMetrics", metrics).operation_meter(
                    type(self).__name__, effect, "code"
                )  # as checked
                if is_real
                else None
            )
        return meters[effect]

    # --- health ----------------------------------------------------------------------------------------------------

    def add_dependency(self, name: str, ping: Ping) -> None:
        """Have `ping` asked at every health check. It raises, or gives False, when the dependency is down."""
        self._parts.dependencies[name] = ping

    async def health_check(self) -> NodeHealthStatus:
        """How the node is, by its dependencies, its resources and its last minute.

        Dependencies are those that were added, the named connections of the contract, and every service of the
        container that was made and has a `ping()`; each is asked for at most two seconds. Never raises but
        cancellation.
        """
        try:
            dependencies = await ask(self._all_dependencies())
            usage = resource_usage()
            usage["concurrency"] = min(1.0, self._counters.in_flight / max(1, self.max_concurrent_effects))
            return judge_health(dependencies, usage, self._parts.outcomes.error_rate())
        except Exception as error:  # noqa: BLE001  # a check that fails is a finding
            details: dict[str, JsonValue] = {"error": redact(f"{type(error).__name__}: {error}")}
            return NodeHealthStatus(status=EnumHealthStatus.UNHEALTHY, details=details)

    def is_live(self) -> bool:
        """Whether the process answers; dependencies do not count."""
        return True

    async def is_ready(self) -> bool:
        """Whether the node can do its work now: every dependency is up, and it is not draining."""
        if self._parts.draining:
            return False
        answers = await ask(self._all_dependencies())
        return all(problem is None for problem in answers.values())

    def drain(self) -> None:
        """Be not ready from now on; calls that come all the same are carried out."""
        self._parts.draining = True

    def _all_dependencies(self) -> dict[str, Ping]:
        dependencies = dict(self._parts.dependencies)
        if isinstance(self.container, ModelONEXContainer):
            dependencies |= self.container.pings()
            dependencies |= self._connections(self.container)
        return dependencies

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

    # --- configuration ---------------------------------------------------------------------------------------------

    def get_config(self, name: str, default: JsonValue = None) -> JsonValue:
        """A value of the container's `NodeConfigProvider`: the program's, else `ONEX_NODE__<NAME>` of the
        environment.
        """
        provider = _service(self.container, "NodeConfigProvider")
        if isinstance(provider, NodeConfigProvider) and isinstance(self.container, ModelONEXContainer):
            return provider.get(name, default)
        return default


class _Call(Protocol):
    async def __call__(self, input_data: ModelEffectInput, /) -> ModelEffectOutput: ...
