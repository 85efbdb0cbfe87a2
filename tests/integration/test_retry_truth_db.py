"""How often PostgreSQL really executed a statement, by its own log: fault x kind, through the whole stack."""

import asyncio
from uuid import uuid4

import pytest

from omnibase_core.models.model_effect_output import ModelEffectOutput
from tests.integration.test_transactions import _place
from tests.support.databases import Database
from tests.support.effects import contract, operation, run
from tests.support.postgres import PostgresBackend
from tests.support.systems import container_on
from tests.support.tcp_proxy import Direction, TcpProxy

POLICY = {"max_retries": 2, "base_delay_ms": 100, "jitter_factor": 0}


class LosingProxy(TcpProxy):
    """Cuts the connection when the answer to a statement that holds `mark` comes back: it was done, nobody heard."""

    def __init__(self, host: str, port: int, mark: bytes) -> None:
        super().__init__(host, port)
        self.mark = mark
        self.armed = False

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if direction == "up" and self.mark in data:
                self.armed = True
            elif direction == "down" and self.armed:
                self.armed = False
                self.cut()
                return
            writer.write(data)
            await writer.drain()


STATEMENTS = {
    "SELECT": ("select", "SELECT n FROM {t} WHERE id = $1 /* {mark} */", None, 3, "failed"),
    "UPDATE to a value": ("update", "UPDATE {t} SET n = 7 WHERE id = $1 /* {mark} */", None, 3, "failed"),
    "UPDATE relative": ("update", "UPDATE {t} SET n = n + 1 WHERE id = $1 /* {mark} */", None, 1, "unknown"),
    "INSERT": ("insert", "INSERT INTO {t} VALUES ($1 + 100, 1) /* {mark} */", None, 1, "unknown"),
    "INSERT, idempotent": (
        "insert",
        "INSERT INTO {t} VALUES ($1 + 100, 1) ON CONFLICT DO NOTHING /* {mark} */",
        True,
        3,
        "failed",
    ),
    "raw": ("raw", "DELETE FROM {t} WHERE id = $1 /* {mark} */", False, 1, "unknown"),
}


@pytest.fixture
async def table(postgres: Database) -> Database:
    await postgres.make_table()
    await postgres.run("INSERT INTO {t} VALUES (1, 1)")
    return postgres


def _executions(backend: PostgresBackend, since: int, mark: str) -> int:
    assert backend.log is not None
    text = backend.log.read_bytes()[since:].decode(errors="replace")
    return sum(f"/* {mark} */" in line for line in text.splitlines() if "execute" in line or "statement:" in line)


async def _run(url: str, verb: str, query: str, idempotent: bool | None) -> ModelEffectOutput:
    io_config = {
        "handler_type": "db",
        "operation": verb,
        "connection_name": "main",
        "query_template": query,
        "query_params": [1],
    }
    fields: dict[str, object] = {} if idempotent is None else {"idempotent": idempotent}
    made = contract(operation("only", io_config, **fields), default_retry_policy=POLICY)
    async with container_on(main=url) as container:
        return await run(container, made)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_lost_answer_is_repeated_only_where_that_is_harmless(
    name: str, table: Database, postgres_backend: PostgresBackend
) -> None:
    """The connection is cut when the answer comes: the statement was executed, once or as often as its kind allows."""
    verb, template, idempotent, expected, outcome = STATEMENTS[name]
    mark = uuid4().hex
    since = postgres_backend.mark()
    async with LosingProxy(*_place(postgres_backend.url), mark.encode()) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        output = await _run(url, verb, template.format(t=table.table, mark=mark), idempotent)

    assert _executions(postgres_backend, since, mark) == expected
    assert len(output.operations[0].attempts) == expected
    assert output.operations[0].outcome == outcome
    assert {attempt.phase for attempt in output.operations[0].attempts} == {"ambiguous"}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_refused_connection_is_tried_again_by_every_kind(
    name: str, table: Database, postgres_backend: PostgresBackend
) -> None:
    """Nothing was sent, so nothing can be doubled."""
    verb, template, idempotent, _, _ = STATEMENTS[name]
    mark = uuid4().hex
    since = postgres_backend.mark()
    async with TcpProxy(*_place(postgres_backend.url)) as proxy:
        port = proxy.port
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    output = await _run(url, verb, template.format(t=table.table, mark=mark), idempotent)

    assert _executions(postgres_backend, since, mark) == 0
    assert [attempt.error_kind for attempt in output.operations[0].attempts] == ["ECONNREFUSED"] * 3
    assert output.operations[0].outcome == "failed"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("INSERT INTO {t} VALUES ($1, 1) /* {mark} */", "CONFLICT"),
        ("INSERT INTO {t} VALUES ($1, 'x') /* {mark} */", None),
    ],
)
async def test_a_statement_that_the_database_refuses_is_not_repeated(
    query: str, code: str | None, table: Database, postgres_backend: PostgresBackend
) -> None:
    """A constraint or a wrong value: once, failed, and provably nothing done."""
    mark = uuid4().hex
    since = postgres_backend.mark()
    output = await _run(postgres_backend.url, "insert", query.format(t=table.table, mark=mark), None)

    assert _executions(postgres_backend, since, mark) <= 1  # a wrong value is refused before anything is executed
    assert len(output.operations[0].attempts) == 1
    assert (output.operations[0].outcome, output.operations[0].attempts[0].phase) == ("failed", "rejected")
    assert code is None or output.operations[0].error_code == code
