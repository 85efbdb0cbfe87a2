"""`DbAdapter` over every database: statements, values and faults."""

import asyncio
import json
import random
import string
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue, SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelPolicy, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext
from omnibase_spi.db.adapter import DbAdapter
from tests.support.databases import CORRELATION, NAME, Database, adapter_on, context

SECRET = "hunter2-very-secret"


async def test_every_kind_of_statement(database: Database) -> None:
    """Rows come with their names, and a statement without rows with the number of rows that it changed."""
    await database.make_table()

    inserted = await database.document("INSERT INTO {t} VALUES ($1, $2), (2, 20)", 1, 10, operation="insert")
    updated = await database.document("UPDATE {t} SET n = $1 WHERE id >= $2", 11, 1, operation="update")
    await database.run(database.upsert, 1, 5, operation="upsert")
    selected = await database.document("SELECT id, n FROM {t} ORDER BY id", operation="select")
    deleted = await database.document("DELETE FROM {t} WHERE id = $1", 2, operation="delete")
    none = await database.document("SELECT id FROM {t} WHERE id = $1", 99, operation="select")

    assert inserted == {"rows": [], "rowCount": 2}
    assert updated == {"rows": [], "rowCount": 2}
    assert selected == {"rows": [{"id": 1, "n": 16}, {"id": 2, "n": 11}], "rowCount": 2}
    assert deleted == {"rows": [], "rowCount": 1}
    assert none == {"rows": [], "rowCount": 0}


async def test_an_update_that_changes_nothing_counts_the_rows_it_found(database: Database) -> None:
    """`rowCount` means the same everywhere: rows found, not rows that became different."""
    await database.make_table()
    await database.run("INSERT INTO {t} VALUES (1, 10)")

    document = await database.document("UPDATE {t} SET n = 10 WHERE id = 1", operation="update")

    assert document["rowCount"] == 1


async def test_returning_gives_rows(database: Database) -> None:
    """A statement that writes and returns has both: rows and their number."""
    await database.make_table()

    document = await database.document("INSERT INTO {t} VALUES (1, 10), (2, 20) RETURNING id, n", operation="insert")

    assert document == {"rows": [{"id": 1, "n": 10}, {"id": 2, "n": 20}], "rowCount": 2}


async def test_placeholders_bind_by_number(database: Database) -> None:
    """`$2` is the second value wherever it stands, also twice, and a `$` or `%` in a literal is text."""
    await database.make_table("a varchar(40), b varchar(40), c varchar(40), d varchar(40)")

    await database.run("INSERT INTO {t} VALUES ($2, $1, $2, '100% $1') -- $3 %s", "one", "two")

    rows = await database.run("SELECT * FROM {t}", operation="select")
    assert rows == [{"a": "two", "b": "one", "c": "two", "d": "100% $1"}]


async def test_json_values_round_trip(database: Database) -> None:
    """What JSON can say comes back as it went in; a list or object goes in as its JSON text."""
    await database.make_table("i bigint, f double precision, s text, z integer, j text, k text")
    tree: JsonValue = {"a": [1, 2.5, None, True, "x'\"\\%$1"], "ü": {}}

    await database.run(
        "INSERT INTO {t} VALUES ($1, $2, $3, $4, $5, $6)", 2**63 - 1, 1.1, "Grüße 🎉", None, tree, [1, "a"]
    )

    row = (await database.run("SELECT * FROM {t}", operation="select"))[0]
    assert isinstance(row, dict)
    assert row["i"] == 2**63 - 1
    assert row["f"] == 1.1
    assert row["s"] == "Grüße 🎉"
    assert row["z"] is None
    assert json.loads(str(row["j"])) == tree
    assert json.loads(str(row["k"])) == [1, "a"]


async def test_bytes_become_base64(database: Database) -> None:
    """Binary columns come as base64 text, also beside columns of other types and with null in them."""
    binary = {"postgresql": "bytea"}.get(database.kind, "blob")
    literal = {"postgresql": "'\\x00ff10'::bytea"}.get(database.kind, "X'00ff10'")
    await database.make_table(f"id integer, b {binary}")
    await database.run(f"INSERT INTO {{t}} VALUES (1, {literal}), (2, NULL)")

    rows = await database.run("SELECT * FROM {t} ORDER BY id", operation="select")

    assert rows == [{"id": 1, "b": "AP8Q"}, {"id": 2, "b": None}]


