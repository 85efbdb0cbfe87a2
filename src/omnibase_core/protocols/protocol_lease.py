"""Leases, fencing tokens, epochs and the action log: how a workflow has a single writer (section 5.3).

A lease is had for a time, which only the clock of the store measures. Its token grows with every grant and is never
reset, so a greater token is always the later holder. Whoever writes shows lease, token and epoch in the statement that
writes: a holder that slept past its lease is refused there, however sure it was before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumLeaseEvent
from omnibase_core.models.model_action import ModelAction
from omnibase_core.protocols.protocol_state import StoredState


@dataclass(frozen=True, slots=True)
class WorkflowLease:
    """A lease as it was given to its holder.

    expires_at: by the clock of the store, for people; a holder measures what is left of it by its own monotonic clock.
    epoch: of the stored state, from which the holder goes on. token: the fencing number.
    """

    lease_id: UUID | str
    workflow_id: UUID | str
    expires_at: datetime
    epoch: int
    token: int


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a store knows of a resource.

    expires_ms, now_ms: milliseconds since 1970, both by the clock of the store; expires_ms is 0 after a release.
    token: the last one that was given. epoch: of the state. renewals: of this grant.
    """

    resource: str
    lease_id: str
    holder: str
    token: int
    expires_ms: int
    now_ms: int
    epoch: int
    renewals: int = 0

    @property
    def remaining_ms(self) -> int:
        """What was left at `now_ms`; 0 for a lease that is free."""
        return max(0, self.expires_ms - self.now_ms)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of the audit, which is never changed.

    number: grows in the order in which the store wrote, per resource. holder: who had the lease; of FORCED, who forced.
    token, epoch: under which it happened; epoch is the new one of COMMITTED. detail: the error of REFUSED and FAILED,
    the result of COMPLETED.
    """

    number: int
    resource: str
    event: EnumLeaseEvent
    at: datetime
    holder: str
    lease_id: str
    token: int
    epoch: int
    action: ModelAction | None = None
    detail: JsonValue = None


@dataclass(frozen=True, slots=True)
class EndedAction:
    """An action that has been carried out. event: COMPLETED or FAILED. detail: its error, or nothing."""

    action: ModelAction
    event: EnumLeaseEvent
    detail: JsonValue = None


@runtime_checkable
class ProtocolLeaseStore(Protocol):
    """Keeps leases, epochs, states and the audit. Each method is one atomic step of the store, and is fenced there."""

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        """Take a free lease under the next token, or renew the one that this holder has under this id.

        Raises LeaseConflictError, which names the holder and the time left.
        """
        ...

    async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
        """Let a lease that is still valid end `ttl_ms` from now. Raises LeaseExpiredError or LeaseValidationError."""
        ...

    async def release(self, resource: str, lease_id: str, token: int) -> bool:
        """Free one's own lease; False, and nothing happens, when it was not one's own any more."""
        ...

    async def force_release(self, resource: str, by: str) -> LeaseRecord:
        """Free a lease whoever has it; returns whose it was. NOT_FOUND when nobody ever had one."""
        ...

    async def lease(self, resource: str) -> LeaseRecord | None:
        """What is known of a resource, None when nobody ever had its lease."""
        ...

    async def leases(self, limit: int = 1000) -> Sequence[LeaseRecord]:
        """All resources by name, those with a free lease among them."""
        ...

    async def verify(self, resource: str, lease_id: str, token: int | None = None) -> LeaseRecord:
        """The lease as it stands. Raises LeaseExpiredError or LeaseValidationError (never one of this resource)."""
        ...

    async def check(self, action: ModelAction, token: int | None = None) -> LeaseRecord:
        """Judge an action as `commit` would now, and write nothing. It promises nothing about a later moment."""
        ...

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        """Store a state if lease, token, epoch and `expires_at` hold, all in the statement that writes.

        Returns the new epoch, which is the action's and one. token: None takes the one that the action carries; an
        action without one is judged by its lease alone. An action that was committed already gives its epoch again.

        Raises LeaseValidationError (never a lease of this workflow), LeaseExpiredError, ActionExpiredError,
        EpochMismatchError, StateUpdateConflictError (committed already with another state), and
        ConcurrentModificationError (the database gave up between writers; nothing was written). The refusal is in the
        audit.
        """
        ...

    async def begin(self, action: ModelAction, token: int | None = None) -> AuditEntry | None:
        """Write down, fenced like `commit`, that an action is sent out now. Raises like `commit`.

        None: it is yours to carry out. An entry: it was begun before, and this is the last that is known of it:
        STARTED, COMPLETED or FAILED.
        """
        ...

    async def finish(self, action: ModelAction, event: EnumLeaseEvent, detail: JsonValue = None) -> None:
        """Write down how an action ended that was begun: COMPLETED or FAILED. Not fenced, because it did happen."""
        ...

    async def report(self, resource: str, lease_id: str, token: int, ended: Sequence[EndedAction]) -> int:
        """Write down, all at once, actions that were carried out under a lease, and how each ended.

        Each makes an epoch; the state stays, and is found at the last of them. For those who keep what happens in a
        journal of their own meanwhile. Returns the epoch afterwards.

        Raises LeaseExpiredError, by the statement that writes, when the lease has ended. The entries are written all
        the same, because it did happen, each at the epoch of its action; no epoch is made. Raises LeaseValidationError,
        and writes nothing, for a lease that was never given.
        """
        ...

    async def state(self, resource: str, epoch: int | None = None) -> StoredState:
        """The state and its epoch as version; by default the current one, version 0 when there is none.

        NOT_FOUND for an epoch that was never reached, or whose state was forgotten.
        """
        ...

    async def audit(self, resource: str, limit: int = 1000) -> Sequence[AuditEntry]:
        """The newest entries of a resource, oldest of them first."""
        ...

    async def forget_states(self, resource: str, before_epoch: int) -> int:
        """Let go of older states, which cannot be rolled back to any more; their entries stay. Returns how many."""
        ...


@runtime_checkable
class ProtocolLeaseManager(Protocol):
    """Leases as programs ask for them."""

    async def acquire_lease(
        self, resource_id: UUID | str, lease_id: UUID | str | None = None, expires_at: datetime | None = None
    ) -> WorkflowLease:
        """Take a lease, or renew one's own. Raises LeaseConflictError."""
        ...

    async def verify_lease(self, resource_id: UUID | str, lease_id: UUID | str) -> WorkflowLease:
        """The lease as it stands. Raises LeaseValidationError or LeaseExpiredError."""
        ...

    async def release_lease(self, resource_id: UUID | str, lease_id: UUID | str) -> bool:
        """Free one's own lease; False when it was not one's own any more."""
        ...
