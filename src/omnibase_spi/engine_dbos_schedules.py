"""Runs by the clock. Each run is `<name>-<time>`, so that of all the workers that see it due, one starts it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule, StartRequest, WorkflowBundle
from omnibase_spi.engine_dbos_tables import Row, WorkflowTables

_MOST: Final = 10_000
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
        rows = self._tables.rows(_WITH_TEXTS + "WHERE s.name = :name", name=name)
        if not rows:
            raise ModelOnexError(f"Schedule {name!r} is unknown.", EnumCoreErrorCode.NOT_FOUND, {"schedule": name})
        return _schedule(rows[0])

    def put(self, schedule: Schedule) -> None:
        """Keep a schedule, in place of one of its name; it goes on from now. Raises VALIDATION_ERROR."""
        due = schedule.next_at or next(_times(schedule, datetime.now(UTC)))
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
                input=json.dumps(schedule.input_data),
                paused=int(schedule.paused),
                next_at=due.timestamp(),
            )

    def delete(self, name: str) -> None:
        if not self._tables.change("DELETE FROM {s}onex_schedules WHERE name = :name", name=name):
            raise ModelOnexError(f"Schedule {name!r} is unknown.", EnumCoreErrorCode.NOT_FOUND, {"schedule": name})

    def due(self) -> Iterator[tuple[Schedule, StartRequest]]:
        """Schedules whose time has come, each with the run to be started; `done` moves it on.

        After a time in which nobody looked the last run that was missed is started; `backfill` starts the others.
        """
        rows = self._tables.rows(_WITH_TEXTS + "WHERE s.paused = 0 AND s.next_at <= {now}")
        for row in rows:
            schedule = _schedule(row)
            if schedule.next_at is not None:
                now = datetime.now(UTC)
                missed = [schedule.next_at, *self.times(schedule, schedule.next_at, now)]
                yield schedule, self.run_of(schedule, missed[-1])

    def done(self, schedule: Schedule) -> None:
        """Move a schedule that was due on to its next time."""
        if schedule.next_at is not None:
            self._tables.change(
                "UPDATE {s}onex_schedules SET next_at = :next WHERE name = :name AND next_at <= {now}",
                next=next(_times(schedule, datetime.now(UTC))).timestamp(),
                name=schedule.name,
            )

    @staticmethod
    def times(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
        """The times after `start` up to `end`. Raises VALIDATION_ERROR for more than 10,000."""
        found: list[datetime] = []
        for at in _times(schedule, start):
            if at > end:
                break
            found.append(at)
            if len(found) > _MOST:
                message = f"Schedule {schedule.name!r}: more than {_MOST} runs between {start} and {end}; ask for less."
                raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
        return found

    @staticmethod
    def run_of(schedule: Schedule, at: datetime) -> StartRequest:
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return StartRequest(
            f"{schedule.name}-{stamp}",
            schedule.bundle,
            schedule.input_data,
            attributes={"schedule": schedule.name},
        )


def _times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The times of a schedule after a moment, without end. Raises VALIDATION_ERROR for what cannot be read."""
    try:
        from croniter import croniter
    except ImportError as error:
        message = f"Schedules need croniter ({error}). Install it: pip install 'omnibase[workflow]'."
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR) from error
    try:
        zone = ZoneInfo(schedule.timezone)
        times = croniter(
            schedule.cron,
            after.astimezone(zone),
            ret_type=datetime,
            second_at_beginning=len(schedule.cron.split()) == 6,
        )
    except (ValueError, KeyError, OSError) as error:
        message = (
            f"Schedule {schedule.name!r}: {schedule.cron!r} in the zone {schedule.timezone!r} cannot be read "
            f"({error}). Give five or six fields such as '0 3 * * *', and an IANA name such as 'Europe/Berlin'."
        )
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR) from error
    while True:
        yield times.get_next(datetime).astimezone(UTC)


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


def paused(schedule: Schedule, *, yes: bool) -> Schedule:
    """The schedule, paused or going on."""
    return replace(schedule, paused=yes)
