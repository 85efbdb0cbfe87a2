"""The backup node: thin, because the handler does the work and `NodeEffect` does the retrying, timing and undoing."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final, Protocol, cast
from uuid import UUID

from pydantic import ValidationError

from examples.file_backup.handler import BACKED_UP, FileBackedUp, FileBackupHandler
from examples.file_backup.models import ModelFileBackupInput, ModelFileBackupOutput
from examples.file_backup.tree import Pair
from examples.file_backup.work import Backup
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.errors import ModelOnexError
from omnibase_core.infrastructure.infra_bases import ModelServiceEffect
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput

_LONGEST_MS: Final = 3_600_000
"""A backup takes as long as its file is large; this is the most that an input allows."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What became of one file, and the error behind `output.error_message`."""

    output: ModelFileBackupOutput
    error: ModelOnexError | None = None


OnResult = Callable[[BackupResult], None]


class _Transaction(Protocol):
    transaction_id: UUID

    def add_operation(self, name: str, data: object, rollback_fn: Callable[[], object], /) -> None: ...


@dataclass(slots=True)
class _Call:
    """What one `process` has to remember of its last attempt."""

    backup: Backup | None = None
    transaction_id: UUID | None = None
    done: FileBackedUp | None = None

    def facts(self) -> dict[str, object]:
        backup = self.backup
        facts: dict[str, object] = {"transaction_id": self.transaction_id}
        if backup is not None:
            facts["source_size_bytes"] = backup.source_size_bytes
            facts["verified"] = backup.verified
            facts["checksum_match"] = backup.checksum_match
            facts["rollback_performed"] = backup.rolled_back
        return facts


_current: ContextVar[_Call | None] = ContextVar("file_backup_call", default=None)


