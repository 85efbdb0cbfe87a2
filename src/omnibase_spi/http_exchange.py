"""One request and the redirects that it meets.

Theory of redirects: a hop never carries to another origin what was meant for the first one. Only a few harmless headers
cross (and they do not come back), a secret body never does, `https` never becomes `http`, and every hop obeys the same
lists of hosts. A host other than the contract's own was named by a server, so its addresses are judged like those of a
host that came from data.

Theory of phases: a hop's failure says how far that hop came; `reached` says what the servers before may have done. The
fault carries the later of the two, so that a POST that ended in a broken redirect is not repeated.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import UUID

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.handlers.confined_path import FileRoots
from omnibase_core.models.configuration.model_settings import ModelPolicy
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedHttpContext
from omnibase_core.utils.host_rules import normal_host
from omnibase_spi._errors import HTTP_ROWS, find_row
from omnibase_spi.http_body import STREAMED_FROM_BYTES, BodyStream, BytesStream, FileStream, payload_of, read_body
from omnibase_spi.http_guard import HostRules, Route, refused, refused_dials
from omnibase_spi.http_pool import LoopPools
from omnibase_spi.http_request import (
    checked_headers,
    describe,
    encoded_body,
    joined,
    origin_of,
    redirect_fault,
    shown,
    target_of,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientTimeout

MAX_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_KEPT_ACROSS_ORIGINS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_ABOUT_THE_BODY = frozenset({"content-encoding", "content-language", "content-location", "content-type"})
_RANK = {phase: rank for rank, phase in enumerate(("not_sent", "rejected", "ambiguous", "done"))}


class Bounds(NamedTuple):
    """What the operator's policy allows; the same for all requests of an adapter."""

    hosts: HostRules
    roots: FileRoots
    max_response_bytes: int

    @classmethod
    def of(cls, policy: ModelPolicy) -> Self:
        """Raises CONFIGURATION_ERROR when the policy holds an entry that is no host."""
        return cls(HostRules(policy), FileRoots(policy.file_roots), policy.max_response_bytes)


