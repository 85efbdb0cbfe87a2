"""Runs by the clock, of the engine in memory: a timer for each schedule, set anew when it has gone off."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule, StartRequest
from omnibase_spi.engine_memory_store import MemoryRun, MemoryStore
from omnibase_spi.workflow_checks import check_schedule
from omnibase_spi.workflow_cron import next_time, times_between, with_next


class ScheduleHost(Protocol):
    """What schedules need of their engine."""

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def refuses(self) -> bool: ...

    def at(self, key: str, seconds: float, what: Callable[[], None]) -> None: ...

    def unset(self, key: str) -> None: ...

    def begin_once(self, request: StartRequest) -> MemoryRun: ...


class MemorySchedules:
    """The schedules of a store."""

    def __init__(self, host: ScheduleHost, store: MemoryStore) -> None:
        self._host = host
        self._store = store

    def take_up(self) -> None:
        """Set the timers of what the store has."""
        for schedule in list(self._store.schedules.values()):
            self._arm(schedule)

    def all(self) -> list[Schedule]:
        """By name."""
        return [self._store.schedules[name] for name in sorted(self._store.schedules)]

    def put(self, schedule: Schedule) -> None:
        """Keep a schedule, in place of one of its name; it goes on from now. Raises VALIDATION_ERROR."""
        check_schedule(schedule)
        self._arm(with_next(schedule, self._host.clock()))

    def delete(self, name: str) -> None:
        """Forget a schedule. Raises NOT_FOUND."""
        self._one(name)
        del self._store.schedules[name]
        self._host.unset(f"schedule/{name}")

    def trigger(self, name: str) -> MemoryRun:
        """A run of it now. Raises NOT_FOUND."""
        return self._run(self._one(name), datetime.fromtimestamp(self._host.clock(), UTC))

    def backfill(self, name: str, start: datetime, end: datetime) -> list[MemoryRun]:
        """The runs of a time; those that were started are not started again. Raises NOT_FOUND."""
        schedule = self._one(name)
        return [self._run(schedule, due) for due in times_between(schedule, start, end)]

    def _one(self, name: str) -> Schedule:
        schedule = self._store.schedules.get(name)
        if schedule is None:
            raise ModelOnexError(f"there is no schedule {name!r}", EnumCoreErrorCode.NOT_FOUND, {"schedule": name})
        return schedule

    def _arm(self, schedule: Schedule) -> None:
        self._store.schedules[schedule.name] = schedule
        key = f"schedule/{schedule.name}"
        self._host.unset(key)
        if schedule.next_at is not None and not schedule.paused:
            self._host.at(key, schedule.next_at.timestamp() - self._host.clock(), lambda: self._fire(schedule.name))

    def _fire(self, name: str) -> None:
        schedule = self._store.schedules.get(name)
        if schedule is None or schedule.next_at is None or self._host.refuses:
            return
        due = schedule.next_at
        if due.timestamp() <= self._host.clock():
            self._run(schedule, due)
            schedule = replace(schedule, next_at=next_time(schedule, max(due.timestamp(), self._host.clock())))
        self._arm(schedule)

    def _run(self, schedule: Schedule, due: datetime) -> MemoryRun:
        name = f"{schedule.name}-{due.isoformat()}"
        return self._host.begin_once(
            StartRequest(name, schedule.bundle, schedule.input_data, attributes={"schedule": schedule.name})
        )