def hostile_strings() -> list[str]:
    """Quotes, backslashes, comments, placeholders of all drivers and every kind of Unicode, 500 of them."""
    chosen = random.Random(20240501)
    pieces = [
        "'",
        "''",
        '"',
        "\\",
        "\\'",
        "`",
        "--",
        "/*",
        "*/",
        "#",
        ";",
        "%",
        "%s",
        "%(x)s",
        "$1",
        "$$",
        "?",
        ":x",
        "\n",
    ]
    pieces += [
        "DROP TABLE x",
        " OR 1=1",
        "\x1a",
        "\x01",
        "\x7f",
        "é",
        "ß",
        "漢",
        "🎉",
        "\u202e",
        "\u0000"[:0],
        "\ufffd",
        "NULL",
    ]
    strings = [
        *pieces,
        "'; DROP TABLE {t}; --",
        "\\' OR 1=1 -- ",
        "1' UNION SELECT 1 -- ",
        "%%s",
        "\\\\'",
        "${x}",
        "\r\n\t",
    ]
    while len(strings) < 500:
        strings.append("".join(chosen.choices([*pieces, *string.printable], k=chosen.randint(1, 30))))
    return strings


async def test_hostile_strings_are_only_data(database: Database) -> None:
    """500 strings are stored and read back unchanged, and none is ever run."""
    await database.make_table("id integer primary key, s text")
    strings = hostile_strings()

    async with database.adapter.transaction(NAME):
        for number, text in enumerate(strings):
            await database.run("INSERT INTO {t} (id, s) VALUES ($1, $2)", number, text, operation="insert")
            found = await database.run("SELECT id FROM {t} WHERE s = $1 AND id = $2", text, number, operation="select")
            assert found == [{"id": number}]

    rows = await database.run("SELECT id, s FROM {t} ORDER BY id", operation="select")
    assert rows == [{"id": number, "s": text} for number, text in enumerate(strings)]


@given(text=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_comes_back_unchanged(database: Database, text: str) -> None:
    """Whatever text is bound is what the database says it got."""
    cast = {"mysql": "CHAR", "postgresql": "text"}.get(database.kind, "text")

    rows = await database.run(f"SELECT CAST($1 AS {cast}) AS s", text, operation="select")

    assert rows == [{"s": text}]


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ("nul\x00", {"postgresql"}),
        ("lone \ud800 surrogate", {"postgresql", "mysql", "sqlite", "memory"}),
        (2**63, {"sqlite", "memory"}),
        (float("nan"), {"mysql", "sqlite", "memory"}),
        ([float("inf")], {"postgresql", "mysql", "sqlite", "memory"}),
    ],
)
async def test_a_value_that_cannot_be_stored_is_refused_before_sending(
    database: Database, value: JsonValue, kinds: set[str]
) -> None:
    """The fault names the parameter and is NOT_SENT and permanent; the connection goes on."""
    if database.kind not in kinds:
        pytest.skip(f"{database.kind} can store it")

    fault = await database.fault("SELECT $1 AS a, $2 AS b", 1, value)

    assert fault.phase is EnumFaultPhase.NOT_SENT
    assert not fault.transient
    assert fault.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert "$2" in fault.message
    assert await database.run("SELECT 1 AS one", operation="select") == [{"one": 1}]


