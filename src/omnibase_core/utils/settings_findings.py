"""What is wrong with settings, in plain words: the key and where it was set, what was found, what is allowed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Final, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue, SecretStr, ValidationError

from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.utils.contract_findings import did_you_mean, kind_of, show
from omnibase_core.utils.contract_shapes import words_of

_NEVER_SHOWN: Final = frozenset({"connections", "secrets"})
_EXAMPLES: Final = {"url": "sqlite:///data.db"}
_Keys = tuple[str | int, ...]


def settings_problems(
    error: ValidationError, data: Mapping[str, JsonValue], sources: Mapping[str, str]
) -> tuple[str, ...]:
    """One sentence or two per problem. `sources`: dotted key -> `file:line` or the name of a variable.

    Values of connections and secrets are never quoted.
    """
    problems: dict[_Keys, str] = {}
    meant: set[_Keys] = set()
    details = error.errors(include_input=False, include_url=False)
    for detail in sorted(details, key=lambda one: one["type"] != "extra_forbidden"):
        keys, annotation = _known_part(detail["loc"])
        source = _source(keys, sources)
        if detail["type"] == "extra_forbidden":
            known = _keys_of(annotation)
            near = _nearest(str(keys[-1]), known)
            meant.add((*keys[:-1], near))
            what = _unknown(keys, known, near, source)
        elif keys in problems or keys in meant:  # a union complains once per branch; a mistyped key is missing as well
            continue
        elif detail["type"] == "missing":
            what = _missing(keys, source)
        else:
            what = _wrong(keys, annotation, _value_at(data, keys), source)
        problems[keys] = f"{_dotted(keys)} ({source}): {what}"
    return tuple(problems.values())


def _nearest(word: str, known: Sequence[str]) -> str:
    """The key that was probably meant, or nothing."""
    told = did_you_mean(word, known)
    return next((key for key in known if repr(key) in told), "")


def _unknown(keys: _Keys, known: Sequence[str], near: str, source: str) -> str:
    told = f"unknown key {str(keys[-1])!r}"
    if near:
        told += f"; did you mean {_variable((*keys[:-1], near)) if _is_variable(source) else repr(near)}? Known"
    return f"{told}{'' if near else '; known'} are {', '.join(known)}"


def _missing(keys: _Keys, source: str) -> str:
    example = _EXAMPLES.get(str(keys[-1]), "...")
    if _is_variable(source):
        return f"is missing; set {_variable(keys)}={example} or the like"
    return f'is missing; write {keys[-1]} = "{example}" or the like'


def _wrong(keys: _Keys, annotation: object, found: JsonValue, source: str) -> str:
    """A value of the wrong kind, or out of bounds. A number is shown, because its bounds are what is wrong with it."""
    is_public = keys[0] not in _NEVER_SHOWN
    base, words = _words(annotation)
    if get_origin(base) is tuple:
        example = json.dumps([found] if is_public and isinstance(found, str) else ["a", "b"])
        if _is_variable(source):
            return f"must be a JSON list, found {kind_of(found)}; write {source}='{example}'"
        return f"must be a list, found {kind_of(found)}; write {keys[-1]} = {example}"
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    told = f"must be {words}, found {show(found) if is_public and is_number and 'number' in words else kind_of(found)}"
    if _is_variable(source) and keys == ("connections",):
        told += "; set ONEX_CONNECTIONS__NAME__URL"
    return told


def _known_part(loc: Sequence[str | int]) -> tuple[_Keys, object]:
    """The location without the names of a union's branches, and what is declared there.

    For an unknown key: what is declared one step above it.
    """
    here: object = ModelSettings
    for depth, step in enumerate(loc):
        base = _base(here)
        if isinstance(base, type) and issubclass(base, BaseModel):
            field = base.model_fields.get(str(step))
            if field is None:
                return tuple(loc[: depth + 1]), base
            here = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        elif get_origin(base) is dict:
            here = get_args(base)[1]
        elif get_origin(base) is tuple:
            here = get_args(base)[0]
        else:
            return tuple(loc[:depth]), here
    return tuple(loc), here


def _base(annotation: object) -> object:
    """Without `| None` and what is only annotated, when one thing is left."""
    if get_origin(annotation) is Annotated:
        return _base(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        branches = [branch for branch in get_args(annotation) if branch is not type(None)]
        return _base(branches[0]) if len(branches) == 1 else annotation
    return annotation


def _words(annotation: object) -> tuple[object, str]:
    base = _base(annotation)
    if isinstance(base, type) and issubclass(base, BaseModel):
        return base, f"a table with {', '.join(base.model_fields)}"
    if get_origin(base) is dict:
        return base, "a table"
    if get_origin(base) is tuple:
        return base, "a list"
    if base is Path:
        return base, "a path (a text)"
    return base, "a text" if base is SecretStr else words_of(annotation)


def _keys_of(annotation: object) -> list[str]:
    base = _base(annotation)
    return list(base.model_fields) if isinstance(base, type) and issubclass(base, BaseModel) else []


def _value_at(data: Mapping[str, JsonValue], keys: _Keys) -> JsonValue:
    here: JsonValue = dict(data)
    for key in keys:
        if isinstance(here, dict):
            here = here.get(str(key))
        elif isinstance(here, list) and isinstance(key, int):
            here = here[key]
    return here


def _source(keys: _Keys, sources: Mapping[str, str]) -> str:
    """Where the key was set, else what below it, else what above it."""
    names = [key for key in keys if isinstance(key, str)]
    for depth in range(len(names), 0, -1):
        key = ".".join(names[:depth])
        found = sources.get(key) or next((s for k, s in sources.items() if k.startswith(key + ".")), None)
        if found is not None:
            return found
    return "the settings"


def _is_variable(source: str) -> bool:
    return source.startswith("ONEX_")


def _variable(keys: _Keys) -> str:
    return "ONEX_" + "__".join(str(key).upper() for key in keys)


def _dotted(keys: _Keys) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
