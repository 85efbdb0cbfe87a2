"""What the workflows of the example need: their bundles, and a container that knows where the world is."""

import hashlib
from pathlib import Path
from typing import Final, cast

from pydantic import SecretStr

from omnibase_core.models.configuration.model_settings import ModelConnection, ModelPolicy, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.nodes import NodeEffect
from omnibase_core.protocols.protocol_workflow_engine import WorkflowBundle
from omnibase_core.utils.contract_loader import load_kind
from omnibase_core.utils.workflow_bundle import LoadedWorkflow
from omnibase_spi.bootstrap import register_effect_handlers

HERE: Final = Path(__file__).parent
FILES: Final = ("customers.db", "orders.db", "photos.tar")
"""What is backed up."""


def bundle_of(name: str) -> WorkflowBundle:
    """The workflow of this name, with the texts of all contracts that it names."""
    loaded = load_kind(HERE / name / "workflow.yaml", "orchestrator", "the example")
    return cast("LoadedWorkflow", loaded.workflow).bundle  # of this kind


def shop_url(directory: Path) -> str:
    """The database that the order workflow writes into."""
    return f"sqlite:///{directory.absolute() / 'shop.db'}"


def runs_url(directory: Path) -> str:
    """The database in which the runs of workers are kept."""
    return f"sqlite:///{directory.absolute() / 'runs.db'}"


def container_for(directory: Path, world_url: str) -> ModelONEXContainer:
    """A container whose files lie in `directory`. Close it with `aclose`."""
    settings = ModelSettings(
        data_dir=directory,
        connections={"shop": ModelConnection(url=SecretStr(shop_url(directory)))},
        policy=ModelPolicy(file_roots=(directory.absolute(),)),
    )
    container = ModelONEXContainer()
    register_effect_handlers(container, settings)
    container.register_service("Environment", {"WORLD_URL": world_url})
    return container


async def make_tables(container: ModelONEXContainer) -> None:
    """Make the table of orders, where it is missing."""
    await NodeEffect.from_contract(container, HERE / "order" / "tables.yaml").process(
        ModelEffectInput(operation_data={})
    )


def write_sources(directory: Path, edition: int) -> None:
    """Files to be backed up, each with its sum beside it, as whoever writes such files leaves them."""
    source = directory / "source"
    source.mkdir(parents=True, exist_ok=True)
    (directory / "backup").mkdir(exist_ok=True)
    for name in FILES:
        content = f"{name}, edition {edition}\n".encode() * 20_000
        (source / name).write_bytes(content)
        (source / f"{name}.sha256").write_text(hashlib.sha256(content).hexdigest(), encoding="ascii")


def damage(directory: Path, name: str) -> None:
    """One byte of a file is not what it was when its sum was made."""
    with (directory / "source" / name).open("r+b") as file:
        file.seek(100)
        file.write(b"\x00")


def edition_in(directory: Path, name: str) -> str:
    """Which edition of a file lies in the backup."""
    path = directory / "backup" / name
    return (
        path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].rpartition(" ")[2]
        if path.exists()
        else "-"
    )
