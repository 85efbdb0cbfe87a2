"""`database_write` intents: one row, or the rows that a condition names, in a table of the database's own catalogue.

Names of tables and columns must be in the catalogue and are quoted; values are bound. Nested values are bound as JSON.
"""

from typing import Final, Literal, cast
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_core.models.model_intent import DATABASE_WRITE_PARTS, ModelIntent
from omnibase_core.protocols.protocol_intent_handler import IntentDone
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.intents import choice_of, payload_of

Operation = Literal["insert", "update", "delete", "upsert"]
_OPERATIONS: Final = tuple(DATABASE_WRITE_PARTS)
_STATEMENT_MS: Final = 30_000
_CATALOGUE: Final = {
    "sqlite": "SELECT name AS name, pk AS pk FROM pragma_table_info($1)",
    "postgresql": (
        "SELECT a.attname AS name, COALESCE(a.attnum = ANY(i.indkey), false)::int AS pk FROM pg_attribute a "
        "LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary "
        "WHERE a.attrelid = to_regclass(quote_ident($1)) AND a.attnum > 0 AND NOT a.attisdropped"
    ),
    "mysql": (
        "SELECT column_name AS name, column_key = 'PRI' AS pk FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = $1"
    ),
}


class Statement:
    """A statement and what it binds."""

    __slots__ = ("_database", "_quote", "params")

    def __init__(self, database: str) -> None:
        self._database = database
        self._quote = "`" if database == "mysql" else '"'
        self.params: list[JsonValue] = []

    def name(self, name: str) -> str:
        return f"{self._quote}{name.replace(self._quote, self._quote * 2)}{self._quote}"

    def value(self, value: JsonValue) -> str:
        self.params.append(value)
        return f"${len(self.params)}"

    def where(self, where: dict[str, JsonValue]) -> str:
        """Columns that equal values; null is asked for as such."""
        parts = [
            f"{self.name(column)} IS NULL" if value is None else f"{self.name(column)} = {self.value(value)}"
            for column, value in where.items()
        ]
        return " AND ".join(parts)

    def insert(self, table: str, data: dict[str, JsonValue]) -> str:
        columns = ", ".join(map(self.name, data))
        values = ", ".join(map(self.value, data.values()))
        return f"INSERT INTO {self.name(table)} ({columns}) VALUES ({values})"  # noqa: S608  # names are quoted

    def upsert(self, table: str, data: dict[str, JsonValue], key: list[str]) -> str:
        rest = [column for column in data if column not in key]
        insert = self.insert(table, data)
        if self._database == "mysql":
            kept = rest or key[:1]
            pairs = ", ".join(f"{self.name(column)} = VALUES({self.name(column)})" for column in kept)
            return f"{insert} ON DUPLICATE KEY UPDATE {pairs}"
        clash = f"{insert} ON CONFLICT ({', '.join(map(self.name, key))}) DO"
        pairs = ", ".join(f"{self.name(column)} = excluded.{self.name(column)}" for column in rest)
        return f"{clash} UPDATE SET {pairs}" if pairs else f"{clash} NOTHING"

    def update(self, table: str, data: dict[str, JsonValue], where: dict[str, JsonValue]) -> str:
        pairs = ", ".join(f"{self.name(column)} = {self.value(value)}" for column, value in data.items())
        return f"UPDATE {self.name(table)} SET {pairs} WHERE {self.where(where)}"  # noqa: S608  # names are quoted

    def delete(self, table: str, where: dict[str, JsonValue]) -> str:
        return f"DELETE FROM {self.name(table)} WHERE {self.where(where)}"  # noqa: S608  # names are quoted


