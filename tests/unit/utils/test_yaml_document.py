"""What the YAML reader reads, refuses and says."""

import copy
import math
import time
from collections.abc import Callable

import pytest
import yaml
from pydantic import JsonValue

from omnibase_core.errors import Diagnostic
from omnibase_core.utils.yaml_document import (
    MAX_ALIASES,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    YamlDocument,
    format_path,
    read_documents,
)
from tests.support import backends
from tests.support.timing import cpu_bound

PARSERS = [pytest.param(yaml.SafeLoader, id="python")]
if hasattr(yaml, "CSafeLoader"):
    PARSERS.append(pytest.param(yaml.CSafeLoader, id="libyaml"))
else:
    backends.not_run("YAML by libyaml", "PyYAML was built without it")

Parser = Callable[[str], yaml.SafeLoader]


def read(text: str) -> JsonValue:
    """The data of the only document of a text without problems."""
    documents, problems = read_documents(text)
    assert problems == []
    assert len(documents) == 1
    return documents[0].data


def problems_of(text: str | bytes) -> list[Diagnostic]:
    return read_documents(text)[1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("~", "null", "Null", "NULL", "")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[(text, text) for text in ("yes", "Yes", "no", "NO", "on", "off", "y", "n", "tRUE", "nULL", "nul", "truee")],
        ("0", 0),
        ("-12", -12),
        ("+12", 12),
        ("0644", 644),
        ("0o17", 15),
        ("0xfF", 255),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1e3", -1000.0),
        ("1E-2", 0.01),
        ("6.02e+23", 6.02e23),
        (".inf", math.inf),
        ("+.INF", math.inf),
        ("-.Inf", -math.inf),
        *[(text, text) for text in ("0b1", "1_000", "12:30:45", "-0x1", "0o8", "0x", "1e", ".", "+", "1.2.3", "-a")],
        *[(text, text) for text in ("2024-01-02", "2024-01-02T03:04:05Z", "1.0.0", ".infinity", "0xg", "١٢", "1e5x")],
        ("'12'", "12"),
        ('"true"', "true"),
        ("''", ""),
        ("|\n  12\n", "12\n"),
        ("! 12", "12"),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("!!float 12", 12.0),
        ("!!int '12'", 12),
        ("!!map {a: !!seq [1]}", {"a": [1]}),
    ],
)
def test_scalars(text: str, value: JsonValue) -> None:
    """Unquoted scalars mean what YAML 1.2 core says, of the same type; everything else is text."""
    found = read(f"a: {text}\n")

    assert isinstance(found, dict)
    assert found["a"] == value
    assert type(found["a"]) is type(value)


def test_not_a_number() -> None:
    """`.nan` is a number that equals nothing."""
    found = read("[.nan, .NaN, .NAN]")

    assert isinstance(found, list)
    assert all(isinstance(value, float) and math.isnan(value) for value in found)


def test_a_number_beyond_all_bounds_is_text() -> None:
    """More digits than Python converts do not raise."""
    assert read("9" * 5000) == "9" * 5000


@pytest.mark.parametrize("parser", PARSERS)
def test_structure(parser: Parser) -> None:
    """Block and flow collections, texts over several lines, comments, empty values and directives are read."""
    text = (
        "%YAML 1.2\n---\n# c\nmap: {a: 1, b: [x, {c: }], d}\nlist:\n- 1\n-\n  - 2\n- k: v\n  l: w\n"
        'folded: >-\n  one\n  two\nplain: one\n  two\n? long\n: "q\\u00fc"\nempty: {}\n"<<": kept\n'
    )

    documents, problems = read_documents(text, parser=parser)

    assert problems == []
    assert documents[0].data == {
        "map": {"a": 1, "b": ["x", {"c": None}], "d": None},
        "list": [1, [2], {"k": "v", "l": "w"}],
        "folded": "one two",
        "plain": "one two",
        "long": "qü",
        "empty": {},
        "<<": "kept",
    }


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", []),
        ("# only a comment\n", []),
        ("---\n", [None]),
        ("a\n---\n- b\n...\n---\nc: d\n", ["a", ["b"], {"c": "d"}]),
    ],
)
def test_documents(text: str, data: list[JsonValue]) -> None:
    """A text holds any number of documents, also none."""
    documents, problems = read_documents(text)

    assert problems == []
    assert [document.data for document in documents] == data


PLACES = """\
name: x
operations:
  - name: first
    config: {url: "ü", codes: [200, 201]}
  -   name: second
"""


