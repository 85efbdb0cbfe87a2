"""What the types of each database become in JSON, and what each accepts as text."""

import json

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from tests.support.databases import CORRELATION, NAME, Database, adapter_on, context

POSTGRES_TYPES: list[tuple[str, JsonValue]] = [
    ("1::smallint", 1),
    ("9223372036854775807::bigint", 2**63 - 1),
    ("true", True),
    ("1.10::numeric", "1.10"),
    ("123456789012345678901234567890.0001::numeric", "123456789012345678901234567890.0001"),
    ("'NaN'::numeric", "NaN"),
    ("1.5::float8", 1.5),
    ("'NaN'::float8", "NaN"),
    ("'-Infinity'::float4", "-Infinity"),
    ("ARRAY[1.5, 'Infinity']::float8[]", [1.5, "Infinity"]),
    ("'a'::text", "a"),
    ("'a'::char(3)", "a  "),
    ("date '2024-02-29'", "2024-02-29"),
    ("'infinity'::date", "infinity"),
    ("'0044-03-15 BC'::date", "0044-03-15 BC"),
    ("timestamp '2024-02-29 01:02:03.5'", "2024-02-29T01:02:03.5"),
    ("timestamptz '2024-02-29 01:02:03+00' AT TIME ZONE 'UTC'", "2024-02-29T01:02:03"),
    ("time '01:02:03.25'", "01:02:03.25"),
    ("timetz '01:02:03+02'", "01:02:03+02:00"),
    ("timetz '01:02:03+05:30'", "01:02:03+05:30"),
    ("interval '1 year 2 months 3 days 4.5 seconds'", "P1Y2M3DT4.5S"),
    ("'0b0e3c8e-0000-4000-8000-0123456789ab'::uuid", "0b0e3c8e-0000-4000-8000-0123456789ab"),
    ("'\\x00ff'::bytea", "AP8="),
    ("ARRAY['\\x00ff'::bytea]", ["AP8="]),
    ("'{\"a\": [1, null, 1e400]}'::jsonb", {"a": [1, None, int("1" + "0" * 400)]}),
    ("'{\"a\": 1.5e400}'::json", {"a": "1.5e400"}),
    ("ARRAY[1, NULL, 3]", [1, None, 3]),
    ("ARRAY[[1.1], [2.2]]::numeric[]", [["1.1"], ["2.2"]]),
    ("ARRAY[date '2024-02-29']", ["2024-02-29"]),
    ("'10.0.0.1'::inet", "10.0.0.1"),
    ("'10.0.0.0/8'::cidr", "10.0.0.0/8"),
    ("'[1,5)'::int4range", "[1,5)"),
    ("B'101'", "101"),
    ("point(1, 2)", "(1,2)"),
    ("ROW(1, 'a')", "(1,a)"),
    ("NULL", None),
]


@pytest.mark.parametrize(("expression", "expected"), POSTGRES_TYPES)
async def test_postgres_types_become_json(postgres: Database, expression: str, expected: JsonValue) -> None:
    """Nothing is lost on the way, and `json.dumps` takes it all."""
    rows = await postgres.run(f"SELECT {expression} AS v", operation="select")

    assert rows == [{"v": expected}]
    json.dumps(rows, allow_nan=False)


