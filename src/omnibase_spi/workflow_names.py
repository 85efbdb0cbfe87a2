"""What a run is called: its workflow's name and version, and ids made of it."""

from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final
from uuid import UUID

from omnibase_core.models.primitives.identifiers import NamedIds
from omnibase_core.protocols.protocol_workflow_engine import WorkflowBundle

_RUNS: Final = NamedIds(UUID("1f6a3f0e-0b1d-5c55-8b43-6f6f3f1c9a10"))
_DEFAULT_VERSION: Final = "1.0.0"
"""As `ModelOrchestratorSubcontract` has it."""
_NAMES_KEPT: Final = 64


def names_of(bundle: WorkflowBundle) -> tuple[str, str]:
    """Name and version of the workflow, to list and find runs by; the file's name where the text tells none."""
    text = bundle.files.get(bundle.root)
    name, version = (None, None) if text is None else _told(text)
    return name or PurePosixPath(bundle.root).stem, version or _DEFAULT_VERSION


@lru_cache(_NAMES_KEPT)
def _told(text: str) -> tuple[str | None, str | None]:
    from omnibase_core.utils.yaml_document import read_documents  # plans made in Python have no text

    documents, _ = read_documents(text)
    root = documents[0].data if documents else None
    contract = root.get("orchestrator_subcontract") if isinstance(root, dict) else None
    if not isinstance(contract, dict):
        return None, None
    name, version = contract.get("workflow_name"), contract.get("version")
    return name if isinstance(name, str) else None, version if isinstance(version, str) else None


def ids_of(workflow_id: str, generation: int) -> NamedIds:
    """Ids made of a run and a name; a run that began anew has others."""
    return NamedIds(_RUNS.of(f"{workflow_id}/{generation}" if generation else workflow_id))
