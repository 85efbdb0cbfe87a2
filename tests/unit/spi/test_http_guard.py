"""The HTTP adapter: which addresses are dialled."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import ModelOnexError
from omnibase_spi.http import HttpRestAdapter
from omnibase_spi.http_guard import AddressGuard
from tests.support.http_calls import adapter_with, fault_of, send
from tests.support.http_server import FaultServer

FORBIDDEN = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::101:101"]


@pytest.fixture
async def adapter() -> AsyncIterator[HttpRestAdapter]:
    adapter = HttpRestAdapter()
    yield adapter
    await adapter.aclose()


@pytest.mark.parametrize("address", FORBIDDEN)
def test_refuses(address: str) -> None:
    """Nothing that is not a public unicast address is dialled, however it is wrapped."""
    assert AddressGuard(()).refusal(address, 80) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_lets_through(address: str) -> None:
    """Public addresses are dialled."""
    assert AddressGuard(()).refusal(address, 80) is None


@pytest.mark.parametrize(
    ("entry", "address", "port", "granted"),
    [
        ("10.0.0.0/8", "10.9.9.9", 80, True),
        ("10.0.0.0/8", "11.9.9.9", 80, True),
        ("10.0.0.0/8", "192.168.0.1", 80, False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", 80, True),
        ("10.0.0.0/8", "64:ff9b::a00:1", 80, True),
        ("10.0.0.0/8:8080", "10.0.0.1", 8080, True),
        ("10.0.0.0/8:8080", "10.0.0.1", 80, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.2", 80, False),
        ("127.0.0.1:9", "127.0.0.1", 9, True),
        ("127.0.0.1:9", "127.0.0.1", 10, False),
        ("::1", "::1", 80, True),
        ("[::1]:9", "::1", 9, True),
        ("[::1]:9", "::1", 10, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("[fd00::/8]:443", "fd12::1", 80, False),
        ("localhost", "127.0.0.1", 80, False),
    ],
)
def test_grants(entry: str, address: str, port: int, granted: bool) -> None:
    """A network, an address, with a port or without, opens exactly what it names; a name opens no address."""
    assert (AddressGuard((entry,)).refusal(address, port) is None) is granted


@pytest.mark.parametrize("entry", ["http://10.0.0.1", "10.0.0.0/99", "10.0.0.1:0", "", "127.1"])
def test_refuses_an_entry_that_grants_nothing(entry: str) -> None:
    """An entry that is neither a host nor a network is CONFIGURATION_ERROR."""
    with pytest.raises(ModelOnexError, match=r"policy\.private_hosts") as caught:
        AddressGuard((entry,))

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


@given(st.ip_addresses(network="10.0.0.0/8"), st.sampled_from(["::ffff:{}", "64:ff9b::{}"]))
def test_a_wrapped_address_is_the_address(address: object, wrapping: str) -> None:
    """Mapped and translated forms are judged as what they lead to."""
    assert AddressGuard(()).refusal(wrapping.format(address), 80) == "private"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_data_cannot_name_a_private_host(adapter: HttpRestAdapter, fault_server: FaultServer, host: str) -> None:
    """A host that came from data is refused when it is dialled; the fault names the setting that would grant it."""
    fault = await fault_of(adapter, f"http://{host}:{fault_server.port}/x?q=geheim", host_from_data=True)

    assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.SECURITY_VIOLATION, EnumFaultPhase.NOT_SENT)
    assert (fault.error_kind, fault.transient) == ("REFUSED", False)
    assert "loopback" in str(fault)
    assert "policy.private_hosts" in str(fault)
    assert "geheim" not in str(fault)
    assert fault_server.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "0x7f.1",
        "2130706433",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "[::1%25lo]",
    ],
)
@pytest.mark.parametrize("host_from_data", [True, False])
async def test_odd_spellings_of_loopback(
    adapter: HttpRestAdapter, fault_server: FaultServer, host: str, host_from_data: bool
) -> None:
    """A spelling that is not canonical is refused for everybody, or judged as the address that it leads to."""
    fault = await fault_of(adapter, f"http://{host}:{fault_server.port}/", host_from_data=host_from_data)

    assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.SECURITY_VIOLATION, EnumFaultPhase.NOT_SENT)
    assert fault_server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://me@127.0.0.1:{}/",
        "http://me:geheim@127.0.0.1:{}/",
        "http://1.1.1.1@127.0.0.1:{}/",
        r"http://1.1.1.1\@127.0.0.1:{}/",
    ],
)
async def test_user_information_is_refused(adapter: HttpRestAdapter, fault_server: FaultServer, url: str) -> None:
    """Names and passwords in a URL are refused and not shown."""
    fault = await fault_of(adapter, url.format(fault_server.port))

    assert fault.error_code in (EnumCoreErrorCode.SECURITY_VIOLATION, EnumCoreErrorCode.VALIDATION_ERROR)
    assert "geheim" not in str(fault)
    assert fault_server.connections == 0


@pytest.mark.parametrize("grant", ["127.0.0.1", "127.0.0.0/8", "localhost", "localhost.:*"])
async def test_the_operator_can_grant(fault_server: FaultServer, grant: str) -> None:
    """A host or network that the operator names is reached; a name counts only as that name."""
    adapter = adapter_with(private_hosts=(grant.replace("*", str(fault_server.port)),))

    response = await send(adapter, f"http://localhost:{fault_server.port}/", host_from_data=True)

    assert response.status_code == 200
    await adapter.aclose()


async def test_a_grant_can_be_narrowed_to_a_port(fault_server: FaultServer) -> None:
    """Another port of a granted host is refused."""
    adapter = adapter_with(private_hosts=("127.0.0.1:1",))

    fault = await fault_of(adapter, fault_server.url, host_from_data=True)

    assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
    await adapter.aclose()


async def test_pools_are_separate(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """A connection that an open request left behind does not serve a guarded one."""
    await send(adapter, fault_server.url)

    fault = await fault_of(adapter, fault_server.url, host_from_data=True)

    assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
    assert len(fault_server.requests) == 1


async def test_rebinding_does_not_help(fault_server: FaultServer) -> None:
    """A name that turns private between two look-ups is refused, because the address is judged when it is dialled."""
    answers = iter(["1.1.1.1", "127.0.0.1"])
    loop = asyncio.get_running_loop()
    adapter = HttpRestAdapter()

    async def rebinding(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    loop.getaddrinfo = rebinding  # type: ignore[method-assign, assignment]  # a scripted name server
    await loop.getaddrinfo("rebind.example", fault_server.port)
    fault = await fault_of(adapter, f"http://rebind.example:{fault_server.port}/", host_from_data=True)

    assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
    assert "127.0.0.1" in str(fault)
    assert fault_server.connections == 0
    await adapter.aclose()


async def test_a_trailing_dot_changes_nothing(adapter: HttpRestAdapter, fault_server: FaultServer) -> None:
    """`localhost.` is `localhost`, also for a resolver that knows it."""
    loop = asyncio.get_running_loop()

    async def knows_it(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    loop.getaddrinfo = knows_it  # type: ignore[method-assign, assignment]  # a scripted name server
    fault = await fault_of(adapter, f"http://localhost.:{fault_server.port}/", host_from_data=True)

    assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
    assert fault_server.connections == 0


async def test_every_address_of_a_name_is_judged(fault_server: FaultServer) -> None:
    """With several private addresses, in both families, none is dialled and the refusal is still a refusal."""
    loop = asyncio.get_running_loop()
    adapter = HttpRestAdapter()

    async def several(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        return [six, *((socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.1", "10.0.0.1"))]

    loop.getaddrinfo = several  # type: ignore[method-assign, assignment]  # a scripted name server
    fault = await fault_of(adapter, f"http://many.example:{fault_server.port}/", host_from_data=True)

    assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
    assert fault_server.connections == 0
    await adapter.aclose()


@pytest.mark.parametrize("setting", ["contract", "operator"])
async def test_allowed_hosts(fault_server: FaultServer, setting: str) -> None:
    """A host outside either list is refused before anything is dialled; a listed one is reached."""
    lists = {"allowed": (f"127.0.0.1:{fault_server.port}",), "other": ("*.example.com",)}

    for name, hosts in lists.items():
        adapter = adapter_with(allowed_hosts=hosts) if setting == "operator" else HttpRestAdapter()
        fields = {"allowed_hosts": hosts} if setting == "contract" else {}
        if name == "allowed":
            assert (await send(adapter, fault_server.url, **fields)).status_code == 200
        else:
            fault = await fault_of(adapter, fault_server.url, **fields)
            assert fault.error_code is EnumCoreErrorCode.SECURITY_VIOLATION
            assert "allowed_hosts" in str(fault)
        await adapter.aclose()


async def test_an_empty_list_of_the_operator_allows_nothing(fault_server: FaultServer) -> None:
    """`()` is a decision; None is none."""
    fault = await fault_of(adapter_with(allowed_hosts=()), fault_server.url)

    assert "empty" in str(fault)
    assert fault_server.connections == 0


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "file:///etc/passwd", "ws://127.0.0.1/", "http:///x", "127.0.0.1/x"]
)
async def test_other_schemes(adapter: HttpRestAdapter, url: str) -> None:
    """Only http and https with a host are requests."""
    fault = await fault_of(adapter, url)

    assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.SECURITY_VIOLATION, EnumFaultPhase.NOT_SENT)
