"""OAuth 2 client credentials (RFC 6749, 4.4): tokens that are shared, and fetched by one caller at a time."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote_plus, urlencode

from pydantic import JsonValue
from pydantic_core import from_json

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedOAuth2
from omnibase_spi.http_pool import LoopPools

_LIFETIME_SECONDS = 300.0
"""Assumed when the answer has no `expires_in`."""
_MARGIN_SECONDS = 30.0
_MARGIN_SHARE = 0.1
_MAX_TOKENS = 256
_ERROR_CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)

_Key = tuple[str, str, str, str | None]
Post = Callable[[str, dict[str, str], bytes], Awaitable[tuple[int, bytes]]]
"""Sends one form to a URL with headers, follows no redirect, and gives status and body."""


class _Token(NamedTuple):
    value: str
    expires_at: float


class TokenCache:
    """Access tokens per (token URL, client, secret, scope), until shortly before they expire.

    clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: dict[_Key, _Token] = {}
        self._secret_in_body: set[str] = set()

    async def token(self, oauth2: ModelResolvedOAuth2, pools: LoopPools, post: Post) -> str:
        """A token that is valid now. Raises EffectFault, NOT_SENT.

        One caller fetches for all that wait on this loop. Who waits holds no task: when the fetching caller is
        cancelled, the next one takes over; when the fetch fails, all that waited for it get the same fault.
        """
        key = _key(oauth2)
        while True:
            token = self._tokens.get(key)
            if token is not None and token.expires_at > self._clock():
                return token.value
            waiters = pools.flights.get(key)
            if waiters is None:
                return await self._fetch_for_all(key, oauth2, pools, post)
            turn: asyncio.Future[EffectFault | None] = pools.loop.create_future()
            waiters.append(turn)
            fault = await turn
            if fault is not None:
                raise _copy(fault)

    def forget(self, oauth2: ModelResolvedOAuth2, token: str) -> None:
        """Drop a token that the resource server refused, unless a newer one took its place."""
        key = _key(oauth2)
        held = self._tokens.get(key)
        if held is not None and held.value == token:
            del self._tokens[key]

    async def _fetch_for_all(self, key: _Key, oauth2: ModelResolvedOAuth2, pools: LoopPools, post: Post) -> str:
        waiters = pools.flights[key] = []
        fault: EffectFault | None = None
        try:
            token = await self._fetch(oauth2, post)
            self._keep(key, token)
            return token.value
        except EffectFault as error:
            fault = error
            raise
        finally:
            del pools.flights[key]
            for turn in waiters:
                if not turn.done():
                    turn.set_result(fault)

    def _keep(self, key: _Key, token: _Token) -> None:
        if len(self._tokens) >= _MAX_TOKENS:
            now = self._clock()
            self._tokens = {key: token for key, token in self._tokens.items() if token.expires_at > now}
            if len(self._tokens) >= _MAX_TOKENS:
                self._tokens.clear()
        self._tokens[key] = token

    async def _fetch(self, oauth2: ModelResolvedOAuth2, post: Post) -> _Token:
        asked_at = self._clock()
        in_body = oauth2.token_url in self._secret_in_body
        status, body = await post(oauth2.token_url, *_form(oauth2, in_body=in_body))
        answer = _parse(body)
        if not in_body and (status == 401 or (status == 400 and answer.get("error") == "invalid_client")):
            # RFC 6749, 2.3.1: servers must take HTTP Basic, and some take the secret in the body only.
            status, body = await post(oauth2.token_url, *_form(oauth2, in_body=True))
            answer = _parse(body)
            if status == 200:
                self._secret_in_body.add(oauth2.token_url)
        token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if status != 200 or not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise _refusal(status, answer)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise _fault("it gave a token that is not of the type Bearer", transient=False)
        return _Token(token, asked_at + _lifetime(answer.get("expires_in")))


def _key(oauth2: ModelResolvedOAuth2) -> _Key:
    return oauth2.token_url, oauth2.client_id, oauth2.client_secret, oauth2.scope


def _form(oauth2: ModelResolvedOAuth2, *, in_body: bool) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    fields = {"grant_type": "client_credentials"}
    if oauth2.scope:
        fields["scope"] = oauth2.scope
    if in_body:
        fields |= {"client_id": oauth2.client_id, "client_secret": oauth2.client_secret}
    else:
        pair = f"{quote_plus(oauth2.client_id)}:{quote_plus(oauth2.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers, urlencode(fields).encode()


def _parse(body: bytes) -> dict[str, JsonValue]:
    try:
        answer: JsonValue = from_json(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _lifetime(expires_in: JsonValue) -> float:
    """Seconds for which the token is used; some servers give the number as text."""
    try:
        seconds = _LIFETIME_SECONDS if expires_in is None or isinstance(expires_in, list | dict) else float(expires_in)
    except ValueError:
        seconds = _LIFETIME_SECONDS
    return seconds - min(_MARGIN_SECONDS, seconds * _MARGIN_SHARE)


def _refusal(status: int, answer: dict[str, JsonValue]) -> EffectFault:
    if status == 200:
        return _fault("its answer has no usable access_token", transient=False)
    error = answer.get("error")
    code = f" ({error})" if isinstance(error, str) and error in _ERROR_CODES else ""
    return _fault(f"it answered with status {status}{code}", transient=status >= 500 or status in (408, 429))


def _fault(found: str, *, transient: bool) -> EffectFault:
    advice = "try again later" if transient else "check token_url, client_id, client_secret and scope of the contract"
    return EffectFault(
        f"the token server gave no access token: {found}; {advice}",
        error_kind="OAUTH2_TOKEN",
        phase=EnumFaultPhase.NOT_SENT,
        transient=transient,
    )


def _copy(fault: EffectFault) -> EffectFault:
    """An equal fault of its own, so that callers do not share one traceback."""
    return EffectFault(
        fault.message,
        fault.error_code,
        fault.context,
        error_kind=fault.error_kind,
        phase=fault.phase,
        transient=fault.transient,
    )
