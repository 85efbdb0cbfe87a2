"""URL templates: every placeholder is encoded for the part of the URL in which it stands (section 2.4; RFC 3986).

A path placeholder is one segment. A host is a constant, or comes from `env` or `secret`; from `input` or `output` only
under the contract's `allowed_hosts`. A leading placeholder is a base URL.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.grammar.template_text import Hole, Template, TemplateError, TemplateProblem
from omnibase_core.utils.host_rules import host_allowed
from omnibase_core.utils.templates import Piece, Renderer, Scope, Text, compile_getter, join, refuse, scalar_text

_FROM_OPERATOR: Final = frozenset({"env", "secret"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_is_plain: Final = re.compile(r"[A-Za-z0-9_~-]+").fullmatch  # what needs no encoding, and cannot be a dot segment
_KEPT_IN_PATH: Final = "/%:@!$&'()*+,;=-._~"
_KEPT_IN_QUERY: Final = _KEPT_IN_PATH + "?[]"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Resolved = tuple[str, str]
"""(the URL, its origin `scheme://host:port`)."""
Render = Callable[[Scope], Resolved]


@dataclass(frozen=True, slots=True)
class UrlPlan:
    """A URL template that was judged. `emit` builds its closure; `origin` is None when only a run knows the host."""

    emit: Callable[[], Render]
    origin: str | None
    host_from_data: bool


@lru_cache(maxsize=1024)
def _parse_base(text: str, *, whole: bool) -> tuple[str, str, str, int]:
    """(prefix, scheme, host, port) of an absolute URL; ValueError otherwise. Only a `whole` URL may have a query."""
    if _CONTROL.search(text) or " " in text or "\\" in text:
        raise ValueError
    split = urlsplit(text)
    scheme = split.scheme.lower()
    if scheme not in _DEFAULT_PORTS or "@" in split.netloc or "#" in text or ("?" in text and not whole):
        raise ValueError
    host, port = _parse_authority(scheme, split.netloc)
    query = "?" + _constant(split.query, _KEPT_IN_QUERY) if split.query else ""
    return (
        f"{scheme}://{_authority(host, port, scheme)}{_constant(split.path, _KEPT_IN_PATH)}{query}",
        scheme,
        host,
        port,
    )


def _constant(text: str, kept: str) -> str:
    """A piece as the contract writes it, encoded where it is not; a '%' that begins no escape is one itself."""
    return quote(_LONE_PERCENT.sub("%25", text), safe=kept)


def _parse_authority(scheme: str, authority: str) -> tuple[str, int]:
    if not authority.isascii():
        host, _, port = authority.partition(":")
        authority = host.encode("idna").decode() + (f":{port}" if port else "")
    match = _HOST.fullmatch(authority)
    if match is None or (match[2] and not 0 < int(match[2]) < 65536):
        raise ValueError
    return match[1].lower(), int(match[2] or _DEFAULT_PORTS[scheme])


def _authority(host: str, port: int, scheme: str) -> str:
    return host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _origin(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{host}:{port}"


def compile_url(template: Template, allowed_hosts: Sequence[str]) -> UrlPlan:
    """Compile a URL template; TemplateError names everything that is wrong with it."""
    if not template:
        raise TemplateError(TemplateProblem("the URL is empty", code="E-URL", fix="write https://host/path"))
    patterns = tuple(allowed_hosts)
    if any(isinstance(part, str) and _CONTROL.search(part) for part in template):
        problem = TemplateProblem(
            "the URL holds a control character", code="E-URL", fix="write it on one line, without '|'"
        )
        raise TemplateError(problem)
    if isinstance(template[0], Hole):
        return _with_base(template[0], template[1:], patterns)
    match = re.match(r"(?i)(https?)://", template[0])
    if match is None:
        problem = TemplateProblem(
            f"the URL must be absolute, found {template[0][:40]!r}",
            code="E-URL",
            fix="write http:// or https:// and a host, or begin with a placeholder such as ${env.API_BASE}",
        )
        raise TemplateError(problem)
    scheme = match[1].lower()
    authority, rest = _split_authority((template[0][match.end() :], *template[1:]))
    if all(isinstance(part, str) for part in authority):
        return _with_constant_host(scheme, "".join(map(str, authority)), rest, patterns)
    return _with_host_holes(scheme, authority, rest, patterns)


def _split_authority(parts: Template) -> tuple[Template, Template]:
    for index, part in enumerate(parts):
        if isinstance(part, str):
            end = re.search(r"[/?#]", part)
            if end:
                return (*parts[:index], part[: end.start()]), (part[end.start() :], *parts[index + 1 :])
    return parts, ()


def _with_constant_host(scheme: str, authority: str, rest: Template, patterns: tuple[str, ...]) -> UrlPlan:
    if "@" in authority:
        raise TemplateError(
            TemplateProblem(
                "userinfo in a URL would end up in logs",
                code="E-URL-USERINFO",
                fix="use auth: {type: basic, username: ..., password: ${secret.NAME}}",
            )
        )
    try:
        host, port = _parse_authority(scheme, authority)
    except ValueError:
        raise TemplateError(
            TemplateProblem(f"{authority!r} is no host", code="E-URL", fix="write https://host[:port]/path")
        ) from None
    if patterns and not host_allowed(host, port, scheme, patterns):
        problem = TemplateProblem(
            f"host {host}:{port} is not in allowed_hosts",
            code="E-HOST",
            fix=f"add {host!r} to allowed_hosts, or correct the URL",
        )
        raise TemplateError(problem)
    origin = _origin(scheme, host, port)

    def emit() -> Render:
        whole = join([f"{scheme}://{_authority(host, port, scheme)}", *_tail(rest)])
        if isinstance(whole, str):
            constant = (whole, origin)
            return lambda _scope: constant
        render = whole.emit()
        return lambda scope: (render(scope), origin)

    return UrlPlan(emit, origin, host_from_data=False)


def _check_data_host(holes: Sequence[Hole], patterns: tuple[str, ...]) -> bool:
    from_data = [hole for hole in holes if hole.source not in _FROM_OPERATOR]
    if from_data and not patterns:
        raise TemplateError(
            TemplateProblem(
                f"the host comes from {from_data[0].text}, that is from data, but allowed_hosts is empty",
                from_data[0].offset,
                "list the hosts that data may choose in allowed_hosts, or take the host from ${env...}",
                "E-HOST-FROM-DATA",
            )
        )
    return bool(from_data)


def _check_host(hole: Hole, scheme: str, host: str, port: int, patterns: tuple[str, ...]) -> None:
    if patterns and not host_allowed(host, port, scheme, patterns):
        raise refuse(
            hole,
            f"the host is not in allowed_hosts ({', '.join(patterns)})",
            EnumCoreErrorCode.SECURITY_VIOLATION,
        )


def _with_host_holes(scheme: str, authority: Template, rest: Template, patterns: tuple[str, ...]) -> UrlPlan:
    holes = [part for part in authority if isinstance(part, Hole)]
    from_data = _check_data_host(holes, patterns)
    if any("@" in part for part in authority if isinstance(part, str)):
        raise TemplateError(TemplateProblem("userinfo in a URL would end up in logs", code="E-URL-USERINFO"))
    first = holes[0]

    def emit() -> Render:
        render_authority = Text([part if isinstance(part, str) else (part, _host_piece) for part in authority]).emit()
        render_tail = _renderer(rest)

        def render(scope: Scope) -> Resolved:
            try:
                host, port = _parse_authority(scheme, render_authority(scope))
            except ValueError:
                raise refuse(first, "the value makes no host[:port]") from None
            _check_host(first, scheme, host, port, patterns)
            return f"{scheme}://{_authority(host, port, scheme)}{render_tail(scope)}", _origin(scheme, host, port)

        return render

    return UrlPlan(emit, None, from_data)


def _host_piece(value: object, hole: Hole) -> str:
    text = scalar_text(value, hole)
    if not text or re.search(r"[\s/\\?#@%]", text) or _CONTROL.search(text):
        raise refuse(hole, "the value is no part of a host name or port", EnumCoreErrorCode.SECURITY_VIOLATION)
    return text


def _with_base(base: Hole, rest: Template, patterns: tuple[str, ...]) -> UrlPlan:
    if rest and not (isinstance(rest[0], str) and rest[0][0] in "/?#"):
        found = rest[0] if isinstance(rest[0], str) else rest[0].text
        raise TemplateError(
            TemplateProblem(
                f"{base.text} leads the URL and so is its base, but is followed by {found[:20]!r}",
                base.offset,
                "go on with '/', '?' or '#', or begin with http:// or https://",
                "E-URL",
            )
        )
    return UrlPlan(lambda: _base_renderer(base, rest, patterns), None, _check_data_host([base], patterns))


def _base_renderer(base: Hole, rest: Template, patterns: tuple[str, ...]) -> Render:
    get = compile_getter(base)
    render_tail = _renderer(rest)
    whole = not rest
    a_path_follows = not whole and isinstance(rest[0], str) and rest[0].startswith("/")

    def render(scope: Scope) -> Resolved:
        try:
            prefix, scheme, host, port = _parse_base(scalar_text(get(scope), base), whole=whole)
        except ValueError:
            raise refuse(
                base, "the value is no base URL (http:// or https://, host, no userinfo, no query in front of more)"
            ) from None
        _check_host(base, scheme, host, port, patterns)
        if a_path_follows:
            prefix = prefix.rstrip("/")
        return prefix + render_tail(scope), _origin(scheme, host, port)

    return render


# path, query, fragment


def _renderer(rest: Template) -> Renderer:
    text = join(_tail(rest))
    return text.emit() if isinstance(text, Text) else lambda _scope: text


def _tail(rest: Template) -> Iterator[Piece]:
    """Everything after the authority. Values stand in the path up to the first '?' or '#'.

    No value in the path is empty, '.' or '..', so that nothing can add up to a dot segment.
    """
    encode, kept = _path_component, _KEPT_IN_PATH
    for part in rest:
        if isinstance(part, Hole):
            yield part, encode
            continue
        end = re.search(r"[?#]", part) if encode is _path_component else None
        if end:
            yield _constant(part[: end.start()], kept)
            encode, kept = _component, _KEPT_IN_QUERY + "#"
            yield _constant(part[end.start() :], kept)
        else:
            yield _constant(part, kept)


def _component(value: object, hole: Hole) -> str:
    text = scalar_text(value, hole)
    return text if _is_plain(text) else quote(text, safe="")


def _path_component(value: object, hole: Hole) -> str:
    text = scalar_text(value, hole)
    if _is_plain(text):
        return text
    if text in {"", ".", ".."}:
        raise refuse(hole, f"{text!r} is no path segment", _dots(text))
    if _CONTROL.search(text):
        raise refuse(hole, "a path segment holds no control characters")
    return quote(text, safe="")


def _dots(text: str) -> EnumCoreErrorCode:
    return EnumCoreErrorCode.SECURITY_VIOLATION if text else EnumCoreErrorCode.VALIDATION_ERROR
