"""Schedules judged at load: fields of cron, and time zones. When the next run is, is the business of engines."""

import re
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LENGTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIELDS: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
    ("second", 0, 59, ()),
)
_PART: Final = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?")


def cron_problems(text: str) -> Iterator[str]:
    """What is wrong with an expression; ranges, lists, steps and names of months and days are known."""
    fields = text.split()
    if len(fields) not in {5, 6}:
        yield f"five fields are wanted (minute, hour, day of month, month, day of week), or six, found {len(fields)}"
        return
    sound = True
    for field, (name, low, high, names) in zip(fields, _FIELDS, strict=False):
        for problem in _field_problems(field, name, low, high, names):
            sound = False
            yield problem
    if sound and _first_day(fields[2]) > max(_LENGTHS[month - 1] for month in _months(fields[3])):
        yield f"day of month: no day of {fields[2]!r} comes in a month of {fields[3]!r}, so it never falls due"


def _field_problems(field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> Iterator[str]:
    for part in field.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            yield f"{name}: {part!r} is no number, range (1-5), step (*/10) or {'name' if names else 'list'}"
            continue
        ends = [_number(end, names, low) for end in (match[1], match[2]) if end not in {None, "*"}]
        if (match[1] == "*" and match[2]) or any(end is None or not low <= end <= high for end in ends):
            yield f"{name}: {part!r} is not within {low}..{high}"
        elif len(ends) == 2 and (ends[0] or 0) > (ends[1] or 0):
            yield f"{name}: {part!r} ends before it begins"
        elif match[3] is not None and not 1 <= int(match[3][:9]) <= high:
            yield f"{name}: a step of {match[3][:9]} is not within 1..{high}"


def _first_day(field: str) -> int:
    return min(1 if part.startswith("*") else int(re.split("[-/]", part)[0]) for part in field.split(","))


def _months(field: str) -> Iterator[int]:
    """The months of a field that is sound."""
    for part in field.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None or match[1] == "*":
            first, last = 1, 12
        else:
            first = _number(match[1], _MONTHS, 1) or 1
            last = 12 if match[3] and not match[2] else _number(match[2] or match[1], _MONTHS, 1) or 12
        yield from range(first, last + 1, int(match[3] or 1) if match else 1)


def _number(text: str, names: tuple[str, ...], low: int) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdigit() and len(text) < 4 else None


def zone_problem(name: str) -> str:
    """Why there is no such time zone, or nothing."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"there is no time zone {name!r}"
    return ""
