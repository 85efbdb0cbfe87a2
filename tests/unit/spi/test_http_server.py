"""The test server itself, where other tests rely on it."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from omnibase_spi.http import HttpRestAdapter
from tests.support.http_calls import send
from tests.support.http_server import FaultServer, failing, status, too_many


async def test_the_script_comes_before_the_paths(fault_server: FaultServer) -> None:
    """Each entry of the script answers one request, then the paths decide, then the ready answer."""
    adapter = HttpRestAdapter()
    fault_server.route("/a", status(404))
    fault_server.script(status(500), status(502))

    statuses = [(await send(adapter, f"{fault_server.url}/{path}")).status_code for path in ("a", "a", "a", "b")]

    assert statuses == [500, 502, 404, 200]
    assert [request.path for request in fault_server.requests] == ["/a", "/a", "/a", "/b"]
    await adapter.aclose()


async def test_fails_so_often_and_then_succeeds(fault_server: FaultServer) -> None:
    """`failing` counts over all connections."""
    adapter = HttpRestAdapter()
    fault_server.route("/", failing(2, status(503), status(201)))

    statuses = [(await send(adapter, f"{fault_server.url}/")).status_code for _ in range(4)]

    assert statuses == [503, 503, 201, 201]
    await adapter.aclose()


async def test_says_when_to_come_back(fault_server: FaultServer) -> None:
    """Retry-After comes as seconds or as an HTTP date, and reaches the executor through the headers."""
    adapter = HttpRestAdapter()
    fault_server.script(too_many(seconds=7), too_many(at=timedelta(seconds=90)))

    in_seconds = await send(adapter, fault_server.url)
    as_date = await send(adapter, fault_server.url)

    moment = parsedate_to_datetime(as_date.headers["retry-after"])
    assert (in_seconds.status_code, in_seconds.headers["retry-after"]) == (429, "7")
    assert timedelta(seconds=80) < moment - datetime.now(UTC) < timedelta(seconds=91)
    await adapter.aclose()
