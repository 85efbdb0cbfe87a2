"""Settings from a TOML file and `ONEX_*` variables, with the exact place that each value came from (section 6.6).

Order, later over earlier: built-in defaults, the TOML file, the environment. The file is the one that is asked for,
else the one that `ONEX_CONFIG` names, else `onex.toml` in the current directory if there is one. Paths in it are
relative to the current directory, as they are in variables.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Final

from pydantic import JsonValue, SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import MASK, masked_url
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.utils.settings_source import Layer, environ_layers, settings_from_layers

DEFAULT_FILE: Final = "onex.toml"
FILE_VARIABLE: Final = "ONEX_CONFIG"
BUILT_IN: Final = "built-in default"
_MAX_BYTES: Final = 1 << 20
_NONE: Final = {
    "policy.file_roots": "the current directory",
    "state_connection": "in memory",
    "database_url": "workflows.db in data_dir",
    "engine": "dbos where runs are kept, else memory",
}
_SECRET_WORDS: Final = ("password", "secret", "token", "key", "pem", "certificate", "credential", "jaas")


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """`sources`: dotted key -> `file:line` or the name of a variable, for every value that is no default."""

    settings: ModelSettings
    sources: Mapping[str, str]
    file: Path | None


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One value as it may be printed: secrets are masked."""

    key: str
    value: str
    source: str


def load_settings(config: Path | None, environ: Mapping[str, str]) -> LoadedSettings:
    """Read the settings. Raises ModelOnexError CONFIGURATION_ERROR that names file and line, or the variable."""
    file = _file(config, environ)
    layers: list[Layer] = [] if file is None else list(_file_layers(file))
    layers += environ_layers(environ)
    settings, sources = settings_from_layers(layers)
    return LoadedSettings(settings, sources, file)


def _file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    named = environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _file_layers(file: Path) -> Iterator[Layer]:
    """One layer per value, so that each is reported with its line."""
    text = _read(file)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error), re.DOTALL)
        where, what = (f"{file}:{place[2]}:{place[3]}", place[1]) if place else (str(file), str(error))
        raise _wrong(f"{where}: no valid TOML: {what}") from None
    lines = _lines(text)
    for path, value in _leaves(data, ()):
        line = next((lines[path[:depth]] for depth in range(len(path), 0, -1) if path[:depth] in lines), 0)
        layer: JsonValue = value
        for key in reversed(path):
            layer = {key: layer}
        if isinstance(layer, dict):
            yield f"{file}:{line}" if line else str(file), layer


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise _wrong(f"settings file {file} does not exist; correct --config or {FILE_VARIABLE}") from None
    except OSError as error:
        raise _wrong(f"settings file {file} cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BYTES:
        raise _wrong(f"settings file {file} is larger than {_MAX_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _wrong(f"{file}:{line}: not UTF-8") from None


def _wrong(message: str) -> ModelOnexError:
    return ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)


def _leaves(data: Mapping[str, object], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], JsonValue]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), _json(value)


def _json(value: object) -> JsonValue:
    """TOML's dates become text; everything else is JSON already."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool) else str(value)


_HEADER = re.compile(r"\s*(\[.*\])\s*(?:#.*)?")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Key path -> line. Text inside a multi-line string may be taken for a key, which misplaces that one key."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line)
        key = None if header else _KEY.match(line)
        if header:
            table = _path_of(header[1])
            found.setdefault(table, number)
        elif key:
            found.setdefault((*table, *_path_of(f"{key[1]} = 0")), number)
    return found


def _path_of(line: str) -> tuple[str, ...]:
    try:
        here: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(here, dict) and here:
        key, here = next(iter(here.items()))
        path.append(key)
    return tuple(path)


def describe(loaded: LoadedSettings) -> list[SettingRow]:
    """Every setting with its value and source, in the order of the model; secrets masked."""
    rows = []
    for key, value in _flat(loaded.settings, ""):
        rows.append(SettingRow(key, value, loaded.sources.get(key, BUILT_IN)))
    return rows


def _flat(value: object, key: str) -> Iterator[tuple[str, str]]:
    fields = getattr(type(value), "model_fields", None)
    if fields is not None:
        for name in fields:
            yield from _flat(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}")
    else:
        yield key, _shown(key, value)


def _shown(key: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value()) if key.endswith("url") else MASK
    if any(word in key.rpartition(".")[2].lower() for word in _SECRET_WORDS) and key.startswith("connections."):
        return MASK
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "none"
    if value is None:
        return _NONE.get(key, "no restriction")
    return str(value)
