"""What a bundle calls its workflow."""

import re
from pathlib import PurePosixPath
from typing import Final

from omnibase_core.protocols.protocol_workflow_engine import WorkflowBundle

_NAME: Final = re.compile(r"^\s*workflow_name:\s*[\"']?([^\"'#\n]+)", re.MULTILINE)
_VERSION: Final = re.compile(r"^\s*version:\s*[\"']?([0-9][^\"'#\s]*)", re.MULTILINE)
_DEFAULT_VERSION: Final = "1.0.0"
"""As `ModelOrchestratorSubcontract` has it."""


def names_of(bundle: WorkflowBundle) -> tuple[str, str]:
    """Name and version of the workflow, to list and find runs by; the file's name where the text tells none."""
    text = bundle.files.get(bundle.root, "")
    name, version = _NAME.search(text), _VERSION.search(text)
    return (
        name[1].strip() if name else PurePosixPath(bundle.root).stem,
        version[1] if version else _DEFAULT_VERSION,
    )
