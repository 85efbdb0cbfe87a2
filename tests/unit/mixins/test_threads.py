"""Work in a thread."""

import asyncio
import threading

import pytest

from omnibase_core.mixins.threads import in_thread


async def test_it_gives_what_the_call_gives_and_raises_what_it_raises() -> None:
    """From another thread."""
    here = threading.get_ident()

    assert await in_thread(threading.get_ident) != here
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_call_waits_for_its_thread(*, fails: bool) -> None:
    """The thread is told to end; however often it is cancelled, and whatever the thread makes of it."""
    begun, told, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        told.wait(5)
        ended.set()
        if fails:
            raise ValueError

    calls = 0

    def on_cancel() -> None:
        nonlocal calls
        calls += 1
        asyncio.get_running_loop().call_soon(told.set)
        waiting.cancel()

    waiting = asyncio.create_task(in_thread(work, on_cancel))
    await asyncio.to_thread(begun.wait, 5)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
    assert calls == 1


async def test_without_a_way_to_tell_it_the_thread_is_waited_for() -> None:
    """Nothing goes on behind the caller's back."""
    begun, free, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        free.wait(5)
        ended.set()

    waiting = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, 5)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    free.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
