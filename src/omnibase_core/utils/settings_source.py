"""Settings out of layers of plain data, with the source of every value. Reading files is the runtime's business."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.utils.settings_findings import settings_problems

PREFIX: Final = "ONEX_"
Layer = tuple[str, Mapping[str, JsonValue]]
"""(name of the source, such as a file name, its nested data)."""


def environ_layers(environ: Mapping[str, str]) -> Iterator[Layer]:
    """Variables such as `ONEX_CONNECTIONS__PRIMARY_POSTGRES__URL` as nested data, one layer each, by name.

    Names become lower case, but for what follows `ONEX_SECRETS__`: that is the name of a secret, letter by letter. A
    value that is a JSON list, map, number or boolean is read as such, everything else is a text. Variables whose first
    word is no setting are somebody else's and left alone.
    """
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        first, divider, rest = variable[len(PREFIX) :].partition("__")
        first = first.lower()
        if first not in ModelSettings.model_fields:
            continue
        keys = [first, *([rest] if first == "secrets" else rest.lower().split("__"))] if divider else [first]
        is_text = keys[-1] in {"url", "data_dir", "secrets_dir"} or first == "secrets"
        layer: JsonValue = raw if is_text else _value(raw)
        for key in reversed(keys):
            layer = {key: layer}
        yield variable, cast("dict[str, JsonValue]", layer)  # there is at least one key


def _value(raw: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(raw)
    except ValueError:
        return raw
    return raw if isinstance(value, str) or value is None else value


def settings_from_layers(layers: Iterable[Layer]) -> tuple[ModelSettings, dict[str, str]]:
    """(settings, dotted key -> source), later layers over earlier ones, maps merged key by key.

    Raises CONFIGURATION_ERROR that names key and source of everything that is wrong; values are not shown.
    """
    merged: dict[str, JsonValue] = {}
    sources: dict[str, str] = {}
    for source, data in layers:
        _merge(merged, data, (), source, sources)
    try:
        return ModelSettings.model_validate(merged), sources
    except ValidationError as error:
        problems = settings_problems(error, merged, sources)
    told = problems[0] if len(problems) == 1 else "".join(f"\n  {problem}" for problem in problems)
    raise ModelOnexError(
        f"settings: {told}", EnumCoreErrorCode.CONFIGURATION_ERROR, {"problems": [*problems]}
    ) from None


def _merge(
    into: dict[str, JsonValue],
    data: Mapping[str, JsonValue],
    path: tuple[str, ...],
    source: str,
    sources: dict[str, str],
) -> None:
    for key, value in data.items():
        below = into.get(key)
        if isinstance(value, dict):
            if not value:
                sources[".".join((*path, key))] = source
            if not isinstance(below, dict):
                below = into[key] = {}
            _merge(below, value, (*path, key), source, sources)
        else:
            into[key] = value
            sources[".".join((*path, key))] = source


def settings_from_environ(environ: Mapping[str, str]) -> ModelSettings:
    """The settings that environment variables alone give."""
    return settings_from_layers(environ_layers(environ))[0]
