"""One operation, from its first attempt to its outcome (sections 2.5 to 2.7).

Order of an attempt: breaker asked -> secrets -> templates resolved -> breaker permit -> handler under the attempt's
deadline -> status -> extraction. A failed attempt becomes a `Fault`, the fault a verdict, and the verdict a wait or
an end.
"""

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase, EnumOperationOutcome, EnumStopReason
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_traceparent
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.cut import Cut, CutOffError
from omnibase_core.mixins.effect_binding import BoundOperation, BoundPlan, fetch_secrets
from omnibase_core.mixins.effect_records import attempt_record, success_record
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedContext,
    ModelResolvedHttpContext,
)
from omnibase_core.models.model_effect_output import (
    ExtractedValue,
    ModelEffectAttempt,
    ModelEffectOperationResult,
)
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_core.utils.effect_executor import calculate_backoff, utc_now
from omnibase_core.utils.effect_plan import OperationPlan
from omnibase_core.utils.extraction import extract_all
from omnibase_core.utils.faults import Fault, fault_of_error, fault_of_status, judge, retry_after_seconds
from omnibase_core.utils.templates import Scope

if TYPE_CHECKING:
    from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext

_log = logging.getLogger("onex.effect")

_SUCCEEDED: Final = EnumOperationOutcome.SUCCEEDED
_FAILED: Final = EnumOperationOutcome.FAILED
_UNKNOWN: Final = EnumOperationOutcome.UNKNOWN
_SUCCESS: Final = EnumStopReason.SUCCESS


@dataclass(slots=True)
class Call:
    """One invocation of a plan: what its operations share."""

    bound: BoundPlan
    scope: Scope
    correlation_id: UUID
    deadline: float
    loop: asyncio.AbstractEventLoop


@dataclass(slots=True)
class Finished:
    """An operation that has ended. `error` is the last real error, `document` the whole result of a success."""

    result: ModelEffectOperationResult
    document: JsonValue = None
    error: BaseException | None = None
    fault: Fault | None = None


class _Progress:
    """What happened so far to one operation."""

    __slots__ = ("attempts", "deadline", "fault", "number", "previous_delay_ms", "started", "target", "was_ambiguous")

    def __init__(self, started: float, deadline: float) -> None:
        self.started = started
        self.deadline = deadline
        self.number = 0
        self.attempts: list[ModelEffectAttempt] = []
        self.fault: Fault | None = None
        self.previous_delay_ms = 0
        self.was_ambiguous = False
        self.target: str | None = None


async def run_operation(operation: BoundOperation, call: Call) -> Finished:
    """Run one operation to its end. Raises nothing but cancellation."""
    plan = operation.plan
    loop = call.loop
    started = loop.time()
    deadline = started + plan.operation_timeout_s
    progress = _Progress(started, min(call.deadline, deadline))
    if operation.watch is not None:
        operation.watch.started()
    while True:
        if started >= progress.deadline:
            return _ended(operation, call, progress, EnumStopReason.DEADLINE, _FAILED, _no_time_left(plan, progress))
        progress.number += 1
        breaker = operation.breaker
        if breaker is not None and breaker.refusal() is not None:
            progress.number -= 1
            return _ended(operation, call, progress, EnumStopReason.BREAKER_OPEN, _FAILED, _breaker_open(operation))
        response, fault = await _attempt(operation, call, progress, started)
        if fault is None:
            return _succeeded(
                operation, call, progress, cast("EffectResponse", response), started
            )  # no fault, a response
        ended = loop.time()
        verdict = judge(fault, idempotent=plan.idempotent, attempts_left=plan.max_retries - progress.number + 1)
        progress.was_ambiguous = progress.was_ambiguous or fault.phase is EnumFaultPhase.AMBIGUOUS
        reason, delay_ms, source = verdict.reason, 0.0, None
        repeat = verdict.repeat
        if repeat:
            delay_ms, source, refusal = _next_delay(operation, fault, progress, ended)
            if refusal is not None:
                repeat, reason = False, refusal
        elif ended >= progress.deadline and reason is EnumStopReason.ATTEMPTS:
            reason = EnumStopReason.DEADLINE
        progress.attempts.append(
            attempt_record(
                progress.number,
                started - progress.started,
                ended - started,
                fault,
                delay_ms if repeat else 0.0,
                source if repeat else None,
            )
        )
        if not repeat:
            fault.code = verdict.code
            if (
                verdict.outcome is not _UNKNOWN
                and reason is EnumStopReason.DEADLINE
                and progress.fault is not None
                and fault.timed_out
            ):
                fault = progress.fault  # the attempt that the deadline cut says less than the failure before it
            return _ended(operation, call, progress, reason, verdict.outcome, fault)
        progress.fault = fault
        if _log.isEnabledFor(logging.INFO):
            _log.info(
                "operation %s of %s: attempt %d failed (%s), next in %d ms",
                plan.name,
                call.bound.plan.name,
                progress.number,
                fault.kind or fault.status_code or fault.code,
                delay_ms,
            )
        if operation.watch is not None:
            operation.watch.attempt_failed(
                progress.number, str(fault.kind or fault.status_code or fault.code), delay_ms
            )
        await asyncio.sleep(delay_ms / 1000)
        started = loop.time()


