"""JSON that nobody changes: lists and objects that refuse it, and are equal to plain ones."""

from typing import Final, NoReturn

from pydantic import JsonValue


class FrozenDict(dict[str, JsonValue]):
    """An object of JSON that refuses every change; `dict(it)` gives one that does not."""

    def __reduce__(self) -> tuple[type["FrozenDict"], tuple[dict[str, JsonValue]]]:
        return FrozenDict, (dict(self),)


class FrozenList(list[JsonValue]):
    """A list of JSON that refuses every change; `list(it)` gives one that does not."""

    def __reduce__(self) -> tuple[type["FrozenList"], tuple[list[JsonValue]]]:
        return FrozenList, (list(self),)


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    message = f"{type(self).__name__} cannot be changed; change a copy"
    raise TypeError(message)


_CHANGES: Final = {
    FrozenDict: "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update",
    FrozenList: "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove reverse sort",
}
for _type, _names in _CHANGES.items():
    for _name in _names.split():
        setattr(_type, _name, _refuse)


def frozen_json(value: JsonValue) -> JsonValue:
    """A copy that cannot be changed, of all that it holds; plain values as they are."""
    if isinstance(value, dict):
        return frozen_object(value)
    if isinstance(value, list):
        return FrozenList(map(frozen_json, value))
    return value


def frozen_object(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """An object that cannot be changed, and nothing in it."""
    return FrozenDict({key: frozen_json(each) for key, each in value.items()})
