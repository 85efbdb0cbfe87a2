"""A file operation on its way: what is asked, what is allowed, how far it came; and the steps that several share."""

import errno
import functools
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.handlers.atomic_file import AtomicFile
from omnibase_core.handlers.confined_path import FileRoots, Place
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext

CHUNK_BYTES = 1 << 20
Document = dict[str, JsonValue]
_MODE = re.compile(r"(?:0o|0)?([0-7]{3,4})\Z")


class JobCancelledError(Exception):
    """The caller went away."""


@dataclass(slots=True)
class FileJob:
    """One operation on its way: what is asked, what is allowed, how far it came, and whether it is still wanted."""

    context: ModelResolvedFilesystemContext
    correlation_id: UUID
    roots: FileRoots
    max_file_bytes: int
    cancelled: bool = False
    phase: EnumFaultPhase = EnumFaultPhase.REJECTED

    @property
    def purpose(self) -> str:
        """What is being done, for messages."""
        return f"filesystem {self.context.operation}"

    def check(self) -> None:
        """Stop here if nobody waits any more."""
        if self.cancelled:
            raise JobCancelledError

    def place(self, path: str | None = None, *, create_dirs: bool = False) -> Place:
        """The place of a path of the contract, by default of `file_path`."""
        return Place(
            self.roots, self.context.file_path if path is None else path, self.purpose, create_dirs=create_dirs
        )

    def fault(
        self,
        text: str,
        kind: str,
        phase: EnumFaultPhase,
        code: EnumCoreErrorCode = EnumCoreErrorCode.OPERATION_FAILED,
        *,
        transient: bool = False,
    ) -> EffectFault:
        """A fault that the system did not report itself."""
        message = f"{self.purpose} of {self.subject}: {text}"
        return EffectFault(message, code, None, self.correlation_id, error_kind=kind, phase=phase, transient=transient)

    @property
    def subject(self) -> str:
        """The paths as the contract gave them, for messages."""
        context = self.context
        return repr(context.file_path) + (f" to {context.destination_path!r}" if context.destination_path else "")


def temporary_for(place: Place, existing: os.stat_result | None, creation_mode: int, mode: int | None) -> AtomicFile:
    if existing is None:
        return AtomicFile(place, creation_mode=creation_mode, final_mode=mode)
    kept = stat.S_IMODE(existing.st_mode) & 0o777 if mode is None else mode
    return AtomicFile(place, creation_mode=0o600, final_mode=kept, owner=(existing.st_uid, existing.st_gid))


def commit(job: FileJob, file: AtomicFile) -> None:
    job.check()
    try:
        file.commit(overwrite=job.context.overwrite)
    finally:
        if file.committed:
            job.phase = EnumFaultPhase.AMBIGUOUS


def check_destination(job: FileJob, info: os.stat_result, existing: os.stat_result | None) -> None:
    if existing is None:
        return
    if (info.st_dev, info.st_ino) == (existing.st_dev, existing.st_ino):
        raise job.fault(
            "source and destination are one and the same file. Name two different ones.",
            "SAME_FILE",
            EnumFaultPhase.REJECTED,
            EnumCoreErrorCode.CONFLICT,
        )
    if not job.context.overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), job.context.destination_path)


def pair_document(job: FileJob, source: Place, target: Place, size: int, digest: str | None) -> Document:
    return {
        "path": job.context.file_path,
        "destination_path": job.context.destination_path,
        "resolved_path": source.resolved,
        "resolved_destination_path": target.resolved,
        "size_bytes": size,
        "sha256": digest,
    }


def write_all(job: FileJob, descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view := view[os.write(descriptor, view[:CHUNK_BYTES]) :]:
        job.check()


def stream(job: FileJob, source: int, target: int | None) -> tuple[int, str]:
    """Read to the end, digest, and write to `target` if there is one: (size, SHA-256)."""
    digest = hashlib.sha256()
    size = 0
    while chunk := os.read(source, CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if target is not None:
            write_all(job, target, chunk)
        job.check()
    return size, digest.hexdigest()


@functools.lru_cache(maxsize=32)
def _is_text_encoding(encoding: str) -> bool:
    try:
        " ".encode(encoding)
    except UnicodeError:
        return True
    except (LookupError, ValueError):
        return False
    return True


def encoding_of(job: FileJob) -> str:
    encoding = job.context.encoding
    if _is_text_encoding(encoding):
        return encoding
    raise job.fault(
        f"the encoding {encoding!r} is unknown. Use one of Python's text encodings, such as 'utf-8' or 'latin-1'.",
        "UNKNOWN_ENCODING",
        EnumFaultPhase.NOT_SENT,
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def encoded_content(job: FileJob) -> bytes:
    encoding, content = encoding_of(job), job.context.content
    data: bytes | None = None
    if isinstance(content, bytes):
        data, problem = content, ""
    elif content is None:
        problem = "there is no content. Give `content_template`, or an input named `content`."
    else:
        try:
            data = content.encode(encoding)
            problem = ""
        except UnicodeError as error:
            at = f" at character {error.start}" if isinstance(error, UnicodeEncodeError) else ""
            problem = f"{encoding} cannot express the content{at}. Choose another `encoding`, such as 'utf-8'."
    if data is not None and len(data) > job.max_file_bytes:
        problem = f"the content has {len(data)} bytes; at most {job.max_file_bytes} are allowed. "
        problem += "Raise `policy.max_file_bytes`."
        data = None
    if data is None:
        raise job.fault(problem, "EINVAL", EnumFaultPhase.NOT_SENT, EnumCoreErrorCode.VALIDATION_ERROR)
    return data


def mode_of(job: FileJob) -> int | None:
    mode = job.context.mode
    if mode is None:
        return None
    found = _MODE.match(mode)
    if found is None:
        raise job.fault(
            f"the mode {mode!r} is not permission bits. Write three or four octal digits in quotes, such as '0644'.",
            "EINVAL",
            EnumFaultPhase.NOT_SENT,
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return int(found[1], 8)


def destination_of(job: FileJob) -> str:
    if job.context.destination_path is None:
        raise job.fault(
            "there is no destination. Give `destination_path_template`.",
            "EINVAL",
            EnumFaultPhase.NOT_SENT,
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return job.context.destination_path