async def test_a_unique_violation_is_a_conflict_that_shows_no_value(database: Database) -> None:
    """REJECTED, permanent, CONFLICT, and neither message, context nor cause holds what was bound."""
    await database.make_table("s varchar(100) unique")
    await database.run("INSERT INTO {t} VALUES ($1)", SECRET)

    fault = await database.fault("INSERT INTO {t} VALUES ($1)", SECRET, operation="insert")

    assert (fault.phase, fault.transient) == (EnumFaultPhase.REJECTED, False)
    assert fault.error_code is EnumCoreErrorCode.CONFLICT
    assert fault.error_kind == "UNIQUE_VIOLATION"
    assert SECRET not in f"{fault} {fault.context} {fault!r} {fault.__cause__!r}"
    assert fault.__suppress_context__
    assert fault.correlation_id == CORRELATION
    assert fault.context["connection"] == NAME


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("INSERT INTO {t} (id, n) VALUES ($1, 'x')", (None,)),
        ("INSERT INTO {t} (id, n) VALUES (1, $1)", (SECRET,)),
        ("SELEC 1, $1", (SECRET,)),
        ("SELECT missing FROM {t} WHERE n = $1", (SECRET,)),
        ("SELECT n FROM no_such_table WHERE n = $1", (SECRET,)),
        ("SELECT $1 FROM {t} WHERE (", (SECRET,)),
    ],
)
async def test_a_statement_in_error_is_rejected(database: Database, query: str, params: tuple[JsonValue, ...]) -> None:
    """Constraint, type, syntax and unknown names: REJECTED and permanent, and nothing bound is shown."""
    check = "CHECK (typeof(n) = 'integer')" if database.kind in {"sqlite", "memory"} else ""
    await database.make_table(f"id integer NOT NULL, n integer {check}")

    fault = await database.fault(query, *params)

    assert (fault.phase, fault.transient) == (EnumFaultPhase.REJECTED, False), fault.message
    assert SECRET not in f"{fault} {fault.context}"
    assert await database.run("SELECT id FROM {t}", operation="select") == []


async def test_several_statements_in_one_text_are_refused(database: Database) -> None:
    """Nothing of such a text is run, with parameters or without."""
    await database.make_table()

    for query, params in (
        ("INSERT INTO {t} VALUES (1, 1); INSERT INTO {t} VALUES (2, 2)", ()),
        ("INSERT INTO {t} VALUES ($1, 1); INSERT INTO {t} VALUES (2, 2)", (1,)),
        ("SELECT 1 AS a; DROP TABLE {t}", ()),
    ):
        fault = await database.fault(query, *params)
        assert fault.phase is EnumFaultPhase.REJECTED

    assert await database.run("SELECT id FROM {t}", operation="select") == []


@pytest.mark.parametrize("query", ["BEGIN", "/* x */ commit", "ROLLBACK", "SAVEPOINT a", "START TRANSACTION", "END"])
async def test_statements_do_not_control_transactions(database: Database, query: str) -> None:
    """Behind the adapter's back no transaction begins or ends, inside one or outside."""
    outside = await database.fault(query)
    async with database.adapter.transaction(NAME) as transaction:
        inside = await database.fault(query)

    assert outside.phase is inside.phase is EnumFaultPhase.NOT_SENT
    assert transaction.state.value == "committed"


async def test_two_columns_of_one_name_are_an_error(database: Database) -> None:
    """One of them would be lost silently; the fault says which name, and is never retried."""
    fault = await database.fault("SELECT 1 AS a, 2 AS b, 3 AS a")

    assert fault.phase is EnumFaultPhase.DONE
    assert "'a'" in fault.message
    assert await database.run("SELECT 1 AS a") == [{"a": 1}]


@pytest.mark.parametrize("operation", ["select", "insert", "raw"])
async def test_read_only_is_enforced_by_the_database(database: Database, operation: str) -> None:
    """A read-only statement may read whatever its operation says, and cannot write; afterwards others can again."""
    await database.make_table()

    fault = await database.fault("INSERT INTO {t} VALUES (1, 1)", operation=operation, read_only=True)
    read = await database.run("SELECT n FROM {t}", operation=operation, read_only=True)
    await database.run("INSERT INTO {t} VALUES (2, 2)", operation="insert")

    assert (fault.phase, fault.error_kind) == (EnumFaultPhase.REJECTED, "READ_ONLY")
    assert read == []
    assert await database.numbers() == [2]


