"""Cutting items into chunks, and putting the partial results of chunks together."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

S = TypeVar("S")

CHUNKS_PER_WORKER: Final = 4
"""So that a worker with hard items does not leave the others idle for long."""


class Chunk(list[object]):
    """A few items in their order, and where they stand among all."""

    def __init__(self, items: Iterable[object] = (), start: int = 0, number: int = 0) -> None:
        super().__init__(items)
        self.start = start
        self.number = number

    @property
    def places(self) -> Sequence[int]:
        """Where each item stands among all."""
        return range(self.start, self.start + len(self))


def chunk_ranges(length: int, workers: int, chunk_size: int | None = None) -> list[range]:
    """The positions of each chunk: in order, without gap or overlap, none of them empty.

    chunk_size: items of each chunk but the last; None for `CHUNKS_PER_WORKER` chunks a worker, whose lengths differ by
    one at most.
    """
    if length < 0 or workers < 1 or (chunk_size is not None and chunk_size < 1):
        raise ValueError(f"chunks of {length} items for {workers} workers, {chunk_size} items each, make no sense")
    if chunk_size is not None:
        return [range(start, min(start + chunk_size, length)) for start in range(0, length, chunk_size)]
    count = min(length, workers * CHUNKS_PER_WORKER)
    return [range(length * each // count, length * (each + 1) // count) for each in range(count)]


def chunk_at(items: Sequence[object], place: range, number: int) -> Chunk:
    return Chunk(items[place.start : place.stop], place.start, number)


def merge_all(states: Sequence[S], merge: Callable[[S, S], S]) -> S:
    """One state of all: neighbours are merged in their order, in rounds, so that none is copied too often.

    `states` has at least one.
    """
    left = list(states)
    while len(left) > 1:
        merged = [merge(left[each], left[each + 1]) for each in range(0, len(left) - 1, 2)]
        left = merged + left[2 * len(merged) :]
    return left[0]