@pytest.mark.parametrize(
    ("path", "mark", "key_mark"),
    [
        ((), (1, 1), (1, 1)),
        (("name",), (1, 7), (1, 1)),
        (("operations",), (3, 3), (2, 1)),
        (("operations", 0), (3, 5), (3, 5)),
        (("operations", 0, "config", "url"), (4, 19), (4, 14)),
        (("operations", 0, "config", "codes", 1), (4, 37), (4, 37)),
        (("operations", 1, "name"), (5, 13), (5, 7)),
        (("operations", -1, "name"), (5, 13), (5, 7)),
        (("operations", 7, "name"), (3, 3), (2, 1)),
        (("operations", "name"), (3, 3), (2, 1)),
        (("operations", 0, "config", "missing", "deeper"), (4, 13), (4, 5)),
        (("name", 0), (1, 7), (1, 1)),
    ],
)
@pytest.mark.parametrize("parser", PARSERS)
def test_places(parser: Parser, path: tuple[str | int, ...], mark: tuple[int, int], key_mark: tuple[int, int]) -> None:
    """Each value and key has its line and column; what is missing has those of its nearest ancestor."""
    document = read_documents(PLACES, parser=parser)[0][0]

    assert document.mark(path) == mark
    assert document.key_mark(path) == key_mark


def test_aliases_are_copies() -> None:
    """An alias gives an equal value that shares nothing; it lies where it stands, its children where defined."""
    documents, problems = read_documents("a: &x {k: [1]}\nb: *x\nc: &y text\nd: *y\n*y : key\n")
    document = documents[0]

    assert problems == []
    assert document.data == {"a": {"k": [1]}, "b": {"k": [1]}, "c": "text", "d": "text", "text": "key"}
    before = copy.deepcopy(document.data["b"])
    document.data["a"]["k"].append(2)  # type: ignore[index,union-attr,call-overload]  # a dict of lists, as asserted
    assert document.data["b"] == before
    assert document.mark(("b",)) == (2, 4)
    assert document.mark(("b", "k", 0)) == (1, 12)


def test_anchors_may_be_redefined_and_end_with_their_document() -> None:
    """An alias means the nearest anchor above it, and none of another document."""
    assert read("[&x 1, *x, &x 2, *x, &x [&x 3], *x]") == [1, 1, 2, 2, [3], 3]
    assert [problem.code for problem in problems_of("&x a\n---\n*x\n")] == ["E-YAML-ALIAS"]


@pytest.mark.parametrize(
    ("text", "code", "place", "path_and_words"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "E-YAML-DUPLICATE-KEY", (4, 3), ("b.c", "3:3")),
        ("a: 1\n'a': 2\n", "E-YAML-DUPLICATE-KEY", (2, 1), ("a", "1:1")),
        ("a:\n  <<: {b: 1}\n", "E-YAML-MERGE-KEY", (2, 3), ("a.<<", "merge")),
        ("a:\n  - !secret x\n", "E-YAML-TAG", (2, 5), ("a[0]", "tags")),
        ("a: !!python/object:os.system {}\n", "E-YAML-TAG", (1, 4), ("a", "tags")),
        ("a: !!timestamp 2024-01-01\n", "E-YAML-TAG", (1, 4), ("a", "tags")),
        ("a: !!int x\n", "E-YAML-TAG", (1, 4), ("a", "fit")),
        ("a: !!seq {}\n", "E-YAML-TAG", (1, 4), ("a", "fit")),
        ("a: {200: x}\n", "E-YAML-KEY", (1, 5), ("a.200", "a number")),
        ("true: x\n", "E-YAML-KEY", (1, 1), ("true", "a boolean")),
        ("~: x\n", "E-YAML-KEY", (1, 1), ("~", "null")),
        ("? [a, b]\n: x\n", "E-YAML-KEY", (1, 3), ("?", "a list")),
        ("{{a: b}: x}\n", "E-YAML-KEY", (1, 2), ("?", "a mapping")),
        ("a: &x [1]\n*x : y\n", "E-YAML-KEY", (2, 1), ("*x", "mapping or list")),
        ("a: *missing\n", "E-YAML-ALIAS", (1, 4), ("a", "nothing")),
        ("a: &x [*x]\n", "E-YAML-ALIAS", (1, 8), ("a[0]", "inside")),
    ],
)
@pytest.mark.parametrize("parser", PARSERS)
def test_problems_behind_which_reading_goes_on(
    parser: Parser, text: str, code: str, place: tuple[int, int], path_and_words: tuple[str, str]
) -> None:
    """Each has its code, place and path, says what is allowed and how to mend it, and spoils nothing behind it."""
    documents, problems = read_documents(text + ("" if text.startswith("{") else "z: [end]\n"), "f.yaml", parser=parser)

    assert [(p.code, p.severity, p.file, p.line, p.column) for p in problems] == [(code, "error", "f.yaml", *place)]
    path, words = path_and_words
    assert problems[0].key_path == path
    assert words in problems[0].message
    assert problems[0].found
    assert problems[0].allowed
    assert problems[0].fix
    data = documents[0].data
    assert isinstance(data, dict)
    if not text.startswith("{"):
        assert data["z"] == ["end"]
        assert documents[0].mark(("z", 0))[1] == 5


