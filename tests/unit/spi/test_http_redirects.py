"""The HTTP adapter: what follows a redirect, what does not, and what a failure behind one means."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_spi.http import HttpRestAdapter
from tests.support.http_calls import adapter_with, fault_of, send
from tests.support.http_server import FaultServer, Reply, redirect, reset, status

SECRET_HEADERS = {
    "Authorization": "Bearer geheim",
    "X-Api-Key": "geheim",
    "Cookie": "geheim",
    "Accept": "text/plain",
    "Accept-Language": "de",
    "Content-Type": "text/csv",
    "User-Agent": "shop/1",
}


@pytest.fixture
async def adapter() -> AsyncIterator[HttpRestAdapter]:
    adapter = HttpRestAdapter()
    yield adapter
    await adapter.aclose()


@pytest.fixture
async def other_server() -> AsyncIterator[FaultServer]:
    """Another origin: the same host on another port."""
    async with FaultServer() as server:
        yield server


@pytest.mark.parametrize(
    ("code", "method", "then"),
    [
        (301, "GET", "GET"),
        (302, "GET", "GET"),
        (303, "GET", "GET"),
        (307, "GET", "GET"),
        (308, "GET", "GET"),
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (303, "PUT", "GET"),
        (303, "DELETE", "GET"),
        (301, "HEAD", "HEAD"),
        (303, "HEAD", "HEAD"),
        (307, "PATCH", "PATCH"),
    ],
)
async def test_methods_change_as_in_browsers(
    adapter: HttpRestAdapter, fault_server: FaultServer, code: int, method: str, then: str
) -> None:
    """Where the method stays, so does the body; where it becomes GET, the body and what describes it are dropped."""
    body = None if method in ("GET", "HEAD") else "a,b"
    fault_server.script(redirect("/next?x=1", code))
    headers = {"X-Api-Key": "k"} | ({"Content-Type": "text/csv"} if body else {})

    response = await send(adapter, f"{fault_server.url}/first", method=method, body=body, headers=headers)

    second = fault_server.requests[1]
    kept = body is not None and then == method
    assert response.status_code == 200
    assert (second.method, second.target) == (then, "/next?x=1")
    assert second.body == (b"a,b" if kept else b"")
    assert second.headers.get("content-type") == ("text/csv" if kept else None)
    assert second.headers["x-api-key"] == "k"


async def test_a_redirect_that_is_not_followed_is_an_answer(
    adapter: HttpRestAdapter, fault_server: FaultServer
) -> None:
    """`follow_redirects: false` gives the 3xx with its headers."""
    fault_server.script(redirect("http://169.254.169.254/", 307))

    response = await send(adapter, fault_server.url, follow_redirects=False)

    assert (response.status_code, response.headers["location"]) == (307, "http://169.254.169.254/")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("b", "/dir/b"),
        ("/b", "/b"),
        ("?q=1", "/dir/a?q=1"),
        ("../b", "/b"),
        ("/%2e%2e/b%2Fc", "/%2e%2e/b%2Fc"),
        ("/grün", "/gr%C3%BCn"),
        ("/b#part", "/b"),
    ],
)
async def test_locations_are_resolved(
    adapter: HttpRestAdapter, fault_server: FaultServer, location: str, target: str
) -> None:
    """A relative location counts from the URL that sent it; what is encoded is not encoded again."""
    fault_server.script(Reply(302, b"", {"Location": location.encode().decode("latin-1")}))

    await send(adapter, f"{fault_server.url}/dir/a")

    assert fault_server.requests[1].target == target


async def test_ten_redirects_and_no_more(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """The tenth redirect is followed, the eleventh is a permanent fault."""
    response = await send(adapter, fault_server.redirects(10))
    fault = await fault_of(adapter, fault_server.redirects(11))

    assert response.status_code == 200
    assert (fault.error_kind, fault.phase, fault.transient) == ("REDIRECT", EnumFaultPhase.REJECTED, False)
    assert "more than 10" in str(fault)
    assert len(fault_server.requests) == 11 + 11


async def test_a_loop_is_found(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A request that was made before is not made again."""
    fault_server.route("/a", redirect("/b"))
    fault_server.route("/b", redirect("/a"))

    fault = await fault_of(adapter, f"{fault_server.url}/a")

    assert "circle" in str(fault)
    assert [request.path for request in fault_server.requests] == ["/a", "/b"]


