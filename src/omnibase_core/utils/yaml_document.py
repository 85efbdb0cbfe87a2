"""Reads YAML text into plain data with places, within fixed limits and without surprises.

Only the parser's *event* stream is used: it does not recurse, while composers do and crash on deep nesting. The data is
built here, by one loop with a stack of its own, in the schema of YAML 1.2 core: null, booleans (`true`, `false` and
their capitalised forms), numbers; `yes`, `on`, dates and the like are text. Duplicate keys, keys that are no text,
merge keys and tags are problems; reading goes on behind each of them, so that all are reported together.

An alias becomes a copy of what its anchor holds, counted before it is made.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

import yaml
from pydantic import JsonValue
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    StreamEndEvent,
)

from omnibase_core.errors import Diagnostic
from omnibase_core.utils.yaml_text import decode_text, parse_problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Keys, values, lists and mappings of a text, after aliases were replaced by what they stand for."""
MAX_ALIASES = 20
MAX_PROBLEMS = 1_000
"""Problems of a text that are reported; a text with more of them is no contract, and reading stops."""
_MAX_TAG_DIRECTIVES = 1_000  # libyaml compares each with all before it

KeyPath = tuple[str | int, ...]


class _Mark(Protocol):
    """A place as the parsers give it, 0-based."""

    line: int
    column: int
    index: int


class _EventSource(Protocol):
    def get_event(self) -> Event | None: ...


class _Refused(str):
    """Stands for a key that is refused, so that what belongs to it is read, and judged, all the same.

    Equal to nothing but itself: several may stand in one mapping until the document ends.
    """

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


# What is known of a child: the mark of its key (in a list its own), its own mark, and its own children, if it has any.
_Child = tuple["_Mark | None", "_Mark | None", "_Children | None"]
_Children = dict[str, _Child] | list[_Child]


class YamlDocument:
    """One document of a text. `data` is to be read only: places are found by its keys and indexes."""

    __slots__ = ("_root", "data")

    def __init__(self, data: JsonValue, root: _Child) -> None:
        self.data = data
        self._root = root

    def mark(self, path: KeyPath = ()) -> tuple[int, int]:
        """Line and column (1-based) of the value at `path`; where there is none, of its nearest ancestor that exists.

        What came from an alias lies where the alias stands, its children where the anchor defines them.
        """
        return _place(self._find(path)[1])

    def key_mark(self, path: KeyPath) -> tuple[int, int]:
        """The same of the key; an entry of a list, which has none, answers with its value."""
        return _place(self._find(path)[0])

    def _find(self, path: KeyPath) -> _Child:
        child = self._root
        for step in path:
            children = child[2]
            if isinstance(children, dict):
                found = children.get(step) if isinstance(step, str) else None
            elif children is not None and isinstance(step, int) and -len(children) <= step < len(children):
                found = children[step]
            else:
                found = None
            if found is None:
                break
            child = found
        return child


def read_documents(
    text: str | bytes, file: str = "<text>", *, parser: Callable[[str], _EventSource] | None = None
) -> tuple[list[YamlDocument], list[Diagnostic]]:
    """Read all documents of a text, and everything that is wrong with it, in order of place.

    A document with a problem that reading can go on behind is among the documents, without the refused entries (null
    for a refused value). A syntax error, or a limit that is passed, ends the reading: the document in which it lies is
    not returned, those before it are. A text without content has no document and no problem.

    parser: makes the source of events; by default libyaml's, or PyYAML's own where that is not installed.
    """
    decoded, problem = decode_text(text, file, MAX_BYTES)
    if problem is not None:
        return [], [problem]
    if decoded.count("%TAG") > _MAX_TAG_DIRECTIVES:
        return [], [
            Diagnostic(
                "E-YAML-LIMIT",
                "error",
                f"the text has more than {_MAX_TAG_DIRECTIVES} %TAG directives",
                file=file,
                allowed="no tags",
                fix="remove the directives",
            )
        ]
    reader = _Reader(decoded, file)
    try:
        reader.read((parser or _default_parser())(decoded))
    except _StopReadingError:
        pass
    except yaml.YAMLError as error:
        reader.problems.append(parse_problem(error, decoded, file, format_path(reader.path())))
    reader.problems.sort(key=attrgetter("line", "column"))
    return reader.documents, reader.problems


