"""Client sessions of the HTTP adapter: two pools of connections per event loop, let go of with the loop.

Sessions are closed in good order by `aclose()`, or when `asyncio.run` (or any runner that calls `shutdown_asyncgens`)
ends its loop: a suspended asynchronous generator per loop does it. A loop that was closed by hand, and an adapter that
is dropped, are cleaned up without a loop, quietly.
"""

import asyncio
import contextlib
import importlib
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from types import ModuleType
from typing import TYPE_CHECKING

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault, ModelOnexError
from omnibase_spi.http_guard import AddressGuard

if TYPE_CHECKING:
    import aiohttp

KEEPALIVE_SECONDS = 15.0
MAX_UNDER_WAY = 512
"""Requests at once in one loop; more wait. Thousands of connections dialled in one moment overrun the queue in which
the other side's kernel keeps them, and time out. It is also half of the descriptors that most systems grant."""


def load_driver() -> ModuleType:
    """The client library. Raises CONFIGURATION_ERROR that names the extra when it is not installed."""
    try:
        return importlib.import_module("aiohttp")
    except ImportError:
        message = "HTTP operations need aiohttp, which is not installed: pip install 'omnibase[http]'"
        raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR) from None


class LoopPools:
    """The sessions of one event loop. An open request and a guarded one never share a connection.

    flights: see `TokenCache`; futures belong to a loop as sessions do.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: AddressGuard) -> None:
        self.loop = loop
        self._free = min(MAX_UNDER_WAY, _descriptors() // 2)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.flights: dict[tuple[str, str, str, str | None], list[asyncio.Future[EffectFault | None]]] = {}
        self._guard = guard
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._keeper: AsyncGenerator[None, None] | None = None

    def try_enter(self) -> bool:
        """Take a place for one more request under way; False when all are taken.

        `leave` must follow, as it must after `enter`.
        """
        if self._free:
            self._free -= 1
            return True
        return False

    async def enter(self) -> None:
        """Wait for a place, in order of arrival. A wait that is cut off says by its cause that nothing was sent."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError as cancelled:
            if not waiter.cancelled():  # it got the place in the same moment
                self.leave()
            message = (
                f"not sent: {MAX_UNDER_WAY} requests, or half as many as this process may open descriptors (ulimit -n),"
                " are under way; start fewer operations at once, or give them more time"
            )
            code = EnumCoreErrorCode.RESOURCE_UNAVAILABLE
            raise cancelled from EffectFault(message, code, phase=EnumFaultPhase.NOT_SENT, transient=True)

    def leave(self) -> None:
        """The request has ended: its place goes to who has waited longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    async def session(self, *, guarded: bool) -> "aiohttp.ClientSession":
        """The session of one kind, opened at the first request.

        It keeps no cookies, reads no proxies from the environment, decodes no bodies, and bounds nothing: `enter` does.
        The resolver has no cache, so that no look-up outlives its request.
        """
        session = self._sessions.get(guarded)
        if session is not None and not session.closed:
            return session
        import aiohttp

        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=KEEPALIVE_SECONDS,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=self._guard.open_socket if guarded else None,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "gzip, deflate", "User-Agent": "omnibase"},
        )
        # aiohttp repeats idempotent requests on a lost pooled connection by itself, unseen by budget and breaker. There
        # is no public switch; a test counts the requests that arrive.
        session._retry_connection = False  # noqa: SLF001
        self._sessions[guarded] = session
        if self._keeper is None:
            self._keeper = _close_at_end(self._sessions)
            await anext(self._keeper)
        return session

    async def aclose(self) -> None:
        """Close everything; to be called on this loop."""
        if self._keeper is not None:
            await self._keeper.aclose()
            self._keeper = None

    def drop(self) -> None:
        """Close everything without a running loop: descriptors are closed, and nothing warns."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            _drop(session, self.loop)


def _descriptors() -> int:
    """How many descriptors the process may open; many where there is no such limit."""
    try:
        import resource
    except ImportError:  # no POSIX
        return 4096
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(soft, 2)


class PoolRegistry:
    """The pools of each loop that used the adapter. Loops of several threads do not meet."""

    def __init__(self, owner: object, guard: AddressGuard) -> None:
        self._guard = guard
        self._pools: dict[int, LoopPools] = {}
        weakref.finalize(owner, _drop_all, self._pools)

    def current(self) -> LoopPools:
        """The pools of the running loop. At the first sight of a loop, those of closed loops are let go of.

        Raises CONFIGURATION_ERROR when the client library is not installed.
        """
        loop = asyncio.get_running_loop()
        pools = self._pools.get(id(loop))
        # The pools hold their loop, so its id cannot have been given to another one.
        if pools is None:
            for key, old in list(self._pools.items()):
                if old.loop.is_closed():
                    self._pools.pop(key, None)
                    old.drop()
            load_driver()
            pools = self._pools[id(loop)] = LoopPools(loop, self._guard)
        return pools

    async def aclose(self) -> None:
        """Close the pools of the running loop in good order, and those of loops that do not run any more."""
        running = asyncio.get_running_loop()
        for key, pools in list(self._pools.items()):
            if pools.loop is running:
                self._pools.pop(key, None)
                await pools.aclose()
            elif not pools.loop.is_running():
                self._pools.pop(key, None)
                pools.drop()


async def _close_at_end(sessions: "dict[bool, aiohttp.ClientSession]") -> AsyncGenerator[None, None]:
    """Suspended until the loop shuts its asynchronous generators down, which is the moment to close the sessions."""
    try:
        yield
    finally:
        while sessions:
            _, session = sessions.popitem()
            await session.close()


def _drop_all(pools: dict[int, LoopPools]) -> None:
    while pools:
        _, one = pools.popitem()
        one.drop()


def _drop(session: "aiohttp.ClientSession", loop: asyncio.AbstractEventLoop) -> None:
    connector = session.connector
    session.detach()
    if connector is None or connector.closed:
        return
    # Below is the last resort for a loop that ended without `shutdown_asyncgens`: nothing public of aiohttp or asyncio
    # lets go of a transport whose loop is closed.
    transports = [
        protocol.transport
        for protocols in connector._conns.values()  # noqa: SLF001 - see above
        for protocol, _ in protocols
        if protocol.transport is not None
    ]
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        connector._close(abort_ssl=True)  # noqa: SLF001 - see above
    if loop.is_closed():
        for transport in transports:
            _close_dead_transport(transport)


def _close_dead_transport(transport: asyncio.BaseTransport) -> None:
    inner = transport
    if transport.get_extra_info("sslcontext") is not None:
        ssl_protocol = getattr(transport, "_ssl_protocol", None)
        transport._closed = True  # type: ignore[attr-defined]  # noqa: SLF001 - silences the destructor of the TLS layer
        inner = getattr(ssl_protocol, "_transport", None) or transport
    sock = getattr(inner, "_sock", None)
    if sock is not None:
        sock.close()
        inner._sock = None  # type: ignore[attr-defined]  # noqa: SLF001 - silences the destructor of the transport
