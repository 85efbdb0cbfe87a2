"""The state of a machine as frozen data, and the map that holds its fields.

A field is set without copying the others: `LayeredMap` is a stack of dicts, each at most sixteen times as large as the
one above. Setting copies the small top; a layer that is full is merged into the next one. So the cost of a change does
not depend on how many fields there are (a merge into the lowest layer copies it, once in hundreds of new fields), and
whoever holds an older map still sees what it held.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Self, cast

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

_TOP: Final = 16
"""Fields of the topmost layer."""
_GROWTH: Final = 16
"""How much larger each layer below may be."""
_KEYS: Final = ("state", "context", "version", "history_length")
_MISSING: Final = object()
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

Layer = dict[str, JsonValue]


class LayeredMap(Mapping[str, JsonValue]):
    """A map that never changes. Its values are its own: readers that hand them on must copy them (`copied`)."""

    __slots__ = ("_layers", "_size")

    def __init__(self, layers: tuple[Layer, ...] = ({},), size: int | None = None) -> None:
        """layers: newest first, at least one; nobody may change them any more. size: None where there is only one."""
        self._layers = layers
        self._size = len(layers[0]) if size is None else size

    def __getitem__(self, key: str) -> JsonValue:
        for layer in self._layers:
            if key in layer:
                return layer[key]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        for layer in self._layers:  # noqa: SIM110  # a generator takes four times as long
            if key in layer:
                return True
        return False

    def __iter__(self) -> Iterator[str]:
        """In order of first setting."""
        return iter(self.flat())

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.flat()!r})"

    def flat(self) -> Layer:
        """One dict of its own with all fields; the values are shared."""
        merged: Layer = {}
        for layer in reversed(self._layers):
            merged.update(layer)
        return merged

    def updated(self, changes: Layer) -> "LayeredMap":
        """This map with `changes`, which nobody else may hold."""
        layers, size = self._layers, self._size
        for key in changes:
            if key not in self:
                size += 1
        if len(layers) == 1:
            return LayeredMap((changes, layers[0]), size)
        top = {**layers[0], **changes}
        if len(top) <= _TOP:
            return LayeredMap((top, *layers[1:]), size)
        others = list(layers[1:])
        most = _TOP * _GROWTH
        while others and len(others[0]) <= most:
            top = {**others.pop(0), **top}
            if len(top) <= most:
                break
            most *= _GROWTH
        return LayeredMap(({}, top, *others), size)


class Fields(LayeredMap):
    """The same for readers outside: lists and maps are copied when they are read, so that nothing can be changed."""

    __slots__ = ()

    def __getitem__(self, key: str) -> JsonValue:
        return copied(super().__getitem__(key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.flat() == (
            other.flat() if isinstance(other, LayeredMap) else dict(other)
        )

    __hash__ = None  # type: ignore[assignment]  # values are lists and dicts: no more hashable than a dict


def copied(value: JsonValue) -> JsonValue:
    """The value, with lists and maps of its own."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [copied(entry) for entry in value]
    return value


class FsmState(Mapping[str, object]):
    """Where a machine stands; frozen, and a map of its four keys, which is its JSON form.

    state: name of the state. context: the data. version: number of changes, for stores that compare it. history_length:
    number of transitions that led here.
    """

    __slots__ = ("_fields", "history_length", "state", "version")

    state: str
    version: int
    history_length: int
    _fields: LayeredMap

    def __init__(self, state: str, context: LayeredMap, version: int = 0, history_length: int = 0) -> None:
        _write_state(self, state)
        _write_fields(self, context)
        _write_version(self, version)
        _write_history_length(self, history_length)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __reduce__(self) -> tuple[object, ...]:
        return restore, (self.snapshot(),)

    @property
    def context(self) -> Fields:
        return Fields(self._fields._layers, self._fields._size)  # noqa: SLF001  # one family

    def __getitem__(self, key: str) -> object:
        if key not in _KEYS:
            raise KeyError(key)
        return cast("object", getattr(self, key))  # one of four attributes

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def __len__(self) -> int:
        return len(_KEYS)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FsmState):
            return (
                (self.state, self.version, self.history_length) == (other.state, other.version, other.history_length)
                and self._fields.flat() == other._fields.flat()
            )  # fmt: skip
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as its data

    def __repr__(self) -> str:
        return f"FsmState({self.state!r}, version={self.version}, {len(self._fields)} fields)"

    def snapshot(self) -> dict[str, JsonValue]:
        """`{state, context, version, history_length}` as JSON of its own; `restore` reads it."""
        return {
            "state": self.state,
            "context": copied(self._fields.flat()),
            "version": self.version,
            "history_length": self.history_length,
        }

    def moved(self, state: str, context: LayeredMap) -> "FsmState":
        """What follows on this one."""
        made = _new(FsmState)
        _write_state(made, state)
        _write_fields(made, context)
        _write_version(made, self.version + 1)
        _write_history_length(made, self.history_length + 1)
        return made

    def with_version(self, version: int) -> Self:
        """The same with the version under which a store keeps it."""
        return type(self)(self.state, self._fields, version, self.history_length)


_new: Final = object.__new__
_Write = Callable[[FsmState, object], None]
_write_state, _write_fields, _write_version, _write_history_length = (
    cast("_Write", FsmState.__dict__[slot].__set__)  # a slot's descriptor
    for slot in ("state", "_fields", "version", "history_length")
)


def layered(fields: Mapping[str, object], what: str) -> LayeredMap:
    """The fields as a map of its own. Raises VALIDATION_ERROR for what JSON cannot hold; `what` names it there."""
    try:
        form = cast("JsonValue", to_jsonable_python(dict(fields), inf_nan_mode="constants"))  # JSON, typed as Any
    except (ValueError, RecursionError):
        raise ModelOnexError(f"{what} has no JSON form", EnumCoreErrorCode.VALIDATION_ERROR) from None
    if not isinstance(form, dict) or has_unfinite(form):
        raise ModelOnexError(f"{what} holds NaN or an infinity: JSON has none", EnumCoreErrorCode.VALIDATION_ERROR)
    return LayeredMap((form,))


def has_unfinite(value: JsonValue) -> bool:
    """Whether NaN or an infinity is somewhere in it."""
    if isinstance(value, float):
        return value - value != 0.0
    if isinstance(value, dict):
        return any(has_unfinite(entry) for entry in value.values())
    return isinstance(value, list) and any(has_unfinite(entry) for entry in value)


def restore(snapshot: Mapping[str, object]) -> FsmState:
    """The state of a snapshot. Raises VALIDATION_ERROR unless it has the four keys and nothing else."""
    if isinstance(snapshot, FsmState):
        return snapshot
    given = {str(key) for key in snapshot}
    if given - set(_KEYS) or not {"state"} <= given:
        raise _no_snapshot(f"found the keys {', '.join(sorted(given)) or 'none'}")
    state = snapshot["state"]
    context = snapshot.get("context", {})
    counts = [snapshot.get(key, 0) for key in _KEYS[2:]]
    if not isinstance(state, str) or not isinstance(context, Mapping):
        raise _no_snapshot(f"state is {type(state).__name__} and context {type(context).__name__}")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise _no_snapshot("version and history_length are counted from 0")
    version, history_length = cast("list[int]", counts)  # checked above
    return FsmState(state, layered(context, "the context of a snapshot"), version, history_length)


def _no_snapshot(found: str) -> ModelOnexError:
    return ModelOnexError(
        f"a snapshot is {{state: text, context: map, version: number, history_length: number}}; {found}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )
