"""The work of the backup node: what is done, in which order, and what is said about it afterwards."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from examples.file_backup.local import LocalBackup
from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.s3 import SCHEME, S3Backup, S3Service
from examples.file_backup.work import Backup, NewHash, OnBytes, ReadBack, StoppedError, as_stored, in_thread, sha256
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault, ModelOnexError
from omnibase_core.handlers.confined_path import FileRoots
from omnibase_core.models.dispatch.model_handler_output import ModelHandlerOutput
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.models.primitives.strict_types import FrozenModel

BACKED_UP = "file.backed_up"


class FileBackedUp(FrozenModel):
    """Payload of the event `file.backed_up`. sha256: of what was read from the source, in hex."""

    source_path: str
    backup_path: str
    source_size_bytes: int
    backup_size_bytes: int
    sha256: str
    verified: bool
    checksum_match: bool | None


class FileBackupHandler:
    """Backs up one file at a time, to this machine's disks or to S3; may be used for many at once.

    roots: directories that no local path may leave, a relative one belonging to the first; None: anywhere, because the
        paths are the program's own, relative ones from the current directory.
    read_back: stands between the stored backup and its verification, such as to count or to test. new_hash: the digest
        by which source and backup are compared. hard_links: False keeps the previous backup by a copy.
    on_bytes: told of progress from worker threads.
    s3: where `s3://` is.
    """

    def __init__(
        self,
        roots: Sequence[Path] | None = None,
        *,
        read_back: ReadBack = as_stored,
        new_hash: NewHash = sha256,
        hard_links: bool = True,
        on_bytes: OnBytes | None = None,
        s3: S3Service | None = None,
    ) -> None:
        self._confined = roots is not None
        self._roots = FileRoots([Path("/")] if roots is None else roots)
        self._read_back = read_back
        self._new_hash = new_hash
        self._hard_links = hard_links
        self._on_bytes = on_bytes or _nobody
        self._s3 = s3 or S3Service()

    def begin(self, request: ModelFileBackupInput) -> Backup:
        """A backup of which nothing is done yet; what is begun must end in `commit` or `undo`."""
        if request.backup_path.startswith(SCHEME):
            return S3Backup(
                request,
                self._read_back,
                self._new_hash,
                self._on_bytes,
                roots=self._roots,
                base=self._base(),
                service=self._s3,
            )
        return LocalBackup(
            request,
            self._read_back,
            self._new_hash,
            self._on_bytes,
            roots=self._roots,
            base=self._base(),
            hard_links=self._hard_links,
        )

    def _base(self) -> str:
        return "" if self._confined else str(Path.cwd())

    async def handle(
        self, backup: Backup, input_envelope_id: UUID, correlation_id: UUID | None = None
    ) -> ModelHandlerOutput[None]:
        """Place and verify a begun backup; its one event, `file.backed_up`, says what was done.

        What stood there before is kept until `commit`; publish the event after it.
        Raises EffectFault after everything has been undone; a cancellation undoes as well, and passes.
        """
        await self._place_and_verify(backup)
        done = FileBackedUp(
            source_path=backup.request.source_path,
            backup_path=backup.request.backup_path,
            source_size_bytes=backup.source_size_bytes,
            backup_size_bytes=backup.backup_size_bytes,
            sha256=backup.digest,
            verified=backup.verified,
            checksum_match=backup.checksum_match,
        )
        event = ModelEventEnvelope[FileBackedUp](
            event_type=BACKED_UP, payload=done, causation_id=input_envelope_id, subject=done.backup_path
        )
        return ModelHandlerOutput.for_effect(
            events=[event], input_envelope_id=input_envelope_id, correlation_id=correlation_id
        )

    async def _place_and_verify(self, backup: Backup) -> None:
        try:
            await in_thread(backup.place, backup.stop)
            if backup.request.verify_backup:
                await in_thread(backup.verify, backup.stop)
        except GeneratorExit:  # nobody drives this coroutine any more, so it cannot wait for a thread
            backup.undo()
            raise
        except BaseException as error:
            await self._undo_after(backup, error)
            if isinstance(error, StoppedError):
                raise backup.fault(
                    "it was stopped from outside; nothing was changed", "STOPPED", EnumCoreErrorCode.CANCELLED
                ) from None
            raise

    async def commit(self, backup: Backup) -> None:
        """Let go of what stood there before; when that fails, undo, so that a backup is never half done."""
        try:
            await in_thread(backup.commit)
        except Exception as error:
            await self._undo_after(backup, error)
            raise

    async def undo(self, backup: Backup) -> None:
        """Bring back what stood there before. Goes to its end even if it is cancelled meanwhile."""
        await in_thread(backup.undo)

    async def _undo_after(self, backup: Backup, error: BaseException) -> None:
        try:
            await self.undo(backup)
        except Exception as second:  # noqa: BLE001  # the first error is the one to be told
            said = f"What stood there before could not be brought back; the next run does it. The reason: {second}"
            if isinstance(error, EffectFault):
                error.phase = EnumFaultPhase.AMBIGUOUS
        else:
            said = "What stood there before is back." if backup.rolled_back else ""
        if said and isinstance(error, ModelOnexError):
            error.message = f"{error.message} {said}"
        elif said:
            error.add_note(said)


def _nobody(_count: int) -> None:
    """Nobody wants to know."""