class FileBackupNode(ModelServiceEffect):
    """Backs files up, each whole or not at all, verified, and with the previous backup brought back after a failure.

    `process(ModelEffectInput(operation_data={"source_path": ..., "backup_path": ...}))` is the node's own call, and
    raises; `backup` takes and gives the models, and says `success=False` instead; `backup_many` does many at a time.

    backup_stats: total_backups, successful_backups, failed_backups, total_bytes (of successful ones) and success_rate
        (1.0 of none), since the node was built. A cancelled backup counts as failed.
    """

    def __init__(self, container: Container | None = None, handler: FileBackupHandler | None = None) -> None:
        super().__init__(container)
        self.handler = handler or FileBackupHandler()
        self.backup_stats: dict[str, int | float] = {
            "total_backups": 0,
            "successful_backups": 0,
            "failed_backups": 0,
            "total_bytes": 0,
            "success_rate": 1.0,
        }

    async def process(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Back one file up; `result` holds the fields of `ModelFileBackupOutput` and `sha256`.

        What is raised stands at `NodeEffect.process`; the error's context has a `file_backup` with what is known: among
        it `rollback_performed` and `checksum_match`. The previous backup is kept until the transaction has committed,
        so a step that a subclass adds to `_execute_effect` may still fail. Then `file.backed_up` goes to the event bus,
        if the container has one.
        """
        call = _Call()
        token = _current.set(call)
        copied = None
        try:
            output = await super().process(input_data)
            if call.backup is not None:
                await self.handler.commit(call.backup)
                copied = call.backup.source_size_bytes
        except BaseException as error:
            if call.backup is not None:  # a transaction has done so already, where there was one
                await self.handler.undo(call.backup)
            if isinstance(error, ModelOnexError):
                error.context["file_backup"] = call.facts()
            raise
        finally:
            _current.reset(token)
            self._count(copied)
        if call.done is not None:
            await self.emit_state_change_event(BACKED_UP, call.done.model_dump(), output.correlation_id)
        return output

    async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
        call = _current.get()
        backup = self.handler.begin(_request(input_data))
        transaction_id = None
        if transaction is not None:
            begun = cast("_Transaction", transaction)  # the contract of a code-driven node
            transaction_id = begun.transaction_id
            # Told before the work begins: whatever happens from here on, the transaction can undo it.
            begun.add_operation("file_backup", backup.request.model_dump(), partial(self.handler.undo, backup))
        if call is not None:
            call.backup, call.transaction_id = backup, transaction_id
        said = await self.handler.handle(backup, input_data.operation_id, input_data.correlation_id)
        done = cast("ModelEventEnvelope[FileBackedUp]", said.events[0]).payload  # the one event of this handler
        if call is None:  # called without `process`, so nobody else will
            await self.handler.commit(backup)
        else:
            call.done = done
        return {
            "success": True,
            **done.model_dump(),
            "transaction_id": transaction_id,
            "rollback_performed": False,
            "operation_id": input_data.operation_id,
            "completed_at": datetime.now(UTC),
        }

    async def backup(self, request: ModelFileBackupInput) -> ModelFileBackupOutput:
        """Back one file up with the request's retries. A failure is not raised, but `success=False` with a message."""
        return (await self.attempt(request)).output

    async def attempt(self, request: ModelFileBackupInput) -> BackupResult:
        """As `backup`, with the error as an object.

        Retried is what may pass by itself (a mismatch, a busy target, a source that changed, S3 away); a missing
        permission or a full disk is not.
        """
        started = perf_counter()
        try:
            output = await self.process(
                ModelEffectInput(
                    effect_type=EnumEffectType.FILE_OPERATION,
                    operation_data=request.model_dump(),
                    operation_id=request.operation_id,
                    max_retries=request.max_retries,
                    retry_delay_ms=request.retry_delay_ms,
                    timeout_ms=_LONGEST_MS,
                    metadata=request.metadata,
                )
            )
        except ModelOnexError as error:
            return _failed(request, error, (perf_counter() - started) * 1_000)
        fields = cast("dict[str, object]", output.result)  # made by `_execute_effect`
        return BackupResult(
            ModelFileBackupOutput.model_validate(
                {
                    **{name: fields[name] for name in ModelFileBackupOutput.model_fields if name in fields},
                    "processing_time_ms": output.processing_time_ms,
                    "retry_count": output.retry_count,
                }
            )
        )

    async def backup_many(
        self,
        pairs: Iterable[tuple[str | Path, str | Path] | Pair],
        *,
        concurrency: int = 4,
        on_progress: OnResult | None = None,
        **options: bool | int,
    ) -> list[BackupResult]:
        """Back up (source, backup) pairs, `concurrency` at a time; the results stand in the order of the pairs.

        One that fails does not keep the others. on_progress: told of each result as it comes. options: fields of
        `ModelFileBackupInput` that hold for all, such as `verify_backup=False`. At most `max_concurrent_effects` run at
        once, whatever `concurrency` says. `pairs_of` lists the pairs of a directory tree.
        """
        queue = enumerate(pairs)
        results: dict[int, BackupResult] = {}

        async def work() -> None:
            for number, (source, backup, *_size) in queue:
                results[number] = result = await self._one_of_many(source, backup, options)
                if on_progress is not None:
                    on_progress(result)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, concurrency)):
                group.create_task(work())
        return [results[number] for number in sorted(results)]

    async def _one_of_many(
        self, source: str | Path, backup: str | Path, options: Mapping[str, bool | int]
    ) -> BackupResult:
        try:
            request = _checked({**options, "source_path": source, "backup_path": backup})
        except ModelOnexError as error:
            output = ModelFileBackupOutput(
                success=False, source_path=str(source), backup_path=str(backup), error_message=error.message
            )
            return BackupResult(output, error)
        return await self.attempt(request)

    def _count(self, copied: int | None) -> None:
        stats = self.backup_stats
        stats["total_backups"] += 1
        if copied is None:
            stats["failed_backups"] += 1
        else:
            stats["successful_backups"] += 1
            stats["total_bytes"] += copied
        stats["success_rate"] = stats["successful_backups"] / stats["total_backups"]


def _request(input_data: ModelEffectInput) -> ModelFileBackupInput:
    return _checked({"operation_id": input_data.operation_id, **input_data.operation_data})


def _checked(fields: Mapping[str, object]) -> ModelFileBackupInput:
    try:
        return ModelFileBackupInput.model_validate(fields)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ModelOnexError(
            f"file backup: the input is not one of a backup: {found}. Give source_path and backup_path, and what else "
            "ModelFileBackupInput has",
            EnumCoreErrorCode.VALIDATION_ERROR,
        ) from error


def _failed(request: ModelFileBackupInput, error: ModelOnexError, took_ms: float) -> BackupResult:
    attempts = error.context.get("attempts")
    facts = error.context.get("file_backup")
    output = ModelFileBackupOutput.model_validate(
        {
            **(facts if isinstance(facts, dict) else {}),
            "success": False,
            "source_path": request.source_path,
            "backup_path": request.backup_path,
            "operation_id": request.operation_id,
            "processing_time_ms": took_ms,
            "retry_count": attempts - 1 if isinstance(attempts, int) and attempts else 0,
            "error_message": error.message,
        }
    )
    return BackupResult(output, error)
