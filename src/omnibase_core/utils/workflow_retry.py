"""How often a step is tried: its own policy, else that of the workflow."""

from collections.abc import Callable
from typing import Final

from omnibase_core.enums.enum_workflow import EnumOnFailure
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract
from omnibase_core.models.contracts.subcontracts.workflow_steps import ModelWorkflowWork
from omnibase_core.utils.effect_executor import calculate_backoff
from omnibase_core.utils.workflow_plan import RetryPlan

ONCE: Final = RetryPlan(1, lambda _attempt, _random: 0.0)


def retry_of(
    contract: ModelOrchestratorSubcontract, step: ModelWorkflowWork, on_failure: EnumOnFailure | None
) -> RetryPlan:
    """The attempts of a step: its own policy, else that of the workflow, which `on_failure: retry` switches on."""
    general = contract.conflict_resolution
    policy = step.retry
    retries = 0
    if policy is not None:
        retries = policy.max_retries if policy.enabled else 0
    elif general.retry_enabled or on_failure is EnumOnFailure.RETRY:
        policy = general.retry_config or ModelEffectRetryPolicy()
        retries = policy.max_retries if "max_retries" in policy.model_fields_set else general.max_retries
        retries = retries if policy.enabled else 0
    if policy is None or not retries:
        return ONCE
    listed = policy.retryable_errors if "retryable_errors" in policy.model_fields_set else general.retry_conditions
    return RetryPlan(retries + 1, _delays(policy), None if listed is None else frozenset(listed))


def _delays(policy: ModelEffectRetryPolicy) -> Callable[[int, float], float]:
    base, cap = policy.base_delay_ms, max(policy.max_delay_ms, policy.base_delay_ms)

    def delay_s(attempt: int, random: float) -> float:
        before = min(cap, base * 3 ** min(attempt - 3, 20)) if attempt > 2 else 0  # what decorrelated jitter grows from
        return calculate_backoff(attempt - 1, policy, previous_ms=before, rng=lambda: random) / 1_000

    return delay_s
