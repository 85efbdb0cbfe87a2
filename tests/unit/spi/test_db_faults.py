"""Every exception of the database drivers has a row of its own subject, and becomes a fault that shows no data."""

import inspect
import re
import sqlite3
from collections.abc import Iterator

import asyncmy.errors
import psycopg
import psycopg.errors
import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_spi import _errors
from omnibase_spi.db.faults import masked, mysql_fault, postgres_fault, sqlite_fault

NOT_SENT, REJECTED, AMBIGUOUS = EnumFaultPhase.NOT_SENT, EnumFaultPhase.REJECTED, EnumFaultPhase.AMBIGUOUS


def _exceptions(module: object) -> Iterator[type[Exception]]:
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, Exception):
            yield found


@pytest.mark.parametrize("cls", [cls for cls in _exceptions(psycopg.errors) if cls.__module__.startswith("psycopg")])
def test_every_exception_of_psycopg_has_a_row(cls: type[Exception]) -> None:
    """Found by class, or by SQLSTATE first where it has one."""
    row = _errors.find_row(_errors.POSTGRES_ROWS, cls.__new__(cls))

    assert row is not None


@pytest.mark.parametrize("cls", list(_exceptions(sqlite3)))
def test_every_exception_of_sqlite3_has_a_row(cls: type[Exception]) -> None:
    """Found by class, or by the result code first."""
    assert _errors.find_row(_errors.SQLITE_ROWS, cls()) is not None


@pytest.mark.parametrize("cls", list(_exceptions(asyncmy.errors)))
def test_every_exception_of_asyncmy_has_a_row(cls: type[Exception]) -> None:
    """Found by class, or by the error number first."""
    assert _errors.find_row(_errors.MYSQL_ROWS, cls()) is not None


def test_every_result_code_of_sqlite_is_judged() -> None:
    """Each primary code that means a failure has a row, or its class does; success and notices are none."""
    silent = {"SQLITE_OK", "SQLITE_ROW", "SQLITE_DONE", "SQLITE_NOTICE", "SQLITE_WARNING"}
    generic = {"SQLITE_INTERNAL", "SQLITE_ABORT", "SQLITE_NOTFOUND", "SQLITE_PROTOCOL", "SQLITE_EMPTY"}
    generic |= {"SQLITE_MISUSE", "SQLITE_NOLFS", "SQLITE_FORMAT", "SQLITE_DENY", "SQLITE_IGNORE"}
    actions = {name for name in dir(sqlite3) if name.startswith(("SQLITE_CREATE", "SQLITE_DROP", "SQLITE_LIMIT"))}
    actions |= {name for name in dir(sqlite3) if name.startswith("SQLITE_DBCONFIG")}
    codes = {
        name
        for name in dir(sqlite3)
        if name.startswith("SQLITE_") and isinstance(getattr(sqlite3, name), int) and getattr(sqlite3, name) < 100
    }
    words = "ALTER_TABLE ANALYZE ATTACH DELETE DETACH FUNCTION INSERT PRAGMA READ RECURSIVE REINDEX SAVEPOINT SELECT"
    actions |= {f"SQLITE_{word}" for word in re.findall(r"\w+", words + " TRANSACTION UPDATE")}

    assert codes - silent - generic - actions <= set(_errors.SQLITE_CODES)


def _sqlite_error(name: str, text: str = "text") -> sqlite3.Error:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "kind", "phase", "transient"),
    [
        ("SQLITE_BUSY", "SQLITE_BUSY", REJECTED, True),
        ("SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY", REJECTED, True),
        ("SQLITE_LOCKED_SHAREDCACHE", "SQLITE_BUSY", REJECTED, True),
        ("SQLITE_CONSTRAINT_UNIQUE", "UNIQUE_VIOLATION", REJECTED, False),
        ("SQLITE_CONSTRAINT_FOREIGNKEY", "CONSTRAINT", REJECTED, False),
        ("SQLITE_READONLY_DBMOVED", "READ_ONLY", REJECTED, False),
        ("SQLITE_IOERR_WRITE", "SQLITE_IOERR", AMBIGUOUS, False),
        ("SQLITE_INTERRUPT", "ETIMEDOUT", REJECTED, False),
    ],
)
def test_extended_codes_of_sqlite_fall_back_to_their_part(
    name: str, kind: str, phase: EnumFaultPhase, transient: bool
) -> None:
    """`SQLITE_BUSY_SNAPSHOT` is `SQLITE_BUSY` unless it has a row of its own."""
    fault = sqlite_fault(_sqlite_error(name), "select on x")

    assert (fault.error_kind, fault.phase, fault.transient) == (kind, phase, transient)


