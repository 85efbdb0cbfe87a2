"""The HTTP adapter: what is sent, and what comes back."""

import base64
import gzip
import itertools
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import run
from uuid import uuid4

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault, ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_core.protocols.protocol_effect_handler import ProtocolEffectHandler
from omnibase_spi.http import HttpRestAdapter
from tests.support.http_calls import adapter_with, fault_of, send
from tests.support.http_server import FaultServer, Reply, chunked, gzip_bomb, status


@pytest.fixture
async def adapter() -> AsyncIterator[HttpRestAdapter]:
    adapter = HttpRestAdapter()
    yield adapter
    await adapter.aclose()


def test_imports_no_client_library() -> None:
    """Importing and building the adapter loads neither aiohttp nor yarl."""
    code = (
        "import sys; from omnibase_spi.http import HttpRestAdapter; HttpRestAdapter();"
        "assert not {'aiohttp', 'yarl'} & set(sys.modules)"
    )

    run([sys.executable, "-c", code], check=True)


def test_a_missing_driver_names_the_extra() -> None:
    """Without aiohttp the first request is CONFIGURATION_ERROR that says what to install."""
    code = (
        "import sys, asyncio, uuid; sys.modules['aiohttp'] = None\n"
        "from tests.support.http_calls import send\n"
        "from omnibase_spi.http import HttpRestAdapter\n"
        "from omnibase_core.errors import ModelOnexError\n"
        "try: asyncio.run(send(HttpRestAdapter(), 'http://127.0.0.1:1/'))\n"
        "except ModelOnexError as e: print(e.error_code, e)\n"
    )

    shown = run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert shown.startswith("CONFIGURATION_ERROR")
    assert "pip install 'omnibase[http]'" in shown


def test_is_a_handler() -> None:
    """The adapter has the shape of an effect handler."""
    handler: ProtocolEffectHandler = HttpRestAdapter()

    assert isinstance(handler, ProtocolEffectHandler)


async def test_refuses_another_context(adapter: HttpRestAdapter) -> None:
    """A context of another kind is VALIDATION_ERROR, and nothing is sent."""
    with pytest.raises(EffectFault, match="ModelResolvedDbContext") as caught:
        await adapter.execute(
            resolved_context=ModelResolvedDbContext(timeout_ms=1, connection_name="a"), correlation_id=uuid4()
        )

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.phase is EnumFaultPhase.NOT_SENT