async def test_a_timestamp_with_time_zone_has_its_offset(postgres: Database) -> None:
    """ISO 8601 with hours and minutes of the session's zone: an instant, exactly."""
    query = "SELECT timestamptz '2024-02-29 01:02:03.000001+00' AS v FROM set_config('TimeZone', $1, true)"

    assert await postgres.run(query, "UTC") == [{"v": "2024-02-29T01:02:03.000001+00:00"}]
    assert await postgres.run(query, "Asia/Kolkata") == [{"v": "2024-02-29T06:32:03.000001+05:30"}]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("timestamptz", "2024-02-29T01:02:03Z", None),
        ("date", "2024-02-29", "2024-02-29"),
        ("uuid", "0b0e3c8e-0000-4000-8000-0123456789ab", "0b0e3c8e-0000-4000-8000-0123456789ab"),
        ("numeric", "1.10", "1.10"),
        ("numeric", 12, "12"),
        ("numeric", 2**70, str(2**70)),
        ("double precision", 12, 12.0),
        ("bigint", 5, 5),
        ("bigint", "5", 5),
        ("jsonb", {"a": [1, "x"]}, {"a": [1, "x"]}),
        ("json", [1, 2], [1, 2]),
        ("text", [1, 2], "[1,2]"),
        ("jsonb", '{"a": 1}', {"a": 1}),
        ("int[]", "{1,2}", [1, 2]),
        ("boolean", True, True),
        ("interval", "P1D", "P1D"),
        ("bytea", "\\x00ff", "AP8="),
    ],
)
async def test_postgres_columns_accept_text_and_json(
    postgres: Database, kind: str, value: JsonValue, expected: JsonValue
) -> None:
    """A text is cast to what the column wants, a list or object to its JSON."""
    await postgres.make_table(f"v {kind}")

    await postgres.run("INSERT INTO {t} VALUES ($1)", value, operation="insert")

    row = (await postgres.run("SELECT v FROM {t} WHERE v IS NOT NULL", operation="select"))[0]
    assert isinstance(row, dict)
    assert expected is None or row["v"] == expected


async def test_a_changed_table_under_a_prepared_statement_may_be_repeated(postgres: Database) -> None:
    """PostgreSQL refuses the stale plan: REJECTED and transient, and the next attempt prepares anew."""
    await postgres.make_table()
    eager = adapter_on(postgres.url, prepare_threshold=0)
    resolved = context(f"SELECT * FROM {postgres.table}", operation="select")
    await eager.execute(resolved, CORRELATION)
    await eager.execute(resolved, CORRELATION)

    await postgres.run("ALTER TABLE {t} ADD COLUMN extra integer")
    other = Database("x", postgres.url, eager, postgres.table, postgres.mark, postgres.statements_since)
    fault = await other.fault("SELECT * FROM {t}", operation="select")
    await eager.execute(resolved, CORRELATION)
    await eager.aclose()

    assert (fault.phase, fault.transient) == (EnumFaultPhase.REJECTED, True)


@pytest.mark.parametrize("value", ["secret-4711", '{"secret-4711', "2024-99-99 secret-4711"])
@pytest.mark.parametrize("kind", ["int", "date", "jsonb", "uuid", "numeric", "interval"])
async def test_postgres_messages_show_no_value(postgres: Database, kind: str, value: str) -> None:
    """The server quotes what it cannot read; the fault does not."""
    await postgres.make_table(f"v {kind}")

    fault = await postgres.fault("INSERT INTO {t} VALUES ($1)", value)

    assert fault.phase is EnumFaultPhase.REJECTED
    assert "4711" not in f"{fault} {fault.context}"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1.10", "1.10"),
        ("CAST(1.5 AS DOUBLE)", 1.5),
        ("18446744073709551615", 2**64 - 1),
        ("DATE '2024-02-29'", "2024-02-29"),
        ("TIMESTAMP '2024-02-29 01:02:03.5'", "2024-02-29T01:02:03.5"),
        ("TIME '01:02:03'", "01:02:03"),
        ("CAST('-100:00:01' AS TIME)", "-100:00:01"),
        ("X'00ff'", "AP8="),
        ("CAST('x' AS BINARY)", "eA=="),
        ("'ü'", "ü"),
        ("TRUE", 1),
        ("NULL", None),
    ],
)
async def test_mysql_types_become_json(mysql: Database, expression: str, expected: JsonValue) -> None:
    """Decimals, dates and times are the exact text of the server; TRUE is 1, as MySQL has no booleans."""
    rows = await mysql.run(f"SELECT {expression} AS v", operation="select")

    assert rows == [{"v": expected}]


