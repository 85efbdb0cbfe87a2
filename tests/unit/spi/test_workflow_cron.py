"""When the runs of schedules are, and which schedules are none."""

from datetime import UTC, datetime, timedelta

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule
from omnibase_spi.workflow_cron import next_time, times_between, with_next
from tests.support.workflows import BUNDLE

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "words"),
    [
        ("@daily", "UTC", "five fields are wanted"),
        ("* * * * * * *", "UTC", "five fields are wanted"),
        ("61 * * * *", "UTC", "minute: '61' is not within 0..59"),
        ("* * * * *", "Europe", "there is no time zone 'Europe'"),
        ("* * * * *", "Europe/Nowhere", "there is no time zone"),
        ("0 3 31 2 *", "UTC", "no day"),
    ],
)
def test_a_schedule_that_is_none_is_refused(cron: str, zone: str, words: str) -> None:
    """By the rules for schedules in contracts."""
    with pytest.raises(ModelOnexError, match=words) as found:
        with_next(Schedule("s", cron, BUNDLE, zone), NOW.timestamp())

    assert found.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


def test_a_leap_day_comes() -> None:
    """In some years."""
    assert with_next(Schedule("s", "0 3 29 2 *", BUNDLE), NOW.timestamp()).next_at == datetime(
        2028, 2, 29, 3, tzinfo=UTC
    )


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_times_are_found_from_the_first_to_the_last_year(zone: str) -> None:
    """Where the calendar ends, so do the times."""
    daily = Schedule("s", "0 3 * * *", BUNDLE, zone)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(microsecond=0, tzinfo=UTC)

    assert next_time(daily, first.timestamp()) is not None
    assert next_time(daily, last.timestamp()) is None
    assert len(times_between(daily, first, first + timedelta(days=10))) >= 7
    assert len(times_between(daily, last - timedelta(days=10), last)) >= 9
