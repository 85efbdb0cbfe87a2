"""A small HTTP/1.1 server that fails on purpose.

What it answers is decided per request: by the next entry of its script, else by the path (`route`), else by a few ready
paths, else 200 with `{"ok": true}`. An entry is a `Reply`, or any coroutine function that takes the `Connection` and
the `Request`. Everything that arrives is recorded before it is answered.

It speaks through asyncio streams only and costs about as much as a bare echo, so that benchmarks can use it; `python -m
tests.support.http_server` runs it in a process of its own and prints its port.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import sys
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Self

import pytest

_REASONS = {200: "OK", 201: "Created", 204: "No Content", 429: "Too Many Requests", 503: "Service Unavailable"}
_OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


@dataclass(slots=True)
class Request:
    """One recorded request. `headers` has lower-case names; of a repeated header the last value counts."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Number of the connection on which it came, from 1."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def json(self) -> object:
        return json.loads(self.body)


@dataclass(slots=True)
class Reply:
    """An answer.

    headers: Content-Length is added unless given or `close` says that the end of the connection ends the body.
    chunked: the body goes in chunks instead, one per element when it is a list.
    close: close the connection after the answer and say so.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False

    def encode(self, *, without_body: bool = False) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not any(name.lower() == "content-length" for name in self.headers) and self.status != 204:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.close:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head if without_body else head + self.body


class Connection:
    """The server's side of one connection, for answers that are no well-formed reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.ended = False

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Drop the connection with RST, so that the peer sees ECONNRESET."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.ended = True

    def close(self) -> None:
        """End the connection with FIN after what was sent."""
        self.writer.close()
        self.ended = True


Behaviour = Callable[[Connection, Request], Awaitable[None]]
Step = Reply | Behaviour


