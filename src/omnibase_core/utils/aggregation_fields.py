"""What an aggregation reads of its items: values, keys of groups, event times. And keys in their order."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.utils.aggregation_methods import kind_of
from omnibase_core.utils.algorithms import ItemFault, Items, rank

Key = object
"""A group: the value itself where it is the only one and a text or an int, a tuple of such values, else bytes."""
Order = tuple[object, ...]
_RAW: Final = frozenset({str, int})
_SCALARS: Final = (str, int, float, bool, type(None))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def column(items: Items, path: str | None, *, or_null: bool = False) -> Items:
    """The values at a dotted path; the items where there is none. or_null: what is missing is null, else a fault."""
    if path is None:
        return items
    names = path.split(".")
    try:
        found: Items = items
        for name in names:
            found = [cast("dict[str, object]", item)[name] for item in found]  # what is none raises, and is found below
    except (LookupError, TypeError):
        return [_value_at(index, item, names, path, or_null=or_null) for index, item in enumerate(items)]
    return found


def _value_at(index: int, item: object, names: list[str], path: str, *, or_null: bool) -> object:
    found = item
    for name in names:
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif or_null and (found is None or isinstance(found, dict)):
            return None
        elif isinstance(found, dict):
            raise ItemFault(index, f"field {path!r} is missing")
        else:
            raise ItemFault(index, f"field {path!r}: expected an object with {name!r}, found {kind_of(found)}")
    return found


def keys_of(items: Items, paths: Sequence[str]) -> Iterable[Key]:
    """The group of each item. Raises ItemFault for what is no finite scalar."""
    if not paths:
        return repeat((), len(items))
    columns = [column(items, path) for path in paths]
    kinds: set[type] = set()
    for each in columns:
        kinds.update(map(type, each))
    if kinds <= _RAW:
        return columns[0] if len(columns) == 1 else zip(*columns, strict=True)
    return _mixed(columns, paths)


def _mixed(columns: list[Items], paths: Sequence[str]) -> Iterator[Key]:
    for index, parts in enumerate(zip(*columns, strict=True)):
        for path, part in zip(paths, parts, strict=True):
            if type(part) not in _SCALARS:
                raise ItemFault(index, f"field {path!r}: expected a scalar to group by, found {kind_of(part)}")
            if isinstance(part, float) and not math.isfinite(part):
                raise ItemFault(index, f"field {path!r}: expected a finite number to group by, found {part}")
        yield key_of(parts)


def key_of(parts: Sequence[object]) -> Key:
    if all(type(part) in _RAW for part in parts):
        return parts[0] if len(parts) == 1 else tuple(parts)
    return json.dumps(list(parts)).encode()  # tells 1 from true and 1.0


def parts_of(key: Key) -> list[JsonValue]:
    """The values of `group_by` that make up a group."""
    if isinstance(key, bytes):
        return cast("list[JsonValue]", json.loads(key))  # as written above
    return list(key) if isinstance(key, tuple) else [cast("JsonValue", key)]  # a text or an int


def order_of(parts: Sequence[object]) -> Order:
    """For sorting groups: null, false, true, numbers, text."""
    if len(parts) == 1 and isinstance(parts[0], str):
        return 3, parts[0]
    flat: list[object] = []
    for part in parts:
        flat += _order(part)
    return tuple(flat)


def _order(part: object) -> tuple[object, ...]:
    """The first number tells the kind, and with it how many there are."""
    if isinstance(part, str):
        return 3, part
    if part is None or isinstance(part, bool):
        return (0,) if part is None else (1, part)
    return 2, *rank(cast("int | float", part))  # the only scalars left


def times_of(items: Items, path: str) -> list[int]:
    """Event times in milliseconds since 1970. Raises ItemFault for what is none."""
    values = column(items, path)
    if set(map(type, values)) <= {int}:
        return cast("list[int]", values)  # by the line above
    return [_milliseconds(index, value, path) for index, value in enumerate(values)]


def _milliseconds(index: int, value: object, path: str) -> int:
    if type(value) is int:
        return value
    found: object = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
    if isinstance(found, datetime) and found.tzinfo is not None:
        return (found - _EPOCH) // _MS
    raise ItemFault(
        index,
        f"field {path!r}: expected an event time (milliseconds as an int, ISO 8601 with an offset, or an aware "
        f"datetime), found {value!r}" if isinstance(value, str | datetime | float) else
        f"field {path!r}: expected an event time, found {kind_of(value)}",
    )  # fmt: skip
