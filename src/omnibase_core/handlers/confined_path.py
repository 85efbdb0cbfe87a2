"""Paths that cannot leave their roots: each step is taken from an open directory, none on a name checked before.

A path is walked component by component with `openat` and `O_NOFOLLOW`. The kernel therefore never follows a symbolic
link for us: we read the link's text and walk that text by the same rules. Nothing lies between check and use, because
there is no check: a directory that was opened from a root's descriptor is inside, whatever happens to names meanwhile.

Outside the roots a walk knows only the names that lead to a root (`/`, `/srv` for the root `/srv/data`), so that
absolute paths, absolute links and `..` can come back into a root; every other name there is refused unread.
POSIX only.
"""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault

MAX_LINKS = 40
"""Symbolic links that one path may pass, the kernel's own number."""

MAX_DEPTH = 200
"""Directories below a root; each level holds a descriptor while the walk lasts."""

MAX_PATH_CHARACTERS = 16_384

# O_PATH (Linux) asks only for search permission, like a path given to the kernel as a whole.
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_ROOT = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
# Without O_NONBLOCK the opening of a FIFO waits for its other end.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def close_quietly(descriptor: int) -> None:
    """Close; an error is of no use: what had to reach the disk was fsynced before."""
    try:  # noqa: SIM105  # suppress() costs more than the close, several times in each operation
        os.close(descriptor)
    except OSError:
        pass


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class _RootSet:
    """The roots at one moment: their real paths, and the names outside that lead to one."""

    __slots__ = ("above", "entries", "paths", "real")

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self.real = tuple(os.path.realpath(path) for path in self.paths)
        self.entries: dict[str, int] = {}
        self.above: set[str] = set()
        for spelling in (self.real, self.paths):
            for index, path in enumerate(spelling):
                self.entries.setdefault(path, index)
                self.above.update(str(parent) for parent in PurePosixPath(path).parents)


class FileRoots:
    """The directories below which files may be touched. None: the current directory at the time of each call.

    A relative path belongs to the first root; an absolute one to the root that it names. Relative roots are taken from
    the current directory at construction. A root may itself be a symbolic link: it is the operator's word.
    """

    def __init__(self, roots: Sequence[Path] | None = None) -> None:
        self._given = None if roots is None else [os.path.abspath(root) for root in roots]  # noqa: PTH100  # resolve() would follow links
        self._set: _RootSet | None = None

    def current(self) -> _RootSet:
        """The roots as of now. Reads the file system at the first call, so it belongs into a thread."""
        found = self._set
        if self._given is None:
            here = os.getcwd()  # noqa: PTH109  # text, in each operation
            if found is None or found.paths[0] != here:
                found = self._set = _RootSet([here])
        elif found is None:
            found = self._set = _RootSet(self._given)
        return found

    def __repr__(self) -> str:
        return f"FileRoots({'current directory' if self._given is None else self._given})"