async def test_returns_document_status_and_headers(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A JSON answer is parsed; headers have lower-case names, repeated ones are joined."""
    fault_server.script(
        Reply(201, b'{"id": 12345678901234567890123}', {"Content-Type": "application/json", "X-A": "1", "x-a": "2"})
    )

    response = await send(adapter, f"{fault_server.url}/items")

    assert response.document == {"id": 12345678901234567890123}
    assert response.status_code == 201
    assert response.headers["x-a"] == "1, 2"
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("code", [200, 204, 304, 400, 401, 404, 409, 429, 500, 503, 599])
async def test_returns_any_status(adapter: HttpRestAdapter, fault_server: FaultServer, code: int) -> None:
    """No status is an error of the adapter."""
    fault_server.script(Reply(code))

    response = await send(adapter, fault_server.url)

    assert (response.status_code, response.document) == (code, None)


@pytest.mark.parametrize(
    ("content_type", "response_format", "body", "document"),
    [
        ("application/json", "auto", b'{"a":1}', {"a": 1}),
        ("Application/JSON; charset=utf-8", "auto", b"[1]", [1]),
        ("application/problem+json", "auto", b"null", None),
        ("text/plain", "json", b'{"a":1}', {"a": 1}),
        ("text/plain", "auto", b'{"a":1}', '{"a":1}'),
        ("application/json", "text", b'{"a":1}', '{"a":1}'),
        ("text/plain; charset=ISO-8859-1", "auto", b"gr\xfcn", "grün"),
        ("text/plain; charset=idna", "auto", b"abc", "abc"),
        ("text/plain; charset=no-such", "auto", b"abc", "abc"),
        ("text/plain; charset=base64", "auto", b"abc", "abc"),
        ("text/plain", "auto", b"\xff", "\ufffd"),
        ("application/json", "auto", b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        ("application/json; charset=utf-16", "auto", '{"a":1}'.encode("utf-16"), {"a": 1}),
        ("application/json", "bytes", b"\x00\xff", base64.b64encode(b"\x00\xff").decode()),
        ("image/png", "bytes", b"\x89PNG", base64.b64encode(b"\x89PNG").decode()),
        ("application/json", "json", b"", None),
        ("image/png", "bytes", b"", None),
    ],
)
async def test_makes_a_document_of_the_body(
    adapter: HttpRestAdapter,
    fault_server: FaultServer,
    content_type: str,
    response_format: str,
    body: bytes,
    document: object,
) -> None:
    """`response_format` and Content-Type decide together what becomes of a body."""
    fault_server.script(Reply(200, body, {"Content-Type": content_type}))

    response = await send(adapter, fault_server.url, response_format=response_format)

    assert response.document == document


@pytest.mark.parametrize(("content_type", "response_format"), [("application/json", "auto"), ("text/html", "json")])
async def test_bad_json_of_a_success_is_done(
    adapter: HttpRestAdapter, fault_server: FaultServer, content_type: str, response_format: str
) -> None:
    """A success whose JSON does not parse is a fault behind the effect, without the body in its message."""
    fault_server.script(Reply(200, b'{"card": 4111', {"Content-Type": content_type}))

    fault = await fault_of(adapter, fault_server.url, response_format=response_format)

    assert (fault.phase, fault.error_kind, fault.transient) == (EnumFaultPhase.DONE, "BAD_RESPONSE_BODY", False)
    assert "4111" not in str(fault)


async def test_bad_json_of_a_failure_is_text(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """An error page that claims to be JSON does not hide the status."""
    fault_server.script(Reply(502, b"<html>", {"Content-Type": "application/json"}))

    response = await send(adapter, fault_server.url, response_format="json")

    assert (response.status_code, response.document) == (502, "<html>")


@pytest.mark.parametrize("nan", [b"NaN", b"[Infinity]"])
async def test_json_has_no_nan(adapter: HttpRestAdapter, fault_server: FaultServer, nan: bytes) -> None:
    """NaN and Infinity are not JSON."""
    fault_server.script(Reply(200, nan))

    fault = await fault_of(adapter, fault_server.url, response_format="json")

    assert fault.phase is EnumFaultPhase.DONE


async def test_sends_method_headers_query_and_body(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """Query values are encoded once, what the URL has already stays as it is, and a body goes out as UTF-8."""
    await send(
        adapter,
        f"{fault_server.url}/a%2Fb%20c?x=%41&y=1#fragment",
        method="PATCH",
        headers={"X-Key": "k"},
        query_params={"q": "a b&c=ü+/", "n": ["1", "2"]},
        body="grün",
    )

    request = fault_server.requests[0]
    assert request.method == "PATCH"
    assert request.target == "/a%2Fb%20c?x=%41&y=1&q=a%20b%26c%3D%C3%BC%2B%2F&n=1&n=2"
    assert request.headers["x-key"] == "k"
    assert request.body == "grün".encode()
    assert request.headers["content-type"] == "text/plain; charset=utf-8"
    assert request.headers["accept-encoding"] == "gzip, deflate"


async def test_an_iri_is_encoded(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """Letters outside ASCII in path and query are percent-encoded; what is encoded stays."""
    await send(adapter, f"{fault_server.url}/grün%20?q=é")

    assert fault_server.requests[0].target == "/gr%C3%BCn%20?q=%C3%A9"


@pytest.mark.parametrize(
    ("fields", "content_type", "body"),
    [
        ({"method": "POST", "body": ""}, None, b""),
        ({"method": "POST"}, None, b""),
        ({"method": "POST", "body": b"\x00"}, "application/octet-stream", b"\x00"),
        ({"method": "PUT", "body": "{}", "headers": {"content-type": "application/json"}}, "application/json", b"{}"),
        ({"method": "GET", "body": "q"}, "text/plain; charset=utf-8", b"q"),
    ],
)
async def test_content_type_belongs_to_a_body(
    adapter: HttpRestAdapter,
    fault_server: FaultServer,
    fields: dict[str, object],
    content_type: str | None,
    body: bytes,
) -> None:
    """Only a body that is there gets a Content-Type, and the contract's own one wins."""
    await send(adapter, fault_server.url, **fields)

    request = fault_server.requests[0]
    assert (request.headers.get("content-type"), request.body) == (content_type, body)


async def test_a_head_request_has_no_body(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """HEAD gives status and headers, even when the announced body would exceed the cap."""
    headers = {"Content-Type": "application/json", "Content-Length": "99999999999", "Content-Encoding": "gzip"}
    fault_server.script(Reply(200, b"", headers), Reply(200, b"", headers | {"Content-Encoding": "identity"}))

    for _ in range(2):
        response = await send(adapter, fault_server.url, method="HEAD")

        assert (response.status_code, response.document) == (200, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\0"),
        ("X-A", "ü"),
        ("X A", "a"),
        ("X-A\r\n", "a"),
        ("", "a"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("host", "internal"),
    ],
)
async def test_refuses_headers_that_break_the_request(
    adapter: HttpRestAdapter, fault_server: FaultServer, name: str, value: str
) -> None:
    """No header can end the head early, change the length of the body, or name another host."""
    fault = await fault_of(adapter, fault_server.url, method="POST", body="x", headers={name: value})

    assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.VALIDATION_ERROR, EnumFaultPhase.NOT_SENT)
    assert fault_server.connections == 0


@pytest.mark.parametrize(
    "url", ["http://h/a b", "http://h/a\r\nX: y", "http://[::1", "http://h:99999999/", "/relative"]
)
async def test_refuses_what_is_no_url(adapter: HttpRestAdapter, url: str) -> None:
    """A malformed URL is refused before anything is dialled."""
    fault = await fault_of(adapter, url)

    assert fault.phase is EnumFaultPhase.NOT_SENT
    assert fault.error_code in (EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.SECURITY_VIOLATION)


async def test_ignores_proxies_of_the_environment(
    adapter: HttpRestAdapter, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HTTP_PROXY` does not send requests elsewhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    response = await send(adapter, fault_server.url)

    assert response.status_code == 200


async def test_keeps_no_cookies(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A cookie of one operation does not come back in another."""
    fault_server.script(Reply(200, b"", {"Set-Cookie": "session=1"}))

    for _ in range(2):
        await send(adapter, fault_server.url)

    assert "cookie" not in fault_server.requests[1].headers


async def test_reuses_a_connection(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """Requests one after another share a connection, whatever their connect timeouts."""
    for connect_timeout_ms in (5000, 5000, 1000):
        await send(adapter, fault_server.url, connect_timeout_ms=connect_timeout_ms)

    assert fault_server.connections == 1


class TestCap:
    """No answer is held above the smaller of the contract's and the operator's cap, counted decoded."""

    @pytest.mark.parametrize(
        "step",
        [
            Reply(200, b"x" * 2001),
            chunked([b"x" * 500] * 5),
            chunked([gzip.compress(b"x" * 2001)], {"Content-Encoding": "gzip"}),
            Reply(200, zlib.compress(b"x" * 2001), {"Content-Encoding": "deflate"}),
            Reply(500, b"x" * 2001),
        ],
    )
    @pytest.mark.parametrize(("contract", "operator"), [(2000, 1 << 20), (1 << 20, 2000)])
    async def test_stops_above(self, fault_server: FaultServer, step: Reply, contract: int, operator: int) -> None:
        """One byte too many is RESPONSE_TOO_LARGE, DONE, never repeated."""
        fault_server.script(step)
        adapter = adapter_with(max_response_bytes=operator)

        fault = await fault_of(adapter, fault_server.url, max_response_bytes=contract)

        assert (fault.error_kind, fault.phase) == ("RESPONSE_TOO_LARGE", EnumFaultPhase.DONE)
        assert not fault.transient
        assert "2000 bytes" in str(fault)
        await adapter.aclose()

    async def test_does_not_wait_for_the_rest(self, adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
        """An endless body is cut off at the cap by closing the connection."""
        fault_server.script(chunked(itertools.repeat(b"x" * 65536)))

        fault = await fault_of(adapter, fault_server.url, max_response_bytes=1 << 20)

        assert fault.error_kind == "RESPONSE_TOO_LARGE"
        await fault_server.wait_idle()

    @pytest.mark.parametrize(
        "step",
        [
            Reply(200, b"x" * 2000),
            chunked([b"x" * 500] * 4),
            chunked([gzip.compress(b"x" * 2000)], {"Content-Encoding": "gzip"}),
        ],
    )
    async def test_lets_the_cap_itself_through(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, step: Reply
    ) -> None:
        """A body of exactly the cap is returned."""
        fault_server.script(step)

        response = await send(adapter, fault_server.url, max_response_bytes=2000)

        assert response.document == "x" * 2000

    async def test_a_gzip_bomb_is_not_inflated(self, adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
        """64 MiB in 64 KiB stop at the cap, with memory near the cap."""
        import tracemalloc

        fault_server.script(gzip_bomb(64 << 20))
        tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            fault = await fault_of(adapter, fault_server.url, max_response_bytes=1 << 20)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

        assert fault.error_kind == "RESPONSE_TOO_LARGE"
        assert peak < 4 << 20


class TestEncodings:
    """gzip and deflate are undone; what was not asked for is not guessed at."""

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            ("gzip", gzip.compress(b"hello", mtime=0)),
            ("x-gzip", gzip.compress(b"hello", mtime=0)),
            ("GZIP", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0)),
            ("gzip", gzip.compress(b"hello", mtime=0) + b"\0\0"),
            ("deflate", zlib.compress(b"hello")),
            ("deflate", zlib.compress(b"hello", wbits=-15)),
            ("identity", b"hello"),
        ],
    )
    async def test_decodes(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, encoding: str, body: bytes
    ) -> None:
        """Each spelling of an encoding gives the text, also when it comes byte by byte."""
        headers = {"Content-Encoding": encoding}
        fault_server.script(Reply(200, body, headers), chunked([bytes([byte]) for byte in body], headers))

        for _ in range(2):
            response = await send(adapter, fault_server.url)

            assert response.document == "hello"

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            ("br", b"abc"),
            ("gzip, br", b"abc"),
            ("gzip", b"not gzip"),
            ("gzip", gzip.compress(b"hello" * 99, mtime=0)[:-9]),
        ],
    )
    async def test_what_cannot_be_decoded(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, encoding: str, body: bytes
    ) -> None:
        """A success is a fault behind the effect; a failure keeps its status and loses its body."""
        fault_server.script(*(Reply(code, body, {"Content-Encoding": encoding}) for code in (200, 503)))

        fault = await fault_of(adapter, fault_server.url)
        response = await send(adapter, fault_server.url)

        assert fault.phase is EnumFaultPhase.DONE
        assert (response.status_code, response.document) == (503, None)


class TestBodyFile:
    """A file is streamed from below the roots."""

    async def test_is_streamed(self, fault_server: FaultServer, tmp_path: Path) -> None:
        """A file larger than the pieces arrives whole, with its length announced, under a relative name too."""
        content = bytes(range(256)) * 8192
        (tmp_path / "data.bin").write_bytes(content)
        adapter = adapter_with(file_roots=(tmp_path,))

        for name in ("data.bin", str(tmp_path / "data.bin")):
            await send(adapter, fault_server.url, method="PUT", body_file=name)

        assert [request.body == content for request in fault_server.requests] == [True, True]
        assert fault_server.requests[0].headers["content-length"] == str(len(content))
        assert fault_server.requests[0].headers["content-type"] == "application/octet-stream"

    async def test_an_empty_file_is_an_empty_body(self, fault_server: FaultServer, tmp_path: Path) -> None:
        """A file of no bytes is sent as such."""
        (tmp_path / "empty").touch()

        await send(adapter_with(file_roots=(tmp_path,)), fault_server.url, method="POST", body_file="empty")

        assert fault_server.requests[0].headers["content-length"] == "0"

    async def test_stays_below_the_roots(self, fault_server: FaultServer, tmp_path: Path) -> None:
        """Neither `..` nor a link nor an absolute path leaves the roots; nothing is dialled."""
        (tmp_path / "secret").write_text("s")
        root = tmp_path / "root"
        root.mkdir()
        (root / "link").symlink_to(tmp_path / "secret")
        adapter = adapter_with(file_roots=(root,))

        for name in ("../secret", "link", str(tmp_path / "secret")):
            fault = await fault_of(adapter, fault_server.url, method="POST", body_file=name)

            assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
            assert fault.phase is EnumFaultPhase.NOT_SENT
        assert fault_server.connections == 0

    async def test_a_missing_file_is_not_sent(self, fault_server: FaultServer, tmp_path: Path) -> None:
        """A file that is not there is NOT_FOUND before anything is dialled; a directory is refused."""
        adapter = adapter_with(file_roots=(tmp_path,))
        (tmp_path / "directory").mkdir()

        missing = await fault_of(adapter, fault_server.url, method="POST", body_file="no")
        directory = await fault_of(adapter, fault_server.url, method="POST", body_file="directory")

        assert (missing.error_code, missing.phase) == (EnumCoreErrorCode.NOT_FOUND, EnumFaultPhase.NOT_SENT)
        assert directory.phase is EnumFaultPhase.NOT_SENT
        assert fault_server.connections == 0


async def test_a_large_text_is_sent_whole(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A body of several MiB goes out in pieces, without a warning of the client."""
    body = "0123456789" * 300_000

    await send(adapter, fault_server.url, method="POST", body=body)

    assert fault_server.requests[0].body == body.encode()
    assert fault_server.requests[0].headers["content-length"] == str(len(body))


@pytest.mark.parametrize("setting", ["allowed_hosts", "private_hosts", "tls_exceptions"])
def test_a_policy_that_cannot_match_is_refused(setting: str) -> None:
    """An entry that is no host is CONFIGURATION_ERROR that names the setting."""
    with pytest.raises(ModelOnexError, match=rf"policy\.{setting}") as caught:
        adapter_with(**{setting: ("https://example.com",)})

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


async def test_a_redirect_status_without_location_is_an_answer(
    adapter: HttpRestAdapter, fault_server: FaultServer
) -> None:
    """There is nothing to follow in it."""
    fault_server.script(status(302, "moved"))

    response = await send(adapter, fault_server.url)

    assert (response.status_code, response.document) == (302, "moved")
