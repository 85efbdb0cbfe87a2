"""A deadline inside the same task."""

import asyncio
import gc
import random
import weakref

import pytest

from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.mixins.cut import GRACE_SECONDS, Cut, CutOffError
from omnibase_spi.testing import run_virtual

kept: list[object] = []


def _cut(work: object, seconds: float) -> Cut[object]:
    loop = asyncio.get_running_loop()

    def keep(rest: object) -> None:
        kept.append(loop.create_task(rest))  # type: ignore[arg-type]  # a coroutine by the keeper's contract

    return Cut(work, loop.time() + seconds, loop, keep)  # type: ignore[arg-type]  # tests pass coroutines


async def _sleep(seconds: float, value: object = "done") -> object:
    await asyncio.sleep(seconds)
    return value


def test_work_that_ends_in_time_gives_its_result() -> None:
    """Whether it suspends or not, work gives its result when it ends before the deadline."""

    async def at_once() -> str:
        return "at once"

    async def main() -> list[object]:
        return [await _cut(at_once(), 1), await _cut(_sleep(0.5), 1)]

    assert run_virtual(main()) == ["at once", "done"]


def test_work_that_fails_raises_its_own_error() -> None:
    """An exception of the work passes, before and after it has suspended."""

    async def fails(seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)
        raise KeyError(seconds)

    async def main() -> None:
        for seconds in (0, 0.5):
            with pytest.raises(KeyError):
                await _cut(fails(seconds), 1)

    run_virtual(main())


def test_work_that_is_late_is_cut_off_at_the_deadline() -> None:
    """The cut comes at the deadline, and the task is not left cancelled."""

    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(CutOffError):
            await _cut(_sleep(100), 2)
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        return loop.time() - started, task.cancelling()

    took, cancelling = run_virtual(main())
    assert took == pytest.approx(2)
    assert cancelling == 0


def test_a_cancellation_from_outside_passes() -> None:
    """Cancelling the task that waits cancels the work and is not mistaken for the deadline."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            seen.append("tidied")

    async def main() -> bool:
        async def waits() -> None:
            await _cut(work(), 50)

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run_virtual(main())
    assert seen == ["tidied"]


def test_a_cancellation_that_the_work_swallows_still_counts() -> None:
    """Work that swallows a cancellation from outside cannot hide it from the caller."""

    async def swallows() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "swallowed"
        return "never"

    async def main() -> bool:
        async def waits() -> None:
            await _cut(swallows(), 50)

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run_virtual(main())


def test_a_result_that_comes_while_being_cut_off_counts() -> None:
    """The effect was done: its result is worth more than the deadline."""

    async def finishes() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            return "done after all"
        return "never"

    async def main() -> object:
        return await _cut(finishes(), 1)

    assert run_virtual(main()) == "done after all"


def test_what_the_work_says_about_its_end_is_the_cause() -> None:
    """A handler that knows how far it came chains a fault to the cancellation."""

    async def knows() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError as cancel:
            raise cancel from EffectFault("statement undone", error_kind="ETIMEDOUT")

    async def main() -> BaseException | None:
        try:
            await _cut(knows(), 1)
        except CutOffError as error:
            return error.__cause__
        return None

    assert isinstance(run_virtual(main()), EffectFault)


def test_work_that_ignores_its_cancellation_is_abandoned_and_kept() -> None:
    """The call ends within the grace time; the work goes on elsewhere to its own end."""
    ended: list[float] = []

    async def stubborn() -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + 10
        while loop.time() < until:
            try:
                await asyncio.sleep(until - loop.time())
            except asyncio.CancelledError:
                continue
        ended.append(loop.time())

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(CutOffError):
            await _cut(stubborn(), 2)
        waited = loop.time() - started
        await asyncio.wait([task for task in kept if isinstance(task, asyncio.Task)])
        return waited, ended[0] - started

    waited, ended_after = run_virtual(main())
    assert waited == pytest.approx(2 + GRACE_SECONDS)
    assert ended_after == pytest.approx(10)


def test_nested_cuts_each_keep_their_own_deadline() -> None:
    """The inner deadline does not look like the outer one."""

    async def inner() -> str:
        try:
            await _cut(_sleep(100), 1)
        except CutOffError:
            await asyncio.sleep(0.5)
            return "inner cut"
        return "never"

    async def main() -> object:
        return await _cut(inner(), 5)

    assert run_virtual(main()) == "inner cut"


def test_a_standard_timeout_around_a_cut_works() -> None:
    """asyncio.timeout and the cut count their cancellations apart."""

    async def main() -> str:
        try:
            async with asyncio.timeout(1):
                await _cut(_sleep(100), 5)
        except TimeoutError:
            return "outer"
        return "never"

    assert run_virtual(main()) == "outer"


def test_many_deadlines_at_once_are_each_kept() -> None:
    """Whatever the order in which they were set, and while other work ends in time, each cut comes at its moment."""
    limits = [random.Random(7).uniform(0.5, 9) for _ in range(200)]  # a fixed seed, to have the same order always

    async def cut_after(seconds: float) -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(CutOffError):
            await _cut(_sleep(100), seconds)
        return loop.time() - started

    async def main() -> list[float]:
        in_time = asyncio.gather(*(_cut(_sleep(seconds / 2), seconds) for seconds in limits))
        late = await asyncio.gather(*map(cut_after, limits))
        await in_time
        return late

    late = run_virtual(main())
    assert all(limit <= seconds + 1e-6 < limit + 0.01 for limit, seconds in zip(limits, late, strict=True))


def test_a_shorter_deadline_after_a_longer_one_comes_first() -> None:
    """The one timer of a loop moves forward when it must."""

    async def main() -> list[str]:
        ended: list[str] = []

        async def one(name: str, seconds: float) -> None:
            with pytest.raises(CutOffError):
                await _cut(_sleep(100), seconds)
            ended.append(f"{name} {asyncio.get_running_loop().time() - started:.0f}")

        started = asyncio.get_running_loop().time()
        await asyncio.gather(one("long", 30), one("short", 2), one("middle", 5))
        return ended

    assert run_virtual(main()) == ["short 2", "middle 5", "long 30"]


def test_deadlines_keep_no_loop_alive() -> None:
    """A loop that ended, its timer still armed, is collected."""
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await _cut(_sleep(0), 1000)

    for _ in range(3):
        asyncio.run(main())
    gc.collect()

    assert [ref() for ref in loops] == [None, None, None]
