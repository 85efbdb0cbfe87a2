"""The handler of file operations: each runs, whole, in one thread of the event loop's default executor.

The default executor belongs to the loop, so that a handler which is never closed keeps no thread, and `asyncio.run`
waits for work in flight by itself. It also means that files share those threads with the program's own `to_thread`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.handlers.confined_path import FileRoots
from omnibase_core.handlers.filesystem_job import Document, FileJob, JobCancelledError
from omnibase_core.handlers.filesystem_operations import perform
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedFilesystemContext,
    ResolvedIOContext,
)


class FilesystemHandler:
    """Reads, writes, copies, moves and deletes files under the roots.

    roots: directories below which files may be touched (`ModelPolicy.file_roots`); a relative path belongs to the
        first. None: the current directory at the time of each call; an empty sequence: nothing may be touched.
    max_file_bytes: cap of what a read or write holds in memory, and of what a rename digests; copies are streamed and
        may be larger.

    Documents, `path` and `destination_path` as the contract gave them, `resolved_path` absolute with links resolved:

    * read: path, resolved_path, size_bytes, sha256, content, encoding, modified_at (UTC, ISO 8601)
    * write: path, resolved_path, size_bytes, bytes_written, sha256, created (the file did not exist)
    * copy, move: path, destination_path, resolved_path, resolved_destination_path, size_bytes, sha256 (null for a
      renamed link, a renamed file over `max_file_bytes`, or one that may not be read)
    * delete: path, existed, deleted, and resolved_path if it existed

    Success means durable: file and directory are fsynced. An atomic write, a copy and a move across file systems show
    the target entirely old or entirely new; they leave a temporary file `.{name}.onex-*.tmp` only if the process is
    killed, and the next write of the same target removes it. Replacing a file keeps its mode, but not its hard links,
    ACL and extended attributes. Directories made by `create_dirs` stay when a later step fails.

    Cancellation waits for the thread, which stops at the next chunk and clears up, or, once the target has changed,
    finishes: the operation then *was* carried out although the caller sees only the cancellation. Only a large write
    that is not atomic may stop in its middle.

    Faults: `error_kind` is the errno's name (or OUTSIDE_ROOTS, MAGIC_LINK, NOT_A_FILE, SAME_FILE, SOURCE_CHANGED,
    UNKNOWN_ENCODING); phase NOT_SENT for what is refused unread, REJECTED when nothing was changed, AMBIGUOUS when the
    target changed and a later step failed (the fsync of its directory: the change is visible but may not survive a loss
    of power; an in-place write: the file may hold a part), DONE for a file that was read and is no text.
    """

    def __init__(self, roots: Sequence[Path] | None = None, *, max_file_bytes: int = 256 * 1024 * 1024) -> None:
        self._roots = FileRoots(roots)
        self._max_file_bytes = max_file_bytes
        self._running: set[_Run] = set()

    def __repr__(self) -> str:
        return f"FilesystemHandler({self._roots!r}, max_file_bytes={self._max_file_bytes})"

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> dict[str, JsonValue]:
        """Carry one operation out and return its document. Raises EffectFault."""
        if not isinstance(resolved_context, ModelResolvedFilesystemContext):
            raise ModelOnexError(
                f"FilesystemHandler got a {type(resolved_context).__name__}; it takes a ModelResolvedFilesystemContext."
                " Look at the handler registered for this kind.",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
                correlation_id=correlation_id,
            )
        run = _Run(FileJob(resolved_context, correlation_id, self._roots, self._max_file_bytes))
        self._running.add(run)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, run)
        except asyncio.CancelledError:
            run.cancel()
            await run.settled()
            raise
        except JobCancelledError:
            # Only aclose() cancels a job whose caller still waits.
            raise run.job.fault(
                "the handler was closed meanwhile. Do not close the container while operations run.",
                "CLOSED",
                run.job.phase,
                EnumCoreErrorCode.CANCELLED,
            ) from None
        except GeneratorExit:  # the coroutine is closed and may not wait: the thread clears up by itself
            run.cancel()
            raise
        finally:
            self._running.discard(run)

    async def aclose(self) -> None:
        """Stop operations in flight at their next chunk and wait for them. The handler can be used again."""
        running = list(self._running)
        for run in running:
            run.cancel()
        for run in running:
            await run.settled()


class _Run:
    """A job on its way through a thread: may be dropped before it starts, and tells when it has ended."""

    __slots__ = ("_ended", "_lock", "_started", "_tell", "job")

    def __init__(self, job: FileJob) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._started = self._ended = False
        self._tell: list[Callable[[], object]] = []

    def __call__(self) -> Document:
        with self._lock:
            self._started = True
        try:
            return perform(self.job)
        finally:
            with self._lock:
                self._ended = True
            for tell in self._tell:
                with contextlib.suppress(RuntimeError):  # the loop that wanted to know is closed
                    tell()

    def cancel(self) -> None:
        self.job.cancelled = True

    async def settled(self) -> None:
        """Wait until the thread is done with the job; a job that has not started will do nothing any more.

        A cancellation does not end the wait, and passes after it.
        """
        cancelled = False
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with self._lock:
            if self._ended or not self._started:
                return
            self._tell.append(lambda: loop.call_soon_threadsafe(done.set_result, None))
        while not done.done():
            try:
                await asyncio.wait((done,))
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