class Exchange:
    """The state of one `execute`. Raises EffectFault, NOT_SENT, for a request that cannot be sent as it is."""

    __slots__ = (
        "_body",
        "_bounds",
        "_cap",
        "_context",
        "_correlation_id",
        "_file",
        "_headers",
        "_method",
        "_own_host",
        "_pools",
        "_reached",
        "_url",
    )

    def __init__(
        self,
        bounds: Bounds,
        pools: LoopPools,
        context: ModelResolvedHttpContext,
        correlation_id: UUID,
    ) -> None:
        self._bounds = bounds
        self._pools = pools
        self._context = context
        self._correlation_id = correlation_id
        self._reached = EnumFaultPhase.NOT_SENT
        self._method = context.method
        self._cap = min(context.max_response_bytes, bounds.max_response_bytes)
        self._url = target_of(context)
        self._own_host: str | None = None  # found out at the first redirect
        self._headers = checked_headers(context.headers)
        self._file = context.body_file
        self._body: bytes | None = None
        body = context.body
        if body is not None or self._method in _BODY_METHODS or self._file is not None:
            self._body = encoded_body(body)
            if (body or self._file is not None) and not any(name.lower() == "content-type" for name in self._headers):
                textual = isinstance(body, str) and self._file is None
                self._headers["Content-Type"] = "text/plain; charset=utf-8" if textual else "application/octet-stream"

    def authorize(self, token: str) -> None:
        """Put a bearer token into the request; it takes the place of a header of the contract."""
        self._headers = {name: value for name, value in self._headers.items() if name.lower() != "authorization"}
        self._headers["Authorization"] = f"Bearer {token}"

    async def run(self) -> "tuple[ClientResponse, bytes]":
        """The last response, its connection released, and its body, decoded and not empty where there is one."""
        try:
            route = self._route()
        except EffectFault as error:
            fault = self.located(error)
        else:
            response, body = await self._send(route)
            return (response, body) if body is not None else await self._redirected(response)
        raise fault

    async def _redirected(self, response: "ClientResponse") -> "tuple[ClientResponse, bytes]":
        self._own_host = normal_host(self._url.raw_host or "")
        visited = {(self._method, str(self._url))}
        for _ in range(MAX_REDIRECTS):
            try:
                route = self._follow(response)
                step = (self._method, str(self._url))
                if step in visited:
                    raise redirect_fault("the redirects lead in a circle")
                visited.add(step)
            except EffectFault as error:
                fault = self.located(error)
                break
            response, body = await self._send(route)
            if body is not None:
                return response, body
        else:
            fault = self.located(redirect_fault(f"more than {MAX_REDIRECTS} redirects"))
        raise fault

    def located(self, fault: EffectFault) -> EffectFault:
        """The fault with the request in its message (no query), the correlation id, and the later of the two phases."""
        phase = fault.phase if _RANK[fault.phase] >= _RANK[self._reached] else self._reached
        return EffectFault(
            f"{self._method} {shown(self._url)}: {fault.message}",
            fault.error_code,
            fault.context,
            self._correlation_id,
            error_kind=fault.error_kind,
            phase=phase,
            transient=fault.transient,
            status_code=fault.status_code,
        )

    def _route(self) -> Route:
        url = self._url
        foreign = self._context.host_from_data or (
            self._own_host is not None and normal_host(url.raw_host or "") != self._own_host
        )
        return self._bounds.hosts.route(
            url.scheme,
            url.raw_authority,
            self._context.allowed_hosts,
            foreign=foreign,
            verify=self._context.verify_ssl,
        )

    async def _send(self, route: Route) -> "tuple[ClientResponse, bytes | None]":
        """Send one request. The body is None when the response is a redirect to follow."""
        if not self._pools.try_enter():
            await self._pools.enter()
        stream: BodyStream | None = None
        response: ClientResponse | None = None
        dials: list[str] = []
        failure: Exception
        try:
            data = self._body
            if self._file is not None:
                stream = await FileStream.open(self._file, self._bounds.roots)
            elif data is not None and len(data) > STREAMED_FROM_BYTES:
                stream = BytesStream(data)
            session = await self._pools.session(guarded=route.guarded)
            mark = refused_dials.set(dials) if route.guarded else None
            try:
                response = await session.request(
                    self._method,
                    self._url,
                    headers=self._headers if stream is None else {**self._headers, "Content-Length": str(stream.size)},
                    data=data if stream is None else payload_of(stream),
                    skip_auto_headers=None if self._has_body or self._method not in _BODY_METHODS else _NO_CONTENT_TYPE,
                    allow_redirects=False,
                    timeout=_timeout(self._context.connect_timeout_ms),
                    ssl=route.verify,
                )
            finally:
                if mark is not None:
                    refused_dials.reset(mark)
            body: bytes | None = None
            if response.status in _REDIRECTS and self._context.follow_redirects and "Location" in response.headers:
                response.release()
            else:
                body = await read_body(response, self._cap)
        except BaseException as error:
            if response is not None:
                response.close()
            if stream is not None:
                await stream.settle()
            if not isinstance(error, Exception):
                raise
            failure = self._fault(error, stream, dials)
        else:
            if stream is not None:
                await stream.settle()
            return response, body
        finally:
            self._pools.leave()
        # Outside the handler: the client's exception knows headers and query, and must not hang on the fault.
        raise failure

    def _follow(self, response: "ClientResponse") -> Route:
        """Become the next request. Raises EffectFault, REJECTED where the servers so far have done nothing."""
        before, status = self._url, response.status
        drops_body = (status == 303 and self._method != "HEAD") or (status in (301, 302) and self._method == "POST")
        if drops_body and self._method not in _SAFE_METHODS:
            self._reached = EnumFaultPhase.DONE if status == 303 else EnumFaultPhase.AMBIGUOUS
        try:
            self._url = joined(before, response.headers["Location"])
            route = self._route()
            if before.scheme == "https" and self._url.scheme == "http":
                raise refused("a redirect from https to http is refused; let the contract name the final URL")
            crosses = origin_of(self._url) != origin_of(before)
            if crosses and not drops_body and self._context.body_is_secret and self._has_body:
                raise refused(
                    f"the redirect ({status}) would carry a body with a secret to another origin; let the contract name"
                    " the final URL, or set follow_redirects: false"
                )
        except EffectFault as fault:
            if fault.phase is EnumFaultPhase.NOT_SENT:
                fault.phase = EnumFaultPhase.REJECTED
            raise
        if crosses:
            self._headers = {
                name: value for name, value in self._headers.items() if name.lower() in _KEPT_ACROSS_ORIGINS
            }
        if drops_body:
            self._method, self._body, self._file = "GET", None, None
        if not self._has_body:
            self._headers = {
                name: value for name, value in self._headers.items() if name.lower() not in _ABOUT_THE_BODY
            }
        return route

    @property
    def _has_body(self) -> bool:
        return bool(self._body) or self._file is not None

    def _fault(self, error: Exception, stream: BodyStream | None, dials: list[str]) -> Exception:
        """What a failure means; errors that are not known are returned as they are."""
        if stream is not None and stream.failure is not None:
            return self.located(stream.failure)
        if isinstance(error, EffectFault):
            return self.located(error)
        row = find_row(HTTP_ROWS, error)
        if row is None:
            return error
        if dials and row.phase is EnumFaultPhase.NOT_SENT:
            return self.located(
                refused(
                    f"refused to dial {dials[0]}, because the host came from data or from a redirect; the operator's"
                    " policy.private_hosts would grant it"
                )
            )
        message = describe(error, self._context.connect_timeout_ms)
        return self.located(EffectFault(message, row.error_code, error_kind=row.error_kind, phase=row.phase))


_NO_CONTENT_TYPE = ("Content-Type",)


@lru_cache(maxsize=64)
def _timeout(connect_timeout_ms: int) -> "ClientTimeout":
    """Covers look-up, connection and TLS, and nothing else. The threshold switches rounding to seconds off."""
    from aiohttp import ClientTimeout

    return ClientTimeout(total=None, connect=connect_timeout_ms / 1000, ceil_threshold=float("inf"))
