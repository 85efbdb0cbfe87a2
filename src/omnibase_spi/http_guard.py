"""Where an HTTP request may go: rules for hosts before anything is dialled, for addresses while it is dialled.

A name says nothing about the address that it will have when it is dialled, so addresses are judged in the socket
factory of the connector, which sees every address that is dialled, whichever way it was found (look-up, literal,
redirect). Names are judged before, with `host_allowed`.
"""

import errno
import socket
from collections.abc import Iterable
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault, ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelPolicy
from omnibase_core.utils.host_rules import host_allowed, host_pattern_problem, normal_host, split_port

REFUSED = "REFUSED"
"""The fault kind of every refusal; no connection fault, so that no list of retryable errors names it."""

_V4_BLOCKS = tuple(
    (IPv4Network(block), kind)
    for block, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),
        ("169.254.169.254/32", "metadata"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
# First match wins. What is outside 2000::/3 has not been given to anybody as a public address.
_V6_BLOCKS = tuple(
    (IPv6Network(block), kind)
    for block, kind in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fd00:ec2::254/128", "metadata"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "reserved"),
        ("3fff::/20", "reserved"),
    )
)
_V6_PUBLIC = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

_Address = IPv4Address | IPv6Address
refused_dials: ContextVar[list[str]] = ContextVar("refused_dials")
"""Where a guarded request finds out what was refused: connection attempts that race keep their errors to themselves."""


class _Grant(NamedTuple):
    network: IPv4Network | IPv6Network
    port: int | None


class AddressGuard:
    """Judges addresses by `policy.private_hosts`. Raises CONFIGURATION_ERROR for an entry that it cannot read."""

    def __init__(self, private_hosts: Iterable[str]) -> None:
        self._names: list[str] = []
        self._grants: list[_Grant] = []
        for entry in private_hosts:
            grant = _network_grant(entry)
            if grant is not None:
                self._grants.append(grant)
            else:
                self._names += checked_patterns((entry,), "policy.private_hosts")

    def grants_host(self, host: str, port: int, scheme: str) -> bool:
        """Whether the operator named this host, wherever it may lie."""
        return host_allowed(host, port, scheme, self._names)

    def refusal(self, address: str, port: int) -> str | None:
        """What kind of address it is, when it must not be dialled; None lets it through."""
        candidates = _readings(ip_address(address))
        if any(
            one in grant.network and grant.port in (None, port) for one in candidates for grant in self._grants
        ):  # membership of the other IP version is False, not an error
            return None
        for one in candidates:
            kind = _kind(one)
            if kind is not None:
                return kind
        return None

    def open_socket(
        self, addr_info: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
    ) -> socket.socket:
        """The socket factory of guarded connectors. Raises OSError(EACCES) before a socket exists."""
        family, type_, proto, _, sockaddr = addr_info
        kind = self.refusal(sockaddr[0], sockaddr[1])
        if kind is not None:
            where = f"[{sockaddr[0]}]" if ":" in sockaddr[0] else sockaddr[0]
            refused_dials.get([]).append(f"{where}:{sockaddr[1]}, a {kind} address")
            raise OSError(errno.EACCES, "address refused")
        return socket.socket(family, type_, proto)


class Route(NamedTuple):
    """How one origin is reached.

    guarded: through the pool whose addresses are judged. verify: the certificate is checked.
    """

    guarded: bool
    verify: bool


