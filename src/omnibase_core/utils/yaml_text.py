"""Texts that cannot be read as YAML at all: too large, not UTF-8, forbidden characters, broken syntax."""

import re

import yaml

from omnibase_core.errors import Diagnostic
from omnibase_core.utils.yaml_syntax import explain

_SURROGATE = re.compile("[\ud800-\udfff]")
# What YAML allows, the other way round: control characters, and two that Unicode reserves.
_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def decode_text(text: str | bytes, file: str, max_bytes: int) -> tuple[str, Diagnostic | None]:
    """The text without its byte order mark, or why it is none; `max_bytes` counts UTF-8."""
    size = len(text)
    if size <= max_bytes and isinstance(text, str) and not text.isascii():
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        found = f"{size} {'bytes' if isinstance(text, bytes) else 'characters or more'}"
        return "", Diagnostic(
            "E-YAML-LIMIT",
            "error",
            f"the text is larger than {max_bytes} bytes",
            file=file,
            found=found,
            allowed=f"{max_bytes} bytes",
            fix="split the contract",
        )
    if isinstance(text, bytes):
        try:
            return text.decode("utf-8").removeprefix("\ufeff"), None
        except UnicodeDecodeError as error:
            found = repr(text[error.start : error.start + 4])
            return "", _not_utf8(text[: error.start].decode("utf-8"), found, file)
    surrogate = None if text.isascii() else _SURROGATE.search(text)
    if surrogate is not None:
        return "", _not_utf8(text[: surrogate.start()], repr(surrogate[0]), file)
    return text.removeprefix("\ufeff"), None


def _not_utf8(before: str, found: str, file: str) -> Diagnostic:
    line, column = _end_of(before)
    return Diagnostic(
        "E-YAML-ENCODING",
        "error",
        "the text is not UTF-8",
        file=file,
        line=line,
        column=column,
        found=found,
        allowed="UTF-8, with or without a byte order mark",
        fix="save the file as UTF-8",
    )


def _end_of(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def parse_problem(error: yaml.YAMLError, text: str, file: str, key_path: str) -> Diagnostic:
    if not isinstance(error, yaml.MarkedYAMLError):
        forbidden = _FORBIDDEN.search(text)
        line, column = _end_of(text[: forbidden.start()]) if forbidden else (0, 0)
        return Diagnostic(
            "E-YAML-CHARACTER",
            "error",
            "the text contains a character that YAML forbids",
            file=file,
            line=line,
            column=column,
            found=repr(forbidden[0]) if forbidden else "",
            allowed="printable characters, tab and line ends",
            fix='remove it, or write it as an escape in double quotes, such as "\\x01"',
        )
    mark = error.problem_mark or error.context_mark
    index = mark.index if mark is not None else len(text)
    explanation = explain(error.problem or "", error.context or "", text[index : index + 1])
    if explanation.at_context and error.context_mark is not None:
        mark = error.context_mark
        index = mark.index
    line, column = (0, 0) if mark is None else (mark.line + 1, mark.column + 1)
    found = text[index : index + 40].partition("\n")[0].rstrip("\r")
    return Diagnostic(
        "E-YAML-SYNTAX",
        "error",
        explanation.message,
        key_path,
        file,
        line,
        column,
        repr(found) if found else "the end of the text" if index >= len(text.rstrip()) else "the end of the line",
        explanation.allowed,
        explanation.fix,
    )
