"""A write that is cut off anywhere leaves the target entirely old or entirely new, and says truthfully which."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from omnibase_core.errors import EffectFault, EnumCoreErrorCode
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext
from tests.support import backends

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[Path | None]:
    """A directory on another file system, where this machine has one that can be written."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        backends.not_run("move across file systems", "no second file system that can be written")
        yield None
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


def _verdict(mode: str, home: Path, other: Path | None) -> dict[str, object]:
    """Run the scenarios in a process of their own: it forks, and must have a single thread."""
    command = [sys.executable, "-m", "tests.chaos.file_scenarios", str(home), mode, *([str(other)] if other else [])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert isinstance(verdict, dict)
    return verdict


def test_killed_at_any_system_call(tmp_path: Path, other_device: Path | None) -> None:
    """Killed before or after any system call, a target is old or new, and the next write leaves no temporary file."""
    verdict = _verdict("kill", tmp_path, other_device)
    if verdict["refused"]:
        backends.not_run("kill at system calls", f"{verdict['refused']}; killed at audit events instead")
        verdict = _verdict("audit", tmp_path, other_device)
    else:
        backends.ran_against("kill at system calls", f"ptrace, {sum(_points(verdict).values())} points")

    assert verdict["problems"] == []
    assert len(_points(verdict)) >= 8
    assert min(_points(verdict).values()) >= 7


def test_killed_at_any_audit_event(tmp_path: Path, other_device: Path | None) -> None:
    """The same without ptrace: a child that kills itself at any of Python's own events about files."""
    verdict = _verdict("audit", tmp_path, other_device)

    assert verdict["problems"] == []
    assert min(_points(verdict).values()) >= 5


def test_any_system_call_fails(tmp_path: Path, other_device: Path | None) -> None:
    """Whatever call fails, a fault that says REJECTED has changed nothing, and no temporary file stays."""
    verdict = _verdict("fail", tmp_path, other_device)
    if verdict["refused"] or not verdict["can_inject"]:
        why = str(verdict["refused"] or "registers are known for x86_64 only")
        backends.not_run("failing system calls", why)
        pytest.skip(why)
    backends.ran_against("failing system calls", f"ptrace, {sum(_points(verdict).values())} points")

    assert verdict["problems"] == []
    assert min(_points(verdict).values()) >= 20


def _points(verdict: dict[str, object]) -> dict[str, int]:
    points = verdict["points"]
    assert isinstance(points, dict)
    return points


async def test_a_name_that_flips_between_directory_and_link_never_leads_outside(tmp_path: Path) -> None:
    """While a thread exchanges a directory for a link to the outside, nothing outside is read or written."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    inside = root / "inside"
    for directory in (root, outside, inside):
        directory.mkdir()
    (outside / "secret").write_text("outside")
    (inside / "secret").write_text("inside")
    (root / "link").symlink_to(outside)
    (root / "flip").symlink_to("inside")
    stop = threading.Event()

    def flip() -> None:
        spare = root / "spare"
        targets = (str(outside), "inside", "../outside")
        turn = 0
        while not stop.is_set():
            spare.symlink_to(targets[turn % 3])
            spare.rename(root / "flip")
            turn += 1

    handler = FilesystemHandler([root])
    flipper = threading.Thread(target=flip)
    flipper.start()
    seen = {"inside": 0, "refused": 0, "written": 0}
    try:
        for number in range(1500):
            operation = ("read", "write", "copy")[number % 3]
            context = ModelResolvedFilesystemContext(
                timeout_ms=1000,
                operation=operation,
                file_path={"read": "flip/secret", "write": "flip/new", "copy": "inside/secret"}[operation],
                destination_path="flip/copied" if operation == "copy" else None,
                content="written",
            )
            try:
                document = await handler.execute(resolved_context=context, correlation_id=uuid4())
            except EffectFault as fault:
                assert fault.error_code == EnumCoreErrorCode.SECURITY_VIOLATION  # success is allowed too
                seen["refused"] += 1
                continue
            if operation == "read":
                assert document["content"] == "inside"
                seen["inside"] += 1
            else:
                seen["written"] += 1
    finally:
        stop.set()
        await asyncio.to_thread(flipper.join)

    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert min(seen.values()) > 0, seen


async def test_writers_of_one_target_never_mix(tmp_path: Path) -> None:
    """Many writers, more than there are slots: the target is always the whole text of one, and nothing stays."""
    handler = FilesystemHandler([tmp_path])
    target = tmp_path / "target"
    texts = [str(number) * 50_000 for number in range(10)]
    await asyncio.to_thread(target.write_text, texts[0])

    async def write(text: str) -> None:
        context = ModelResolvedFilesystemContext(
            timeout_ms=1000, operation="write", file_path="target", content=text, atomic=True
        )
        for _ in range(8):
            await handler.execute(resolved_context=context, correlation_id=uuid4())
            assert await asyncio.to_thread(target.read_text) in texts

    await asyncio.gather(*map(write, texts))

    assert os.listdir(tmp_path) == ["target"]  # names


async def test_exclusive_writers_have_one_winner(tmp_path: Path) -> None:
    """Of many writers with `overwrite: false` exactly one succeeds, and the file is its text."""
    handler = FilesystemHandler([tmp_path])

    async def write(name: str, text: str) -> str:
        context = ModelResolvedFilesystemContext(
            timeout_ms=1000, operation="write", file_path=name, content=text, atomic=True, overwrite=False
        )
        try:
            await handler.execute(resolved_context=context, correlation_id=uuid4())
        except EffectFault as fault:
            assert fault.error_code == EnumCoreErrorCode.CONFLICT  # one of them succeeds
            return ""
        return text

    for race in range(20):
        won = [text for text in await asyncio.gather(*(write(f"f{race}", str(n)) for n in range(8))) if text]
        assert len(won) == 1
        assert (tmp_path / f"f{race}").read_text() == won[0]
