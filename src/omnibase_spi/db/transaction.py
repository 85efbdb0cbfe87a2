"""An open transaction and the savepoints inside it.

The state is a fact. From ACTIVE it goes

    to            when
    COMMITTED     the database said so
    ROLLED_BACK   the database said so: to ROLLBACK, or to a COMMIT that it refused
    FAILED        the connection was lost before COMMIT was sent, or ROLLBACK could not be carried out
    UNKNOWN       COMMIT was sent and its answer was lost

and never away from there. A savepoint's COMMITTED says that it was released; whether its work lasts, the outer one
decides.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.grammar.sql_placeholders import leading_keyword
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.driver import GRACE_SECONDS, DbConnection, Document

_ACTIVE = EnumTransactionState.ACTIVE
_COMMITTED = EnumTransactionState.COMMITTED
_ROLLED_BACK = EnumTransactionState.ROLLED_BACK
_FAILED = EnumTransactionState.FAILED
_UNKNOWN = EnumTransactionState.UNKNOWN

_COMMIT_BY_THEMSELVES = frozenset(
    {"alter", "analyze", "cache", "check", "create", "drop", "flush", "grant", "install", "lock", "optimize", "rename"}
    | {"repair", "reset", "revoke", "truncate", "uninstall", "unlock"}
)
"""Statements with which MySQL commits what was open before."""


class Transaction:
    """The outermost transaction on a connection (`ProtocolDbTransaction`)."""

    is_inner = False
    """Whether somebody else's transaction is around this one: only its owner can repeat the whole."""

    def __init__(
        self, connection: DbConnection, label: str, *, read_only: bool, isolation_level: EnumIsolationLevel
    ) -> None:
        self.state = _ACTIVE
        self.isolation_level = isolation_level
        self.read_only = read_only
        self.connection = connection
        self.label = label
        self.busy = False
        self.doomed = False
        self.retire = False
        """A statement changed the session: the connection is not lent to others afterwards."""
        self.names = itertools.count(1)
        self.innermost: Transaction = self

    @property
    def root(self) -> "Transaction":
        return self

    async def execute(self, context: ModelResolvedDbContext) -> Document:
        """Run a statement inside. Raises EffectFault; one that cost the whole transaction makes what follows fail
        too.
        """
        self._check_joinable(context.operation)
        root = self.root
        connection = root.connection
        root.busy = True
        try:
            document = await connection.execute(context)
        finally:
            root.busy = False
        if not connection.in_transaction and connection.usable:
            commits = leading_keyword(context.query) in _COMMIT_BY_THEMSELVES
            self.end_all(_COMMITTED if commits else _UNKNOWN)
            raise _refusal(
                f"{context.operation} on {self.label}: the statement ended the transaction"
                f"{', committing it' if commits else ''}. "
                "Keep such statements out of transactions on this database.",
                EnumFaultPhase.DONE,
            )
        return document

    async def commit(self) -> None:
        self._check_innermost("COMMIT")
        connection = self.connection
        if self.doomed or not connection.in_transaction:
            await self._end_lost("COMMIT")
        self.busy = True
        try:
            committed = await connection.commit()
        except EffectFault as fault:
            not_sent = fault.phase is EnumFaultPhase.NOT_SENT
            refused = fault.phase is EnumFaultPhase.REJECTED
            self.end_all(_FAILED if not_sent else _ROLLED_BACK if refused else _UNKNOWN)
            raise
        except BaseException:
            known = {True: _COMMITTED, False: _ROLLED_BACK, None: _UNKNOWN}
            self.end_all(known[connection.committed])
            raise
        finally:
            self.busy = False
        if not committed:
            self.end_all(_ROLLED_BACK)
            raise _refusal(
                f"COMMIT on {self.label}: the database rolled back, because a statement in the transaction had failed. "
                "Use a savepoint around a statement that may fail."
            )
        self.end_all(_COMMITTED)

    async def rollback(self) -> None:
        self._check_active("ROLLBACK")
        self.busy = True
        try:
            await self.connection.command("ROLLBACK")
        except BaseException:
            self.end_all(_FAILED)
            self.connection.close_now()
            raise
        finally:
            self.busy = False
        self.end_all(_ROLLED_BACK)

    async def _end_lost(self, action: str) -> None:
        """The database gave the transaction up (deadlock, full disk), or the connection is gone: a rollback tells
        which.
        """
        try:
            await self.rollback()
        except EffectFault as fault:
            # lost before COMMIT was sent
            raise EffectFault(
                f"{action} on {self.label} was not sent: the connection was lost before. {fault.message}",
                error_kind="ECONNRESET",
                phase=EnumFaultPhase.NOT_SENT,
            ) from None
        raise _refusal(
            f"{action} on {self.label}: rolled back, as the transaction had been given up after a statement failed."
        )

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        inner = await self.nested()
        inner.lent_to_outer = True
        async with inner.block():
            yield

    async def nested(self) -> "Savepoint":
        """Open a savepoint inside this one."""
        self._check_joinable("SAVEPOINT")
        root = self.root
        name = f"onex_{next(root.names)}"
        await root.command(f"SAVEPOINT {name}")
        inner = Savepoint(self, name)
        root.innermost = inner
        return inner

    @asynccontextmanager
    async def block(self) -> AsyncIterator["Transaction"]:
        """Commit what is still ACTIVE after a normal end, and roll it back after an exception or cancellation.

        What the rollback itself raises is only in the state then: the first exception passes on.
        """
        try:
            yield self
        except BaseException as error:
            if self.state is _ACTIVE:
                try:
                    async with asyncio.timeout(GRACE_SECONDS if isinstance(error, asyncio.CancelledError) else None):
                        await self.rollback()
                except (EffectFault, TimeoutError):
                    self._give_up()
            raise
        if self.state is _ACTIVE:
            try:
                await self.commit()
            except BaseException:
                self._give_up()
                raise

    def _give_up(self) -> None:
        """What could not be ended in order, because a task still uses it, is ended by closing the connection."""
        if self.state is _ACTIVE:
            self.root.end_all(_FAILED)
            self.connection.close_now()

    async def command(self, sql: str) -> None:
        self.busy = True
        try:
            await self.connection.command(sql)
        finally:
            self.busy = False

    def end_all(self, state: EnumTransactionState) -> None:
        """The end of this level is the end of all that is open inside it."""
        root = self.root
        while True:
            level = root.innermost
            if level.state is _ACTIVE:
                level.state = state
            if isinstance(level, Savepoint):
                root.innermost = level.outer
            if level is self or not isinstance(level, Savepoint):
                return

    def _check_active(self, action: str) -> None:
        if self.state is not _ACTIVE:
            raise _refusal(
                f"{action} on {self.label}: the transaction has ended already ({self.state.value}). "
                "A task that was started inside a transaction and goes on after it needs a context of its own."
            )
        if self.root.busy:
            raise _refusal(
                f"{action} on {self.label}: another task uses the transaction at this moment. "
                "A transaction has one connection: await its statements one after another."
            )

    def _check_innermost(self, action: str) -> None:
        self._check_active(action)
        level = self.root.innermost
        while level is not self and isinstance(level, Savepoint) and level.lent_to_outer and action != "COMMIT":
            level = level.outer
        if level is not self:
            raise _refusal(f"{action} on {self.label}: a savepoint inside it is still open. End it first.")

    def _check_joinable(self, action: str) -> None:
        self._check_innermost(action)
        if self.root.doomed or not self.root.connection.in_transaction:
            raise _refusal(
                f"{action} on {self.label}: the transaction cannot go on, because the database gave it up or the "
                "connection was lost. Roll it back and start again."
            )


