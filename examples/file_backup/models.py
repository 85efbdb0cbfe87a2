"""What a file backup is asked to do, and what became of it."""

from datetime import UTC, datetime
from os import PathLike, fspath
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import BeforeValidator, Field

from omnibase_core.models.primitives.strict_types import FrozenModel, StrictFlag, StrictText


def _as_text(path: object) -> object:
    return fspath(path) if isinstance(path, PathLike) else path


BackupPath = Annotated[str, BeforeValidator(_as_text), Field(strict=True, min_length=1, max_length=4096)]
"""A path of this machine, or `s3://bucket/key`. A `pathlib.Path` is taken as well."""


class ModelFileBackupInput(FrozenModel):
    """One file to be backed up.

    atomic: write beside the target and rename, so that a reader never sees a part, and a killed run leaves none. False
        writes under the target's own name, where readers want to see it grow; the previous backup comes back after a
        failure either way. S3 is always atomic.
    verify_backup: read the backup back, from the disk where the system lets us, and compare its SHA-256 with that of
        what was read from the source.
    max_retries: attempts after the first, 0..10; each failed one is rolled back before the next.
    retry_delay_ms: before the first retry, 100..30000; doubled for each further one.
    """

    source_path: BackupPath
    backup_path: BackupPath
    atomic: StrictFlag = True
    verify_backup: StrictFlag = True
    max_retries: Annotated[int, Field(strict=True, ge=0, le=10)] = 3
    retry_delay_ms: Annotated[int, Field(strict=True, ge=100, le=30_000)] = 1_000
    operation_id: UUID = Field(default_factory=uuid4)
    metadata: dict[StrictText, StrictText] = Field(default_factory=dict)


class ModelFileBackupOutput(FrozenModel):
    """What became of one backup.

    verified: the backup was read back and compared; checksum_match is what the comparison found, None without one.
    rollback_performed: the last attempt had changed something at `backup_path`, and what stood there before is back.
    transaction_id: of the last attempt; None when none was begun.
    error_message: None exactly when `success`.
    """

    success: bool
    source_path: str
    backup_path: str
    source_size_bytes: Annotated[int, Field(ge=0)] = 0
    backup_size_bytes: Annotated[int, Field(ge=0)] = 0
    verified: bool = False
    checksum_match: bool | None = None
    transaction_id: UUID | None = None
    rollback_performed: bool = False
    processing_time_ms: Annotated[float, Field(ge=0)] = 0.0
    retry_count: Annotated[int, Field(ge=0)] = 0
    operation_id: UUID = Field(default_factory=uuid4)
    completed_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    error_message: str | None = None