class DatabaseWriteRoute:
    """`{operation insert/update/upsert/delete, data, where?, key?}`; target: the table.

    data: of all but delete. where: of update and delete, which are refused without one: columns and the values that
    they equal. key: the columns of an upsert's unique key, by default the primary key. The connection is the route's,
    else `default`. `result.row_count`: rows changed.
    """

    retries_itself = False

    def __init__(self, adapter: DbAdapter) -> None:
        self._adapter = adapter
        self._tables: dict[tuple[str, str], dict[str, bool]] = {}

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del route
        return isinstance(intent.payload, dict) and intent.payload.get("operation") in {"update", "upsert", "delete"}

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        del intent
        return route.connection or "default"

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        connection = route.connection or "default"
        payload = payload_of(intent, "operation", "data", "where", "key")
        operation = cast("Operation", choice_of(intent, payload, "operation", _OPERATIONS))  # one of these
        allowed = DATABASE_WRITE_PARTS[operation]
        for part, given in payload.items():
            if part != "operation" and part not in allowed and given is not None:
                raise ModelOnexError(
                    f"database_write to {intent.target!r}: {operation} has no {part}; allowed: "
                    f"{', '.join(sorted(allowed))}",
                    EnumCoreErrorCode.VALIDATION_ERROR,
                )
        data = _columns(intent, payload, "data", required="data" in allowed)
        where = _columns(intent, payload, "where", required="where" in allowed)
        known = await self._table(connection, intent, {*data, *where})
        statement = Statement(self._adapter.driver_name(connection))
        if operation == "insert":
            query = statement.insert(intent.target, data)
        elif operation == "upsert":
            query = statement.upsert(intent.target, data, _key(intent, payload.get("key"), known, data))
        elif operation == "update":
            query = statement.update(intent.target, data, where)
        else:
            query = statement.delete(intent.target, where)
        context = _context(connection, query, statement.params, operation)
        document = await self._adapter.execute(context, intent.correlation_id)
        return IntentDone({"row_count": document["rowCount"]})

    async def _table(self, connection: str, intent: ModelIntent, wanted: set[str]) -> dict[str, bool]:
        """Columns of the table, and whether each is of the primary key; read again when one is not known."""
        place = (connection, intent.target)
        known = self._tables.get(place)
        if known is None or not wanted <= known.keys():
            query = _CATALOGUE[self._adapter.driver_name(connection)]
            context = _context(connection, query, [intent.target], "select")
            rows = cast("list[dict[str, JsonValue]]", (await self._adapter.execute(context, UUID(int=0)))["rows"])
            known = {str(row["name"]): bool(row["pk"]) for row in rows}
            if len(self._tables) >= 1000:
                self._tables.clear()
            self._tables[place] = known
        if not known:
            self._tables.pop(place)
            raise ModelOnexError(
                f"database_write: there is no table {intent.target!r} on connection {connection!r}",
                EnumCoreErrorCode.NOT_FOUND,
            )
        unknown = sorted(wanted - known.keys())
        if unknown:
            raise ModelOnexError(
                f"database_write: table {intent.target!r} has no column {unknown[0]!r}; columns: {', '.join(known)}",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        return known


def _columns(intent: ModelIntent, payload: dict[str, JsonValue], part: str, *, required: bool) -> dict[str, JsonValue]:
    found = payload.get(part)
    if found is None and not required:
        return {}
    if not isinstance(found, dict) or not found:
        raise ModelOnexError(
            f"database_write to {intent.target!r}: {payload['operation']} needs {part}, a map of columns and values",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return found


def _key(intent: ModelIntent, given: JsonValue, known: dict[str, bool], data: dict[str, JsonValue]) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if names is None:
        names = [column for column, primary in known.items() if primary]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name in data for name in names):
        raise ModelOnexError(
            f"database_write to {intent.target!r}: upsert needs a key, columns of a unique key that data has; "
            f"found {names!r}",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return cast("list[str]", names)  # all() above


def _context(connection: str, query: str, params: list[JsonValue], operation: str) -> ModelResolvedDbContext:
    return ModelResolvedDbContext.model_validate(
        {
            "connection_name": connection,
            "query": query,
            "params": params,
            "operation": operation,
            "timeout_ms": _STATEMENT_MS,
        }
    )
