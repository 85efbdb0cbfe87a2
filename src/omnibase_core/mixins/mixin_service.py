"""What a service base adds to its node: outcomes counted, health, readiness, metrics, configuration."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.service_health import OutcomeWindow, Ping, ask, judge_health, resource_usage
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_health import NodeHealthStatus
from omnibase_core.protocols.protocol_effect_metrics import ProtocolEffectMetrics, ProtocolOperationMeter
from omnibase_core.protocols.protocol_services import NodeConfigProvider

T = TypeVar("T")

_NOT_THE_NODES: Final = frozenset({EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.CANCELLED})
"""Codes of the caller's mistakes and wishes: they say nothing about the node, and are left out of its error rate."""


class ServiceParts:
    """What a service base has beside its node."""

    __slots__ = ("dependencies", "draining", "meters", "outcomes")

    def __init__(self) -> None:
        self.outcomes = OutcomeWindow()
        self.dependencies: dict[str, Ping] = {}
        self.meters: dict[str, ProtocolOperationMeter | None] = {}
        self.draining = False


class Verdict:
    """How a call ended, for the counters: success, and the retries that it took."""

    __slots__ = ("attempts", "success")

    def __init__(self, *, success: bool = True, attempts: int = 1) -> None:
        self.success = success
        self.attempts = attempts


class MixinService:
    """Gives a node the parts of a service; composition, so that all four kinds share them."""

    @property
    def _parts(self) -> ServiceParts:
        """Made when first needed, so that a subclass need not call the constructor of its base."""
        parts: ServiceParts = self.__dict__.setdefault("_service_parts", ServiceParts())
        return parts

    def _lookup(self, key: str) -> object | None:
        """A service of a real container; a double has none that could be trusted."""
        container = self._real_container()
        return None if container is None else container.get_service_optional(key)

    def _real_container(self) -> ModelONEXContainer | None:
        container = getattr(self, "container", None)
        return container if isinstance(container, ModelONEXContainer) else None

    async def _counted(self, call: Callable[[], Awaitable[T]], judge: Callable[[T], Verdict], metric: str | None) -> T:
        """Make a call and count it: in the error rate of the last minute, and under `metric` unless that is None."""
        parts = self._parts
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome, reason, attempts, counts = "failed", "not_retryable", 1, True
        try:
            output = await call()
            verdict = judge(output)
            attempts = verdict.attempts
            outcome, reason = ("succeeded", "success") if verdict.success else ("failed", "continued")
            return output
        except ModelOnexError as error:
            counts = error.error_code not in _NOT_THE_NODES
            reason = str(error.context.get("stop_reason", reason))
            found = error.context.get("attempts", attempts)
            attempts = found if isinstance(found, int) else attempts
            raise
        except asyncio.CancelledError:
            reason, counts = "cancelled", False
            raise
        finally:
            if counts:
                parts.outcomes.record(success=outcome == "succeeded")
            meter = None if metric is None else self._meter(metric)
            if meter is not None:
                meter.finished(outcome, reason, loop.time() - started, attempts)

    def _meter(self, name: str) -> ProtocolOperationMeter | None:
        meters = self._parts.meters
        if name not in meters:
            metrics = self._lookup("ProtocolEffectMetrics")
            meters[name] = None
            if isinstance(metrics, ProtocolEffectMetrics):
                meters[name] = metrics.operation_meter(type(self).__name__, name, "code")
        return meters[name]

    def _usage(self) -> dict[str, float]:
        """Shares of the node's own resources, 0..1, beside those of the process."""
        return {}

    def _connections(self, container: ModelONEXContainer) -> dict[str, Ping]:  # noqa: ARG002  # for those who override
        """Pings of what the node's contract names."""
        return {}

    # health

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
            usage = resource_usage() | self._usage()
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
        container = self._real_container()
        if container is not None:
            dependencies |= container.pings()
            dependencies |= self._connections(container)
        return dependencies

    # configuration

    def get_config(self, name: str, default: JsonValue = None) -> JsonValue:
        """A value of the container's `NodeConfigProvider`: the program's, else `ONEX_NODE__<NAME>` of the
        environment.
        """
        provider = self._lookup("NodeConfigProvider")
        return provider.get(name, default) if isinstance(provider, NodeConfigProvider) else default
