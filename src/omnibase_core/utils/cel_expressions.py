"""CEL expressions: compiled at load, evaluated over the leaves that they read.

The engine (extra `cel`) converts whatever is bound to it, eagerly. So a text is scanned once for the paths that it
reads, such as `state.order.total`, and an evaluation binds only what lies there: the rest of a large state costs
nothing. A name that is used in another way (`size(state)`, `state[payload.key]`) binds all of it. Dotted variable names
are never used, because `has(a.b)` does not work on them.

Comprehensions have the engine's iteration budget and regular expressions run in linear time, so an evaluation ends.
What is nested deeper than `MAX_DEPTH` is refused before the engine sees it: converting it would overrun the engine's
stack, and that ends the process.

Equal data give equal values in every process. Maps come out sorted by key. The engine iterates over a map in another
order each time, and its type is known when it runs only; so `map` and `filter` are compiled with a call that puts the
keys of a map in order, and leaves a list alone (`_in_order`). The other macros give a boolean, which no order changes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from math import isfinite
from typing import Final, NamedTuple, Protocol, cast

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.contract_findings import did_you_mean


class _Type(Protocol):
    """The part of the library's classes that is used here; it ships no types that a checker finds."""

    def name(self) -> str: ...


class _Value(Protocol):
    def type(self) -> _Type: ...
    def value(self) -> object: ...
    def plain_value(self) -> object: ...


class _Expression(Protocol):
    def eval(self, activation: None, data: Mapping[str, object], /) -> _Value: ...
    def return_type(self) -> _Type: ...


class _Environment(Protocol):
    def compile(self, expression: str, /) -> _Expression: ...


_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>
        [bB]?[rR][bB]?(?:'{3}.*?'{3}|"{3}.*?"{3}|'[^'\n]*'|"[^"\n]*")
        |[bB]?(?:'{3}(?:[^\\]|\\.)*?'{3}|"{3}(?:[^\\]|\\.)*?"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>[0-9](?:[0-9A-Za-z_]|\.(?=[0-9]))*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PROBLEM = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^'.]*)")
_DASHED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*(?:-\w+)+)")
_PLAIN_STRING = re.compile(r"""(['"])([^'"\\]*)\1""")
_OPERAND_ENDS: Final = frozenset(")]}`")
_ORDER: Final = "in_order_"
_ORDER_SHOWS: Final = frozenset({"map", "filter"})
"""Macros whose value depends on the order in which they go over a map."""
MAX_CHARACTERS: Final = 10_000
"""Length of an expression."""
MAX_DEPTH: Final = 250
"""Lists and maps inside each other; pydantic, which looks, has about the same limit."""

Path = tuple[str, ...]
Tree = dict[str, "Tree | None"]
"""Keys that are read, and below each what of it; None is all of it."""


