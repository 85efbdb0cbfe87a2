"""When a schedule's runs are: cron expressions in a time zone, by croniter."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule
from omnibase_core.utils.workflow_schedule import cron_problems, zone_problem

_EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
"""In every zone there is a day before."""


def next_time(schedule: Schedule, after: float) -> datetime | None:
    """The first time of a schedule behind `after` (seconds since 1970), in UTC; None when there is none.

    Raises VALIDATION_ERROR for an expression or a zone that no contract could have.
    """
    return next(_times(schedule, max(datetime.fromtimestamp(after, UTC), _EARLIEST)), None)


def times_between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The times of a schedule from `start` to `end`, both included, in UTC."""
    found: list[datetime] = []
    for moment in _times(schedule, max(start, _EARLIEST) - timedelta(milliseconds=1)):
        if moment > end:
            break
        found.append(moment)
    return found


def with_next(schedule: Schedule, after: float) -> Schedule:
    """The schedule with its next time. Raises VALIDATION_ERROR as `next_time` does, and when there is none."""
    due = next_time(schedule, after)
    if due is None:
        raise _refused(schedule, "it never falls due")
    return replace(schedule, next_at=due)


def _refused(schedule: Schedule, why: str) -> ModelOnexError:
    message = f"schedule {schedule.name!r}: cron {schedule.cron!r} in zone {schedule.timezone!r}: {why}"
    return ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def _times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    try:
        from croniter import CroniterBadCronError, CroniterBadDateError, croniter
    except ImportError:
        raise ModelOnexError(
            "schedules need the package croniter; pip install 'omnibase[workflow]'",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        ) from None
    for problem in (*cron_problems(schedule.cron), zone_problem(schedule.timezone)):
        if problem:
            raise _refused(schedule, problem)
    zone = ZoneInfo(schedule.timezone)
    try:
        times = croniter(schedule.cron, after.astimezone(zone))
    except CroniterBadCronError as error:
        raise _refused(schedule, str(error)) from None
    except OverflowError:  # the calendar ends
        return
    each_hour = "*" in schedule.cron.split()[1]
    last = after
    while True:
        try:
            moment: datetime = times.get_next(datetime)
            due = moment.astimezone(UTC)
        except (CroniterBadDateError, OverflowError):
            return
        comes_again = moment.astimezone(zone).fold == 1 and not each_hour
        if due > last and not comes_again:  # clocks were put back: 2:30 was an hour ago already
            last = due
            yield due
