"""A coroutine that a cancellation of its task does not reach."""

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


class Held(Generic[_Result]):
    """Drives a coroutine inside the awaiting task, without a task of its own.

    `await held` gives the coroutine's result. When the awaiting task is cancelled, CancelledError is raised here while
    the coroutine stays where it waits; awaiting the same object again goes on with it. For clients that tear their
    connection down when they are cancelled, where the answer could still be had.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, _Result]) -> None:
        self._coroutine = coroutine
        self._awaited: asyncio.Future[object] | None = None

    def __await__(self) -> Generator[Any, Any, _Result]:
        while True:
            awaited = self._awaited
            if awaited is not None and not awaited.done():
                gate: asyncio.Future[None] = awaited.get_loop().create_future()
                awaited.add_done_callback(partial(_open, gate))
                yield from gate
                continue
            try:
                awaited = self._coroutine.send(None)
            except StopIteration as stop:
                result: _Result = stop.value
                return result
            if awaited is not None:
                awaited._asyncio_future_blocking = False  # noqa: SLF001 - what a task does with a future it is given
            else:
                yield
            self._awaited = awaited

    def close(self) -> None:
        """Give the coroutine up where it is."""
        self._coroutine.close()


def _open(gate: asyncio.Future[None], _: asyncio.Future[object]) -> None:
    if not gate.done():
        gate.set_result(None)
