"""A server whose answer to COMMIT gets lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.databases import Database, adapter_on


class LosesTheAnswer:
    """A proxy in front of a server: it passes everything until a client says `word`, and then passes no answer.

    deliver: whether that message still reaches the server. cut: whether the client sees the connection end.
    """

    def __init__(self, connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]) -> None:
        self._connect = connect
        self.word = b"COMMIT"
        self.deliver = True
        self.cut = True
        self.armed = False
        self.committing = asyncio.Event()
        self.server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await self._connect()
        self._writers += [writer, up_writer]
        silent = asyncio.Event()
        for coroutine in (self._up(reader, up_writer, writer, silent), self._down(up_reader, writer, silent)):
            task = asyncio.create_task(coroutine)
            self._tasks.add(task)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        silent: asyncio.Event,
    ) -> None:
        while data := await reader.read(65536):
            if self.armed and self.word in data:
                silent.set()
                if self.deliver:
                    up_writer.write(data)
                    await up_writer.drain()
                self.committing.set()
                if self.cut:
                    writer.transport.abort()
                continue
            up_writer.write(data)
        up_writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if not silent.is_set():
                writer.write(data)
        if not silent.is_set():
            writer.close()


async def through_proxy(server: Database) -> tuple[LosesTheAnswer, Database]:
    """Such a proxy in front of a server, and the database as it is reached through it."""
    if server.kind == "postgresql":
        path = server.url.partition("host=")[2].partition("&")[0]
        if not path.startswith("/"):
            pytest.skip("needs the private server of the tests")
        proxy = LosesTheAnswer(lambda: asyncio.open_unix_connection(f"{path}/.s.PGSQL.5432"))
        url = f"postgresql://postgres@127.0.0.1:{await proxy.start()}/postgres?sslmode=disable&gssencmode=disable"
    else:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        proxy = LosesTheAnswer(lambda: asyncio.open_connection("127.0.0.1", port))
        url = f"mysql://root@127.0.0.1:{await proxy.start()}/onex"
    through = Database(server.kind, url, adapter_on(url), server.table, server.mark, server.statements_since)
    return proxy, through
