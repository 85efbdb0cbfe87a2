"""The table that all benchmarks write into, printed at the end."""

import platform
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.measure import Table

pytest_plugins = ["tests.support.postgres"]

_table = Table()


@pytest.fixture
def table() -> Table:
    """The table of the run."""
    return _table


@pytest.fixture(autouse=True)
def _say_what_runs(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress, because the whole takes minutes."""
    with capsys.disabled():
        sys.stderr.write(f"  {request.node.name.removeprefix('test_').replace('_', ' ')}\n")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _table.rows:
        terminalreporter.section("ONEX benchmarks")
        terminalreporter.write_line(machine())
        terminalreporter.write_line(_table.text())


def machine() -> str:
    """Processor, Python and date, in a line."""
    model = platform.processor() or platform.machine()
    cores = 0
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                cores += 1
    return (
        f"{model}, {cores or '?'} cores, {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
