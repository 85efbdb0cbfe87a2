"""Collects what is wrong with one document of a contract file, each finding at its place in the source."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from operator import attrgetter
from typing import Final, Literal

from pydantic import JsonValue

from omnibase_core.errors import Diagnostic
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.utils.contract_files import ContractFiles
from omnibase_core.utils.yaml_document import MAX_PROBLEMS, YamlDocument, format_path

Place = Literal["key", "value"]

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # those of the parser
_PLAIN_TOKEN = re.compile(r"[^\s,\]}#&*!'\"]+")
_ABOUT_KEYS: Final = frozenset({"E-HEADER-NAME", "E-FUTURE-KEY", "E-EXTRACT-RESERVED"})
_LONGEST_SUGGESTED = 64
_SHOWN = 80
_LISTED: Final = 20
"""Findings that the message of a ContractError spells out; `diagnostics` has them all."""


class TooManyFindingsError(Exception):
    """The limit of findings was reached, and the last one says so."""


class SourceText:
    """The text of a file, by line and column (1-based)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts: list[int] | None = None

    def index(self, line: int, column: int) -> int:
        if self._starts is None:
            self._starts = [0, *(match.end() for match in _LINE_BREAK.finditer(self.text))]
        return self._starts[min(line, len(self._starts)) - 1] + column - 1

    def place(self, index: int, line: int) -> tuple[int, int]:
        """Line and column of the character at `index`, which lies on `line` or below."""
        self.index(line, 1)
        starts = self._starts or [0]
        while line < len(starts) and starts[line] <= index:
            line += 1
        return line, index - starts[line - 1] + 1

    def token(self, line: int, column: int) -> str:
        """The unquoted scalar that begins there, as written; empty when none does."""
        match = _PLAIN_TOKEN.match(self.text, self.index(line, column))
        return match[0] if match else ""


