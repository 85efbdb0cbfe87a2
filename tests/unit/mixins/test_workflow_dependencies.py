"""Services that a workflow needs."""

import asyncio

import pytest

from omnibase_core.errors.onex_error import DependencyResolutionError
from omnibase_core.mixins.workflow_dependencies import check_dependencies
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.utils.workflow_plan import DependencyPlan
from omnibase_spi.testing import run_virtual
from tests.support.workflows import Service, failure, needs, plan_of, ran, step


class Unwell:
    """A service whose health is what it is told to be."""

    def __init__(self, answer: object, name: str = "health_check") -> None:
        async def check() -> object:
            if isinstance(answer, BaseException):
                raise answer
            return answer

        setattr(self, name, check)


class Hangs:
    version = staticmethod(lambda: "2.0")

    async def ping(self) -> None:
        await asyncio.sleep(1e6)


async def found(*dependencies: DependencyPlan, **services: object) -> list[str]:
    container = ModelONEXContainer()
    for name, service in services.items():
        container.register_service(name, service)
    return await check_dependencies(dependencies, container)


async def test_services_that_are_there_well_and_new_enough_are_no_problem() -> None:
    """Without dependencies nothing is asked."""
    assert await found() == []
    assert await found(needs("a", ">=1.2,<2"), needs("b"), a=Service(), b=object()) == []
    assert await found(needs("a"), a=Unwell(None, "ping")) == []
    assert await found(needs("a"), a=Unwell(True)) == []


async def test_every_required_one_that_fails_is_named_and_optional_ones_are_warnings() -> None:
    """All at once."""
    with pytest.raises(DependencyResolutionError) as error:
        await found(
            needs("missing"),
            needs("old", ">=2"),
            needs("sick"),
            needs("raises"),
            needs("odd", ">=1"),
            needs("plain", ">=1"),
            needs("extra", optional=True),
            needs("good"),
            old=Service(),
            sick=Unwell(False),
            raises=Unwell(RuntimeError("no disk")),
            odd=type("Odd", (), {"version": "one"})(),
            plain=object(),
            good=Service(),
        )

    assert error.value.context["failed"] == {
        "missing": "it is not registered",
        "old": "its version is 1.2.0, wanted >=2",
        "sick": "it is not healthy",
        "raises": "RuntimeError: no disk",
        "odd": "its version 'one' is none that can be compared, wanted >=1",
        "plain": "it has no version, wanted >=1",
    }
    assert error.value.context["warnings"] == ["optional service 'extra': it is not registered"]


def test_a_service_that_does_not_answer_is_not_waited_for() -> None:
    """Five seconds."""
    with pytest.raises(DependencyResolutionError, match="no answer to the health check within 5 s"):
        run_virtual(found(needs("a", "==2.0"), a=Hangs()))


async def test_a_factory_that_fails_is_the_service_s_problem() -> None:
    """With its message."""

    def factory() -> object:
        raise failure("it cannot be made")

    assert await found(needs("a", optional=True), a=factory) == ["optional service 'a': it cannot be made"]


def test_dependencies_are_asked_before_the_first_step() -> None:
    """A run whose required service is missing does nothing; warnings are in its document."""
    refused = ran(plan_of(step("a"), dependencies=(needs("work", ">=9"),)))
    warned = ran(plan_of(step("a"), dependencies=(needs("extra", optional=True), needs("work", ">=1"))))

    assert refused.service.calls == []
    assert refused.view.error is not None
    assert refused.view.error.kind == "DependencyResolutionError"
    assert warned.document["warnings"] == ["optional service 'extra': it is not registered"]