def refuse_operation(operation: BoundOperation, call: Call, error: ModelOnexError) -> Finished:
    """An operation that ends before its first attempt, because it cannot run."""
    now = call.loop.time()
    fault = fault_of_error(error, operation.plan.lists)
    fault.phase = EnumFaultPhase.NOT_SENT
    return _ended(operation, call, _Progress(now, now), EnumStopReason.NOT_RETRYABLE, _FAILED, fault)


async def _attempt(
    operation: BoundOperation, call: Call, progress: _Progress, started: float
) -> tuple[EffectResponse | None, Fault | None]:
    """One attempt: a response whose status is a success, or a fault. The breaker has heard of it either way."""
    plan = operation.plan
    bound = call.bound
    until = started + plan.attempt_timeout_s
    until = min(progress.deadline, until)
    try:
        if operation.execute is None:
            raise cast("ModelOnexError", operation.missing)  # one of the two is there
        if plan.io.secret_names:
            secrets = cast("dict[str, str]", call.scope.secrets)  # made for this call
            fetching = fetch_secrets(plan.io.secret_names, bound.secrets, secrets)
            await Cut(fetching, until, call.loop, bound.keep_abandoned)
        context, target = plan.io.resolve(call.scope)
    except Exception as error:  # noqa: BLE001  # whatever a store of secrets raises; nothing has left yet
        return None, _unsent(plan, error, started, call)
    progress.target = target
    breaker = operation.breaker
    permit: int | None = None
    if breaker is not None:
        permit = breaker.acquire()
        if permit is None:
            return None, _breaker_open(operation)
    if bound.traces and (trace := current_traceparent.get()) is not None:
        context = _traced(context, trace)
    if bound.logs_requests and _log.isEnabledFor(logging.INFO):
        _log.info(
            "operation %s of %s: %s to %s, attempt %d", plan.name, bound.plan.name, plan.label, target, progress.number
        )
    try:
        returned = await Cut(
            operation.execute(
                resolved_context=cast(
                    "ResolvedIOContext", context
                ),  # the resolver built the kind that the handler takes
                correlation_id=call.correlation_id,
            ),
            until,
            call.loop,
            bound.keep_abandoned,
        )
    except asyncio.CancelledError:
        if breaker is not None and permit is not None:
            breaker.release(permit)
        raise
    except Exception as error:  # noqa: BLE001  # the attempt boundary: whatever a handler raises is a failed attempt
        fault = (
            _cut_fault(plan, error, started, call)
            if isinstance(error, CutOffError)
            else fault_of_error(error, plan.lists)
        )
        _tell_breaker(operation, permit, fault)
        return (_GONE, None) if _is_done_delete(plan, progress, fault) else (None, fault)
    response = returned if type(returned) is EffectResponse else _as_response(returned)
    status = response.status_code
    if bound.logs_responses and _log.isEnabledFor(logging.INFO):
        answer = "done" if status is None else f"status {status}"
        ms = (call.loop.time() - started) * 1000
        _log.info("operation %s of %s: %s from %s in %.1f ms", plan.name, bound.plan.name, answer, target, ms)
    if status is not None and status not in plan.success_codes:
        after = retry_after_seconds(response.headers.get("retry-after"), lambda: utc_now(bound.wall_clock))
        fault = fault_of_status(status, plan.success_codes, plan.lists, after)
        fault.message = f"{_place(context)}{fault.message}"
        _tell_breaker(operation, permit, fault)
        return (_GONE, None) if _is_done_delete(plan, progress, fault) else (None, fault)
    if breaker is not None and permit is not None:
        breaker.succeed(permit)
    budget = operation.budget_of(target)
    if budget is not None:
        budget.succeed()
    return response, None