async def test_a_select_that_writes_is_carried_out_once(database: Database) -> None:
    """The operation names the intent and decides where it runs; only `read_only` forbids writing."""
    await database.make_table()

    rows = await database.run("INSERT INTO {t} VALUES (1, 1) RETURNING id", operation="select")

    assert rows == [{"id": 1}]
    assert await database.numbers() == [1]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("read_only", [False, True])
async def test_fetch_size_reads_all_rows(database: Database, size: int, read_only: bool) -> None:
    """Batches of any size give the same list."""
    await database.make_table()
    for number in range(7):
        await database.run("INSERT INTO {t} VALUES ($1, $1)", number)

    query = "SELECT n FROM {t} WHERE n >= $1 ORDER BY id"
    rows = await database.run(query, 0, operation="select", fetch_size=size, read_only=read_only)

    assert rows == [{"n": number} for number in range(7)]


async def test_fetched_rows_are_bounded_by_the_policy(database: Database) -> None:
    """Past `max_response_bytes` reading stops with a fault, and the adapter goes on."""
    adapter = adapter_on(database.url, ModelPolicy(max_response_bytes=2048))
    query = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 900) SELECT x FROM c"
    try:
        with pytest.raises(EffectFault, match="max_response_bytes") as caught:
            await adapter.execute(context(query, operation="select", fetch_size=50), CORRELATION)
        after = await adapter.execute(context("SELECT 1 AS one", operation="select"), CORRELATION)
    finally:
        await adapter.aclose()

    assert caught.value.phase is EnumFaultPhase.REJECTED
    assert after["rows"] == [{"one": 1}]


async def test_a_cancelled_statement_is_cancelled_in_the_database(database: Database) -> None:
    """Within a second the cancellation has passed, and the same connection answers the next statement."""
    await database.run("SELECT 1 AS one", operation="select")
    task = asyncio.create_task(database.run(database.sleep, 30, operation="select"))
    await asyncio.sleep(0.1)
    started = time.monotonic()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert time.monotonic() - started < 1.0
    assert await database.run("SELECT 1 AS one", operation="select") == [{"one": 1}]
    pools = database.adapter._current
    assert pools is not None
    assert pools.by_name[NAME].read.open_connections == 1


