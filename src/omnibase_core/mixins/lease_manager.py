"""Leases as a program holds them: taken, renewed in the background, given up in time.

A holder knows less than the store. It counts its time from before the request that gave or renewed the lease, because
the store may have counted from then, and by the clock of the event loop, which never goes back. Two thirds of that time
without a renewal, and it issues nothing more; all of it, and the lease is lost, whatever the store may say later.
"""

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumActionTarget, EnumActionType
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import LeaseExpiredError, LeaseValidationError, ModelOnexError
from omnibase_core.models.model_action import TOKEN_KEY, ModelAction, identifier
from omnibase_core.models.primitives.identifiers import new_id
from omnibase_core.protocols.protocol_lease import EndedAction, LeaseRecord, ProtocolLeaseStore, WorkflowLease
from omnibase_core.utils.lease_rules import as_ms, lease_of

DEFAULT_TTL_MS: Final = 15_000
_LONGEST_HOLDER: Final = 300
_REMEMBERED: Final = 1024
"""So many leases are remembered before those that have run out are dropped."""


@dataclass(slots=True)
class _Mine:
    """A lease of this manager. since: the manager's clock, in seconds, before the request that counts."""

    lease: WorkflowLease
    ttl_ms: int
    since: float


class LeaseManager:
    """`ProtocolLeaseManager`: acquires, renews, verifies and releases leases of one holder.

    holder: who this is, for people and for the store; the default names machine, process and manager. ttl_ms: how long
    a lease lasts when nothing else is said. clock: seconds that never go back, by default those of the running loop.

    Two managers are two holders, also in one process. One manager may be used by many tasks, but a lease that two of
    them use is one lease: take one for each.
    """

    def __init__(
        self,
        store: ProtocolLeaseStore,
        *,
        holder: str | None = None,
        ttl_ms: int = DEFAULT_TTL_MS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if holder is not None and not 1 <= len(holder) <= _LONGEST_HOLDER:
            raise ModelOnexError(
                f"lease manager: the holder is {holder[:310]!r}; 1..{_LONGEST_HOLDER} characters, please",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        self.store = store
        self.ttl_ms = ttl_ms
        self._given_holder = holder
        self._suffix = new_id().hex[:8]
        self._clock = clock
        self._mine: dict[str, _Mine] = {}

    @property
    def holder(self) -> str:
        """Another one in a forked child."""
        return self._given_holder or f"{platform.node()}/{os.getpid()}/{self._suffix}"

    def now(self) -> float:
        """Seconds of the clock by which this holder measures what is left."""
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    async def acquire_lease(
        self, resource_id: UUID | str, lease_id: UUID | str | None = None, expires_at: datetime | None = None
    ) -> WorkflowLease:
        """Take the lease of a resource; under the id of a lease that this manager has, renew it.

        lease_id: a new one by default. expires_at: with time zone, 10 ms to a week from now; it is turned into a length
        of time by the clock of this machine, and counted by that of the store. The default is `ttl_ms` from now.

        Raises LeaseConflictError, which names the holder and the time left. The lease is not renewed by itself: `hold`
        does that.
        """
        return await self._acquire(resource_id, lease_id, self._length(resource_id, expires_at))

    async def _acquire(self, resource_id: UUID | str, lease_id: UUID | str | None, ttl_ms: int) -> WorkflowLease:
        chosen = new_id() if lease_id is None else lease_id
        since = self.now()
        record = await self.store.acquire(identifier(resource_id), identifier(chosen), self.holder, ttl_ms)
        return self._remember(record, resource_id, chosen, ttl_ms, since)

    async def renew_lease(self, lease: WorkflowLease, *, ttl_ms: int | None = None) -> WorkflowLease:
        """Let a lease end `ttl_ms` from now. Raises LeaseExpiredError when it has ended already."""
        length = self.ttl_ms if ttl_ms is None else ttl_ms
        since = self.now()
        record = await self.store.renew(identifier(lease.workflow_id), identifier(lease.lease_id), lease.token, length)
        return self._remember(record, lease.workflow_id, lease.lease_id, length, since)

    async def verify_lease(self, resource_id: UUID | str, lease_id: UUID | str) -> WorkflowLease:
        """The lease as the store has it at this moment; what it says may be wrong in the next.

        Raises LeaseValidationError for a lease that was never given for this resource, LeaseExpiredError for one that
        has ended. Whether a write is allowed is decided by the statement that writes.
        """
        token = self.token_of(resource_id, lease_id)
        record = await self.store.verify(identifier(resource_id), identifier(lease_id), token)
        return lease_of(record, resource_id, lease_id)

    async def release_lease(self, resource_id: UUID | str, lease_id: UUID | str) -> bool:
        """Free a lease of this manager; False when it has none of that id, or the lease had ended."""
        resource = identifier(resource_id)
        token = self.token_of(resource_id, lease_id)
        if token is None:
            return False
        freed = await self.store.release(resource, identifier(lease_id), token)
        mine = self._mine.get(resource)
        if mine is not None and mine.lease.token == token:
            del self._mine[resource]
        return freed

    def hold(
        self,
        resource_id: UUID | str,
        *,
        lease_id: UUID | str | None = None,
        ttl_ms: int | None = None,
        on_lapse: Literal["stop", "reacquire"] = "stop",
        release: bool = True,
    ) -> "HeldLease":
        """A lease for the length of an `async with`, renewed in the background and released at its end.

        on_lapse: what happens when it was lost all the same. `stop`: the block is cancelled and ends with
        LeaseExpiredError. `reacquire`: a new lease is taken, with a greater token, and the block goes on; when somebody
        else has it by then, it is `stop`. release: at the end; False leaves the lease to who had it before. ttl_ms: by
        default that of the lease, when this manager has it already, else its own.
        """
        if ttl_ms is None:
            mine = None if lease_id is None else self._of(resource_id, lease_id)
            ttl_ms = self.ttl_ms if mine is None else mine.ttl_ms
        return HeldLease(self, resource_id, lease_id, ttl_ms, on_lapse=on_lapse, release=release)

    def watch(self, resource_id: UUID | str, lease_id: UUID | str) -> "HeldLease":
        """A lease that another manager has and renews, for the length of an `async with`.

        It is verified in the background; when it does not hold any more, it is as with `hold`. Raises like
        `verify_lease`.
        """
        return _WatchedLease(self, resource_id, lease_id)

    def issue(
        self,
        lease: WorkflowLease,
        action_type: EnumActionType,
        target_node: EnumActionTarget,
        command_payload: dict[str, JsonValue] | None = None,
        *,
        epoch: int | None = None,
        expires_at: datetime | None = None,
        correlation_id: UUID | None = None,
        parent_action_id: UUID | None = None,
    ) -> ModelAction:
        """An action under a lease of this manager, which carries its token.

        epoch: by default the last one that this manager saw, when it took or renewed the lease or changed the state.

        Raises LeaseExpiredError when the lease was not renewed for two thirds of its length.
        """
        self.require_time(lease.workflow_id, lease.lease_id)
        return ModelAction(
            action_type=action_type,
            lease_id=lease.lease_id,
            epoch=self.current(lease).epoch if epoch is None else epoch,
            target_node=target_node,
            command_payload={} if command_payload is None else command_payload,
            correlation_id=new_id() if correlation_id is None else correlation_id,
            workflow_id=lease.workflow_id,
            expires_at=expires_at,
            parent_action_id=parent_action_id,
            metadata={TOKEN_KEY: lease.token},
        )

    async def report(self, lease: WorkflowLease, ended: Sequence[EndedAction]) -> int:
        """Write down actions that were carried out under a lease; returns the epoch. See `ProtocolLeaseStore`."""
        epoch = await self.store.report(identifier(lease.workflow_id), identifier(lease.lease_id), lease.token, ended)
        for each in ended[-1:]:
            self.note_epoch(each.action, epoch)
        return epoch

    def require_time(self, resource_id: UUID | str, lease_id: UUID | str) -> None:
        """Raises LeaseExpiredError once nothing may be issued under a lease of this manager; others are not judged."""
        mine = self._of(resource_id, lease_id)
        if mine is None:
            return
        passed_ms = (self.now() - mine.since) * 1000
        if passed_ms * 3 >= mine.ttl_ms * 2:
            raise LeaseExpiredError(
                f"lease {lease_id} of {identifier(resource_id)!r}: not renewed for {passed_ms:.0f} ms of its "
                f"{mine.ttl_ms} ms; two thirds are the limit for issuing actions. Renew it, or acquire a new one.",
                context={"resource": identifier(resource_id), "lease_id": str(lease_id), "passed_ms": passed_ms},
            )

    def current(self, lease: WorkflowLease) -> WorkflowLease:
        """The lease as this manager knows it now: renewed, with the epoch of its last change."""
        mine = self._of(lease.workflow_id, lease.lease_id)
        return lease if mine is None or mine.lease.token != lease.token else mine.lease

    def note_epoch(self, action: ModelAction, epoch: int) -> None:
        """An action of this manager made an epoch."""
        mine = self._of(action.resource, action.lease_id)
        if mine is not None and epoch > mine.lease.epoch:
            mine.lease = replace(mine.lease, epoch=epoch)

    def remaining_ms(self, lease: WorkflowLease) -> float:
        """What is left of a lease of this manager by its own clock, 0 for one that it does not have."""
        mine = self._of(lease.workflow_id, lease.lease_id)
        return 0.0 if mine is None else max(0.0, mine.ttl_ms - (self.now() - mine.since) * 1000)

    def token_of(self, resource_id: UUID | str, lease_id: UUID | str) -> int | None:
        """The token of a lease that this manager was given, None for one of others."""
        mine = self._of(resource_id, lease_id)
        return None if mine is None else mine.lease.token

    def _of(self, resource_id: UUID | str, lease_id: UUID | str) -> _Mine | None:
        mine = self._mine.get(identifier(resource_id))
        return mine if mine is not None and identifier(mine.lease.lease_id) == identifier(lease_id) else None

    def _remember(
        self, record: LeaseRecord, resource_id: UUID | str, lease_id: UUID | str, ttl_ms: int, since: float
    ) -> WorkflowLease:
        if len(self._mine) >= _REMEMBERED:
            now = self.now()
            self._mine = {key: each for key, each in self._mine.items() if now < each.since + each.ttl_ms / 1000}
        lease = lease_of(record, resource_id, lease_id)
        self._mine[record.resource] = _Mine(lease, ttl_ms, since)
        return lease

    def _length(self, resource_id: UUID | str, expires_at: datetime | None) -> int:
        if expires_at is None:
            return self.ttl_ms
        if expires_at.tzinfo is None:
            raise ModelOnexError(
                f"lease of {identifier(resource_id)!r}: expires_at {expires_at.isoformat()} has no time zone; "
                "use datetime.now(UTC) + timedelta(...)",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        return as_ms(expires_at) - as_ms(datetime.now(UTC))


class HeldLease:
    """A lease that is renewed as long as its `async with` lasts; made by `LeaseManager.hold` and `watch`.

    Inside, `lease` is the current one. Nothing of it outlives the block.
    """

    def __init__(
        self,
        manager: LeaseManager,
        resource_id: UUID | str,
        lease_id: UUID | str | None,
        ttl_ms: int,
        *,
        on_lapse: Literal["stop", "reacquire"],
        release: bool = True,
    ) -> None:
        self._manager = manager
        self._resource_id = resource_id
        self._lease_id = lease_id
        self._ttl_ms = ttl_ms
        self._on_lapse = on_lapse
        self._releases = release
        self._lease: WorkflowLease | None = None
        self._renewer: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._stopped = False
        self._lost: LeaseExpiredError | None = None
        self._issues_until = 0.0
        self._changed = asyncio.Event()
        self._asks = on_lapse == "stop" and getattr(manager.store, "ends_with_holder", False)

    @property
    def lease(self) -> WorkflowLease:
        """The lease as it is now. Raises LeaseExpiredError once it is lost."""
        if self._lost is not None:
            raise self._lost
        if self._lease is None:
            raise LeaseExpiredError(f"lease of {identifier(self._resource_id)!r}: not acquired; enter the block first")
        return self._manager.current(self._lease)

    def issue(
        self,
        action_type: EnumActionType,
        target_node: EnumActionTarget,
        command_payload: dict[str, JsonValue] | None = None,
        *,
        epoch: int | None = None,
    ) -> ModelAction:
        """An action under the lease; like `LeaseManager.issue`."""
        return self._manager.issue(self.lease, action_type, target_node, command_payload, epoch=epoch)

    async def may_issue(self) -> None:
        """Return once something may be sent out under the lease: at once, or, after two thirds of its time without a
        renewal, when it is renewed. A store in memory is asked each time: its leases are long, and asking costs little.

        Raises LeaseExpiredError when it is lost, or the block has ended.
        """
        while True:
            if self._lost is not None:
                raise self._lost
            if self._lease is None or self._renewer is None:
                resource = identifier(self._resource_id)
                raise LeaseExpiredError(f"lease of {resource!r}: its block is not entered, or left")
            if self._asks:
                try:
                    await self._verify(self._lease)
                except (LeaseExpiredError, LeaseValidationError) as error:
                    self._lose(error)
                    continue
            if self._manager.now() < self._issues_until:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _verify(self, lease: WorkflowLease) -> LeaseRecord:
        resource, lease_id = identifier(lease.workflow_id), identifier(lease.lease_id)
        return await self._manager.store.verify(resource, lease_id, lease.token)

    async def _take(self) -> WorkflowLease:
        return await self._manager._acquire(self._resource_id, self._lease_id, self._ttl_ms)  # noqa: SLF001  # its other half

    async def _prolong(self, lease: WorkflowLease) -> WorkflowLease:
        return await self._manager.renew_lease(lease, ttl_ms=self._ttl_ms)

    def _left_ms(self, lease: WorkflowLease) -> float:
        return self._manager.remaining_ms(lease)

    def _keep(self, lease: WorkflowLease) -> None:
        self._lease = lease
        self._issues_until = self._manager.now() + self._left_ms(lease) / 1000 - self._ttl_ms / 3000
        self._changed.set()

    async def __aenter__(self) -> Self:
        self._keep(await self._take())
        self._owner = asyncio.current_task()
        if self._owner is not None:
            self._cancelling = self._owner.cancelling()
        self._renewer = asyncio.get_running_loop().create_task(self._renew())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hurried = await self._stop_renewing()
        lost = self._lost
        if lost is None:
            if self._releases:
                await self._release()
            if hurried is not None:
                raise hurried
            return
        left = self._owner.uncancel() if self._stopped and self._owner is not None else self._cancelling
        if hurried is not None:
            raise hurried
        if exc_type is None or (exc_type is asyncio.CancelledError and self._stopped and left <= self._cancelling):
            raise lost from None

    async def _stop_renewing(self) -> asyncio.CancelledError | None:
        """The renewer does not outlive this, also when its owner is in a hurry; that it was is said afterwards."""
        renewer, self._renewer = self._renewer, None
        self._changed.set()
        hurried = None
        if renewer is not None:
            renewer.cancel()
            try:
                await asyncio.wait({renewer})
            except asyncio.CancelledError as cancelled:
                hurried = cancelled
                await asyncio.wait({renewer})
            if not renewer.cancelled():
                renewer.result()  # a defect of the store, which nobody would hear of else
        return hurried

    async def _release(self) -> None:
        """A lease that cannot be released runs out by itself."""
        lease = self.lease
        try:
            async with asyncio.timeout(self._left_ms(lease) / 1000):
                await self._manager.release_lease(lease.workflow_id, lease.lease_id)
        except (ModelOnexError, TimeoutError):
            return

    async def _renew(self) -> None:
        wait_s = self._until_renewal_s(self.lease)
        while True:
            await asyncio.sleep(max(0.0, wait_s))
            lease = self.lease
            third_s = self._ttl_ms / 3000
            try:
                async with asyncio.timeout(min(third_s, self._left_ms(lease) / 1000)):
                    self._keep(await self._prolong(lease))
                wait_s = self._until_renewal_s(lease)
            except (LeaseExpiredError, LeaseValidationError) as error:
                if not await self._come_back(error):
                    return
                wait_s = third_s
            except (ModelOnexError, TimeoutError) as error:  # the store is away: ask again, soon
                if self._left_ms(lease) > 0:
                    wait_s = third_s / 4
                elif await self._come_back(error):
                    wait_s = third_s
                else:
                    return

    def _until_renewal_s(self, lease: WorkflowLease) -> float:
        return (self._left_ms(lease) - self._ttl_ms * 2 / 3) / 1000

    async def _come_back(self, error: Exception) -> bool:
        """A new lease, or the end of the block."""
        if self._on_lapse == "reacquire":
            try:
                async with asyncio.timeout(self._ttl_ms / 1000):
                    self._keep(await self._manager._acquire(self._resource_id, None, self._ttl_ms))  # noqa: SLF001  # as above
            except (ModelOnexError, TimeoutError) as refused:
                error = refused
            else:
                return True
        self._lose(error)
        return False

    def _lose(self, error: Exception) -> None:
        resource = identifier(self._resource_id)
        why = str(error) or "It could not be renewed in time."
        self._lost = LeaseExpiredError(
            f"lease of {resource!r}: lost by {self._manager.holder}. {why}",
            context={"resource": resource, "holder": self._manager.holder},
        )
        self._changed.set()
        if self._owner is not None and self._renewer is not None:
            self._stopped = True
            self._owner.cancel()
            if self._renewer is not asyncio.current_task():
                self._renewer.cancel()


class _WatchedLease(HeldLease):
    """A lease of another manager: verified over and over instead of renewed, and never released. Its length is what
    was left of it when it was verified last.
    """

    def __init__(self, manager: LeaseManager, resource_id: UUID | str, lease_id: UUID | str) -> None:
        super().__init__(manager, resource_id, lease_id, 0, on_lapse="stop", release=False)
        self._given_id = lease_id
        self._since = 0.0

    async def _take(self) -> WorkflowLease:
        resource = identifier(self._resource_id)
        return await self._seen(self._manager.store.verify(resource, identifier(self._given_id)))

    async def _prolong(self, lease: WorkflowLease) -> WorkflowLease:
        return await self._seen(self._verify(lease))

    async def _seen(self, verifying: Awaitable[LeaseRecord]) -> WorkflowLease:
        since = self._manager.now()
        record = await verifying
        self._ttl_ms, self._since = record.remaining_ms, since
        return lease_of(record, self._resource_id, self._given_id)

    def _left_ms(self, lease: WorkflowLease) -> float:  # noqa: ARG002  # of its base; there is one only
        return max(0.0, self._ttl_ms - (self._manager.now() - self._since) * 1000)
