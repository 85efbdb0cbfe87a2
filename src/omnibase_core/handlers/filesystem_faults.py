"""What the system says about files, as faults: code, kind, whether it may pass by itself, and what to do next."""

import errno
from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault

_FAILED = EnumCoreErrorCode.OPERATION_FAILED
_FULL = EnumCoreErrorCode.RESOURCE_UNAVAILABLE

# errno: (code, transient, advice). Numbers that are not here: OPERATION_FAILED, not transient, no advice.
_ROWS: dict[int, tuple[EnumCoreErrorCode, bool, str]] = {
    errno.ENOENT: (EnumCoreErrorCode.NOT_FOUND, False, "Check the path"),
    errno.ENOTDIR: (_FAILED, False, "A file stands where the path needs a directory"),
    errno.EEXIST: (EnumCoreErrorCode.CONFLICT, False, "Set `overwrite: true`, or choose another name"),
    errno.EACCES: (_FAILED, False, "Give the process's user the permission on the file and its directories"),
    errno.EPERM: (_FAILED, False, "The system forbids it to the process's user, or the file is immutable"),
    errno.EROFS: (_FAILED, False, "The file system is mounted read-only"),
    errno.ENOSPC: (_FULL, False, "Make room on the device"),
    errno.EDQUOT: (_FULL, False, "The user's quota is used up"),
    errno.EFBIG: (_FAILED, False, "The file would exceed the file system's or the process's size limit"),
    errno.ENAMETOOLONG: (
        EnumCoreErrorCode.VALIDATION_ERROR,
        False,
        "A name may have 255 bytes, a path 200 directories",
    ),
    errno.ELOOP: (_FAILED, False, "A path may pass 40 symbolic links"),
    errno.EXDEV: (_FAILED, False, "Set `atomic: false` to copy and delete instead"),
    errno.EISDIR: (_FAILED, False, "Only regular files are allowed"),
    errno.EIO: (_FAILED, False, "The device reports an error; look at the system's log"),
    errno.EMFILE: (_FAILED, True, "The process has too many open files"),
    errno.ENFILE: (_FAILED, True, "The system has too many open files"),
    errno.ENOMEM: (_FAILED, True, "The system is short of memory"),
    errno.EBUSY: (_FAILED, True, "Another process holds the file"),
    errno.ETXTBSY: (_FAILED, True, "The file is a running program"),
    errno.EINTR: (_FAILED, True, ""),
    errno.EAGAIN: (_FAILED, True, "Another process holds the file"),
    errno.ESTALE: (_FAILED, True, "The network file system lost the file's handle"),
}


def fault_of(
    error: OSError,
    purpose: str,
    subject: str,
    phase: EnumFaultPhase,
    correlation_id: UUID | None = None,
    *,
    wants_directories: bool = False,
) -> EffectFault:
    """The fault for an OSError.

    purpose: what was being done, such as `filesystem write`. subject: the paths as the contract gave them.
    phase: REJECTED as long as nothing was changed; a fault behind a step that cannot be taken back is AMBIGUOUS.
    wants_directories: whether it may be the directories of what is written that are missing.
    """
    number = error.errno or 0
    code, transient, advice = _ROWS.get(number, (_FAILED, False, ""))
    if number == errno.ENOENT and wants_directories:
        advice += "; `create_dirs: true` makes the missing directories of what is written"
    kind = errno.errorcode.get(number, "EUNKNOWN")
    at = f" at {error.filename!r}" if isinstance(error.filename, str) and repr(error.filename) != subject else ""
    changed = "" if phase is EnumFaultPhase.REJECTED else " The operation may have taken effect."
    return EffectFault(
        f"{purpose} of {subject}: {error.strerror or type(error).__name__} ({kind}){at}."
        f"{' ' + advice + '.' if advice else ''}{changed}",
        code,
        {"errno": number},
        correlation_id,
        error_kind=kind,
        phase=phase,
        transient=transient and phase is EnumFaultPhase.REJECTED,
    )