class Place:
    """Where a path leads: `directory`, an open descriptor, and `name`, an entry of it that may not exist yet.

    purpose: what is being done, for messages, such as `filesystem read`.
    create_dirs: make directories that are missing on the way, each fsynced into its parent.

    The entry itself may be a symbolic link; `open_file` and `find_file` follow it inside the roots and change
    `directory` and `name` accordingly. Use it as a context manager: it holds descriptors.

    Raises EffectFault SECURITY_VIOLATION for a path that leaves every root, VALIDATION_ERROR for one that names no
    file, and OSError for what the system says.
    """

    __slots__ = (
        "_above",
        "_create",
        "_descriptors",
        "_links",
        "_names",
        "_root",
        "_set",
        "directory",
        "name",
        "path",
        "purpose",
    )

    def __init__(self, roots: FileRoots, path: str, purpose: str, *, create_dirs: bool = False) -> None:
        self.path = path
        self.purpose = purpose
        self._create = create_dirs
        self._links = 0
        self._root = 0
        self._names: list[str] = []
        self._descriptors: list[int] = []
        self._above: str | None = None
        self.directory = -1
        self.name = ""
        parts = self._parts()
        self._set = roots.current()
        try:
            if path[0] == "/":
                self._above = "/"
                self._enter_if_root("/")
            elif self._set.paths:
                self._enter_root(0)
            else:
                raise self._outside()
            self._walk(parts)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the descriptors; `directory` is invalid afterwards."""
        while self._descriptors:
            close_quietly(self._descriptors.pop())
        self.directory = -1

    @property
    def resolved(self) -> str:
        """The absolute path that was reached, links resolved."""
        return "/".join((self._set.real[self._root].rstrip("/"), *self._names, self.name))

    def open_file(self, flags: int = os.O_RDONLY, mode: int = 0o666) -> tuple[int, os.stat_result]:
        """Open the regular file behind the entry; links are followed inside the roots. The descriptor is the caller's.

        Anything but a regular file is refused, without waiting and without reading from it.
        """
        while True:
            try:
                descriptor = os.open(self.name, flags | _FILE, mode, dir_fd=self.directory)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.EMLINK}:
                    self._follow_entry()
                    continue
                if error.errno in {errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EOPNOTSUPP}:
                    info = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
                    if not stat.S_ISREG(info.st_mode):
                        raise self.not_a_file(info) from error
                raise
            try:
                info = os.fstat(descriptor)
                if stat.S_ISREG(info.st_mode):
                    return descriptor, info
                raise self.not_a_file(info)
            except BaseException:
                close_quietly(descriptor)
                raise

    def find_entry(self) -> os.stat_result | None:
        """What the entry itself is, a link included; None if it does not exist."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def find_file(self) -> os.stat_result | None:
        """The regular file behind the entry, links followed inside the roots; None if it does not exist yet."""
        while (info := self.find_entry()) is not None and not stat.S_ISREG(info.st_mode):
            if not stat.S_ISLNK(info.st_mode):
                raise self.not_a_file(info)
            self._follow_entry()
        return info

    def open_directory(self) -> int:
        """The directory opened so that it can be fsynced; the descriptor is the caller's."""
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.directory)

    def not_a_file(self, info: os.stat_result) -> EffectFault:
        """The refusal of anything that is not a regular file."""
        is_directory = stat.S_ISDIR(info.st_mode)
        found = _KINDS.get(stat.S_IFMT(info.st_mode), "not a regular file")
        return self._fault(
            f"{self.path!r} is {found}; only regular files are allowed. Name a file"
            + (" in it." if is_directory else ", or reach the device by other means."),
            EnumCoreErrorCode.OPERATION_FAILED,
            "EISDIR" if is_directory else "NOT_A_FILE",
            EnumFaultPhase.REJECTED,
        )

    def _parts(self) -> list[str]:
        """The components, the next one last."""
        path = self.path
        problem = ""
        if not path:
            problem = "is empty"
        elif "\0" in path:
            problem = "contains a NUL character"
        elif len(path) > MAX_PATH_CHARACTERS:
            problem = f"has {len(path)} characters; at most {MAX_PATH_CHARACTERS} are allowed"
        elif not path.isascii():
            try:
                os.fsencode(path)
            except UnicodeEncodeError:
                problem = "contains characters that no file name can hold"
        if problem:
            shown = path if len(path) < 200 else path[:200] + "..."
            raise self._fault(
                f"the path {shown!r} {problem}. Give the path of a file.",
                EnumCoreErrorCode.VALIDATION_ERROR,
                "EINVAL",
            )
        parts = path.split("/")
        if parts[-1] in {"", ".", ".."}:
            raise self._names_directory()
        parts.reverse()
        return parts

    def _walk(self, todo: list[str]) -> None:
        while todo:
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                self._go_up()
            elif self._above is not None:
                self._enter_if_root(f"{self._above.rstrip('/')}/{part}")
            elif todo:
                self._enter(part, todo)
            else:
                self.name = part
                return
        raise self._names_directory()

    def _enter(self, part: str, todo: list[str]) -> None:
        """Step into a directory; a link puts the components of its text in front of `todo` instead."""
        while True:
            try:
                descriptor = os.open(part, _DIRECTORY, dir_fd=self.directory)
                break
            except FileNotFoundError:
                if not self._create:
                    raise
                self._make_directory(part)
            except OSError as error:
                if error.errno not in {errno.ENOTDIR, errno.ELOOP, errno.EMLINK}:
                    raise
                if self._follow(part, todo):
                    return
                info = os.stat(part, dir_fd=self.directory, follow_symlinks=False)
                if not stat.S_ISDIR(info.st_mode):
                    raise
                self._count_link()  # it was exchanged under our hands: try again, but not for ever
        self._push(descriptor)
        self._names.append(part)

    def _make_directory(self, part: str) -> None:
        try:
            os.mkdir(part, 0o777, dir_fd=self.directory)
        except FileExistsError:
            self._count_link()  # another writer was faster; bounded, should it come and go
            return
        parent = self.open_directory()
        try:
            os.fsync(parent)
        finally:
            close_quietly(parent)

    def _follow_entry(self) -> None:
        todo: list[str] = []
        if self._follow(self.name, todo):
            self._walk(todo)
        else:
            self._count_link()

    def _follow(self, part: str, todo: list[str]) -> bool:
        """Read the link `part` and put its text in front of `todo`; False if it is no link (any more)."""
        try:
            target = os.readlink(part, dir_fd=self.directory)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        self._count_link()
        if self._on_proc():
            raise self._fault(
                f"{self.path!r} passes {part!r}, a link of the process file system, which may stand for any open file. "
                "Name the file itself.",
                EnumCoreErrorCode.SECURITY_VIOLATION,
                "MAGIC_LINK",
            )
        parts = target.split("/")
        parts.reverse()
        todo.extend(parts)
        if target.startswith("/"):
            self.close()
            self._names.clear()
            self._above = "/"
            self._enter_if_root("/")
        return True

    def _on_proc(self) -> bool:
        try:
            return os.fstat(self.directory).st_dev == Path("/proc").stat().st_dev != Path("/").stat().st_dev
        except OSError:
            return False

    def _count_link(self) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, f"more than {MAX_LINKS} symbolic links", self.path)

    def _go_up(self) -> None:
        if self._names:
            self._names.pop()
            close_quietly(self._descriptors.pop())
            self.directory = self._descriptors[-1]
            return
        position = self._above if self._above is not None else self._set.real[self._root]
        self.close()
        self._above = None
        self._enter_if_root(_parent(position))

    def _enter_if_root(self, position: str) -> None:
        """Be at the absolute path `position`: in a root, on the way to one, or refused."""
        index = self._set.entries.get(position)
        if index is not None:
            self._above = None
            self._enter_root(index)
        elif position in self._set.above or position == "/":
            self._above = position
        else:
            raise self._outside()

    def _enter_root(self, index: int) -> None:
        self._root = index
        try:
            descriptor = os.open(self._set.paths[index], _ROOT)
        except OSError as error:
            raise self._fault(
                f"the file root {self._set.paths[index]!r} cannot be opened ({error.strerror}). "
                "Make the directory, or change `policy.file_roots`.",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
                errno.errorcode.get(error.errno or 0, "EIO"),
            ) from error
        self._push(descriptor)

    def _push(self, descriptor: int) -> None:
        self._descriptors.append(descriptor)
        self.directory = descriptor
        if len(self._descriptors) > MAX_DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"deeper than {MAX_DEPTH} directories", self.path)

    def _outside(self) -> EffectFault:
        roots = ", ".join(repr(path) for path in self._set.paths) or "none"
        by = " by a symbolic link" if self._links else ""
        return self._fault(
            f"{self.path!r} leaves the file roots{by}. Allowed: {roots}. To grant more, add a directory to "
            "`file_roots` under `[policy]` in the settings (ONEX_POLICY__FILE_ROOTS), or pass `roots` to the handler.",
            EnumCoreErrorCode.SECURITY_VIOLATION,
            "OUTSIDE_ROOTS",
        )

    def _names_directory(self) -> EffectFault:
        return self._fault(
            f"{self.path!r} names a directory; only regular files are allowed. Name a file in it.",
            EnumCoreErrorCode.VALIDATION_ERROR,
            "EISDIR",
        )

    def _fault(
        self, text: str, code: EnumCoreErrorCode, kind: str, phase: EnumFaultPhase = EnumFaultPhase.NOT_SENT
    ) -> EffectFault:
        return EffectFault(f"{self.purpose}: {text}", code, {"path": self.path}, error_kind=kind, phase=phase)
