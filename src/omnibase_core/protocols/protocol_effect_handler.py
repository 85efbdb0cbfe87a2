"""The seam between the executor and the adapters that touch the world."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext


@dataclass(slots=True)  # not frozen: that would double what making one costs, and every operation makes one
class EffectResponse:
    """What a handler says when it has more to say than a document.

    document: the JSON-like result; what extraction reads and `${output.<operation>.result}` gives.
    status_code: judged against the contract's `success_codes`; None means that the handler's return is the success.
    headers: lower-case names; `retry-after` is honoured when the status is a failure.
    """

    document: JsonValue
    status_code: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class ProtocolEffectHandler(Protocol):
    """Carries out one resolved operation, once.

    A handler never sees a template, never retries, sets no total timeout (the executor cancels it at the attempt's
    limit), raises `EffectFault` for every failure that it understands, and passes cancellation on after it has put
    its resources in order.
    """

    async def execute(
        self, resolved_context: ResolvedIOContext, correlation_id: UUID
    ) -> Mapping[str, JsonValue] | EffectResponse:
        """Carry the operation out and return its document; always called with these two keywords."""
        ...


class ProtocolDbTransaction(Protocol):
    """An open transaction, or a savepoint inside an ambient one; statements of the same task and connection join it."""

    @property
    def state(self) -> EnumTransactionState:
        """ACTIVE, then COMMITTED, ROLLED_BACK, UNKNOWN (the answer to COMMIT was lost) or FAILED (lost before
        COMMIT).
        """
        ...

    async def commit(self) -> None:
        """Issue COMMIT (RELEASE for an inner one).

        Raises EffectFault: with the state ROLLED_BACK when the database refused (serialisation failure, deferred
        constraint) and rolled back, UNKNOWN when the answer was lost.
        """
        ...

    async def rollback(self) -> None:
        """Issue ROLLBACK (ROLLBACK TO for an inner one). Raises EffectFault, state FAILED, when it could not be
        carried out.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """SAVEPOINT; RELEASE on a normal exit, ROLLBACK TO on an exception, which passes on."""
        ...


@runtime_checkable
class ProtocolTransactionalHandler(Protocol):
    """A handler that can open transactions on a named connection."""

    def transaction(
        self,
        connection_name: str,
        *,
        isolation_level: EnumIsolationLevel | None = None,
        read_only: bool = False,
    ) -> AbstractAsyncContextManager[ProtocolDbTransaction]:
        """Open a transaction (a savepoint inside an ambient one on the same connection) and make it ambient.

        BEGIN is issued with the isolation level on entry; a weaker one than asked for is refused with
        CONFIGURATION_ERROR, a stronger one satisfies. On exit a transaction that is still ACTIVE is committed after a
        normal exit and rolled back after an exception or cancellation; the connection then goes back to the pool, or
        is closed when its state is in doubt.
        """
        ...


@runtime_checkable
class ProtocolNamedConnections(Protocol):
    """A handler that knows its connections by name, so that a wrong name is found before anything has been done."""

    def check_connection(self, connection_name: str) -> None:
        """Raise ModelOnexError, RESOURCE_UNAVAILABLE listing the names that there are, for one that is unknown."""
        ...
