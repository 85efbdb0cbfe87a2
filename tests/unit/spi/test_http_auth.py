"""The HTTP adapter: OAuth 2 client credentials."""

import asyncio
import base64
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_spi.http import HttpRestAdapter
from omnibase_spi.http_auth import TokenCache
from tests.support.http_calls import adapter_with, fault_of, send
from tests.support.http_server import (
    Connection,
    FaultServer,
    Reply,
    Request,
    Step,
    after,
    disconnect,
    failing,
    json_reply,
    redirect,
    status,
)

TOKEN = json_reply({"access_token": "t-1", "token_type": "Bearer", "expires_in": 3600})


@pytest.fixture
async def adapter() -> AsyncIterator[HttpRestAdapter]:
    adapter = HttpRestAdapter()
    yield adapter
    await adapter.aclose()


def credentials(server: FaultServer, **fields: str) -> dict[str, str]:
    return {"token_url": f"{server.url}/token", "client_id": "shop", "client_secret": "geheim:+ü"} | fields


def fetches(server: FaultServer) -> int:
    return sum(request.path == "/token" for request in server.requests)


async def test_fetches_a_token_by_basic_authentication(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """The form goes with HTTP Basic, both parts form-encoded; the token takes the place of the contract's header."""
    fault_server.route("/token", TOKEN)

    await send(
        adapter,
        f"{fault_server.url}/orders",
        oauth2=credentials(fault_server, scope="read write"),
        headers={"authorization": "mine"},
    )

    token_request, request = fault_server.requests
    assert token_request.method == "POST"
    assert parse_qs(token_request.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["read write"]}
    assert base64.b64decode(token_request.headers["authorization"].split()[1]) == b"shop:geheim%3A%2B%C3%BC"
    assert request.headers["authorization"] == "Bearer t-1"


@pytest.mark.parametrize("refusal", [status(401), json_reply({"error": "invalid_client"}, 400)])
async def test_falls_back_to_the_body(adapter: HttpRestAdapter, fault_server: FaultServer, refusal: Reply) -> None:
    """A server that refuses HTTP Basic gets id and secret in the form, and from then on at once."""

    async def only_in_body(connection: Connection, request: Request) -> None:
        form = parse_qs(request.body.decode())
        good = form.get("client_secret") == ["geheim:+ü"] and form.get("client_id") == ["shop"]
        await connection.send((TOKEN if good else refusal).encode())

    fault_server.route("/token", only_in_body)

    await send(adapter, fault_server.url, oauth2=credentials(fault_server))
    await send(adapter, fault_server.url, oauth2=credentials(fault_server, scope="other"))

    assert fetches(fault_server) == 3


async def test_keeps_tokens_per_client_and_scope(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A token serves its own token URL, client, secret and scope, and no other."""
    fault_server.route("/token", TOKEN)
    variants: list[dict[str, str]] = [{}, {"scope": "a"}, {"client_id": "b"}, {"client_secret": "c"}]

    for _ in range(2):
        for fields in variants:
            await send(adapter, fault_server.url, oauth2=credentials(fault_server, **fields))

    assert fetches(fault_server) == 4


@pytest.mark.parametrize(
    ("expires_in", "valid_for_s"), [(3600, 3570), (100, 90), ("100", 90), (None, 270), ("soon", 270), ([1], 270)]
)
async def test_drops_a_token_before_it_expires(
    fault_server: FaultServer, expires_in: object, valid_for_s: float
) -> None:
    """A token is used until 30 s, or a tenth of its life, before its end; without `expires_in` it lives 300 s."""
    now = 1000.0
    adapter = HttpRestAdapter()
    adapter._tokens = TokenCache(clock=lambda: now)
    answer = {"access_token": "t"} | ({} if expires_in is None else {"expires_in": expires_in})
    fault_server.route("/token", json_reply(answer))
    counts = []

    for now in (1000.0, 1000.0 + valid_for_s - 1, 1000.0 + valid_for_s + 1):  # noqa: B007 - the clock reads it
        await send(adapter, fault_server.url, oauth2=credentials(fault_server))
        counts.append(fetches(fault_server))

    assert counts == [1, 1, 2]
    await adapter.aclose()


async def test_a_refused_token_is_dropped(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """After 401 the next request fetches a new token; the adapter itself repeats nothing."""
    fault_server.route("/token", TOKEN)
    fault_server.route("/", failing(1, status(401), status(200)))

    statuses = [
        (await send(adapter, f"{fault_server.url}/", oauth2=credentials(fault_server))).status_code for _ in range(3)
    ]

    assert statuses == [401, 200, 200]
    assert fetches(fault_server) == 2


async def test_one_flight(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """Callers that need the same token at the same time fetch it once."""
    gate = asyncio.Event()
    fault_server.route("/token", after(gate, TOKEN))
    tasks = [asyncio.create_task(send(adapter, fault_server.url, oauth2=credentials(fault_server))) for _ in range(20)]
    await fault_server.wait_for(1)

    gate.set()
    responses = await asyncio.gather(*tasks)

    assert [response.status_code for response in responses] == [200] * 20
    assert fetches(fault_server) == 1


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_cancelled_caller_takes_nobody_along(
    adapter: HttpRestAdapter, fault_server: FaultServer, cancelled: int
) -> None:
    """When the caller that fetches is cancelled, the next one fetches; when one that waits is, nothing happens."""
    gate = asyncio.Event()
    fault_server.route("/token", after(gate, TOKEN))
    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(send(adapter, fault_server.url, oauth2=credentials(fault_server))) for _ in range(3)]
    await fault_server.wait_for(1)

    tasks[cancelled].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks.pop(cancelled)
    gate.set()
    responses = await asyncio.gather(*tasks)

    assert [response.status_code for response in responses] == [200, 200]
    assert fetches(fault_server) == (2 if cancelled == 0 else 1)
    await adapter.aclose()
    await fault_server.wait_idle()
    assert asyncio.all_tasks() <= before


async def test_all_that_wait_get_the_fault(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A failed fetch is not repeated by each of those that waited for it."""
    gate = asyncio.Event()
    fault_server.route("/token", after(gate, status(503)))
    tasks = [
        asyncio.create_task(fault_of(adapter, fault_server.url, oauth2=credentials(fault_server))) for _ in range(5)
    ]
    await fault_server.wait_for(1)

    gate.set()
    faults = await asyncio.gather(*tasks)

    assert len({id(fault) for fault in faults}) == 5
    assert all("503" in str(fault) for fault in faults)
    assert fetches(fault_server) == 1


@pytest.mark.parametrize(
    ("step", "transient", "phrase"),
    [
        (status(503, "geheim"), True, "503"),
        (status(429), True, "429"),
        (disconnect, True, "/token"),
        (json_reply({"error": "invalid_scope", "error_description": "geheim"}, 400), False, "invalid_scope"),
        (json_reply({"error": "geheim"}, 403), False, "403"),
        (status(401), False, "401"),
        (redirect("http://127.0.0.1/elsewhere", 307), False, "307"),
        (status(200, "geheim"), False, "access_token"),
        (json_reply({"access_token": ""}), False, "access_token"),
        (json_reply({"access_token": "a\r\nb"}), False, "access_token"),
        (json_reply({"access_token": ["geheim"]}), False, "access_token"),
        (json_reply({"access_token": "geheim", "token_type": "mac"}), False, "Bearer"),
        (json_reply(["geheim"]), False, "access_token"),
    ],
)
async def test_no_token_is_not_sent(
    adapter: HttpRestAdapter, fault_server: FaultServer, step: Step, transient: bool, phrase: str
) -> None:
    """Without a token the request is NOT_SENT, worth repeating only when the token server was away; nothing leaks."""
    fault_server.route("/token", step)

    fault = await fault_of(
        adapter, f"{fault_server.url}/orders", method="POST", body="x", oauth2=credentials(fault_server)
    )

    assert (fault.phase, fault.transient) == (EnumFaultPhase.NOT_SENT, transient)
    assert phrase in str(fault)
    assert "geheim" not in repr((str(fault), fault.args, fault.context, fault.__cause__, fault.__context__))
    assert not [request for request in fault_server.requests if request.path == "/orders"]


async def test_the_token_server_obeys_the_operator(fault_server: FaultServer) -> None:
    """`policy.allowed_hosts` holds for the token URL as well; the contract's list is about the contract's URL."""
    fault_server.route("/token", TOKEN)
    async with FaultServer() as api:
        allowed = adapter_with(allowed_hosts=(f"127.0.0.1:{api.port}",))
        fault = await fault_of(allowed, api.url, oauth2=credentials(fault_server))
        free = HttpRestAdapter()
        response = await send(free, api.url, oauth2=credentials(fault_server), allowed_hosts=(f"127.0.0.1:{api.port}",))

        assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
        assert response.status_code == 200
        await allowed.aclose()
        await free.aclose()


async def test_the_token_does_not_leave_the_origin(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A redirect to another origin goes without the token."""
    fault_server.route("/token", TOKEN)
    async with FaultServer() as other:
        fault_server.script(TOKEN, redirect(other.url))

        await send(adapter, f"{fault_server.url}/a", oauth2=credentials(fault_server))

        assert "authorization" not in other.requests[0].headers