def test_all_problems_are_reported_together_in_order_of_place() -> None:
    """One reading finds everything, also inside values that are refused themselves, and keeps what is sound."""
    text = "a: !x 1\n<<: {b: !y 2, c: 3, c: 4}\na: *none\n5: {d: &e 1}\nf: &g {1: 2, h: i}\nj: *g\n"

    documents, problems = read_documents(text)

    assert [(problem.code.removeprefix("E-YAML-"), problem.line) for problem in problems] == [
        ("TAG", 1),
        ("MERGE-KEY", 2),
        ("TAG", 2),
        ("DUPLICATE-KEY", 2),
        ("DUPLICATE-KEY", 3),
        ("ALIAS", 3),
        ("KEY", 4),
        ("KEY", 5),
    ]
    assert documents[0].data == {"a": 1, "f": {"h": "i"}, "j": {"h": "i"}}
    assert all(type(key) is str for key in documents[0].data)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a:\n\tb: 1\n", (2, 1), "tab"),
        ("a: |\n  x\n\ty\n", (3, 1), "tab"),
        ("a: @x\n", (1, 4), "quotes"),
        ("a: `x`\n", (1, 4), "quotes"),
        ("a: 'open\nb: 2\n", (1, 4), "closed"),
        ('a: "open\nb: 2\n', (1, 4), "closed"),
        ('a: "\\q"\n', (1, 5), "backslash"),
        ("a: b: c\n", (1, 5), "': '"),
        ("a: [1, 2\nb: 3\n", (1, 4), "'['"),
        ("a: {b: 1\n", (1, 4), "'{'"),
        ("a:\n  b: 1\n c: 2\n", (3, 2), "two spaces"),
        ("a:\n- b\nc\n", (3, 1), "':'"),
        ("- a\nb: c\n", (2, 1), "'- '"),
        ("a: b\n]\n", (2, 1), ""),
        ("a: x\n... y\n", (2, 5), "document"),
        ("a: *\n", (1, 5), "name"),
        ("a: >x\n", (1, 5), "'>'"),
        ("%YAML 2.0\n---\na\n", (1, 1), "version"),
        ("a: !u!x y\n", (1, 4), "tag"),
        ("a: - b\n", (1, 4), "list"),
    ],
)
def test_syntax_errors_in_plain_words(text: str, place: tuple[int, int], words: str) -> None:
    """A syntax error names its place, what stands there, what may stand there, and how to mend it."""
    documents, problems = read_documents("ok: 1\n---\n" + text if not text.startswith("%") else text, "f.yaml")

    problem = problems[-1]
    shift = 0 if text.startswith("%") else 2
    assert problem.code == "E-YAML-SYNTAX"
    assert (problem.line - shift, problem.column) == place
    assert words in f"{problem.message} {problem.allowed} {problem.fix}"
    assert problem.found
    assert problem.allowed
    assert problem.fix
    assert shift == 0 or documents[0].data == {"ok": 1}


@pytest.mark.parametrize(
    "text", ["a:\n\tb: 1", "a: 'x", "a: b: c", "[a", "{a: 1", "a:\n  b: 1\n c: 2", "- a\nb: c", "[a]]"]
)
def test_both_parsers_are_explained_alike(text: str) -> None:
    """Whichever parser reads, the words are the same and the place is in the same line."""
    found = {(p.message, p.fix) for parser in PARSERS for p in read_documents(text, parser=parser.values[0])[1]}  # type: ignore[arg-type]  # the parameter's value is a parser

    assert len(found) == 1


def test_utf8() -> None:
    """A byte order mark is accepted, columns count characters, and other encodings are a problem with a place."""
    assert read_documents("\ufeffa: ü".encode())[0][0].data == {"a": "ü"}
    assert read_documents("\ufeffa: ü")[0][0].data == {"a": "ü"}
    for text in ("ok: ü\na: ü ".encode() + b"\xff\n", "ok: ü\na: ü \ud800\n"):
        documents, problems = read_documents(text)
        assert documents == []
        assert [(p.code, p.line, p.column) for p in problems] == [("E-YAML-ENCODING", 2, 6)]
    assert problems_of("a: 1".encode("utf-16"))[0].code == "E-YAML-ENCODING"


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("character", ["\x00", "\x01", "\x7f", "\ufffe", "\x1b"])
def test_forbidden_characters(parser: Parser, character: str) -> None:
    """Control characters are a problem at their place."""
    _, problems = read_documents(f"ü: 1\nb: {character}\n", parser=parser)

    assert [(p.code, p.line, p.column) for p in problems] == [("E-YAML-CHARACTER", 2, 4)]


