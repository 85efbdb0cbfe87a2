"""Reads `intent_routes.yaml`: where intents go, and the mails that they may send.

A table is judged as contracts are: by its models, their rules, and the contracts that its rows name; all findings at
once, each with its place. Whether the settings know a connection is seen where it is used.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from omnibase_core.errors.contract_error import ContractError, Diagnostic
from omnibase_core.models.contracts.contract_model import CONTRACT_KINDS, LOADER, KeyPath
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoutes
from omnibase_core.utils.contract_files import ContractFiles, FileRefusedError, files_beside
from omnibase_core.utils.contract_findings import Findings, SourceText, TooManyFindingsError, show, summary
from omnibase_core.utils.contract_loader import judge_text
from omnibase_core.utils.contract_rules import judge_rules
from omnibase_core.utils.contract_shapes import PartJudge
from omnibase_core.utils.yaml_document import YamlDocument, read_documents

_log = logging.getLogger("onex.contract")

_FIELDS: Final = tuple(ModelIntentRoutes.model_fields)


@dataclass(frozen=True, slots=True)
class JudgedRoutes:
    """The table as it is written, unless it was refused, and all findings."""

    routes: ModelIntentRoutes | None
    diagnostics: tuple[Diagnostic, ...]


def load_intent_routes(table: str | Path) -> ModelIntentRoutes:
    """The table: a `str` is YAML text, a `Path` names a file, to whose directory `contract:` is relative.

    The contracts that a file names are judged with it. Raises ContractError with everything that is wrong; warnings go
    to the logger `onex.contract`.
    """
    file = "<text>" if isinstance(table, str) else str(table)
    base = Path() if isinstance(table, str) else table.parent
    try:
        text = table if isinstance(table, str) else table.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"the routing table cannot be read: {reason}"
        unread = Diagnostic("E-FILE", "error", message, file=file, fix="check path and permissions")
        raise ContractError(summary(file, [unread], "routing table"), [unread]) from error
    judged = judge_intent_routes(text, file)
    routes = judged.routes
    if routes is None:
        raise ContractError(summary(file, judged.diagnostics, "routing table"), list(judged.diagnostics))
    for warning in judged.diagnostics:
        _log.warning("%s", warning)
    rows = [
        row if row.contract is None else row.model_copy(update={"contract": str(base / row.contract)})
        for row in routes.routes
    ]
    return routes.model_copy(update={"routes": rows})


def judge_intent_routes(text: str | bytes, file: str = "<text>") -> JudgedRoutes:
    """Judge a table. Contracts that its rows name are looked for beside `file`, unless that is no file: `<text>`."""
    documents, problems = read_documents(text, file)
    if len(documents) != 1:
        return JudgedRoutes(None, tuple(problems) or (_not_one(file, len(documents)),))
    document = documents[0]
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    occupied = {(problem.line, problem.column) for problem in problems}
    files = None if file.startswith("<") else files_beside(Path(file))
    findings = Findings(document, SourceText(decoded.removeprefix("\ufeff")), file, occupied, files)
    routes: ModelIntentRoutes | None = None
    with suppress(TooManyFindingsError):
        routes = _judge(document, findings)
    found = (*problems, *findings.in_order())
    refused = any(finding.severity == "error" for finding in found)
    return JudgedRoutes(None if refused else routes, found)


def is_intent_routes(data: JsonValue) -> bool:
    """Whether a document is meant as a routing table, well-formed or not."""
    if not isinstance(data, dict):
        return False
    return not data.keys().isdisjoint(_FIELDS) and data.keys().isdisjoint(CONTRACT_KINDS)


def _judge(document: YamlDocument, findings: Findings) -> ModelIntentRoutes | None:
    data = document.data
    if not isinstance(data, dict):
        allowed = f"a mapping with {' and '.join(_FIELDS)}"
        findings.add("E-ROOT", "a routing table is a mapping", (), found=show(data), allowed=allowed, fix="add routes:")
        return None
    try:
        routes = ModelIntentRoutes.model_validate(data, context=LOADER)
        whole = True
    except ValidationError:
        part = PartJudge(findings).model(ModelIntentRoutes, data, ())
        if not isinstance(part, ModelIntentRoutes):
            return None
        routes, whole = part, False
    judge_rules(routes, (), findings.reporter, whole=whole)
    _judge_contracts(routes, findings)
    return routes


def _judge_contracts(routes: ModelIntentRoutes, findings: Findings) -> None:
    """The contracts of the rows; a file that several rows name is judged once."""
    if findings.files is None:
        return
    refused: dict[str, str] = {}
    for place, name in _contracts(routes):
        if name not in refused:
            refused[name] = _refusal(findings.files, name, findings)
        if refused[name]:
            allowed = "an effect contract, relative to this file"
            message = f"{name}: {refused[name]}"
            findings.add("E-FILE", message, place, found=repr(name), allowed=allowed, fix="correct the path")


def _contracts(routes: ModelIntentRoutes) -> Iterator[tuple[KeyPath, str]]:
    """Places and names; a row with holes may lack its own."""
    for index, row in enumerate(routes.__dict__.get("routes", ())):
        name = row.__dict__.get("contract")
        if name is not None:
            yield ("routes", index, "contract"), name


def _refusal(files: ContractFiles, name: str, findings: Findings) -> str:
    """Why the file is none that a row may name; what is wrong inside of it is among the findings."""
    try:
        path = files.path(name)
        judged = judge_text(files.read(name), files.spelled(path), files.of(path))
    except FileRefusedError as error:
        return str(error)
    if len(judged) != 1:
        return f"one contract is wanted, the file has {len(judged)} documents"
    findings.adopt(diagnostic for diagnostic in judged[0].diagnostics if diagnostic.severity == "error")
    contract = judged[0].contract
    if contract is not None and contract.kind != "effect":
        return f"a row names an effect contract, found {contract.kind}_subcontract"
    return ""


def _not_one(file: str, count: int) -> Diagnostic:
    if not count:
        message = "there is no routing table: the text is empty"
        return Diagnostic("E-EMPTY", "error", message, file=file, fix="add routes:")
    return Diagnostic(
        "E-DOCUMENTS",
        "error",
        f"one routing table is wanted, but the text has {count} documents",
        file=file,
        found=f"{count} documents",
        allowed="one document",
        fix="split the file at its '---' lines",
    )
