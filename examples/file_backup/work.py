"""What local and S3 backups share: the four steps, stopping, and waiting for a thread without losing it."""

import asyncio
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

from examples.file_backup.models import ModelFileBackupInput
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault

T = TypeVar("T")
CHUNK_BYTES: Final = 1 << 20


class Hash(Protocol):
    """What we need of a hash object of `hashlib`."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


NewHash = Callable[[], Hash]
OnBytes = Callable[[int], None]
"""Told from a worker thread how many bytes were copied since the last call; negative when a copy was given up."""
ReadBack = Callable[[Iterator[bytes]], Iterator[bytes]]
"""Stands between the backup as it is stored and its verification; by default it hands the chunks on."""


def as_stored(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The default `ReadBack`."""
    return chunks


class StoppedError(Exception):
    """Nobody waits for this backup any more."""


class Backup(ABC):
    """One backup on its way, in blocking steps that each run in a thread: `place`, `verify`, then `commit` or `undo`.

    `undo` may be called at any time, more than once, and while another step runs: that one stops at its next chunk.
    After `commit` there is nothing to undo any more. The steps exclude each other.
    """

    def __init__(
        self, request: ModelFileBackupInput, read_back: ReadBack, new_hash: NewHash, on_bytes: OnBytes
    ) -> None:
        self.request = request
        self.source_size_bytes = 0
        self.backup_size_bytes = 0
        self.digest = ""
        self.verified = False
        self.checksum_match: bool | None = None
        self.rolled_back = False
        self._read_back = read_back
        self._new_hash = new_hash
        self._on_bytes = on_bytes
        self._told = 0
        self._stopped = self._ended = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let a step that is running stop at its next chunk, and no other begin."""
        self._stopped = True

    def place(self) -> None:
        """Copy the source, and give the copy the backup's name; what stood there is kept until `commit`."""
        with self._lock:
            self.check()
            try:
                self._place()
            except BaseException:
                self._on_bytes(-self._told)
                raise

    def verify(self) -> None:
        """Read the backup back; EffectFault CHECKSUM_MISMATCH when it is not what was read from the source."""
        with self._lock:
            self.check()
            digest, size = self._new_hash(), 0
            for chunk in self._read_back(self._stored()):
                digest.update(chunk)
                size += len(chunk)
                self.check()
            self.verified = True
            self.checksum_match = (size, digest.hexdigest()) == (self.source_size_bytes, self.digest)
            if not self.checksum_match:
                raise self.fault(
                    f"what was read back is not what was read from the source: {size} bytes with SHA-256 "
                    f"{digest.hexdigest()}, expected {self.source_size_bytes} bytes with {self.digest}. "
                    "Look at the health of the device, then try again",
                    "CHECKSUM_MISMATCH",
                    transient=True,
                )

    def commit(self) -> None:
        """Let go of what stood there before."""
        with self._lock:
            if self._ended:
                raise self.fault("the backup was undone before it could be committed", "UNDONE")
            self._commit()
            self._ended = True
            self._release()

    def undo(self) -> None:
        """Bring back what stood there before, and clear up. Nothing to do after `commit` or a first `undo`."""
        self.stop()
        with self._lock:
            if self._ended:
                return
            self._ended = True
            try:
                self.rolled_back = self._undo()
            finally:
                self._release()

    def check(self) -> None:
        """Stop here if nobody waits any more."""
        if self._stopped:
            raise StoppedError

    def copied(self, count: int) -> None:
        """Note progress, between two chunks."""
        self._told += count
        self._on_bytes(count)
        self.check()

    def fault(
        self,
        text: str,
        kind: str,
        code: EnumCoreErrorCode = EnumCoreErrorCode.OPERATION_FAILED,
        *,
        transient: bool = False,
    ) -> EffectFault:
        """A failure; REJECTED, because `undo` follows and leaves everything as it was."""
        return EffectFault(
            f"file backup of {self.request.source_path!r} to {self.request.backup_path!r}: {text}.",
            code,
            error_kind=kind,
            phase=EnumFaultPhase.REJECTED,
            transient=transient,
        )

    @abstractmethod
    def _place(self) -> None: ...
    @abstractmethod
    def _stored(self) -> Iterator[bytes]:
        """The bytes of the placed backup."""

    @abstractmethod
    def _commit(self) -> None: ...
    @abstractmethod
    def _undo(self) -> bool:
        """Whether anything that others can see was taken back."""

    @abstractmethod
    def _release(self) -> None: ...


async def in_thread(step: Callable[[], T], stop: Callable[[], None] | None = None) -> T:
    """Run a blocking step in a thread. A cancellation calls `stop`, waits for the thread to end, and passes."""
    future = asyncio.get_running_loop().run_in_executor(None, step)
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            cancelled = True
            if stop is not None:
                stop()
    if not cancelled:
        return future.result()
    if not future.cancelled():
        future.exception()  # retrieved: the cancellation is what the caller gets
    raise asyncio.CancelledError


def sha256() -> Hash:
    """The default `NewHash`."""
    return hashlib.sha256()
