"""A private MariaDB server for the tests, where one is installed, and what its general log says was executed."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import backends

_STATEMENT = re.compile(r"^(?:\d{6} [ \d]\d:\d\d:\d\d)?\t+ *\d+ Query\t(?P<sql>.*)$")
_START_SECONDS = 30.0


@dataclass(frozen=True)
class MariadbBackend:
    """`log` is None for a server that was not started here, whose log cannot be read."""

    url: str
    log: Path | None

    def mark(self) -> int:
        """The end of the log at this moment."""
        return self.log.stat().st_size if self.log else 0

    def statements_since(self, mark: int) -> list[str]:
        """The statements that the server logged since, in order, each as its first line."""
        if self.log is None:
            pytest.skip("the log of a server that was given by ONEX_TEST_MARIADB cannot be read")
        with self.log.open("rb") as log:
            log.seek(mark)
            lines = log.read().decode(errors="replace").splitlines()
        return [match["sql"] for match in map(_STATEMENT.match, lines) if match]


@pytest.fixture(scope="session")
def mariadb_backend() -> Iterator[MariadbBackend]:
    given = os.environ.get("ONEX_TEST_MARIADB")
    if given:
        backends.ran_against("MariaDB", "the server of ONEX_TEST_MARIADB")
        yield MariadbBackend(given, None)
        return
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    server = shutil.which("mariadbd", path=search)
    install = shutil.which("mariadb-install-db", path=search)
    if server is None or install is None:
        why = "no mariadbd is installed (apt-get install mariadb-server), and ONEX_TEST_MARIADB is not set"
        backends.not_run("MariaDB", why)
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="onex-mariadb-") as name:
        yield from _started(server, install, Path(name))


def _started(server: str, install: str, directory: Path) -> Iterator[MariadbBackend]:
    data, log, path = directory / "data", directory / "general.log", directory / "socket"
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *user,
        ],
        check=True,
        capture_output=True,
    )
    first = directory / "first.sql"
    first.write_text("CREATE DATABASE onex CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n", encoding="utf-8")
    port = _free_port()
    process = subprocess.Popen(
        [
            server,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={path}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--general-log",
            f"--general-log-file={log}",
            f"--pid-file={directory / 'pid'}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=32M",
            "--innodb-lock-wait-timeout=1",
            "--innodb-fast-shutdown=2",
            f"--init-file={first}",
            *user,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(path, process)
        version = subprocess.run([server, "--version"], check=True, capture_output=True, text=True).stdout
        backends.ran_against("MariaDB", f"version {version.split('Ver ')[-1].split('-')[0]}, started by the tests")
        yield MariadbBackend(f"mariadb://root@127.0.0.1:{port}/onex", log)
    finally:
        process.kill()  # its data is thrown away, and an orderly end takes seconds
        process.wait()


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """There is no event to wait for: the server says nothing when it is ready, but its socket answers."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"mariadbd ended with status {process.returncode} while it started")
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
                if probe.recv(5):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"mariadbd did not answer within {_START_SECONDS} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def mariadb_url(mariadb_backend: MariadbBackend) -> str:
    return mariadb_backend.url
