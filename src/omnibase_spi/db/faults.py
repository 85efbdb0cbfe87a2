"""Driver exceptions as faults, by the tables of `omnibase_spi._errors`.

A message carries the first line of the database's own text and the SQLSTATE, never what was bound: PostgreSQL's DETAIL
is left out, quoted values are masked where a database quotes data, and every bound value that still occurs in the text
is masked too. The driver's exception is not chained, because it holds all of that.
"""

import re
from collections.abc import Mapping, Sequence

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_spi import _errors
from omnibase_spi._errors import FaultRow

_MASK = "***"
_DOUBLE_QUOTED = re.compile(r'".*"', re.DOTALL)
_SINGLE_QUOTED = re.compile(r"'.*'", re.DOTALL)
_KEPT_KEY = re.compile(r"(.*)( for key '[^']*')$", re.DOTALL)
_QUOTES_NAMES = frozenset(
    {1044, 1045, 1048, 1049, 1050, 1051, 1054, 1060, 1061, 1091, 1142, 1143, 1146, 1264, 1305, 1364, 1406, 1451, 1452}
)
"""Error numbers of MySQL whose quotes hold names of users, tables and columns; elsewhere they may hold data."""

_ADVICE = {
    "ECONNREFUSED": "Check that the server runs and that the connection's URL names it.",
    "ECONNRESET": "Whether the statement took effect is not known, unless the phase says that it was not sent.",
    "DB_SETTINGS": "Check the connection's URL in the settings: user, password, database, file.",
    "TOO_MANY_CONNECTIONS": "Lower pool_size, or raise the server's limit.",
    "READ_ONLY": "Statements that write need operation and read_only to say so.",
}


def sqlite_fault(error: BaseException, action: str, params: Sequence[object] = ()) -> EffectFault:
    code: str = getattr(error, "sqlite_errorname", None) or ""
    row = None
    name = code
    while name and row is None:
        row = _errors.SQLITE_CODES.get(name)
        name = name.rpartition("_")[0]
    row = row or _row(_errors.SQLITE_ROWS, error)
    text = str(error).partition(" with text ")[0]  # "Could not decode to UTF-8 column 'x' with text ...", which is data
    if text.startswith("bad JSON path"):
        text = _SINGLE_QUOTED.sub(f"'{_MASK}'", text)
    return _fault(row, action, text, code, params)


def postgres_fault(
    error: BaseException, action: str, params: Sequence[object] = (), *, connecting: bool = False
) -> EffectFault:
    state: str = getattr(error, "sqlstate", None) or ""
    diagnostic = getattr(error, "diag", None)
    reported = getattr(diagnostic, "message_primary", None)
    ends_session = getattr(diagnostic, "severity_nonlocalized", None) in {"FATAL", "PANIC"}
    row = _errors.POSTGRES_STATES.get(state) or _errors.POSTGRES_STATES.get(state[:2])
    if row is None or (ends_session and not connecting and row.phase is EnumFaultPhase.REJECTED):
        if connecting:
            row = _errors.find_row(_errors.POSTGRES_ROWS, error)
            if row is None or row.phase is EnumFaultPhase.AMBIGUOUS:
                row = _errors.POSTGRES_CONNECT
        elif state and not ends_session:
            row = _errors.POSTGRES_REPORTED
        else:
            row = _row(_errors.POSTGRES_ROWS, error)
    if connecting:
        text, row = _connect_text(str(error), row)
    else:
        text = reported or str(error)
    if state.startswith("22"):
        text = _DOUBLE_QUOTED.sub(f'"{_MASK}"', text)
    return _fault(row, action, text, state, params, sqlstate=state or None)


def _connect_text(text: str, row: FaultRow) -> tuple[str, FaultRow]:
    """The library gives no SQLSTATE for a refused log-in, so its (English) severity line is read."""
    if row is _errors.POSTGRES_CONNECT and "FATAL:" in text:
        lowered = text.lower()
        if "too many" in lowered or "remaining connection slots" in lowered:
            row = _errors.POSTGRES_STATES["53300"]
        elif "starting up" in lowered or "shutting down" in lowered or "recovery mode" in lowered:
            row = _errors.POSTGRES_STATES["57P03"]
        else:
            row = _errors.POSTGRES_STATES["28"]
    return text.strip(), row


def mysql_fault(
    error: BaseException, action: str, params: Sequence[object] = (), *, connecting: bool = False
) -> EffectFault:
    number, text = _mysql_parts(error)
    row = _errors.MYSQL_NUMBERS.get(number)
    if row is None:
        if connecting:
            row = _errors.MYSQL_CONNECT
        elif 1000 <= number < 2000 or number >= 3000:
            row = _errors.MYSQL_REPORTED
        else:
            row = _row(_errors.MYSQL_ROWS, error)
    if connecting and row.phase is not EnumFaultPhase.NOT_SENT:
        row = _errors.MYSQL_CONNECT
    if number not in _QUOTES_NAMES and not connecting:
        kept = _KEPT_KEY.match(text)
        head, tail = (kept[1], kept[2]) if kept else (text, "")
        text = _SINGLE_QUOTED.sub(f"'{_MASK}'", head) + tail
    state: str | None = getattr(error, "sqlstate", None)
    return _fault(row, action, text, f"error {number}" if number else "", params, sqlstate=state)


def _mysql_parts(error: BaseException) -> tuple[int, str]:
    match error.args:
        case (int(number), str(text)):
            return number, text
        case (str(text), *_):
            return 0, text
        case _:
            return 0, type(error).__name__


def _row(rows: Mapping[str, FaultRow], error: BaseException) -> FaultRow:
    """The row of an exception's class; one without (a defect of the driver) is treated as a lost connection."""
    return _errors.find_row(rows, error) or FaultRow("DB_DRIVER", EnumFaultPhase.AMBIGUOUS)


def _fault(
    row: FaultRow, action: str, text: str, code: str, params: Sequence[object], *, sqlstate: str | None = None
) -> EffectFault:
    lines = masked(text, params).strip().splitlines()
    first = lines[0].strip().rstrip(".") if lines else "no further text"
    tail = f" [{code}]" if code else ""
    if sqlstate and sqlstate not in tail:
        tail = f" [{code}, SQLSTATE {sqlstate}]" if code else f" [SQLSTATE {sqlstate}]"
    advice = _ADVICE.get(row.error_kind, "")
    return EffectFault(
        f"{action} failed: {first}{tail}.{' ' if advice else ''}{advice}",
        row.error_code,
        {"database_code": code} if code else None,
        error_kind=row.error_kind,
        phase=row.phase,
        transient=row.transient,
        sqlstate=sqlstate,
    )


def masked(text: str, params: Sequence[object]) -> str:
    """The text without any bound value of three characters or more."""
    values = {value if isinstance(value, str) else str(value) for value in params if value is not None}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= 3:
            text = text.replace(value, _MASK)
    return text