class Savepoint(Transaction):
    """A transaction inside one (`ProtocolDbTransaction`)."""

    is_inner = True

    def __init__(self, outer: Transaction, name: str) -> None:
        self._root = outer.root
        super().__init__(
            self._root.connection,
            self._root.label,
            read_only=outer.read_only,
            isolation_level=outer.isolation_level,
        )
        self.outer = outer
        self.lent_to_outer = False
        """Made by `savepoint`: statements reach it through the level outside, which is the ambient one."""
        self._name = name

    @property
    def root(self) -> Transaction:
        return self._root

    async def commit(self) -> None:
        self._check_innermost("RELEASE SAVEPOINT")
        try:
            await self._root.command(f"RELEASE SAVEPOINT {self._name}")
        except BaseException:
            self._fail()
            raise
        self.end_all(_COMMITTED)

    async def rollback(self) -> None:
        self._check_active("ROLLBACK TO SAVEPOINT")
        try:
            await self._root.command(f"ROLLBACK TO SAVEPOINT {self._name}")
            await self._root.command(f"RELEASE SAVEPOINT {self._name}")
        except BaseException:
            self._fail()
            raise
        self.end_all(_ROLLED_BACK)

    def _fail(self) -> None:
        """What should have been undone may still be there: the outermost can only be rolled back now."""
        self._root.doomed = True
        self.end_all(_FAILED)


def _refusal(message: str, phase: EnumFaultPhase = EnumFaultPhase.REJECTED) -> EffectFault:
    return EffectFault(message, EnumCoreErrorCode.OPERATION_FAILED, error_kind="TRANSACTION", phase=phase)
