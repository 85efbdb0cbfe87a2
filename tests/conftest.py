"""Fixtures of real servers, a summary that says what ran against what, and failures that are told when they happen."""

import faulthandler
import os

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

_END_SECONDS = 300
"""How long a process may take from its last test to its end; then it says where it stands, and ends."""

_from_workers: dict[str, str] = {}
_own_stderr = os.dup(2)  # while tests run, pytest has a file of its own in the place of 2


class _TellFailures:
    """Tells of each failure at once: a run that is ended from outside prints no summary."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            told = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else report.longreprtext
            self._reporter.ensure_newline()
            self._reporter.write_line(f"{report.nodeid}: {report.when} failed: {told[:1000]}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_TellFailures(reporter), "tell-failures")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """Collect the notes of a parallel worker."""
    _from_workers.update(getattr(node, "workeroutput", {}).get("backends", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    faulthandler.dump_traceback_later(_END_SECONDS, exit=True, file=_own_stderr)
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["backends"] = backends.seen()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = {**_from_workers, **backends.seen()}
    if rows:
        terminalreporter.section("what ran against what")
        for name, what in sorted(rows.items()):
            terminalreporter.write_line(f"{name}: {what}")