class CelError(Exception):
    """An expression that cannot be compiled. `offset` counts characters from its start."""

    def __init__(self, message: str, offset: int = 0, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.fix = fix


class CelProgram:
    """A compiled expression. It holds no state and may be evaluated by several threads.

    text: as written. roots: the names that it reads. whole: those of them of which it reads all, not constant keys.
    gives: what is known of its type, such as `BOOL`; `DYN` is open.
    """

    __slots__ = ("_evaluate", "_reads", "gives", "roots", "text", "whole")

    def __init__(self, text: str, expression: _Expression, reads: Mapping[str, Tree | None]) -> None:
        self.text = text
        self._evaluate = expression.eval
        self._reads = tuple(reads.items())
        self.roots = frozenset(reads)
        self.whole = frozenset(root for root, tree in reads.items() if tree is None)
        self.gives = expression.return_type().name()

    def evaluate(self, roots: Mapping[str, Mapping[str, object] | JsonValue]) -> JsonValue:
        """The value, as JSON; `roots` has what each declared name stands for.

        Raises ModelOnexError VALIDATION_ERROR when it has none: a missing key, types that do not go together, a
        division by zero, numbers beyond 64 bits, too many iterations, or a value that JSON does not know.
        """
        result = self._run(roots)
        value: object = result.value()
        if value is None or type(value) is bool or type(value) is int:
            return value
        if type(value) is str:
            if _is_error(result):
                raise self._failed(value)
            return value
        return self._as_json(result.plain_value())

    def holds(self, roots: Mapping[str, Mapping[str, object] | JsonValue]) -> bool:
        """Whether the condition is true. Raises as `evaluate`, and for a value that is no boolean."""
        result = self._run(roots)
        value: object = result.value()
        if value is True or value is False:
            return value
        if type(value) is str and _is_error(result):
            raise self._failed(value)
        raise self._failed(f"a condition must give true or false, and it gave {result.type().name()}")

    def _run(self, roots: Mapping[str, Mapping[str, object] | JsonValue]) -> _Value:
        bound: dict[str, object] = {}
        for root, tree in self._reads:
            source = roots[root]
            if type(source) is dict or isinstance(
                source, Mapping
            ):  # the first spares the usual case half a microsecond
                bound[root] = dict(source) if tree is None else _pick(source, tree)
            else:
                bound[root] = source
        if _too_deep(bound):
            raise self._failed(f"what it reads is nested deeper than {MAX_DEPTH} lists and maps, or holds itself")
        try:
            return self._evaluate(None, bound)  # by position: passing keywords costs half a microsecond
        except RuntimeError as error:
            raise self._failed(str(error)) from None

    def _as_json(self, value: object) -> JsonValue:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float) and isfinite(value):
            return value
        if isinstance(value, list):
            return [self._as_json(entry) for entry in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {key: self._as_json(value[key]) for key in sorted(value)}
        kind = "a number that is not finite" if isinstance(value, float) else type(value).__name__
        raise self._failed(f"it gave {kind}, which has no JSON form; convert it, for times with string(...)")

    def _failed(self, reason: str) -> ModelOnexError:
        if _ORDER in reason or _as_it_is.__name__ in reason:
            reason = "map() and filter() go over lists and maps of JSON values; convert times with string(...) before"
        return ModelOnexError(
            f"CEL {self.text!r}: {' '.join(reason.split())[:300]}",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"expression": self.text},
        )


