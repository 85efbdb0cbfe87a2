"""Patterns of hosts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.utils.host_rules import host_allowed, host_pattern_problem, normal_host

_LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_NAME = st.lists(_LABEL, min_size=2, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("host", "port", "scheme", "pattern"),
    [
        ("api.example.com", 443, "https", "api.example.com"),
        ("API.Example.COM", 8443, "https", "api.example.com"),
        ("api.example.com.", None, "https", "API.example.com"),
        ("api.example.com", None, "https", "api.example.com:443"),
        ("api.example.com", None, "http", "api.example.com:80"),
        ("a.b.example.com", 1, "http", "*.example.com"),
        ("a.example.com", 8080, "http", "*.example.com:8080"),
        ("xn--mller-kva.example", 80, "http", "müller.example"),
        ("MÜLLER.example", 80, "http", "xn--mller-kva.example"),
        ("127.0.0.1", 5000, "http", "127.0.0.1"),
        ("[::1]", 80, "http", "[::1]:80"),
        ("::1", 80, "http", "[0:0::1]"),
        ("fe80::1", 80, "http", "FE80::1"),
    ],
)
def test_matches(host: str, port: int | None, scheme: str, pattern: str) -> None:
    """A pattern matches its host under every spelling, on its port or, without one, on any."""
    assert host_allowed(host, port, scheme, [pattern])


@pytest.mark.parametrize(
    ("host", "port", "scheme", "pattern"),
    [
        ("example.com", 443, "https", "*.example.com"),
        ("badexample.com", 443, "https", "*.example.com"),
        ("example.com.evil.net", 443, "https", "example.com"),
        ("api.example.com", 8443, "https", "api.example.com:443"),
        ("api.example.com", None, "http", "api.example.com:443"),
        ("127.0.0.1", 80, "http", "*.0.0.1"),
        ("127.1", 80, "http", "127.1"),
        ("fe80::1%eth0", 80, "http", "fe80::1"),
        ("127.0.0.1.", 80, "http", "127.0.0.1"),
        ("2130706433", 80, "http", "2130706433"),
        ("0x7f.1", 80, "http", "0x7f.1"),
        ("0177.0.0.1", 80, "http", "127.0.0.1"),
        ("::ffff:127.0.0.1", 80, "http", "127.0.0.1"),
        ("", 80, "http", ""),
        ("user@example.com", 80, "http", "example.com"),
        ("example.com", 80, "http", "*"),
        ("example.com", 80, "http", "*.com.*"),
        ("example.com", 80, "http", "https://example.com"),
        ("fa\u00df.de", 80, "http", "fass.de"),
        ("a..example.com", 80, "http", "*.example.com"),
    ],
)
def test_does_not_match(host: str, port: int | None, scheme: str, pattern: str) -> None:
    """What is no canonical host, or merely looks alike, matches nothing."""
    assert not host_allowed(host, port, scheme, [pattern])


@pytest.mark.parametrize(
    ("pattern", "phrase"),
    [
        ("https://example.com", "has a scheme"),
        ("example.com/path", "more than a host"),
        ("me@example.com", "more than a host"),
        ("*", "wildcard"),
        ("a.*.com", "wildcard"),
        ("*.127.0.0.1", "wildcard"),
        ("127.1", "no host name"),
        ("example.com:0", "no host name"),
        ("example.com:70000", "no host name"),
        ("", "no host name"),
    ],
)
def test_says_what_is_wrong_with_a_pattern(pattern: str, phrase: str) -> None:
    """A pattern that can never match is explained, so that no list fails silently."""
    assert phrase in (host_pattern_problem(pattern) or "")


@given(_NAME, _NAME)
def test_a_wildcard_means_below(suffix: str, host: str) -> None:
    """`*.suffix` matches exactly the names that end in `.suffix`."""
    assert host_allowed(host, 80, "http", [f"*.{suffix}"]) is host.endswith(f".{suffix}")
    assert host_allowed(f"{host}.{suffix}", 80, "http", [f"*.{suffix}"])


@given(st.text(max_size=30))
def test_any_text_is_judged(text: str) -> None:
    """No text breaks the rules, and a normal form is its own normal form."""
    host_pattern_problem(text)
    normal = normal_host(text)

    assert normal is None or normal_host(normal) == normal