class TestAnotherOrigin:
    """Scheme, host and port make an origin; credentials do not leave it."""

    @pytest.mark.parametrize("code", [302, 307])
    async def test_only_harmless_headers_cross(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, other_server: FaultServer, code: int
    ) -> None:
        """Of the contract's headers four cross, Content-Type only along with the body."""
        fault_server.script(redirect(f"{other_server.url}/there", code))

        await send(adapter, fault_server.url, method="POST", body="a,b", headers=SECRET_HEADERS)

        headers = other_server.requests[0].headers
        assert "geheim" not in str(headers)
        assert (headers["accept"], headers["accept-language"], headers["user-agent"]) == ("text/plain", "de", "shop/1")
        assert headers.get("content-type") == ("text/csv" if code == 307 else None)
        assert other_server.requests[0].body == (b"a,b" if code == 307 else b"")

    async def test_headers_do_not_come_back(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, other_server: FaultServer
    ) -> None:
        """A foreign server cannot make us use our credentials at a URL of its choice."""
        fault_server.script(redirect(f"{other_server.url}/there"))
        other_server.script(redirect(f"{fault_server.url}/delete-all"))

        await send(adapter, f"{fault_server.url}/start", headers=SECRET_HEADERS)

        assert "geheim" not in str(fault_server.requests[1].headers)
        assert fault_server.requests[1].path == "/delete-all"

    @pytest.mark.parametrize("code", [307, 308])
    async def test_a_secret_body_stays(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, other_server: FaultServer, code: int
    ) -> None:
        """A body that holds a secret is not sent elsewhere: SECURITY_VIOLATION, REJECTED, nothing arrives there."""
        fault_server.script(redirect(f"{other_server.url}/there", code))

        fault = await fault_of(adapter, fault_server.url, method="POST", body="geheim", body_is_secret=True)

        assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.SECURITY_VIOLATION, EnumFaultPhase.REJECTED)
        assert fault.error_kind == "REFUSED"
        assert "geheim" not in str(fault)
        assert other_server.connections == 0

    async def test_a_secret_body_follows_at_home(self, adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
        """Within the origin it goes along, and where the method becomes GET there is none to carry."""
        fault_server.script(redirect("/b", 307))

        await send(adapter, f"{fault_server.url}/a", method="POST", body="geheim", body_is_secret=True)

        assert fault_server.requests[1].body == b"geheim"

    async def test_a_dropped_secret_body_hinders_nothing(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, other_server: FaultServer
    ) -> None:
        """303 to another origin is followed without the body."""
        fault_server.script(redirect(other_server.url, 303))

        response = await send(adapter, fault_server.url, method="POST", body="geheim", body_is_secret=True)

        assert response.status_code == 200
        assert other_server.requests[0].body == b""

    async def test_a_file_is_sent_again(
        self, fault_server: FaultServer, other_server: FaultServer, tmp_path: Path
    ) -> None:
        """307 sends `body_file` from its beginning."""
        (tmp_path / "data").write_bytes(b"x" * 200_000)
        adapter = adapter_with(file_roots=(tmp_path,))
        fault_server.script(redirect(f"{other_server.url}/", 307))

        await send(adapter, fault_server.url, method="PUT", body_file="data")

        assert len(other_server.requests[0].body) == 200_000
        await adapter.aclose()


class TestRefused:
    """Every hop obeys the same rules; the refusal names the setting."""

    @pytest.mark.parametrize(
        ("location", "phrase"),
        [
            ("ftp://127.0.0.1/x", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("javascript:alert(1)", "scheme"),
            ("http://me:geheim@127.0.0.1/", "user name"),
            ("http://2130706433/", "canonical"),
            ("http://0x7f.1/", "canonical"),
            ("http://127.1/", "canonical"),
            ("http://localhost/", "private_hosts"),
            ("http://[::ffff:127.0.0.1]/", "private_hosts"),
            ("http://169.254.169.254/latest/meta-data", "private_hosts"),
            ("//10.0.0.1/", "private_hosts"),
        ],
    )
    async def test_unsafe_targets(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, location: str, phrase: str
    ) -> None:
        """A server cannot send us to another scheme, to an odd spelling, or into the private network."""
        fault_server.script(redirect(location))

        fault = await fault_of(adapter, fault_server.url)

        assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
        assert fault.error_kind == "REFUSED"
        assert not fault.transient
        assert fault.phase in (EnumFaultPhase.NOT_SENT, EnumFaultPhase.REJECTED)
        assert phrase in str(fault)
        assert "geheim" not in str(fault)

    async def test_allowed_hosts_of_the_contract(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, other_server: FaultServer
    ) -> None:
        """A hop that the contract does not list is not dialled."""
        fault_server.script(redirect(other_server.url))

        fault = await fault_of(adapter, fault_server.url, allowed_hosts=(f"127.0.0.1:{fault_server.port}",))

        assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
        assert "contract's allowed_hosts" in str(fault)
        assert other_server.connections == 0

    async def test_allowed_hosts_of_the_operator(self, fault_server: FaultServer, other_server: FaultServer) -> None:
        """A hop that the operator does not list is not dialled."""
        fault_server.script(redirect(other_server.url))
        adapter = adapter_with(allowed_hosts=(f"127.0.0.1:{fault_server.port}",))

        fault = await fault_of(adapter, fault_server.url)

        assert "policy.allowed_hosts" in str(fault)
        assert other_server.connections == 0
        await adapter.aclose()

    async def test_a_granted_host_is_followed(self, fault_server: FaultServer) -> None:
        """A private host that the operator names may be named by a redirect."""
        fault_server.script(redirect(f"http://localhost:{fault_server.port}/there"))
        adapter = adapter_with(private_hosts=("localhost",))

        response = await send(adapter, fault_server.url)

        assert response.status_code == 200
        assert fault_server.requests[1].path == "/there"
        await adapter.aclose()


class TestPhases:
    """A fault behind a redirect says what the servers before may have done."""

    @pytest.mark.parametrize(
        ("method", "code", "phase"),
        [
            ("GET", 302, EnumFaultPhase.NOT_SENT),
            ("POST", 307, EnumFaultPhase.NOT_SENT),
            ("POST", 302, EnumFaultPhase.AMBIGUOUS),
            ("POST", 303, EnumFaultPhase.DONE),
            ("DELETE", 303, EnumFaultPhase.DONE),
        ],
    )
    async def test_when_the_next_server_is_away(
        self, adapter: HttpRestAdapter, fault_server: FaultServer, method: str, code: int, phase: EnumFaultPhase
    ) -> None:
        """A POST that was answered with 303 is done, whatever happens to the page behind it."""
        async with FaultServer() as gone:
            url = gone.url
        fault_server.script(redirect(url, code))

        fault = await fault_of(adapter, fault_server.url, method=method, body=None if method == "GET" else "x")

        assert (fault.error_kind, fault.phase) == ("ECONNREFUSED", phase)

    async def test_when_the_next_answer_is_lost(self, adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
        """DONE is later than AMBIGUOUS."""
        fault_server.script(redirect("/b", 303), reset)

        fault = await fault_of(adapter, f"{fault_server.url}/a", method="POST", body="x")

        assert (fault.error_kind, fault.phase) == ("ECONNRESET", EnumFaultPhase.DONE)

    async def test_a_refused_hop_after_a_post(self, adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
        """A refusal behind a 302 does not claim that nothing was done."""
        fault_server.script(redirect("ftp://127.0.0.1/", 302))

        fault = await fault_of(adapter, fault_server.url, method="POST", body="x")

        assert (fault.error_kind, fault.phase) == ("REFUSED", EnumFaultPhase.AMBIGUOUS)


async def test_the_answer_of_the_last_hop_counts(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """Status and document are those of the end of the chain."""
    fault_server.script(redirect("/b"), status(503, "down"))

    response = await send(adapter, f"{fault_server.url}/a")

    assert (response.status_code, response.document) == (503, "down")
