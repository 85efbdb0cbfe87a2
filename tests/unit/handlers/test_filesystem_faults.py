"""How file operations fail, and how they end when nobody waits any more."""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault, EnumCoreErrorCode, ModelOnexError
from omnibase_core.handlers.filesystem_faults import fault_of
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
)
from omnibase_core.protocols.protocol_effect_handler import ProtocolEffectHandler
from omnibase_spi.filesystem import FilesystemHandler as FromSpi
from tests.unit.handlers.filesystem_calls import Run, context_of, descriptors, fault_from, names


@pytest.mark.parametrize(
    ("name", "code", "transient"),
    [
        ("ENOENT", EnumCoreErrorCode.NOT_FOUND, False),
        ("EEXIST", EnumCoreErrorCode.CONFLICT, False),
        ("EACCES", EnumCoreErrorCode.OPERATION_FAILED, False),
        ("EROFS", EnumCoreErrorCode.OPERATION_FAILED, False),
        ("ENOSPC", EnumCoreErrorCode.RESOURCE_UNAVAILABLE, False),
        ("EDQUOT", EnumCoreErrorCode.RESOURCE_UNAVAILABLE, False),
        ("EIO", EnumCoreErrorCode.OPERATION_FAILED, False),
        ("EMFILE", EnumCoreErrorCode.OPERATION_FAILED, True),
        ("EBUSY", EnumCoreErrorCode.OPERATION_FAILED, True),
        ("EINTR", EnumCoreErrorCode.OPERATION_FAILED, True),
        ("EAGAIN", EnumCoreErrorCode.OPERATION_FAILED, True),
        ("EDOM", EnumCoreErrorCode.OPERATION_FAILED, False),
    ],
)
def test_errors_of_the_system(name: str, code: EnumCoreErrorCode, transient: bool) -> None:
    """Each errno has a code and its own name as kind; one that may pass is transient only if nothing was changed."""
    import errno

    error = OSError(getattr(errno, name), "text", "entry")

    rejected = fault_of(error, "filesystem write", "'a'", EnumFaultPhase.REJECTED)
    ambiguous = fault_of(error, "filesystem write", "'a'", EnumFaultPhase.AMBIGUOUS)

    assert (rejected.error_kind, rejected.error_code, rejected.transient) == (name, code, transient)
    assert rejected.message.startswith("filesystem write of 'a': text")
    assert ambiguous.transient is False
    assert "may have taken effect" in ambiguous.message


AS_ORDINARY_USER = """
import asyncio, os, sys, uuid
from omnibase_core.errors import EffectFault
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from tests.unit.handlers.filesystem_calls import context_of
handler = FilesystemHandler([sys.argv[1]])
def write(path):
    context = context_of("write", path, content="y", atomic=True)
    asyncio.run(handler.execute(resolved_context=context, correlation_id=uuid.uuid4()))
write("open")  # everything is imported now, which an ordinary user may not be able to
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    write("locked/a")
except EffectFault as fault:
    print(fault.error_kind, fault.phase.name, fault.transient)
"""
"""Root may do everything. A process of its own: a change of user interrupts every thread of a process, also those of
client libraries that do not expect it.
"""


def test_missing_permission_is_a_permanent_rejection() -> None:
    """EACCES is REJECTED with the system's name for it, and leaves no temporary file."""
    with tempfile.TemporaryDirectory() as directory:
        locked = _locked_directory(Path(directory))
        command = [sys.executable, "-c", AS_ORDINARY_USER, directory]

        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        assert (told.stdout, told.stderr) == ("EACCES REJECTED False\n", "")
        assert names(locked) == ["a"]


def _locked_directory(root: Path) -> Path:
    """A directory with a file, in which an ordinary user may not write."""
    locked = root / "locked"
    locked.mkdir()
    (locked / "a").write_text("x")
    root.chmod(0o755)
    locked.chmod(0o555)
    return locked