def _unsent(plan: OperationPlan, error: Exception, started: float, call: Call) -> Fault:
    """What failed before the handler was called has sent nothing, and says nothing about the target."""
    fault = (
        _cut_fault(plan, error, started, call) if isinstance(error, CutOffError) else fault_of_error(error, plan.lists)
    )
    fault.phase = EnumFaultPhase.NOT_SENT
    fault.target_failed = None
    return fault


def _traced(context: ModelResolvedContext, traceparent: str) -> ModelResolvedContext:
    """The context with the current W3C trace in its headers, where it has headers and the contract gives none."""
    headers = getattr(context, "headers", None)
    if headers is None or any(name.lower() == "traceparent" for name in headers):
        return context
    values = {**context.__dict__, "headers": {**headers, "traceparent": traceparent}}
    return trusted(type(context), values, context.model_fields_set | {"headers"})


def _place(context: ModelResolvedContext) -> str:
    """Method and URL of a request for a message; a query may hold what nobody should read."""
    if isinstance(context, ModelResolvedHttpContext):
        return f"{context.method} {context.url.partition('?')[0]}: "
    return ""


_GONE: Final = EffectResponse({"existed": False})


def _as_response(returned: object) -> EffectResponse:
    if isinstance(returned, EffectResponse):
        return returned
    return EffectResponse(cast("JsonValue", returned))  # a handler returns a JSON-like dict by its protocol


def _is_done_delete(plan: OperationPlan, progress: _Progress, fault: Fault) -> bool:
    """A delete that finds nothing after an attempt of unknown end has been done by that attempt (section 2.5)."""
    if not (plan.deletes and progress.was_ambiguous):
        return False
    return fault.status_code in {404, 410} or fault.code is EnumCoreErrorCode.NOT_FOUND


def _cut_fault(plan: OperationPlan, error: CutOffError, started: float, call: Call) -> Fault:
    cause = error.__cause__
    if isinstance(cause, EffectFault):  # the handler knows more than that time ran out
        return fault_of_error(cause, plan.lists)
    seconds = call.loop.time() - started
    return Fault(
        f"no answer after {seconds:.3g} s",
        EnumCoreErrorCode.TIMEOUT,
        EnumFaultPhase.AMBIGUOUS,
        "ETIMEDOUT",
        None,
        "ETIMEDOUT" in plan.lists.errors,
        None,
        target_failed=True,
        error=error,
    )


def _no_time_left(plan: OperationPlan, progress: _Progress) -> Fault:
    return progress.fault or Fault(
        f"no time left to begin: operation_timeout_ms {plan.operation_timeout_s * 1000:.0f}, "
        "or the call's own deadline, is over",
        EnumCoreErrorCode.TIMEOUT,
        EnumFaultPhase.NOT_SENT,
    )


def _breaker_open(operation: BoundOperation) -> Fault:
    wait = operation.breaker.refusal() if operation.breaker is not None else None
    when = f"it tries again in {wait:.3g} s" if wait else "all its probes are out"
    return Fault(
        f"the circuit breaker is open: nothing was sent, {when}",
        EnumCoreErrorCode.CIRCUIT_BREAKER_OPEN,
        EnumFaultPhase.NOT_SENT,
        retry_after_s=wait,
    )


