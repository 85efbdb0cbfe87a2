"""What the workflow engine keeps beside dbos, in the same database, and the few statements that read or move rows of
dbos itself, so that both change in one transaction.

Our tables: `onex_runs` (what a run was started with and what is wanted of it), `onex_bundles` (the texts that runs are
pinned to), `onex_signals`, `onex_schedules`, `onex_executors` (leases of processes). Times are seconds since 1970 by
the clock of the database where they are compared, else of who wrote them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import (
    BLOCK,
    RunFilter,
    RunView,
    StartRequest,
    StepOutcome,
    StepRecord,
    WorkflowBundle,
)
from omnibase_spi.engine_dbos_views import Row, SqlValue, bundle_of, text_of, undone_in, view_of
from omnibase_spi.engine_memory_store import hash_of
from omnibase_spi.workflow_anew import failed_at, undone_at
from omnibase_spi.workflow_checks import json_of

if TYPE_CHECKING:
    import sqlalchemy as sa

PAUSED: Final = "paused"
ENDING: Final = "ending"
"""A run that its parent has given up: who carries it out stops at once, lets go of it, and then it is cancelled."""
NOTE: Final = "~"
"""How the name of a record begins that is no step: a moment, a timer, a signal, a patch."""
_INTERNAL_QUEUE: Final = "_dbos_internal_queue"
_ASKED: Final = {
    EnumRunStatus.QUEUED: "w.status = 'ENQUEUED'",
    EnumRunStatus.SCHEDULED: "w.status = 'DELAYED'",
    EnumRunStatus.RUNNING: "w.status = 'PENDING'",
    EnumRunStatus.COMPLETED: "w.status = 'SUCCESS'",
    EnumRunStatus.FAILED: "w.status IN ('ERROR', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')",
    EnumRunStatus.CANCELLED: "w.status = 'CANCELLED' AND r.wanted IS NULL",
    EnumRunStatus.PAUSED: "w.status = 'CANCELLED' AND r.wanted IS NOT NULL",
}
_RUN: Final = (
    "SELECT r.*, w.status, w.updated_at, w.executor_id, w.queue_name, w.owner_xid, o.output, o.error "
    "FROM {s}onex_runs r JOIN {s}workflow_status w ON w.workflow_uuid = r.workflow_id "
    "LEFT JOIN {s}workflow_output o ON o.workflow_uuid = r.workflow_id "
)
_HAS_ATTRIBUTE: Final = (
    "EXISTS (SELECT 1 FROM json_each(r.attributes) a WHERE a.key = :n# AND (CASE a.type "
    "WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN 'null' "
    "WHEN 'object' THEN json(a.value) WHEN 'array' THEN json(a.value) ELSE json_quote(a.value) END) = json(:v#))"
)
_ENDED_BEFORE: Final = (
    "SELECT r.workflow_id FROM {s}onex_runs r JOIN {s}workflow_status w ON w.workflow_uuid = r.workflow_id "
    "WHERE w.completed_at < :when AND w.status NOT IN ('ENQUEUED', 'DELAYED', 'PENDING') "
    "AND NOT (w.status = 'CANCELLED' AND r.wanted IS NOT NULL) "
    "AND NOT EXISTS (SELECT 1 FROM {s}onex_runs p WHERE p.workflow_id = r.parent_id) "
    "ORDER BY w.completed_at LIMIT :limit"
)
_STANDS: Final = (
    "SELECT w.owner_xid, w.status, r.deduplication_key FROM {s}onex_runs r JOIN {s}workflow_status w "
    "ON w.workflow_uuid = r.workflow_id WHERE r.workflow_id = :id"
)
_HAS_KEY: Final = (
    "SELECT r.workflow_id FROM {s}onex_runs r JOIN {s}workflow_status w ON w.workflow_uuid = r.workflow_id "
    "WHERE r.deduplication_key = :key AND r.workflow_id <> :id AND (w.status IN ('ENQUEUED', 'DELAYED', 'PENDING') "
    "OR (w.status = 'CANCELLED' AND r.wanted IS NOT NULL)) LIMIT 1"
)
_CANCEL: Final = (
    "UPDATE {s}workflow_status SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, "
    "started_at_epoch_ms = NULL, updated_at = {now_ms}, completed_at = {now_ms} WHERE workflow_uuid IN :ids "
    "AND (status IN ('ENQUEUED', 'DELAYED', 'PENDING') OR (status = 'CANCELLED' AND EXISTS (SELECT 1 FROM "
    "{s}onex_runs r WHERE r.workflow_id = workflow_uuid AND r.wanted IS NOT NULL))) RETURNING workflow_uuid"
)
_FORGET_RECORDS: Final = (
    "DELETE FROM {s}operation_outputs WHERE workflow_uuid = :id AND function_id >= :first AND function_id < :below"
)
_FORGET_SIGNALS: Final = (
    "UPDATE {s}onex_signals SET taken_by = NULL WHERE workflow_id = :id AND taken_by >= :first AND taken_by < :below"
)
_OUR_TABLES: Final = {
    "onex_bundles": "digest VARCHAR(64) PRIMARY KEY, root TEXT NOT NULL, files TEXT NOT NULL",
    "onex_runs": """workflow_id TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL,
        digest VARCHAR(64) NOT NULL, input_hash VARCHAR(64) NOT NULL, input TEXT NOT NULL, queue TEXT NOT NULL,
        priority INTEGER NOT NULL, attributes TEXT NOT NULL, deduplication_key TEXT, parent_id TEXT,
        parent_position INTEGER, wanted TEXT, progress TEXT, cuts TEXT NOT NULL, fence BIGINT NOT NULL,
        created DOUBLE PRECISION NOT NULL""",
    "onex_signals": """number {serial}, workflow_id TEXT NOT NULL, topic TEXT NOT NULL, signal_key TEXT,
        payload TEXT NOT NULL, sender TEXT, taken_by INTEGER, UNIQUE (workflow_id, topic, signal_key)""",
    "onex_schedules": """name TEXT PRIMARY KEY, cron TEXT NOT NULL, timezone TEXT NOT NULL,
        digest VARCHAR(64) NOT NULL, input TEXT NOT NULL, paused INTEGER NOT NULL, next_at DOUBLE PRECISION""",
    "onex_executors": """token {serial}, executor_id TEXT NOT NULL, holder TEXT NOT NULL,
        expires DOUBLE PRECISION NOT NULL""",
}
_INDEXES: Final = {
    "onex_runs_created": "onex_runs (created)",
    "onex_runs_parent": "onex_runs (parent_id)",
    "onex_runs_key": "onex_runs (deduplication_key)",
    "onex_executors_id": "onex_executors (executor_id)",
}
_CHILDREN: Final = "SELECT workflow_id FROM {s}onex_runs WHERE parent_id IN :ids"
_GOES_ON: Final = frozenset({"ENQUEUED", "DELAYED", "PENDING"})
_ENDED_WELL: Final = frozenset({EnumStepStatus.COMPLETED, EnumStepStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an execution starts from. cuts: what was begun anew (`workflow_anew`), in order."""

    bundle: WorkflowBundle
    input_data: JsonValue
    wanted: str | None
    cuts: tuple[int, ...]
    journal: dict[int, StepRecord]


