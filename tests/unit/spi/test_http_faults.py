"""The HTTP adapter: what goes wrong on the way, how far it had come, and that it is asked for exactly once."""

import asyncio
import contextlib
import gc
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_spi._errors import HTTP_ROWS, find_row
from omnibase_spi.http import HttpRestAdapter
from tests.support.http_calls import CORRELATION_ID, adapter_with, fault_of, send
from tests.support.http_server import (
    FaultServer,
    Step,
    bad_chunk,
    closes_idle,
    cut_chunks,
    disconnect,
    drip,
    hang,
    malformed_head,
    reset,
    status,
    truncated,
    wrong_length,
)

NOT_SENT, AMBIGUOUS = EnumFaultPhase.NOT_SENT, EnumFaultPhase.AMBIGUOUS
_BODY = b'{"a": [1, 2, 3]}'


@pytest.fixture
async def adapter() -> AsyncIterator[HttpRestAdapter]:
    adapter = HttpRestAdapter()
    yield adapter
    await adapter.aclose()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts no further connection and refuses none: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of `localhost` and its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = path.with_suffix(".key")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(path)], check=True, capture_output=True)
    path.write_text(key.read_text() + path.read_text())
    return path


@pytest.fixture
async def tls_server(certificate: Path) -> AsyncIterator[FaultServer]:
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate)
    async with FaultServer(ssl_context=server_context) as server:
        yield server


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "step",
    [
        reset,
        disconnect,
        truncated(_BODY, 0),
        truncated(_BODY, 5),
        wrong_length(_BODY, len(_BODY) + 1),
        wrong_length(_BODY, len(_BODY) - 1),
        bad_chunk,
        cut_chunks,
        malformed_head,
    ],
)
async def test_a_lost_answer_is_ambiguous(
    adapter: HttpRestAdapter, fault_server: FaultServer, method: str, step: Step
) -> None:
    """After the request went out every lost or broken answer is ECONNRESET, AMBIGUOUS; the server saw one request."""
    fault_server.script(step)

    fault = await fault_of(adapter, f"{fault_server.url}/x", method=method, body=None if method == "GET" else "{}")

    assert (fault.error_kind, fault.phase, fault.transient) == ("ECONNRESET", AMBIGUOUS, False)
    assert fault.correlation_id == CORRELATION_ID
    assert len(fault_server.requests) == 1
    await fault_server.wait_idle()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_stale_connection_is_not_tried_twice(
    adapter: HttpRestAdapter, fault_server: FaultServer, method: str
) -> None:
    """A pooled connection that breaks while it is reused is AMBIGUOUS, and nothing is sent a second time unseen."""
    fault_server.script(status(200), reset)

    first = await send(adapter, fault_server.url)
    fault = await fault_of(adapter, fault_server.url, method=method)

    assert first.status_code == 200
    assert (fault.error_kind, fault.phase) == ("ECONNRESET", AMBIGUOUS)
    assert [request.connection for request in fault_server.requests] == [1, 1]


async def test_a_connection_that_was_seen_to_close_is_not_reused(
    adapter: HttpRestAdapter, fault_server: FaultServer
) -> None:
    """Once the server's FIN has arrived, the next request opens a connection of its own."""
    fault_server.script(closes_idle)
    await send(adapter, fault_server.url)
    await fault_server.wait_idle()
    await asyncio.sleep(0)  # the loop reads the FIN
    await asyncio.sleep(0)

    with contextlib.suppress(EffectFault):
        await send(adapter, fault_server.url)
    response = await send(adapter, fault_server.url)

    assert response.status_code == 200


