"""JSONPaths of compute steps: one place gives its value, a query gives all its matches, and both end in time."""

import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.compute_run import REGEX_SECONDS, now
from omnibase_core.utils.extraction import MISSING, Missing, PathError, compile_path, names_one_place
from omnibase_core.utils.timed_regex import PatternError, compile_timed

if TYPE_CHECKING:
    from jsonpath_rfc9535 import JSONPathEnvironment

Query = Callable[[JsonValue, float], JsonValue | Missing]
"""Document and deadline -> what was found. Raises TimeoutError behind the deadline."""


class _Limit(threading.local):
    """Until when the functions of the path that runs in this thread may search."""

    deadline: float = 0.0


_limit: Final = _Limit()


def compile_query(path: str) -> Query:
    """A path of names and indexes gives the value there or MISSING; any other the list of all its matches.

    Raises PathError for what is no RFC 9535.
    """
    if names_one_place(path):
        find = compile_path(path)
        return lambda document, _deadline: find(document)
    return _all_matches(path)


def _all_matches(path: str) -> Query:
    import jsonpath_rfc9535  # 20 ms, and only a few contracts need it

    try:
        query = _environment().compile(path)
    except (jsonpath_rfc9535.JSONPathError, ValueError, RecursionError) as error:  # ValueError: an endless integer
        raise PathError(str(error).split("\n", 1)[0]) from None
    one = query.singular_query()

    def find(document: JsonValue, deadline: float) -> JsonValue | Missing:
        matches: list[JsonValue] = []
        if isinstance(document, list | dict):
            _limit.deadline = min(deadline, now() + REGEX_SECONDS)
            try:
                for match in query.finditer(document):
                    if now() > deadline:
                        raise TimeoutError
                    matches.append(cast("JsonValue", match.value))  # the library types values as object
            except (jsonpath_rfc9535.JSONPathError, RecursionError) as error:
                reason = f"{type(error).__name__}: the document is too deep, or the path does not fit it"
                raise ModelOnexError(f"path {path!r}: {reason}", EnumCoreErrorCode.EXTRACTION_ERROR) from None
        if one:
            return matches[0] if matches else MISSING
        return matches

    return find


@cache
def _environment() -> "JSONPathEnvironment":
    """The library's, with `match` and `search` that end: a pattern meets hostile text, and a text a hostile pattern."""
    from iregexp_check import check
    from jsonpath_rfc9535 import JSONPathEnvironment
    from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
    from jsonpath_rfc9535.function_extensions._pattern import map_re

    class Searching(FilterFunction):
        arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]
        return_type = ExpressionType.LOGICAL

        def __init__(self, *, whole: bool) -> None:
            self.whole = whole

        def __call__(self, text: object, pattern: object) -> bool:
            if not isinstance(text, str) or not isinstance(pattern, str) or not check(pattern):
                return False
            left = _limit.deadline - now()
            if left <= 0:
                raise TimeoutError
            try:
                compiled = compile_timed(map_re(pattern), "VERSION1")
            except PatternError:
                return False
            return (compiled.fullmatch if self.whole else compiled.search)(text, timeout=left) is not None

    environment = JSONPathEnvironment()
    environment.function_extensions["match"] = Searching(whole=True)
    environment.function_extensions["search"] = Searching(whole=False)
    return environment