def _limits(text: str | bytes) -> tuple[list[YamlDocument], list[str]]:
    documents, problems = read_documents(text)
    return documents, [problem.code for problem in problems]


def test_the_limit_of_size() -> None:
    """1 MiB of UTF-8 is read, one byte more is not, given as text or as bytes."""
    just = "# " + "ü" * ((MAX_BYTES - 2) // 2)

    assert _limits(just) == _limits(just.encode()) == ([], [])
    assert _limits(just + " ")[1] == _limits((just + " ").encode())[1] == ["E-YAML-LIMIT"]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_the_limit_of_depth(opening: str, closing: str) -> None:
    """32 levels are read, 33 are not, also when an alias adds them."""
    assert _limits(opening * MAX_DEPTH + closing * MAX_DEPTH)[1] == []
    assert _limits(opening * (MAX_DEPTH + 1) + closing * (MAX_DEPTH + 1)) == ([], ["E-YAML-LIMIT"])
    half = opening * 16 + closing * 16
    assert _limits(f"a: &x {half}\nb: {opening * 15}*x{closing * 15}\n")[1] == []
    assert _limits(f"a: &x {half}\nb: {opening * 16}*x{closing * 16}\n")[1] == ["E-YAML-LIMIT"]


def test_the_limit_of_nodes() -> None:
    """50 000 nodes are read, one more is not: scalars, containers, or what aliases stand for."""
    assert _limits("[" + "1," * (MAX_NODES - 1) + "]")[1] == []
    assert _limits("[" + "1," * MAX_NODES + "]") == ([], ["E-YAML-LIMIT"])
    assert _limits("[" + "[]," * MAX_NODES + "]") == ([], ["E-YAML-LIMIT"])
    anchor = "&x [" + "1," * 9999 + "]"
    assert _limits(f"[{anchor}, *x, *x, *x]")[1] == []
    assert _limits(f"[{anchor}, *x, *x, *x, *x]") == ([], ["E-YAML-LIMIT"])


def test_a_bomb_of_aliases_is_refused_before_it_is_built() -> None:
    """Nine levels of nine aliases stand for 10^9 nodes; the text is refused in no time."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 2)}]" for n in range(1, 10)]
    bomb = "\n".join(lines)
    wide = "a: &a [" + "x," * 3000 + "]\nb: &b [" + "*a," * 5 + "]\nc: &c [" + "*b," * 5 + "]\n"
    started = time.process_time()

    assert _limits(bomb)[1] == []  # 2^10 leaves: 18 aliases that stand for few nodes
    assert _limits(wide) == ([], ["E-YAML-LIMIT"])
    assert time.process_time() - started < cpu_bound(0.5)


def test_the_limit_of_aliases() -> None:
    """20 aliases are read; more are one problem, and reading goes on."""
    assert _limits("[&x 1," + "*x," * MAX_ALIASES + "]")[1] == []
    documents, codes = _limits("[&x 1," + "*x," * (MAX_ALIASES + 5) + "!t 1]")
    assert codes == ["E-YAML-LIMIT", "E-YAML-TAG"]
    assert len(documents) == 1


def test_the_limit_of_problems() -> None:
    """A text that is wrong everywhere is left after a thousand problems."""
    codes = _limits("- !x y\n" * 5000)[1]

    assert len(codes) == MAX_PROBLEMS + 1
    assert codes[-1] == "E-YAML-LIMIT"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{" * 200_000,
        "{a: " * 200_000,
        "- " * 200_000,
        "? " * 200_000,
        "[{a: " * 100_000,
        "".join(f"%TAG !a{number}! x\n" for number in range(60_000)) + "--- a\n",
        "'" * 200_000,
        "&a " * 200_000,
        "---\n" * 200_000,
        "a" * 1_000_000,
        "a: 1\n" * 200_000,
        "!" * 200_000,
    ],
    ids=lambda text: text[:6],
)
def test_hostile_texts_end_soon(text: str) -> None:
    """No text of the allowed size takes long, recurses deeply, or raises."""
    started = time.process_time()

    read_documents(text)

    assert time.process_time() - started < cpu_bound(0.8)


def test_paths_are_shown_as_diagnostics_show_them() -> None:
    """Keys are joined by dots, indexes stand in brackets."""
    assert format_path(("operations", 0, "io_config", "a b")) == "operations[0].io_config.a b"
    assert format_path((0, "a")) == "[0].a"
    assert format_path(()) == ""
