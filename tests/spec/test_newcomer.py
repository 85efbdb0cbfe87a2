"""A newcomer's class works as written, also by the retired import paths (overview, section 3)."""

import subprocess
import sys
from pathlib import Path

import pytest

CANONICAL = """
from omnibase_core.infrastructure.infra_bases import ModelServiceEffect as Base
from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput
from omnibase_core.models.errors.model_onex_error import ModelOnexError
from omnibase_core.logging.logging_structured import emit_log_event_sync
"""
RETIRED = """
from omnibase_core.core.infrastructure_service_bases import NodeEffectService as Base
from omnibase_core.nodes.enum_effect_types import EnumEffectType
from omnibase_core.nodes.model_effect_input import ModelEffectInput
from omnibase_core.nodes.model_effect_output import ModelEffectOutput
from omnibase_core.errors.model_onex_error import ModelOnexError
from omnibase_core.logging.structured import emit_log_event_sync
"""
PROGRAM = """
import asyncio
import sys
from pathlib import Path
from uuid import uuid4

from omnibase_core.models.container.model_onex_container import ModelONEXContainer


class Backup(Base):
    def __init__(self, container):
        super().__init__(container)
        self.backup_stats = {"done": 0}

    async def _execute_effect(self, input_data, transaction):
        source = Path(input_data.operation_data["source"])
        target = Path(input_data.operation_data["target"])
        if not source.exists():
            raise ModelOnexError(f"no source {source.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        if transaction is not None:
            transaction.add_operation("copy", {"target": str(target)}, lambda: target.unlink())
        self.backup_stats["done"] += 1
        emit_log_event_sync("info", "copied", {"bytes": target.stat().st_size})
        return {"copied": target.stat().st_size}

    async def backup(self, source, target):
        return await self.process(
            ModelEffectInput(
                effect_type=EnumEffectType.FILE_OPERATION,
                operation_data={"source": source, "target": target},
                operation_id=uuid4(),
                transaction_enabled=True,
                retry_enabled=True,
                max_retries=3,
                retry_delay_ms=1,
                circuit_breaker_enabled=True,
                metadata={"who": "newcomer"},
            )
        )


async def main():
    node = Backup(ModelONEXContainer())
    output = await node.backup(sys.argv[1], sys.argv[1] + ".d/copy")
    assert isinstance(output, ModelEffectOutput)
    print(output.result, output.retry_count, output.transaction_state.value, node.backup_stats)
    try:
        await node.backup("missing", "x")
    except ModelOnexError as error:
        print(type(error).__name__, error.message)


asyncio.run(main())
"""


@pytest.mark.parametrize(("imports", "warned"), [(CANONICAL, 0), (RETIRED, 6)], ids=["canonical", "retired"])
def test_the_class_works_as_written(imports: str, warned: int, tmp_path: Path) -> None:
    """Success, failure with a message, directories, statistics; one warning per retired statement, none else."""
    (tmp_path / "source").write_text("hello")
    program = tmp_path / "newcomer.py"
    program.write_text(imports + PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", str(program), str(tmp_path / "source")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.splitlines() == [
        "{'copied': 5} 0 committed {'done': 1}",
        "ModelOnexError no source missing",
    ], done.stderr
    assert done.stderr.count("DeprecationWarning") == warned
    assert all(f"newcomer.py:{line}: DeprecationWarning" in done.stderr for line in range(2, 2 + warned))
