"""A deadline inside the same task (house 5.3): nothing is armed until the work suspends for the first time.

`asyncio.timeout` costs three times as much, a task per attempt ten times. When time is up the running task is
cancelled; the cancellation that comes out again is turned into `CutOffError`. Work that ignores its cancellation is
abandoned after `GRACE_SECONDS`: it goes on in a task of its own, and the call does not wait for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

T = TypeVar("T")
GRACE_SECONDS: Final = 0.8
"""How long cancelled work may tidy up. An operation may outlast its deadline by a second (section 2.5)."""
_CLOCK_SLACK_SECONDS: Final = 1e-6
"""A loop may call a timer this early, and then the deadline counts as reached."""

Work = Coroutine[object, object, T]
Keeper = Callable[[Coroutine[object, object, object]], None]


class CutOffError(Exception):
    """The work did not end in time. Its `__cause__` is what the work said about it, where it said something."""


class _Late(Protocol):
    when: float

    def fire(self) -> None: ...


class _Deadlines:
    """The deadlines of one event loop, watched by one timer.

    Nearly all work ends long before its deadline, so a timer of its own for each would cost more than all else here.
    This one stands at the earliest deadline it was told of since it last went off; then it looks for what is late, and
    for the next. A look takes a microsecond for each deadline, and looks are kept apart by ten times that: with ten
    thousand deadlines under watch one may be noticed 100 ms late. Nothing here holds the loop.
    """

    __slots__ = ("_cuts", "_looked_at", "_timer", "_timer_at")

    def __init__(self) -> None:
        self._cuts: dict[_Late, None] = {}  # a dict is a set that keeps its order
        self._looked_at = 0.0
        self._timer: ref[asyncio.TimerHandle] | None = None
        self._timer_at = 0.0

    def watch(self, cut: _Late, loop: asyncio.AbstractEventLoop) -> None:
        self._cuts[cut] = None
        if self._timer is None or cut.when < self._timer_at:
            self._stand_at(cut.when, loop)

    def forget(self, cut: _Late) -> None:
        self._cuts.pop(cut, None)

    def _stand_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        timer = None if self._timer is None else self._timer()
        if timer is not None:
            timer.cancel()
        self._timer_at = max(when, self._looked_at + 1e-5 * len(self._cuts))
        self._timer = ref(loop.call_at(self._timer_at, self._look, loop))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._looked_at = now = loop.time()
        late = [cut for cut in self._cuts if cut.when <= now + _CLOCK_SLACK_SECONDS]
        for cut in late:
            del self._cuts[cut]
            cut.fire()
        if self._cuts:
            self._stand_at(min(cut.when for cut in self._cuts), loop)


_all_deadlines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Deadlines] = WeakKeyDictionary()
_latest: tuple[Callable[[], asyncio.AbstractEventLoop | None], _Deadlines] = (lambda: None, _Deadlines())


def _deadlines_of(loop: asyncio.AbstractEventLoop) -> _Deadlines:
    """Those of the loop that asked last are at hand: most programs have one loop."""
    global _latest  # noqa: PLW0603  # a pair that is replaced whole, so that threads cannot mix two loops up
    known, deadlines = _latest
    if known() is not loop:
        deadlines = _all_deadlines.setdefault(loop, _Deadlines())
        _latest = ref(loop), deadlines
    return deadlines


class Cut(Generic[T]):
    """Awaitable: the result of `work`, cut off at the loop's time `when`.

    keeper: gets a coroutine that drives abandoned work to its end.
    """

    __slots__ = ("_fires", "_keeper", "_loop", "_task", "_work", "when")

    def __init__(self, work: Work[T], when: float, loop: asyncio.AbstractEventLoop, keeper: Keeper) -> None:
        self._work = work
        self.when = when
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
        loop = self._loop
        deadlines = _deadlines_of(loop)
        deadlines.watch(self, loop)
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
                        grace = loop.call_at(loop.time() + GRACE_SECONDS, self.fire)
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
            deadlines.forget(self)
            if grace is not None:
                grace.cancel()

    def fire(self) -> None:
        """Time is up."""
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
