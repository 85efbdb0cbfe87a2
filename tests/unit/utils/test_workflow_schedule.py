"""Which schedules are well-formed."""

import pytest

from omnibase_core.utils.workflow_schedule import cron_problems, zone_problem


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "0 2 * * 1-5",
        "*/10 8-18/2 1,15 JAN-MAR sun",
        "59 23 31 12 7",
        "0 0 * * * 30",
        "5-10,20 * * feb 0",
        "0 0 29 2 *",
    ],
)
def test_sound_expressions_have_no_problem(text: str) -> None:
    """Ranges, lists, steps, names in any case, seconds behind."""
    assert list(cron_problems(text)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found 0"),
        ("* * * *", "found 4"),
        ("* * * * * * *", "found 7"),
        ("60 * * * *", "minute: '60' is not within 0..59"),
        ("* 24 * * *", "hour: '24'"),
        ("* * 0 * *", "day of month: '0'"),
        ("* * * 13 *", "month: '13'"),
        ("* * * foo *", "month: 'foo' is not within"),
        ("* * * * 8", "day of week: '8'"),
        ("10-5 * * * *", "ends before it begins"),
        ("*/0 * * * *", "a step of 0"),
        ("*/99 * * * *", "a step of 99"),
        ("a-b-c * * * *", "is no number"),
        ("*-5 * * * *", "is not within"),
        ("99999999999 * * * *", "is not within"),
        (", * * * *", "is no number"),
        ("0 3 31 2 *", "no day of '31' comes in a month of '2'"),
        ("0 3 30-31 feb *", "never falls due"),
        ("0 3 31 apr,6,9/2 *", "never falls due"),
        ("0 3 30,31 2 1", "never falls due"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(text: str, words: str) -> None:
    """The field by name, and its bounds."""
    assert any(words in problem for problem in cron_problems(text))


@pytest.mark.parametrize("name", ["Mars", "../etc/passwd", "Europe/", "a\0b"])
def test_zones_that_do_not_exist_are_told(name: str) -> None:
    """Also names that could not be looked up."""
    assert "no time zone" in zone_problem(name)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/New_York"])
def test_zones_that_exist_are_fine(name: str) -> None:
    """By their IANA names."""
    assert zone_problem(name) == ""
