"""The HTTP adapter: one request, once, over aiohttp.

What ONEX does itself, because no client does it the way effects need it, lies beside: redirects (`http_exchange`),
rules for hosts and addresses (`http_guard`), bodies below a cap (`http_body`), tokens (`http_auth`), sessions
(`http_pool`).
"""

from collections.abc import Mapping
from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedHttpContext,
    ModelResolvedOAuth2,
    ResolvedIOContext,
)
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_spi.http_auth import TokenCache
from omnibase_spi.http_body import document_of
from omnibase_spi.http_exchange import Bounds, Exchange
from omnibase_spi.http_pool import LoopPools, PoolRegistry

MAX_TOKEN_RESPONSE_BYTES = 1 << 20


class HttpRestAdapter:
    """Carries out HTTP operations; a `ProtocolEffectHandler`.

    Connections are kept for 15 s after use and belong to an event loop; one adapter serves several loops, one after
    another or in threads. It sets no total timeout and repeats nothing. Proxies and netrc of the environment are not
    used. Raises CONFIGURATION_ERROR when the policy holds an entry that is no host, and at the first request when
    aiohttp is not installed.
    """

    def __init__(self, settings: ModelSettings | None = None) -> None:
        self._bounds = Bounds.of((settings or ModelSettings()).policy)
        self._pools = PoolRegistry(self, self._bounds.hosts.guard)
        self._tokens = TokenCache()

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> EffectResponse:
        """Send the request and return the answer, whatever its status.

        Raises EffectFault when there is no answer, or none that can be returned. After a redirect, `phase` also tells
        what the servers before may have done: a POST that was answered with 303 is DONE, with 301 or 302 AMBIGUOUS.
        """
        context = resolved_context
        if not isinstance(context, ModelResolvedHttpContext):
            message = f"the http handler was given a {type(context).__name__}; it takes a ModelResolvedHttpContext"
            raise EffectFault(message, EnumCoreErrorCode.VALIDATION_ERROR, phase=EnumFaultPhase.NOT_SENT)
        pools = self._pools.current()
        try:
            exchange = Exchange(self._bounds, pools, context, correlation_id)
        except EffectFault as refusal:
            refusal.correlation_id = correlation_id
            raise
        token = None
        if context.oauth2 is not None:
            token = await self._token(context, context.oauth2, pools, correlation_id)
            exchange.authorize(token)
        response, body = await exchange.run()
        if token is not None and context.oauth2 is not None and response.status == 401:
            self._tokens.forget(context.oauth2, token)
        headers = response.headers
        try:
            document = document_of(body, response.status, headers.get("Content-Type", ""), context.response_format)
        except EffectFault as error:
            fault = exchange.located(error)
        else:
            return EffectResponse(document, response.status, _lower(headers))
        raise fault

    async def aclose(self) -> None:
        """Close the connections of the running loop, and those of loops that ended. The adapter can be used again."""
        await self._pools.aclose()

    async def _token(
        self, context: ModelResolvedHttpContext, oauth2: ModelResolvedOAuth2, pools: LoopPools, correlation_id: UUID
    ) -> str:
        async def post(url: str, headers: dict[str, str], form: bytes) -> tuple[int, bytes]:
            request = ModelResolvedHttpContext(
                url=url,
                method="POST",
                headers=headers,
                body=form,
                timeout_ms=oauth2.timeout_ms,
                connect_timeout_ms=context.connect_timeout_ms,
                follow_redirects=False,
                verify_ssl=context.verify_ssl,
                max_response_bytes=MAX_TOKEN_RESPONSE_BYTES,
            )
            response, body = await Exchange(self._bounds, pools, request, correlation_id).run()
            return response.status, body

        try:
            return await self._tokens.token(oauth2, pools, post)
        except EffectFault as error:
            # Whatever became of the request for a token, the operation's own request was not sent.
            fault = EffectFault(
                f"{context.method}: no access token: {error.message}",
                error.error_code,
                correlation_id=correlation_id,
                error_kind=error.error_kind,
                phase=EnumFaultPhase.NOT_SENT,
                transient=error.transient or error.error_kind in ("ECONNREFUSED", "ECONNRESET", "ETIMEDOUT"),
            )
        raise fault


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers under lower-case names; those that came several times are joined by commas, in order."""
    lower: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lower[key] = f"{lower[key]}, {value}" if key in lower else value
    return lower
