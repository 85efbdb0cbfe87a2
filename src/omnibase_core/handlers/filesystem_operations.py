"""The file operations, as blocking functions: they run in a thread and look at `job.cancelled` between chunks.

`job.phase` says, at every moment, what a failure would mean: REJECTED until the first step that others can see, then
AMBIGUOUS. A cancelled job raises `JobCancelledError` before that step and goes on to its end after it; only a write
that is not atomic also stops between two chunks.

Reading, writing and copying follow a symbolic link at the end of a path (inside the roots); moving and deleting act on
the link itself.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.handlers.confined_path import Place, close_quietly
from omnibase_core.handlers.filesystem_faults import fault_of
from omnibase_core.handlers.filesystem_job import (
    CHUNK_BYTES,
    Document,
    FileJob,
    check_destination,
    commit,
    destination_of,
    encoded_content,
    encoding_of,
    mode_of,
    pair_document,
    stream,
    temporary_for,
    write_all,
)
from omnibase_core.handlers.filesystem_move import move


def perform(job: FileJob) -> Document:
    """Carry the operation out. Raises EffectFault, or JobCancelledError."""
    try:
        job.check()
        return _OPERATIONS[job.context.operation](job)
    except OSError as error:
        wants = job.context.operation in {"write", "copy", "move"} and not job.context.create_dirs
        raise fault_of(
            error, job.purpose, job.subject, job.phase, job.correlation_id, wants_directories=wants
        ) from error
    except EffectFault as fault:
        fault.correlation_id = job.correlation_id
        raise


def read(job: FileJob) -> Document:
    encoding = encoding_of(job)
    with job.place() as place:
        descriptor, info = place.open_file()
        try:
            data = _read_all(job, descriptor, info.st_size)
        finally:
            close_quietly(descriptor)
        resolved = place.resolved
    problem = ""
    content = ""
    try:
        content = data.decode(encoding)
    except UnicodeError as error:
        problem = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else " anywhere"
    if problem:  # raised out here, so that the file's content does not hang on the error as its context
        raise job.fault(
            f"the file is no {encoding} text{problem}. Give the `encoding` in which it was written.",
            "EILSEQ",
            EnumFaultPhase.DONE,
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return {
        "path": job.context.file_path,
        "resolved_path": resolved,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content": content,
        "encoding": encoding,
        "modified_at": datetime.fromtimestamp(info.st_mtime, UTC).isoformat(),
    }


def write(job: FileJob) -> Document:
    context = job.context
    mode = mode_of(job)
    data = encoded_content(job)
    with job.place(create_dirs=context.create_dirs) as place:
        if context.atomic:
            created = _write_atomically(job, place, data, mode)
        else:
            created = _write_in_place(job, place, data, mode)
        return {
            "path": context.file_path,
            "resolved_path": place.resolved,
            "size_bytes": len(data),
            "bytes_written": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "created": created,
        }


def copy(job: FileJob) -> Document:
    """Always by a temporary file: a copy that fails leaves the old destination whole."""
    mode = mode_of(job)
    with job.place() as source, job.place(destination_of(job), create_dirs=job.context.create_dirs) as target:
        descriptor, info = source.open_file()
        try:
            existing = target.find_file()
            check_destination(job, info, existing)
            size, digest = _copy_to(job, descriptor, info, target, existing=existing, mode=mode)
        finally:
            close_quietly(descriptor)
        return pair_document(job, source, target, size, digest)


def delete(job: FileJob) -> Document:
    document: Document = {"path": job.context.file_path, "existed": True, "deleted": True}
    try:
        with job.place() as place:
            info = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            if not stat.S_ISREG(info.st_mode) and not stat.S_ISLNK(info.st_mode):
                raise place.not_a_file(info)
            directory = place.open_directory()
            try:
                os.unlink(place.name, dir_fd=directory)
                job.phase = EnumFaultPhase.AMBIGUOUS
                os.fsync(directory)
            finally:
                close_quietly(directory)
            document["resolved_path"] = place.resolved
    except FileNotFoundError:
        if not job.context.missing_ok or job.phase is not EnumFaultPhase.REJECTED:
            raise
        document["existed"] = document["deleted"] = False
    return document


_OPERATIONS: dict[str, Callable[[FileJob], Document]] = {
    "read": read,
    "write": write,
    "copy": copy,
    "move": move,
    "delete": delete,
}


def _write_atomically(job: FileJob, place: Place, data: bytes, mode: int | None) -> bool:
    existing = place.find_file()
    if existing is not None and not job.context.overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place.name)
    with temporary_for(place, existing, 0o666, mode) as file:
        write_all(job, file.descriptor, data)
        commit(job, file)
    return existing is None


def _write_in_place(job: FileJob, place: Place, data: bytes, mode: int | None) -> bool:
    descriptor, created = _open_in_place(job, place, mode)
    try:
        try:
            if created:
                job.phase = EnumFaultPhase.AMBIGUOUS
            job.check()
            job.phase = EnumFaultPhase.AMBIGUOUS
            if not created:
                os.ftruncate(descriptor, 0)
            write_all(job, descriptor, data)
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        except BaseException:
            if created:
                _take_back(job, place, descriptor)
            raise
    finally:
        close_quietly(descriptor)
    if created:
        _sync_directory(place)
    return created


def _open_in_place(job: FileJob, place: Place, mode: int | None) -> tuple[int, bool]:
    """The target opened for writing, and whether it was created; only a creation is exclusive."""
    creating = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    permissions = 0o666 if mode is None else 0o600
    if not job.context.overwrite:
        return place.open_file(creating, permissions)[0], True
    while True:
        job.check()
        try:
            return place.open_file(os.O_WRONLY)[0], False
        except FileNotFoundError:
            try:
                return place.open_file(creating, permissions)[0], True
            except FileExistsError:
                continue  # somebody created it in between: then it is there to be overwritten


def _take_back(job: FileJob, place: Place, descriptor: int) -> None:
    """Remove the file that we created and could not fill, if it still bears its name."""
    try:
        held, named = os.fstat(descriptor), place.find_entry()
        if named is not None and (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino):
            os.unlink(place.name, dir_fd=place.directory)
            job.phase = EnumFaultPhase.REJECTED
    except OSError:
        pass  # the first error is the one to report; the phase says that something may be there


def _copy_to(
    job: FileJob,
    descriptor: int,
    info: os.stat_result,
    target: Place,
    *,
    existing: os.stat_result | None,
    mode: int | None,
) -> tuple[int, str]:
    """Stream into a temporary file and give it the target's name."""
    with temporary_for(target, existing, stat.S_IMODE(info.st_mode) & 0o777, mode) as file:
        size, digest = stream(job, descriptor, file.descriptor)
        commit(job, file)
    return size, digest


def _read_all(job: FileJob, descriptor: int, expected: int) -> bytes:
    """The whole file; refused as soon as it is seen to be larger than the cap, also when it grows while being read."""
    limit = job.max_file_bytes
    chunks: list[bytes] = []
    size = 0
    while size <= limit:
        # One byte more than expected, so that the end is usually seen in the second call.
        chunk = os.read(descriptor, min(CHUNK_BYTES, limit + 1 - size, max(expected + 1 - size, 4096)))
        if not chunk:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
        if expected > limit:
            break
        job.check()
    raise job.fault(
        f"the file has {max(size, expected)} bytes; at most {limit} are read into memory. "
        "Raise `policy.max_file_bytes`, or copy the file instead.",
        "EFBIG",
        EnumFaultPhase.REJECTED,
    )


def _sync_directory(place: Place) -> None:
    directory = place.open_directory()
    try:
        os.fsync(directory)
    finally:
        close_quietly(directory)
