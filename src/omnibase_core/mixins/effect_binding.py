"""A plan bound to a container: handlers, breakers, budgets and meters are looked up once, not once per call."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Protocol, cast
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import NO_DEFAULT
from omnibase_core.logging.redaction import register_secret
from omnibase_core.models.configuration.model_circuit_breaker import ModelCircuitBreaker
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.protocols.protocol_effect_handler import (
    EffectResponse,
    ProtocolEffectHandler,
    ProtocolNamedConnections,
)
from omnibase_core.protocols.protocol_effect_metrics import (
    ProtocolEffectMetrics,
    ProtocolEffectWatch,
    ProtocolOperationMeter,
    ProtocolOperationWatch,
)
from omnibase_core.protocols.protocol_secret_provider import ProtocolSecretProvider
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_core.registry.budget_registry import BudgetRegistry, RetryBudget
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry
from omnibase_core.utils.effect_plan import EffectPlan, OperationPlan


class Container(Protocol):
    """What execution needs of a container; a test double may be as small as this."""

    def get_service(self, key: str) -> object: ...

    def get_service_optional(self, key: str) -> object | None: ...


class HandlerCall(Protocol):
    """A handler's bound `execute`."""

    def __call__(
        self, *, resolved_context: ResolvedIOContext, correlation_id: UUID
    ) -> Coroutine[object, object, Mapping[str, JsonValue] | EffectResponse]: ...


@dataclass(slots=True)
class BoundOperation:
    """An operation and what it runs on. `missing` is raised, as a failed attempt, when there is no handler."""

    plan: OperationPlan
    handler: object
    execute: HandlerCall | None
    missing: ModelOnexError | None
    breaker: ModelCircuitBreaker | None
    budgets: BudgetRegistry | None
    budget: RetryBudget | None
    meter: ProtocolOperationMeter | None
    env_names: frozenset[str]
    watch: ProtocolOperationWatch | None = None

    def budget_of(self, target: str) -> RetryBudget | None:
        """The budget of the target that an attempt resolved to."""
        if self.budget is not None or self.budgets is None:
            return self.budget
        return self.budgets.budget(target)


@dataclass(slots=True)
class BoundPlan:
    """A plan bound to the services of one container, valid while the container's `version` stays.

    preflight: an operation behind the first could be found to be hopeless, and would end the call; the first finds out
    by itself.
    """

    plan: EffectPlan
    version: int
    operations: tuple[BoundOperation, ...]
    preflight: bool
    logs_requests: bool
    logs_responses: bool
    traces: bool
    secrets: ProtocolSecretProvider | None
    environ: Mapping[str, str]
    wall_clock: Callable[[], float]
    keep_abandoned: Callable[[Coroutine[object, object, object]], None]


def bind(plan: EffectPlan, container: Container, *, in_transaction: bool) -> BoundPlan:
    """Look up everything that a plan needs. A missing handler is no error here: the operation that needs it fails."""
    observability = plan.subcontract.observability
    metrics = container.get_service_optional("ProtocolEffectMetrics") if observability.emit_metrics else None
    observe = metrics if isinstance(metrics, ProtocolEffectMetrics) else None
    watch = container.get_service_optional("ProtocolEffectWatch")
    breakers = cast("BreakerRegistry", container.get_service("BreakerRegistry"))  # the container's own default
    budgets = cast("BudgetRegistry", container.get_service("BudgetRegistry"))  # the container's own default
    uses_secrets = any(operation.io.secret_names for operation in plan.operations)
    secrets = container.get_service_optional("ProtocolSecretProvider") if uses_secrets else None
    environ = container.get_service_optional("Environment")
    clock = container.get_service_optional("WallClock")
    operations = []
    for operation in plan.operations:
        handler, missing = _handler(operation, container)
        breaker = None
        if operation.breaker.enabled and not in_transaction:
            breaker = breakers.breaker(operation.breaker_key, operation.breaker, f"{plan.name}/{operation.name}")
        own_budgets = budgets if operation.policy.budget and operation.max_retries else None
        operations.append(
            BoundOperation(
                operation,
                handler,
                None if handler is None else cast("HandlerCall", handler.execute),  # always called with these keywords
                missing,
                breaker,
                own_budgets,
                own_budgets.budget(operation.io.target) if own_budgets and operation.io.target else None,
                observe.operation_meter(plan.name, operation.name, operation.handler_kind) if observe else None,
                _env_names(operation),
                watch.operation_watch(plan.name, operation.name) if isinstance(watch, ProtocolEffectWatch) else None,
            )
        )
    return BoundPlan(
        plan,
        getattr(container, "version", 0),
        tuple(operations),
        plan.mode.aborts and any(op.missing or op.env_names or op.plan.io.secret_names for op in operations[1:]),
        observability.log_request,
        observability.log_response,
        observability.trace_propagation,
        secrets if isinstance(secrets, ProtocolSecretProvider) else None,
        cast("Mapping[str, str]", environ) if isinstance(environ, Mapping) else os.environ,  # texts by contract
        cast("Callable[[], float]", clock if callable(clock) else time.time),  # callable checked
        getattr(container, "keep_abandoned", keep_in_loop),
    )


def _handler(
    operation: OperationPlan, container: Container
) -> tuple[ProtocolEffectHandler | None, ModelOnexError | None]:
    """The handler of an operation, or why it cannot run: no handler, or a connection that nobody has named."""
    try:
        registry = cast("EffectHandlerRegistry", container.get_service("EffectHandlerRegistry"))  # the container's own
        handler = container.get_service(registry.resolve(operation.handler_kind))
        if operation.connection_name and isinstance(handler, ProtocolNamedConnections):
            handler.check_connection(operation.connection_name)
        if not callable(getattr(handler, "execute", None)):
            raise ModelOnexError(
                f"service {registry.resolve(operation.handler_kind)!r}, registered for {operation.handler_kind!r}, "
                f"is a {type(handler).__name__} without a method `execute`; a handler is a ProtocolEffectHandler",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
    except ModelOnexError as error:
        return None, error
    return cast("ProtocolEffectHandler", handler), None  # duck-typed on purpose


def _env_names(operation: OperationPlan) -> frozenset[str]:
    """The variables without which the operation cannot be resolved."""
    return frozenset(
        hole.path[0] for _, hole in operation.io.holes if hole.source == "env" and hole.default is NO_DEFAULT
    )


_kept: set["asyncio.Task[object]"] = set()


def keep_in_loop(work: Coroutine[object, object, object]) -> None:
    """For a container that keeps nothing: the task is held until it ends."""
    task = asyncio.get_running_loop().create_task(work)
    _kept.add(task)
    task.add_done_callback(_kept.discard)


async def fetch_secrets(names: frozenset[str], provider: ProtocolSecretProvider | None, into: dict[str, str]) -> None:
    """Fetch what an attempt needs. A name without a secret stays out, and the template that wants it says so."""
    if provider is None:
        return
    for name in names:
        value = await provider.get(name)
        if value is None:
            into.pop(name, None)
        else:
            register_secret(value)
            into[name] = value
