"""Leases, epochs and the action log in memory: the container's default, gone with the process."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumLeaseEvent
from omnibase_core.errors.onex_error import LeaseExpiredError, ModelOnexError
from omnibase_core.models.model_action import ModelAction, identifier
from omnibase_core.protocols.protocol_lease import AuditEntry, EndedAction, LeaseRecord
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_core.utils.lease_rules import (
    as_moment,
    committed_otherwise,
    conflict,
    no_lease,
    no_state,
    not_begun,
    not_held,
    refusal,
    refusal_document,
    require_ids,
    state_text,
)


def monotonic_ms() -> Callable[[], int]:
    """One clock that never goes back, set to the wall clock when it is made."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1_000_000


class MemoryLeaseStore:
    """`ProtocolLeaseStore` over dicts. No method suspends, so each is atomic within its event loop.

    now_ms: the clock of the store, milliseconds since 1970. The audit is kept for ever. ends_with_holder: who holds a
    lease here is gone when the store is.
    """

    ends_with_holder: ClassVar[bool] = True

    def __init__(self, now_ms: Callable[[], int] | None = None) -> None:
        self._now_ms = now_ms or monotonic_ms()
        self._records: dict[str, LeaseRecord] = {}
        self._states: dict[str, dict[int, str]] = {}
        self._audit: dict[str, list[AuditEntry]] = {}
        self._granted: dict[tuple[str, str], str] = {}
        """Who was given a lease of this resource and id."""
        self._committed: dict[tuple[str, int], UUID] = {}
        """Which action made this epoch of the resource."""
        self._begun: dict[UUID, AuditEntry] = {}
        """The last that is known of each action that was sent out."""

    def _standing(self, resource: str) -> LeaseRecord | None:
        record = self._records.get(resource)
        return None if record is None else replace(record, now_ms=self._now_ms())

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        require_ids(resource, lease_id, ttl_ms)
        now = self._now_ms()
        standing = self._records.get(resource)
        if standing is not None and standing.expires_ms > now:
            if (standing.lease_id, standing.holder) != (lease_id, holder):
                raise conflict(resource, replace(standing, now_ms=now))
            return self._prolong(standing, now + ttl_ms)
        token, epoch = (0, 0) if standing is None else (standing.token, standing.epoch)
        record = LeaseRecord(resource, lease_id, holder, token + 1, now + ttl_ms, now, epoch)
        self._records[resource] = record
        self._granted[resource, lease_id] = holder
        self._write(EnumLeaseEvent.ACQUIRED, record)
        return record

    def _prolong(self, standing: LeaseRecord, expires_ms: int) -> LeaseRecord:
        record = replace(standing, expires_ms=expires_ms, renewals=standing.renewals + 1, now_ms=self._now_ms())
        self._records[standing.resource] = record
        return record

    async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
        require_ids(resource, lease_id, ttl_ms)
        standing = self._verified(resource, lease_id, token)
        return self._prolong(standing, standing.now_ms + ttl_ms)

    async def verify(self, resource: str, lease_id: str, token: int | None = None) -> LeaseRecord:
        return self._verified(resource, lease_id, token)

    def _verified(self, resource: str, lease_id: str, token: int | None) -> LeaseRecord:
        standing = self._standing(resource)
        known = (resource, lease_id) in self._granted
        refused = not_held(resource, lease_id, token, standing, was_granted=known)
        if refused is not None or standing is None:
            raise refused or no_lease(resource)
        return standing

    async def release(self, resource: str, lease_id: str, token: int) -> bool:
        standing = self._standing(resource)
        if standing is None or not_held(resource, lease_id, token, standing, was_granted=True) is not None:
            return False
        self._free(standing, EnumLeaseEvent.RELEASED, standing.holder)
        return True

    async def force_release(self, resource: str, by: str) -> LeaseRecord:
        standing = self._standing(resource)
        if standing is None:
            raise no_lease(resource)
        if standing.remaining_ms:
            self._free(standing, EnumLeaseEvent.FORCED, by)
        return standing

    def _free(self, standing: LeaseRecord, event: EnumLeaseEvent, by: str) -> None:
        self._records[standing.resource] = replace(standing, expires_ms=0)
        self._write(event, replace(standing, holder=by))

    async def lease(self, resource: str) -> LeaseRecord | None:
        return self._standing(resource)

    async def leases(self, limit: int = 1000) -> Sequence[LeaseRecord]:
        now = self._now_ms()
        return [replace(self._records[name], now_ms=now) for name in sorted(self._records)[:limit]]

    async def check(self, action: ModelAction, token: int | None = None) -> LeaseRecord:
        standing, refused = self._judge(action, token)
        if refused is not None:
            raise refused
        return standing

    def _judge(self, action: ModelAction, token: int | None) -> tuple[LeaseRecord, ModelOnexError | None]:
        resource, lease_id = action.resource, identifier(action.lease_id)
        standing = self._standing(resource)
        shown = action.token if token is None else token
        refused = refusal(action, shown, standing, was_granted=(resource, lease_id) in self._granted)
        if refused is None and standing is not None:
            return standing, None
        holder = self._granted.get((resource, lease_id), "")
        issued = LeaseRecord(resource, lease_id, holder, shown or 0, 0, self._now_ms(), action.epoch)
        return issued, refused or no_lease(resource)

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        text = state_text(state, f"action {action.action_id} of {action.resource!r}")
        resource, epoch = action.resource, action.epoch + 1
        standing, refused = self._judge(action, token)
        if refused is not None:
            if self._committed.get((resource, epoch)) == action.action_id:
                if self._states[resource].get(epoch, text) != text:
                    raise committed_otherwise(action, epoch)
                return epoch
            self._write(EnumLeaseEvent.REFUSED, standing, action, refusal_document(refused))
            raise refused
        record = replace(standing, epoch=epoch)
        self._records[resource] = record
        self._states.setdefault(resource, {})[epoch] = text
        self._committed[resource, epoch] = action.action_id
        self._write(EnumLeaseEvent.COMMITTED, record, action)
        return epoch

    async def begin(self, action: ModelAction, token: int | None = None) -> AuditEntry | None:
        if action.action_id in self._begun:
            return self._begun[action.action_id]
        standing, refused = self._judge(action, token)
        if refused is not None:
            self._write(EnumLeaseEvent.REFUSED, standing, action, refusal_document(refused))
            raise refused
        self._begun[action.action_id] = self._write(EnumLeaseEvent.STARTED, standing, action)
        return None

    async def finish(self, action: ModelAction, event: EnumLeaseEvent, detail: JsonValue = None) -> None:
        text = state_text(detail, f"the end of action {action.action_id}")
        started = self._begun.get(action.action_id)
        if started is None:
            raise not_begun(action)
        ended = replace(started, event=event, at=as_moment(self._now_ms()), detail=json.loads(text))
        self._begun[action.action_id] = self._append(ended)

    async def report(self, resource: str, lease_id: str, token: int, ended: Sequence[EndedAction]) -> int:
        details = [json.loads(state_text(each.detail, f"the end of action {each.action.action_id}")) for each in ended]
        try:
            record = self._verified(resource, lease_id, token)
        except LeaseExpiredError:
            holder = self._granted[resource, lease_id]
            for each, detail in zip(ended, details, strict=True):
                issued = LeaseRecord(resource, lease_id, holder, token, 0, self._now_ms(), each.action.epoch)
                self._write(each.event, issued, each.action, detail)
            raise
        if ended:
            states = self._states.setdefault(resource, {})
            states[record.epoch + len(ended)] = states.get(record.epoch, "null")
        for each, detail in zip(ended, details, strict=True):
            record = replace(record, epoch=record.epoch + 1)
            self._write(each.event, record, each.action, detail)
        if ended:
            self._records[resource] = record
        return record.epoch

    async def state(self, resource: str, epoch: int | None = None) -> StoredState:
        record = self._records.get(resource)
        current = 0 if record is None else record.epoch
        wanted = current if epoch is None else epoch
        if wanted == 0 and epoch is None:
            return StoredState(None, 0)
        text = self._states.get(resource, {}).get(wanted)
        if text is None:
            raise no_state(resource, wanted, current)
        return StoredState(json.loads(text), wanted)

    async def audit(self, resource: str, limit: int = 1000) -> Sequence[AuditEntry]:
        return self._audit.get(resource, [])[-limit:]

    async def forget_states(self, resource: str, before_epoch: int) -> int:
        record = self._records.get(resource)
        states = self._states.get(resource, {})
        old = [epoch for epoch in states if epoch < before_epoch and record is not None and epoch != record.epoch]
        for epoch in old:
            del states[epoch]
        return len(old)

    def _write(
        self, event: EnumLeaseEvent, of: LeaseRecord, action: ModelAction | None = None, detail: JsonValue = None
    ) -> AuditEntry:
        at = as_moment(self._now_ms())
        return self._append(
            AuditEntry(0, of.resource, event, at, of.holder, of.lease_id, of.token, of.epoch, action, detail)
        )

    def _append(self, entry: AuditEntry) -> AuditEntry:
        entries = self._audit.setdefault(entry.resource, [])
        numbered = replace(entry, number=len(entries) + 1)
        entries.append(numbered)
        return numbered
