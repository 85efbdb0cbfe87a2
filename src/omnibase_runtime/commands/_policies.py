"""Effective policies and where each value comes from; the schedule of attempts; who says what is idempotent."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from omnibase_core.enums.enum_effect_policy import EnumJitter
from omnibase_core.models.contracts.subcontracts.effect_io_configs import ModelDbIOConfig, ModelHttpIOConfig
from omnibase_core.models.contracts.subcontracts.effect_retry_config import IDEMPOTENCY_DEFAULTS, ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import (
    ModelEffectCircuitBreaker,
    ModelEffectOperation,
    ModelEffectSubcontract,
)
from omnibase_core.utils.effect_executor import calculate_backoff
from omnibase_core.utils.effect_plan import OperationPlan

if TYPE_CHECKING:
    from pydantic import JsonValue

BUILT_IN: Final = "built-in default"
OWN: Final = "operation"


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value. `source`: `operation`, the name of the contract's default block, or `built-in default`."""

    name: str
    value: "JsonValue"
    source: str


@dataclass(frozen=True, slots=True)
class AttemptTime:
    """When an attempt begins if all before it fail at once and no jitter is added; milliseconds."""

    number: int
    delay_ms: int
    begins_ms: int


def retry_settings(
    contract: ModelEffectSubcontract, operation: ModelEffectOperation, plan: OperationPlan
) -> list[Setting]:
    """The retry policy of an operation."""
    return _settings(plan.policy, operation.retry_policy, contract.default_retry_policy, "default_retry_policy")


def breaker_settings(
    contract: ModelEffectSubcontract, operation: ModelEffectOperation, plan: OperationPlan
) -> list[Setting]:
    """The breaker's settings of an operation."""
    return _settings(
        plan.breaker, operation.circuit_breaker, contract.default_circuit_breaker, "default_circuit_breaker"
    )


def _settings(
    effective: ModelEffectRetryPolicy | ModelEffectCircuitBreaker,
    own: ModelEffectRetryPolicy | ModelEffectCircuitBreaker | None,
    general: ModelEffectRetryPolicy | ModelEffectCircuitBreaker,
    general_name: str,
) -> list[Setting]:
    values = type(effective).model_validate(effective.__dict__).model_dump(mode="json")
    found = []
    for name in type(effective).model_fields:
        source = BUILT_IN
        if own is not None and name in own.model_fields_set:
            source = OWN
        elif name in general.model_fields_set:
            source = general_name
        found.append(Setting(name, values[name], source))
    return found


def timeouts(operation: ModelEffectOperation, contract: ModelEffectSubcontract) -> list[Setting]:
    """The three limits of an operation: one attempt, all attempts, the whole call."""
    config = operation.io_config
    attempt = OWN if "timeout_ms" in config.model_fields_set else BUILT_IN
    whole = OWN if "operation_timeout_ms" in operation.model_fields_set else BUILT_IN
    flow = "contract" if "flow_timeout_ms" in contract.model_fields_set else BUILT_IN
    return [
        Setting("timeout_ms", config.timeout_ms, attempt),
        Setting("operation_timeout_ms", operation.operation_timeout_ms, whole),
        Setting("flow_timeout_ms", contract.flow_timeout_ms, flow),
    ]


def schedule(policy: ModelEffectRetryPolicy, retries: int, limit_ms: int) -> list[AttemptTime]:
    """The attempts that can begin before `limit_ms`, at most `retries` after the first."""
    steady = policy.model_copy(update={"jitter": EnumJitter.PROPORTIONAL, "jitter_factor": 0.0})
    times = [AttemptTime(1, 0, 0)]
    begins = 0
    for number in range(1, retries + 1):
        delay = calculate_backoff(number, steady)
        begins += delay
        if begins >= limit_ms:
            break
        times.append(AttemptTime(number + 1, delay, begins))
    return times


def limit_of(operation: ModelEffectOperation, contract: ModelEffectSubcontract) -> int:
    """Milliseconds that all attempts of an operation have at most."""
    return min(operation.operation_timeout_ms or 60_000, contract.flow_timeout_ms)


def idempotency_reason(operation: ModelEffectOperation) -> str:
    """Why the operation counts as idempotent, or does not."""
    config = operation.io_config
    if operation.idempotent is not None:
        return f"the contract says idempotent: {str(operation.idempotent).lower()}"
    if isinstance(config, ModelHttpIOConfig) and config.idempotency_key is not None:
        return f"the target recognises a repetition by the header {config.idempotency_key.header}"
    verb = operation.describe()
    if isinstance(config, ModelDbIOConfig):
        if config.operation in {"update", "upsert"} and not operation.get_effective_idempotency():
            return "the statement computes a column from the row itself, so a repetition changes it again"
        if config.operation == "raw":
            return "a raw statement may be anything; say idempotent: true if repeating it is harmless"
        known = IDEMPOTENCY_DEFAULTS["db"]
        return _by_table(verb, known=config.operation.upper() in known)
    return _by_table(verb, known=operation.handler_type in IDEMPOTENCY_DEFAULTS)


def _by_table(verb: str, *, known: bool) -> str:
    return (
        f"{verb} by the table of defaults"
        if known
        else f"{verb} is not in the table of defaults, so it counts as unsafe"
    )


def phase_rows(operation: ModelEffectOperation, plan: OperationPlan, *, in_transaction: bool) -> list[tuple[str, str]]:
    """(how far an attempt came, what is done about it)."""
    lists = _listed(plan)
    if in_transaction:
        again = "the whole transaction is repeated if it was a serialisation failure or a deadlock"
        return [
            ("not sent", "not repeated alone"),
            ("rejected", again),
            ("no answer", "the transaction ends"),
            ("done", "never"),
        ]
    if plan.max_retries == 0:
        why = "never: retries are switched off"
        ambiguous = why if plan.idempotent else "stop; outcome unknown"
        return [("not sent", why), ("rejected", why), ("no answer", ambiguous), ("done", "never")]
    statuses = ", ".join(str(code) for code in sorted(plan.lists.status_codes))
    http = isinstance(operation.io_config, ModelHttpIOConfig)
    rejected = "repeat on 429" if http and 429 in plan.lists.status_codes else "repeat if it is transient by nature"
    if not http:
        rejected = "repeat on a serialisation failure or a deadlock" if operation.handler_type == "db" else rejected
    ambiguous = f"repeat on {lists}{f', and status {statuses}' if http and statuses else ''}"
    if not plan.idempotent:
        ambiguous = "stop; outcome unknown, because a repetition could do it twice"
    return [("not sent", f"repeat on {lists}"), ("rejected", rejected), ("no answer", ambiguous), ("done", "never")]


def _listed(plan: OperationPlan) -> str:
    return ", ".join(sorted(plan.lists.errors)) or "nothing (retryable_errors is empty)"
