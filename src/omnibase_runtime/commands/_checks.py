"""The checks of `onex doctor`. Each finds out one thing, changes nothing, and ends within a few seconds."""

import asyncio
import os
import platform
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection
from omnibase_runtime.commands._reach import connection
from omnibase_runtime.commands._render import count, milliseconds
from omnibase_runtime.settings import LoadedSettings
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.store_sql import SqlStateManager

if TYPE_CHECKING:
    from omnibase_core.models.container.model_onex_container import ModelONEXContainer

PING_SECONDS: Final = 3.0
OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"
ABSENT: Final = "absent"

_LIBRARIES: Final = ("omnibase", "pydantic", "PyYAML", "jsonschema-rs", "jsonpath-rfc9535", "typer", "rich")
_EXTRAS: Final = {
    "http": "aiohttp",
    "postgres": "psycopg",
    "mysql": "asyncmy",
    "kafka": "confluent-kafka",
    "cel": "cel-expr-python",
    "redis": "redis",
    "workflow": "dbos",
}
_OLDEST_CLOCK: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""A clock before this is wrong: this software did not exist then."""


@dataclass(frozen=True, slots=True)
class Check:
    """`status`: ok, warning (works, worth a look), absent (not installed, not needed by itself), failed."""

    group: str
    name: str
    status: str
    detail: str
    fix: str = ""


def installation() -> Iterator[Check]:
    """Versions, extras, clock and TLS."""
    yield Check("installation", "python", OK, f"{platform.python_version()} on {platform.platform(terse=True)}")
    for library in _LIBRARIES:
        yield Check("installation", library, OK, version(library))
    for extra, library in _EXTRAS.items():
        try:
            yield Check("extras", extra, OK, f"{library} {version(library)}")
        except PackageNotFoundError:
            yield Check("extras", extra, ABSENT, f"{library} is not installed", f"pip install 'omnibase[{extra}]'")
    yield _clock()
    yield _tls()


def _clock() -> Check:
    now = datetime.now(UTC)
    step = time.get_clock_info("monotonic").resolution
    detail = f"{now.isoformat(timespec='seconds')}, monotonic in steps of {step:.0e} s"
    if now < _OLDEST_CLOCK:
        return Check(
            "system", "clock", WARNING, detail, "set the clock: tokens, certificates and timestamps depend on it"
        )
    return Check("system", "clock", OK, detail)


def _tls() -> Check:
    certificates = ssl.create_default_context().cert_store_stats()["x509_ca"]
    paths = ssl.get_default_verify_paths()
    there = certificates or (paths.capath and Path(paths.capath).is_dir() and any(Path(paths.capath).iterdir()))
    if there:
        return Check("system", "tls", OK, ssl.OPENSSL_VERSION)
    return Check(
        "system", "tls", WARNING, f"{ssl.OPENSSL_VERSION}, no CA certificates", "install the ca-certificates package"
    )


def directories(loaded: LoadedSettings) -> Iterator[Check]:
    """Where ONEX keeps and finds things."""
    yield _data_dir(loaded.settings.data_dir, configured="data_dir" in loaded.sources)
    yield _secrets_dir(loaded.settings.secrets_dir, configured="secrets_dir" in loaded.sources)
    for root in loaded.settings.policy.file_roots or ():
        yield _file_root(root)


def _file_root(path: Path) -> Check:
    if path.is_dir():
        return Check("system", "file_root", OK, str(path))
    problem = "is no directory" if os.path.lexists(path) else "does not exist"
    return Check("system", "file_root", FAILED, f"{path} {problem}", "make it, or change policy.file_roots")


def _data_dir(path: Path, *, configured: bool) -> Check:
    problem = _no_writing(path)
    if problem:
        return _unwritable(path, problem, configured=configured)
    there = "is writable" if path.is_dir() else "is made when it is first needed"
    return Check("system", "data_dir", OK, f"{path} {there}")


def _no_writing(directory: Path) -> str:
    """Why nothing can be put there, or nothing; found out by writing, because root may do what the file system cannot.

    Of a directory that does not exist yet the nearest one above it is asked, in which it would be made.
    """
    there = directory
    try:
        if directory.exists() and not directory.is_dir():
            return "is no directory"
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        why = error.strerror or str(error)
        return why if there == directory else f"cannot be made in {there}: {why}"


def _unwritable(path: Path, why: str, *, configured: bool) -> Check:
    status = FAILED if configured else WARNING
    return Check("system", "data_dir", status, f"{path}: {why}", "set ONEX_DATA_DIR to a directory that can be written")


def _secrets_dir(path: Path, *, configured: bool) -> Check:
    try:
        names = [entry.name for entry in path.iterdir() if entry.is_file()]
    except FileNotFoundError:
        status, fix = (FAILED, "correct secrets_dir") if configured else (OK, "")
        return Check("system", "secrets_dir", status, f"{path} does not exist; secrets come from the environment", fix)
    except OSError as error:
        return Check(
            "system", "secrets_dir", FAILED if configured else WARNING, f"{path}: {error.strerror}", "grant access"
        )
    return Check("system", "secrets_dir", OK, f"{path}, {count(len(names), 'file')}")


def state(loaded: LoadedSettings) -> Iterator[Check]:
    """Whether the connection in which states shall be kept can be one; nothing is connected."""
    name = loaded.settings.state_connection
    if name is None:
        return
    try:
        SqlStateManager(DbAdapter(loaded.settings), name)
    except ModelOnexError as error:
        yield Check("system", "state_connection", FAILED, error.message, "correct the settings")
    else:
        yield Check("system", "state_connection", OK, f"states are kept in connection {name!r}")


def with_database(loaded: LoadedSettings) -> LoadedSettings:
    """The settings with the database of workflows among the connections, so that it is asked like them."""
    url = loaded.settings.database_url
    if url is None:
        return loaded
    named = {**loaded.settings.connections, "database_url": ModelConnection(url=url)}
    return replace(loaded, settings=loaded.settings.model_copy(update={"connections": named}))


async def connections(container: "ModelONEXContainer", loaded: LoadedSettings) -> list[Check]:
    """All configured connections, asked at once, each for at most `PING_SECONDS`."""
    names = list(loaded.settings.connections)
    try:
        return list(await asyncio.gather(*(_connection(container, loaded, name) for name in names)))
    finally:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await container.aclose()
        except (TimeoutError, ExceptionGroup):
            pass  # whether they can be reached is known by now


async def _connection(container: "ModelONEXContainer", loaded: LoadedSettings, name: str) -> Check:
    url = loaded.settings.connections[name].url.get_secret_value()
    family = "kafka" if url.startswith("kafka:") else "db"
    known = connection(name, family, loaded)
    where = known.target
    started = time.monotonic()
    try:
        missing = _sqlite_file_to_be(url)
        if missing is not None:
            container.get_service(DbAdapter).driver_name(name)  # raises when it is set up wrongly
            return _missing_sqlite(name, missing)
        adapter = container.get_service({"kafka": "KafkaAdapter", "db": "DbAdapter"}[family])
        ping: Callable[[str], Awaitable[None]] | None = getattr(adapter, "ping", None)
        if ping is None:
            return Check("connections", name, WARNING, f"{where}: its adapter cannot be asked")
        async with asyncio.timeout(PING_SECONDS):
            await ping(name)
    except TimeoutError:
        return Check(
            "connections", name, FAILED, f"{where}: no answer within {PING_SECONDS:g} s", "check host, port, network"
        )
    except ModelOnexError as error:
        wrong = error.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
        return Check("connections", name, FAILED, f"{where}: {error.message}", "correct the settings" if wrong else "")
    return Check("connections", name, OK, f"{where} answered in {milliseconds((time.monotonic() - started) * 1_000)}")


def _sqlite_file_to_be(url: str) -> Path | None:
    """The file of an SQLite connection that does not exist yet: asking the database would make it."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path == ":memory:" or "\0" in path:
        return None
    return None if os.path.lexists(path) else Path(path)


def _missing_sqlite(name: str, file: Path) -> Check:
    problem = _no_writing(file.parent)
    if not problem:
        return Check("connections", name, OK, f"{file} is made when it is first used")
    fix = "correct the url, or grant the permission to write there"
    return Check("connections", name, FAILED, f"{file}: its directory {file.parent}: {problem}", fix)
