"""The databases that the contract suite of `DbAdapter` runs over, each with what is particular to its SQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import JsonValue, SecretStr

from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelPolicy, ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_core.models.primitives.strict_types import Scalar
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.sqlite import SqliteConnection

NAME = "main"
ALL = ("sqlite", "memory", "postgresql", "mysql")


def context(query: str, *params: JsonValue, operation: str = "raw", **more: object) -> ModelResolvedDbContext:
    return ModelResolvedDbContext.model_validate(
        {"connection_name": NAME, "query": query, "params": list(params), "operation": operation, "timeout_ms": 5000}
        | more
    )


@dataclass
class Database:
    """A real database, an adapter on it, and a table name that no other test uses.

    sleep: a statement that runs for `$1` seconds (in SQLite: for long). upsert: of `(id, n)`, adding up.
    statements_since: what the database says was executed on the adapter's connections since a mark.
    """

    kind: str
    url: str
    adapter: DbAdapter
    table: str
    mark: Callable[[], int]
    statements_since: Callable[[int], list[str]]
    others: list[DbAdapter] = field(default_factory=list)

    async def run(self, query: str, *params: JsonValue, operation: str = "raw", **more: object) -> list[JsonValue]:
        document = await self.document(query, *params, operation=operation, **more)
        rows = document["rows"]
        assert isinstance(rows, list)
        return rows

    async def document(
        self, query: str, *params: JsonValue, operation: str = "raw", **more: object
    ) -> dict[str, JsonValue]:
        resolved = context(query.replace("{t}", self.table), *params, operation=operation, **more)
        return await self.adapter.execute(resolved_context=resolved, correlation_id=CORRELATION)

    async def fault(self, query: str, *params: JsonValue, operation: str = "raw", **more: object) -> EffectFault:
        with pytest.raises(EffectFault) as caught:
            await self.document(query, *params, operation=operation, **more)
        return caught.value

    async def make_table(self, columns: str = "id integer primary key, n integer") -> None:
        await self.run(f"CREATE TABLE {{t}} ({columns})")

    async def numbers(self) -> list[JsonValue]:
        """All `n` of the table, in order of `id`, read over another connection."""
        other = self.other()
        resolved = context(f"SELECT n FROM {self.table} ORDER BY id", operation="select")
        document = await other.execute(resolved, CORRELATION)
        return [row["n"] for row in document["rows"]]  # type: ignore[union-attr,index,call-overload]  # rows of ours

    def other(self) -> DbAdapter:
        """A second adapter on the same database; the same one where it lives in memory."""
        if self.kind == "memory":
            return self.adapter
        if not self.others:
            self.others.append(adapter_on(self.url))
        return self.others[0]

    @property
    def sleep(self) -> str:
        return {
            "postgresql": "SELECT pg_sleep($1)",
            "mysql": "SELECT SLEEP($1) AS slept",
        }.get(
            self.kind,
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2000000000) "
            "SELECT count(*) AS n FROM c WHERE x > $1",
        )

    @property
    def upsert(self) -> str:
        if self.kind == "mysql":
            return "INSERT INTO {t} (id, n) VALUES ($1, $2) ON DUPLICATE KEY UPDATE n = n + VALUES(n)"
        return "INSERT INTO {t} AS o (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = o.n + excluded.n"


CORRELATION = UUID("00000000-0000-4000-8000-00000000c0de")


def adapter_on(url: str, policy: ModelPolicy | None = None, **options: Scalar) -> DbAdapter:
    connection = ModelConnection(url=SecretStr(url), options=options)
    return DbAdapter(ModelSettings(connections={NAME: connection}, policy=policy or ModelPolicy()))


@pytest.fixture(params=ALL)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    kind: str = request.param
    async for made in opened(kind, request, tmp_path):
        yield made


@pytest.fixture(params=("postgresql", "mysql"))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Only the databases that are reached over a network."""
    kind: str = request.param
    async for made in opened(kind, request, tmp_path):
        yield made


@pytest.fixture
async def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async for made in opened("postgresql", request, tmp_path):
        yield made


@pytest.fixture
async def mysql(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async for made in opened("mysql", request, tmp_path):
        yield made


async def opened(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    table = f"t_{uuid4().hex[:12]}"
    if kind in {"postgresql", "mysql"}:
        backend = request.getfixturevalue("postgres_backend" if kind == "postgresql" else "mariadb_backend")
        made = Database(kind, backend.url, adapter_on(backend.url), table, backend.mark, backend.statements_since)
    else:
        url = "sqlite:///:memory:" if kind == "memory" else f"sqlite:///{tmp_path}/test.db"
        made = Database(kind, url, adapter_on(url), table, lambda: 0, lambda _: [])
        await _trace(made)
    try:
        yield made
        if kind in {"postgresql", "mysql"}:
            await made.run("DROP TABLE IF EXISTS {t}")
    finally:
        for other in made.others:
            await other.aclose()
        await made.adapter.aclose()


async def _trace(made: Database) -> None:
    """SQLite has no log; its trace callback is told every statement that is run, here on the connection that writes."""
    statements: list[str] = []
    await made.run("CREATE TABLE IF NOT EXISTS traced (n integer)")
    pools = made.adapter._current
    assert pools is not None
    writer = pools.by_name[NAME].write._idle[0]
    assert isinstance(writer, SqliteConnection)
    assert writer._raw is not None
    writer._raw.set_trace_callback(statements.append)
    made.mark = lambda: len(statements)
    made.statements_since = lambda mark: statements[mark:]


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 5.0) -> None:
    """Ask a database until it says yes; it has no way to call back."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)
