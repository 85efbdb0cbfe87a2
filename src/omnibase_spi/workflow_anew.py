"""What of a run was begun anew, as numbers that are kept with it: so a target tells a new attempt from a repetition.

A position, not negative: everything from there on, because the run was rewound to it (0: it continued as new). A
negative number: one record, because it failed, or was undone, and the run was resumed. What is done again without an
entry, a step that was under way or of whose end nothing is known, is the same attempt: it keeps its action id, its
idempotency keys and its row of `tx_step`.
"""

from collections.abc import Sequence


def failed_at(position: int) -> int:
    """The record here failed for good."""
    return -2 * position


def undone_at(position: int) -> int:
    """The record here was compensated, or is of the compensation."""
    return -2 * position - 1


def times_asked(entries: Sequence[int], position: int) -> int:
    """How often what stands here was begun anew."""
    return sum(entry <= position if entry >= 0 else -entry // 2 == position for entry in entries)


def times_done(entries: Sequence[int], position: int) -> int:
    """How often it was begun anew though it had been done: rewound, or undone."""
    return sum(entry <= position if entry >= 0 else entry == undone_at(position) for entry in entries)
