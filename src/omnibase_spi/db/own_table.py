"""A table of ONEX's own on a named connection: ledger, outbox, states."""

import re
from typing import Final, cast
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.adapter import DbAdapter

_NO_CORRELATION: Final = UUID(int=0)
_STATEMENT_MS: Final = 30_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
_SERIAL: Final = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
}

Row = dict[str, JsonValue]


class SqlTable:
    """A table that is made when it is first used. `{t}` in a query is its name; in `columns`, `{serial}` is the type of
    a key that counts up.
    """

    def __init__(self, adapter: DbAdapter, connection_name: str, table: str, columns: str) -> None:
        if not _NAME.fullmatch(table):
            raise ModelOnexError(
                f"table name {table!r}: letters, digits and _, at most 41, please", EnumCoreErrorCode.VALIDATION_ERROR
            )
        self.adapter = adapter
        self.connection_name = connection_name
        self._table = table
        self._columns = columns
        self._made = False

    async def run(self, query: str, *params: JsonValue) -> list[Row]:
        return cast("list[Row]", (await self._document(query, *params))["rows"])  # the adapter's document

    async def changed(self, query: str, *params: JsonValue) -> int:
        return cast("int", (await self._document(query, *params))["rowCount"])  # the adapter's document

    async def _document(self, query: str, *params: JsonValue) -> Row:
        if not self._made:
            await self.prepare()
        return await self._send(query, *params)

    def insert_once(self, columns: str, key: str) -> str:
        """An INSERT that changes nothing where the key is there already."""
        values = ", ".join(f"${number}" for number in range(1, columns.count(",") + 2))
        if self.adapter.driver_name(self.connection_name) == "mysql":
            return f"INSERT IGNORE INTO {{t}} ({columns}) VALUES ({values})"  # noqa: S608  # constants
        return f"INSERT INTO {{t}} ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO NOTHING"  # noqa: S608  # constants

    async def prepare(self) -> None:
        """Make the table. Two processes may do so at the same moment: whoever loses finds it there.

        Best before a transaction: inside one, a rollback would take a new table with it, so that nothing is remembered
        and every call looks again.
        """
        if self._made:
            return
        if self.adapter.ambient(self.connection_name) is None:
            await self._make()
            self._made = True
            return
        try:
            async with self.adapter.transaction(self.connection_name):
                await self._look()
        except EffectFault:
            await self._make()

    async def _make(self) -> None:
        columns = self._columns.replace("{serial}", _SERIAL[self.adapter.driver_name(self.connection_name)])
        try:
            await self._send(f"CREATE TABLE IF NOT EXISTS {{t}} ({columns})")
        except EffectFault:
            await self._look()

    async def _look(self) -> None:
        await self._send("SELECT 1 FROM {t} WHERE 1 = 0")

    async def _send(self, query: str, *params: JsonValue) -> Row:
        context = ModelResolvedDbContext(
            connection_name=self.connection_name,
            operation="select" if query.startswith("SELECT") else "raw",
            query=query.replace("{t}", self._table),
            params=list(params),
            timeout_ms=_STATEMENT_MS,
        )
        return await self.adapter.execute(context, _NO_CORRELATION)