async def test_mysql_columns_become_json(mysql: Database) -> None:
    """BIT is a number, SET and ENUM are text, a zero date is the text that it is."""
    columns = "b bit(10), s set('a','b'), e enum('x','y'), t tinyint(1), y year, d datetime, j json, f float"
    await mysql.make_table(columns)
    await mysql.run("SELECT @@sql_mode AS m")

    await mysql.run("INSERT INTO {t} VALUES (b'1000000001', 'a,b', 'y', 1, 2024, $1, $2, 3.14)", "2024-02-29", [1, 2])

    row = (await mysql.run("SELECT * FROM {t}", operation="select"))[0]
    assert row == {
        "b": 513,
        "s": "a,b",
        "e": "y",
        "t": 1,
        "y": 2024,
        "d": "2024-02-29T00:00:00",
        "j": "[1,2]",
        "f": 3.14,
    }


@pytest.mark.parametrize(
    ("column", "value"),
    [("v integer", "secret-4711"), ("v date", "secret-4711"), ("v varchar(100) unique", "secret-4711")],
)
async def test_mysql_messages_show_no_value(mysql: Database, column: str, value: str) -> None:
    """The server quotes data in many messages; the fault does not."""
    await mysql.make_table(column)
    if "unique" in column:
        await mysql.run("INSERT INTO {t} VALUES ($1)", value)

    fault = await mysql.fault("INSERT INTO {t} VALUES ($1)", value)

    assert fault.phase is EnumFaultPhase.REJECTED
    assert "4711" not in f"{fault} {fault.context}"


async def test_a_procedure_of_mysql_gives_its_first_result(mysql: Database) -> None:
    """What follows it is read away, so that the connection is in step afterwards."""
    await mysql.run("CREATE PROCEDURE {t}_p() BEGIN SELECT 1 AS a; SELECT 2 AS b; END")

    rows = await mysql.run("CALL {t}_p()")

    assert rows == [{"a": 1}]
    assert await mysql.run("SELECT 3 AS c") == [{"c": 3}]
    await mysql.run("DROP PROCEDURE {t}_p")


async def test_a_procedure_that_leaves_a_transaction_open(mysql: Database) -> None:
    """Its connection is closed, which rolls back, and the fault says so."""
    await mysql.make_table()
    await mysql.run("CREATE PROCEDURE {t}_p() BEGIN START TRANSACTION; INSERT INTO {t} VALUES (1, 1); END")

    fault = await mysql.fault("CALL {t}_p()")

    assert fault.error_kind == "TRANSACTION_CONTROL"
    assert await mysql.numbers() == []
    await mysql.run("DROP PROCEDURE {t}_p")


async def test_sqlite_has_now(tmp_path: object) -> None:
    """`NOW()` is the present in UTC, as ISO-8601 text."""
    adapter = adapter_on("sqlite:///:memory:")

    document = await adapter.execute(
        context("SELECT NOW() AS n, datetime('now') AS d", operation="select"), CORRELATION
    )
    await adapter.aclose()

    rows = document["rows"]
    assert isinstance(rows, list)
    row = rows[0]
    assert isinstance(row, dict)
    assert str(row["n"]).endswith("+00:00")
    assert str(row["n"])[:10] == str(row["d"])[:10]


async def test_sqlite_pragmas(database: Database) -> None:
    """Foreign keys are enforced, and a file is in WAL mode."""
    if database.kind not in {"sqlite", "memory"}:
        pytest.skip("only SQLite has them")

    keys = await database.run("PRAGMA foreign_keys")
    mode = await database.run("PRAGMA journal_mode")

    assert keys == [{"foreign_keys": 1}]
    assert mode == [{"journal_mode": "wal" if database.kind == "sqlite" else "memory"}]
    assert database.adapter.driver_name(NAME) == "sqlite"
