"""Leases, epochs and the action log in a named connection: SQLite and PostgreSQL."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumLeaseEvent
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_action import ModelAction, identifier
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction
from omnibase_core.protocols.protocol_lease import AuditEntry, EndedAction, LeaseRecord
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_core.utils.lease_rules import (
    as_moment,
    as_ms,
    committed_otherwise,
    conflict,
    no_lease,
    no_state,
    not_begun,
    not_held,
    overtaken,
    refusal,
    refusal_document,
    require_ids,
    state_text,
)
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import Row, SqlTable
from omnibase_spi.lease_statements import LOG_COLUMNS, LOGGED, NO_TOKEN, NOW, LeaseStatements

_NOBODY: tuple[JsonValue, ...] = (None, None, None)
"""An entry of the audit without an action, under the holder's name."""


class SqlLeaseStore:
    """`ProtocolLeaseStore` in the tables `onex_leases` and `onex_leases_log` of a named connection.

    Statements join the ambient transaction of their connection: inside `transaction()` a `commit` and writes to tables
    of the program are one. Raises CONFIGURATION_ERROR for a database without `RETURNING` (MySQL).
    A commit of which nobody knows whether it was stored is OUTCOME_UNKNOWN; the same action may be committed again.
    """

    def __init__(self, adapter: DbAdapter, connection_name: str = "default", *, table: str = "onex_leases") -> None:
        driver = adapter.driver_name(connection_name)
        if driver not in NOW:
            raise ModelOnexError(
                f"leases in connection {connection_name!r}: {driver} cannot prove a lease in the statement that "
                "writes; name a connection of SQLite or PostgreSQL",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        self._adapter = adapter
        self._name = connection_name
        self._statements = LeaseStatements(driver, table)
        self._leases = SqlTable(adapter, connection_name, table, self._statements.row_columns)
        self._log = SqlTable(adapter, connection_name, f"{table}_log", LOG_COLUMNS)
        self._made = False

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        require_ids(resource, lease_id, ttl_ms)
        while True:
            rows = await self._run(self._statements.acquire, resource, lease_id, holder, ttl_ms, *_NOBODY)
            if rows:
                return _record(rows[0])
            standing = await self.lease(resource)
            if standing is not None and standing.remaining_ms:
                raise conflict(resource, standing)

    async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
        require_ids(resource, lease_id, ttl_ms)
        rows = await self._run(self._statements.renew, resource, lease_id, token, ttl_ms)
        if rows:
            return _record(rows[0])
        standing = await self.verify(resource, lease_id, token)
        raise ModelOnexError(
            f"lease {lease_id} of {resource!r}: not renewed, because somebody else changed it at that moment; it still "
            f"holds for {standing.remaining_ms} ms. Renew it again.",
            EnumCoreErrorCode.CONFLICT,
        )

    async def verify(self, resource: str, lease_id: str, token: int | None = None) -> LeaseRecord:
        standing, granted = await self._look(resource, lease_id)
        refused = not_held(resource, lease_id, token, standing, was_granted=granted)
        if refused is not None or standing is None:
            raise refused or no_lease(resource)
        return standing

    async def release(self, resource: str, lease_id: str, token: int) -> bool:
        return bool(await self._run(self._statements.release, resource, lease_id, token, *_NOBODY))

    async def force_release(self, resource: str, by: str) -> LeaseRecord:
        standing = await self.lease(resource)
        if standing is None:
            raise no_lease(resource)
        await self._run(self._statements.force, resource, by, None, None)
        return standing

    async def lease(self, resource: str) -> LeaseRecord | None:
        rows = await self._run(self._statements.lease, resource)
        return _record(rows[0]) if rows else None

    async def leases(self, limit: int = 1000) -> Sequence[LeaseRecord]:
        return [_record(row) for row in await self._run(f"{self._statements.leases} LIMIT {int(limit)}")]

    async def _look(self, resource: str, lease_id: str) -> tuple[LeaseRecord | None, bool]:
        """What stands, and whether this lease was ever given."""
        standing = await self.lease(resource)
        known = standing is not None and standing.lease_id == lease_id
        return standing, known or await self._holder_of(resource, lease_id) is not None

    async def check(self, action: ModelAction, token: int | None = None) -> LeaseRecord:
        standing, granted = await self._look(action.resource, identifier(action.lease_id))
        refused = refusal(action, action.token if token is None else token, standing, was_granted=granted)
        if refused is not None or standing is None:
            raise refused or no_lease(action.resource)
        return standing

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        text = state_text(state, f"action {action.action_id} of {action.resource!r}")
        rows = await self._fenced(self._statements.commit, action, token, text)
        return _number(rows[0]["epoch"]) if rows else await self._refuse(action, token, text)

    async def begin(self, action: ModelAction, token: int | None = None) -> AuditEntry | None:
        action_id = str(action.action_id)
        rows = await self._fenced(self._statements.begin, action, token, action_id)
        if rows and rows[0]["logged"]:
            return None
        known = await self._entries(
            "action_id = $2 AND event IN ('started', 'completed', 'failed') ORDER BY number DESC LIMIT 1",
            action.resource,
            action_id,
        )
        if not known:
            await self._refuse(action, token, None)
        return known[0]

    async def _fenced(self, query: str, action: ModelAction, token: int | None, last: str) -> list[Row]:
        """The row that was changed, or none when the fence did not let it pass."""
        shown = action.token if token is None else token
        try:
            return await self._run(
                query,
                action.resource,
                identifier(action.lease_id),
                NO_TOKEN if shown is None else shown,
                action.epoch,
                as_ms(action.expires_at),
                last,
                None,
                str(action.action_id),
                action.model_dump_json(),
            )
        except EffectFault as fault:
            raise _told(fault, action) from None

    async def finish(self, action: ModelAction, event: EnumLeaseEvent, detail: JsonValue = None) -> None:
        text = state_text(detail, f"the end of action {action.action_id}")
        ended = (action.resource, str(action.action_id), text, EnumLeaseEvent(event).value)
        if not await self._run(self._statements.finish, *ended):
            raise not_begun(action)

    async def report(self, resource: str, lease_id: str, token: int, ended: Sequence[EndedAction]) -> int:
        details = [state_text(each.detail, f"the end of action {each.action.action_id}") for each in ended]

        async def note(number: int, record: LeaseRecord, holder: str, epoch: int, state: str | None) -> None:
            each = ended[number]
            what = (resource, EnumLeaseEvent(each.event).value, record.now_ms, holder, lease_id, token, epoch)
            action = (str(each.action.action_id), each.action.model_dump_json(), details[number])
            await self._run(self._statements.note, *what, *action, state)

        async with self.transaction():
            rows = await self._run(self._statements.raise_epoch, resource, lease_id, token, len(ended))
            if rows:
                record = _record(rows[0])
                for number, epoch in enumerate(range(record.epoch - len(ended) + 1, record.epoch + 1)):
                    state = str(rows[0]["state"]) if epoch == record.epoch else None
                    await note(number, record, record.holder, epoch, state)
                return record.epoch
            standing = await self.lease(resource)
            holder = await self._holder_of(resource, lease_id)
            refused = not_held(resource, lease_id, token, standing, was_granted=holder is not None)
            if holder is not None and standing is not None and refused is not None:
                for number, each in enumerate(ended):
                    await note(number, standing, holder, each.action.epoch, None)
        if refused is not None:
            raise refused
        raise ModelOnexError(
            f"lease {lease_id} of {resource!r}: somebody else changed it at that moment; nothing was written. Report "
            "again.",
            EnumCoreErrorCode.CONFLICT,
        )

    async def state(self, resource: str, epoch: int | None = None) -> StoredState:
        await self._prepare()
        rows = await self._leases.run("SELECT epoch, state FROM {t} WHERE resource = $1", resource)
        current = _number(rows[0]["epoch"]) if rows else 0
        if epoch is None or (epoch == current and current):
            return StoredState(json.loads(str(rows[0]["state"])) if rows else None, current)
        old = await self._log.run(
            "SELECT state FROM {t} WHERE resource = $1 AND epoch = $2 AND state IS NOT NULL",
            resource,
            epoch,
        )
        if not old:
            raise no_state(resource, epoch, current)
        return StoredState(json.loads(str(old[0]["state"])), epoch)

    async def audit(self, resource: str, limit: int = 1000) -> Sequence[AuditEntry]:
        return (await self._entries(f"1 = 1 ORDER BY number DESC LIMIT {int(limit)}", resource))[::-1]

    async def forget_states(self, resource: str, before_epoch: int) -> int:
        await self._prepare()
        return await self._log.changed(self._statements.forget, resource, before_epoch)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[ProtocolDbTransaction]:
        """A transaction that `commit` and statements of the program on the same adapter and connection join."""
        await self._prepare()
        async with self._adapter.transaction(self._name) as opened:
            yield opened

    async def _prepare(self) -> None:
        """Make the tables and what stands beside them; in a transaction they end with it when it is rolled back."""
        if self._made:
            return
        await self._leases.prepare()
        await self._log.prepare()
        if not await self._log.run(self._statements.present()):
            for query in self._statements.beside():
                try:
                    await self._log.run(query)
                except EffectFault:  # another process makes it at this moment, and IF NOT EXISTS looked before that
                    await self._log.run(query)
        self._made = self._adapter.ambient(self._name) is None

    async def _run(self, query: str, *params: JsonValue) -> list[Row]:
        if not self._made:
            await self._prepare()
        return await self._leases.run(query, *params)

    async def _refuse(self, action: ModelAction, token: int | None, text: str | None) -> int:
        """Say why the statement changed nothing, and write it down; or the epoch, for an action that has it already."""
        resource, lease_id = action.resource, identifier(action.lease_id)
        if text is not None:
            epoch = action.epoch + 1
            known = await self._log.run(
                "SELECT state FROM {t} WHERE resource = $1 AND epoch = $2 AND event = 'committed' AND action_id = $3",
                resource,
                epoch,
                str(action.action_id),
            )
            if known:
                if known[0]["state"] not in {None, text}:
                    raise committed_otherwise(action, epoch)
                return epoch
        shown = action.token if token is None else token
        standing = await self.lease(resource)
        holder = await self._holder_of(resource, lease_id)
        error = refusal(action, shown, standing, was_granted=holder is not None)
        if error is None:
            raise overtaken(action, "others wrote at the same moment")
        now = 0 if standing is None else standing.now_ms
        document = json.dumps(refusal_document(error))
        values = (resource, EnumLeaseEvent.REFUSED.value, now, holder or "", lease_id, shown or 0, action.epoch)
        await self._run(self._statements.note, *values, str(action.action_id), action.model_dump_json(), document, None)
        raise error

    async def _holder_of(self, resource: str, lease_id: str) -> str | None:
        """Who was given this lease of the resource."""
        rows = await self._log.run(
            "SELECT holder FROM {t} WHERE resource = $1 AND lease_id = $2 AND event = 'acquired' "
            "ORDER BY number DESC LIMIT 1",
            resource,
            lease_id,
        )
        return str(rows[0]["holder"]) if rows else None

    async def _entries(self, condition: str, resource: str, *params: JsonValue) -> list[AuditEntry]:
        await self._prepare()
        query = f"SELECT number, {LOGGED} FROM {{t}} WHERE resource = $1 AND {condition}"  # noqa: S608  # constants
        return [_entry(row) for row in await self._log.run(query, resource, *params)]


def _told(fault: EffectFault, action: ModelAction) -> ModelOnexError:
    """What a failed statement means for the action."""
    if fault.transient and fault.phase in {EnumFaultPhase.NOT_SENT, EnumFaultPhase.REJECTED}:
        return overtaken(action, f"the database gave it up ({fault.error_kind or fault.sqlstate})")
    if fault.phase is EnumFaultPhase.AMBIGUOUS:
        return ModelOnexError(
            f"action {action.action_id} of {action.resource!r}: whether it was written is not known: {fault.message} "
            "Commit the same action again: it is written once.",
            EnumCoreErrorCode.OUTCOME_UNKNOWN,
            {"resource": action.resource, "action_id": str(action.action_id)},
            action.correlation_id,
        )
    return fault


def _number(value: JsonValue) -> int:
    return int(str(value))


def _record(row: Row) -> LeaseRecord:
    return LeaseRecord(
        str(row["resource"]),
        str(row["lease_id"]),
        str(row["holder"]),
        _number(row["token"]),
        _number(row["expires_ms"]),
        _number(row["now_ms"]),
        _number(row["epoch"]),
        _number(row["renewals"]),
    )


def _entry(row: Row) -> AuditEntry:
    action, detail = row["action"], row["detail"]
    return AuditEntry(
        _number(row["number"]),
        str(row["resource"]),
        EnumLeaseEvent(str(row["event"])),
        as_moment(_number(row["at_ms"])),
        str(row["holder"]),
        str(row["lease_id"]),
        _number(row["token"]),
        _number(row["epoch"]),
        None if action is None else ModelAction.model_validate_json(str(action)),
        None if detail is None else json.loads(str(detail)),
    )