def compile_cel(text: str, names: Sequence[str], *, condition: bool = False) -> CelProgram:
    """Compile an expression that may read `names` and nothing else.

    condition: it must be able to give true or false.
    Raises CelError with the place of what is wrong (syntax, undeclared names and functions), and ModelOnexError
    CONFIGURATION_ERROR when the extra `cel` is not installed.
    """
    engine = _engine(tuple(names))
    if len(text) > MAX_CHARACTERS:
        raise CelError(f"the expression has {len(text)} characters, allowed are {MAX_CHARACTERS}", 0, "split it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CelError("the expression holds a lone surrogate", error.start, "write it in Unicode") from None
    try:
        expression = engine.plain.compile(text)
    except RuntimeError as error:
        raise _explained(str(error), text, names) from None
    ordered = _in_order(text)
    if ordered != text:
        expression = engine.ordering.compile(ordered)
    program = CelProgram(text, expression, _reads(text, frozenset(names)))
    if condition and program.gives not in {"BOOL", "DYN"}:
        raise CelError(f"a condition must give true or false, this one gives {program.gives}", 0, "compare it")
    return program


class _Engine(NamedTuple):
    """plain: compiles what users write. ordering: also knows the call of `_in_order`, which users may not write."""

    plain: _Environment
    ordering: _Environment


@lru_cache(maxsize=64)
def _engine(names: tuple[str, ...]) -> _Engine:
    try:
        cel = import_module("cel_expr_python.cel")
    except ImportError as error:
        raise ModelOnexError(
            "a CEL expression needs the library cel-expr-python, which is not installed; "
            "pip install 'omnibase[cel]', or write the contract without expressions",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
            {"extra": "cel"},
        ) from error
    variables = dict.fromkeys(names, cel.Type.DYN)
    overloads = [
        cel.Overload(f"{_ORDER}_{kind.name()}", cel.Type.DYN, [kind], is_member=True, impl=implementation)
        for kind, implementation in ((cel.Type.LIST, _as_it_is), (cel.Type.MAP, _sorted_keys))
    ]
    made = (
        cel.NewEnv(variables=variables),
        cel.NewEnv(variables=variables, functions=[cel.FunctionDecl(_ORDER, overloads)]),
    )
    return _Engine(*cast("tuple[_Environment, _Environment]", made))  # the module is untyped


def _as_it_is(items: list[object]) -> list[object]:
    return items


def _sorted_keys(items: dict[object, object]) -> list[str]:
    keys = [key for key in items if isinstance(key, str)]
    if len(keys) < len(items):
        raise ValueError("map() and filter() go over maps with keys that are texts, as those of JSON are")
    keys.sort()
    return keys


def _too_deep(bound: dict[str, object]) -> bool:
    """Whether the engine could not stand it. Writing JSON is the fast way to look at everything."""
    try:
        to_json(bound)
    except ValueError:  # too deep, in itself, or a value without a JSON form, about which the engine will complain
        return _depth_beyond(bound, MAX_DEPTH)
    return False


def _depth_beyond(bound: Mapping[str, object], limit: int) -> bool:
    level: list[Mapping[str, object] | Sequence[object]] = [bound]
    for _ in range(limit):
        below = (entry for holder in level for entry in (holder.values() if isinstance(holder, Mapping) else holder))
        level = list({id(entry): entry for entry in below if isinstance(entry, Mapping | list | tuple)}.values())
        if not level:
            return False
    return True


def _is_error(result: _Value) -> bool:
    """A text may be a value or the description of an error; only the type tells."""
    return result.type().name() == "ERROR"


def _pick(source: Mapping[str, object], tree: Tree) -> dict[str, object]:
    """What of `source` is read."""
    part: dict[str, object] = {}
    for key, below in tree.items():
        try:
            value = source[key]
        except KeyError:
            continue
        part[key] = value if below is None or type(value) is not dict else _pick(value, below)
    return part


# what an expression reads


def _reads(text: str, names: frozenset[str]) -> dict[str, Tree | None]:
    """For every name of `names` that occurs, the tree of what is read below it; None is all."""
    trees: dict[str, Tree | None] = {}
    for root, path in _paths(text, names):
        if not path:
            trees[root] = None
            continue
        tree = trees.setdefault(root, {})
        if tree is not None:
            _add(tree, path)
    return trees


def _add(tree: Tree, path: Path) -> None:
    *above, last = path
    for key in above:
        below = tree.setdefault(key, {})
        if below is None:
            return
        tree = below
    tree[last] = None


def keys_read(text: str, root: str) -> Iterator[tuple[str, int]]:
    """The constant keys that an expression reads right below a name, such as `a` of `root.a.b`, and their offsets.

    None when a macro of the expression has a variable of this name.
    """
    tokens = _tokens(text)
    words = [token[0] for token in tokens]
    if any(words[at : at + 3] == ["(", root, ","] for at in range(len(words))):
        return
    for index in _uses(tokens, frozenset({root})):
        path = _path_behind(tokens, words, index + 1)
        if path:
            yield path[0], tokens[index + 2].start()


def _tokens(text: str) -> list[re.Match[str]]:
    return [match for match in _TOKEN.finditer(text) if match.lastgroup != "space"]


def _uses(tokens: Sequence[re.Match[str]], names: frozenset[str]) -> Iterator[int]:
    """The tokens that stand for one of the names. A local name that hides one counts as well."""
    for index, token in enumerate(tokens):
        if token.lastgroup != "name" or token[0] not in names:
            continue
        if index and tokens[index - 1][0] == ".":
            before = tokens[index - 2] if index > 1 else None
            if before is not None and (before.lastgroup != "other" or before[0] in _OPERAND_ENDS):
                continue  # a field of something else that is called the same
        yield index


def _paths(text: str, names: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Where a name is used, and the path of constant keys behind it."""
    tokens = _tokens(text)
    words = [token[0] for token in tokens]
    for index in _uses(tokens, names):
        yield words[index], _path_behind(tokens, words, index + 1)


def _in_order(text: str) -> str:
    """The expression with a call before each macro whose value an order shows in, unless it goes over a list for sure.

    `state.m.map(k, k)` becomes `state.m.in_order_().map(k, k)`. The text has been compiled, so a macro has a receiver.
    """
    tokens = _tokens(text)
    words = [token[0] for token in tokens]
    opened: list[int] = []
    lists: set[int] = set()  # tokens at which something ends that is a list for sure
    places: list[int] = []
    for index, word in enumerate(words):
        if tokens[index].lastgroup == "other" and word in "([{":
            opened.append(index)
        elif tokens[index].lastgroup == "other" and word in ")]}":
            start = opened.pop()
            if _is_list(words, tokens, start):
                lists.add(index)
        elif word in _ORDER_SHOWS and _is_macro(words, index) and index - 2 not in lists:
            places.append(tokens[index - 1].start())
    for place in reversed(places):
        text = f"{text[:place]}.{_ORDER}(){text[place:]}"
    return text


def _is_macro(words: Sequence[str], index: int) -> bool:
    return words[index - 1 : index] == ["."] and words[index + 1 : index + 2] == ["("]


def _is_list(words: Sequence[str], tokens: Sequence[re.Match[str]], start: int) -> bool:
    """Whether the bracket opens a list that is written down, or the arguments of a macro that gives one."""
    if words[start] == "[":
        before = tokens[start - 1] if start else None
        return before is None or (before.lastgroup == "other" and before[0] not in _OPERAND_ENDS)
    return (
        words[start] == "("
        and words[start - 1 : start][:1] != []
        and words[start - 1] in _ORDER_SHOWS
        and (_is_macro(words, start - 1))
    )


def _path_behind(tokens: Sequence[re.Match[str]], words: Sequence[str], index: int) -> Path:
    path: list[str] = []
    while index + 1 < len(words):
        if words[index] == "." and tokens[index + 1].lastgroup == "name":
            if index + 2 < len(words) and words[index + 2] == "(":
                break  # a method
            path.append(words[index + 1])
            index += 2
        elif words[index] == "[" and index + 2 < len(words) and words[index + 2] == "]":
            literal = _PLAIN_STRING.fullmatch(words[index + 1])
            if literal is None:
                break
            path.append(literal[2])
            index += 3
        else:
            break
    return tuple(path)


# what is wrong with one


def _key_with_a_dash(name: str, text: str) -> str:
    """How a key is written that CEL takes for a difference of two names, the later of which is not declared."""
    for found in _DASHED.finditer(text):
        if name in found[2].split("-")[1:]:
            return f"'-' is minus in an expression; a key with it is written {found[1]}['{found[2]}']"
    return ""


def _explained(report: str, text: str, names: Sequence[str]) -> CelError:
    """The first problem of the engine's report, at its place."""
    found = _PROBLEM.search(report)
    if found is None:
        return CelError("the expression cannot be compiled: " + " ".join(report.split())[:200])
    line, column = int(found[1]), int(found[2])
    message = found[3].split(" (in container", 1)[0].split(" expecting ", 1)[0]
    offset = sum(len(part) + 1 for part in text.split("\n")[: line - 1]) + column - 1
    undeclared = _UNDECLARED.search(message)
    if undeclared is None:
        return CelError(message, min(offset, len(text)), "mend the expression (CEL syntax)")
    name = undeclared[1]
    at = next((token.start() for token in _TOKEN.finditer(text) if token.lastgroup == "name" and token[0] == name), 0)
    allowed = ", ".join(names)
    fix = _key_with_a_dash(name, text) or did_you_mean(name, names)
    fix = fix or f"names are {allowed}; a text stands in quotes: '{name}'"
    return CelError(f"undeclared name {name!r}, allowed: {allowed}", at, fix)