class Findings:
    """The findings of one document.

    occupied: places of which the reader of the text has complained already. files: what lies beside the contract, None
    for one that is no file.
    """

    def __init__(
        self,
        document: YamlDocument,
        source: SourceText,
        file: str,
        occupied: Collection[tuple[int, int]] = (),
        files: ContractFiles | None = None,
    ) -> None:
        self.document = document
        self.source = source
        self.file = file
        self.files = files
        self._occupied = occupied
        self._list: list[Diagnostic] = []
        self._seen = 0

    @property
    def count(self) -> int:
        return self._seen

    @property
    def has_errors(self) -> bool:
        return any(finding.severity == "error" for finding in self._list)

    def in_order(self) -> tuple[Diagnostic, ...]:
        """All findings by place, those of other files last; the same rule at the same place and path counts once."""
        unique = {(d.file, d.code, d.line, d.column, d.key_path, d.message): d for d in self._list}
        ordered = sorted(unique.values(), key=attrgetter("line", "column", "key_path", "code"))
        return tuple(sorted(ordered, key=lambda d: "" if d.file == self.file else d.file))

    def adopt(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Take over what was found in another file that belongs to this one."""
        for diagnostic in diagnostics:
            if len(self._list) < MAX_PROBLEMS:
                self._list.append(diagnostic)
                self._seen += 1

    def add(
        self,
        code: str,
        message: str,
        path: KeyPath,
        *,
        at: Place = "value",
        found: str = "",
        allowed: str = "",
        fix: str = "",
        severity: str = "error",
    ) -> None:
        """Record a finding; raises TooManyFindingsError when there are more than anyone mends."""
        offset = path[-1] if path and isinstance(path[-1], Offset) else None
        if offset is not None:
            path = path[:-1]
        if len(self._list) >= MAX_PROBLEMS:
            self._list.append(
                Diagnostic(
                    "E-LIMIT", "error", f"the contract has more than {MAX_PROBLEMS} problems; mend these first",
                    file=self.file, line=self._list[-1].line,
                )
            )  # fmt: skip  # one thing on one line
            raise TooManyFindingsError
        self._seen += 1
        line, column = self._place(path, at, offset)
        if (line, column) in self._occupied and code in {"E-TYPE", "E-MISSING-FIELD"}:
            return
        self._list.append(
            Diagnostic(code, severity, message, format_path(path), self.file, line, column, found, allowed, fix)
        )

    def reporter(self, base: KeyPath) -> Callable[[Breach], None]:
        """A sink for breaches whose paths are relative to `base`."""

        def report(breach: Breach) -> None:
            fix = breach.fix
            if not fix and breach.code.startswith("E-UNKNOWN"):
                fix = did_you_mean(breach.found.strip("'"), breach.allowed.split(", "))
            self.add(
                breach.code,
                breach.message,
                (*base, *breach.path),
                at="key" if breach.code in _ABOUT_KEYS else "value",
                found=shorten(breach.found),
                allowed=breach.allowed,
                fix=fix,
                severity=breach.severity,
            )

        return report

    def token(self, path: KeyPath) -> str:
        """The scalar at `path` as it is written, when it stands there unquoted."""
        return self.source.token(*self.document.mark(path))

    def _place(self, path: KeyPath, at: Place, offset: int | None) -> tuple[int, int]:
        value: JsonValue = self.document.data
        for depth, step in enumerate(path):
            if isinstance(value, dict) and step in value:
                value = value[str(step)]
            elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
                value = value[step]
            else:  # what is missing lies where its owner is named
                return self.document.key_mark(path[:depth])
        if at == "key" or isinstance(value, dict | list):
            return self.document.key_mark(path)
        line, column = self.document.mark(path)
        if offset is None or not isinstance(value, str):
            return line, column
        return self._inside(value, offset, line, column)

    def _inside(self, value: str, offset: int, line: int, column: int) -> tuple[int, int]:
        """The place of a character of a scalar that is written as it is read; or of a placeholder: the n-th of the
        value is the n-th of the source, whatever the scalar's style.
        """
        start = self.source.index(line, column)
        opening = value[offset : offset + 3]
        if not opening.startswith("${"):
            quoted = self.source.text[start : start + 1] in {"'", '"'}
            begin = start + quoted
            as_written = self.source.text.startswith(value[:offset], begin)
            return self.source.place(begin + offset, line) if as_written else (line, column)
        if self.source.text[start : start + 1] == "*":
            return line, column
        index = start - 1
        for _ in range(value.count("${", 0, offset) + 1):
            index = self.source.text.find("${", index + 1)
            if index < 0:
                return line, column
        if not self.source.text.startswith(opening, index):
            return line, column  # an escape sequence hides a placeholder
        return self.source.place(index, line)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A fix that proposes the nearest known word, or nothing."""
    if len(word) > _LONGEST_SUGGESTED:
        return ""
    folded = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), folded, 1, 0.6)
    return f"did you mean {folded[near[0]]!r}?" if near else ""


def kind_of(value: object) -> str:
    """What a value is, in the words of a contract's author."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str | list | Mapping):
        return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "a mapping"
    return f"{type(value).__name__}, which is no JSON"


def show(value: JsonValue) -> str:
    """`repr` of what was found, cut where it gets long; containers show their first entries."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
    if isinstance(value, dict):
        keys = ", ".join(shorten(str(key)) for key in islice(value, 4))
        return f"a mapping with {keys}{', ...' if len(value) > 4 else ''}" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return shorten(repr(value))


def shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def summary(file: str, diagnostics: Sequence[Diagnostic], what: str = "contract") -> str:
    """The message of a ContractError."""
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    head = f"{file}: the {what} has {errors} error{'s' if errors != 1 else ''}"
    more = [f"and {len(diagnostics) - _LISTED} more"] if len(diagnostics) > _LISTED else []
    return "\n".join([head, *map(str, diagnostics[:_LISTED]), *more])
