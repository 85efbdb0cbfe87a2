"""The transaction around a contract's operations, repeated as a whole where the database asks for it (section 2.8).

The state that comes out is what the database said: ROLLED_BACK after a ROLLBACK was carried out, UNKNOWN when the
answer to COMMIT was lost, FAILED when the connection went before COMMIT was sent.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase, EnumOperationOutcome
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.cut import Cut, CutOffError
from omnibase_core.mixins.effect_binding import BoundOperation
from omnibase_core.mixins.effect_flow import RunOperation, run_in_order
from omnibase_core.mixins.effect_operation import Call, Finished, run_operation
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectTransactionConfig
from omnibase_core.models.model_effect_output import ModelEffectOperationResult
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction, ProtocolTransactionalHandler
from omnibase_core.utils.effect_executor import calculate_backoff, retry_lists
from omnibase_core.utils.faults import fault_of_error

_log = logging.getLogger("onex.effect")

_ROLLBACK_SECONDS: Final = 0.9
"""How long a rollback may take after the deadline has passed; under the second of section 2.5."""


@dataclass(slots=True)
class TransactionEnd:
    """How a transaction ended. `trouble` is an error of the transaction itself, not of one of its operations."""

    finished: list[Finished | None]
    state: EnumTransactionState
    trouble: ModelOnexError | None = None
    retries: int = 0
    repeatable: bool = field(default=False)


class _UndoError(Exception):
    """Leaves a savepoint so that the failed statement is undone."""


async def run_transaction(call: Call, config: ModelEffectTransactionConfig) -> TransactionEnd:
    """Run all operations in one transaction; the whole is repeated on a serialisation failure or a deadlock."""
    plan = call.bound.plan
    handler = _transactional(call)
    call.deadline = min(call.deadline, call.loop.time() + config.timeout_ms / 1000)
    policy = plan.transaction_policy
    allowed = policy.max_retries if policy.enabled else 0
    retries = 0
    while True:
        end = await _run_once(call, handler, config)
        end.retries = retries
        if not end.repeatable or retries >= allowed:
            return end
        retries += 1
        delay_s = calculate_backoff(retries, policy, rng=random.random) / 1000
        if call.loop.time() + delay_s >= call.deadline:
            return end
        _log.info("transaction of %s: repeated in %.0f ms (%d of %d)", plan.name, delay_s * 1000, retries, allowed)
        call.scope.output.clear()
        await asyncio.sleep(delay_s)


def _transactional(call: Call) -> ProtocolTransactionalHandler:
    first = call.bound.operations[0]
    if first.missing is not None:
        raise first.missing
    handler = first.handler
    if isinstance(handler, ProtocolTransactionalHandler):
        return handler
    raise ModelOnexError(
        f"contract {call.bound.plan.name!r} asks for a transaction, but the db handler {type(handler).__name__} "
        "has no transaction support (a method `transaction`); use DbAdapter, or set transaction.enabled: false",
        EnumCoreErrorCode.CONFIGURATION_ERROR,
        {"contract": call.bound.plan.name, "handler": type(handler).__name__},
    )


async def _run_once(
    call: Call, handler: ProtocolTransactionalHandler, config: ModelEffectTransactionConfig
) -> TransactionEnd:
    plan = call.bound.plan
    read_only = all(op.label == "db select" for op in plan.operations) and all(
        getattr(op.io_config, "read_only", False) for op in plan.subcontract.operations
    )
    opening = handler.transaction(plan.connection_name, isolation_level=config.isolation_level, read_only=read_only)
    nothing: list[Finished | None] = [None] * len(plan.operations)
    try:
        async with _opened(opening, call) as transaction:
            guarded = not (plan.mode.aborts and config.rollback_on_error)
            run = _in_savepoint(transaction) if guarded else run_operation
            finished = await run_in_order(call, run)
            return await _finish(call, config, transaction, finished)
    except (EffectFault, CutOffError) as error:  # BEGIN failed: nothing ran
        fault = _as_fault(error, "BEGIN")
        lists = retry_lists(plan.transaction_policy)
        repeatable = fault.phase is EnumFaultPhase.NOT_SENT and fault_of_error(fault, lists).listed
        return TransactionEnd(nothing, EnumTransactionState.FAILED, fault, repeatable=repeatable)


@asynccontextmanager
async def _opened(
    opening: AbstractAsyncContextManager[ProtocolDbTransaction], call: Call
) -> AsyncIterator[ProtocolDbTransaction]:
    """Enter under the call's deadline; leave however long it takes to put the connection in order."""
    transaction = await Cut(opening.__aenter__(), call.deadline, call.loop, call.bound.keep_abandoned)
    try:
        yield transaction
    except BaseException as error:
        if not await opening.__aexit__(type(error), error, error.__traceback__):
            raise
    else:
        await opening.__aexit__(None, None, None)


def _in_savepoint(transaction: ProtocolDbTransaction) -> RunOperation:
    async def run(operation: BoundOperation, call: Call) -> Finished:
        done: Finished | None = None
        try:
            async with transaction.savepoint():
                done = await run_operation(operation, call)
                if not done.result.success:
                    raise _UndoError
        except _UndoError:
            pass
        except EffectFault as fault:  # SAVEPOINT, RELEASE or ROLLBACK TO failed
            return _spoiled(operation, done, fault)
        assert done is not None  # noqa: S101  # the block above ran to its end
        return done

    return run


