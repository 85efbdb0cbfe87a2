"""A backup on this machine's disks.

The copy is written beside the target, fsynced and renamed onto it. What stood there before is kept under a second name
until the backup is committed, so that a failure after the rename brings it back. That name is an undo log: a run that
finds it was preceded by one that was killed, and first rolls that one back. One run at a time works on a target; a lock
file, which dies with its process, sees to it. All three names begin with a dot and the target's name.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.work import CHUNK_BYTES, Backup, NewHash, OnBytes, ReadBack
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.handlers.atomic_file import AtomicFile
from omnibase_core.handlers.confined_path import FileRoots, Place, close_quietly
from omnibase_core.handlers.filesystem_faults import fault_of

_PURPOSE = "file backup"
_FLUSH_BYTES = 8 * CHUNK_BYTES
_LONGEST_STEM = 200
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LOCKS = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP}
_ZEROS = bytes(CHUNK_BYTES)


class LocalBackup(Backup):
    """One file to another place of the file system; mode, times and (where allowed) owner go with it.

    base: what relative paths are taken from; empty: the first root. hard_links: False keeps the previous backup by a
        copy; so does a file system that has no hard links.
    """

    def __init__(
        self,
        request: ModelFileBackupInput,
        read_back: ReadBack,
        new_hash: NewHash,
        on_bytes: OnBytes,
        *,
        roots: FileRoots,
        base: str,
        hard_links: bool,
    ) -> None:
        super().__init__(request, read_back, new_hash, on_bytes)
        self._roots = roots
        self._base = base
        self._hard_links = hard_links
        self._held = contextlib.ExitStack()
        self._target: Place | None = None
        self._previous = ""
        self._had_previous = self._kept = False
        self._placed: tuple[int, int] | None = None

    def _place(self) -> None:
        with system_errors(self), open_source(self, self._roots, self._base) as (descriptor, info):
            self.source_size_bytes = info.st_size
            target = self._open_target()
            existing = target.find_file()
            self._had_previous = existing is not None
            if existing is not None and _identity(existing) == _identity(info):
                raise self.fault("both are one and the same file", "SAME_FILE", EnumCoreErrorCode.VALIDATION_ERROR)
            mode = stat.S_IMODE(info.st_mode) & 0o777
            with AtomicFile(target, creation_mode=0o600, final_mode=mode, owner=(info.st_uid, info.st_gid)) as file:
                if self.request.atomic:
                    self._copy(descriptor, file.descriptor, info)
                    self._keep(target, existing)
                    self.check()
                    self._placed = _identity(os.fstat(file.descriptor))
                    file.commit(overwrite=True)
                    return
            # Made and dropped: it removed what a killed atomic run may have left.
            self._write_in_place(target, descriptor, info, existing)

    def _open_target(self) -> Place:
        target = Place(self._roots, _from(self._base, self.request.backup_path), _PURPOSE, create_dirs=True)
        self._held.callback(target.close)
        target.find_file()  # follows a link, so that the names below stand beside the file itself
        stem = _stem(target.name)
        self._previous = stem + "previous"
        self._held.callback(self._lock_target(target.directory, stem + "lock").close)
        self._roll_back_a_killed_run(target)
        self._target = target
        return target

    def _lock_target(self, directory: int, name: str) -> contextlib.ExitStack:
        """Take the target's lock file, or raise CONFLICT; what is returned lets it go, and removes it."""
        while True:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
            held = contextlib.ExitStack()
            held.callback(close_quietly, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.close()
                raise self.fault(
                    "another backup to this target is running; wait for it, or choose another target",
                    "TARGET_BUSY",
                    EnumCoreErrorCode.CONFLICT,
                    transient=True,
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:  # where there are no locks, one run at a time is the caller's duty
                    held.close()
                    raise
            if _names(directory, name, _identity(os.fstat(descriptor))):
                held.callback(_unlink_quietly, directory, name)
                return held
            held.close()  # its holder removed it between our open and our lock

    def _roll_back_a_killed_run(self, target: Place) -> None:
        try:
            kept = os.stat(self._previous, dir_fd=target.directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if _names(target.directory, target.name, _identity(kept)):
            os.unlink(self._previous, dir_fd=target.directory)  # killed before its rename: both names are one file
        else:
            _rename(target.directory, self._previous, target.name)
        _sync(target)

    def _keep(self, target: Place, existing: os.stat_result | None) -> None:
        """Give the previous backup its second name."""
        if existing is None:
            return
        self.check()
        directory = target.directory
        if self._hard_links:
            try:
                os.link(target.name, self._previous, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                self._kept = True
                return
        self._keep_by_copy(target)
        self._kept = True

    def _keep_by_copy(self, target: Place) -> None:
        beside = str(PurePosixPath(target.resolved).with_name(self._previous))
        descriptor, info = target.open_file()
        try:
            with (
                Place(self._roots, beside, _PURPOSE) as place,
                AtomicFile(
                    place, creation_mode=0o600, final_mode=stat.S_IMODE(info.st_mode), owner=(info.st_uid, info.st_gid)
                ) as file,
            ):
                for chunk in chunks_of(descriptor):
                    _write_all(file.descriptor, chunk)
                    self.check()
                os.utime(file.descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))
                file.commit(overwrite=True)
        finally:
            close_quietly(descriptor)

    def _write_in_place(
        self, target: Place, source: int, info: os.stat_result, existing: os.stat_result | None
    ) -> None:
        if existing is not None:
            self.check()
            # Set before the step: `undo` looks at what is there, and does the right thing either way.
            self._kept = True
            _rename(target.directory, target.name, self._previous)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(target.name, flags, 0o600, dir_fd=target.directory)
        try:
            self._placed = _identity(os.fstat(descriptor))
            self._copy(source, descriptor, info)
            os.fchmod(descriptor, stat.S_IMODE(info.st_mode) & 0o777)
            os.fsync(descriptor)
        finally:
            close_quietly(descriptor)
        _sync(target)

    def _copy(self, source: int, target: int, info: os.stat_result) -> None:
        """Stream, digesting what was read; holes of a sparse file stay holes."""
        digest = self._new_hash()
        size = flushed = 0
        sparse = info.st_blocks * 512 < info.st_size
        for chunk in chunks_of(source):
            digest.update(chunk)
            if sparse and chunk == _ZEROS[: len(chunk)]:
                os.lseek(target, len(chunk), os.SEEK_CUR)
            else:
                _write_all(target, chunk)
            size += len(chunk)
            if size - flushed >= _FLUSH_BYTES:
                # The disk begins now, not at the fsync, and a large backup does not push all else out of memory.
                _forget_pages(target, flushed, size - flushed)
                flushed = size
            self.copied(len(chunk))
            if size > info.st_size:
                break  # it grows while it is read, perhaps for ever
        if sparse:
            os.ftruncate(target, size)
        now = os.fstat(source)
        if (now.st_mtime_ns, now.st_size, size) != (info.st_mtime_ns, info.st_size, info.st_size):
            raise self.fault(
                "the source changed while it was read; nothing was replaced. Try again when its writer is done",
                "SOURCE_CHANGED",
                EnumCoreErrorCode.CONFLICT,
                transient=True,
            )
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        self.digest = digest.hexdigest()
        self.backup_size_bytes = size

    def _stored(self) -> Iterator[bytes]:
        target = self._target
        assert target is not None  # noqa: S101  # placed before it is verified
        with system_errors(self):
            descriptor, info = target.open_file()
            try:
                if _identity(info) != self._placed:
                    raise self.fault(
                        "another program replaced the backup before it was verified, and was left alone",
                        "TARGET_CHANGED",
                        EnumCoreErrorCode.CONFLICT,
                    )
                self.backup_size_bytes = info.st_size
                _forget_pages(descriptor, 0, 0)  # what is read shall come from the disk
                yield from chunks_of(descriptor)
            finally:
                close_quietly(descriptor)

    def _commit(self) -> None:
        target = self._target
        if target is None or not self._kept:
            return
        with system_errors(self), contextlib.suppress(FileNotFoundError):  # removed by hand: as good
            os.unlink(self._previous, dir_fd=target.directory)
        self._kept = False
        # Without this a loss of power could bring the second name back, and the next run would begin by rolling back.
        # Its failure changes nothing about the backup, which is durable.
        with contextlib.suppress(OSError):
            _sync(target)

    def _undo(self) -> bool:
        target = self._target
        if target is None or not (self._kept or self._placed):
            return False
        with system_errors(self, EnumFaultPhase.AMBIGUOUS):
            named = target.find_entry()
            ours = named is not None and _identity(named) == self._placed
            back = self._kept and (ours or named is None)
            if back:
                _rename(target.directory, self._previous, target.name)
            elif self._kept:
                _unlink_quietly(target.directory, self._previous)
            elif ours and not self._had_previous:
                os.unlink(target.name, dir_fd=target.directory)
                back = True
            _sync(target)
        return back

    def _release(self) -> None:
        self._held.close()


@contextlib.contextmanager
def system_errors(backup: Backup, phase: EnumFaultPhase = EnumFaultPhase.REJECTED) -> Iterator[None]:
    """What the system says, as a fault with a code; REJECTED where `undo` follows."""
    try:
        yield
    except OSError as error:
        subject = f"{backup.request.source_path!r} to {backup.request.backup_path!r}"
        raise fault_of(error, _PURPOSE, subject, phase) from error


@contextlib.contextmanager
def open_source(backup: Backup, roots: FileRoots, base: str) -> Iterator[tuple[int, os.stat_result]]:
    """The source opened for reading, and what it is; NOT_FOUND before anything is made at the target."""
    path = _from(base, backup.request.source_path)
    with contextlib.ExitStack() as held:
        try:
            place = held.enter_context(Place(roots, path, _PURPOSE))
            descriptor, info = place.open_file()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise backup.fault(
                "the source does not exist, so nothing was done; check the path", "ENOENT", EnumCoreErrorCode.NOT_FOUND
            ) from error
        held.callback(close_quietly, descriptor)
        yield descriptor, info


def _from(base: str, path: str) -> str:
    # Not normalised: `..` after a link means what the system says it means.
    return f"{base}/{path}" if base and not path.startswith("/") else path


def _stem(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) > _LONGEST_STEM:
        digest = hashlib.sha256(raw).hexdigest()[:16]
        name = raw[: _LONGEST_STEM - 17].decode("utf-8", "ignore") + "~" + digest
    return f".{name}.onex-backup-"


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _names(directory: int, name: str, identity: tuple[int, int]) -> bool:
    try:
        return _identity(os.stat(name, dir_fd=directory, follow_symlinks=False)) == identity
    except FileNotFoundError:
        return False


def _rename(directory: int, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)


def _unlink_quietly(directory: int, name: str) -> None:
    with contextlib.suppress(OSError):  # one that stays is removed by the next run
        os.unlink(name, dir_fd=directory)


def _sync(target: Place) -> None:
    directory = target.open_directory()
    try:
        os.fsync(directory)
    finally:
        close_quietly(directory)


def _forget_pages(descriptor: int, offset: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # advice, no more
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def chunks_of(descriptor: int) -> Iterator[bytes]:
    """What is left to read, a mebibyte at a time."""
    while chunk := os.read(descriptor, CHUNK_BYTES):
        yield chunk


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view := view[os.write(descriptor, view) :]:
        pass