def json_reply(value: object, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; `retry_after="3"` becomes the header `Retry-After`."""
    named = {name.replace("_", "-").title(): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


def status(code: int, text: str = "") -> Reply:
    """An answer with this status and a plain text."""
    return Reply(code, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})


def redirect(location: str, code: int = 302) -> Reply:
    """A redirect."""
    return Reply(code, b"", {"Location": location})


def too_many(*, seconds: int | None = None, at: timedelta | None = None) -> Reply:
    """429 with a Retry-After in seconds, or as a date that far from now."""
    value = str(seconds) if at is None else format_datetime(datetime.now(UTC) + at, usegmt=True)
    return Reply(429, b'{"error":"slow down"}', {"Content-Type": "application/json", "Retry-After": value})


def gzip_bomb(decoded_bytes: int) -> Reply:
    """Zeros, about a thousand times smaller on the wire."""
    engine = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    full, rest = divmod(decoded_bytes, len(block))
    body = b"".join([*(engine.compress(block) for _ in range(full)), engine.compress(block[:rest]), engine.flush()])
    return Reply(200, body, {"Content-Type": "text/plain", "Content-Encoding": "gzip"})


async def echo(connection: Connection, request: Request) -> None:
    """Answer with the request as JSON: method, target, headers, body (as text)."""
    seen = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": request.body.decode(errors="replace"),
    }
    await connection.send(json_reply(seen).encode(without_body=request.method == "HEAD"))


async def reset(connection: Connection, request: Request) -> None:
    """RST after the request was read."""
    connection.reset()


async def disconnect(connection: Connection, request: Request) -> None:
    """FIN after the request was read, without an answer."""
    connection.close()


async def hang(connection: Connection, request: Request) -> None:
    """No answer until the client goes away."""
    await connection.reader.read()
    connection.close()


async def malformed_head(connection: Connection, request: Request) -> None:
    """Something that is not HTTP."""
    await connection.send(b"220 mail.example ESMTP\r\n\r\n")
    connection.close()


async def bad_chunk(connection: Connection, request: Request) -> None:
    """A chunk whose size is no number."""
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nboom\r\n0\r\n\r\n")
    connection.close()


async def cut_chunks(connection: Connection, request: Request) -> None:
    """Chunks without the last one."""
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    connection.close()


def truncated(body: bytes, sent: int) -> Behaviour:
    """Announces `body`, sends its first `sent` bytes, closes."""

    async def behave(connection: Connection, request: Request) -> None:
        head = Reply(200, body, {"Content-Type": "application/json"}).encode(without_body=True)
        await connection.send(head + body[:sent])
        connection.close()

    return behave


def wrong_length(body: bytes, announced: int) -> Behaviour:
    """Sends `body` under another Content-Length, larger or smaller, and closes."""

    async def behave(connection: Connection, request: Request) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(announced)}
        await connection.send(Reply(200, body, headers).encode())
        connection.close()

    return behave


def chunked(pieces: Iterable[bytes], headers: Mapping[str, str] | None = None) -> Behaviour:
    """A well-formed body in chunks."""

    async def behave(connection: Connection, request: Request) -> None:
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        await connection.send("\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *lines, "", ""]).encode())
        with contextlib.suppress(ConnectionError):  # a client that has enough goes away
            for piece in pieces:
                await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await connection.send(b"0\r\n\r\n")

    return behave


def drip(body: bytes, pause_seconds: float) -> Behaviour:
    """One byte at a time."""

    async def behave(connection: Connection, request: Request) -> None:
        with contextlib.suppress(ConnectionError):
            await connection.send(Reply(200, body).encode(without_body=True))
            for byte in body:
                await connection.send(bytes([byte]))
                await asyncio.sleep(pause_seconds)

    return behave


def after(gate: asyncio.Event, step: Step) -> Behaviour:
    """Waits for an event of the test, then answers."""

    async def behave(connection: Connection, request: Request) -> None:
        await gate.wait()
        await _answer(step, connection, request)

    return behave


def failing(times: int, failure: Step, success: Step) -> Behaviour:
    """Fails so many times, counted over all connections, then succeeds."""
    left = times

    async def behave(connection: Connection, request: Request) -> None:
        nonlocal left
        left -= 1
        await _answer(failure if left >= 0 else success, connection, request)

    return behave


async def closes_idle(connection: Connection, request: Request) -> None:
    """A good answer that promises keep-alive, and FIN right behind it."""
    await connection.send(_OK)
    connection.close()


async def _answer(step: Step, connection: Connection, request: Request) -> None:
    if isinstance(step, Reply):
        connection.writer.write(step.encode(without_body=request.method == "HEAD"))
        if step.close:
            connection.close()
    else:
        await step(connection, request)


class FaultServer:
    """The server. `async with FaultServer() as server:` listens on an ephemeral loopback port until the block ends.

    host: the loopback address or name to listen on. ssl_context: speak TLS. record: off for benchmarks.
    resets_on_accept: that many next connections are dropped with RST before anything is read.
    """

    def __init__(
        self, host: str = "127.0.0.1", *, ssl_context: ssl.SSLContext | None = None, record: bool = True
    ) -> None:
        self.host = host
        self.requests: list[Request] = []
        self.connections = 0
        self.resets_on_accept = 0
        self._ssl = ssl_context
        self._record = record
        self._script: deque[Step] = deque()
        self._routes: dict[str, Step] = {"/echo": echo, "/hang": hang, "/reset": reset, "/loop": redirect("/loop")}
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals = asyncio.Condition()
        self._idle = asyncio.Event()
        self._idle.set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self._ssl is None else 'https'}://{host}:{self.port}"

    def script(self, *steps: Step) -> None:
        """Answer the next requests so, one each, whatever they ask for."""
        self._script.extend(steps)

    def route(self, path: str, step: Step) -> None:
        """Answer every request for a path so (without its query)."""
        self._routes[path] = step

    def redirects(self, count: int, code: int = 302) -> str:
        """A chain of so many redirects; gives the URL of its beginning. It ends at `/`."""
        for left in range(1, count + 1):
            self._routes[f"/redirects/{left}"] = redirect(f"/redirects/{left - 1}" if left > 1 else "/", code)
        return f"{self.url}/redirects/{count}"

    async def wait_for(self, count: int) -> None:
        """Until so many requests have arrived in all."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self.requests) >= count)

    async def wait_idle(self) -> None:
        """Until no connection is open."""
        await self._idle.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self._ssl, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._idle.clear()
        self.connections += 1
        connection = Connection(reader, writer, self.connections)
        try:
            if self.resets_on_accept > 0:
                self.resets_on_accept -= 1
                connection.reset()
            while not connection.ended:
                await self._one(connection)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the server ends
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()
            writer.close()

    async def _one(self, connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        if not self._record and head.startswith(b"GET "):
            connection.writer.write(_OK)
            return
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        request = Request(method, target, headers, b"", connection.number)
        try:
            request.body = await _body(connection.reader, headers)
        finally:
            if self._record:
                self.requests.append(request)
                async with self._arrivals:
                    self._arrivals.notify_all()
        step = self._script.popleft() if self._script else self._routes.get(request.path)
        if step is None:
            connection.writer.write(_OK[:-11] if method == "HEAD" else _OK)
            await connection.writer.drain()
        else:
            await _answer(step, connection, request)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if headers.get("transfer-encoding") != "chunked":
        return b""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


@pytest.fixture
async def fault_server() -> AsyncIterator[FaultServer]:
    """A server on 127.0.0.1 for one test."""
    async with FaultServer() as server:
        yield server


async def _run_alone() -> None:
    async with FaultServer(record=False) as server:
        print(server.port, flush=True)
        # It ends with its parent, whose end closes the pipe.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_run_alone())
