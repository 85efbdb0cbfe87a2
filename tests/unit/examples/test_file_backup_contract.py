"""The file backup as a contract, and what the program around it adds."""

from pathlib import Path
from uuid import UUID

import pytest
from pydantic import JsonValue

from examples.file_backup.by_contract import CONTRACT, RESTORE, ContractBackup
from examples.file_backup.models import ModelFileBackupInput
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedFilesystemContext,
    ResolvedIOContext,
)
from omnibase_core.utils.contract_loader import judge_text


class RottingDisk:
    """A filesystem handler over a disk that loses what is copied onto `target` from `source`."""

    def __init__(self, home: Path) -> None:
        self._handler = FilesystemHandler([home])

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> dict[str, JsonValue]:
        document = await self._handler.execute(resolved_context, correlation_id)
        assert isinstance(resolved_context, ModelResolvedFilesystemContext)
        target = resolved_context.destination_path
        if resolved_context.operation == "copy" and target is not None and target.endswith("/target"):
            Path(target).write_text("rot")
        return document


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"new \x00\xff")
    return tmp_path


def request(home: Path, **more: object) -> ModelFileBackupInput:
    return ModelFileBackupInput.model_validate(
        {"source_path": home / "source", "backup_path": home / "target", "max_retries": 0, **more}
    )


def found(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.iterdir() if path.name != "source"}


@pytest.mark.parametrize("contract", [CONTRACT, RESTORE], ids=lambda path: path.name)
def test_the_contracts_are_without_findings(contract: Path) -> None:
    """Not even a warning."""
    assert [d for judged in judge_text(contract.read_text()) for d in judged.diagnostics] == []


async def test_a_first_backup_and_one_that_replaces(home: Path) -> None:
    """Any bytes; the one before stays as NAME.previous."""
    async with ContractBackup([home]) as backup:
        first = await backup.attempt(request(home))
        (home / "source").write_bytes(b"newer")
        second = await backup.attempt(request(home))

    for result in (first, second):
        assert result.error is None
        assert (result.output.success, result.output.checksum_match) == (True, True)
    assert second.output.backup_size_bytes == 5
    assert found(home) == {"target": b"newer", "target.previous": b"new \x00\xff"}


@pytest.mark.parametrize("previous", [True, False])
async def test_a_mismatch_is_found_and_the_second_contract_restores(home: Path, previous: bool) -> None:
    """Where there was a previous backup; where there was none it says only that it does not match."""
    if previous:
        (home / "target").write_bytes(b"old")
    async with ContractBackup([home]) as backup:
        backup.container.register_service("FilesystemHandler", RottingDisk(home))
        result = await backup.attempt(request(home))

    assert (result.output.success, result.output.checksum_match) == (False, False)
    assert result.output.rollback_performed is previous
    assert "another SHA-256" in (result.output.error_message or "")
    assert found(home) == {"target": b"old" if previous else b"rot"}


async def test_a_missing_source_leaves_the_backup_as_it_is(home: Path) -> None:
    """NOT_FOUND, and no success."""
    (home / "target").write_bytes(b"old")
    async with ContractBackup([home]) as backup:
        result = await backup.attempt(request(home, source_path=home / "missing"))

    assert result.error is not None
    assert result.error.error_code is Code.NOT_FOUND
    assert found(home)["target"] == b"old"


async def test_a_contract_stays_in_its_roots(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is not granted is SECURITY_VIOLATION."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    async with ContractBackup([elsewhere]) as backup:
        result = await backup.attempt(request(home))

    assert result.error is not None
    assert result.error.error_code is Code.SECURITY_VIOLATION
    assert found(home) == {}
