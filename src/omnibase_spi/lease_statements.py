"""The statements of a lease store, for SQLite and PostgreSQL.

A row per resource holds lease, token, epoch and state, so that one UPDATE sees them all as they are at the moment of
the write: on PostgreSQL a statement that had to wait for another judges the row again as that one left it. The
condition is stricter than a fence of "no older token": it asks for exactly the last one. Times are milliseconds of the
database's clock, read in the same statement.

The audit is written by the same statement: on PostgreSQL by a part of it that inserts, on SQLite by a trigger, to which
four columns of the row say what to write. So a program that is stopped in the middle holds no lock of PostgreSQL; one
that is stopped while SQLite writes in it keeps the lock of the file until it goes on or dies.
"""

# ruff: noqa: S608 - the one name that is put in is checked to be plain; all else are constants, values are parameters

from typing import Final

from omnibase_core.enums.enum_action import EnumLeaseEvent

NOW: Final = {
    # SQLite counts days in a double, but its clock in whole milliseconds, which rounding gives back exactly
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)",
    # not now(): that is when the transaction began
    "postgresql": "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)",
}
"""The milliseconds since 1970, by the clock of each database that can hold leases."""

NO_TOKEN: Final = -1
SEEN: Final = "resource, lease_id, holder, token, expires_ms, renewals, epoch"
LOGGED: Final = "resource, event, at_ms, holder, lease_id, token, epoch, action_id, action, detail, state"
LOG_COLUMNS: Final = (
    "number {serial}, resource VARCHAR(200) NOT NULL, event VARCHAR(20) NOT NULL, at_ms BIGINT NOT NULL, "
    "holder VARCHAR(300) NOT NULL, lease_id VARCHAR(200) NOT NULL, token BIGINT NOT NULL, epoch BIGINT NOT NULL, "
    "action_id VARCHAR(40), action TEXT, detail TEXT, state TEXT"
)
_ROW: Final = (
    "resource VARCHAR(200) PRIMARY KEY, lease_id VARCHAR(200) NOT NULL, holder VARCHAR(300) NOT NULL, "
    "token BIGINT NOT NULL, expires_ms BIGINT NOT NULL, renewals BIGINT NOT NULL, epoch BIGINT NOT NULL, "
    "state TEXT NOT NULL"
)
_ENTRY: Final = "entry_event", "entry_holder", "entry_action_id", "entry_action"


