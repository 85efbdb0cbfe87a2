"""Writes the reference pages: `python -m docs.generate`, or `make docs`.

A page is a function that returns its whole text. It raises when the source has something that it does not explain.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from docs.commands_page import commands
from docs.contract_page import effect_contract
from docs.diagnostics_page import diagnostics
from docs.pure_pages import compute_contract, reducer_contract
from docs.services_page import services
from docs.words_pages import errors, settings
from docs.workflow_page import workflow_contract

REFERENCE: Final = Path(__file__).parent / "reference"
NOTE: Final = "<!-- Written by python -m docs.generate; changes belong into the source that it reads. -->\n\n"
PAGES: Final[dict[str, Callable[[], str]]] = {
    "effect-contract.md": effect_contract,
    "compute-contract.md": compute_contract,
    "reducer-contract.md": reducer_contract,
    "workflow-contract.md": workflow_contract,
    "diagnostics.md": diagnostics,
    "errors.md": errors,
    "settings.md": settings,
    "services.md": services,
    "command-line.md": commands,
}


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(NOTE + page(), encoding="utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")


if __name__ == "__main__":
    main()