def _tell_breaker(operation: BoundOperation, permit: int | None, fault: Fault) -> None:
    breaker = operation.breaker
    if breaker is None or permit is None:
        return
    if fault.target_failed is None:
        breaker.release(permit)
        if fault.status_code == 429 and fault.retry_after_s and operation.plan.policy.respect_retry_after:
            breaker.pause(fault.retry_after_s)
    elif fault.target_failed:
        breaker.fail(permit)
    else:
        breaker.succeed(permit)


def _next_delay(
    operation: BoundOperation, fault: Fault, progress: _Progress, now: float
) -> tuple[float, str | None, EnumStopReason | None]:
    """(milliseconds to wait, where they come from, why not to wait at all)."""
    plan = operation.plan
    if fault.code is EnumCoreErrorCode.CIRCUIT_BREAKER_OPEN:
        return 0.0, None, EnumStopReason.BREAKER_OPEN
    delay_ms: float = calculate_backoff(
        progress.number, plan.policy, previous_ms=progress.previous_delay_ms, rng=random.random
    )
    source = "backoff"
    progress.previous_delay_ms = int(delay_ms)
    if fault.retry_after_s is not None and plan.policy.respect_retry_after and fault.retry_after_s * 1000 > delay_ms:
        delay_ms, source = fault.retry_after_s * 1000, "retry_after"
    if now + delay_ms / 1000 >= progress.deadline:
        reason = EnumStopReason.RETRY_AFTER if source == "retry_after" else EnumStopReason.DEADLINE
        return delay_ms, source, reason
    budget = None if progress.target is None else operation.budget_of(progress.target)
    if budget is not None and not budget.try_spend(after_timeout=fault.timed_out):
        return delay_ms, source, EnumStopReason.BUDGET
    return delay_ms, source, None


def _succeeded(
    operation: BoundOperation, call: Call, progress: _Progress, response: EffectResponse, started: float
) -> Finished:
    plan = operation.plan
    ended = call.loop.time()
    progress.attempts.append(attempt_record(progress.number, started - progress.started, ended - started, None))
    fields: dict[str, ExtractedValue] = {}
    if plan.finders:
        try:
            fields = extract_all(response, plan.finders, fail_on_empty=plan.fail_on_empty)
        except ModelOnexError as error:
            fault = Fault(
                f"{error.message} (after the effect: it was done, and is not repeated)",
                error.error_code,
                EnumFaultPhase.DONE,
                status_code=response.status_code,
                error=error,
            )
            return _ended(operation, call, progress, EnumStopReason.NOT_RETRYABLE, _FAILED, fault)
    seconds = ended - progress.started
    result = success_record(plan.name, seconds * 1000, progress.attempts, fields, response.status_code)
    if operation.meter is not None:
        operation.meter.finished("succeeded", "success", seconds, progress.number)
    if operation.watch is not None:
        operation.watch.finished(result)
    return Finished(result, response.document)


def _ended(
    operation: BoundOperation,
    call: Call,
    progress: _Progress,
    reason: EnumStopReason,
    outcome: EnumOperationOutcome,
    fault: Fault,
) -> Finished:
    seconds = call.loop.time() - progress.started
    message = redact(fault.message)
    result = ModelEffectOperationResult(
        operation_name=operation.plan.name,
        success=False,
        duration_ms=seconds * 1000,
        outcome=outcome,
        retries=max(0, progress.number - 1),
        error_message=message,
        error_code=fault.code,
        stop_reason=reason,
        status_code=fault.status_code,
        attempts=progress.attempts,
    )
    _log.warning(
        "operation %s of %s %s: %s (%s, attempts %d)",
        operation.plan.name,
        call.bound.plan.name,
        outcome.value,
        message,
        reason.value,
        progress.number,
    )
    if operation.meter is not None:
        operation.meter.finished(outcome.value, reason.value, seconds, progress.number)
    if operation.watch is not None:
        operation.watch.finished(result)
    return Finished(result, None, fault.error, fault)
