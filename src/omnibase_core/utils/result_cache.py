"""Results of pure computations, kept under the hash of everything that they depend on."""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from threading import Lock
from typing import Final

DEFAULT_MAX_BYTES: Final = 64 * 1024 * 1024


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def content_key(*parts: object) -> str | None:
    """The SHA-256 of JSON values, in which all differ that code can tell apart: 1, 1.0 and "1", and orders of fields.

    None for what JSON cannot hold as it is, such as tuples, keys that are no text, and subclasses.
    """
    try:
        if not all(map(_is_json, parts)):
            return None
        text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
    except (ValueError, RecursionError):
        return None


def _is_json(value: object) -> bool:
    if type(value) is dict:
        return set(map(type, value)) <= {str} and _are_json(value.values())
    if type(value) is list:
        return _are_json(value)
    return type(value) in _SCALARS


def _are_json(values: Collection[object]) -> bool:
    return set(map(type, values)) <= _SCALARS or all(map(_is_json, values))


class ResultCache:
    """At most `max_entries` results of `max_bytes` of JSON in all; the one unused for longest goes first.

    It keeps text, so that nobody can change what others will get. What JSON cannot hold is not kept. For any thread.
    """

    def __init__(
        self,
        max_entries: int = 1000,
        max_bytes: int = DEFAULT_MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = Lock()
        self._entries: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> tuple[bool, object]:
        """(whether it is there, a copy of it)."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry[0] <= self._clock():
                self._drop(key)
                entry = None
            if entry is None:
                return False, None
            self._entries.move_to_end(key)
        return True, json.loads(entry[1])

    def put(self, key: str, result: object, ttl_seconds: float) -> bool:
        """Whether it was kept."""
        try:
            text = json.dumps(result, allow_nan=False)
            exact = _same(json.loads(text), result)
        except (TypeError, ValueError, RecursionError):
            return False
        if not exact or len(text) > self._max_bytes:
            return False
        with self._lock:
            if key in self._entries:
                self._drop(key)
            self._entries[key] = (self._clock() + ttl_seconds, text)
            self._bytes += len(text)
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))
        return True

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _drop(self, key: str) -> None:
        self._bytes -= len(self._entries.pop(key)[1])


def _same(first: object, second: object) -> bool:
    """Equal, and of equal types: a tuple or a number as a key would come back as something else."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return first == second
