"""Just enough SQL: where placeholders are, and whether an UPDATE computes a column from itself."""

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase_core.grammar.sql_placeholders import find_placeholders, is_relative_update, leading_keyword, words


def numbers(sql: str, *, mysql: bool = False) -> list[int]:
    return [placeholder.number for placeholder in find_placeholders(sql, mysql=mysql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        ("SELECT 1", []),
        ("SELECT $1, $2 WHERE a=$1", [1, 2, 1]),
        ("SELECT $10,$0", [10, 0]),
        ("$1", [1]),
        ("SELECT $1::int, a[$2], ($3)", [1, 2, 3]),
        ("SELECT '$1', 'it''s $1', '' , $2", [2]),
        ("SELECT 'back\\', $1", [1]),
        ("SELECT E'back\\' $1', $2", [2]),
        ("SELECT e'a''$1\\'', $2", [2]),
        ("SELECT name'$1', typee'\\', $2", [2]),
        ('SELECT "a$1", "b""$1", $2', [2]),
        ("SELECT `a$1`, $2", [2]),
        ("SELECT $1 -- $2\n, $3", [1, 3]),
        ("SELECT $1 /* $2 */ , $3", [1, 3]),
        ("SELECT /* a /* $1 */ $2 */ $3", [3]),
        ("SELECT /* /* */ $1", [1]),
        ("SELECT $$ $1 ' $$, $2", [2]),
        ("SELECT $tag$ $1 $$ $tag$, $2", [2]),
        ("SELECT $tag$ $1 $other$ $2", []),
        ("SELECT total$1, a$$b, é$1, _$1, $2", [2]),
        ("SELECT $1abc, $2", [2]),
        ("SELECT $1$2", [1]),
        ("SELECT 'never ends $1", []),
        ("SELECT $1 /* never ends $2", [1]),
        ('SELECT "never ends $1', []),
        ("SELECT 5 - $1, 5 / $2, 5 -$3", [1, 2, 3]),
        ("SELECT data->>'$.a' #> $1", [1]),
        ("SELECT $99999999999", []),
    ],
)
def test_placeholders_by_the_standard(sql: str, expected: list[int]) -> None:
    """Literals, quoted names, comments, dollar quotes and identifiers hide what looks like one."""
    assert numbers(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 'it\\'s $1', $2", [2]),
        ("SELECT 'a''$1', $2", [2]),
        ('SELECT "a\\"$1", $2', [2]),
        ("SELECT $1 # $2\n, $3", [1, 3]),
        ("SELECT 5--$1", [1]),
        ("SELECT 5 -- $1\n, $2", [2]),
        ("SELECT /* /* $1 */ $2", [2]),
        ("SELECT /*!40101 $1 */ $2", [1, 2]),
        ("SELECT $$ $1 $$", [1]),
        ("SELECT a$1, `$1`, $2", [2]),
        ("SELECT 'ends with \\", []),
    ],
)
def test_placeholders_of_mysql(sql: str, expected: list[int]) -> None:
    """Backslashes in every string, `#` comments, no nesting, no dollar quotes."""
    assert numbers(sql, mysql=True) == expected


def test_places_are_those_of_the_text() -> None:
    """`sql[start:end]` is the placeholder itself."""
    sql = "SELECT $1, '$2', $33"

    assert [sql[found.start : found.end] for found in find_placeholders(sql)] == ["$1", "$33"]


_HIDING = st.sampled_from(
    ["'{}'", "'it''s {}'", "E'\\'{}'", '"{}"', "`{}`", "-- {}\n", "/* {} */", "/* /* {} */ */", "$$ {} $$", "$q${}$q$"]
)


@given(st.lists(st.tuples(_HIDING, st.integers(1, 99)), max_size=12))
def test_hidden_ones_are_never_found_and_open_ones_always(parts: list[tuple[str, int]]) -> None:
    """Whatever stands before it, a placeholder outside of quotes is found, and none inside is."""
    sql = "SELECT " + " , ".join(f"{hiding.replace('{}', '$7 x')} + ${number} " for hiding, number in parts)

    assert numbers(sql) == [number for _, number in parts]


@given(st.text(alphabet="$'\"`-/*#\\eE_a1;:()[]=, \n\tupdatesx", max_size=80))
def test_nothing_is_refused(sql: str) -> None:
    """Any text gives an answer, and every place found is one."""
    for mysql in (False, True):
        for found in find_placeholders(sql, mysql=mysql):
            assert sql[found.start : found.end] == f"${sql[found.start + 1 : found.end]}"
            assert int(sql[found.start + 1 : found.end]) == found.number
    is_relative_update(sql)
    leading_keyword(sql)
    words(sql)


@given(st.text())
def test_no_text_is_refused(sql: str) -> None:
    """The same over all of Unicode."""
    find_placeholders(sql + "$1")
    is_relative_update("update x set " + sql)


