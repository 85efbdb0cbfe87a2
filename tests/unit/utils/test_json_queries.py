"""Paths and patterns of compute steps: what they find, and that they end."""

import time

import pytest
from pydantic import JsonValue

from omnibase_core.errors import ModelOnexError
from omnibase_core.utils.compute_run import now
from omnibase_core.utils.extraction import MISSING
from omnibase_core.utils.json_queries import compile_query
from omnibase_core.utils.timed_regex import PatternError, compile_timed

FAR = float("inf")


def test_one_place_gives_its_value_and_a_query_all_matches() -> None:
    """A path of names and indexes also when it is written with escapes."""
    document: JsonValue = {"a": [1, 2]}

    assert compile_query("$.a[1]")(document, FAR) == 2
    assert compile_query("$.b")(document, FAR) is MISSING
    assert compile_query("$['\\u0061'][0]")(document, FAR) == 1
    assert compile_query("$['\\u0062']")(document, FAR) is MISSING
    assert compile_query("$.a[*]")(document, FAR) == [1, 2]
    assert compile_query("$[*]")("text", FAR) == []


def test_a_document_that_is_too_deep_is_an_error() -> None:
    """Not a crash."""
    document: JsonValue = 1
    for _ in range(2_000):
        document = [document]

    with pytest.raises(ModelOnexError, match="too deep"):
        compile_query("$..a")(document, FAR)


@pytest.mark.parametrize("path", ["$[*]", "$[?match(@, 'a*')]", "$[?search(@, 'a*')]"])
def test_nothing_is_looked_for_behind_the_deadline(path: str) -> None:
    """Neither matches of the path nor those of its functions."""
    with pytest.raises(TimeoutError):
        compile_query(path)(["a"], now() - 1)


@pytest.mark.parametrize("path", ["$[?match(@, '(a|a|aa)*b')]", "$[?search(@, '(a|a|aa)*b')]"])
def test_a_hostile_text_is_searched_for_a_second_at_most(path: str) -> None:
    """In all texts of a document together."""
    began = time.monotonic()

    try:
        found = compile_query(path)(["a" * 5_000] * 50, FAR)
    except TimeoutError:
        found = []

    assert found == []
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("pattern", ["a{2,1}", "(a", "(?P<1>a)", "(?au)x", "(" * 3_000 + ")" * 3_000])
def test_a_pattern_that_cannot_be_compiled_says_so(pattern: str) -> None:
    """As one kind of error."""
    with pytest.raises(PatternError):
        compile_timed(pattern)


def test_a_pattern_in_a_path_that_cannot_be_compiled_matches_nothing() -> None:
    """As RFC 9535 says."""
    assert compile_query("$[?match(@, 'a{2,1}')]")(["a"], FAR) == []
