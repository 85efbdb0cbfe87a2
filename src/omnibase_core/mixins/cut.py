"""A deadline inside the same task (house 5.3): nothing is armed until the work suspends for the first time.

`asyncio.timeout` costs three times as much, a task per attempt ten times. A timer cancels the running task; the
cancellation that comes out again is turned into `CutOffError`. Work that ignores its cancellation is abandoned after
`GRACE_SECONDS`: it goes on in a task of its own, and the call does not wait for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Final, Generic, TypeVar

T = TypeVar("T")
GRACE_SECONDS: Final = 0.8
"""How long cancelled work may tidy up. Under the second by which an operation may outlast its deadline (section 2.5)."""

Work = Coroutine[object, object, T]
Keeper = Callable[[Coroutine[object, object, object]], None]


class CutOffError(Exception):
    """The work did not end in time. Its `__cause__` is what the work said about it, where it said something."""


class Cut(Generic[T]):
    """Awaitable: the result of `work`, cut off at the loop's time `when`.

    keeper: gets a coroutine that drives abandoned work to its end.
    """

    __slots__ = ("_fires", "_keeper", "_loop", "_task", "_when", "_work")

    def __init__(self, work: Work[T], when: float, loop: asyncio.AbstractEventLoop, keeper: Keeper) -> None:
        self._work = work
        self._when = when
        self._loop = loop
        self._keeper = keeper
        self._fires = 0

    def __await__(self) -> Generator[object, object, T]:
        work = self._work
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        task = asyncio.current_task()
        if task is None:
            message = "Cut must be awaited inside a task"
            raise RuntimeError(message)
        self._task = task
        cancels_before = task.cancelling()
        timer = self._loop.call_at(self._when, self._fire)
        grace: asyncio.TimerHandle | None = None
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    work.close()
                    raise
                except asyncio.CancelledError as cancel:
                    if self._fires > 1:
                        self._keeper(_carry_on(work, cancel))
                        raise
                    if self._fires and grace is None:
                        grace = self._loop.call_at(self._loop.time() + GRACE_SECONDS, self._fire)
                    waits_for = work.throw(cancel)
                except BaseException as error:  # noqa: BLE001  # whatever the loop throws in belongs to the work
                    waits_for = work.throw(error)
                else:
                    waits_for = work.send(sent)
        except StopIteration as done:
            self._settle(task, cancels_before)
            value: T = done.value
            return value
        except asyncio.CancelledError as cancel:
            fired = self._fires > 0
            self._settle(task, cancels_before)
            if fired:
                raise CutOffError from cancel.__cause__
            raise
        finally:
            timer.cancel()
            if grace is not None:
                grace.cancel()

    def _fire(self) -> None:
        self._fires += 1
        self._task.cancel()

    def _settle(self, task: "asyncio.Task[object]", cancels_before: int) -> None:
        """Take our own cancellations back; one from outside that the work swallowed still counts."""
        ours = self._fires
        while ours:
            task.uncancel()
            ours -= 1
        if task.cancelling() > cancels_before:
            raise asyncio.CancelledError


async def _carry_on(work: Coroutine[object, object, object], cancel: BaseException) -> None:
    """Drive work that was left suspended to its end."""
    await _Rest(work, cancel)


class _Rest:
    def __init__(self, work: Coroutine[object, object, object], cancel: BaseException) -> None:
        self._work = work
        self._cancel = cancel

    def __await__(self) -> Generator[object, object, None]:
        work = self._work
        try:
            waits_for = work.throw(self._cancel)
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:  # noqa: BLE001  # whatever the loop throws in belongs to the work
                    waits_for = work.throw(error)
                else:
                    waits_for = work.send(sent)
        except StopIteration:
            return