class WorkflowTables:
    """Statements on an engine; each method is one transaction and blocks."""

    def __init__(self, engine: "sa.Engine", schema: str) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._schema = "" if self.is_sqlite else f'"{schema}".'
        self.now = (
            "((julianday('now') - 2440587.5) * 86400.0)" if self.is_sqlite else "extract(epoch FROM clock_timestamp())"
        )
        self._now_ms = f"CAST({self.now} * 1000 AS BIGINT)"

    def text(self, query: str) -> "sa.TextClause":
        import sqlalchemy as sa

        return sa.text(query.replace("{s}", self._schema).replace("{now}", self.now).replace("{now_ms}", self._now_ms))

    @contextmanager
    def writing(self) -> "Iterator[sa.Connection]":
        """A transaction that writes; on SQLite it is the only one from its first statement on."""
        with self.engine.begin() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def rows(self, query: str, **params: SqlValue) -> list[Row]:
        with self.engine.connect() as connection:
            return self.rows_in(connection, query, **params)

    def rows_in(self, connection: "sa.Connection", query: str, **params: SqlValue) -> list[Row]:
        return [dict(row) for row in connection.execute(self.text(query), params).mappings()]

    def change(self, query: str, **params: SqlValue) -> int:
        with self.writing() as connection:
            return self.change_in(connection, query, **params)

    def change_in(self, connection: "sa.Connection", query: str, **params: SqlValue) -> int:
        return connection.execute(self.text(query), params).rowcount

    def make(self) -> None:
        """Make our tables where they are not there. Several processes may do so at once."""
        serial = (
            "INTEGER PRIMARY KEY AUTOINCREMENT" if self.is_sqlite else "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        )
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(716273001)")
            for table, columns in _OUR_TABLES.items():
                made = f"CREATE TABLE IF NOT EXISTS {{s}}{table} ({columns})"
                connection.execute(self.text(made.replace("{serial}", serial)))
            for index, columns in _INDEXES.items():
                connection.execute(self.text(f"CREATE INDEX IF NOT EXISTS {index} ON {{s}}{columns}"))

    # what a run is

    def put_bundle(self, connection: "sa.Connection", bundle: WorkflowBundle) -> None:
        self.change_in(
            connection,
            "INSERT INTO {s}onex_bundles (digest, root, files) VALUES (:digest, :root, :files) "
            "ON CONFLICT (digest) DO NOTHING",
            digest=bundle.digest,
            root=bundle.root,
            files=json.dumps(dict(bundle.files)),
        )

    def bundle(self, digest: str) -> WorkflowBundle:
        row = self.rows("SELECT * FROM {s}onex_bundles WHERE digest = :digest", digest=digest)[0]
        return bundle_of(row)

    def insert_run(
        self, connection: "sa.Connection", request: StartRequest, names: tuple[str, str], queue: str
    ) -> bool:
        """Write a run down; False when it is there already, with the same input. Raises CONFLICT for another one, and
        for a deduplication key that a run has which has not ended.
        """
        hashed = hash_of(request).hex()
        new = self.change_in(
            connection,
            "INSERT INTO {s}onex_runs (workflow_id, name, version, digest, input_hash, input, queue, priority, "
            "attributes, deduplication_key, parent_id, parent_position, cuts, fence, created) VALUES (:workflow_id, "
            ":name, :version, :digest, :input_hash, :input, :queue, :priority, :attributes, :key, :parent_id, "
            ":parent_position, '[]', 0, {now}) ON CONFLICT (workflow_id) DO NOTHING",
            workflow_id=request.workflow_id,
            name=names[0],
            version=names[1],
            digest=request.bundle.digest,
            input_hash=hashed,
            input=json_of(request.input_data, f"The input of workflow {request.workflow_id!r}"),
            queue=queue,
            priority=request.priority,
            attributes=json_of(dict(request.attributes), f"Attributes of workflow {request.workflow_id!r}"),
            key=request.deduplication_key,
            parent_id=request.parent_id,
            parent_position=request.parent_position,
        )
        if new:
            self._claim(connection, request.workflow_id, request.deduplication_key)
            return True
        found = self.rows_in(
            connection, "SELECT input_hash FROM {s}onex_runs WHERE workflow_id = :id", id=request.workflow_id
        )
        if found[0]["input_hash"] != hashed:
            message = (
                f"Start of workflow {request.workflow_id!r}: a run of this id was started with another input or "
                "contract. The same id is the same run; choose another id for this one."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.CONFLICT, {"workflow_id": request.workflow_id})
        return False

    def _claim(self, connection: "sa.Connection", workflow_id: str, key: SqlValue) -> None:
        """Let a run have its deduplication key. Raises CONFLICT when another one that has not ended has it."""
        if key is None:
            return
        if not self.is_sqlite:  # of two that claim it at once, the second one sees the first
            self.rows_in(connection, "SELECT pg_advisory_xact_lock(hashtextextended(:key, 716273001))", key=key)
        if found := self.rows_in(connection, _HAS_KEY, key=key, id=workflow_id):
            message = (
                f"Workflow {workflow_id!r} does not go on: {found[0]['workflow_id']!r}, which has the deduplication "
                f"key {key!r} too, has not ended. Wait for it, or cancel it."
            )
            raise ModelOnexError(message, EnumCoreErrorCode.CONFLICT, {"workflow_id": workflow_id})

    def owns(self, connection: "sa.Connection", workflow_id: str, owner: str) -> bool:
        """Whether this execution has the run, and keeps it to the end of the transaction."""
        lock = "" if self.is_sqlite else " FOR SHARE OF w"
        found = self.rows_in(connection, _STANDS + lock, id=workflow_id)
        return bool(found) and found[0]["owner_xid"] == owner

    def load(self, workflow_id: str, token: int) -> Loaded:
        """What an execution under this fencing token starts from; older tokens write no progress from now on."""
        with self.writing() as connection:
            self.change_in(
                connection,
                "UPDATE {s}onex_runs SET fence = :token WHERE workflow_id = :id AND fence <= :token",
                token=token,
                id=workflow_id,
            )
            row = self.rows_in(
                connection,
                "SELECT r.*, b.root, b.files FROM {s}onex_runs r JOIN {s}onex_bundles b ON b.digest = r.digest "
                "WHERE r.workflow_id = :id",
                id=workflow_id,
            )[0]
            journal = {record.position: record for record in self._journal(connection, workflow_id)}
        return Loaded(
            bundle_of(row),
            json.loads(text_of(row["input"])),
            None if row["wanted"] is None else text_of(row["wanted"]),
            tuple(json.loads(text_of(row["cuts"]))),
            journal,
        )

    def journal(self, workflow_id: str) -> list[StepRecord]:
        with self.engine.connect() as connection:
            return self._journal(connection, workflow_id)

    def _journal(self, connection: "sa.Connection", workflow_id: str) -> list[StepRecord]:
        rows = self.rows_in(
            connection,
            "SELECT function_id, function_name, output FROM {s}operation_outputs "
            "WHERE workflow_uuid = :id AND output IS NOT NULL ORDER BY function_id",
            id=workflow_id,
        )
        return [
            StepRecord(
                int(text_of(row["function_id"])),
                text_of(row["function_name"]),
                StepOutcome.from_json(json.loads(text_of(row["output"]))),
            )
            for row in rows
        ]

    def run(self, workflow_id: str) -> RunView | None:
        rows = self.rows(_RUN + "WHERE r.workflow_id = :id", id=workflow_id)
        return view_of(rows[0]) if rows else None

    def runs(self, which: RunFilter) -> list[RunView]:
        conditions, params = ["1 = 1"], dict[str, SqlValue]()
        if which.name is not None:
            conditions.append("r.name = :name")
            params["name"] = which.name
        if which.status is not None:
            conditions.append(_ASKED[which.status])
        if which.created_after is not None:
            conditions.append("r.created > :after")
            params["after"] = which.created_after.timestamp()
        if which.created_before is not None:
            conditions.append("r.created < :before")
            params["before"] = which.created_before.timestamp()
        if which.parent_id is not None:
            conditions.append("r.parent_id = :parent")
            params["parent"] = which.parent_id
        for number, (name, value) in enumerate(which.attributes.items()):
            if self.is_sqlite:
                conditions.append(_HAS_ATTRIBUTE.replace("#", str(number)))
                params |= {f"n{number}": name, f"v{number}": json.dumps(value)}
            else:
                conditions.append(f"CAST(r.attributes AS jsonb) @> CAST(:v{number} AS jsonb)")
                params[f"v{number}"] = json.dumps({name: value})
        params["limit"] = which.limit
        query = f"{_RUN} WHERE {' AND '.join(conditions)} ORDER BY r.created DESC, r.workflow_id DESC LIMIT :limit"
        return [view_of(row) for row in self.rows(query, **params)]

    # moving a run

    def hand_over(self, workflow_id: str, owner: str, status: str) -> bool:
        """Let go of a run that this execution still owns: for another one (`ENQUEUED`), or paused (`CANCELLED`)."""
        return bool(
            self.change(
                "UPDATE {s}workflow_status SET status = :status, owner_xid = NULL, started_at_epoch_ms = NULL, "
                "recovery_attempts = 0, queue_name = COALESCE(queue_name, :queue), updated_at = {now_ms} "
                "WHERE workflow_uuid = :id AND status = 'PENDING' AND owner_xid = :owner",
                status=status,
                queue=_INTERNAL_QUEUE,
                id=workflow_id,
                owner=owner,
            )
        )

    def want_end(self, workflow_id: str) -> list[str]:
        """Let a run and what it has started come to their end. Returns those that a process has at this moment."""
        for each in self._family(workflow_id):
            self.want_pause(each, ENDING)
        statuses = self.statuses(self._family(workflow_id))
        return [each for each, status in statuses.items() if status == "PENDING"]

    def want_pause(self, workflow_id: str, wanted: str = PAUSED) -> None:
        """Let a run stop at its next boundary; at once where no process has it."""
        with self.writing() as connection:
            self.change_in(
                connection,
                "UPDATE {s}onex_runs SET wanted = :wanted WHERE workflow_id = :id AND EXISTS (SELECT 1 FROM "
                "{s}workflow_status w WHERE w.workflow_uuid = :id AND w.status IN ('ENQUEUED', 'DELAYED', 'PENDING'))",
                wanted=wanted,
                id=workflow_id,
            )
            self.change_in(
                connection,
                "UPDATE {s}workflow_status SET status = 'CANCELLED', owner_xid = NULL, updated_at = {now_ms} "
                "WHERE workflow_uuid = :id AND (status IN ('ENQUEUED', 'DELAYED') OR (status = 'PENDING' AND NOT "
                "EXISTS (SELECT 1 FROM {s}onex_executors e WHERE e.executor_id = {s}workflow_status.executor_id "
                "AND e.expires > {now})))",
                id=workflow_id,
            )

    def go_on(self, view: RunView) -> bool:
        """Queue a run that was paused, cancelled or has failed. Of the latter what did not end well is done again, and
        what was undone too; the time of the run begins anew. False when it goes on already. Raises CONFLICT when its
        deduplication key is another run's by now.
        """
        workflow_id = view.workflow_id
        with self.writing() as connection:
            found = self._locked(connection, workflow_id)
            if found["status"] in _GOES_ON:
                return False
            self._claim(connection, workflow_id, found["deduplication_key"])
            self.change_in(connection, "UPDATE {s}onex_runs SET wanted = NULL WHERE workflow_id = :id", id=workflow_id)
            if view.status is not EnumRunStatus.PAUSED:
                self._drop(connection, workflow_id, 0, 1)
                undone = undone_in(view.output)
                records = self._journal(connection, workflow_id)
                anew: list[int] = []
                for record in records:
                    was_undone = record.name.partition("[")[0] in undone
                    if was_undone:
                        anew.append(undone_at(record.position))
                    elif record.outcome.status is EnumStepStatus.FAILED:
                        anew.append(failed_at(record.position))
                    if was_undone or record.outcome.status not in _ENDED_WELL:
                        self._drop(connection, workflow_id, record.position, record.position + 1)
                        block = record.position // BLOCK
                        for note in records:
                            if note.position // BLOCK == block and note.name.startswith(NOTE):
                                self._drop(connection, workflow_id, note.position, note.position + 1)
                if anew:
                    self._begin_anew(connection, workflow_id, anew)
            self._queue_again(connection, workflow_id)
            return True

    def _locked(self, connection: "sa.Connection", workflow_id: str) -> Row:
        lock = "" if self.is_sqlite else " FOR UPDATE OF w"
        return self.rows_in(connection, _STANDS + lock, id=workflow_id)[0]

    def _queue_again(self, connection: "sa.Connection", workflow_id: str) -> None:
        self.change_in(connection, "DELETE FROM {s}workflow_output WHERE workflow_uuid = :id", id=workflow_id)
        self.change_in(
            connection,
            "UPDATE {s}workflow_status SET status = CASE WHEN delay_until_epoch_ms > {now_ms} THEN 'DELAYED' "
            "ELSE 'ENQUEUED' END, owner_xid = NULL, recovery_attempts = 0, "
            "queue_name = (SELECT r.queue FROM {s}onex_runs r WHERE r.workflow_id = :id), "
            "started_at_epoch_ms = NULL, completed_at = NULL, output = NULL, error = NULL, updated_at = {now_ms} "
            "WHERE workflow_uuid = :id",
            id=workflow_id,
        )

    def _drop(self, connection: "sa.Connection", workflow_id: str, first: int, below: int) -> None:
        """Forget records of these positions, and give back the signals that they took."""
        for query in (_FORGET_RECORDS, _FORGET_SIGNALS):
            self.change_in(connection, query, id=workflow_id, first=first, below=below)

    def continue_as_new(self, workflow_id: str, owner: str, input_data: JsonValue) -> bool:
        """Forget what a run recorded and queue it with another input, if this execution still has it."""
        with self.writing() as connection:
            if self._locked(connection, workflow_id)["owner_xid"] != owner:
                return False
            self.change_in(
                connection,
                "UPDATE {s}onex_runs SET input = :input WHERE workflow_id = :id",
                input=json_of(input_data, f"The new input of workflow {workflow_id!r}"),
                id=workflow_id,
            )
            self._begin_from(connection, workflow_id, 0)
            return True

    def rewind(self, workflow_id: str, cut: int) -> list[str]:
        """Forget what a run recorded from position `cut` on and queue it. What it has started from there on is
        cancelled: it will start it anew. Returns these runs. Raises CONFLICT as `go_on` does.
        """
        with self.writing() as connection:
            found = self._locked(connection, workflow_id)
            self._claim(connection, workflow_id, found["deduplication_key"])
            children = self.rows_in(
                connection,
                "SELECT workflow_id FROM {s}onex_runs WHERE parent_id = :id AND parent_position >= :cut",
                id=workflow_id,
                cut=cut,
            )
            ended = self._cancel(connection, [text_of(row["workflow_id"]) for row in children])
            self._begin_from(connection, workflow_id, cut)
            return ended

    def _begin_from(self, connection: "sa.Connection", workflow_id: str, cut: int) -> None:
        self._drop(connection, workflow_id, 0, 1)
        self._drop(connection, workflow_id, cut, 1 << 31)
        self._begin_anew(connection, workflow_id, [cut])
        self._queue_again(connection, workflow_id)

    def _begin_anew(self, connection: "sa.Connection", workflow_id: str, entries: Sequence[int]) -> None:
        found = self.rows_in(connection, "SELECT cuts FROM {s}onex_runs WHERE workflow_id = :id", id=workflow_id)[0]
        self.change_in(
            connection,
            "UPDATE {s}onex_runs SET cuts = :cuts, wanted = NULL WHERE workflow_id = :id",
            cuts=json.dumps([*json.loads(text_of(found["cuts"])), *entries]),
            id=workflow_id,
        )

    def copy_records(self, connection: "sa.Connection", source: str, target: str, cut: int) -> None:
        self.change_in(
            connection,
            "INSERT INTO {s}operation_outputs (workflow_uuid, function_id, function_name, output, error, "
            "child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms, serialization, application_name, "
            "retention_timestamp) SELECT :target, function_id, function_name, output, error, child_workflow_id, "
            "started_at_epoch_ms, completed_at_epoch_ms, serialization, application_name, {now_ms} "
            "FROM {s}operation_outputs WHERE workflow_uuid = :source AND function_id < :cut AND function_id <> 0",
            source=source,
            target=target,
            cut=cut,
        )

    def cancel(self, workflow_ids: Sequence[str]) -> list[str]:
        """Cancel runs, their children and the children of these. Returns those that had not ended."""
        with self.writing() as connection:
            return self._cancel(connection, workflow_ids)

    def cancel_children(self, workflow_id: str) -> list[str]:
        """Cancel what a run has started, as `cancel` does."""
        with self.writing() as connection:
            children = self._in(connection, _CHILDREN, [workflow_id])
            return self._cancel(connection, [text_of(row["workflow_id"]) for row in children])

    def _cancel(self, connection: "sa.Connection", workflow_ids: Sequence[str]) -> list[str]:
        """Parents first: what is cancelled starts nothing any more (`owns`), so no child is overlooked."""
        ended, seen = list[str](), set[str]()
        level = sorted(workflow_ids)
        while level:
            seen.update(level)
            now = [text_of(row["workflow_uuid"]) for row in self._in(connection, _CANCEL, level)]
            self._in(connection, "UPDATE {s}onex_runs SET wanted = NULL WHERE workflow_id IN :ids", now)
            ended += now
            children = self._in(connection, _CHILDREN, level)
            level = sorted({text_of(row["workflow_id"]) for row in children} - seen)
        return ended

    def _family(self, workflow_id: str) -> list[str]:
        """A run, its children, and the children of these, ended or not."""
        found, level = [workflow_id], [workflow_id]
        with self.engine.connect() as connection:
            while level:
                children = [text_of(row["workflow_id"]) for row in self._in(connection, _CHILDREN, level)]
                level = sorted(set(children) - set(found))
                found += level
        return found

    def _in(self, connection: "sa.Connection", query: str, ids: Sequence[str]) -> list[Row]:
        import sqlalchemy as sa

        found: list[Row] = []
        statement = self.text(query).bindparams(sa.bindparam("ids", expanding=True))
        for start in range(0, len(ids), 500):
            part = connection.execute(statement, {"ids": list(ids[start : start + 500])})
            if part.returns_rows:
                found += [dict(row) for row in part.mappings()]
        return found

    # what happens to the runs of this process

    def mine(self, executor_id: str) -> dict[str, str | None]:
        """The runs that the database says this process has, and what is wanted of each."""
        rows = self.rows(
            "SELECT r.workflow_id, r.wanted FROM {s}workflow_status w JOIN {s}onex_runs r "
            "ON r.workflow_id = w.workflow_uuid WHERE w.status = 'PENDING' AND w.executor_id = :me",
            me=executor_id,
        )
        return {text_of(row["workflow_id"]): None if row["wanted"] is None else text_of(row["wanted"]) for row in rows}

    def statuses(self, workflow_ids: Sequence[str]) -> dict[str, str]:
        query = "SELECT workflow_uuid, status FROM {s}workflow_status WHERE workflow_uuid IN :ids"
        with self.engine.connect() as connection:
            rows = self._in(connection, query, workflow_ids)
        return {text_of(row["workflow_uuid"]): text_of(row["status"]) for row in rows}

    def write_progress(self, progress: Mapping[str, JsonValue], token: int) -> None:
        with self.writing() as connection:
            for workflow_id, value in progress.items():
                self.change_in(
                    connection,
                    "UPDATE {s}onex_runs SET progress = :progress WHERE workflow_id = :id AND fence = :token",
                    progress=json.dumps(value),
                    id=workflow_id,
                    token=token,
                )

    # the end

    def ended_before(self, when: datetime, limit: int) -> list[str]:
        """Runs that ended before. A child stays for as long as its parent is there, which may go on and ask for it."""
        rows = self.rows(_ENDED_BEFORE, when=int(when.timestamp() * 1000), limit=limit)
        return [text_of(row["workflow_id"]) for row in rows]

    def forget_runs(self, workflow_ids: Sequence[str]) -> None:
        """Delete what we keep of runs, and texts that nobody needs any more."""
        with self.writing() as connection:
            for workflow_id in workflow_ids:
                for table in ("onex_runs", "onex_signals"):
                    self.change_in(connection, f"DELETE FROM {{s}}{table} WHERE workflow_id = :id", id=workflow_id)  # noqa: S608  # constants
            self.change_in(
                connection,
                "DELETE FROM {s}onex_bundles WHERE digest NOT IN (SELECT digest FROM {s}onex_runs) "
                "AND digest NOT IN (SELECT digest FROM {s}onex_schedules)",
            )