@pytest.mark.parametrize(
    ("state", "kind", "phase", "transient"),
    [
        ("40001", "SERIALIZATION_FAILURE", REJECTED, True),
        ("40P01", "DEADLOCK", REJECTED, True),
        ("55P03", "LOCK_TIMEOUT", REJECTED, True),
        ("23505", "UNIQUE_VIOLATION", REJECTED, False),
        ("23503", "CONSTRAINT", REJECTED, False),
        ("42601", "SQL_ERROR", REJECTED, False),
        ("22P02", "DATA_ERROR", REJECTED, False),
        ("57014", "ETIMEDOUT", REJECTED, False),
        ("53300", "TOO_MANY_CONNECTIONS", NOT_SENT, True),
        ("57P03", "CANNOT_CONNECT_NOW", NOT_SENT, True),
        ("57P01", "ECONNRESET", AMBIGUOUS, False),
        ("08006", "ECONNRESET", AMBIGUOUS, False),
        ("28P01", "DB_SETTINGS", NOT_SENT, False),
        ("3D000", "DB_SETTINGS", NOT_SENT, False),
        ("25006", "READ_ONLY", REJECTED, False),
    ],
)
def test_sqlstates(state: str, kind: str, phase: EnumFaultPhase, transient: bool) -> None:
    """The SQLSTATE decides, by itself or by its class, and the fault carries it."""
    fault = postgres_fault(psycopg.errors.lookup(state)("text"), "select on x")

    assert (fault.error_kind, fault.phase, fault.transient) == (kind, phase, transient)
    assert fault.sqlstate == state


@pytest.mark.parametrize(
    ("number", "kind", "phase", "transient"),
    [
        (1213, "DEADLOCK", REJECTED, True),
        (1205, "LOCK_TIMEOUT", REJECTED, True),
        (1062, "UNIQUE_VIOLATION", REJECTED, False),
        (1452, "CONSTRAINT", REJECTED, False),
        (1064, "SQL_ERROR", REJECTED, False),
        (4025, "CONSTRAINT", REJECTED, False),
        (1969, "ETIMEDOUT", REJECTED, False),
        (1040, "TOO_MANY_CONNECTIONS", NOT_SENT, True),
        (1045, "DB_SETTINGS", NOT_SENT, False),
        (2003, "ECONNREFUSED", NOT_SENT, False),
        (2006, "ECONNRESET", NOT_SENT, False),
        (2013, "ECONNRESET", AMBIGUOUS, False),
        (1927, "ECONNRESET", AMBIGUOUS, False),
    ],
)
def test_error_numbers_of_mysql(number: int, kind: str, phase: EnumFaultPhase, transient: bool) -> None:
    """The number decides; the server's own ones without a row were reported, and so undone."""
    fault = mysql_fault(asyncmy.errors.OperationalError(number, "text"), "select on x")

    assert (fault.error_kind, fault.phase, fault.transient) == (kind, phase, transient)


def test_settings_are_no_kind_that_policies_retry() -> None:
    """A wrong password stays wrong."""
    error = asyncmy.errors.OperationalError(1045, "Access denied for user 'u'@'h'")
    fault = mysql_fault(error, "connecting to x", connecting=True)

    assert fault.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "Access denied for user 'u'@'h'" in fault.message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('connection failed: FATAL:  password authentication failed for user "u"', "DB_SETTINGS"),
        ("connection failed: FATAL:  sorry, too many clients already", "TOO_MANY_CONNECTIONS"),
        ("connection failed: FATAL:  the database system is starting up", "CANNOT_CONNECT_NOW"),
        ("connection failed: Connection refused", "ECONNREFUSED"),
    ],
)
def test_refusals_while_connecting(text: str, kind: str) -> None:
    """The library gives no SQLSTATE then; all of them are NOT_SENT."""
    fault = postgres_fault(psycopg.OperationalError(text), "connecting to x", connecting=True)

    assert (fault.error_kind, fault.phase) == (kind, NOT_SENT)


def test_bound_values_are_masked_longest_first() -> None:
    """A value that is part of another leaves no rest of it."""
    text = masked("found abcdef and abc and 12345", ["abc", "abcdef", 12345, None, "a"])

    assert text == "found *** and *** and ***"


def test_only_the_first_line_is_told() -> None:
    """What follows in a driver's text are details, which may hold data."""
    fault = sqlite_fault(_sqlite_error("SQLITE_ERROR", "first line\nsecond line"), "select on x")

    assert "first line" in fault.message
    assert "second" not in fault.message


def test_text_that_is_no_utf8_is_not_told() -> None:
    """sqlite3 puts the data of the column into its message."""
    text = "Could not decode to UTF-8 column 'x' with text 'secret'"
    fault = sqlite_fault(sqlite3.OperationalError(text), "select on x")

    assert "secret" not in fault.message
