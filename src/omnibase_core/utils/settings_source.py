"""Settings out of layers of plain data, with the source of every value. Reading files is the runtime's business."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelSettings

PREFIX: Final = "ONEX_"
Layer = tuple[str, Mapping[str, JsonValue]]
"""(name of the source, such as a file name, its nested data)."""


def environ_layer(environ: Mapping[str, str]) -> Mapping[str, JsonValue]:
    """Variables such as `ONEX_CONNECTIONS__PRIMARY_POSTGRES__URL` as nested data; names become lower case.

    A value that is a JSON list, map, number or boolean is read as such, everything else is a text. Variables whose
    first word is no setting are somebody else's and left alone.
    """
    layer: dict[str, JsonValue] = {}
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        keys = variable[len(PREFIX) :].lower().split("__")
        if keys[0] not in ModelSettings.model_fields:
            continue
        here = layer
        for key in keys[:-1]:
            below = here.setdefault(key, {})
            if not isinstance(below, dict):
                below = here[key] = {}
            here = below
        here[keys[-1]] = raw if keys[-1] in {"url", "data_dir", "secrets_dir"} or keys[0] == "secrets" else _value(raw)
    return layer


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
        problems = []
        for detail in error.errors(include_input=False, include_url=False):
            key = ".".join(str(part) for part in detail["loc"])
            source = next((s for k, s in sources.items() if k == key or k.startswith(key + ".")), "the settings")
            problems.append(f"{key} ({source}): {detail['msg']}")
        raise ModelOnexError(
            f"settings: {'; '.join(problems)}", EnumCoreErrorCode.CONFIGURATION_ERROR, {"problems": problems}
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
            if not isinstance(below, dict):
                below = into[key] = {}
            _merge(below, value, (*path, key), source, sources)
        else:
            into[key] = value
            sources[".".join((*path, key))] = source


def settings_from_environ(environ: Mapping[str, str]) -> ModelSettings:
    """The settings that environment variables alone give."""
    return settings_from_layers([("environment", environ_layer(environ))])[0]