class LeaseStatements:
    """Texts, made once. `table` must be a plain name.

    Statements that change a lease take, after what stands beside them, three more: who is written down in place of the
    holder, id and JSON of the action; each may be NULL. They return the row, with `now_ms` and `logged`: how many
    entries were written.
    """

    def __init__(self, driver: str, table: str) -> None:
        self._in_one = driver == "postgresql"
        self._table = table
        self._log = log = f"{table}_log"
        self._now = now = NOW[driver]
        self.row_columns = _ROW if self._in_one else f"{_ROW}, {' TEXT, '.join(_ENTRY)} TEXT"
        fence = (
            f"resource = $1 AND lease_id = $2 AND expires_ms > {now} "
            f"AND (CAST($3 AS BIGINT) = {NO_TOKEN} OR token = $3) AND epoch = $4 AND CAST($5 AS BIGINT) > {now}"
        )
        self.commit = self._change(
            EnumLeaseEvent.COMMITTED, 7, f"UPDATE {table} SET epoch = epoch + 1, state = $6{{set}} WHERE {fence}"
        )
        """resource, lease id, token, epoch, end of the action, state"""
        begun = f"SELECT 1 FROM {log} WHERE action_id = $6 AND event = 'started'"
        self.begin = self._change(
            EnumLeaseEvent.STARTED,
            7,
            f"UPDATE {table} SET epoch = epoch{{set}} WHERE {fence} AND NOT EXISTS ({begun})",
        )
        """resource, lease id, token, epoch, end of the action, action id"""
        self.acquire = self._acquire()
        """resource, lease id, holder, length"""
        self.renew = (
            f"UPDATE {table} SET expires_ms = {now} + CAST($4 AS BIGINT), renewals = renewals + 1 "
            f"WHERE resource = $1 AND lease_id = $2 AND token = $3 AND expires_ms > {now} "
            f"RETURNING {SEEN}, {now} AS now_ms"
        )
        """resource, lease id, token, length; no audit"""
        self.raise_epoch = (
            f"UPDATE {table} SET epoch = epoch + CAST($4 AS BIGINT) WHERE resource = $1 AND lease_id = $2 "
            f"AND token = $3 AND expires_ms > {now} RETURNING {SEEN}, state, {now} AS now_ms"
        )
        """resource, lease id, token, by how much; the audit is written by the same transaction"""
        self.release = self._change(
            EnumLeaseEvent.RELEASED,
            4,
            f"UPDATE {table} SET expires_ms = 0{{set}} WHERE resource = $1 AND lease_id = $2 AND token = $3 "
            f"AND expires_ms > {now}",
        )
        """resource, lease id, token"""
        self.force = self._change(
            EnumLeaseEvent.FORCED,
            2,
            f"UPDATE {table} SET expires_ms = 0{{set}} WHERE resource = $1 AND expires_ms > {now}",
        )
        """resource"""
        self.lease = f"SELECT {SEEN}, {now} AS now_ms FROM {table} WHERE resource = $1"
        self.leases = f"SELECT {SEEN}, {now} AS now_ms FROM {table} ORDER BY resource"
        self.finish = (
            f"INSERT INTO {log} ({LOGGED}) SELECT resource, CAST($4 AS TEXT), {now}, holder, lease_id, token, epoch, "
            f"action_id, action, CAST($3 AS TEXT), NULL FROM {log} "
            "WHERE resource = $1 AND action_id = $2 AND event = 'started' RETURNING number"
        )
        """resource, action id, detail, event"""
        places = ", ".join(f"${number}" for number in range(1, LOGGED.count(",") + 2))
        self.note = f"INSERT INTO {log} ({LOGGED}) VALUES ({places})"
        self.forget = (
            f"UPDATE {log} SET state = NULL WHERE resource = $1 AND epoch < $2 AND state IS NOT NULL "
            f"AND epoch < (SELECT epoch FROM {table} WHERE resource = $1)"
        )

    def present(self) -> str:
        """Gives a row when the last of `beside` is there."""
        if self._in_one:
            return f"SELECT 1 AS found WHERE to_regclass('{self._log}_begun') IS NOT NULL"
        return f"SELECT 1 AS found FROM sqlite_master WHERE type = 'trigger' AND name = '{self._table}_changed'"

    def beside(self) -> list[str]:
        """What is made beside the two tables, in this order, each only if it is not there."""
        made = [
            f"CREATE INDEX IF NOT EXISTS {self._log}_epoch ON {self._log} (resource, epoch)",
            f"CREATE UNIQUE INDEX IF NOT EXISTS {self._log}_begun ON {self._log} (action_id) WHERE event = 'started'",
        ]
        if self._in_one:
            return made
        committed = EnumLeaseEvent.COMMITTED.value
        entry = (
            f"INSERT INTO {self._log} ({LOGGED}) VALUES (NEW.resource, NEW.entry_event, {self._now}, "
            "COALESCE(NEW.entry_holder, NEW.holder), NEW.lease_id, NEW.token, NEW.epoch, NEW.entry_action_id, "
            f"NEW.entry_action, NULL, CASE NEW.entry_event WHEN '{committed}' THEN NEW.state END)"
        )
        for name, moment in (("made", "INSERT"), ("changed", "UPDATE OF entry_event")):
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS {self._table}_{name} AFTER {moment} ON {self._table} "
                f"WHEN NEW.entry_event <> '{EnumLeaseEvent.ACQUIRED.value}' OR NEW.renewals = 0 BEGIN {entry}; END"
            )
        return made

    def _acquire(self) -> str:
        """A lease that is free, or one's own, which is renewed: that is no entry of the audit."""
        mine = "o.lease_id = excluded.lease_id AND o.holder = excluded.holder"
        renewing = f"CASE WHEN {mine} AND o.expires_ms > {self._now} THEN"
        ends = f"{self._now} + CAST($4 AS BIGINT)"
        return self._change(
            EnumLeaseEvent.ACQUIRED,
            5,
            f"INSERT INTO {self._table} AS o ({SEEN}, state{{columns}}) "
            f"VALUES ($1, $2, $3, 1, {ends}, 0, 0, 'null'{{values}}) ON CONFLICT (resource) DO UPDATE "
            f"SET token = {renewing} o.token ELSE o.token + 1 END, "
            f"renewals = {renewing} o.renewals + 1 ELSE 0 END, "
            f"lease_id = excluded.lease_id, holder = excluded.holder, expires_ms = {ends}{{set}} "
            f"WHERE o.expires_ms <= {self._now} OR ({mine})",
        )

    def _change(self, event: EnumLeaseEvent, first: int, query: str) -> str:
        """A change of the row together with its entry in the audit. first: the number of the first of the three."""
        given = [f"CAST(${first + index} AS TEXT)" for index in range(3)]
        if not self._in_one:
            values = [f"'{event.value}'", *given]
            assigned = "".join(f", {column} = {value}" for column, value in zip(_ENTRY, values, strict=True))
            changing = query.format(set=assigned, columns=f", {', '.join(_ENTRY)}", values=f", {', '.join(values)}")
            return f"{changing} RETURNING {SEEN}, {self._now} AS now_ms, 1 AS logged"
        state = "state" if event is EnumLeaseEvent.COMMITTED else "NULL"
        new = "WHERE renewals = 0" if event is EnumLeaseEvent.ACQUIRED else ""
        changing = query.format(set="", columns="", values="")
        return (
            f"WITH done AS ({changing} RETURNING {SEEN}, state, {self._now} AS now_ms), "
            f"logged AS (INSERT INTO {self._log} ({LOGGED}) "
            f"SELECT resource, '{event.value}', now_ms, COALESCE({given[0]}, holder), lease_id, token, epoch, "
            f"{given[1]}, {given[2]}, NULL, {state} FROM done {new} ON CONFLICT DO NOTHING RETURNING number) "
            f"SELECT {SEEN}, now_ms, (SELECT count(*) FROM logged) AS logged FROM done"
        )
