"""Whatever is written is read back with its places, and nothing that is not YAML gets through or raises."""

import json
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.utils.yaml_document import read_documents

_TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff\u2028\u2029"), max_size=12
)
_TRICKY = st.sampled_from(
    ("true", "null", "~", "12", "0o7", "<<", "- a", "a: b", "#", "'", '"', "*a", "&a", "!t", "yes", "")
)
_KEY = st.one_of(_TEXT, _TRICKY)
_SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXT, _TRICKY
)
_DATA: st.SearchStrategy[JsonValue] = st.recursive(
    _SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEY, inner, max_size=4)),
    max_leaves=25,
)
_PARSERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if hasattr(yaml, "CSafeLoader") else [])]
# Pieces of which texts are made that are nearly YAML.
_PIECES = st.sampled_from(
    (
        *("a", "b", ":", ": ", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "&x ", "*x", "!t ", "!!str "),
        *("'", '"', "<<", "? ", "|\n", "#", " ", "\t", "1", "~", "---\n", "...\n", "%TAG ! a\n", "\\", "@"),
        *("\ufeff", "\x00", "ü", "\u2028"),
    )
)


@given(data=_DATA)
def test_json_is_read_back(data: JsonValue) -> None:
    """JSON is YAML: what the standard library writes is read as the same values of the same types."""
    documents, problems = read_documents(json.dumps(data, ensure_ascii=False))

    assert problems == []
    assert _typed(documents[0].data) == _typed(data)


@given(data=_DATA, flow=st.booleans())
def test_block_style_is_read_back(data: JsonValue, flow: bool) -> None:
    """What PyYAML writes with every scalar quoted or typed is read as the same values."""
    text = yaml.dump(data, Dumper=_Dumper, default_flow_style=flow, allow_unicode=True, sort_keys=False)

    documents, problems = read_documents(text)

    assert problems == []
    assert _typed(documents[0].data) == _typed(data)


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, quotes every text, and numbers as JSON does (PyYAML's own are those of YAML 1.1)."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
_Dumper.add_representer(
    float, lambda dumper, number: dumper.represent_scalar("tag:yaml.org,2002:float", json.dumps(number), style="")
)


@given(data=_DATA)
def test_places_point_at_what_stands_there(data: JsonValue) -> None:
    """At the place of each scalar and key stands its own text, alone in its line."""
    text = json.dumps({"root": data}, ensure_ascii=False, indent=1)
    lines = text.split("\n")
    document = read_documents(text)[0][0]

    for path, value in _walk({"root": data}, ()):
        line, column = document.mark(path)
        written = lines[line - 1][column - 1 :].removesuffix(",")
        if not isinstance(value, dict | list):
            assert written == json.dumps(value, ensure_ascii=False)
        else:
            assert written[0] == json.dumps(value)[0]
        if path and isinstance(path[-1], str):
            line, column = document.key_mark(path)
            assert lines[line - 1][column - 1 :].startswith(json.dumps(path[-1], ensure_ascii=False) + ": ")


@pytest.mark.parametrize("parser", _PARSERS)
@settings(max_examples=400)
@given(pieces=st.lists(_PIECES, max_size=25))
def test_no_text_raises(parser: type[yaml.SafeLoader], pieces: list[str]) -> None:
    """Any text gives documents of plain JSON and problems with a place; a text without problems is sound YAML."""
    text = "".join(pieces)

    documents, problems = read_documents(text, parser=parser)

    for document in documents:
        _typed(document.data)
        for path, _ in _walk(document.data, ()):
            assert document.mark(path) >= (1, 1)
            assert document.key_mark(path) >= (1, 1)
    for problem in problems:
        assert problem.code.startswith("E-YAML-")
        assert problem.line >= 1
        assert problem.message
        assert problem.fix
    if problems:
        assert [(p.line, p.column) for p in problems] == sorted((p.line, p.column) for p in problems)
    else:
        assert len(documents) == len(list(yaml.compose_all(text.removeprefix("\ufeff"), Loader=parser)))


@given(raw=st.binary(max_size=60))
def test_no_bytes_raise(raw: bytes) -> None:
    """Bytes of any kind are read or refused."""
    read_documents(raw)


def _typed(value: object) -> object:
    """The value with its types, so that 1, 1.0 and True differ; fails on anything that is not JSON."""
    if type(value) is dict:
        assert all(type(key) is str for key in value)
        return {key: _typed(inner) for key, inner in value.items()}
    if type(value) is list:
        return [_typed(inner) for inner in value]
    assert type(value) in {str, int, float, bool, type(None)}
    return type(value), repr(value)


def _walk(value: JsonValue, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], JsonValue]]:
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in children:
        yield from _walk(inner, (*path, step))
