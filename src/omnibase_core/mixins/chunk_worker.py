"""The process that works on chunks, and what it says about one. Little is imported here: each worker starts with it."""

import pickle
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.algorithms import ItemFault
from omnibase_core.utils.chunking import Chunk
from omnibase_core.utils.compute_run import ItemFailedError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Work(Generic[R]):
    """What every worker gets, once. `enforce_purity`: under the guard of `purity_guard`."""

    function: Callable[[Chunk], R]
    name: str
    enforce_purity: bool = False


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The partial result of a chunk."""

    result: R


@dataclass(frozen=True, slots=True)
class Failed:
    """A chunk that failed. `index`: the first failing item, counted from 0 in the chunk; None when it takes several."""

    error: Exception
    index: int | None


Outcome = Done[R] | Failed


def run_chunk(work: Work[R], chunk: Chunk) -> "Outcome[R]":
    """Never raises an Exception."""
    try:
        return Done(_call(work, chunk))
    except ItemFailedError as error:
        return Failed(error, error.index)
    except Exception as error:  # noqa: BLE001  # the boundary of a chunk: whatever it is, the caller names the item
        return _first_failing(work, chunk, error)


def serve(connection: Connection) -> None:
    """The main function of a worker: takes the work, then chunks until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent stops its workers
    try:
        work: Work[object] = connection.recv()
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001  # a class that this process cannot import, or anything that its module does
        connection.send_bytes(_packed(Failed(error, None)))
        return
    connection.send_bytes(_packed(Done(None)))
    while True:
        try:
            chunk: Chunk = connection.recv()
        except EOFError:
            return
        connection.send_bytes(_packed(run_chunk(work, chunk)))


def _call(work: Work[R], chunk: Chunk) -> R:
    if not work.enforce_purity:
        return work.function(chunk)
    from omnibase_core.mixins.purity_guard import PurityGuard

    with PurityGuard(work.name):
        return work.function(chunk)


def _first_failing(work: Work[R], chunk: Chunk, error: Exception) -> Failed:
    """What the first item that fails by itself fails with, so that it does not matter how items were cut into chunks.

    Computations are pure, so items can be tried again: half of those that may be the first, and so on.
    """
    if len(chunk) == 1:
        return Failed(error, 0)
    first, behind = 0, len(chunk)
    while behind - first > 1:
        middle = (first + behind) // 2
        if _failure(work, chunk, first, middle) is None:
            first = middle
        else:
            behind = middle
    alone = _failure(work, chunk, first, behind)
    if alone is None:  # they fail together only
        return Failed(error, error.index if isinstance(error, ItemFault) else None)
    return Failed(alone, first)


def _failure(work: Work[R], chunk: Chunk, first: int, behind: int) -> Exception | None:
    try:
        _call(work, Chunk(chunk[first:behind], chunk.start + first, chunk.number))
    except Exception as error:  # noqa: BLE001  # it is the answer
        return error
    return None


def _packed(outcome: "Outcome[object]") -> bytes:
    """As bytes; what cannot be pickled is told in words."""
    try:
        packed = pickle.dumps(outcome)
        if isinstance(outcome, Failed):
            pickle.loads(packed)  # noqa: S301  # its own bytes: some exceptions pickle and cannot be rebuilt
    except Exception as error:  # noqa: BLE001  # pickling runs the code of what it pickles
        index = outcome.index if isinstance(outcome, Failed) else None
        known = outcome.error if isinstance(outcome, Failed) else error
        text = f"{type(known).__name__}: {known}"
        if not isinstance(outcome, Failed):
            text = f"the result of the chunk cannot be sent from the worker ({text})"
        packed = pickle.dumps(Failed(ModelOnexError(text), index))
    return packed
