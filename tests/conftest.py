"""Fixtures of real servers, and a summary that says what ran against what."""

import pytest

from tests.support import backends

pytest_plugins = [
    "tests.support.http_server",
    "tests.support.postgres",
    "tests.support.mariadb",
    "tests.support.kafka",
    "tests.support.databases",
    "tests.support.cli",
    "tests.support.engines",
]

_from_workers: dict[str, str] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """Collect the notes of a parallel worker."""
    _from_workers.update(getattr(node, "workeroutput", {}).get("backends", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["backends"] = backends.seen()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = {**_from_workers, **backends.seen()}
    if rows:
        terminalreporter.section("what ran against what")
        for name, what in sorted(rows.items()):
            terminalreporter.write_line(f"{name}: {what}")
