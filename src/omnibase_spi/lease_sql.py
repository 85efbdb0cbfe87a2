"""Leases, epochs and the action log in a named connection: SQLite and PostgreSQL.

A row per resource holds lease, token, epoch and state, so that one UPDATE sees them all as they are at the moment of
the write: on PostgreSQL a statement that had to wait for another judges the row again as that one left it. The
condition is stricter than a fence of "no older token": it asks for exactly the last one. Times are milliseconds of the
database's clock, read in the same statement.

On PostgreSQL the audit is written by the same statement, so that a program that is stopped in the middle holds no
lock. SQLite has no such statement: there it is a transaction of two, and a program that is stopped inside it keeps the
lock of the file until it goes on or dies.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumLeaseEvent
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.model_action import ModelAction, identifier
from omnibase_core.protocols.protocol_lease import AuditEntry, LeaseRecord
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

_NOW: Final = {
    # SQLite counts days in a double, but its clock in whole milliseconds, which rounding gives back exactly
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)",
    # not now(): that is when the transaction began
    "postgresql": "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)",
}
_LEASES: Final = (
    "resource VARCHAR(200) PRIMARY KEY, lease_id VARCHAR(200) NOT NULL, holder VARCHAR(300) NOT NULL, "
    "token BIGINT NOT NULL, expires_ms BIGINT NOT NULL, renewals BIGINT NOT NULL, epoch BIGINT NOT NULL, "
    "state TEXT NOT NULL"
)
_LOG: Final = (
    "number {serial}, resource VARCHAR(200) NOT NULL, event VARCHAR(20) NOT NULL, at_ms BIGINT NOT NULL, "
    "holder VARCHAR(300) NOT NULL, lease_id VARCHAR(200) NOT NULL, token BIGINT NOT NULL, epoch BIGINT NOT NULL, "
    "action_id VARCHAR(40), action TEXT, detail TEXT, state TEXT"
)
_SEEN: Final = "resource, lease_id, holder, token, expires_ms, renewals, epoch"
_LOGGED: Final = "resource, event, at_ms, holder, lease_id, token, epoch, action_id, action, detail, state"
_NO_TOKEN: Final = -1


class SqlLeaseStore:
    """`ProtocolLeaseStore` in the tables `onex_leases` and `onex_leases_log` of a named connection.

    Statements join the ambient transaction of their connection: inside `adapter.transaction(name)` a `commit` and
    writes to tables of the program are one. Raises CONFIGURATION_ERROR for a database without `RETURNING` (MySQL).
    A commit of which nobody knows whether it was stored is OUTCOME_UNKNOWN; the same action may be committed again.
    """

    def __init__(self, adapter: DbAdapter, connection_name: str = "default", *, table: str = "onex_leases") -> None:
        driver = adapter.driver_name(connection_name)
        if driver not in _NOW:
            raise ModelOnexError(
                f"leases in connection {connection_name!r}: {driver} cannot prove a lease in the statement that "
                "writes; name a connection of SQLite or PostgreSQL",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        self._adapter = adapter
        self._name = connection_name
        self._leases = SqlTable(adapter, connection_name, table, _LEASES)
        self._log = SqlTable(adapter, connection_name, f"{table}_log", _LOG)
        self._log_name = f"{table}_log"
        self._in_one = driver == "postgresql"
        self._now = _NOW[driver]
        self._fence = (
            f"resource = $1 AND lease_id = $2 AND expires_ms > {self._now} "
            f"AND (CAST($3 AS BIGINT) = {_NO_TOKEN} OR token = $3) AND epoch = $4 AND CAST($5 AS BIGINT) > {self._now}"
        )
        self._made = False

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        require_ids(resource, lease_id, ttl_ms)
        mine = "o.lease_id = excluded.lease_id AND o.holder = excluded.holder"
        renewing = f"CASE WHEN {mine} AND o.expires_ms > {self._now} THEN"
        query = (
            f"INSERT INTO {{t}} AS o ({_SEEN}, state) "  # noqa: S608  # constants
            f"VALUES ($1, $2, $3, 1, {self._now} + CAST($4 AS BIGINT), 0, 0, 'null') ON CONFLICT (resource) DO UPDATE "
            f"SET token = {renewing} o.token ELSE o.token + 1 END, renewals = {renewing} o.renewals + 1 ELSE 0 END, "
            "lease_id = excluded.lease_id, holder = excluded.holder, "
            f"expires_ms = {self._now} + CAST($4 AS BIGINT) WHERE o.expires_ms <= {self._now} OR ({mine})"
        )
        while True:
            row = await self._change(
                query, (resource, lease_id, holder, ttl_ms), EnumLeaseEvent.ACQUIRED, only_new=True
            )
            if row is not None:
                return _record(row)
            standing = await self.lease(resource)
            if standing is not None and standing.remaining_ms:
                raise conflict(resource, standing)

    async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
        require_ids(resource, lease_id, ttl_ms)
        query = (
            f"UPDATE {{t}} SET expires_ms = {self._now} + CAST($4 AS BIGINT), renewals = renewals + 1 "  # noqa: S608  # constants
            f"WHERE resource = $1 AND lease_id = $2 AND token = $3 AND expires_ms > {self._now} {self._returning}"
        )
        await self._prepare()
        rows = await self._run(query, resource, lease_id, token, ttl_ms)
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
        query = (
            "UPDATE {t} SET expires_ms = 0 WHERE resource = $1 AND lease_id = $2 AND token = $3 "  # noqa: S608  # constants
            f"AND expires_ms > {self._now}"
        )
        return await self._change(query, (resource, lease_id, token), EnumLeaseEvent.RELEASED) is not None

    async def force_release(self, resource: str, by: str) -> LeaseRecord:
        standing = await self.lease(resource)
        if standing is None:
            raise no_lease(resource)
        query = f"UPDATE {{t}} SET expires_ms = 0 WHERE resource = $1 AND expires_ms > {self._now}"  # noqa: S608  # constants
        await self._change(query, (resource,), EnumLeaseEvent.FORCED, holder=by)
        return standing

    async def lease(self, resource: str) -> LeaseRecord | None:
        await self._prepare()
        query = f"SELECT {_SEEN}, {self._now} AS now_ms FROM {{t}} WHERE resource = $1"  # noqa: S608  # constants
        rows = await self._run(query, resource)
        return _record(rows[0]) if rows else None

    async def leases(self, limit: int = 1000) -> Sequence[LeaseRecord]:
        await self._prepare()
        query = f"SELECT {_SEEN}, {self._now} AS now_ms FROM {{t}} ORDER BY resource LIMIT {int(limit)}"  # noqa: S608  # constants
        return [_record(row) for row in await self._run(query)]

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
        query = f"UPDATE {{t}} SET epoch = epoch + 1, state = $6 WHERE {self._fence}"  # noqa: S608  # constants
        params = (*_shown(action, token), text)
        try:
            row = await self._change(query, params, EnumLeaseEvent.COMMITTED, action=action, state=text)
        except EffectFault as fault:
            raise _told(fault, action) from None
        if row is not None:
            return int(str(row["epoch"]))
        return await self._refuse(action, token, text)

    async def begin(self, action: ModelAction, token: int | None = None) -> AuditEntry | None:
        query = f"UPDATE {{t}} SET epoch = epoch WHERE {self._fence}"  # noqa: S608  # constants
        try:
            row = await self._change(query, _shown(action, token), EnumLeaseEvent.STARTED, action=action)
        except EffectFault as fault:
            raise _told(fault, action) from None
        if row is not None and row["logged"]:
            return None
        known = await self._entries(
            "action_id = $2 AND event IN ('started', 'completed', 'failed') ORDER BY number DESC LIMIT 1",
            action.resource,
            str(action.action_id),
        )
        if not known:
            await self._refuse(action, token, None)
        return known[0]

    async def finish(self, action: ModelAction, event: EnumLeaseEvent, detail: JsonValue = None) -> None:
        text = state_text(detail, f"the end of action {action.action_id}")
        await self._prepare()
        query = (
            f"INSERT INTO {{t}} ({_LOGGED}) SELECT resource, '{EnumLeaseEvent(event).value}', {self._now}, holder, "  # noqa: S608  # constants
            "lease_id, token, epoch, action_id, action, CAST($3 AS TEXT), NULL FROM {t} "
            "WHERE resource = $1 AND action_id = $2 AND event = 'started' RETURNING number"
        )
        if not await self._log.run(query, action.resource, str(action.action_id), text):
            raise not_begun(action)

    async def state(self, resource: str, epoch: int | None = None) -> StoredState:
        await self._prepare()
        rows = await self._run("SELECT epoch, state FROM {t} WHERE resource = $1", resource)
        current = int(str(rows[0]["epoch"])) if rows else 0
        if epoch is None or (epoch == current and current):
            return StoredState(json.loads(str(rows[0]["state"])) if rows else None, current)
        old = await self._log.run(
            "SELECT state FROM {t} WHERE resource = $1 AND epoch = $2 AND event = 'committed' AND state IS NOT NULL",
            resource,
            epoch,
        )
        if not old:
            raise no_state(resource, epoch, current)
        return StoredState(json.loads(str(old[0]["state"])), epoch)

    async def audit(self, resource: str, limit: int = 1000) -> Sequence[AuditEntry]:
        await self._prepare()
        return (await self._entries(f"1 = 1 ORDER BY number DESC LIMIT {int(limit)}", resource))[::-1]

    async def forget_states(self, resource: str, before_epoch: int) -> int:
        await self._prepare()
        query = "UPDATE {t} SET state = NULL WHERE resource = $1 AND epoch < $2 AND state IS NOT NULL"
        return await self._log.changed(f"{query} AND epoch < {self._current_epoch}", resource, before_epoch)

    @property
    def _current_epoch(self) -> str:
        leases = self._log_name.removesuffix("_log")
        return f"(SELECT epoch FROM {leases} WHERE resource = $1)"  # noqa: S608  # constants

    @property
    def _returning(self) -> str:
        return f"RETURNING {_SEEN}, {self._now} AS now_ms"

    async def _prepare(self) -> None:
        if self._made:
            return
        await self._leases.prepare()
        await self._log.prepare()
        for unique, name, columns in (
            ("", "epoch", "(resource, epoch)"),
            ("UNIQUE ", "begun", "(action_id) WHERE event = 'started'"),
        ):
            query = f"CREATE {unique}INDEX IF NOT EXISTS {self._log_name}_{name} ON {{t}} {columns}"
            try:
                await self._log.run(query)
            except EffectFault:  # another process makes it at this moment, and IF NOT EXISTS looked before that
                await self._log.run(query)
        self._made = self._adapter.ambient(self._name) is None  # else a rollback may take them away again

    async def _run(self, query: str, *params: JsonValue) -> list[Row]:
        return await self._leases.run(query, *params)

    async def _change(
        self,
        query: str,
        params: tuple[JsonValue, ...],
        event: EnumLeaseEvent,
        *,
        action: ModelAction | None = None,
        state: str | None = None,
        holder: str | None = None,
        only_new: bool = False,
    ) -> Row | None:
        """Change the row and write the audit, both or neither. None when the condition did not hold.

        holder: who is written down in place of the lease's. only_new: a renewal is not written down. `logged` of the
        row says whether the audit took the entry; it takes STARTED once for an action.
        """
        await self._prepare()
        action_id, document = (None, None) if action is None else (str(action.action_id), action.model_dump_json())
        entry: tuple[JsonValue, ...] = (holder, action_id, document, state)
        if self._in_one:
            first = len(params) + 1
            given = [f"CAST(${first + index} AS TEXT)" for index in range(len(entry))]
            rows = await self._run(
                f"WITH done AS ({query} {self._returning}), logged AS (INSERT INTO {self._log_name} ({_LOGGED}) "  # noqa: S608  # constants
                f"SELECT resource, '{event.value}', now_ms, COALESCE({given[0]}, holder), lease_id, token, epoch, "
                f"{given[1]}, {given[2]}, NULL, {given[3]} FROM done {'WHERE renewals = 0' if only_new else ''} "
                "ON CONFLICT DO NOTHING RETURNING number) "
                "SELECT done.*, (SELECT count(*) FROM logged) AS logged FROM done",
                *params,
                *entry,
            )
            return rows[0] if rows else None
        joined = self._adapter.ambient(self._name) is not None
        async with nullcontext() if joined else self._adapter.transaction(self._name):
            rows = await self._run(f"{query} {self._returning}", *params)
            if not rows:
                return None
            row = rows[0]
            if not (only_new and row["renewals"]):
                values = (row["resource"], event.value, row["now_ms"], holder or row["holder"], row["lease_id"])
                row["logged"] = await self._note(*values, row["token"], row["epoch"], action_id, document, None, state)
            return row

    async def _note(self, *values: JsonValue) -> int:
        """Append to the audit; 0 for a second beginning of an action."""
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        query = f"INSERT INTO {{t}} ({_LOGGED}) VALUES ({places}) ON CONFLICT DO NOTHING RETURNING number"  # noqa: S608  # constants
        return len(await self._log.run(query, *values))

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
        await self._note(*values, str(action.action_id), action.model_dump_json(), document, None)
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
        query = f"SELECT number, {_LOGGED} FROM {{t}} WHERE resource = $1 AND {condition}"  # noqa: S608  # constants
        return [_entry(row) for row in await self._log.run(query, resource, *params)]


def _shown(action: ModelAction, token: int | None) -> tuple[JsonValue, ...]:
    """What the fence compares, in the order of its placeholders."""
    shown = action.token if token is None else token
    return (
        action.resource,
        identifier(action.lease_id),
        _NO_TOKEN if shown is None else shown,
        action.epoch,
        as_ms(action.expires_at),
    )


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
