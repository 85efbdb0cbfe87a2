"""Algorithms by name: those built in, those of a program, those of installed packages."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypeVar, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import AlgorithmNotFoundError, ModelOnexError
from omnibase_core.utils.algorithms import Algorithm
from omnibase_core.utils.algorithms_ordered import BUILT_IN

ENTRY_POINT_GROUP: Final = "onex.algorithms"
"""An installed package names a class here under the algorithm's name."""
_METHODS: Final = ("process_chunk", "merge")

Made = TypeVar("Made", bound=Callable[..., object])

_decorated: dict[str, Callable[..., object]] = {}


def algorithm(name: str) -> Callable[[Made], Made]:
    """Make the decorated class an algorithm of that name, in every registry, at once.

    It has `process_chunk(chunk)` and `merge(first, second)`; without a `finish(state)` the last state is the result.
    Its constructor's keyword arguments are the parameters of a contract. For the backend `processes` it must stand at
    the top of a module. CONFIGURATION_ERROR when it lacks a method or another class has the name.
    """

    def register(made: Made) -> Made:
        require_methods(name, made)
        known = _decorated.get(name) or BUILT_IN.get(name)
        if known is not None and _identity(known) != _identity(made):
            raise ModelOnexError(
                f"algorithm {name!r} is {_identity(known)} already, so it cannot be {_identity(made)}; "
                "give it another name",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        _decorated[name] = made
        return made

    return register


class AlgorithmRegistry:
    """`ProtocolAlgorithmRegistry`: what was registered here, then `@algorithm`, then the built-in ones, then entry
    points of the group `onex.algorithms`, which are imported when they are first asked for.
    """

    def __init__(self) -> None:
        self._registered: dict[str, object] = {}
        self._installed: dict[str, EntryPoint] | None = None

    def register(self, name: str, algorithm: object) -> None:
        """Put an algorithm, or a class of them, in place of whatever has the name."""
        require_methods(name, algorithm)
        self._registered[name] = algorithm

    def names(self) -> list[str]:
        return sorted({*self._registered, *_decorated, *BUILT_IN, *self._entry_points()})

    def get_algorithm(self, name: str, parameters: Mapping[str, object] | None = None) -> Algorithm[object]:
        """The algorithm with these parameters.

        AlgorithmNotFoundError with the nearest names; VALIDATION_ERROR for parameters that it does not take;
        CONFIGURATION_ERROR for an entry point that cannot be imported.
        """
        found = self._registered.get(name) or _decorated.get(name) or BUILT_IN.get(name) or self._load(name)
        return with_parameters(name, found, parameters or {})

    def _load(self, name: str) -> object:
        known = self._entry_points().get(name)
        if known is None:
            names = self.names()
            near = get_close_matches(name.lower(), names, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise AlgorithmNotFoundError(
                f"algorithm {name!r} is not registered; {hint}registered: {', '.join(names)}",
                context={"algorithm": name, "nearest": near},
            )
        try:
            loaded: object = known.load()
        except (ImportError, AttributeError) as error:
            raise ModelOnexError(
                f"algorithm {name!r} of the entry point {known.value!r} cannot be imported: {error}",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            ) from error
        self.register(name, loaded)
        return loaded

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._installed is None:
            self._installed = {each.name: each for each in entry_points(group=ENTRY_POINT_GROUP)}
        return self._installed


def with_parameters(name: str, found: object, parameters: Mapping[str, object]) -> Algorithm[object]:
    """An algorithm of a class; an object serves as it is, and with parameters as one of its class.

    VALIDATION_ERROR names everything that is wrong with the names of the parameters, or what the class says of values.
    """
    if not isinstance(found, type):
        if not parameters:
            return cast("Algorithm[object]", found)  # its methods were looked for when it was registered
        found = type(found)
    try:
        signature = inspect.signature(found)
        problems = _misnamed(signature, parameters)
    except ValueError:  # a class of C that tells nothing
        problems = []
    if not problems:
        try:
            return cast("Algorithm[object]", found(**parameters))  # as above
        except (TypeError, ValueError) as error:
            problems = [str(error)]
    raise ModelOnexError(
        f"algorithm {name!r}: {'; '.join(problems)}", EnumCoreErrorCode.VALIDATION_ERROR, {"problems": problems}
    )


def _misnamed(signature: inspect.Signature, parameters: Mapping[str, object]) -> list[str]:
    takes = {each.name: each for each in signature.parameters.values() if each.kind is not each.VAR_POSITIONAL}
    if any(each.kind is each.VAR_KEYWORD for each in takes.values()):
        return []
    allowed = ", ".join(takes) or "none"
    problems = [f"parameter {each!r} is unknown; allowed: {allowed}" for each in parameters if each not in takes]
    return problems + [
        f"parameter {each!r} is missing"
        for each, of in takes.items()
        if of.default is inspect.Parameter.empty and each not in parameters
    ]


def require_methods(name: str, made: object) -> None:
    """CONFIGURATION_ERROR for what is no algorithm."""
    missing = [method for method in _METHODS if not callable(getattr(made, method, None))]
    if missing:
        raise ModelOnexError(
            f"algorithm {name!r} needs the methods {', '.join(_METHODS)}; {made!r} lacks {', '.join(missing)}",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        )
    merge: Callable[..., object] = getattr(made, "merge")  # noqa: B009  # an object, of which it was just seen
    bound = not isinstance(made, type) or isinstance(inspect.getattr_static(made, "merge"), staticmethod | classmethod)
    try:
        inspect.signature(merge).bind(*range(2 if bound else 3))
    except TypeError:
        raise ModelOnexError(
            f"algorithm {name!r} needs merge(first, second), which makes one state of two; found "
            f"merge{inspect.signature(merge)}",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        ) from None


def _identity(made: Callable[..., object]) -> str:
    return f"{made.__module__}.{made.__qualname__}"
