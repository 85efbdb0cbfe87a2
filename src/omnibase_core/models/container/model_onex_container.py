"""The container: services by name or by protocol, defaults made when first asked for, closed in reverse order."""

import asyncio
import difflib
import importlib
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Self, TypeVar, cast, overload

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

T = TypeVar("T")
ServiceKey = str | Callable[..., object]
"""A name, or a class or protocol that stands for its name."""

_BOOTSTRAP = "omnibase_spi.bootstrap"
"""The single recorded exception to the direction of imports (overview, ruling 14): imported at the first key that is
missing.
"""


def _name(key: ServiceKey) -> str:
    return key if isinstance(key, str) else key.__name__


class ModelONEXContainer:
    """Services of one program. Works with no configuration: whatever ONEX needs is made when it is first looked up.

    A key is a name or a class or protocol, which stands for its name. A registered factory (any callable that is no
    instance of a service, such as a function or a class) is called once, at the first look-up. `register_service`
    replaces an earlier registration or a default; the replaced service is not closed, because its owner may hold it.
    Thread-safe; a look-up is one dict access.
    """

    def __init__(self, parent: "ModelONEXContainer | None" = None) -> None:
        self._parent = parent
        self._services: dict[str, object] = {}
        self._factories: dict[str, Callable[[], object]] = {}
        self._lock = threading.RLock()
        self._made: list[str] = []
        self._defaults_loaded = False
        self._abandoned: set[asyncio.Task[object]] = set()
        self.version = 0
        """Grows with every registration; what was bound to services under an older version must be bound again."""

    def register_service(self, key: ServiceKey, service: object) -> None:
        """Register a service or a factory of one (a function or a class) under a name or a protocol."""
        name = _name(key)
        with self._lock:
            self._services.pop(name, None)
            self._factories.pop(name, None)
            if name in self._made:
                self._made.remove(name)
            if inspect.isroutine(service) or inspect.isclass(service):
                self._factories[name] = service
            else:
                self._services[name] = service
                self._made.append(name)
            self.version += 1

    @overload
    def get_service(self, key: Callable[..., T]) -> T: ...  # a class; `type[T]` would refuse protocols
    @overload
    def get_service(self, key: str) -> object: ...
    def get_service(self, key: ServiceKey) -> object:
        """The service; RESOURCE_UNAVAILABLE with the nearest names when there is none."""
        name = key if type(key) is str else _name(key)
        sys.audit("onex.get_service", name)  # heard by the guard of pure computations
        try:
            return self._services[name]
        except KeyError:
            return self._make(name)

    def get_service_optional(self, key: ServiceKey) -> object | None:
        """The service, or None when there is none."""
        try:
            return self.get_service(_name(key))
        except ModelOnexError as error:
            if error.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE:
                return None
            raise

    async def get_service_async(self, key: ServiceKey) -> object:
        """The service; a factory that returned an awaitable has it awaited here, once."""
        service = self.get_service(_name(key))
        if inspect.isawaitable(service):
            service = await cast("Awaitable[object]", service)  # isawaitable above
            with self._lock:
                self._services[_name(key)] = service
        return service

    def has_service(self, key: ServiceKey) -> bool:
        """Whether a look-up would succeed, as far as can be told without making the service."""
        self._load_defaults()
        if _name(key) in self._services or _name(key) in self._factories:
            return True
        return self._parent is not None and self._parent.has_service(key)

    def _make(self, name: str) -> object:
        with self._lock:
            if name in self._services:
                return self._services[name]
            if name not in self._factories:
                self._load_defaults()
            factory = self._factories.get(name)
            if factory is None:
                if self._parent is not None:
                    return self._parent.get_service(name)
                raise self._unknown(name)
            service = factory()
            self._services[name] = service
            self._made.append(name)
            return service

    def _load_defaults(self) -> None:
        """Add the default factories of `omnibase_spi`, where it is installed; what is registered already stays."""
        with self._lock:
            if self._defaults_loaded or self._parent is not None:
                return
            self._defaults_loaded = True
            try:
                bootstrap = importlib.import_module(_BOOTSTRAP)
            except ModuleNotFoundError as error:
                if error.name not in {_BOOTSTRAP, "omnibase_spi"}:
                    raise
                return
            for name, factory in bootstrap.default_services(self).items():
                if name not in self._services:
                    self._factories.setdefault(name, factory)

    def _unknown(self, name: str) -> ModelOnexError:
        known = sorted({*self._services, *self._factories})
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
        return ModelOnexError(
            f"no service {name!r} in the container; {hint} Register it with container.register_service({name!r}, ...)",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
            {"service": name, "nearest": near},
        )

    def scope(self) -> "ModelONEXContainer":
        """A container for one call or request: what is registered there is found first and closed with it.

        Everything else comes from this container, defaults included, and stays with it.
        """
        return ModelONEXContainer(parent=self)

    def made_services(self) -> dict[str, object]:
        """The services that exist by now, oldest first; nothing is made for the answer."""
        with self._lock:
            return {name: self._services[name] for name in self._made}

    def pings(self) -> dict[str, Callable[[], object]]:
        """The `ping()` of every service that was made and has one without arguments, by service name."""
        found: dict[str, Callable[[], object]] = {}
        for name, service in self.made_services().items():
            ping = getattr(service, "ping", None)
            if service is not self and callable(ping) and _takes_nothing(ping):
                found[name] = ping
        return found

    def keep_abandoned(self, work: Coroutine[object, object, object]) -> None:
        """Keep a handler that ignored its cancellation alive until it ends by itself; `aclose` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that the loop does not complain about an error that has been reported

    async def aclose(self) -> None:
        """Wait for abandoned handlers, then close all services that were made, newest first. All are closed,
        whatever fails.

        The errors of services that could not be closed are raised together, as an ExceptionGroup.
        """
        abandoned = [task for task in self._abandoned if task.get_loop() is asyncio.get_running_loop()]
        if abandoned:
            await asyncio.wait(abandoned)
        errors: list[Exception] = []
        while self._made:
            service = self._services.pop(self._made.pop())
            close = getattr(service, "aclose", None) or getattr(service, "close", None)
            if close is None or service is self:
                continue
            try:
                result = close()
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001  # one that fails must not keep the others open
                errors.append(error)
        self.version += 1
        if errors:
            message = "services could not be closed"
            raise ExceptionGroup(message, errors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _takes_nothing(ping: Callable[..., object]) -> bool:
    try:
        inspect.signature(ping).bind()
    except (TypeError, ValueError):
        return False
    return True


ONEXContainer = ModelONEXContainer
