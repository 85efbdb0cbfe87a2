"""Files that appear whole or not at all: written beside the target, fsynced, then renamed onto it.

The temporary file is `.{name}.onex-{slot}.tmp`. Its writer holds an advisory lock on it for as long as it lives, so a
file whose lock can be taken was left by a process that is gone, and the next writer of the same target removes it.
Slots are few and numbered, because looking for a handful of names costs microseconds, and listing a large directory
milliseconds. When all are taken by living writers, a random name serves; a taken last slot is the sign to list the
directory as well.

Rules that make the removal safe: a writer locks its file before it writes and, if the file was removed before it got
the lock, starts again; a remover unlinks a name only while it holds the lock of the very file that bears the name.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self

from omnibase_core.handlers.confined_path import Place, close_quietly

SLOTS = 2
_LONGEST_STEM = 200
_NO_LOCKS = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP}
_NOREPLACE = 1
_Rename = Callable[[int, str, int, str], int]


class HalfRenamedError(OSError):
    """The new name exists, the old one could not be removed, nor the new one again."""


class AtomicFile:
    """A temporary file beside `place`; `commit` makes it the target, leaving the context without removes it.

    creation_mode: permission bits asked of `open`; the kernel narrows them by the umask (which cannot be read safely
        while other threads run) and by the directory's default ACL.
    final_mode: exact permission bits, set before the rename; until then the file is private (0600). None: as created.
    owner: user and group that the file should have, taken over where the system lets us.
    """

    __slots__ = ("_directory", "_discarded", "_final_mode", "_owner", "_place", "_temporary", "committed", "descriptor")

    def __init__(
        self, place: Place, *, creation_mode: int, final_mode: int | None, owner: tuple[int, int] | None = None
    ) -> None:
        self._place = place
        self._final_mode = final_mode
        self._owner = owner
        self.committed = self._discarded = False
        # Opened now: a directory that may not be fsynced must be known before anything was changed.
        self._directory = place.open_directory()
        try:
            self.descriptor, self._temporary = _make(
                self._directory, _stem(place.name), creation_mode if final_mode is None else 0o600
            )
        except BaseException:
            close_quietly(self._directory)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.committed and not self._discarded:
            self._discard()
        close_quietly(self.descriptor)
        close_quietly(self._directory)

    def commit(self, *, overwrite: bool) -> None:
        """Make the file durable and give it the target's name; FileExistsError without `overwrite`, also in a race.

        `committed` tells, after an OSError, whether the target may have changed: the only step after the rename is the
        fsync of the directory, and without it a loss of power may still bring the old file back.
        """
        if self._final_mode is not None:
            if self._owner is not None:
                self._take_owner(self._owner)
            os.fchmod(self.descriptor, self._final_mode)
        os.fsync(self.descriptor)
        directory, name = self._place.directory, self._place.name
        try:
            if overwrite:
                os.rename(self._temporary, name, src_dir_fd=self._directory, dst_dir_fd=directory)
            else:
                rename_exclusive(self._directory, self._temporary, directory, name)
        except HalfRenamedError:
            self.committed = True
            raise
        except OSError:
            # A rename that failed leaves the temporary name; if it is gone, the failure was only that of the answer.
            self.committed = not self._discard()
            raise
        self.committed = True
        os.fsync(self._directory)

    def _take_owner(self, owner: tuple[int, int]) -> None:
        info = os.fstat(self.descriptor)
        if (info.st_uid, info.st_gid) != owner:
            # An ordinary user cannot give files away; the content is what was asked for.
            with contextlib.suppress(PermissionError):
                os.fchown(self.descriptor, *owner)

    def _discard(self) -> bool:
        """Remove the temporary name, once: later it may be another writer's. False if it did not exist any more."""
        self._discarded = True
        try:
            os.unlink(self._temporary, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # it stays, unlocked as soon as we close it, and the next writer removes it
        return True


def rename_exclusive(source_dir: int, source: str, target_dir: int, target: str) -> None:
    """Rename, unless the target exists: FileExistsError, decided by the kernel and not by a look before.

    One step where the system has `renameat2`, else a hard link and the removal of the old name: a process killed
    between the two leaves both names on one file.
    """
    rename = _renameat2()
    if rename is not None:
        code = rename(source_dir, source, target_dir, target)
        if code == 0:
            return
        if code not in {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}:
            raise OSError(code, os.strerror(code), target)
    os.link(source, target, src_dir_fd=source_dir, dst_dir_fd=target_dir, follow_symlinks=False)
    try:
        os.unlink(source, dir_fd=source_dir)
    except OSError as error:
        try:
            os.unlink(target, dir_fd=target_dir)  # back to one name, the old one
        except OSError:
            raise HalfRenamedError(*error.args, target) from error
        raise


_found_renameat2: list[_Rename | None] = []


def _renameat2() -> _Rename | None:
    """`renameat2` with RENAME_NOREPLACE, giving 0 or an errno; None where the C library has none."""
    if not _found_renameat2:
        import ctypes

        try:
            function = ctypes.CDLL(None, use_errno=True).renameat2
        except (AttributeError, OSError):
            _found_renameat2.append(None)
            return None
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        function.restype = ctypes.c_int

        def call(source_dir: int, source: str, target_dir: int, target: str) -> int:
            failed = function(source_dir, os.fsencode(source), target_dir, os.fsencode(target), _NOREPLACE)
            return ctypes.get_errno() if failed else 0

        _found_renameat2.append(call)
    return _found_renameat2[0]


def _stem(name: str) -> str:
    """What all temporary names of a target begin with; a long name is cut and told apart by its digest."""
    raw = os.fsencode(name)
    if len(raw) > _LONGEST_STEM:
        digest = hashlib.sha256(raw).hexdigest()[:16]
        name = raw[: _LONGEST_STEM - 17].decode("utf-8", "ignore") + "~" + digest
    return f".{name}.onex-"


def _make(directory: int, stem: str, mode: int) -> tuple[int, str]:
    """Create and lock a temporary file, and remove what dead writers of the same target left."""
    made: tuple[int, str] | None = None
    for slot in range(SLOTS):
        name = f"{stem}{slot}.tmp"
        if made is None:
            descriptor = _create(directory, name, mode)
            if descriptor is None and _remove_stale(directory, name):
                descriptor = _create(directory, name, mode)
            if descriptor is not None:
                made = descriptor, name
        elif os.access(name, os.F_OK, dir_fd=directory, follow_symlinks=False):
            _remove_stale(directory, name)
            if slot == SLOTS - 1:
                _remove_all_stale(directory, stem, made[1])
    while made is None:
        name = f"{stem}{secrets.token_hex(8)}.tmp"
        descriptor = _create(directory, name, mode)
        if descriptor is not None:
            made = descriptor, name
    return made


def _create(directory: int, name: str, mode: int) -> int | None:
    """A new, locked file; None if the name is taken or was taken away before we had the lock."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=directory)
    except FileExistsError:
        return None
    try:
        if _lock(descriptor) and os.fstat(descriptor).st_nlink > 0:
            return descriptor
    except BaseException:
        try:
            os.unlink(name, dir_fd=directory)
        finally:
            close_quietly(descriptor)
        raise
    close_quietly(descriptor)  # a remover was faster: the name is gone or about to go
    return None


def _lock(descriptor: int) -> bool:
    """Take the lock at once; True also where the file system knows no locks (then nothing ever counts as stale)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True
        raise
    return True


def _remove_stale(directory: int, name: str) -> bool:
    """Remove the temporary file `name` if its writer is gone. False: it lives, or is not ours to judge."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(descriptor)
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(held.st_mode) or (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            return False
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    finally:
        close_quietly(descriptor)
    return True


def _remove_all_stale(directory: int, stem: str, own: str) -> None:
    for name in os.listdir(directory):
        if name.startswith(stem) and name.endswith(".tmp") and name != own:
            _remove_stale(directory, name)