def format_path(path: KeyPath) -> str:
    """A path as diagnostics show it: `effect_subcontract.operations[0].io_config`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


_TOO_MANY = f"the text has more than {MAX_NODES} keys, values, lists and mappings"


class _StopReadingError(Exception):
    """A limit was passed; the problem is recorded."""


_NULLS = ("~", "null", "Null", "NULL", "")
_CONSTANTS: dict[str, JsonValue] = {
    **dict.fromkeys(_NULLS),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMBER = re.compile(
    r"([-+]?[0-9]+)|0o([0-7]+)|0x([0-9a-fA-F]+)|([-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
)
# First characters (none, for an empty scalar) of everything that is not simply text, and of the merge key.
_SPECIAL = frozenset(("", *"0123456789+-.~nNtTfF<"))
_CORE_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


def resolve_plain(value: str) -> JsonValue:
    """What an unquoted scalar means in the core schema of YAML 1.2."""
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    match = _NUMBER.fullmatch(value)
    if match is None:
        return value
    kind = match.lastindex
    try:
        if kind == 1:
            return int(value)
        return int(value, 8) if kind == 2 else int(value, 16) if kind == 3 else float(value)
    except ValueError:
        return value  # more digits than Python converts (4,300): nothing that a contract could mean by a number


@dataclass(slots=True)
class _Anchor:
    """What a name stands for: the value, its children's places, its number of nodes. `size` 0: still being read."""

    value: JsonValue = None
    children: _Children | None = None
    size: int = 0


@dataclass(slots=True)
class _Frame:
    """A container that waits for the end of the one inside it: all that the loop holds in local names."""

    container: dict[str, JsonValue] | list[JsonValue]
    children: _Children
    at: str | int
    key_after: str | None
    anchor: _Anchor | None
    nodes_before: int


