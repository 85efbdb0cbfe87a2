"""Moving: a rename within a file system, else a copy that is durable before the source goes."""

import errno
import os
import stat

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.handlers.atomic_file import AtomicFile, HalfRenamedError, rename_exclusive
from omnibase_core.handlers.confined_path import Place, close_quietly
from omnibase_core.handlers.filesystem_job import (
    Document,
    FileJob,
    check_destination,
    commit,
    destination_of,
    mode_of,
    pair_document,
    stream,
)


def move(job: FileJob) -> Document:
    """A rename; across file systems, and not atomic, a copy that is complete and durable before the source goes."""
    mode = mode_of(job)
    with job.place() as source, job.place(destination_of(job), create_dirs=job.context.create_dirs) as target:
        info = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
        is_link = stat.S_ISLNK(info.st_mode)
        if not is_link and not stat.S_ISREG(info.st_mode):
            raise source.not_a_file(info)
        existing = target.find_entry()
        if existing is not None and not stat.S_ISREG(existing.st_mode) and not stat.S_ISLNK(existing.st_mode):
            raise target.not_a_file(existing)
        check_destination(job, info, existing)
        near = info.st_dev == os.fstat(target.directory).st_dev
        if not near and (is_link or job.context.atomic):
            raise _across(job, is_link=is_link)
        descriptor = None if is_link else _open_exactly(job, source, info, needed=not near)
        try:
            digest = _move_to(job, source, target, descriptor, info=info, near=near, mode=mode)
        finally:
            if descriptor is not None:
                close_quietly(descriptor)
        return pair_document(job, source, target, info.st_size, digest)


def _move_to(
    job: FileJob,
    source: Place,
    target: Place,
    descriptor: int | None,
    *,
    info: os.stat_result,
    near: bool,
    mode: int | None,
) -> str | None:
    """Move by a rename if both are `near`, else by a copy. Returns the SHA-256, if the file was read."""
    source_directory, target_directory = source.open_directory(), target.open_directory()
    try:
        digest = None
        if near:
            if descriptor is not None:
                os.fsync(descriptor)
                # A digest of everything would make the move of a huge file as slow as its copy.
                digest = stream(job, descriptor, None)[1] if info.st_size <= job.max_file_bytes else None
            near = _rename(job, source, target, source_directory, target_directory)
            if near and descriptor is not None and mode is not None:
                os.fchmod(descriptor, mode)
        if not near:
            if job.context.atomic or descriptor is None:
                raise _across(job, is_link=stat.S_ISLNK(info.st_mode))
            digest = _copy_and_delete(job, source, target, descriptor, info=info, mode=mode)
        os.fsync(target_directory)
        os.fsync(source_directory)
        return digest
    finally:
        close_quietly(source_directory)
        close_quietly(target_directory)


def _rename(job: FileJob, source: Place, target: Place, source_directory: int, target_directory: int) -> bool:
    """Rename; False if the two lie on different mounts, which a device number does not always show."""
    job.check()
    try:
        if job.context.overwrite:
            os.rename(source.name, target.name, src_dir_fd=source_directory, dst_dir_fd=target_directory)
        else:
            rename_exclusive(source_directory, source.name, target_directory, target.name)
    except HalfRenamedError:
        job.phase = EnumFaultPhase.AMBIGUOUS
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        if source.find_entry() is None:  # the failure was only that of the answer
            job.phase = EnumFaultPhase.AMBIGUOUS
        raise
    job.phase = EnumFaultPhase.AMBIGUOUS
    return True


def _copy_and_delete(
    job: FileJob, source: Place, target: Place, descriptor: int, *, info: os.stat_result, mode: int | None
) -> str:
    """Copy with mode, times and (where allowed) owner, then remove the source, if it is still what was copied."""
    kept = stat.S_IMODE(info.st_mode) & 0o777 if mode is None else mode
    os.lseek(descriptor, 0, os.SEEK_SET)
    with AtomicFile(target, creation_mode=0o600, final_mode=kept, owner=(info.st_uid, info.st_gid)) as file:
        size, digest = stream(job, descriptor, file.descriptor)
        now = os.fstat(descriptor)
        if (now.st_mtime_ns, now.st_size, size) != (info.st_mtime_ns, info.st_size, info.st_size):
            raise job.fault(
                "the source changed while it was copied; nothing was moved. Try again when its writer is done.",
                "SOURCE_CHANGED",
                EnumFaultPhase.REJECTED,
                EnumCoreErrorCode.CONFLICT,
                transient=True,
            )
        os.utime(file.descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))
        commit(job, file)
    _unlink_exactly(job, source, info)
    return digest


def _open_exactly(job: FileJob, place: Place, info: os.stat_result, *, needed: bool) -> int | None:
    """The file that was looked at; None if it may not be read and, for a rename, need not be."""
    try:
        descriptor = os.open(
            place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=place.directory
        )
    except PermissionError:
        if needed:
            raise
        return None
    held = os.fstat(descriptor)
    if (held.st_dev, held.st_ino) != (info.st_dev, info.st_ino):
        close_quietly(descriptor)
        raise _exchanged(job, EnumFaultPhase.REJECTED)
    return descriptor


def _unlink_exactly(job: FileJob, place: Place, info: os.stat_result) -> None:
    named = place.find_entry()
    if named is None or (named.st_dev, named.st_ino) != (info.st_dev, info.st_ino):
        raise _exchanged(job, EnumFaultPhase.AMBIGUOUS)
    os.unlink(place.name, dir_fd=place.directory)


def _exchanged(job: FileJob, phase: EnumFaultPhase) -> EffectFault:
    return job.fault(
        "another process exchanged the source meanwhile, which was left alone. Look at both files before trying again.",
        "SOURCE_CHANGED",
        phase,
        EnumCoreErrorCode.CONFLICT,
        transient=phase is EnumFaultPhase.REJECTED,
    )


def _across(job: FileJob, *, is_link: bool) -> EffectFault:
    return job.fault(
        "source and destination lie on different file systems, between which "
        + ("a symbolic link cannot be moved." if is_link else "a rename is impossible.")
        + " Nothing was changed. "
        + ("Move the file that it names." if is_link else "Set `atomic: false` to copy and delete instead."),
        "EXDEV",
        EnumFaultPhase.REJECTED,
    )
