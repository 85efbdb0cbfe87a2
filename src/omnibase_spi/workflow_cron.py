"""When a schedule's runs are: cron expressions in a time zone, by croniter."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule


def next_time(schedule: Schedule, after: float) -> datetime | None:
    """The first time of a schedule behind `after` (seconds since 1970), in UTC; None when there is none.

    Raises VALIDATION_ERROR for an expression or a zone that cannot be read.
    """
    return next(_times(schedule, datetime.fromtimestamp(after, UTC)), None)


def times_between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The times of a schedule from `start` to `end`, both included, in UTC."""
    found: list[datetime] = []
    for moment in _times(schedule, datetime.fromtimestamp(start.timestamp() - 1e-3, UTC)):
        if moment > end:
            break
        found.append(moment)
    return found


def with_next(schedule: Schedule, after: float) -> Schedule:
    """The schedule with its next time."""
    return replace(schedule, next_at=next_time(schedule, after))


def _times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    try:
        from croniter import CroniterBadCronError, CroniterBadDateError, croniter
    except ImportError:
        raise ModelOnexError(
            "schedules need the package croniter; pip install 'omnibase[workflow]'",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        ) from None
    try:
        zone = ZoneInfo(schedule.timezone)
        times = croniter(schedule.cron, after.astimezone(zone))
    except (ZoneInfoNotFoundError, CroniterBadCronError, ValueError) as error:
        raise ModelOnexError(
            f"schedule {schedule.name!r}: cron {schedule.cron!r} in zone {schedule.timezone!r} cannot be read: {error}",
            EnumCoreErrorCode.VALIDATION_ERROR,
        ) from None
    each_hour = "*" in schedule.cron.split()[1]
    last = after
    while True:
        try:
            moment: datetime = times.get_next(datetime)
        except CroniterBadDateError:
            return
        due = moment.astimezone(UTC)
        comes_again = moment.astimezone(zone).fold == 1 and not each_hour
        if due > last and not comes_again:  # clocks were put back: 2:30 was an hour ago already
            last = due
            yield due
