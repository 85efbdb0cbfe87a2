"""A TCP proxy that can be told to misbehave: to go silent, to cut, to refuse, to lose what comes back."""

import asyncio
import contextlib
from types import TracebackType
from typing import Literal, Self

Direction = Literal["up", "down"]


class TcpProxy:
    """Forwards loopback connections to `target_host:target_port`. Runs on the loop that enters it.

    A host that begins with `/` is the directory of a PostgreSQL socket. `cut_after`: so many pieces come back over all
    connections, then everything is cut, and new connections are cut at once.
    rewrite: byte strings replaced in what comes back, each by one of the same length; Kafka's brokers announce their
        own address, and with this they announce the proxy's. A string split over two received pieces is missed.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.rewrite: dict[bytes, bytes] = {}
        self.connections = 0
        self.cut_after: int | None = None
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._open: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._moved: dict[Direction, int] = {"up": 0, "down": 0}
        self._arrived = asyncio.Condition()
        self.port = 0
        self.flow()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def listen(self) -> None:
        """Accept connections, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port and cut every connection; new ones are refused until `listen`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()
        if server is not None:
            await server.wait_closed()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection that is open now."""
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self, *directions: Direction) -> None:
        """Hold data back from now on; `up` is towards the target, `down` back from it, none given means both."""
        for direction in directions or ("up", "down"):
            self._open[direction].clear()

    def flow(self) -> None:
        """Let data pass, also what was held back."""
        for gate in self._open.values():
            gate.set()

    async def seen(self, direction: Direction, more_than: int) -> int:
        """Wait until more than that many bytes arrived from that side (held back ones count); returns their number."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self._moved[direction] > more_than)
        return self._moved[direction]

    def moved(self, direction: Direction) -> int:
        """How many bytes arrived so far, held back ones included."""
        return self._moved[direction]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._writers.add(writer)
        self.connections += 1
        target: asyncio.StreamWriter | None = None
        try:
            if self._target[0].startswith("/"):
                path = f"{self._target[0]}/.s.PGSQL.{self._target[1]}"
                answers, target = await asyncio.open_unix_connection(path)
            else:
                answers, target = await asyncio.open_connection(*self._target)
            self._writers.add(target)
            pumps = [asyncio.create_task(self._pump("up", reader, target))]
            pumps.append(asyncio.create_task(self._pump("down", answers, writer)))
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the target refused; so does the proxy, by closing
        finally:
            for end in (writer, target):
                if end is not None:
                    end.transport.abort()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()
                    self._writers.discard(end)
            self._serving.discard(task)

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                async with self._arrived:
                    self._moved[direction] += len(data)
                    self._arrived.notify_all()
                await self._open[direction].wait()
                if direction == "down":
                    if self.cut_after is not None:
                        if self.cut_after <= 0:
                            self.cut()
                            return
                        self.cut_after -= 1
                    for old, new in self.rewrite.items():
                        data = data.replace(old, new)
                writer.write(data)
                await writer.drain()