@dataclass(slots=True)
class _Reader:
    text: str
    file: str
    documents: list[YamlDocument] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    _stack: list[_Frame] = field(default_factory=list)
    _anchors: dict[str, _Anchor] = field(default_factory=dict)
    _refused: list[tuple[dict[str, JsonValue], dict[str, _Child], _Refused]] = field(default_factory=list)
    _aliases: int = 0

    def read(self, source: _EventSource) -> None:
        """The loop over the events: the current container, its children's places and the key in hand are local."""
        get_event, special, stack = source.get_event, _SPECIAL, self._stack
        container: dict[str, JsonValue] | list[JsonValue] = []
        children: _Children = []
        key: str | None = None
        key_mark: _Mark | None = None
        nodes = 0
        while True:
            event = get_event()
            mark = event.start_mark if event is not None else None
            if isinstance(event, ScalarEvent):
                nodes += 1
                text = event.value
                value: JsonValue = text
                if event.tag is not None:
                    value = self._tagged_scalar(event, self._path_to(container, key or text))
                elif event.implicit[0] and text[:1] in special:
                    value = resolve_plain(text)
                if event.anchor is not None:
                    self._anchors[event.anchor] = _Anchor(value, None, 1)
                inner = None
            elif isinstance(event, CollectionStartEvent):
                nodes += 1
                if nodes > MAX_NODES:
                    raise self._limit(mark, _TOO_MANY, f"{MAX_NODES}")
                if len(stack) == MAX_DEPTH:
                    raise self._limit(
                        mark, f"the text is nested more than {MAX_DEPTH} levels deep", f"{MAX_DEPTH} levels"
                    )
                if event.tag is not None:
                    self._check_tag(event, self._path_to(container, key))
                is_mapping = isinstance(event, MappingStartEvent)
                new: dict[str, JsonValue] | list[JsonValue] = {} if is_mapping else []
                new_children: _Children = {} if is_mapping else []
                after: str | None = None
                at: str | int
                if isinstance(container, list):
                    at = len(container)
                    container.append(new)
                    children.append((mark, mark, new_children))  # type: ignore[union-attr]  # same kind as container
                elif key is None:
                    # Read as a key, and thrown away; what follows it is its value, which is thrown away too.
                    at = after = self._refuse_key(mark, "a mapping" if is_mapping else "a list", container, children)
                else:
                    at = key
                    container[key] = new
                    children[key] = (key_mark, mark, new_children)  # type: ignore[call-overload]  # the same
                anchor = None
                if event.anchor is not None:
                    anchor = self._anchors[event.anchor] = _Anchor()
                stack.append(_Frame(container, children, at, after, anchor, nodes))
                container, children, key = new, new_children, None
                continue
            elif isinstance(event, CollectionEndEvent):
                frame = stack.pop()
                if frame.anchor is not None:
                    frame.anchor.value = container
                    frame.anchor.children = children
                    frame.anchor.size = nodes - frame.nodes_before + 1
                container, children, key = frame.container, frame.children, frame.key_after
                key_mark = mark
                continue
            elif isinstance(event, AliasEvent):
                value, inner, size = self._alias(event, nodes, self._path_to(container, key))
                nodes += size
                text = value if isinstance(value, str) else f"*{event.anchor}"
            elif isinstance(event, DocumentStartEvent):
                container, children, key = [], [], None
                continue
            elif isinstance(event, DocumentEndEvent):
                self._end_document(container, children)
                continue
            elif event is None or isinstance(event, StreamEndEvent):
                return
            else:
                continue
            # A complete value, or a key.
            if nodes > MAX_NODES:
                raise self._limit(mark, _TOO_MANY, f"{MAX_NODES}")
            if isinstance(container, list):
                container.append(value)
                children.append((mark, mark, inner))  # type: ignore[union-attr]  # same kind as container
            elif key is None:
                key_mark = mark
                if value is text and text not in container and text != "<<":
                    key = text
                else:
                    key = self._questionable_key(event, text, value, container, children)
            else:
                container[key] = value
                children[key] = (key_mark, mark, inner)  # type: ignore[call-overload]  # same kind as container
                key = None

    def path(self, *last: str | int) -> KeyPath:
        """Where the loop is: the containers that are open, then `last`."""
        steps = (*(frame.at for frame in self._stack[1:]), *last)
        return tuple(str.__str__(step) if isinstance(step, str) else step for step in steps)

    def _path_to(self, container: dict[str, JsonValue] | list[JsonValue], key: str | None) -> KeyPath:
        """Where the next value of a container will be."""
        if isinstance(container, dict):
            return self.path(*(() if key is None else (key,)))
        return self.path(len(container)) if self._stack else ()

    def _end_document(self, container: object, children: _Children) -> None:
        for mapping, places, key in self._refused:
            mapping.pop(key, None)
            places.pop(key, None)
        self._refused.clear()
        self._anchors.clear()
        if isinstance(container, list) and isinstance(children, list):
            self.documents.append(YamlDocument(container[0], children[0]))

    def _alias(self, event: AliasEvent, nodes: int, path: KeyPath) -> tuple[JsonValue, _Children | None, int]:
        name = event.anchor or ""
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            if self._aliases == MAX_ALIASES + 1:
                self._limit(event.start_mark, f"the text has more than {MAX_ALIASES} aliases", f"{MAX_ALIASES}")
            return None, None, 1
        anchor = self._anchors.get(name)
        if anchor is None or anchor.size == 0:
            self._report(
                "E-YAML-ALIAS",
                event.start_mark,
                "the alias stands for nothing" if anchor is None else "the alias stands inside what it stands for",
                path,
                found=repr(f"*{name}"),
                allowed=", ".join(f"*{known}" for known, what in self._anchors.items() if what.size) or "no alias here",
                fix=f"define &{name} above it, or put a text that begins with '*' in quotes"
                if anchor is None
                else "write the value out",
            )
            return None, None, 1
        if nodes + anchor.size > MAX_NODES:
            raise self._limit(
                event.start_mark,
                f"with its aliases written out, {_TOO_MANY}",
                f"{MAX_NODES}",
            )
        if len(self._stack) + _height(anchor.value) > MAX_DEPTH:
            raise self._limit(
                event.start_mark,
                f"with its aliases written out, the text is nested more than {MAX_DEPTH} levels deep",
                f"{MAX_DEPTH} levels",
            )
        return _copy(anchor.value), anchor.children, anchor.size

    def _tagged_scalar(self, event: ScalarEvent, path: KeyPath) -> JsonValue:
        """A scalar with a tag: those of the core schema are obeyed if the text allows it, others are refused."""
        tag, text = event.tag, event.value
        if tag == "!":
            return text
        wanted = _CORE_TAGS.get(tag or "")
        if wanted == "str":
            return text
        value = resolve_plain(text)
        kind = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "str")
        if wanted == kind:
            return value
        if wanted == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        self._refuse_tag(event.start_mark, tag or "", text, path)
        return value if event.style in {None, ""} else text

    def _check_tag(self, event: CollectionStartEvent, path: KeyPath) -> None:
        tag = event.tag or "!"
        if tag != "!" and _CORE_TAGS.get(tag) != ("map" if isinstance(event, MappingStartEvent) else "seq"):
            self._refuse_tag(event.start_mark, tag, "", path)

    def _refuse_tag(self, mark: _Mark | None, tag: str, text: str, path: KeyPath) -> None:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        core = tag in _CORE_TAGS
        self._report(
            "E-YAML-TAG",
            mark,
            "the value does not fit its tag" if core else "tags are not allowed",
            path,
            found=repr(f"{shown} {text}".strip()),
            allowed="a value of that kind" if core else "values without a tag",
            fix="remove the tag; put a text that begins with '!' in quotes",
        )

    def _questionable_key(
        self, event: Event, text: str, value: JsonValue, container: dict[str, JsonValue], children: _Children
    ) -> str:
        """A key that is no text, a merge key, or one that is there already: report it, and go on."""
        mark = event.start_mark
        if value is not text:
            kind = "null" if value is None else "a boolean" if isinstance(value, bool) else "a number"
            return self._refuse_key(
                mark, "a mapping or list" if isinstance(value, dict | list) else kind, container, children, text
            )
        if text == "<<" and isinstance(event, ScalarEvent) and event.implicit[0]:
            self._report(
                "E-YAML-MERGE-KEY",
                mark,
                "merge keys are not allowed",
                self.path(text),
                found="'<<'",
                allowed="plain keys",
                fix="write the keys out, or let operations inherit from the contract's defaults",
            )
        elif text not in container:
            return text
        else:
            first = children[text][0] if isinstance(children, dict) else None
            line, column = _place(first)
            self._report(
                "E-YAML-DUPLICATE-KEY",
                mark,
                f"the key stands here a second time; it first stands at {line}:{column}",
                self.path(text),
                found=repr(text),
                allowed="each key once in a mapping",
                fix="remove one of the two, or rename it",
            )
        return self._refuse(text, container, children)

    def _refuse_key(
        self, mark: _Mark | None, kind: str, container: dict[str, JsonValue], children: _Children, text: str = ""
    ) -> str:
        shown = text or ("null" if kind == "null" else "?")
        self._report(
            "E-YAML-KEY",
            mark,
            f"the key is {kind}, not a text",
            self.path(shown),
            found=shown,
            allowed="text as key",
            fix=f"put it in quotes: '{text}'" if text else "write a text as key",
        )
        return self._refuse(shown, container, children)

    def _refuse(self, text: str, container: dict[str, JsonValue], children: _Children) -> _Refused:
        key = _Refused(text)
        if isinstance(children, dict):
            self._refused.append((container, children, key))
        return key

    def _limit(self, mark: _Mark | None, message: str, allowed: str) -> _StopReadingError:
        self._report("E-YAML-LIMIT", mark, message, allowed=f"at most {allowed}", fix="simplify or split the contract")
        return _StopReadingError()

    def _report(
        self,
        code: str,
        mark: _Mark | None,
        message: str,
        path: KeyPath | None = None,
        *,
        found: str = "",
        allowed: str = "",
        fix: str = "",
    ) -> None:
        line, column = _place(mark)
        if len(self.problems) == MAX_PROBLEMS:
            code, message, found = (
                "E-YAML-LIMIT",
                f"the text has more than {MAX_PROBLEMS} problems; the rest is unread",
                "",
            )
            allowed, fix = "", "mend these first"
        self.problems.append(
            Diagnostic(
                code,
                "error",
                message,
                format_path(self.path() if path is None else path),
                self.file,
                line,
                column,
                found,
                allowed,
                fix,
            )
        )
        if len(self.problems) > MAX_PROBLEMS:
            raise _StopReadingError


def _place(mark: _Mark | None) -> tuple[int, int]:
    return (0, 0) if mark is None else (mark.line + 1, mark.column + 1)


def _copy(value: JsonValue) -> JsonValue:
    """A copy that shares no container; the recursion is at most `MAX_DEPTH` deep, because the value was read here."""
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items() if not isinstance(key, _Refused)}
    if isinstance(value, list):
        return [_copy(inner) for inner in value]
    return value


def _height(value: JsonValue) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_height, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_height, value), default=0)
    return 0


def _default_parser() -> Callable[[str], _EventSource]:
    try:
        return yaml.CSafeLoader
    except AttributeError:  # PyYAML was built without libyaml
        return yaml.SafeLoader
