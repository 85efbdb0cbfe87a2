"""Regular expressions that end: a search that takes too long is a TimeoutError.

The engine is the package `regex`, which comes with the JSONPath library. It backtracks, as that of the standard library
does, but looks at the clock while it searches: that of the CPU time of this process, so that a search takes longer
where others want the processor. A limit that has to hold all the same is `mixins/pipeline_limits.py`'s.
"""

import re
from collections.abc import Callable
from typing import Final, Protocol, cast

_MOST_EXPANDED: Final = 100_000
_REPEAT: Final = re.compile(r"\{(\d*)(?:,\d*)?\}")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


class PatternError(Exception):
    """A pattern that cannot be compiled. `offset` counts characters from its start."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class TimedPattern(Protocol):
    """A compiled pattern, as far as it is used here."""

    groups: int
    groupindex: dict[str, int]

    def sub(self, repl: str, string: str, *, timeout: float) -> str: ...

    def search(self, string: str, *, timeout: float) -> object | None: ...

    def fullmatch(self, string: str, *, timeout: float) -> object | None: ...


FLAGS: Final = ("IGNORECASE", "MULTILINE", "DOTALL", "VERSION1")


def compile_timed(pattern: str, *flags: str) -> TimedPattern:
    """Compile with flags of `FLAGS`. Raises PatternError, also for repeats that would fill the memory."""
    _check_repeats(pattern)
    import regex  # type: ignore[import-untyped]  # 15 ms, so only where a contract has a pattern; it brings no types

    bits = 0
    for flag in flags:
        bits |= int(getattr(regex, flag))
    compiled = cast("Callable[[str, int], TimedPattern]", regex.compile)  # untyped
    try:
        return compiled(pattern, bits)
    except regex.error as error:
        raise PatternError(str(error.msg), error.pos or 0) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise PatternError(str(error)) from None


def _check_repeats(pattern: str) -> None:
    """The engine writes the least number of repeats out, and that of a group for each repeat of what is around it."""
    sizes, last, place = [0], 0, 0
    while place < len(pattern):
        char, ahead = pattern[place], 1
        if char == "(":
            sizes.append(0)
            last = 0
        elif char == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif char == "{" and (repeat := _REPEAT.match(pattern, place)):
            ahead = repeat.end() - place
            least = repeat[1].lstrip("0")
            times = int(least or 0) if len(least) < len(str(_MOST_EXPANDED)) + 1 else _MOST_EXPANDED + 1
            sizes[-1] += last * max(times - 1, 0)
            last *= max(times, 1)
            if sizes[-1] > _MOST_EXPANDED:
                raise PatternError(f"its repeats stand for more than {_MOST_EXPANDED:,} characters", place)
        elif char not in "*+?|":
            if char == "\\":
                ahead = 2
            elif char == "[" and (members := _CLASS.match(pattern, place)):
                ahead = members.end() - place
            last = 1
            sizes[-1] += 1
        place += ahead


def check_replacement(pattern: TimedPattern, replacement: str) -> None:
    """Raises PatternError for groups that the pattern does not have, and for escapes that there are not.

    The replacement is tried on a pattern with the same groups that matches the empty text.
    """
    import regex

    names = {index: name for name, index in pattern.groupindex.items()}
    groups = (f"(?P<{names[index]}>)" if index in names else "()" for index in range(1, pattern.groups + 1))
    try:
        regex.compile("".join(groups)).sub(replacement, "")
    except (regex.error, LookupError, ValueError) as error:
        raise PatternError(str(error)) from None
