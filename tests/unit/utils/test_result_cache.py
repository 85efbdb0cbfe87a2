"""Results by what they depend on."""

import math

import pytest

from omnibase_core.utils.result_cache import ResultCache, content_key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Word(str):
    """Its methods may give other results."""

    __slots__ = ()


def test_a_key_tells_apart_what_code_can_tell_apart() -> None:
    """1, 1.0, True and "1" are four inputs; so are two orders of fields."""
    keys = {content_key("sum", value) for value in (1, 1.0, True, "1", [1], None, -0.0, 0.0)}

    assert len(keys) == 8
    assert content_key({"a": 1, "b": 2}) == content_key({"a": 1, "b": 2})
    assert content_key({"a": 1, "b": 2}) != content_key({"b": 2, "a": 1})
    assert content_key("ab", "c") != content_key("a", "bc")


@pytest.mark.parametrize(
    "value",
    [math.nan, object(), {(1, 2): 3}, {1: "a"}, (1, 2), [[(1,)]], {"a": {"b": (1,)}}, Word("a"), "\ud83d\ude00"],
)
def test_what_json_cannot_hold_has_no_key(value: object) -> None:
    """So it is computed each time."""
    assert content_key(value) is None


def test_a_result_comes_back_as_a_copy() -> None:
    """Changing it changes nothing for others; None is a result too."""
    cache = ResultCache()
    assert cache.put("a", [{"x": 1.5}], 10)
    assert cache.put("n", None, 10)

    found, first = cache.get("a")
    assert isinstance(first, list)
    first.clear()

    assert found
    assert cache.get("a") == (True, [{"x": 1.5}])
    assert cache.get("n") == (True, None)
    assert cache.get("b") == (False, None)


@pytest.mark.parametrize("result", [object(), (1, 2), {1: 2}, [1, (2,)], {"a": (1,)}, math.inf])
def test_what_would_come_back_changed_is_not_kept(result: object) -> None:
    """A tuple is no list."""
    cache = ResultCache()

    assert not cache.put("a", result, 10)
    assert len(cache) == 0


def test_a_result_lives_as_long_as_it_was_given() -> None:
    """By the clock of the cache."""
    clock = Clock()
    cache = ResultCache(clock=clock)
    cache.put("a", 1, 10)

    clock.now = 9.9
    assert cache.get("a") == (True, 1)
    clock.now = 10.0
    assert cache.get("a") == (False, None)
    assert len(cache) == 0


def test_the_one_unused_for_longest_goes_first() -> None:
    """By number and by size; what is larger than all is not kept."""
    cache = ResultCache(max_entries=2, max_bytes=20)
    cache.put("a", 1, 10)
    cache.put("b", 2, 10)
    cache.get("a")
    cache.put("c", 3, 10)

    assert [cache.get(key)[0] for key in "abc"] == [True, False, True]
    cache.put("c", "x" * 17, 10)
    assert [cache.get(key)[0] for key in "ac"] == [True, True]
    assert not cache.put("e", "x" * 30, 10)
    cache.clear()
    assert len(cache) == 0