@pytest.mark.parametrize(
    "piece",
    [
        "'",
        "/*",
        "$a$ ",
        "$$",
        "/* /* */",
        "$",
        "e'\\",
        '"',
        "-",
        "set update ",
        "update x set a=",
        "$1a",
        "((",
        "case when ",
    ],
)
@pytest.mark.parametrize("start", ["", "update t set a = "])
def test_the_time_is_linear(piece: str, start: str) -> None:
    """Ten times the text takes no more than some ten times the time: nothing is scanned twice."""

    def seconds(length: int) -> float:
        sql = start + piece * (length // len(piece))
        gc.disable()  # which looks through all objects of the test run, however many these are
        try:
            begun = time.process_time()
            for mysql in (False, True):
                find_placeholders(sql, mysql=mysql)
            is_relative_update(sql)
            leading_keyword(sql)
            return time.process_time() - begun
        finally:
            gc.enable()

    short = min(seconds(3_000) for _ in range(3))

    assert min(seconds(30_000) for _ in range(2)) < 30 * short + 0.05


RELATIVE = [
    "UPDATE t SET n = n + 1",
    "update t set n = t.n + $1 where id = $2",
    "UPDATE a SET balance = balance - $1",
    "INSERT INTO t VALUES ($1) ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n",
    "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE n = n + 1",
    "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE n = VALUES(n) + n",
    "INSERT INTO t VALUES (1) AS new ON DUPLICATE KEY UPDATE n = new.n + n",
    "UPDATE t SET name = concat(name, $1)",
    "UPDATE t SET a = $1, b = CASE WHEN $1 > 2 THEN 1 ELSE b END",
    "UPDATE t SET (a, b) = ($1, a)",
    "UPDATE t SET a = b",
    "WITH x AS (UPDATE t SET n = n + 1 RETURNING *) SELECT 1",
    'UPDATE t SET x = "x" + 1',
    "UPDATE t SET `x` = `x` + 1",
    "UPDATE t SET a = now() - n",
    "UPDATE t SET d = jsonb_set(d, '{a}', $1)",
    "UPDATE t SET a = (SELECT max(b) FROM c)",
    "UPDATE t SET a = $1::int + n",
    "UPDATE t SET a = CAST(n AS int)",
    "UPDATE t SET a = e'x\\'' || a",
    "UPDATE t SET a = $1 IS DISTINCT FROM b",
    "UPDATE t SET name = s.name FROM s",
    "UPDATE t /* set a = 1 */ SET /* b */ n = /* c */ n + 1",
    "MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET n = t.n + 1",
    "SELECT 1; UPDATE t SET n = n + 1",
    "UPDATE t SET a[1] = a[2]",
]
NOT_RELATIVE = [
    "SELECT 1",
    "INSERT INTO t (n) VALUES ($1)",
    "UPDATE t SET updated = now()",
    "UPDATE t SET name = $1",
    "UPDATE t SET name = 'name + 1'",
    "INSERT INTO t VALUES ($1) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    "INSERT INTO t VALUES ($1) ON CONFLICT (id) DO UPDATE SET n = excluded.n + 1 WHERE t.n < 5",
    "INSERT INTO t (a) VALUES ($1) ON DUPLICATE KEY UPDATE a = VALUES(a)",
    "INSERT INTO t VALUES (1) AS new ON DUPLICATE KEY UPDATE n = new.n",
    "UPDATE t SET a = $1::timestamp with time zone, b = 'n + 1' WHERE n = n + 1",
    "UPDATE t SET a = current_timestamp, b = NULL, c = DEFAULT, d = TRUE",
    "UPDATE t SET a = interval '1 day' + now()",
    "UPDATE t SET a = now() + INTERVAL 1 DAY WHERE x = 1",
    "SELECT * FROM t FOR UPDATE",
    "UPDATE t SET a = CAST($1 AS numeric(10, 2)) WHERE b = c",
    "UPDATE t SET a = /* n + */ $1 -- a",
    "UPDATE t SET a = coalesce($1, 'x'), b = upper($2) RETURNING a, b",
    "UPDATE t SET a = $1 FROM s WHERE s.id = t.id",
    "UPDATE t SET a = date '2020-01-01'",
    "UPDATE t SET a = CASE WHEN $1 > 2 THEN 1 ELSE 2 END ORDER BY b LIMIT 5",
    'UPDATE t SET a = $1 COLLATE "C"',
    "UPDATE t SET a = $tag$ n + 1 $tag$",
    "UPDATE t SET a = pg_catalog.now()",
    "CREATE TABLE t (a int REFERENCES x ON UPDATE SET NULL)",
]


@pytest.mark.parametrize("sql", RELATIVE)
def test_relative_updates(sql: str) -> None:
    """Something that could be a column of the row is on a right side: repeating it may change it again."""
    assert is_relative_update(sql)


@pytest.mark.parametrize("sql", NOT_RELATIVE)
def test_updates_that_are_not_relative(sql: str) -> None:
    """Constants, parameters, functions of those, and the proposed row can be set twice."""
    assert not is_relative_update(sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", ""),
        (" -- x\n/* y */ (SELECT 1)", "select"),
        ("With x AS (SELECT 1) SELECT 2", "with"),
        ("; COMMIT", "commit"),
        ("5 + 5", ""),
    ],
)
def test_the_leading_keyword(sql: str, expected: str) -> None:
    """Comments and brackets before it do not count."""
    assert leading_keyword(sql) == expected


def test_words_outside_of_quotes() -> None:
    """Names in quotes, literals and comments are no words."""
    assert words("SELECT a, 'b c', \"d\" FROM e -- f\n") == {"select", "a", "from", "e"}
