"""Transactions through the node, as the database itself saw them (section 2.8)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from omnibase_core.enums.enum_effect_types import EnumTransactionState as State
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from tests.support.databases import Database, opened
from tests.support.effects import contract, operation, run
from tests.support.postgres import PostgresBackend
from tests.support.systems import container_on
from tests.support.tcp_proxy import TcpProxy

NO_RETRY = ModelEffectRetryPolicy(max_retries=0)
RETRY = {"base_delay_ms": 100, "jitter_factor": 0}


def _db(sql: str, *params: object, verb: str = "insert") -> dict[str, object]:
    return {
        "handler_type": "db",
        "operation": verb,
        "connection_name": "main",
        "query_template": sql,
        "query_params": list(params),
    }


def _container(database: Database) -> ModelONEXContainer:
    """A container whose db handler is the adapter that the test's database watches."""
    container = container_on()
    container.register_service("DbAdapter", database.adapter)
    return container


def _two(table: str, second: int = 2, **fields: object) -> ModelEffectSubcontract:
    fields.setdefault("transaction", {"enabled": True})
    insert = f"INSERT INTO {table} (id, n) VALUES ($1, $2)"
    return contract(
        operation("a", _db(insert, 1, 10)),
        operation("b", _db(insert, second, 20)),
        default_retry_policy=RETRY,
        **fields,
    )


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
async def table(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async for database in opened(request.param, request, tmp_path):
        await database.make_table()
        yield database


def _words(statements: list[str], table: str) -> list[str]:
    """The statements reduced to what a transaction is about."""
    words = []
    for statement in statements:
        upper = statement.upper()
        if upper.startswith(("BEGIN", "START TRANSACTION")):
            words.append("BEGIN")
        elif upper.startswith(("COMMIT", "SAVEPOINT", "RELEASE")):
            words.append(upper.split()[0])
        elif upper.startswith("ROLLBACK"):
            words.append("ROLLBACK TO" if " TO " in upper else "ROLLBACK")
        elif upper.startswith("INSERT") and table.upper() in upper:
            words.append("INSERT")
        elif "ISOLATION LEVEL" in upper:
            words.append("ISOLATION")
    return words


async def test_begin_statements_and_commit_are_in_the_databases_log(table: Database) -> None:
    """What the output calls committed was begun and committed, once."""
    mark = table.mark()
    output = await run(_container(table), _two(table.table))

    words = _words(table.statements_since(mark), table.table)
    assert [word for word in words if word != "ISOLATION"] == ["BEGIN", "INSERT", "INSERT", "COMMIT"]
    assert output.transaction_state is State.COMMITTED
    assert await table.numbers() == [10, 20]


@pytest.mark.parametrize("level", ["read_committed", "repeatable_read", "serializable"])
async def test_the_isolation_level_is_issued(level: str, table: Database) -> None:
    """By BEGIN or before it; SQLite is always serializable, which satisfies every demand."""
    mark = table.mark()
    made = _two(table.table, transaction={"enabled": True, "isolation_level": level})
    output = await run(_container(table), made)

    text = " ".join(table.statements_since(mark)).upper()
    assert output.transaction_state is State.COMMITTED
    assert table.kind == "sqlite" or level.upper().replace("_", " ") in text


async def test_a_failure_is_rolled_back_in_the_databases_log(table: Database) -> None:
    """The second insert breaks the primary key: ROLLBACK, and nothing is there."""
    mark = table.mark()
    output = await run(_container(table), _two(table.table, second=1))

    words = _words(table.statements_since(mark), table.table)
    assert [word for word in words if word != "ISOLATION"] == ["BEGIN", "INSERT", "INSERT", "ROLLBACK"]
    assert (output.transaction_state, output.failed_operation) == (State.ROLLED_BACK, "b")
    assert output.operations[1].error_code == "CONFLICT"
    assert await table.numbers() == []


async def test_continue_without_rollback_keeps_what_succeeded(table: Database) -> None:
    """Each statement in a savepoint; the failed one is undone, the rest committed."""
    mark = table.mark()
    made = _two(
        table.table,
        second=1,
        execution_mode="sequential_continue",
        transaction={"enabled": True, "rollback_on_error": False},
    )
    output = await run(_container(table), made)

    words = [word for word in _words(table.statements_since(mark), table.table) if word != "ISOLATION"]
    expected = ["BEGIN", "SAVEPOINT", "INSERT", "RELEASE", "SAVEPOINT", "INSERT", "ROLLBACK TO"]
    assert words[: len(expected)] == expected
    assert words[-1] == "COMMIT"
    assert output.transaction_state is State.COMMITTED
    assert await table.numbers() == [10]


async def test_inside_an_ambient_transaction_a_contract_uses_a_savepoint(table: Database) -> None:
    """The outer transaction decides: rolled back, nothing of the contract stays."""
    container = _container(table)
    mark = table.mark()
    with pytest.raises(LookupError):
        async with table.adapter.transaction("main"):
            output = await run(container, _two(table.table))
            assert output.transaction_state is State.COMMITTED
            raise LookupError

    words = [word for word in _words(table.statements_since(mark), table.table) if word != "ISOLATION"]
    assert words == ["BEGIN", "SAVEPOINT", "INSERT", "INSERT", "RELEASE", "ROLLBACK"]
    assert await table.numbers() == []


async def test_a_serialisation_failure_repeats_the_whole_transaction(postgres: Database) -> None:
    """Two transactions read and write crosswise: both end committed, one of them at its second try."""
    await postgres.make_table()
    await postgres.run("INSERT INTO {t} VALUES (1, 0), (2, 0)")
    table = postgres.table

    def transfer(source: int, target: int) -> ModelEffectSubcontract:
        return contract(
            operation(
                "read",
                _db(
                    f"SELECT sum(n) AS s FROM {table} WHERE id <> $1 AND pg_sleep(0.2) IS NOT NULL",
                    target,
                    verb="select",
                ),
                response_handling={"extract_fields": {"s": "$.rows[0].s"}},
            ),
            operation(
                "write",
                _db(f"UPDATE {table} SET n = $1 WHERE id = $2", source + 10, target, verb="update"),
                depends_on=["read"],
            ),
            transaction={"enabled": True, "isolation_level": "serializable"},
            default_retry_policy=RETRY,
        )

    container = _container(postgres)
    outputs = await asyncio.gather(run(container, transfer(1, 2)), run(container, transfer(2, 1)))

    assert {output.transaction_state for output in outputs} == {State.COMMITTED}
    assert sum(output.total_retry_count for output in outputs) >= 1
    assert await postgres.numbers() == [12, 11]


PIECES = 22


async def test_a_connection_cut_after_any_answer_never_yields_a_false_end(
    postgres: Database, postgres_backend: PostgresBackend
) -> None:
    """The way back from PostgreSQL is cut after so many pieces, for each number of them, COMMIT's answer among them.

    What is called committed is there, what is called rolled back or failed is not, and what nobody knows is `unknown`.
    """
    await postgres.make_table()
    seen: set[State] = set()
    for pieces in range(PIECES):
        await postgres.run("DELETE FROM {t}")
        async with TcpProxy(*_place(postgres_backend.url)) as proxy:
            proxy.cut_after = pieces
            made = _two(postgres.table, transaction={"enabled": True, "timeout_ms": 2000})
            async with container_on(main=f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres") as container:
                output = await run(container, made.model_copy(update={"default_retry_policy": NO_RETRY}))
        state = output.transaction_state
        rows = await postgres.numbers()
        seen.add(state)
        assert rows in ([], [10, 20])
        if state is State.COMMITTED:
            assert rows == [10, 20]
        elif state is not State.UNKNOWN:
            assert rows == []
            assert not any(result.success for result in output.operations)

    assert seen == {State.FAILED, State.UNKNOWN, State.COMMITTED}


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = query.get("host", [parts.hostname or "127.0.0.1"])[0]
    return host, int(query.get("port", [str(parts.port or 5432)])[0])
