"""Lists and maps with holes in them, made anew for each scope; of state machines and of workflows."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import JsonValue

S = TypeVar("S")


def map_of(entries: dict[str, tuple[JsonValue, Callable[[S], JsonValue] | None]]) -> Callable[[S], JsonValue]:
    """A map: the constants are copied at once, then the holes are filled in."""
    constants = {key: constant for key, (constant, _) in entries.items()}
    holes = [(key, evaluate) for key, (_, evaluate) in entries.items() if evaluate is not None]
    if len(holes) == 1:
        [(only, evaluate_only)] = holes

        def make_one(scope: S) -> JsonValue:
            made = constants.copy()
            made[only] = evaluate_only(scope)
            return made

        return make_one

    def make(scope: S) -> JsonValue:
        made = constants.copy()
        for key, evaluate in holes:
            made[key] = evaluate(scope)
        return made

    return make


def list_of(entries: list[tuple[JsonValue, Callable[[S], JsonValue] | None]]) -> Callable[[S], JsonValue]:
    """A list, likewise."""
    constants = [constant for constant, _ in entries]
    holes = [(index, evaluate) for index, (_, evaluate) in enumerate(entries) if evaluate is not None]

    def make(scope: S) -> JsonValue:
        made = constants.copy()
        for index, evaluate in holes:
            made[index] = evaluate(scope)
        return made

    return make
