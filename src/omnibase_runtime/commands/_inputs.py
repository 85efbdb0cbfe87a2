"""What the commands read: a contract, the input document, the settings."""

import json
import math
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from omnibase_runtime.commands._console import usage

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
    from omnibase_core.utils.contract_loader import LoadedContract
    from omnibase_core.utils.effect_plan import EffectPlan
    from omnibase_runtime.settings import LoadedSettings

STDIN: Final = "-"
STDIN_NAME: Final = "<stdin>"
MAX_CONTRACT_BYTES: Final = 1 << 20
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""What may be half of a surrogate pair: an escape of JSON, or a byte of the command line that is no UTF-8."""
_NO_UNICODE: Final = "a text has half of a surrogate pair, which is no Unicode; write the character itself"
_MAX_INPUT_BYTES: Final = 64 << 20


def read_bytes(file: str, limit: int) -> bytes:
    """A file, or standard input for `-`; at most one byte more than `limit`, which tells the caller that it is longer.

    Raises ModelOnexError VALIDATION_ERROR for what cannot be read.
    """
    if file == STDIN:
        return sys.stdin.buffer.read(limit + 1)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(limit + 1)
    except FileNotFoundError:
        raise usage(f"{file}: no such file{_near(file)}") from None
    except IsADirectoryError:
        raise usage(f"{file}: is a directory, a contract is a file (try {Path(file) / '*.yaml'})") from None
    except OSError as error:
        raise usage(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise usage(f"{file!r}: no file name: {error}") from None


def _near(file: str) -> str:
    import difflib

    path = Path(file)
    try:
        stems = {entry.stem: entry for entry in path.parent.iterdir() if entry.suffix in {".yaml", ".yml", ".json"}}
    except OSError:
        return ""
    near = difflib.get_close_matches(path.stem, stems, n=1)
    return f"; did you mean {stems[near[0]]}?" if near else ""


def load(file: str) -> "LoadedContract":
    """The contract of a file or of standard input. Raises ContractError with everything that is wrong with it."""
    from omnibase_core.errors.contract_error import ContractError
    from omnibase_core.utils.contract_loader import judge_text

    name = STDIN_NAME if file == STDIN else file
    judged = judge_text(read_bytes(file, MAX_CONTRACT_BYTES), name)
    if len(judged) > 1:
        raise usage(f"{name}: holds {len(judged)} documents; this command takes one contract (validate takes several)")
    if not judged:
        raise usage(f"{name}: holds no contract")
    found = judged[0]
    if found.contract is None:
        raise ContractError(f"{name}: not a valid contract", found.diagnostics)
    return found.contract


def effect_of(loaded: "LoadedContract") -> "tuple[ModelEffectSubcontract, EffectPlan]":
    """An effect contract with its plan; another kind is refused."""
    if loaded.effect_subcontract is None or loaded.effect_plan is None:
        raise usage(f"{loaded.source}: found {loaded.kind}_subcontract; this command takes an effect_subcontract")
    return loaded.effect_subcontract, loaded.effect_plan


def read_input(text: str | None, assignments: list[str], contract_file: str) -> "dict[str, JsonValue]":
    """The input document of `--input` (JSON, `@file` or `-`) with the values of `--set` put in."""
    value = read_value(text, assignments, contract_file)
    if not isinstance(value, dict):
        raise usage(f'{_source(text)}: the input is a JSON object such as {{"name": "a"}}, found {_kind(value)}')
    return value


def read_value(text: str | None, assignments: list[str], contract_file: str) -> "JsonValue":
    """The same where the input may be any JSON value; `--set` needs an object or a list."""
    if text == STDIN and contract_file == STDIN:
        raise usage("--input - and a contract from standard input exclude each other: there is one standard input")
    data: JsonValue = {} if text is None else _parse_input(text)
    for assignment in assignments:
        if not isinstance(data, dict | list):
            raise usage(f"--set {assignment!r}: the input is {_kind(data)}, which has no keys")
        _assign(data, assignment)
    return data


def _source(text: str | None) -> str:
    """What messages call the input."""
    if text == STDIN:
        return STDIN_NAME
    return text[1:] if text is not None and text.startswith("@") else "--input"


def _parse_input(text: str) -> "JsonValue":
    name = _source(text)
    if text == STDIN or text.startswith("@"):
        raw = read_bytes(STDIN if text == STDIN else text[1:], _MAX_INPUT_BYTES)
        if len(raw) > _MAX_INPUT_BYTES:
            raise usage(f"{name}: the input is larger than {_MAX_INPUT_BYTES >> 20} MiB")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise usage(f"{name}: not UTF-8 at byte {error.start}") from None
    try:
        value: JsonValue = _parse(text)
    except json.JSONDecodeError as error:
        raise usage(f"{name}:{error.lineno}:{error.colno}: no valid JSON: {error.msg}{_advice(text, name)}") from None
    except (ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise usage(f"{name}: no valid JSON: {detail}") from None
    if _SURROGATE.search(text) and not _is_unicode(value):
        raise usage(f"{name}: {_NO_UNICODE}")
    return value


def _is_unicode(value: "JsonValue") -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class _AmbiguousError(ValueError):
    """JSON that every program reads in its own way."""


def _parse(text: str) -> "JsonValue":
    """Raises ValueError for what cannot be given on as it stands there."""
    value: JsonValue = json.loads(
        text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_duplicates
    )
    return value


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON value"
    raise ValueError(message)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        message = f"{digits} is beyond the range of floats, which ends at {sys.float_info.max:.3g}"
        raise _AmbiguousError(message)
    return number


def _without_duplicates(pairs: "list[tuple[str, JsonValue]]") -> "dict[str, JsonValue]":
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        message = f"the key {twice!r} stands twice in one object"
        raise _AmbiguousError(message)
    return found


def _advice(text: str, name: str) -> str:
    return f"; a file is given as @{text}" if name == "--input" and _is_file(text) else ""


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _kind(value: "JsonValue") -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "a number"


def _assign(data: "dict[str, JsonValue] | list[JsonValue]", assignment: str) -> None:
    """`a.b=5`: a JSON value where the text is one, else the text itself; numeric keys are indexes of existing lists."""
    path, equals, raw = assignment.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise usage(f"--set {assignment!r}: write key=value or key.below=value")
    try:
        value: JsonValue = _parse(raw)
    except _AmbiguousError as error:
        raise usage(f"--set {assignment!r}: {error}; a text is given in quotes") from None
    except (ValueError, RecursionError):
        value = raw
    if not _is_unicode([path, value]):
        raise usage(f"--set {assignment!a}: {_NO_UNICODE}")
    here: dict[str, JsonValue] | list[JsonValue] = data
    for depth, key in enumerate(keys[:-1]):
        below = _step(here, key, assignment)
        if not isinstance(below, dict | list):
            place = ".".join(keys[: depth + 1])
            raise usage(f"--set {assignment!r}: {place} is {_kind(below)}, which has no keys")
        here = below
    last = keys[-1]
    if isinstance(here, dict):
        here[last] = value
    else:
        here[_index(here, last, assignment)] = value


def _step(here: "dict[str, JsonValue] | list[JsonValue]", key: str, assignment: str) -> "JsonValue":
    if isinstance(here, dict):
        return here.setdefault(key, {})
    return here[_index(here, key, assignment)]


def _index(here: "list[JsonValue]", key: str, assignment: str) -> int:
    if not (key.isascii() and key.isdigit() and int(key) < len(here)):
        raise usage(f"--set {assignment!r}: {key!r} is no index of a list of {len(here)}")
    return int(key)


def settings_of(config: Path | None) -> "LoadedSettings":
    """The settings of this invocation; their secrets are known to the redaction from here on."""
    from omnibase_core.logging.redaction import register_secret
    from omnibase_runtime.settings import load_settings

    loaded = load_settings(config, os.environ)
    for secret in loaded.settings.secrets.values():
        register_secret(secret.get_secret_value())
    urls = [connection.url for connection in loaded.settings.connections.values()]
    if loaded.settings.database_url is not None:
        urls.append(loaded.settings.database_url)
    for url in urls:
        for password in passwords(url.get_secret_value()):
            register_secret(password)
    return loaded


def passwords(url: str) -> "list[str]":
    """The password of a URL as it stands there and decoded."""
    from urllib.parse import unquote, urlsplit

    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []
