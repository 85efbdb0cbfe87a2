"""Runs by the clock. Each run is `<name>-<time>`, so that of all the workers that see it due, one starts it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule, StartRequest, WorkflowBundle
from omnibase_spi.engine_dbos_tables import WorkflowTables
from omnibase_spi.engine_dbos_views import Row
from omnibase_spi.workflow_checks import check_schedule, check_word, json_of
from omnibase_spi.workflow_cron import next_time, with_next

_WITH_TEXTS: Final = (
    "SELECT s.*, b.root, b.files FROM {s}onex_schedules s JOIN {s}onex_bundles b ON b.digest = s.digest "
)


class ScheduleTable:
    """The schedules of a store. Its methods block."""

    def __init__(self, tables: WorkflowTables) -> None:
        self._tables = tables

    def all(self) -> list[Schedule]:
        return [_schedule(row) for row in self._tables.rows(_WITH_TEXTS + "ORDER BY s.name")]

    def one(self, name: str) -> Schedule:
        check_word(name, "The name of a schedule")
        rows = self._tables.rows(_WITH_TEXTS + "WHERE s.name = :name", name=name)
        if not rows:
            raise ModelOnexError(f"Schedule {name!r} is unknown.", EnumCoreErrorCode.NOT_FOUND, {"schedule": name})
        return _schedule(rows[0])

    def put(self, schedule: Schedule) -> None:
        """Keep a schedule, in place of one of its name; it goes on from now. Raises VALIDATION_ERROR."""
        check_schedule(schedule)
        due = with_next(schedule, datetime.now(UTC).timestamp()).next_at
        tables = self._tables
        with tables.writing() as connection:
            tables.put_bundle(connection, schedule.bundle)
            tables.change_in(
                connection,
                "INSERT INTO {s}onex_schedules (name, cron, timezone, digest, input, paused, next_at) VALUES "
                "(:name, :cron, :timezone, :digest, :input, :paused, :next_at) ON CONFLICT (name) DO UPDATE SET "
                "cron = excluded.cron, timezone = excluded.timezone, digest = excluded.digest, input = excluded.input, "
                "paused = excluded.paused, next_at = excluded.next_at",
                name=schedule.name,
                cron=schedule.cron,
                timezone=schedule.timezone,
                digest=schedule.bundle.digest,
                input=json_of(schedule.input_data, f"The input of schedule {schedule.name!r}"),
                paused=int(schedule.paused),
                next_at=None if due is None else due.timestamp(),
            )

    def delete(self, name: str) -> None:
        check_word(name, "The name of a schedule")
        if not self._tables.change("DELETE FROM {s}onex_schedules WHERE name = :name", name=name):
            raise ModelOnexError(f"Schedule {name!r} is unknown.", EnumCoreErrorCode.NOT_FOUND, {"schedule": name})

    def due(self) -> Iterator[tuple[Schedule, StartRequest]]:
        """Schedules whose time has come, each with the run to be started; `done` moves it on.

        After a time in which nobody looked the first run that was missed is started; backfilling starts the others.
        """
        rows = self._tables.rows(_WITH_TEXTS + "WHERE s.paused = 0 AND s.next_at <= {now}")
        for row in rows:
            schedule = _schedule(row)
            if schedule.next_at is not None:
                yield schedule, self.run_of(schedule, schedule.next_at)

    def done(self, schedule: Schedule) -> None:
        """Move a schedule that was due on to its next time."""
        if schedule.next_at is not None:
            now = datetime.now(UTC).timestamp()
            following = next_time(schedule, max(now, schedule.next_at.timestamp()))
            self._tables.change(
                "UPDATE {s}onex_schedules SET next_at = :next WHERE name = :name AND next_at = :due",
                next=None if following is None else following.timestamp(),
                name=schedule.name,
                due=schedule.next_at.timestamp(),
            )

    @staticmethod
    def run_of(schedule: Schedule, at: datetime) -> StartRequest:
        return StartRequest(
            f"{schedule.name}-{at.astimezone(UTC).isoformat()}",
            schedule.bundle,
            schedule.input_data,
            attributes={"schedule": schedule.name},
        )


def _schedule(row: Row) -> Schedule:
    bundle = WorkflowBundle(str(row["root"]), json.loads(str(row["files"])), str(row["digest"]))
    due = row["next_at"]
    return Schedule(
        str(row["name"]),
        str(row["cron"]),
        bundle,
        str(row["timezone"]),
        json.loads(str(row["input"])),
        bool(row["paused"]),
        None if due is None else datetime.fromtimestamp(float(due), UTC),
    )
