"""Running a contract: the order of its operations, its transaction, and the output that says what happened."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome, EnumStopReason
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.mixins.effect_binding import BoundPlan, Container, bind
from omnibase_core.mixins.effect_flow import run_in_order, run_in_parallel
from omnibase_core.mixins.effect_operation import Call, Finished, refuse_operation
from omnibase_core.mixins.effect_preflight import first_hopeless
from omnibase_core.mixins.effect_transaction import run_transaction
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOperationResult, ModelEffectOutput
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.effect_executor import utc_now
from omnibase_core.utils.effect_plan import EffectPlan, compile_plan
from omnibase_core.utils.templates import Scope

_SKIPPED: Final = EnumOperationOutcome.SKIPPED
_SUCCESS: Final = EnumStopReason.SUCCESS
_COMMITTED: Final = EnumTransactionState.COMMITTED
_OUTPUT_FIELDS: Final = set(ModelEffectOutput.model_fields)


class MixinEffectExecution:
    """Gives `execute_effect` to whatever has a `container` and an `effect_subcontract`; both may be reassigned."""

    container: Container
    effect_subcontract: ModelEffectSubcontract

    _effect_plan: EffectPlan | None = None
    _bound_plan: BoundPlan | None = None
    _bound_container: Container | None = None

    async def execute_effect(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Carry the contract out once.

        Raises ModelOnexError VALIDATION_ERROR before anything runs when the input does not fit, and EffectFailedError
        in the aborting modes when an operation failed, in any mode when the transaction did not end as asked. In the
        continuing modes failures are in the output. Cancellation passes when everything has been put in order.
        """
        bound = self._bind()
        plan = bound.plan
        if plan.check_input is not None:
            plan.check_input(input_data.operation_data)
        loop = asyncio.get_running_loop()
        started = loop.time()
        correlation_id = input_data.correlation_id or current_correlation_id.get() or new_id()
        now = utc_now(bound.wall_clock)
        limit = plan.flow_timeout_s
        if "timeout_ms" in input_data.model_fields_set and input_data.timeout_ms / 1000 < limit:
            limit = input_data.timeout_ms / 1000
        scope = Scope(
            input_data.operation_data,
            {},
            {},
            bound.environ,
            {"correlation_id": correlation_id, "operation_id": input_data.operation_id, "timestamp": now},
        )
        call = Call(bound, scope, correlation_id, started + limit, loop)
        token = current_correlation_id.set(correlation_id)
        try:
            trouble: ModelOnexError | None = None
            retries = 0
            finished: list[Finished | None]
            hopeless = await first_hopeless(call) if bound.preflight else None
            if hopeless is not None:
                finished = [None] * len(bound.operations)
                finished[hopeless[0]] = refuse_operation(bound.operations[hopeless[0]], call, hopeless[1])
                state = EnumTransactionState.NONE
            elif plan.transaction is not None:
                ended = await run_transaction(call, plan.transaction)
                finished, state, trouble, retries = ended.finished, ended.state, ended.trouble, ended.retries
            else:
                finished = await (run_in_parallel if plan.mode.is_parallel else run_in_order)(call)
                state = _state_of(finished)
        finally:
            current_correlation_id.reset(token)
        output = _output(
            plan, finished, state, retries, input_data, correlation_id, now, (loop.time() - started) * 1000
        )
        if trouble is not None or (output.failed_operation is not None and plan.mode.aborts):
            raise _failure(plan, finished, output, trouble)
        return output

    def _bind(self) -> BoundPlan:
        """The plan bound to the container; made again only when the contract, the container or a service changed."""
        bound = self._bound_plan
        container = self.container
        contract = self.effect_subcontract
        if (
            bound is not None
            and bound.plan.subcontract is contract
            and self._bound_container is container
            and bound.version == getattr(container, "version", 0)
        ):
            return bound
        plan = self._effect_plan
        if plan is None or plan.subcontract is not contract:
            plan = self._effect_plan = compile_plan(contract)
        self._bound_plan = bind(plan, container, in_transaction=plan.transaction is not None)
        self._bound_plan.version = getattr(container, "version", 0)
        self._bound_container = container
        return self._bound_plan


def _state_of(finished: list[Finished | None]) -> EnumTransactionState:
    """Without a transaction: committed when all succeeded, failed when one did not, none when nothing ran."""
    ran = succeeded = 0
    for done in finished:
        if done is not None and done.result.outcome is not _SKIPPED:
            ran += 1
            succeeded += done.result.success
    if not ran:
        return EnumTransactionState.NONE
    return _COMMITTED if succeeded == len(finished) else EnumTransactionState.FAILED


def _output(
    plan: EffectPlan,
    finished: list[Finished | None],
    state: EnumTransactionState,
    retries: int,
    input_data: ModelEffectInput,
    correlation_id: UUID,
    now: datetime,
    duration_ms: float,
) -> ModelEffectOutput:
    results: list[ModelEffectOperationResult] = []
    fields: dict[str, object] = {}
    failed: str | None = None
    for done in finished:
        if done is None:
            continue
        result = done.result
        results.append(result)
        retries += result.retries
        if result.success:
            fields[result.operation_name] = result.extracted_fields
        elif failed is None and result.outcome is not _SKIPPED and result.stop_reason is not _SUCCESS:
            failed = result.operation_name  # one that was undone with its transaction is not what failed
    return trusted(
        ModelEffectOutput,
        {
            "correlation_id": correlation_id,
            "operation_id": input_data.operation_id,
            "operations": results,
            "failed_operation": failed,
            "total_retry_count": retries,
            "total_duration_ms": duration_ms,
            "transaction_state": state,
            "execution_mode": plan.mode,
            "subcontract_name": plan.name,
            "subcontract_version": plan.version,
            "timestamp": now,
            "result": fields,
            "metadata": input_data.metadata,
        },
        _OUTPUT_FIELDS,
    )


def _failure(
    plan: EffectPlan, finished: list[Finished | None], output: ModelEffectOutput, trouble: ModelOnexError | None
) -> EffectFailedError:
    failed = next((f for f in finished if f is not None and f.result.operation_name == output.failed_operation), None)
    label = next((op.label for op in plan.operations if op.name == output.failed_operation), "")
    context: dict[str, object] = {"contract": plan.name, "transaction_state": output.transaction_state.value}
    if trouble is not None:
        message, code = f"contract {plan.name!r}: {trouble.message}", trouble.error_code
        cause: BaseException | None = trouble
    else:
        result = cast("Finished", failed).result  # a failed operation is among the finished ones
        stop = result.stop_reason.value if result.stop_reason else result.outcome.value
        count = len(result.attempts)
        said = (result.error_message or "").rstrip(".")
        message = (
            f"contract {plan.name!r}, operation {result.operation_name!r} ({label}): {said}; "
            f"stopped after {count} attempt{'' if count == 1 else 's'}: {stop}"
        )
        code = result.error_code or EnumCoreErrorCode.OPERATION_FAILED
        cause = cast("Finished", failed).error  # as above
        context |= {"operation": result.operation_name, "stop_reason": stop, "outcome": result.outcome.value}
    context["partial_output"] = cast("Mapping[str, JsonValue]", output.model_dump(mode="json"))  # JSON by its mode
    error = EffectFailedError(message, code, context, output.correlation_id)
    error.partial_output = output
    error.__cause__ = cause
    return error