async def test_a_full_device_in_the_middle_changes_nothing(run: Run, tmp_path: Path) -> None:
    """A write that the system stops half way keeps the old file (atomic) or takes back the new one (not atomic)."""
    import resource
    import signal

    (tmp_path / "a").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, limits[1]))
    try:
        atomic = await fault_from(run("write", "a", content="x" * 3_000_000, atomic=True))
        fresh = await fault_from(run("write", "new", content="x" * 3_000_000))
        rewritten = await fault_from(run("write", "a", content="x" * 3_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert (atomic.error_kind, atomic.phase) == ("EFBIG", EnumFaultPhase.REJECTED)
    assert (fresh.error_kind, fresh.phase) == ("EFBIG", EnumFaultPhase.REJECTED)
    assert (rewritten.error_kind, rewritten.phase) == ("EFBIG", EnumFaultPhase.AMBIGUOUS)
    assert names(tmp_path) == ["a"]


async def test_faults_carry_the_correlation_id_and_pickle(tmp_path: Path) -> None:
    """A fault says to which call it belongs, and survives the way to another process."""
    handler, correlation_id = FilesystemHandler([tmp_path]), uuid4()

    for path in ("missing", "../outside"):
        with pytest.raises(EffectFault) as caught:
            await handler.execute(resolved_context=context_of("read", path), correlation_id=correlation_id)

        again = pickle.loads(pickle.dumps(caught.value))
        assert again.correlation_id == correlation_id
        assert again.phase is caught.value.phase


async def test_other_contexts_are_refused() -> None:
    """A context of another kind is CONFIGURATION_ERROR: the registry points to the wrong handler."""
    with pytest.raises(ModelOnexError) as caught:
        await FilesystemHandler().execute(
            resolved_context=ModelResolvedDbContext(timeout_ms=1, connection_name="c"), correlation_id=uuid4()
        )

    assert caught.value.error_code == EnumCoreErrorCode.CONFIGURATION_ERROR


def test_it_is_a_handler() -> None:
    """The class satisfies the protocol, and adapters find it in `omnibase_spi`."""
    handler: ProtocolEffectHandler = FilesystemHandler()

    assert isinstance(handler, ProtocolEffectHandler)
    assert FromSpi is FilesystemHandler


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("the operation did not get that far")


@pytest.mark.parametrize("operation", ["copy", "write"])
async def test_cancellation_waits_until_everything_is_in_order(tmp_path: Path, operation: str) -> None:
    """After a cancellation the target is entirely old or entirely new, and neither file nor descriptor is left."""
    handler = FilesystemHandler([tmp_path])
    size = 64 * 1024 * 1024
    (tmp_path / "source").write_bytes(b"n" * size)
    (tmp_path / "a").write_text("old")
    context = (
        context_of("copy", "source", destination_path="a")
        if operation == "copy"
        else context_of("write", "a", content="n" * size, atomic=True)
    )
    await handler.execute(resolved_context=context_of("read", "a"), correlation_id=uuid4())
    before = descriptors()
    task = asyncio.create_task(handler.execute(resolved_context=context, correlation_id=uuid4()))
    await _until(lambda: any(name.endswith(".tmp") for name in names(tmp_path)))

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert names(tmp_path) == ["a", "source"]
    assert (tmp_path / "a").stat().st_size in {3, size}
    assert descriptors() == before


async def test_a_second_cancellation_does_not_cut_the_tidying_short(tmp_path: Path) -> None:
    """However often it is cancelled, the coroutine ends only after its thread has."""
    handler = FilesystemHandler([tmp_path])
    context = context_of("write", "a", content="n" * 64 * 1024 * 1024, atomic=True)
    task = asyncio.create_task(handler.execute(resolved_context=context, correlation_id=uuid4()))
    await _until(lambda: any(name.endswith(".tmp") for name in names(tmp_path)))

    while not task.done():
        task.cancel()
        await asyncio.sleep(0)

    assert task.cancelled()
    assert [name for name in names(tmp_path) if name.endswith(".tmp")] == []


async def test_an_operation_that_waits_for_a_thread_is_dropped(tmp_path: Path) -> None:
    """Cancelled before a thread was free, an operation never starts, and the cancellation does not wait for one."""
    handler = FilesystemHandler([tmp_path])
    release = threading.Event()
    loop = asyncio.get_running_loop()
    blockers = [loop.run_in_executor(None, release.wait) for _ in range((os.cpu_count() or 1) + 4)]
    try:
        context = context_of("write", "a", content="x", atomic=True)
        task = asyncio.create_task(handler.execute(resolved_context=context, correlation_id=uuid4()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        release.set()
        await asyncio.gather(*blockers)
    await handler.execute(resolved_context=context_of("write", "b", content="x"), correlation_id=uuid4())

    assert names(tmp_path) == ["b"]


async def test_a_closed_coroutine_tidies_up_too(tmp_path: Path) -> None:
    """A caller that closes the coroutine instead of cancelling it leaves no temporary file either."""
    handler = FilesystemHandler([tmp_path])
    context = context_of("write", "a", content="n" * 64 * 1024 * 1024, atomic=True)
    coroutine = handler.execute(resolved_context=context, correlation_id=uuid4())
    coroutine.send(None)
    await _until(lambda: any(name.endswith(".tmp") for name in names(tmp_path)))

    coroutine.close()

    await _until(lambda: not any(name.endswith(".tmp") for name in names(tmp_path)))


async def test_closing_stops_what_is_in_flight(tmp_path: Path) -> None:
    """`aclose` ends running operations in good order: each of them either succeeded or says that it was stopped."""
    handler = FilesystemHandler([tmp_path])
    context = context_of("write", "a", content="n" * 64 * 1024 * 1024, atomic=True)
    task = asyncio.create_task(handler.execute(resolved_context=context, correlation_id=uuid4()))
    await _until(lambda: any(name.endswith(".tmp") for name in names(tmp_path)))

    await handler.aclose()

    left = names(tmp_path)
    assert [name for name in left if name.endswith(".tmp")] == []
    if left:
        await task
    else:
        fault = await fault_from(task)  # type: ignore[arg-type]  # a task is awaited like a coroutine
        assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.CANCELLED, EnumFaultPhase.REJECTED)
    assert (await handler.execute(resolved_context=context_of("write", "b", content="x"), correlation_id=uuid4()))[
        "created"
    ]


def test_one_handler_serves_several_loops_and_leaves_nothing(tmp_path: Path) -> None:
    """Several `asyncio.run` one after another work, and leave no thread, descriptor or warning without a close."""
    handler = FilesystemHandler([tmp_path])
    threads, before = threading.active_count(), descriptors()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            context = context_of("write", "a", content=str(number), atomic=True)
            asyncio.run(handler.execute(resolved_context=context, correlation_id=uuid4()))
        del handler
        gc.collect()

    assert (tmp_path / "a").read_text() == "2"
    assert threading.active_count() == threads
    assert descriptors() == before


async def test_failures_leave_no_descriptor(run: Run, tmp_path: Path) -> None:
    """Whatever is refused, every descriptor is closed again."""
    (tmp_path / "d").mkdir()
    (tmp_path / "a").write_bytes(b"\xff")
    (tmp_path / "loop").symlink_to("loop")
    await fault_from(run("read", "missing"))
    before = descriptors()

    for operation, path in (
        ("read", "d"),
        ("read", "a"),
        ("read", "loop/x"),
        ("read", "../x"),
        ("write", "a/b"),
        ("move", "missing"),
        ("copy", "d"),
        ("delete", "d"),
    ):
        await fault_from(run(operation, path, content="x", destination_path="new/b"))

    assert descriptors() == before
