"""Work in a thread that does not outlive who waits for it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], on_cancel: Callable[[], None] | None = None) -> T:
    """What `call` returns, from a thread. When this is cancelled, `on_cancel` may tell the thread to end; it is waited
    for, so that nothing goes on behind the caller's back.
    """
    working = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        while not working.done():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.shield(working)
        if not working.cancelled():
            working.exception()  # seen: nobody wants it now
        raise
