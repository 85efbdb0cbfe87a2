"""What an HTTP request is made of: URL and headers as they go out, and what a message may show of them."""

import errno
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedHttpContext
from omnibase_core.utils.host_rules import normal_host

if TYPE_CHECKING:
    from yarl import URL

_OURS = frozenset({"content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"})
"""Headers that follow from the request, or that change how the connection is read."""

_NOT_IN_URL = re.compile(r"[^!-~]")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_NOT_IN_FIELD = re.compile(r"[^\t -~]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def target_of(context: ModelResolvedHttpContext) -> "URL":
    """The URL with its query. Raises EffectFault for one that is none."""
    try:
        if not context.query_params:
            return _parsed(context.url)
        head = context.url.partition("#")[0]
        joiner = "?" if "?" not in head else "" if head.endswith(("?", "&")) else "&"
        return _parsed(f"{head}{joiner}{_query(context.query_params)}")
    except ValueError:
        message = "the URL is malformed; it must be absolute and percent-encoded, such as https://host/path?name=value"
    raise _invalid(message)


@lru_cache(maxsize=256)
def _parsed(url: str) -> "URL":
    from yarl import URL

    return URL(url if _NOT_IN_URL.search(url) is None else _ascii_url(url), encoded=True)


def _ascii_url(url: str) -> str:
    """A URL with letters outside ASCII: A-labels in the host, percent-encoding elsewhere. Raises ValueError."""
    from yarl import URL

    if not url.isprintable() or " " in url:
        raise ValueError
    found = re.match(r"([^:/?#]+://)([^/?#]*)(.*)\Z", url)
    if found is None:
        raise ValueError
    scheme, authority, rest = found.groups()
    return f"{scheme}{URL(scheme + authority).raw_authority}{quote(rest, safe=_PRINTABLE)}"


def _query(params: dict[str, str | list[str]]) -> str:
    return "&".join(
        f"{quote(name, safe='')}={quote(one, safe='')}"
        for name, value in params.items()
        for one in ((value,) if isinstance(value, str) else value)
    )


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """A copy. Raises EffectFault for a header that could end the head early, or that is the adapter's to set."""
    for name, value in headers.items():
        problem = _name_problem(name)
        if problem is None and _NOT_IN_FIELD.search(value) is not None:
            problem = "has a value with a character outside visible ASCII, space and tab"
        if problem is not None:
            raise _invalid(f"the header {name[:60]!r} {problem}")
    return dict(headers)


def encoded_body(body: str | bytes | None) -> bytes | None:
    """The body as it is sent. Raises EffectFault for text that has no encoding."""
    try:
        return body.encode() if isinstance(body, str) else body
    except UnicodeEncodeError:
        message = "the body holds half of a surrogate pair, which UTF-8 cannot express"
    raise _invalid(message)


@lru_cache(maxsize=1024)
def _name_problem(name: str) -> str | None:
    if _NAME.match(name) is None:
        return "has a name that is no HTTP token"
    return "is set by the adapter; remove it from the contract" if name.lower() in _OURS else None


def _invalid(message: str) -> EffectFault:
    return EffectFault(
        message, EnumCoreErrorCode.VALIDATION_ERROR, error_kind="INVALID_REQUEST", phase=EnumFaultPhase.NOT_SENT
    )


def redirect_fault(message: str) -> EffectFault:
    """A redirect that cannot be followed; not a refusal of ours."""
    return EffectFault(
        f"{message}; let the contract name the final URL", error_kind="REDIRECT", phase=EnumFaultPhase.REJECTED
    )


def joined(before: "URL", location: str) -> "URL":
    """Where a `Location` leads. Raises EffectFault."""
    from yarl import URL

    try:
        # A location in pure ASCII is taken as it is; others are encoded, as browsers do.
        return before.join(URL(location, encoded=_NOT_IN_URL.search(location) is None))
    except ValueError:
        problem = redirect_fault("the server redirects to something that is no URL")
    raise problem


def origin_of(url: "URL") -> tuple[str, str | None, int | None]:
    """Scheme, host and port, comparable."""
    return url.scheme, normal_host(url.raw_host or ""), url.port


def shown(url: "URL") -> str:
    """Scheme, host, port and path: what a message may show of a URL."""
    try:
        host, port = url.raw_host or "", url.port
    except ValueError:
        host, port = "?", None
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}{'' if port is None else f':{port}'}{url.raw_path}"


def describe(error: Exception, connect_timeout_ms: int) -> str:
    """What happened, from the parts of the client's exception that hold no URL and no header."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=inner):
            why = getattr(inner, "verify_message", "") or "it is not valid for this host"
            return f"the server's TLS certificate was refused: {why}; nothing was sent"
        case aiohttp.ServerFingerprintMismatch():
            return "the server's TLS certificate is not the expected one; nothing was sent"
        case aiohttp.ClientConnectorSSLError():
            return "the TLS handshake failed; nothing was sent"
        case aiohttp.ClientConnectorDNSError():
            return "the host name could not be resolved"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within connect_timeout_ms ({connect_timeout_ms} ms)"
        case aiohttp.ClientConnectorError():
            return f"no connection could be made ({_errno_name(error)})"
        case aiohttp.ServerTimeoutError():
            return "the server did not answer in time"
        case aiohttp.ClientPayloadError():
            return "the connection was lost before the answer was complete, or its length or chunks are wrong"
        case aiohttp.ClientResponseError() | aiohttp.http_exceptions.HttpProcessingError():
            return "the server's answer is not HTTP"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return "the client refused the URL"
        case OSError():
            return f"the connection was lost ({_errno_name(error)})"
        case _:
            return "the server closed the connection without an answer"


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown reason")
