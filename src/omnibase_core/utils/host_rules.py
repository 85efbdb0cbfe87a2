"""Which hosts a list of patterns lets through. Pure: names and literals only, no look-up.

A pattern is `host`, or `*.suffix` for every name below `suffix` (not `suffix` itself), either with `:port`. Without a
port it stands for every port. Hosts are compared in lower case, without a trailing dot, as A-labels (`xn--...`); IP
addresses in their canonical form, and never through `*.`. A host that is no canonical name or address (`127.1`,
`0x7f.1`, `2130706433`) matches nothing: clients disagree about what it means.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_PORT = re.compile(r":([0-9]{1,5})\Z")
_AMBIGUOUS = frozenset("\u00df\u03c2\u200c\u200d")
"""Letters that IDNA 2003 and 2008 map to different names (sharp s, final sigma, the joiners)."""


class _Rule(NamedTuple):
    host: str
    below: bool
    port: int | None


def host_allowed(host: str, port: int | None, scheme: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` matches.

    port: None stands for the default port of `scheme`.
    A pattern that `host_pattern_problem` objects to matches nothing.
    """
    name = normal_host(host)
    if name is None:
        return False
    number = _DEFAULT_PORTS.get(scheme.lower()) if port is None else port
    for pattern in patterns:
        rule = _rule(pattern)
        if (
            rule is not None
            and (rule.port is None or rule.port == number)
            and (name.endswith(rule.host) and not is_address(name) if rule.below else name == rule.host)
        ):
            return True
    return False


def host_pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern, as the end of a sentence that names it; None when it is well formed."""
    if _rule(pattern) is not None:
        return None
    if "://" in pattern:
        return "has a scheme; write the host alone, such as 'api.example.com' or 'api.example.com:8443'"
    if "/" in pattern or "@" in pattern:
        return "has more than a host and a port"
    if "*" in pattern:
        return "has a wildcard that is not a leading '*.' before a name"
    return "is no host name or canonical IP address with an optional ':port' (1..65535)"


@lru_cache(maxsize=4096)
def normal_host(host: str) -> str | None:
    """The one spelling of a host under which it is compared, or None when it is no host.

    Brackets of an IPv6 address are taken off.
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            return None
    if ":" in host:
        try:
            return None if "%" in host else str(IPv6Address(host))  # a zone means something on one machine only
        except AddressValueError:
            return None
    name = _ascii(host.removesuffix("."))
    if name is None or not _NAME.match(name):
        return None
    if _NUMBER.match(name.rpartition(".")[2]):
        try:
            return None if host.endswith(".") else str(IPv4Address(name))
        except AddressValueError:
            return None
    return name


def is_address(normal: str) -> bool:
    """Whether a host that `normal_host` returned is an IP address."""
    return ":" in normal or (normal[-1].isdigit() and _NUMBER.match(normal.rpartition(".")[2]) is not None)


def split_port(text: str) -> tuple[str, int | None] | None:
    """`host:port` as its parts, brackets left on; no port for a bare IPv6 address. None for a port out of 1..65535."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, None
    found = _PORT.search(text)
    if found is None:
        return (text, None) if text.startswith("[") or ":" not in text else None
    port = int(found.group(1))
    return (text[: found.start()], port) if 1 <= port <= 65535 else None


def _ascii(host: str) -> str | None:
    """The host in lower-case A-labels; None when it has none, or when two versions of IDNA disagree about them."""
    if host.isascii():
        return host.lower()
    if _AMBIGUOUS & set(host):
        return None
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None


@lru_cache(maxsize=4096)
def _rule(pattern: str) -> _Rule | None:
    parts = split_port(pattern.strip())
    if parts is None:
        return None
    host, port = parts
    below = host.startswith("*.")
    name = normal_host(host[2:] if below else host)
    if name is None or (below and is_address(name)):
        return None
    return _Rule(f".{name}" if below else name, below, port)
