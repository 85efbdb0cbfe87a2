"""The seam between `DbAdapter` and the databases, and what all of them share about values.

Values in: JSON values. A list or object is bound as its JSON text, which every database casts where a column wants
JSON. Values out: what JSON has stays as it is; date and time are ISO-8601 text, an interval is an ISO-8601 duration, a
decimal its exact text, a UUID text, bytes base64 text, and the floats that JSON lacks the texts `NaN`, `Infinity`,
`-Infinity`.
"""

import base64
import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Protocol, TypeAlias

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext

GRACE_SECONDS = 0.3
"""How long a cancelled call waits for the database to answer the cancellation; twice this stays below the one second
that the executor grants after a deadline. What has no answer by then is closed."""

Document: TypeAlias = dict[str, JsonValue]
"""`{"rows": [{column: value}], "rowCount": n}`."""


class DbConnection(Protocol):
    """One connection, used by one task at a time. Every failure is an `EffectFault`."""

    @property
    def usable(self) -> bool:
        """False when the connection is lost or its state is in doubt: it must be closed, never reused."""
        ...

    @property
    def in_transaction(self) -> bool:
        """What the database last said; False too when it ended a transaction on its own."""
        ...

    def is_alive(self) -> bool:
        """Whether an idle connection still stands, as far as can be seen without asking the server."""
        ...

    async def execute(self, context: ModelResolvedDbContext) -> Document:
        """Run one statement: as its own transaction when none is open, else in the open one.

        When cancelled, the statement is cancelled in the database, and the connection is `usable` again or not.
        """
        ...

    async def begin(self, isolation_level: EnumIsolationLevel | None, *, read_only: bool) -> None: ...

    async def command(self, sql: str) -> None:
        """Run SAVEPOINT, RELEASE, ROLLBACK TO or ROLLBACK; sent even when the transaction is aborted."""
        ...

    async def commit(self) -> bool:
        """Issue COMMIT; False when the database answered that it rolled back instead.

        A fault of phase NOT_SENT means that COMMIT provably never left, REJECTED that the database refused it and
        rolled back, AMBIGUOUS that the answer was lost. A cancellation waits for the answer for `GRACE_SECONDS` and
        then passes on; `committed` tells what was found out.
        """
        ...

    @property
    def committed(self) -> bool | None:
        """The outcome of the last COMMIT; None while it is not known."""
        ...

    def retire(self) -> None:
        """A statement changed the session, such as SET: close it, unless it is the only one that there can be."""
        ...

    def close_now(self) -> None:
        """Let go of everything at once, without waiting and without a warning; also when the loop is closed."""
        ...

    async def close(self) -> None:
        """Close in good order."""
        ...


class Driver(Protocol):
    """How one named connection reaches its database."""

    name: str
    """As OpenTelemetry spells it: `postgresql`, `mysql`, `sqlite`."""
    label: str
    """The connection in messages."""
    read_size: int
    write_size: int
    """Bounds of the two pools. 0 for `read_size`: reading and writing share the pool of writers."""

    def effective_isolation(self, isolation_level: EnumIsolationLevel | None) -> EnumIsolationLevel:
        """The level that a transaction is sure to have when this one was asked for."""
        ...

    async def connect(self, *, read_only: bool) -> DbConnection: ...

    def close(self) -> None:
        """The adapter is closed: let go of what outlives pools."""
        ...


_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class UnfitValueError(Exception):
    """A value that cannot be bound; turned into a fault by `fault`, which never shows the value."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(number, problem)
        self.number = number
        self.problem = problem

    def fault(self, action: str) -> EffectFault:
        return EffectFault(
            f"{action}: the value of ${self.number} {self.problem}. Change the value; nothing was sent.",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"parameter": self.number},
            error_kind="INVALID_VALUE",
            phase=EnumFaultPhase.NOT_SENT,
        )


def bind(params: Sequence[JsonValue], check: Callable[[JsonValue], str | None]) -> list[object]:
    """The values to bind, in order. `check` says what a database cannot store about a scalar, or returns None.

    Raises UnfitValueError.
    """
    bound: list[object] = []
    for value in params:
        kind = type(value)
        if kind is list or kind is dict:
            try:
                text = _encode_json(value)
            except (ValueError, RecursionError):
                raise UnfitValueError(len(bound) + 1, "is nested too deeply, or holds NaN or Infinity") from None
            problem = check(text)
            bound.append(text)
        else:
            problem = check(value) if value is not None and kind is not bool else None
            bound.append(value)
        if problem is not None:
            raise UnfitValueError(len(bound), problem)
    return bound


def unfit_text(value: str) -> str | None:
    """What is wrong with a text for any database: lone surrogates have no UTF-8."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate, which UTF-8 cannot carry"
    return None