async def test_a_reset_before_the_request_is_read(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A connection that is reset at once may have carried the request: never NOT_SENT."""
    fault_server.resets_on_accept = 1

    fault = await fault_of(adapter, fault_server.url, method="POST", body="x")

    assert (fault.error_kind, fault.phase) == ("ECONNRESET", AMBIGUOUS)
    assert fault_server.requests == []


async def test_a_refused_connection_is_not_sent(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """Nothing listens: ECONNREFUSED, NOT_SENT, with host, port and path in the message and no query."""
    async with FaultServer() as gone:
        url = gone.url

    fault = await fault_of(adapter, f"{url}/orders/1?token=geheim", query_params={"more": "geheim"})

    assert (fault.error_kind, fault.phase) == ("ECONNREFUSED", NOT_SENT)
    assert f"{url}/orders/1" in str(fault)
    assert "geheim" not in repr((str(fault), fault.args, fault.context))
    assert fault.__cause__ is None
    assert fault.__context__ is None


async def test_an_unknown_name_is_not_sent(adapter: HttpRestAdapter) -> None:
    """A name that does not resolve is ECONNREFUSED, NOT_SENT."""
    fault = await fault_of(adapter, "http://name.invalid/")

    assert (fault.error_kind, fault.phase) == ("ECONNREFUSED", NOT_SENT)
    assert "resolve" in str(fault)


async def test_a_connect_timeout_is_not_sent(adapter: HttpRestAdapter, silent_port: int) -> None:
    """No connection within `connect_timeout_ms` is ETIMEDOUT, NOT_SENT, and the limit is not rounded up."""
    loop = asyncio.get_running_loop()
    started = loop.time()

    fault = await fault_of(adapter, f"http://127.0.0.1:{silent_port}/", connect_timeout_ms=150)

    assert (fault.error_kind, fault.phase) == ("ETIMEDOUT", NOT_SENT)
    assert fault.error_code is EnumCoreErrorCode.TIMEOUT
    assert "150 ms" in str(fault)
    assert loop.time() - started < 1


async def test_sets_no_total_timeout(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A drip slower than the connect timeout is waited for: the executor sets the limit."""
    fault_server.script(drip(b"slow", 0.03))

    response = await send(adapter, fault_server.url, connect_timeout_ms=50, timeout_ms=1)

    assert response.document == "slow"


class TestTls:
    """Certificates are checked, and only the operator can make an exception."""

    async def test_a_bad_certificate_is_never_repeated(self, adapter: HttpRestAdapter, tls_server: FaultServer) -> None:
        """A certificate nobody vouches for is no connection fault: SECURITY_VIOLATION, NOT_SENT, with the reason."""
        fault = await fault_of(adapter, tls_server.url)

        assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
        assert (fault.error_kind, fault.phase, fault.transient) == ("TLS_CERTIFICATE", NOT_SENT, False)
        assert "self-signed certificate" in str(fault) or "self signed certificate" in str(fault)
        assert tls_server.requests == []

    async def test_no_tls_at_all(self, adapter: HttpRestAdapter) -> None:
        """A server that does not speak TLS is ECONNREFUSED, NOT_SENT."""

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            await reader.read()
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            fault = await fault_of(adapter, f"https://127.0.0.1:{port}/")

        assert (fault.error_kind, fault.phase) == ("ECONNREFUSED", NOT_SENT)

    async def test_verify_ssl_false_needs_the_operator(self, adapter: HttpRestAdapter, tls_server: FaultServer) -> None:
        """A contract cannot switch the check off by itself; the refusal names the setting."""
        fault = await fault_of(adapter, tls_server.url, verify_ssl=False)

        assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.SECURITY_VIOLATION, NOT_SENT)
        assert "policy.tls_exceptions" in str(fault)
        assert tls_server.connections == 0

    async def test_an_exception_is_heeded(self, tls_server: FaultServer) -> None:
        """For a host that the operator named, `verify_ssl: false` works; without it the check remains."""
        adapter = adapter_with(tls_exceptions=(f"127.0.0.1:{tls_server.port}",))

        response = await send(adapter, tls_server.url, verify_ssl=False)
        fault = await fault_of(adapter, tls_server.url)

        assert response.document == {"ok": True}
        assert fault.error_kind == "TLS_CERTIFICATE"
        await adapter.aclose()

    async def test_plain_http_has_no_certificate(self, adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
        """`verify_ssl: false` asks for nothing where there is no TLS."""
        response = await send(adapter, fault_server.url, verify_ssl=False)

        assert response.status_code == 200


class TestCancellation:
    """Cancellation passes, closes the connection, and leaves nothing behind."""

    @pytest.mark.parametrize("step", [hang, drip(b"x" * 1000, 0.05)])
    async def test_closes_the_connection(self, adapter: HttpRestAdapter, fault_server: FaultServer, step: Step) -> None:
        """A request that is cancelled while it waits for head or body is gone at once on the server's side."""
        fault_server.script(step)
        task = asyncio.create_task(send(adapter, fault_server.url, method="POST", body="x"))
        await fault_server.wait_for(1)

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await fault_server.wait_idle()

    @pytest.mark.parametrize("kind", ["file", "text"])
    async def test_ends_an_upload(self, fault_server: FaultServer, tmp_path: Path, kind: str) -> None:
        """A body that the server does not read stops with its request: no task and no descriptor is left."""
        received = asyncio.Event()

        async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            received.set()
            with contextlib.closing(writer):
                await asyncio.Event().wait()

        server = await asyncio.start_server(stuck, "127.0.0.1", 0, limit=1024)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        file = tmp_path / "big"
        with file.open("wb") as out:
            out.truncate(64 << 20)
        adapter = adapter_with(file_roots=(tmp_path,))
        fields = {"body_file": "big"} if kind == "file" else {"body": "x" * (64 << 20)}
        sockets = sum(link.startswith("socket:") for link in _open_files())
        task = asyncio.create_task(send(adapter, url, method="POST", **fields))
        await received.wait()
        before = asyncio.all_tasks() - {task}

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert asyncio.all_tasks() <= before
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next round of the loop
        links = _open_files()
        assert str(file) not in links
        assert sum(link.startswith("socket:") for link in links) == sockets + 1  # the server's side
        await adapter.aclose()
        server.close()
        for leftover in before - {asyncio.current_task()}:
            leftover.cancel()
        await asyncio.gather(*(before - {asyncio.current_task()}), return_exceptions=True)

    async def test_while_it_connects(self, adapter: HttpRestAdapter, silent_port: int) -> None:
        """A connection attempt ends with its request."""
        tasks = asyncio.all_tasks()
        task = asyncio.create_task(send(adapter, f"http://127.0.0.1:{silent_port}/"))
        await asyncio.sleep(0.05)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert asyncio.all_tasks() == tasks


async def test_a_file_that_shrinks_is_reported(fault_server: FaultServer, tmp_path: Path) -> None:
    """A file that loses bytes while it is sent is a fault of the file, AMBIGUOUS, not of the connection."""
    path = tmp_path / "shrinks"
    path.write_bytes(b"x" * (32 << 20))
    adapter = adapter_with(file_roots=(tmp_path,))

    async def shrink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        path.write_bytes(b"")
        while await reader.read(1 << 20):
            pass
        writer.close()

    async with await asyncio.start_server(shrink, "127.0.0.1", 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        fault = await fault_of(adapter, f"http://127.0.0.1:{port}/", method="POST", body_file="shrinks")

    assert (fault.error_kind, fault.phase) == ("BODY_FILE", AMBIGUOUS)
    await adapter.aclose()


def test_every_exception_of_the_client_has_a_row() -> None:
    """The table knows all exceptions that aiohttp's client can raise about a request."""
    unknown = [
        f"{cls.__module__}.{cls.__qualname__}"
        for cls in _with_subclasses(aiohttp.ClientError) | _with_subclasses(aiohttp.http_exceptions.HttpProcessingError)
        if find_row(HTTP_ROWS, cls.__new__(cls)) is None
    ]

    assert unknown == []


@pytest.mark.parametrize(
    ("cls", "kind", "phase"),
    [
        (aiohttp.ClientConnectorDNSError, "ECONNREFUSED", NOT_SENT),
        (aiohttp.ClientConnectorSSLError, "ECONNREFUSED", NOT_SENT),
        (aiohttp.ClientConnectorCertificateError, "TLS_CERTIFICATE", NOT_SENT),
        (aiohttp.ConnectionTimeoutError, "ETIMEDOUT", NOT_SENT),
        (aiohttp.SocketTimeoutError, "ETIMEDOUT", AMBIGUOUS),
        (aiohttp.ServerDisconnectedError, "ECONNRESET", AMBIGUOUS),
        (aiohttp.ClientOSError, "ECONNRESET", AMBIGUOUS),
        (aiohttp.ClientPayloadError, "ECONNRESET", AMBIGUOUS),
        (aiohttp.ClientResponseError, "ECONNRESET", AMBIGUOUS),
        (aiohttp.InvalidURL, "INVALID_URL", NOT_SENT),
    ],
)
def test_rows(cls: type[Exception], kind: str, phase: EnumFaultPhase) -> None:
    """Which exception means which fault."""
    row = find_row(HTTP_ROWS, cls.__new__(cls))

    assert row is not None
    assert (row.error_kind, row.phase) == (kind, phase)


def _with_subclasses(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(_with_subclasses(sub) for sub in cls.__subclasses__()))


def _open_files() -> list[str]:
    gc.collect()
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(descriptor.readlink()))
    return links
