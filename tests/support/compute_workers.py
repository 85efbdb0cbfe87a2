"""Algorithms and functions at the top of a module, as worker processes need them."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnibase_core.utils.chunking import Chunk

RELEASE = threading.Event()


def numbered(chunk: Chunk) -> tuple[int, int, list[object]]:
    return chunk.number, chunk.start, list(chunk)


def process_id(_chunk: Chunk) -> int:
    return os.getpid()


def refuses_seven(chunk: Chunk) -> int:
    if 7 in chunk:
        raise LookupError("seven")
    return len(chunk)


def refuses_long_chunks(chunk: Chunk) -> int:
    if len(chunk) > 1:
        raise LookupError("too many")
    return len(chunk)


def refuses_nine_and_is_slow_before(chunk: Chunk) -> int:
    """Item 9 fails at once, item 0 later: the first in order must be told all the same."""
    if 0 in chunk:
        RELEASE.wait(5)
        raise LookupError("zero")
    if 9 in chunk:
        RELEASE.set()
        raise LookupError("nine")
    return 0


def dies(chunk: Chunk) -> int:
    if 3 in chunk:
        os._exit(9)
    return 0


def clock(_chunk: Chunk) -> float:
    return time.time()


def hangs(chunk: Chunk) -> int:
    """Tells its process id by a file, and never ends."""
    Path(str(chunk[0]), str(os.getpid())).touch()
    while True:
        time.sleep(60)


def lock(_chunk: Chunk) -> object:
    return threading.Lock()


class StubbornError(Exception):
    """Pickles, and cannot be rebuilt."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def raises_stubborn(_chunk: Chunk) -> int:
    raise StubbornError("this", "that")


class Unloadable:
    """Work that pickles here and cannot be loaded there."""

    def __call__(self, _chunk: Chunk) -> int:
        return 0

    def __reduce__(self) -> tuple[object, ...]:
        return (_never, ())


def _never() -> None:
    raise ImportError("not over there")


class SlowToArrive:
    """Work that takes its seconds to be loaded, and sleeps for as many seconds as its item says."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __setstate__(self, state: dict[str, float]) -> None:
        self.__dict__.update(state)
        time.sleep(self._seconds)

    def __call__(self, chunk: Chunk) -> int:
        time.sleep(float(str(chunk[0])))
        return len(chunk)


@dataclass
class Counting:
    """Counts how often it is pickled."""

    pickled: int = 0

    def __call__(self, chunk: Chunk) -> int:
        return len(chunk)

    def __getstate__(self) -> dict[str, int]:
        self.pickled += 1
        return dict(self.__dict__)


@dataclass(frozen=True)
class Spins:
    """An algorithm that needs `rounds` turns of a loop for each item."""

    rounds: int = 1000
    field: str | None = None

    def process_chunk(self, chunk: Sequence[object]) -> int:
        total = 0
        for _ in chunk:
            for turn in range(self.rounds):
                total += turn & 3
        return total

    def merge(self, first: int, second: int) -> int:
        return first + second

    def finish(self, state: int) -> int:
        return state


@dataclass(frozen=True)
class Broken:
    """Fails where the partial results are put together."""

    how: str = "ValueError"

    def process_chunk(self, _chunk: Sequence[object]) -> float:
        return 0.0

    def merge(self, first: float, _second: float) -> float:
        if self.how == "clock":
            return time.time()
        if self.how == "ValueError":
            raise ValueError("no common order")
        raise KeyError("lost")

    def finish(self, state: float) -> float:
        return state


@dataclass(frozen=True)
class Hangs:
    directory: str = ""

    def process_chunk(self, chunk: Sequence[object]) -> int:
        return hangs(Chunk([self.directory])) if chunk else 0

    def merge(self, first: int, _second: int) -> int:
        return first

    def finish(self, state: int) -> int:
        return state


class Over:
    """How many items are above a limit. An object of it is an algorithm too."""

    note: object = None

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def process_chunk(self, chunk: Sequence[int]) -> int:
        return sum(item > self.limit for item in chunk)

    def merge(self, first: int, second: int) -> int:
        return first + second