async def test_the_pool_is_bounded_and_fair(server: Database) -> None:
    """Never more connections than `pool_size`; who waits is served in order, and a cancelled waiter leaves no trace."""
    adapter = adapter_on(server.url, pool_size=2)
    order: list[int] = []

    async def one(number: int) -> None:
        await adapter.execute(context(server.sleep, 0.03, operation="select"), CORRELATION)
        order.append(number)

    try:
        await asyncio.gather(one(-1), one(-2))
        order.clear()
        tasks = [asyncio.create_task(one(number)) for number in range(8)]
        await asyncio.sleep(0.01)
        tasks[4].cancel()
        await asyncio.wait(tasks)
        pools = adapter._current
        assert pools is not None
        pool = pools.by_name[NAME].write
        assert pool.open_connections == 2
        assert sorted(order) == [0, 1, 2, 3, 5, 6, 7]
        assert [number // 2 for number in order[:4]] == [0, 0, 1, 1]
        assert not pool._waiters
    finally:
        await adapter.aclose()


async def test_ping_and_driver_name(database: Database) -> None:
    """A connection answers, and says what it is by the name that telemetry uses."""
    await database.adapter.ping(NAME)

    assert database.adapter.driver_name(NAME) == {"memory": "sqlite"}.get(database.kind, database.kind)


async def test_an_adapter_can_be_used_again_after_closing(database: Database) -> None:
    """Closing lets go of all connections; the next statement makes new ones, and closing twice is closing."""
    await database.adapter.ping(NAME)
    await database.adapter.aclose()
    await database.adapter.aclose()

    assert await database.run("SELECT 1 AS one") == [{"one": 1}]


async def test_an_unknown_connection_names_the_known_ones() -> None:
    """RESOURCE_UNAVAILABLE, not sent, not transient, and the message says what exists."""
    adapter = adapter_on("sqlite:///:memory:")

    with pytest.raises(EffectFault, match="'default', 'embedded', 'main'") as caught:
        await adapter.execute(context("SELECT 1", connection_name="nowhere"), CORRELATION)

    fault = caught.value
    assert fault.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE
    assert (fault.phase, fault.transient) == (EnumFaultPhase.NOT_SENT, False)
    assert fault.correlation_id == CORRELATION


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"oracle://u:{SECRET}@h/db", {}),
        (SECRET, {}),
        ("sqlite:///", {}),
        ("sqlite:///x.db?mode=ro", {}),
        (f"mysql://u:{SECRET}@h:port/db", {}),
        (f"mysql://u:{SECRET}@h/db?what=ever", {}),
        (f"postgresql://u:{SECRET}@[::1/db", {}),
        (f"postgresql://u:{SECRET}@h/db?what=ever", {}),
        ("sqlite:///:memory:", {"what": 1}),
        ("sqlite:///:memory:", {"pool_size": 0}),
        ("sqlite:///:memory:", {"pool_size": "10"}),
        ("sqlite:///:memory:", {"busy_timeout_ms": -1}),
        ("postgresql://h/db", {"prepare_threshold": -1}),
        ("postgresql://h/db", {"busy_timeout_ms": 5}),
        ("mysql://h/db", {"prepare_threshold": 5}),
    ],
)
async def test_a_connection_that_is_set_up_wrongly(url: str, options: dict[str, int | str]) -> None:
    """CONFIGURATION_ERROR that never shows the URL."""
    settings = ModelSettings(connections={NAME: ModelConnection(url=SecretStr(url), options=dict(options))})
    adapter = DbAdapter(settings)

    with pytest.raises(ModelOnexError) as caught:
        await adapter.execute(context("SELECT 1"), CORRELATION)

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert SECRET not in f"{caught.value} {caught.value.context} {caught.value.__cause__!r}"
    await adapter.aclose()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_that_is_not_there(scheme: str, free_port: int) -> None:
    """ECONNREFUSED, provably not sent, and nothing of the URL is shown."""
    adapter = adapter_on(f"{scheme}://user:{SECRET}@127.0.0.1:{free_port}/db")

    with pytest.raises(EffectFault) as caught:
        await adapter.execute(context("SELECT 1"), CORRELATION)

    assert (caught.value.error_kind, caught.value.phase) == ("ECONNREFUSED", EnumFaultPhase.NOT_SENT)
    assert SECRET not in f"{caught.value} {caught.value.context} {caught.value.__cause__!r}"
    await adapter.aclose()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_an_unknown_database_is_a_matter_of_settings(server: Database) -> None:
    """NOT_SENT and permanent, and not of a kind that policies retry."""
    name = "/postgres?" if server.kind == "postgresql" else "/onex"
    url = server.url.replace(name, name.replace(name.strip("/?"), "no_such_db"))
    adapter = adapter_on(url)

    with pytest.raises(EffectFault) as caught:
        await adapter.execute(context("SELECT 1"), CORRELATION)

    fault = caught.value
    assert (fault.error_kind, fault.phase, fault.transient) == ("DB_SETTINGS", EnumFaultPhase.NOT_SENT, False)
    assert fault.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    await adapter.aclose()


@pytest.mark.parametrize("inside", [False, True])
async def test_a_changed_session_is_not_lent_to_others(server: Database, inside: bool) -> None:
    """What SET changed ends with its statement, or with its transaction."""
    postgres = server.kind == "postgresql"
    change = "SET statement_timeout = 4711" if postgres else "SET lock_wait_timeout = 4711"
    show = "SHOW statement_timeout" if postgres else "SELECT @@lock_wait_timeout AS v"
    before = await server.run(show)

    if inside:
        async with server.adapter.transaction(NAME):
            await server.run(change)
            assert await server.run(show) != before
    else:
        await server.run(change)

    assert await server.run(show) == before


async def test_another_kind_of_context_is_a_mistake_of_the_set_up() -> None:
    """Such as this handler registered for files."""
    other = ModelResolvedFilesystemContext(file_path="x", timeout_ms=1000)

    with pytest.raises(ModelOnexError, match="ModelResolvedDbContext") as caught:
        await DbAdapter().execute(other, CORRELATION)

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
