"""The run-time transaction of a code-driven node: what was done, and how to undo it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import cast
from uuid import UUID, uuid4

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.onex_error import TransactionError

Rollback = Callable[[], object]
"""Called without arguments; what it returns is awaited when it is awaitable."""


@dataclass(frozen=True, slots=True)
class DoneOperation:
    """One thing that a transaction did. `data` is for the reader; nothing is done with it."""

    name: str
    data: object
    rollback: Rollback | None


class ModelEffectTransaction:
    """Operations with their rollback functions; a run-time object, not data.

    States: PENDING, ACTIVE, then COMMITTED, ROLLED_BACK (every rollback function ran to its end) or FAILED (at least
    one raised; `rollback_errors` has them all). Always truthy, so that `if transaction:` asks whether there is one.
    """

    def __init__(self, operation_id: UUID | None = None) -> None:
        self.transaction_id = uuid4()
        self.operation_id = operation_id or uuid4()
        self.state = EnumTransactionState.PENDING
        self.operations: list[DoneOperation] = []
        self.rollback_errors: list[Exception] = []

    def __bool__(self) -> bool:
        return True

    def begin(self) -> None:
        """Make it ACTIVE; TransactionError when it is not PENDING."""
        self._expect(EnumTransactionState.PENDING, "begin")
        self.state = EnumTransactionState.ACTIVE

    def add_operation(self, name: str, data: object = None, rollback_fn: Rollback | None = None) -> None:
        """Note what was done and how to undo it; TransactionError when the transaction has ended."""
        if self.state is EnumTransactionState.PENDING:
            self.begin()
        self._expect(EnumTransactionState.ACTIVE, f"add {name!r}")
        self.operations.append(DoneOperation(name, data, rollback_fn))

    async def commit(self) -> None:
        """Keep what was done; the rollback functions are forgotten."""
        if self.state is EnumTransactionState.PENDING:
            self.begin()
        self._expect(EnumTransactionState.ACTIVE, "commit")
        self.state = EnumTransactionState.COMMITTED

    async def rollback(self) -> None:
        """Undo everything in reverse order. All rollback functions are called, whatever one of them does.

        A cancellation that arrives meanwhile is passed on when all have run. A second call changes nothing.
        """
        if self.state in {EnumTransactionState.ROLLED_BACK, EnumTransactionState.FAILED}:
            return
        if self.state is EnumTransactionState.COMMITTED:
            self._expect(EnumTransactionState.ACTIVE, "roll back")
        cancelled: asyncio.CancelledError | None = None
        for done in reversed(self.operations):
            if done.rollback is None:
                continue
            try:
                result = done.rollback()
                if inspect.isawaitable(result):
                    await cast("Awaitable[object]", result)  # isawaitable above
            except asyncio.CancelledError as error:
                cancelled = error
                self.rollback_errors.append(TransactionError(f"rollback of {done.name!r} was cancelled"))
            except Exception as error:  # noqa: BLE001  # the others must be called all the same
                self.rollback_errors.append(error)
        self.state = EnumTransactionState.FAILED if self.rollback_errors else EnumTransactionState.ROLLED_BACK
        if cancelled is not None:
            raise cancelled

    def _expect(self, state: EnumTransactionState, action: str) -> None:
        if self.state is not state:
            raise TransactionError(
                f"transaction {self.transaction_id}: cannot {action}, it is {self.state.value}; "
                f"allowed while {state.value}",
                EnumCoreErrorCode.CONFLICT,
            )


class TransactionContext(AbstractAsyncContextManager[ModelEffectTransaction]):
    """`async with`: commits after a normal exit, rolls back after an exception, which passes. Awaited: a begun
    transaction.

    An error that passes has the number of failed rollbacks in its notes.
    """

    def __init__(self, operation_id: UUID | None = None) -> None:
        self._transaction = ModelEffectTransaction(operation_id)

    def __await__(self) -> Generator[object, object, ModelEffectTransaction]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> ModelEffectTransaction:
        self._transaction.begin()
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction = self._transaction
        if transaction.state is not EnumTransactionState.ACTIVE:
            return
        if error is None:
            await transaction.commit()
            return
        await transaction.rollback()
        if transaction.rollback_errors:
            error.add_note(
                f"{len(transaction.rollback_errors)} rollback functions failed: {transaction.rollback_errors!r}"
            )
