"""Caches that `cache_update` intents write to: in memory, and Redis."""

import time
from asyncio import AbstractEventLoop, get_running_loop
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.protocols.protocol_intent_handler import IntentDone
from omnibase_spi.intents import choice_of, payload_of, place_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

_OPERATIONS: Final = ("set", "delete", "expire")
_REDIS: Final = ("redis://", "rediss://", "unix://")


class MemoryCache:
    """A cache of one process. max_entries: beyond it the entry goes that was set longest ago."""

    def __init__(self, max_entries: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[str, tuple[JsonValue, float | None]] = OrderedDict()

    def get(self, key: str) -> JsonValue:
        """The value; None when there is none, or its time is over."""
        value, ends = self._entries.get(key, (None, None))
        if ends is not None and ends <= self._clock():
            del self._entries[key]
            return None
        return value

    def set(self, key: str, value: JsonValue, ttl_ms: int | None = None) -> None:
        self._entries[key] = (value, None if ttl_ms is None else self._clock() + ttl_ms / 1000)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def delete(self, key: str) -> bool:
        return self._entries.pop(key, None) is not None

    def expire(self, key: str, ttl_ms: int) -> bool:
        """Let a key that is there end in `ttl_ms`; False when it is not there."""
        if self.get(key) is None:
            return False
        self._entries[key] = (self._entries[key][0], self._clock() + ttl_ms / 1000)
        return True


class MemoryCaches:
    """The memory caches of a container, by name; made when first asked for."""

    def __init__(self) -> None:
        self._caches: dict[str, MemoryCache] = {}

    def cache(self, name: str) -> MemoryCache:
        return self._caches.setdefault(name, MemoryCache())


class CacheRoute:
    """`{operation set/delete/expire, key, value?, ttl_ms?}`; target: the cache's name.

    A named connection with a `redis://`, `rediss://` or `unix://` URL is Redis, where a value that is no text is stored
    as JSON; every other target is a memory cache, the container's `MemoryCaches`.
    """

    retries_itself = False

    def __init__(self, container: ModelONEXContainer) -> None:
        self._container = container
        self._clients: WeakKeyDictionary[AbstractEventLoop, dict[str, Redis]] = WeakKeyDictionary()

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del intent, route
        return True

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        del intent, route
        return None

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        payload = payload_of(intent, "operation", "key", "value", "ttl_ms")
        operation = choice_of(intent, payload, "operation", _OPERATIONS)
        key, ttl_ms = payload.get("key"), payload.get("ttl_ms")
        if not isinstance(key, str) or not key:
            raise _invalid(intent, f"key is a text, found {key!r}")
        if ttl_ms is not None and (not isinstance(ttl_ms, int) or isinstance(ttl_ms, bool) or ttl_ms < 1):
            raise _invalid(intent, f"ttl_ms is a whole number >= 1, found {ttl_ms!r}")
        if operation == "expire" and ttl_ms is None:
            raise _invalid(intent, "expire needs ttl_ms")
        if operation == "set" and payload.get("value") is None:
            raise _invalid(intent, "set needs a value that is not null")
        name = route.connection or intent.target
        connection = self._container.get_service(ModelSettings).connections.get(name)
        url = "" if connection is None else connection.url.get_secret_value()
        if url.startswith(_REDIS):
            changed = await self._in_redis(name, url, operation, key, payload.get("value"), ttl_ms)
        elif url:
            raise ModelOnexError(
                f"cache_update: connection {name!r} is no cache: its URL must start with {', '.join(_REDIS)}",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        elif route.connection is not None:
            raise ModelOnexError(
                f"cache_update: the settings have no connection {name!r}, which the routing table names; add "
                f"[connections.{name}] with a url",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        else:
            cache = self._container.get_service(MemoryCaches).cache(name)
            changed = _in_memory(cache, operation, key, payload.get("value"), ttl_ms)
        return IntentDone({"changed": changed})

    async def _in_redis(
        self, name: str, url: str, operation: str, key: str, value: JsonValue, ttl_ms: int | None
    ) -> bool:
        try:
            from redis.asyncio import from_url
            from redis.exceptions import ConnectionError as RedisConnectionError
            from redis.exceptions import RedisError
            from redis.exceptions import TimeoutError as RedisTimeoutError
        except ImportError as error:
            raise ModelOnexError(
                "cache_update to Redis needs its client: pip install 'omnibase[redis]'",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            ) from error
        clients = self._clients.setdefault(get_running_loop(), {})
        if name not in clients:
            clients[name] = from_url(url)
        client = clients[name]
        try:
            if operation == "set":
                text = value if isinstance(value, str) else to_json(value)
                return bool(await client.set(key, text, px=ttl_ms))
            if operation == "delete":
                return bool(await client.delete(key))
            return bool(await client.pexpire(key, ttl_ms or 1))
        except (RedisConnectionError, RedisTimeoutError) as error:
            timed_out = isinstance(error, RedisTimeoutError)
            raise EffectFault(
                f"{operation} on cache {name!r}: {'no answer in time' if timed_out else 'the connection failed'}",
                EnumCoreErrorCode.TIMEOUT if timed_out else EnumCoreErrorCode.OPERATION_FAILED,
                error_kind="ETIMEDOUT" if timed_out else "ECONNRESET",
            ) from None
        except RedisError as error:
            raise EffectFault(
                f"{operation} on cache {name!r}: refused with {type(error).__name__}",
                phase=EnumFaultPhase.REJECTED,
            ) from None

    async def aclose(self) -> None:
        """Close the clients of this loop; those of loops that are gone are gone with them."""
        for client in self._clients.pop(get_running_loop(), {}).values():
            await client.aclose()


def _in_memory(cache: MemoryCache, operation: str, key: str, value: JsonValue, ttl_ms: int | None) -> bool:
    if operation == "set":
        cache.set(key, value, ttl_ms)
        return True
    return cache.delete(key) if operation == "delete" else cache.expire(key, ttl_ms or 1)


def _invalid(intent: ModelIntent, what: str) -> ModelOnexError:
    return ModelOnexError(f"{place_of(intent)}: {what}", EnumCoreErrorCode.VALIDATION_ERROR)
