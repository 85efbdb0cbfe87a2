"""Which file goes where, when a whole directory is backed up."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from examples.file_backup.s3 import SCHEME
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError


class Pair(NamedTuple):
    """A file, where its backup goes, and how many bytes it had when it was found."""

    source: str
    backup: str
    size_bytes: int = 0


def pairs_of(source: str | Path, backup: str | Path) -> Iterator[Pair]:
    """The pairs of a file or of a directory tree, which is looked through as the pairs are taken.

    A file goes to `backup`, or into it when that is a directory or ends with a slash. Of a tree all regular files go to
    the same places below `backup`; symbolic links, devices and empty directories are left out.
    Raises ModelOnexError NOT_FOUND for a missing source, and VALIDATION_ERROR when the backup lies inside the tree.
    """
    root, target = Path(source), os.fspath(backup)
    if not os.path.lexists(root):
        raise ModelOnexError(
            f"file backup of {str(root)!r}: the source does not exist, so nothing was done; check the path",
            EnumCoreErrorCode.NOT_FOUND,
        )
    if not root.is_dir():
        yield Pair(str(root), _inside(target, root.name), root.stat().st_size if root.exists() else 0)
        return
    if not target.startswith(SCHEME) and Path(target).resolve().is_relative_to(root.resolve()):
        raise ModelOnexError(
            f"file backup of {str(root)!r}: the backup {target!r} lies inside it and would back itself up; "
            "choose a directory outside",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    yield from _walk(root, target)


def _walk(root: Path, target: str) -> Iterator[Pair]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise ModelOnexError(
                f"file backup of {str(root)!r}: the directory {str(folder)!r} cannot be read ({error.strerror}); "
                "give the process's user the permission",
                EnumCoreErrorCode.OPERATION_FAILED,
            ) from error
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                below = Path(entry.path).relative_to(root).as_posix()
                yield Pair(entry.path, _below(target, below), entry.stat(follow_symlinks=False).st_size)


def _inside(target: str, name: str) -> str:
    if target.startswith(SCHEME):
        names_object = "/" in target.removeprefix(SCHEME) and not target.endswith("/")
        return target if names_object else _below(target, name)
    return _below(target, name) if target.endswith("/") or Path(target).is_dir() else target


def _below(target: str, name: str) -> str:
    if target.startswith(SCHEME):
        return f"{SCHEME}{target.removeprefix(SCHEME).rstrip('/')}/{name}"
    return str(Path(target) / name)