class HostRules:
    """Judges origins before anything is dialled, and remembers the verdict per origin and list."""

    def __init__(self, policy: ModelPolicy) -> None:
        allowed = policy.allowed_hosts
        self._allowed = None if allowed is None else tuple(checked_patterns(allowed, "policy.allowed_hosts"))
        self._tls_exceptions = tuple(checked_patterns(policy.tls_exceptions, "policy.tls_exceptions"))
        self.guard = AddressGuard(policy.private_hosts)
        self._routes: dict[tuple[str, str, tuple[str, ...], bool, bool], Route] = {}

    def route(
        self, scheme: str, authority: str, allowed_hosts: tuple[str, ...], *, foreign: bool, verify: bool
    ) -> Route:
        """The way to `scheme://authority`.

        foreign: the host came from data or from a redirect, so that its addresses are judged.
        Raises EffectFault, SECURITY_VIOLATION, NOT_SENT, that says which setting would grant it.
        """
        key = (scheme, authority, allowed_hosts, foreign, verify)
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= 1024:
                self._routes.clear()
            route = self._routes[key] = self._judge(*key)
        return route

    def _judge(self, scheme: str, authority: str, allowed_hosts: tuple[str, ...], foreign: bool, verify: bool) -> Route:
        if scheme not in ("http", "https"):
            raise refused(f"the scheme {scheme!r} is refused; allowed are http and https")
        if "@" in authority:
            raise refused("a URL with user name or password is refused; put them into the contract's 'auth'")
        split = split_port(authority)
        host = None if split is None else normal_host(split[0])
        if split is None or host is None:
            raise refused(
                f"the host {authority!r} is neither a name nor a canonical IP address; write an IPv4 address as four"
                " decimal numbers and an IPv6 address in brackets"
            )
        port = split[1] or (443 if scheme == "https" else 80)
        if allowed_hosts and not host_allowed(host, port, scheme, allowed_hosts):
            raise refused(
                f"the host {host}:{port} is not in the contract's allowed_hosts ({', '.join(allowed_hosts)}); add it"
                " there to grant it"
            )
        if self._allowed is not None and not host_allowed(host, port, scheme, self._allowed):
            raise refused(
                f"the host {host}:{port} is not in the operator's policy.allowed_hosts"
                f" ({', '.join(self._allowed) or 'empty'}); add it there to grant it"
            )
        if not verify and scheme == "https" and not host_allowed(host, port, scheme, self._tls_exceptions):
            raise refused(
                f"verify_ssl: false is not granted for {host}:{port}; remove it from the contract, or let the operator"
                " add the host to policy.tls_exceptions"
            )
        return Route(guarded=foreign and not self.guard.grants_host(host, port, scheme), verify=verify)


def refused(message: str, phase: EnumFaultPhase = EnumFaultPhase.NOT_SENT) -> EffectFault:
    """A refusal of ours: SECURITY_VIOLATION, never repeated."""
    return EffectFault(message, EnumCoreErrorCode.SECURITY_VIOLATION, error_kind=REFUSED, phase=phase)


def checked_patterns(patterns: Iterable[str], setting: str) -> list[str]:
    """The patterns. Raises CONFIGURATION_ERROR for the first one that could never match."""
    checked = []
    for pattern in patterns:
        problem = host_pattern_problem(pattern)
        if problem is not None:
            message = f"{setting}: the entry {pattern!r} {problem}"
            raise ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)
        checked.append(pattern)
    return checked


def _network_grant(entry: str) -> _Grant | None:
    """A network or address, with a port or without; None when the entry is a host name."""
    split = split_port(entry.strip())
    if split is None:
        return None
    text, port = split
    if text.startswith("["):
        text = text.replace("[", "").replace("]", "")
    try:
        return _Grant(ip_network(text, strict=False), port)
    except ValueError:
        return None


def _readings(address: _Address) -> tuple[_Address, ...]:
    """The address, or the IPv4 address that an IPv6 address of a translation scheme leads to."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return (inner,)
    return (address,)


def _kind(address: _Address) -> str | None:
    blocks: tuple[tuple[IPv4Network | IPv6Network, str], ...] = (
        _V4_BLOCKS if isinstance(address, IPv4Address) else _V6_BLOCKS
    )
    for block, kind in blocks:
        if address in block:
            return kind
    return "reserved" if isinstance(address, IPv6Address) and address not in _V6_PUBLIC else None
