"""The walk of simple paths and the RFC 9535 library give the same, whatever the path and the document."""

import json

import jsonpath_rfc9535
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.utils import extraction
from omnibase_core.utils.extraction import MISSING, PathError, compile_path

_keys = st.sampled_from(
    ["a", "b", "_c", "d1", "größe", "it's", 'q"', "\\", "a b", "", "0", "-1", "a.b", "\u2028", "\U0001f600"]
) | st.text(max_size=3)
_documents = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=15,
)
_space = st.sampled_from(["", " ", "\t\n", "\r"])


def _quoted(key: str, quote: str) -> str:
    text = json.dumps(key, ensure_ascii=False)
    return text if quote == '"' else "'" + text[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


_steps = st.one_of(
    st.builds(
        lambda key: "." + key, st.from_regex(r"[A-Za-z_\u00e0-\u00ff][A-Za-z0-9_\u00e0-\u00ff]{0,3}", fullmatch=True)
    ),
    st.builds(lambda key, quote, a, b: f"[{a}{_quoted(key, quote)}{b}]", _keys, st.sampled_from("'\""), _space, _space),
    st.builds(lambda index, a, b: f"[{a}{index}{b}]", st.integers(-5, 5), _space, _space),
)
_paths = st.builds(
    lambda parts: "$" + "".join(space + step for space, step in parts), st.lists(st.tuples(_space, _steps), max_size=4)
)


def _by_library(path: str, document: JsonValue) -> object:
    match = (
        next(iter(jsonpath_rfc9535.compile(path).finditer(document)), None)
        if isinstance(document, list | dict)
        else None
    )
    if match is None:
        return document if path == "$" else MISSING
    return match.value


def _same(left: object, right: object) -> bool:
    return left is right or (left is not MISSING and right is not MISSING and json.dumps(left) == json.dumps(right))


@settings(max_examples=400, deadline=None)
@given(path=_paths, document=_documents)
def test_walk_and_library_agree(path: str, document: JsonValue) -> None:
    """A path made of names and indexes finds the same value either way."""
    assert _same(compile_path(path)(document), _by_library(path, document))


@settings(max_examples=400, deadline=None)
@given(path=st.text("$.[]'\"ab_0123-* \t\n\u00a0\\ué@?:,()\v", max_size=10).map(lambda text: "$" + text))
@example("$[ 'a' ]")
@example("$.a\n")
@example("$[-00]")
@example("$['\u00a0']")
def test_the_walk_takes_nothing_that_the_library_refuses(path: str) -> None:
    """Whatever is written, a path is accepted by both ways or by none."""
    steps = extraction._simple_steps(path)
    try:
        jsonpath_rfc9535.compile(path)
    except (jsonpath_rfc9535.JSONPathError, ValueError):
        assert steps is None, "the walk is laxer than the RFC"
        try:
            compile_path(path)
        except PathError:
            return
        raise AssertionError(path) from None
    compile_path(path)


@settings(max_examples=200, deadline=None)
@given(document=_documents, keys=st.lists(st.integers(0, 4) | _keys, max_size=4))
def test_a_dotpath_never_fails(document: JsonValue, keys: list[int | str]) -> None:
    """A well-formed dotpath finds a value or nothing in any document."""
    path = ".".join(["$", *(str(key) for key in keys)])
    try:
        find = compile_path(path, "dotpath")
    except PathError:
        assert path == "$" or ".." in path or path.endswith(".")
        return
    find(document)
