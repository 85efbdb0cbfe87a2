"""The backup as a contract: what is left to do for a program is to compare, and to choose the second contract."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final, Self

from examples.file_backup.models import ModelFileBackupInput, ModelFileBackupOutput
from examples.file_backup.node import BackupResult
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelPolicy, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOperationResult
from omnibase_core.nodes import NodeEffect
from omnibase_spi.bootstrap import register_effect_handlers

CONTRACT: Final = Path(__file__).with_name("contract.yaml")
RESTORE: Final = Path(__file__).with_name("contract_restore.yaml")


class ContractBackup:
    """Runs contract.yaml for one file at a time; use it with `async with`.

    file_roots: directories that the contract may touch. The previous backup stays beside the new one as
    `NAME.previous`. `atomic=False`, `max_retries` and `s3://` are the code-driven node's: a contract's own policy
    decides about retries.
    """

    def __init__(self, file_roots: Sequence[Path]) -> None:
        self.container = ModelONEXContainer()
        register_effect_handlers(self.container, ModelSettings(policy=ModelPolicy(file_roots=tuple(file_roots))))
        self._backup = NodeEffect.from_contract(self.container, CONTRACT)
        self._restore = NodeEffect.from_contract(self.container, RESTORE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.container.aclose()

    async def attempt(self, request: ModelFileBackupInput) -> BackupResult:
        """Back one file up; a failure is `success=False` and the error."""
        started = perf_counter()
        paths: dict[str, object] = {
            "source_path": _absolute(request.source_path),
            "backup_path": _absolute(request.backup_path),
            "previous_path": _absolute(request.backup_path) + ".previous",
        }
        facts: dict[str, object] = {}
        error: ModelOnexError | None = None
        try:
            facts, error = await self._copy_and_judge(request, paths)
        except ModelOnexError as raised:
            error = raised
        output = ModelFileBackupOutput.model_validate(
            {
                "success": error is None,
                "source_path": request.source_path,
                "backup_path": request.backup_path,
                "operation_id": request.operation_id,
                "processing_time_ms": (perf_counter() - started) * 1_000,
                "error_message": None if error is None else error.message,
                **facts,
            }
        )
        return BackupResult(output, error)

    async def _copy_and_judge(
        self, request: ModelFileBackupInput, paths: dict[str, object]
    ) -> tuple[dict[str, object], ModelOnexError | None]:
        output = await self._backup.process(
            ModelEffectInput(operation_data=paths, operation_id=request.operation_id, metadata=request.metadata)
        )
        kept, copied, read = output.operations
        facts: dict[str, object] = {
            "source_size_bytes": copied.extracted_fields.get("size") or 0,
            "retry_count": output.total_retry_count,
        }
        if not copied.success:
            return facts, _error(request, copied)
        if not request.verify_backup:
            return {**facts, "backup_size_bytes": facts["source_size_bytes"]}, None
        match = read.success and read.extracted_fields == copied.extracted_fields
        facts |= {
            "verified": read.success,
            "checksum_match": match if read.success else None,
            "backup_size_bytes": read.extracted_fields.get("size") or 0,
        }
        if match:
            return facts, None
        error = _error(request, read)
        if kept.success:
            await self._restore.process(ModelEffectInput(operation_data=paths))
            facts["rollback_performed"] = True
            error.message += " What stood there before is back."
        return facts, error


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _error(request: ModelFileBackupInput, result: ModelEffectOperationResult) -> ModelOnexError:
    reason = result.error_message or "what was read back has another SHA-256 than what was copied."
    return ModelOnexError(
        f"file backup of {request.source_path!r} to {request.backup_path!r}: {reason}",
        result.error_code or EnumCoreErrorCode.OPERATION_FAILED,
    )
