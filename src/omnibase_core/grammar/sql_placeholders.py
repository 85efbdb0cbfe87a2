"""Just enough SQL to find `$n` placeholders, and to see an UPDATE that computes a column from itself.

Nothing here refuses SQL: a text that is not understood yields what can be found in it, in time linear in its length.
Not counted are string literals (`E'..'` with backslashes too), quoted identifiers, comments (nested ones as PostgreSQL
reads them), dollar quotes, and a `$` inside an identifier such as `total$1`. A quote or comment that never ends reaches
to the end of the text.

MySQL reads some of this differently (`backslash` escapes in every string, `#` comments, no dollar quotes, comments do
not nest): its driver asks with `mysql=True`. A contract is checked without knowing its database, by the standard rules.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Placeholder(NamedTuple):
    """`$number` at `sql[start:end]`. The number may be 0, repeated or out of sequence: the caller judges that."""

    number: int
    start: int
    end: int


# Every alternative starts with a literal character, so that the search skips the rest of the text inside C; therefore
# what may not stand before a `$` or `'` is looked at from behind it.
_ESCAPED = r"[^'\\]*(?:(?:\\.|'')[^'\\]*)*'?"
_TEXT = rf"'(?:(?<=[eE]')(?<![\w$][eE]'){_ESCAPED}|[^']*'?)"
_NUMBER = r"\$(?<![\w$]\$)(?:([0-9]{1,9})(?!\w)"
_TAG = r"(?:[^\W\d]\w*)?\$"
_STANDARD = re.compile(
    rf"""{_NUMBER} | ({_TAG})) | {_TEXT} | "[^"]*"? | `[^`]*`? | --[^\n]* | (/\*)""",
    re.VERBOSE | re.DOTALL,
)
_MYSQL = re.compile(
    rf"""
    {_NUMBER})
    | '{_ESCAPED}
    | "[^"\\]*(?:(?:\\.|"")[^"\\]*)*"?
    | `[^`]*`?
    | --(?:\s[^\n]*|\Z)
    | \#[^\n]*
    | /\*(?!!).*?(?:\*/|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def find_placeholders(sql: str, *, mysql: bool = False) -> tuple[Placeholder, ...]:
    """All `$n` of a statement, in order of place."""
    if "$" not in sql:
        return ()
    if mysql:
        numbers = [match for match in _MYSQL.finditer(sql) if match.lastindex]
        return tuple([Placeholder(int(match[1]), match.start(), match.end()) for match in numbers])
    found: list[Placeholder] = []
    position, nests = 0, True
    while True:
        for match in _STANDARD.finditer(sql, position):
            kind = match.lastindex
            if kind is None:
                continue
            start, end = match.span()
            if kind == 1:
                found.append(Placeholder(int(match[1]), start, end))
                continue
            # what is quoted is passed over by searching anew from behind it
            if kind == 2:
                position = _dollar_quote_end(sql, start, end)
            else:
                position, nests = _comment_end(sql, end, nests=nests)
            break
        else:
            return tuple(found)


def _dollar_quote_end(sql: str, start: int, end: int) -> int:
    closing = sql.find(sql[start:end], end)
    return len(sql) if closing < 0 else closing + end - start


def _comment_end(sql: str, position: int, *, nests: bool) -> tuple[int, bool]:
    """Where the comment ends whose `/*` ends at `position`, and whether comments of this text still count as nested.

    A comment that never ends when read as nested ends at the first `*/`, as all databases but PostgreSQL read it; this
    is found out once for a text, which keeps the time linear.
    """
    if nests:
        depth = 1
        for edge in _COMMENT_EDGE.finditer(sql, position):
            depth += 1 if edge[0] == "/*" else -1
            if depth == 0:
                return edge.end(), True
    end = sql.find("*/", position)
    return (len(sql) if end < 0 else end + 2), False


_WORD = re.compile(
    rf"""
    (?P<space>\s+|--[^\n]*)
    | (?P<text>[a-zA-Z]?{_TEXT})
    | (?P<word>[^\W\d][\w$]*)
    | (?P<name>"[^"]*"?|`[^`]*`?)
    | (?P<param>\$[0-9]{{1,9}}(?!\w))
    | (?P<tag>\${_TAG})
    | (?P<comment>/\*)
    | (?P<cast>::)
    | (?P<number>[0-9][\w.]*)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    """`kind`: word (lower-cased), name (quoted), value (literal or parameter), cast, mark."""

    kind: str
    text: str


def _tokens(sql: str) -> Iterator[_Token]:
    position, nests = 0, True
    while position < len(sql):
        match = _WORD.match(sql, position)
        if match is None:
            position += 1
            continue
        position = match.end()
        kind = match.lastgroup
        if kind == "word":
            yield _Token("word", match[0].lower())
        elif kind == "name":
            yield _Token("name", match[0].strip('"`').lower())
        elif kind == "text":
            yield _Token("value", "'")
        elif kind == "tag":
            position = _dollar_quote_end(sql, match.start(), position)
            yield _Token("value", "'")
        elif kind in {"param", "number"}:
            yield _Token("value", match[0])
        elif kind == "comment":
            position, nests = _comment_end(sql, position, nests=nests)
        elif kind in {"mark", "cast"}:
            yield _Token(kind, match[0])


def leading_keyword(sql: str) -> str:
    """The first word of a statement in lower case, comments and opening brackets passed over, else empty."""
    for token in _tokens(sql):
        if token.kind == "word":
            return token.text
        if token.text not in {"(", ";"}:
            break
    return ""


def words(sql: str) -> frozenset[str]:
    """All words of a statement that are neither quoted nor in a comment, in lower case."""
    return frozenset(token.text for token in _tokens(sql) if token.kind == "word")


_SET_ENDS = frozenset({"where", "from", "returning", "order", "limit", "when", "output"})
_NOT_A_COLUMN = frozenset(
    re.findall(
        r"\w+",
        """
        null true false default unknown and or not is in like ilike similar regexp rlike between exists any all some
        case when then else end distinct from as at time zone collate escape interval array row cast convert using
        for both leading trailing div mod xor binary current_timestamp current_date current_time current_user
        current_role session_user user localtime localtimestamp utc_timestamp utc_date utc_time
        """,
    )
)
_TYPE_TAILS = frozenset({"with", "without", "time", "zone", "precision", "varying"})
_VALUE_ROWS = frozenset({"excluded", "values"})


_LONGEST_JUDGED = 1 << 16
"""Characters of a statement that is looked into; a longer one counts as relative, which is the careful answer."""


def is_relative_update(sql: str) -> bool:
    """Whether an UPDATE or upsert sets a column to something computed from the row, such as `n = n + 1`.

    Careful: an expression that names anything that could be a column of the row counts, so `name = s.name` from a
    joined table does too. Constants, parameters, functions of those, and the proposed row (`excluded.n`, `VALUES(n)`,
    or the alias of `VALUES (..) AS new`) do not.
    """
    if "update" not in sql.lower():
        return False
    if len(sql) > _LONGEST_JUDGED:
        return True
    tokens = list(_tokens(sql))
    proposed = _VALUE_ROWS | _row_alias(tokens)
    depth, awaiting, index = 0, -1, 0
    while index < len(tokens):
        token = tokens[index]
        depth += _step(token)
        index += 1
        if token == ("word", "update"):
            awaiting = depth
            opens = index > 1 and tokens[index - 2] == ("word", "key")  # ON DUPLICATE KEY UPDATE has no SET
        else:
            opens = token == ("word", "set") and depth == awaiting
        if opens:
            awaiting = -1
            index, relative = _assigns(tokens, index, proposed)
            if relative:
                return True
    return False


def _step(token: _Token) -> int:
    if token.kind != "mark":
        return 0
    return 1 if token.text in "([" else -1 if token.text in ")]" else 0


def _row_alias(tokens: list[_Token]) -> frozenset[str]:
    """The name of the proposed row in MySQL's `INSERT ... VALUES (...) AS new ON DUPLICATE KEY UPDATE`."""
    for index in range(2, len(tokens) - 2):
        if (
            tokens[index].text == "as"
            and tokens[index - 1].text == ")"
            and any(t.text == "duplicate" for t in tokens[index + 2 : index + 4])
        ):
            return frozenset({tokens[index + 1].text})
    return frozenset()


def _assigns(tokens: list[_Token], index: int, proposed: frozenset[str]) -> tuple[int, bool]:
    """Where the assignments end that start at `index`, and whether one of them has a column on its right side."""
    depth = cases = 0
    right_side = False
    expression: list[_Token] = []
    for position in range(index, len(tokens)):
        token = tokens[position]
        depth += _step(token)
        if token.kind == "word" and token.text in {"case", "end"}:
            cases += 1 if token.text == "case" else -1
        ended = depth < 0 or (depth == 0 and _ends_set(tokens, position, inside_case=cases > 0))
        if ended or (depth == 0 and token == ("mark", ",")):
            if _names_column(expression, proposed):
                return position, True
            if ended:
                return position, False
            expression, right_side = [], False
        elif right_side:
            expression.append(token)
        elif depth == 0 and token == ("mark", "="):
            right_side = True
    return len(tokens), _names_column(expression, proposed)


def _ends_set(tokens: list[_Token], position: int, *, inside_case: bool) -> bool:
    token = tokens[position]
    if token.kind != "word" or token.text not in _SET_ENDS:
        return token == ("mark", ";")
    if token.text == "from":
        return tokens[position - 1].text != "distinct"  # IS DISTINCT FROM
    return token.text != "when" or not inside_case


def _names_column(expression: list[_Token], proposed: frozenset[str]) -> bool:
    """Whether an expression mentions something that could be a column of the row."""
    index, count = 0, len(expression)
    while index < count:
        token = expression[index]
        before = expression[index - 1] if index else _Token("mark", "")
        index += 1
        if token.kind == "cast" or (token == ("word", "as") and before.kind != "mark"):
            index = _after_type(expression, index)
            continue
        if token == ("word", "collate"):
            index = _after_chain(expression, index)
            continue
        if token == ("word", "interval") and index + 1 < count and expression[index + 1].kind == "word":
            index += 2  # INTERVAL 1 DAY
            continue
        if token.kind not in {"word", "name"} or (token.kind == "word" and token.text in _NOT_A_COLUMN):
            continue
        index = _after_chain(expression, index - 1)
        following = expression[index] if index < count else _Token("mark", "")
        if token.text in proposed and following.text == "(":  # VALUES(n)
            index = _after_bracket(expression, index)
        elif following.text == "(" or (following == ("value", "'") and token.kind == "word"):
            continue  # a function, or a literal with its type
        elif token.text not in proposed:
            return True
    return False


def _after_chain(expression: list[_Token], index: int) -> int:
    """The index behind `a.b.c` that starts at `index`."""
    while index < len(expression) and expression[index].kind in {"word", "name"}:
        index += 1
        if index < len(expression) and expression[index] == ("mark", "."):
            index += 1
        else:
            break
    return index


def _after_type(expression: list[_Token], index: int) -> int:
    index = _after_chain(expression, index)
    while index < len(expression) and expression[index].text in _TYPE_TAILS:
        index += 1
    return index


def _after_bracket(expression: list[_Token], index: int) -> int:
    depth = 0
    for position in range(index, len(expression)):
        depth += _step(expression[position])
        if depth == 0:
            return position + 1
    return len(expression)
