"""Algorithms by name."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import AlgorithmNotFoundError, ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols.protocol_services import ProtocolAlgorithmRegistry
from omnibase_core.utils import algorithm_registry
from omnibase_core.utils.algorithm_registry import AlgorithmRegistry, algorithm, with_parameters
from omnibase_core.utils.algorithms import Sum
from omnibase_core.utils.algorithms_ordered import BUILT_IN


class Longest:
    """The length of the longest text, at least `at_least`."""

    def __init__(self, *, at_least: int = 0) -> None:
        self.at_least = at_least

    def process_chunk(self, chunk: list[str]) -> int:
        return max(map(len, chunk), default=0)

    def merge(self, first: int, second: int) -> int:
        return max(first, second)

    def finish(self, state: int) -> int:
        return max(state, self.at_least)


class Impostor(Longest):
    """Another class."""


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(algorithm_registry, "_decorated", {})
    return iter(())


def test_a_bare_container_has_the_built_in_ones() -> None:
    """All of them, by their names."""
    registry = ModelONEXContainer().get_service(ProtocolAlgorithmRegistry)

    assert isinstance(registry, AlgorithmRegistry)
    assert isinstance(registry.get_algorithm("sum"), Sum)
    assert set(registry.names()) >= set(BUILT_IN)


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    """AlgorithmNotFoundError, with all that there are."""
    with pytest.raises(AlgorithmNotFoundError, match="'Medain' is not registered; did you mean 'median'") as caught:
        AlgorithmRegistry().get_algorithm("Medain")

    assert caught.value.error_code is EnumCoreErrorCode.NOT_FOUND
    nearest = caught.value.context["nearest"]
    assert isinstance(nearest, list)
    assert nearest[0] == "median"
    with pytest.raises(AlgorithmNotFoundError, match=r"is not registered; registered: count, group_aggregate"):
        AlgorithmRegistry().get_algorithm("zzzzzzzz")


def test_a_decorated_class_is_in_every_registry() -> None:
    """Also in those that were there before."""
    registry = AlgorithmRegistry()

    algorithm("longest")(Longest)

    assert isinstance(registry.get_algorithm("longest"), Longest)
    assert registry.get_algorithm("longest", {"at_least": 7}).finish(3) == 7
    assert algorithm("longest")(Longest) is Longest  # a module that is imported again


@pytest.mark.parametrize("name", ["sum", "longest"])
def test_a_name_has_one_class(name: str) -> None:
    """Another class under it is a mistake, not a replacement."""
    algorithm("longest")(Longest)

    with pytest.raises(ModelOnexError, match=f"'{name}' is .* already, so it cannot be .*Impostor"):
        algorithm(name)(Impostor)


def test_what_lacks_a_method_is_no_algorithm() -> None:
    """It is said when it is registered."""
    with pytest.raises(ModelOnexError, match="lacks process_chunk, merge") as caught:
        AlgorithmRegistry().register("x", object())

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


class Lists:
    def process_chunk(self, chunk: list[object]) -> int:
        return len(chunk)

    def merge(self, states: list[int]) -> int:
        return sum(states)


class Static(Lists):
    @staticmethod
    def merge(first: int, second: int) -> int:  # type: ignore[override]  # what is tested
        return first + second


def test_a_merge_is_of_two_states() -> None:
    """Said when it is registered, not when all chunks are done; a static method will do."""
    for wrong in (Lists, Lists()):
        with pytest.raises(ModelOnexError, match=r"needs merge\(first, second\).*; found merge\(.*states") as caught:
            AlgorithmRegistry().register("x", wrong)
        assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR

    AlgorithmRegistry().register("x", Static)
    AlgorithmRegistry().register("x", Static())


def test_registering_at_a_registry_replaces_what_had_the_name() -> None:
    """There only; an object serves as it is, and with parameters as another of its class."""
    registry = AlgorithmRegistry()
    mine = Longest(at_least=2)
    registry.register("sum", mine)

    found: object = registry.get_algorithm("sum")
    assert found is mine
    assert registry.get_algorithm("sum", {"at_least": 5}).finish(0) == 5
    assert isinstance(AlgorithmRegistry().get_algorithm("sum"), Sum)


def test_all_wrong_parameters_are_said_at_once() -> None:
    """Unknown and missing names, then what the class says of values."""
    registry = AlgorithmRegistry()

    with pytest.raises(ModelOnexError) as caught:
        registry.get_algorithm("group_aggregate", {"by": "g", "size": 1})
    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.context["problems"] == [
        "parameter 'by' is unknown; allowed: group_by, aggregates",
        "parameter 'size' is unknown; allowed: group_by, aggregates",
        "parameter 'group_by' is missing",
    ]
    with pytest.raises(ModelOnexError, match="algorithm 'top_k': k is a number from 1 on, found -1"):
        registry.get_algorithm("top_k", {"k": -1})


def test_a_class_with_any_keyword_takes_any_parameter() -> None:
    """It knows what they mean."""

    class Free(Longest):
        def __init__(self, **options: int) -> None:
            super().__init__(at_least=options["least"])

    assert with_parameters("free", Free, {"least": 4}).finish(0) == 4


def test_a_class_that_tells_nothing_judges_its_parameters_itself() -> None:
    """Such as one written in C."""
    with pytest.raises(ModelOnexError, match="algorithm 'odd': "):
        with_parameters("odd", type, {"x": 1})


def test_entry_points_are_loaded_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And named when they cannot be."""
    points = [
        EntryPoint("plugged", "fractions:Fraction", "onex.algorithms"),
        EntryPoint("lost", "no_such_module:X", "onex.algorithms"),
        EntryPoint("taken", "omnibase_core.utils.algorithms:Mean", "onex.algorithms"),
    ]
    monkeypatch.setattr(algorithm_registry, "entry_points", lambda *, group: [p for p in points if p.group == group])
    registry = AlgorithmRegistry()

    assert {"plugged", "lost", "taken"} <= set(registry.names())
    assert registry.get_algorithm("taken").finish(registry.get_algorithm("taken").process_chunk([1, 2])) == 1.5
    with pytest.raises(ModelOnexError, match="needs the methods"):
        registry.get_algorithm("plugged")
    with pytest.raises(
        ModelOnexError, match="'lost' of the entry point 'no_such_module:X' cannot be imported"
    ) as error:
        registry.get_algorithm("lost")
    assert error.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
