"""Reads `intent_routes.yaml`: where intents go, and the mails that they may send."""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from omnibase_core.errors.contract_error import ContractError, Diagnostic
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoutes
from omnibase_core.utils.yaml_document import format_path, read_documents

_CODES: Final = {"missing": "E-MISSING-FIELD", "extra_forbidden": "E-UNKNOWN-FIELD"}


def load_intent_routes(table: str | Path) -> ModelIntentRoutes:
    """The table: a `str` is YAML text, a `Path` names a file, to whose directory `contract:` is relative.

    Raises ContractError with everything that is wrong with it.
    """
    file = "<text>" if isinstance(table, str) else str(table)
    base = Path() if isinstance(table, str) else table.parent
    try:
        text = table if isinstance(table, str) else table.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise _refused(
            [Diagnostic("E-FILE", "error", f"the routing table cannot be read: {reason}", file=file)]
        ) from error
    documents, problems = read_documents(text, file)
    if problems or len(documents) != 1:
        told = problems or [Diagnostic("E-DOCUMENTS", "error", f"one document, found {len(documents)}", file=file)]
        raise _refused(told)
    document = documents[0]
    try:
        routes = ModelIntentRoutes.model_validate(document.data)
    except ValidationError as error:
        raise _refused(
            [
                Diagnostic(
                    _CODES.get(detail["type"], "E-VALUE"),
                    "error",
                    detail["msg"],
                    format_path(detail["loc"]),
                    file,
                    *document.mark(detail["loc"]),
                )
                for detail in error.errors(include_input=False)
            ]
        ) from None
    rows = [
        row if row.contract is None else row.model_copy(update={"contract": str(base / row.contract)})
        for row in routes.routes
    ]
    return routes.model_copy(update={"routes": rows})


def _refused(problems: list[Diagnostic]) -> ContractError:
    return ContractError("\n".join(map(str, problems)), problems)
