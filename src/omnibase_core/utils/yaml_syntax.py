"""What a YAML parser's complaint means, in plain words: what stands there, what may stand there, how to mend it.

libyaml and PyYAML's own parser word their complaints differently; a row matches a fragment of either. The first row
that matches speaks, so the particular ones stand above the general ones.
"""

import re
from typing import NamedTuple

_TABS = "indentation is made of spaces; replace the tab by two spaces for each level"
_LINE_UP = "line up the keys of one mapping, and indent what belongs to a key by two spaces"


class Explanation(NamedTuple):
    """One syntax error. `at_context`: the place to show is where the construct began, not where the parser gave up."""

    message: str
    allowed: str
    fix: str
    at_context: bool = False


class _Row(NamedTuple):
    problem: str
    context: str
    explanation: Explanation


_ROWS = (
    _Row("tab character", "", Explanation("a tab is used for indentation", "spaces", _TABS)),
    _Row(
        "end of stream",
        "quoted scalar",
        Explanation(
            "the quoted text that begins here is never closed",
            "the closing quote",
            "close it with the quote it began with; inside single quotes, write a quote as ''",
            at_context=True,
        ),
    ),
    _Row(
        "document indicator",
        "quoted scalar",
        Explanation(
            "the quoted text that begins here is never closed",
            "the closing quote",
            "close it with the quote it began with",
            at_context=True,
        ),
    ),
    _Row(
        "unknown escape character",
        "",
        Explanation(
            "a backslash in double quotes is followed by a character that it cannot escape",
            r"\\ \" \n \t \r \0 \xNN \uNNNN and the other escapes of YAML",
            "put the text in single quotes, where a backslash is a backslash, or double the backslash",
        ),
    ),
    _Row(
        "hexdecimal",
        "",
        Explanation("an escape lacks its hexadecimal digits", r"\xNN, \uNNNN or \UNNNNNNNN", "complete the escape"),
    ),
    _Row(
        "mapping values are not allowed",
        "",
        Explanation(
            "a ': ' stands where no key can be",
            "one `key: value` per line",
            "put a value that contains ': ' in quotes; begin a nested mapping on a new line, indented by two spaces",
        ),
    ),
    _Row(
        "block sequence entries are not allowed",
        "",
        Explanation(
            "a '- ' stands where no list can begin",
            "a list on lines of its own",
            f"begin the list on a new line; {_LINE_UP}",
        ),
    ),
    _Row(
        "mapping keys are not allowed",
        "",
        Explanation(
            "a '? ' stands where no key can be", "`key: value`", f"begin the mapping on a new line; {_LINE_UP}"
        ),
    ),
    _Row(
        "expected ':'",
        "",
        Explanation(
            "a line has no ':' after its key",
            "`key: value`",
            "write a ':' and a space after the key, or put a text over several lines in quotes",
            at_context=True,
        ),
    ),
    _Row(
        "expected ','",
        "flow sequence",
        Explanation(
            "the list that begins here with '[' is not closed or lacks a ','",
            "',' or ']'",
            "close it with ']'",
            at_context=True,
        ),
    ),
    _Row(
        "expected ','",
        "flow mapping",
        Explanation(
            "the mapping that begins here with '{' is not closed or lacks a ','",
            "',' or '}'",
            "close it with '}'",
            at_context=True,
        ),
    ),
    _Row(
        "expected",
        "block mapping",
        Explanation(
            "this line fits no mapping: its indentation matches neither the keys above nor a value", "a key", _LINE_UP
        ),
    ),
    _Row(
        "expected",
        "block collection",
        Explanation(
            "this line fits no list: it neither begins with '- ' in line with the entries above nor is indented",
            "'- '",
            "line up the '- ' of all entries, and indent what belongs to an entry by two spaces",
        ),
    ),
    _Row(
        "expected",
        "block sequence",
        Explanation(
            "this line fits no list: it neither begins with '- ' in line with the entries above nor is indented",
            "'- '",
            "line up the '- ' of all entries, and indent what belongs to an entry by two spaces",
        ),
    ),
    _Row(
        "document start",
        "",
        Explanation(
            "text follows the end of the document",
            "nothing, or `---` and a further document",
            "remove it, or a closing bracket too many",
        ),
    ),
    _Row(
        "alphabetic or numeric",
        "",
        Explanation(
            "'&' and '*' begin the name of an anchor or alias, and none follows",
            "a name",
            "put a value that begins with '&' or '*' in quotes",
        ),
    ),
    _Row(
        "",
        "block scalar",
        Explanation(
            "the head of a '|' or '>' text is wrong",
            "'|' or '>', then '-' or '+' or an indentation, then a new line",
            "begin the text on the next line, indented by two spaces",
        ),
    ),
    _Row(
        "incompatible YAML",
        "",
        Explanation("the %YAML directive asks for another version", "YAML 1.1 and 1.2", "remove the directive"),
    ),
    _Row(
        "tag handle",
        "",
        Explanation("a tag stands here", "no tags", "remove the tag; put a text that begins with '!' in quotes"),
    ),
    _Row(
        "",
        "tag",
        Explanation("a tag stands here", "no tags", "remove the tag; put a text that begins with '!' in quotes"),
    ),
    _Row(
        "node content",
        "",
        Explanation(
            "a value is missing", "a value", "write the value; put one that begins with a mark of YAML in quotes"
        ),
    ),
)
_INDICATORS = re.compile(r"[@`%]")


def explain(problem: str, context: str, character: str) -> Explanation:
    """The explanation of a parser's `problem` and `context`; `character` stands at its place ("" at the end)."""
    if "cannot start any token" in problem:
        if character == "\t":
            return _ROWS[0].explanation
        if _INDICATORS.match(character):
            return Explanation(f"a value cannot begin with {character!r}", "a quoted text", "put the value in quotes")
    for row in _ROWS:
        if row.problem in problem and row.context in context:
            return row.explanation
    return Explanation(problem or "the text cannot be read", "YAML 1.2", "compare the line with those around it")
