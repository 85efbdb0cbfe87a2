"""Carrying one intent out: attempts, waits between them, and what is known at the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.model_effect_output import EffectFailedError
from omnibase_core.protocols.protocol_intent_handler import IntentDone
from omnibase_core.utils.effect_executor import calculate_backoff, retry_lists
from omnibase_core.utils.faults import fault_of_error, judge

DEFAULT_POLICY: Final = ModelEffectRetryPolicy()
_OUTCOME_UNKNOWN: Final = EnumCoreErrorCode.OUTCOME_UNKNOWN


@dataclass(frozen=True, slots=True)
class Attempted:
    """How it ended. `done` is None after a failure; `unknown`: the effect may have happened."""

    done: IntentDone | None
    attempts: int
    error: str | None = None
    code: EnumCoreErrorCode | None = None
    unknown: bool = False


async def attempt_once(work: Callable[[], Awaitable[IntentDone]], *, idempotent: bool, limit_s: float) -> Attempted:
    """For a handler that repeats by itself."""
    return await attempt(work, ModelEffectRetryPolicy(enabled=False), idempotent=idempotent, limit_s=limit_s)


async def attempt(
    work: Callable[[], Awaitable[IntentDone]],
    policy: ModelEffectRetryPolicy,
    *,
    idempotent: bool,
    limit_s: float,
    rng: Callable[[], float] = random.random,
) -> Attempted:
    """Repeat as the policy allows; `limit_s` is for all attempts and waits together."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    lists = retry_lists(policy)
    allowed = policy.max_retries if policy.enabled else 0
    number = previous_ms = 0
    while True:
        number += 1
        try:
            async with asyncio.timeout_at(deadline):
                done = await work()
        except Exception as error:  # noqa: BLE001  # an intent's boundary: whatever a handler raises is its failure
            fault = fault_of_error(error, lists)
            verdict = judge(fault, idempotent=idempotent, attempts_left=allowed - number + 1)
            wait_ms = calculate_backoff(number, policy, previous_ms=previous_ms, rng=rng)
            if fault.retry_after_s is not None and policy.respect_retry_after:
                wait_ms = max(wait_ms, round(fault.retry_after_s * 1000))
            if verdict.repeat and loop.time() + wait_ms / 1000 < deadline:
                previous_ms = wait_ms
                await asyncio.sleep(wait_ms / 1000)
                continue
            code = error.error_code if isinstance(error, EffectFailedError) else verdict.code
            unknown = code is _OUTCOME_UNKNOWN or (idempotent and _may_have_happened(error, fault.phase))
            return Attempted(None, number - 1 + _attempts_of(error), redact(fault.message), code, unknown)
        return Attempted(done, number - 1 + done.attempts)


def _may_have_happened(error: Exception, phase: EnumFaultPhase) -> bool:
    if isinstance(error, EffectFailedError) and error.partial_output is not None:
        operations = error.partial_output.operations
        return any(made.phase is EnumFaultPhase.AMBIGUOUS for done in operations for made in done.attempts)
    return phase is EnumFaultPhase.AMBIGUOUS


def _attempts_of(error: Exception) -> int:
    if isinstance(error, EffectFailedError) and error.partial_output is not None:
        return error.partial_output.total_retry_count + 1
    refused = isinstance(error, ModelOnexError) and error.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    return 0 if refused and not isinstance(error, EffectFault) else 1
