"""Times as a person types and reads them. All are in UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from omnibase_runtime.commands._console import usage
from omnibase_runtime.commands._render import milliseconds

_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)")
_MOST_S: Final = 366 * 86_400 * 10


def span_of(text: str, option: str) -> timedelta:
    """`90s`, `15m`, `2h`, `7d`. Raises VALIDATION_ERROR."""
    match = _SPAN.fullmatch(text.strip())
    seconds = 0.0 if match is None else float(match[1]) * (0.001 if match[2] == "ms" else _UNITS[match[2]])
    if match is None or seconds > _MOST_S:
        raise usage(f"{option} {text!r}: a length of time is a number with its unit, such as 90s, 15m, 2h or 7d")
    return timedelta(seconds=seconds)


def moment_of(text: str, option: str, *, ahead: bool = False) -> datetime:
    """A time in ISO 8601, in UTC where it has no zone; or a length of time, counted from now.

    ahead: it lies in the future. Raises VALIDATION_ERROR.
    """
    if _SPAN.fullmatch(text.strip()):
        span = span_of(text, option)
        return datetime.now(UTC) + (span if ahead else -span)
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        way = "from now" if ahead else "ago"
        raise usage(
            f"{option} {text!r}: write a time such as 2030-01-31T08:00Z, or a length of time such as 2h ({way})"
        ) from None


def stamp(moment: datetime | float | None) -> str:
    """A time to the second, empty for none."""
    if moment is None:
        return ""
    if isinstance(moment, float):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def length(seconds: float) -> str:
    """A length of time in the units that a reader would choose."""
    seconds = max(0.0, seconds)
    if seconds < 3_600:
        return milliseconds(seconds * 1_000)
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(seconds / 3_600)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
