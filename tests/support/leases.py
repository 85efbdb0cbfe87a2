"""Stores of leases for the tests, with time that the test moves, and actions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from omnibase_core.enums.enum_action import EnumActionTarget, EnumActionType
from omnibase_core.models.model_action import TOKEN_KEY, ModelAction
from omnibase_core.protocols.protocol_lease import LeaseRecord, ProtocolLeaseStore
from omnibase_spi.lease_memory import MemoryLeaseStore
from omnibase_spi.lease_sql import SqlLeaseStore
from tests.support.databases import NAME, Database, opened

TTL = 60_000
LEASE = UUID("11111111-0000-4000-8000-000000000001")
OTHER = UUID("22222222-0000-4000-8000-000000000002")


class Clock:
    """Milliseconds that move when they are told to."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


@dataclass
class Stores:
    """A store, another on the same data, and a way to let leases run out.

    database: where there is one.
    """

    store: ProtocolLeaseStore
    again: ProtocolLeaseStore
    pass_ms: Callable[[int], Awaitable[object]]
    database: Database | None = None


@pytest.fixture(params=["memory leases", "sqlite", "postgresql"])
async def leases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stores]:
    kind: str = request.param
    if kind == "memory leases":
        clock = Clock()
        store = MemoryLeaseStore(clock)

        async def advance(ms: int) -> None:
            clock.ms += ms

        yield Stores(store, store, advance)
        return
    async for made in database_stores(kind, request, tmp_path_factory.mktemp("leases")):
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
async def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stores]:
    """Only those that processes can share."""
    kind: str = request.param
    async for made in database_stores(kind, request, tmp_path_factory.mktemp("leases")):
        yield made


async def database_stores(kind: str, request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Stores]:
    async for database in opened(kind, request, directory):
        adapters = (database.adapter, database.other())
        store, again = (SqlLeaseStore(adapter, NAME, table=database.table) for adapter in adapters)

        async def earlier(ms: int, database: Database = database) -> None:
            """Nobody can move the clock of a database, but what it has written."""
            await database.run("UPDATE {t} SET expires_ms = expires_ms - $1", ms)

        try:
            yield Stores(store, again, earlier, database)
        finally:
            await database.run("DROP TABLE IF EXISTS {t}_log")


def action_of(lease: LeaseRecord, *, epoch: int | None = None, **fields: object) -> ModelAction:
    """An action under a lease, which carries its token; `metadata={}` takes it away."""
    given: dict[str, object] = {
        "action_type": EnumActionType.UPDATE_STATE,
        "target_node": EnumActionTarget.REDUCER,
        "lease_id": lease.lease_id,
        "workflow_id": lease.resource,
        "epoch": lease.epoch if epoch is None else epoch,
        "metadata": {TOKEN_KEY: lease.token},
    }
    return ModelAction.model_validate(given | fields)
