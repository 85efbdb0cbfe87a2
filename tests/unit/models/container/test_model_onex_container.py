"""The container: look-up, defaults, replacement, closing."""

import asyncio
import threading

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer, ONEXContainer
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry


class Service:
    """Writes down when it is closed."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log = log if log is not None else []

    async def aclose(self) -> None:
        self.log.append(self.name)


def test_a_service_is_found_by_name_and_by_type() -> None:
    """A class or protocol stands for its name."""
    container = ModelONEXContainer()
    service = Service()
    container.register_service(Service, service)

    assert container.get_service("Service") is service
    assert container.get_service(Service) is service


def test_a_factory_is_called_once_at_the_first_look_up() -> None:
    """A function or a class is a factory; its product is kept."""
    container = ModelONEXContainer()
    made: list[Service] = []

    def factory() -> Service:
        made.append(Service())
        return made[-1]

    container.register_service("a", factory)
    container.register_service("b", Service)

    assert made == []
    assert container.get_service("a") is container.get_service("a") is made[0]
    assert container.get_service("b") is container.get_service("b")
    assert len(made) == 1


def test_an_unknown_key_names_the_nearest_ones() -> None:
    """RESOURCE_UNAVAILABLE with a hint; the optional look-up gives None."""
    container = ModelONEXContainer()

    with pytest.raises(ModelOnexError) as caught:
        container.get_service("HttpRestAdaptor")

    assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE
    assert "did you mean HttpRestAdapter" in caught.value.message
    assert container.get_service_optional("nothing like it") is None


def test_a_bare_container_has_its_defaults_and_keeps_what_was_registered_before() -> None:
    """Defaults come with the first missing key and replace nothing."""
    container = ModelONEXContainer()
    own = object()
    container.register_service("DbAdapter", own)

    registry = container.get_service(EffectHandlerRegistry)

    assert registry.list_registered() == ["db", "filesystem", "http", "kafka"]
    assert container.get_service("DbAdapter") is own
    assert container.has_service("BreakerRegistry")


def test_registering_again_replaces_and_counts_a_version() -> None:
    """What was bound to an older version must be bound again."""
    container = ModelONEXContainer()
    container.register_service("a", Service("first"))
    before = container.version
    second = Service("second")
    container.register_service("a", second)

    assert container.get_service("a") is second
    assert container.version > before


async def test_closing_goes_in_reverse_order_and_through_failures() -> None:
    """All are closed, whatever fails; the failures come out together; what was never made is not made now."""
    log: list[str] = []

    class Bad(Service):
        async def aclose(self) -> None:
            await super().aclose()
            message = "stuck"
            raise RuntimeError(message)

    class Plain:
        def close(self) -> None:
            log.append("plain")

    container = ModelONEXContainer()
    container.register_service("a", Service("a", log))
    container.register_service("bad", Bad("bad", log))
    container.register_service("plain", Plain())
    container.register_service("lazy", lambda: log.append("made"))

    with pytest.raises(ExceptionGroup) as caught:
        await container.aclose()

    assert log == ["plain", "bad", "a"]
    assert [str(error) for error in caught.value.exceptions] == ["stuck"]


async def test_a_factory_may_be_asynchronous() -> None:
    """get_service_async awaits what the factory gave, once."""

    async def make() -> Service:
        await asyncio.sleep(0)
        return Service("async")

    container = ModelONEXContainer()
    container.register_service("a", make)

    first = await container.get_service_async("a")

    assert isinstance(first, Service)
    assert container.get_service("a") is first


def test_threads_get_one_and_the_same_service() -> None:
    """A factory runs once, also when many threads ask at once."""
    container = ModelONEXContainer()
    made: list[int] = []
    barrier = threading.Barrier(8)
    found: list[object] = []

    def factory() -> Service:
        made.append(1)
        return Service()

    def ask() -> None:
        barrier.wait()
        found.append(container.get_service("a"))

    container.register_service("a", factory)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert len(set(map(id, found))) == 1


async def test_it_closes_at_the_end_of_a_block() -> None:
    """`async with` closes it; the older name is the same class."""
    log: list[str] = []
    async with ONEXContainer() as container:
        container.register_service("a", Service("a", log))

    assert log == ["a"]
