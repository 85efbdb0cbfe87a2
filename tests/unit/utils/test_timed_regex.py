"""Patterns that are compiled, and those that are not."""

import time

import pytest

from omnibase_core.utils.timed_regex import PatternError, compile_timed


@pytest.mark.parametrize(
    ("pattern", "offset"),
    [
        ("(((a{1000}){1000}){1000})", 11),
        ("a{100002}", 1),
        ("[a-z{2}]{99999}[^]]{9}", 19),
        (r"\(\d{1000}(?:x{900}y){900}", 21),
        ("(?:a{5,}){99999999999999999999}", 9),
    ],
)
def test_repeats_that_would_fill_the_memory_are_refused(pattern: str, offset: int) -> None:
    """Where they are, before anything is compiled."""
    started = time.process_time()

    with pytest.raises(PatternError, match="stand for more than 100,000 characters") as caught:
        compile_timed(pattern)

    assert caught.value.offset == offset
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    "pattern", ["a{99999}", "(?:a{300}b){300}", "(a{0,9999}){0,9999}", "x{,5}{", "[]{9}]{3}", r"\{9999999}"]
)
def test_others_are_compiled(pattern: str) -> None:
    """Repeats that may be left out cost nothing."""
    assert compile_timed(pattern) is not None
