"""A backup that is cut off anywhere leaves the previous backup or the new one, and the next run clears up."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import backends

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: the system calls are the same, and thousands of fsyncs cost nothing."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


def _verdict(mode: str, home: Path) -> dict[str, object]:
    """Run the scenarios in a process of their own: it forks, and must have a single thread."""
    command = [sys.executable, "-m", "tests.chaos.backup_scenarios", str(home), mode]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert isinstance(verdict, dict)
    return verdict


def _points(verdict: dict[str, object]) -> dict[str, int]:
    points = verdict["points"]
    assert isinstance(points, dict)
    return points


def test_killed_at_any_system_call(home: Path) -> None:
    """Killed before or after any system call, the backup is the old or the new one; the next run leaves nothing."""
    verdict = _verdict("kill", home)
    if verdict["refused"]:
        backends.not_run("kill of a backup", f"{verdict['refused']}; killed at audit events only")
        pytest.skip(str(verdict["refused"]))
    backends.ran_against("kill of a backup", f"ptrace, {sum(_points(verdict).values())} points")

    assert verdict["problems"] == []
    assert len(_points(verdict)) == 3
    assert min(_points(verdict).values()) >= 60


def test_killed_at_any_audit_event(home: Path) -> None:
    """The same without ptrace, and with the previous backup kept by a copy."""
    verdict = _verdict("audit", home)

    assert verdict["problems"] == []
    assert len(_points(verdict)) == 4
    assert min(_points(verdict).values()) >= 10


def test_any_system_call_fails(home: Path) -> None:
    """Whatever call fails, a backup that says it failed has changed nothing, or says that it may have."""
    verdict = _verdict("fail", home)
    if verdict["refused"] or not verdict["can_inject"]:
        why = str(verdict["refused"] or "registers are known for x86_64 only")
        backends.not_run("failing system calls of a backup", why)
        pytest.skip(why)
    backends.ran_against("failing system calls of a backup", f"ptrace, {sum(_points(verdict).values())} points")

    assert verdict["problems"] == []
    assert min(_points(verdict).values()) >= 30