def _spoiled(operation: BoundOperation, done: Finished | None, fault: EffectFault) -> Finished:
    message = redact(f"its savepoint failed: {fault.message}")
    name = operation.plan.name
    if done is None:
        result = ModelEffectOperationResult(
            operation_name=name, success=False, duration_ms=0.0, error_message=message, error_code=fault.error_code
        )
    else:
        result = done.result.model_copy(
            update={
                "success": False,
                "outcome": EnumOperationOutcome.FAILED,
                "error_message": done.result.error_message or message,
                "error_code": done.result.error_code or fault.error_code,
            }
        )
    return Finished(result, None, fault)


async def _finish(
    call: Call,
    config: ModelEffectTransactionConfig,
    transaction: ProtocolDbTransaction,
    finished: list[Finished | None],
) -> TransactionEnd:
    failed = [done for done in finished if done is not None and not done.result.success]
    late = call.loop.time() >= call.deadline
    if (failed and config.rollback_on_error) or late or _state(transaction) is not EnumTransactionState.ACTIVE:
        return await _roll_back(call, transaction, finished, failed, late=late and not failed)
    try:
        await Cut(transaction.commit(), call.deadline, call.loop, call.bound.keep_abandoned)
    except (EffectFault, CutOffError) as error:
        fault = _as_fault(error, "COMMIT")
        state = _state(transaction)
        if state in {EnumTransactionState.ACTIVE, EnumTransactionState.COMMITTED}:
            state = EnumTransactionState.UNKNOWN  # COMMIT was sent and nobody can say what became of it
        if state is EnumTransactionState.UNKNOWN:
            fault = _outcome_unknown(fault)
        outcome = EnumOperationOutcome.UNKNOWN if state is EnumTransactionState.UNKNOWN else EnumOperationOutcome.FAILED
        undone = _undone(finished, outcome, f"the transaction ended as {state.value}")
        again = fault.transient and state is EnumTransactionState.ROLLED_BACK and not _is_inner(transaction)
        return TransactionEnd(undone, state, fault, repeatable=again)
    return TransactionEnd(finished, transaction.state)


async def _roll_back(
    call: Call,
    transaction: ProtocolDbTransaction,
    finished: list[Finished | None],
    failed: list[Finished],
    *,
    late: bool,
) -> TransactionEnd:
    trouble: ModelOnexError | None = None
    if _state(transaction) is EnumTransactionState.ACTIVE:
        until = max(call.deadline, call.loop.time() + _ROLLBACK_SECONDS)
        try:
            await Cut(transaction.rollback(), until, call.loop, call.bound.keep_abandoned)
        except (EffectFault, CutOffError) as error:
            trouble = _as_fault(error, "ROLLBACK")
    state = _state(transaction)
    if state is not EnumTransactionState.ROLLED_BACK:
        state = EnumTransactionState.FAILED
    if late and trouble is None:
        trouble = ModelOnexError(
            "the transaction's deadline passed before COMMIT; it was rolled back", EnumCoreErrorCode.TIMEOUT
        )
    first = failed[0].error if failed else None
    again = (
        state is EnumTransactionState.ROLLED_BACK
        and isinstance(first, EffectFault)
        and first.transient
        and first.phase is EnumFaultPhase.REJECTED
        and not _is_inner(transaction)
    )
    ended = "rolled back" if state is EnumTransactionState.ROLLED_BACK else "lost before COMMIT"
    undone = _undone(finished, EnumOperationOutcome.FAILED, f"undone: the transaction was {ended}")
    return TransactionEnd(undone, state, trouble if not failed else None, repeatable=again)


def _undone(finished: list[Finished | None], outcome: EnumOperationOutcome, why: str) -> list[Finished | None]:
    """What succeeded inside a transaction that did not is no success."""
    update = {
        "success": False,
        "outcome": outcome,
        "error_message": why,
        "error_code": EnumCoreErrorCode.OUTCOME_UNKNOWN
        if outcome is EnumOperationOutcome.UNKNOWN
        else EnumCoreErrorCode.OPERATION_FAILED,
    }
    return [
        replace(done, result=done.result.model_copy(update=update))
        if done is not None and done.result.success
        else done
        for done in finished
    ]


def _as_fault(error: EffectFault | CutOffError, statement: str) -> EffectFault:
    if isinstance(error, EffectFault):
        return error
    if isinstance(error.__cause__, EffectFault):
        return error.__cause__
    return EffectFault(
        f"{statement} was not answered before the deadline",
        EnumCoreErrorCode.TIMEOUT,
        error_kind="ETIMEDOUT",
        phase=EnumFaultPhase.AMBIGUOUS,
    )


def _outcome_unknown(fault: EffectFault) -> EffectFault:
    return EffectFault(
        f"the answer to COMMIT was lost, it may or may not have happened: {fault.message}",
        EnumCoreErrorCode.OUTCOME_UNKNOWN,
        error_kind=fault.error_kind,
        phase=EnumFaultPhase.AMBIGUOUS,
    )


def _state(transaction: ProtocolDbTransaction) -> EnumTransactionState:
    """The state now: it changes behind the type checker's back."""
    return transaction.state


def _is_inner(transaction: ProtocolDbTransaction) -> bool:
    """Inside an ambient transaction only its owner can repeat the whole."""
    return bool(getattr(transaction, "is_inner", False))
