"""Schedules judged at load: fields of cron, and time zones. When the next run is, is the business of engines."""

import re
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
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
    for field, (name, low, high, names) in zip(fields, _FIELDS, strict=False):
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
