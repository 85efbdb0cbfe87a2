"""`database_write` intents over the real databases."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute, ModelIntentRoutes
from omnibase_spi.ledger_sql import SqlIntentLedger
from tests.support.databases import NAME, Database, opened
from tests.support.intents import execute, intent, one, statuses

COMPLETED, FAILED = EnumIntentStatus.COMPLETED, EnumIntentStatus.FAILED


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    kind: str = request.param
    async for made in opened(kind, request, tmp_path):
        document = {"postgresql": "jsonb", "mysql": "json"}.get(kind, "text")
        quote = "`" if kind == "mysql" else '"'
        await made.run(
            f"CREATE TABLE {{t}} (id integer PRIMARY KEY, name varchar(50) UNIQUE, doc {document}, "
            f"{quote}odd name{quote} integer)"
        )
        yield made


@pytest.fixture
async def container(database: Database) -> AsyncIterator[ModelONEXContainer]:
    made = ModelONEXContainer()
    made.register_service("DbAdapter", database.adapter)
    made.register_service(
        "ModelIntentRoutes",
        ModelIntentRoutes(routes=[ModelIntentRoute(intent_type="database_write", connection=NAME)]),
    )
    ledger = SqlIntentLedger(database.adapter, NAME, table=f"{database.table}_l")
    made.register_service("ProtocolIntentLedger", ledger)
    yield made
    await database.run("DROP TABLE IF EXISTS {t}_l")


async def _rows(database: Database) -> list[tuple[JsonValue, ...]]:
    quote = "`" if database.kind == "mysql" else '"'
    found: list[tuple[JsonValue, ...]] = []
    for row in await database.run(f"SELECT id, name, doc, {quote}odd name{quote} AS odd FROM {{t}} ORDER BY id"):
        assert isinstance(row, dict)
        doc = row["doc"]
        found.append((row["id"], row["name"], json.loads(doc) if isinstance(doc, str) else doc, row["odd"]))
    return found


async def test_rows_are_inserted_updated_upserted_and_deleted(
    database: Database, container: ModelONEXContainer
) -> None:
    """Nested values are stored as JSON, and a name of two words is quoted."""
    doc: JsonValue = {"lines": [{"sku": "a'b", "n": 2}]}
    steps: list[JsonValue] = [
        {"operation": "insert", "data": {"id": 1, "name": "one", "doc": doc, "odd name": 5}},
        {"operation": "upsert", "data": {"id": 1, "name": "uno"}},
        {"operation": "upsert", "data": {"id": 2, "name": "two"}, "key": ["id"]},
        {"operation": "upsert", "data": {"id": 2}},
        {"operation": "insert", "data": {"id": 3, "name": None}},
        {"operation": "insert", "data": {"id": 4, "name": "four"}},
        {"operation": "update", "data": {"odd name": 9}, "where": {"id": 2, "name": "two"}},
        {"operation": "delete", "where": {"name": None}},
        {"operation": "delete", "where": {"id": 4}},
    ]

    for number, step in enumerate(steps):
        result = await one(container, "database_write", database.table, step, idempotency_key=f"step {number}")
        assert (result.status, result.error) == (COMPLETED, None), step

    assert await _rows(database) == [(1, "uno", doc, 5), (2, "two", None, 9)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"operation": "insert", "data": {'id") VALUES (1); --': 1}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "update", "data": {"id": 1}, "where": {"1=1; --": 1}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "update", "data": {"id": 1}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "update", "data": {"id": 1}, "where": {}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "delete"}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "insert"}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "truncate", "data": {"id": 1}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "upsert", "data": {"name": "x"}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "upsert", "data": {"id": 1}, "key": "name"}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "insert", "data": {"id": 1}, "returning": "*"}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "insert", "data": {"id": 1}, "where": {"id": 2}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "insert", "data": {"id": 1}, "key": "id"}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "upsert", "data": {"id": 1}, "where": {"id": 2}}, EnumCoreErrorCode.VALIDATION_ERROR),
        ({"operation": "delete", "data": {"id": 1}, "where": {"id": 2}}, EnumCoreErrorCode.VALIDATION_ERROR),
        (["insert"], EnumCoreErrorCode.VALIDATION_ERROR),
    ],
)
async def test_what_does_not_fit_the_table_is_refused_before_anything_is_sent(
    database: Database, container: ModelONEXContainer, payload: JsonValue, code: EnumCoreErrorCode
) -> None:
    """Names must be in the catalogue; a condition is needed where all rows would be meant else."""
    result = await one(container, "database_write", database.table, payload)

    assert (result.status, result.error_code) == (FAILED, code)
    assert await _rows(database) == []


async def test_a_table_that_is_not_there_is_not_found(database: Database, container: ModelONEXContainer) -> None:
    """A name is a name, whatever stands in it."""
    for name in ("nothing", f'{database.table}"; DROP TABLE {database.table}; --'):
        result = await one(container, "database_write", name, {"operation": "insert", "data": {"id": 1}})
        assert result.error_code is EnumCoreErrorCode.NOT_FOUND

    assert await _rows(database) == []


async def test_a_key_writes_one_row(database: Database, container: ModelONEXContainer) -> None:
    """However often, and however many at once."""
    insert: JsonValue = {"operation": "insert", "data": {"id": 7, "name": "seven"}}

    results = await execute(
        container, *(intent("database_write", database.table, insert, idempotency_key="k") for _ in range(6))
    )

    assert statuses(results).count(COMPLETED) == 1
    assert statuses(results).count(EnumIntentStatus.DUPLICATE) == 5
    assert await _rows(database) == [(7, "seven", None, None)]


async def test_a_refused_write_leaves_neither_row_nor_success(
    database: Database, container: ModelONEXContainer
) -> None:
    """The transaction is rolled back; the failure is written by itself, and is the key's first outcome."""
    insert: JsonValue = {"operation": "insert", "data": {"id": 7}}
    await one(container, "database_write", database.table, insert)

    first = await one(container, "database_write", database.table, insert, idempotency_key="k")
    second = await one(container, "database_write", database.table, insert, idempotency_key="k")

    assert (first.status, second.status) == (FAILED, EnumIntentStatus.DUPLICATE)
    assert second.error == first.error


async def test_a_column_that_was_added_is_found(database: Database, container: ModelONEXContainer) -> None:
    """The catalogue is read again when a name is not known."""
    await one(container, "database_write", database.table, {"operation": "insert", "data": {"id": 1}})
    await database.run("ALTER TABLE {t} ADD COLUMN later integer")

    result = await one(
        container, "database_write", database.table, {"operation": "insert", "data": {"id": 2, "later": 1}}
    )

    assert result.status is COMPLETED