class DuplicateColumnsError(Exception):
    """A result with two columns of one name; turned into a fault by `fault`."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names

    def fault(self, action: str) -> EffectFault:
        return EffectFault(
            f"{action}: the result has more than one column named {', '.join(map(repr, self.names))}. "
            "Give each column its own name with AS; the statement itself was carried out.",
            EnumCoreErrorCode.VALIDATION_ERROR,
            {"columns": self.names},
            error_kind="DUPLICATE_COLUMN",
            phase=EnumFaultPhase.DONE,
        )


def column_names(names: list[str]) -> list[str]:
    """The keys of the rows. Raises DuplicateColumnsError, because one of two values would be lost silently."""
    if len(set(names)) != len(names):
        raise DuplicateColumnsError(sorted({name for name in names if names.count(name) > 1}))
    return names


_NATIVE = frozenset({str, int, type(None), bool})


def rows_as_json(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[JsonValue]:
    """Rows whose values may be bytes or floats that JSON lacks; looked through in C, converted only if there are."""
    kinds = set(map(type, chain.from_iterable(rows)))
    if not kinds <= _NATIVE and (bytes in kinds or not all_finite(chain.from_iterable(rows))):
        return [dict(zip(names, map(plain_value, row), strict=True)) for row in rows]
    return as_dicts(names, rows)


def as_dicts(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[JsonValue]:
    """Rows whose values are JSON already, which their type does not say. `strict` would cost a fifth of it."""
    return [dict(zip(names, row)) for row in rows]  # type: ignore[arg-type]  # noqa: B905


def all_finite(values: Iterable[object]) -> bool:
    """Whether the floats among `values` are all finite (in doubt False: a sum of finite floats can overflow)."""
    return math.isfinite(sum([value for value in values if type(value) is float]))


def plain_value(value: object) -> JsonValue:
    """One value as JSON."""
    if isinstance(value, bytes):
        return as_base64(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    # the drivers have turned every other kind into JSON already
    return value  # type: ignore[return-value]


def as_base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode("ascii")


def iso_timestamp(text: str) -> str:
    """`2024-01-02 03:04:05+00` as `2024-01-02T03:04:05+00:00`; what ISO 8601 cannot say (`infinity`, BC) stays as it
    is.
    """
    if text[10:11] != " " or text.endswith("BC"):
        return text
    return f"{text[:10]}T{iso_offset(text[11:])}"


def iso_offset(text: str) -> str:
    """A time whose offset of whole hours gets its minutes."""
    return text + ":00" if text[-3:-2] in {"+", "-"} else text


class SizeBudget:
    """Counts the bytes of fetched batches as JSON, and refuses what the operator's policy does not allow to be held."""

    def __init__(self, limit_bytes: int, action: str) -> None:
        self._left = self._limit = limit_bytes
        self._action = action

    def spend(self, rows: Sequence[Sequence[object]]) -> None:
        """Raises EffectFault once more than `policy.max_response_bytes` were fetched."""
        self._left -= len(to_json(rows, inf_nan_mode="strings", fallback=str, bytes_mode="base64"))
        if self._left < 0:
            raise EffectFault(
                f"{self._action}: the rows exceed {self._limit} bytes, which is what policy.max_response_bytes allows. "
                "Select less, or raise the limit in the settings.",
                error_kind="TOO_LARGE",
                phase=EnumFaultPhase.REJECTED,
            )


def read_options(connection: ModelConnection, label: str, known: dict[str, tuple[type, ...]]) -> dict[str, object]:
    """The options of a connection, each of a known name and type.

    Raises ModelOnexError CONFIGURATION_ERROR that names what is known.
    """
    for name, value in connection.options.items():
        kinds = known.get(name)
        if kinds is None:
            raise configuration_error(
                f"{label}: unknown option {name!r}. Known are {', '.join(sorted(known))}; correct or remove it."
            )
        if type(value) not in kinds:
            allowed = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise configuration_error(f"{label}: option {name!r} is {value!r}, but must be {allowed}.")
    return dict(connection.options)


def read_pool_size(options: dict[str, object], label: str) -> int:
    size = options.get("pool_size", 10)
    if not isinstance(size, int) or not 1 <= size <= 1000:
        raise configuration_error(f"{label}: option 'pool_size' is {size!r}, but must be a whole number 1..1000.")
    return size


def configuration_error(message: str) -> ModelOnexError:
    return ModelOnexError(message, EnumCoreErrorCode.CONFIGURATION_ERROR)


TRANSACTION_WORDS = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "xa"}
)


SESSION_WORDS = frozenset({"set", "reset", "discard", "listen", "use", "lock", "load", "pragma", "attach", "detach"})
"""Statements whose effect stays with the connection, which therefore is not lent to others after them."""


def refuse_transaction_control(word: str, action: str) -> None:
    """A statement must not begin or end a transaction behind the adapter's back: its state would be a guess."""
    if word in TRANSACTION_WORDS:
        raise EffectFault(
            f"{action}: {word.upper()} controls a transaction, which statements must not do. "
            "Use the contract's `transaction:` block, or `db.transaction(...)` in Python; nothing was sent.",
            EnumCoreErrorCode.VALIDATION_ERROR,
            error_kind="TRANSACTION_CONTROL",
            phase=EnumFaultPhase.NOT_SENT,
        )
