"""Cancelling at the n-th suspension: a sweep over every await of a piece of work."""

import asyncio
from collections.abc import Coroutine, Generator


class CancelAt:
    """Drives work and cancels its own task when it suspends for the `n`-th time (0-based). `reached` says whether it
    did.
    """

    def __init__(self, work: Coroutine[object, object, object], n: int) -> None:
        self._work = work
        self._n = n
        self.reached = False

    def __await__(self) -> Generator[object, object, object]:
        count = 0
        step = self._work.send
        argument: object = None
        while True:
            try:
                waits_for = step(argument)
            except StopIteration as done:
                return done.value
            if count == self._n:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            count += 1
            try:
                argument = yield waits_for
                step = self._work.send
            except BaseException as error:
                argument, step = error, self._work.throw  # type: ignore[assignment]  # throw takes what send does not


async def cancelled_at(work: Coroutine[object, object, object], n: int) -> bool:
    """Run work in a task of its own and cancel it at suspension `n`; False when it ended before."""
    driver = CancelAt(work, n)

    async def main() -> object:
        return await driver

    task = asyncio.ensure_future(main())
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    return driver.reached
