"""Loads contracts: text in, validated models and a compiled plan out, or everything that is wrong with the text.

The text is read into plain data with places (`yaml_document`). The models judge the data as a whole; in the good case
that is all, and their rules and the plan compiler follow. In the bad case `contract_shapes` goes down into the parts,
and rules and compiler judge whatever is well-formed, so that one run shows all there is to mend.
"""

import logging
import re
import stat
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ContractError, Diagnostic, ModelOnexError
from omnibase_core.models.contracts.contract_model import CONTRACT_KINDS, LOADER, ContractFile, ContractModel
from omnibase_core.utils.contract_files import ContractFiles, files_beside
from omnibase_core.utils.contract_findings import (
    Findings,
    SourceText,
    TooManyFindingsError,
    did_you_mean,
    show,
    summary,
)
from omnibase_core.utils.contract_kinds import contract_kind
from omnibase_core.utils.contract_rules import judge_rules
from omnibase_core.utils.contract_shapes import PartJudge, fields_of
from omnibase_core.utils.yaml_document import MAX_BYTES, YamlDocument, read_documents

if TYPE_CHECKING:
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeSubcontract
    from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
    from omnibase_core.utils.compute_plan import ComputePlan
    from omnibase_core.utils.effect_plan import EffectPlan
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow

_log = logging.getLogger("onex.contract")

_FILE_ENDINGS: Final = (".yaml", ".yml", ".json")
_SEPARATOR = re.compile(r"^---(?:\s|$)", re.MULTILINE)
MAX_DOCUMENTS: Final = 1_000
"""Documents of one text."""
_ROOT_FIELDS: Final = ("name", "description", "version")


@dataclass(frozen=True, slots=True)
class LoadedContract:
    """A contract that may run.

    source: the file's name, or `<text>`. kind: the node kind it is for. name, description, version: of the file's root.
    subcontract: the contract itself. plan: what judging compiled; nodes reuse it. findings: warnings, in order of
    place. Each kind has its own typed view of subcontract and plan, which is None for the other kinds.
    """

    source: str
    kind: str
    name: str | None
    description: str | None
    version: str | None
    subcontract: ContractModel
    plan: object
    findings: tuple[Diagnostic, ...] = ()

    @property
    def effect_subcontract(self) -> "ModelEffectSubcontract | None":
        return cast("ModelEffectSubcontract", self.subcontract) if self.kind == "effect" else None  # of this kind

    @property
    def effect_plan(self) -> "EffectPlan | None":
        return cast("EffectPlan", self.plan) if self.kind == "effect" else None  # of this kind

    @property
    def workflow(self) -> "LoadedWorkflow | None":
        return cast("LoadedWorkflow", self.plan) if self.kind == "orchestrator" else None  # of this kind

    @property
    def compute_subcontract(self) -> "ModelComputeSubcontract | None":
        return cast("ModelComputeSubcontract", self.subcontract) if self.kind == "compute" else None  # of this kind

    @property
    def compute_plan(self) -> "ComputePlan | None":
        return cast("ComputePlan", self.plan) if self.kind == "compute" else None  # of this kind


@dataclass(frozen=True, slots=True)
class Judged:
    """One document of a text: the contract, unless it was refused, and all findings."""

    contract: LoadedContract | None
    diagnostics: tuple[Diagnostic, ...]


def load_contract(contract: str | Path) -> LoadedContract:
    """Load one contract: a `str` is YAML text, a `Path` names a file.

    Raises ContractError with every problem of the text or file. Warnings go to `findings` and to the logger
    `onex.contract`.
    """
    file, text = _read(contract)
    judged = judge_text(text, file)
    diagnostics = [diagnostic for document in judged for diagnostic in document.diagnostics]
    if len(judged) > 1:
        diagnostics.insert(0, _many_documents(file, len(judged)))
    loaded = judged[0].contract
    if loaded is None or len(judged) > 1:
        raise ContractError(summary(file, diagnostics), diagnostics)
    for warning in loaded.findings:
        _log.warning("%s", warning)
    return loaded


def load_kind(contract: str | Path, kind: str, node: str) -> LoadedContract:
    """Load a contract for a node that runs one kind; another kind is ModelOnexError VALIDATION_ERROR."""
    loaded = load_contract(contract)
    if loaded.kind != kind:
        raise ModelOnexError(
            f"{loaded.source}: {node} runs {'an' if kind[0] in 'aeiou' else 'a'} {kind}_subcontract, "
            f"found {loaded.kind}_subcontract",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return loaded


def judge_text(text: str | bytes, file: str = "<text>", files: ContractFiles | None = None) -> list[Judged]:
    """Judge every document of a text; never empty. A text that cannot be read to its end has a last document without
    a contract, whose diagnostics say why.

    files: what lies beside it; None is the folder of `file`, unless that is no file, such as `<text>`.
    """
    if files is None and not file.startswith("<"):
        files = files_beside(Path(file))
    documents, problems = read_documents(text, file)
    if not documents and not problems:
        return [Judged(None, (_empty(file),))]
    if len(documents) > MAX_DOCUMENTS:
        return [Judged(None, (_too_many_documents(file, len(documents)),))]
    source = SourceText(_decoded(text) if documents else "")
    shares = _share_problems(documents, problems, source) if problems else [[] for _ in documents]
    judged = [_judge(document, source, file, share, files) for document, share in zip(documents, shares, strict=False)]
    if len(shares) > len(documents):
        judged.append(Judged(None, tuple(shares[-1])))
    return judged


def _decoded(text: str | bytes) -> str:
    """What the reader read: the marks count from behind a byte order mark."""
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).removeprefix("\ufeff")


def _share_problems(
    documents: list[YamlDocument], problems: list[Diagnostic], source: SourceText
) -> list[list[Diagnostic]]:
    """The reader's problems by document; a last share without a document holds those of where reading ended."""
    starts = [document.mark()[0] for document in documents]
    separators = [source.place(match.start(), 1)[0] for match in _SEPARATOR.finditer(source.text)]
    shares: list[list[Diagnostic]] = [[] for _ in range(len(documents) + 1)]
    for problem in problems:
        index = max(bisect_right(starts, problem.line) - 1, 0)
        if documents and problem.line > 0:
            next_separator = bisect_right(separators, starts[index])
            if next_separator < len(separators) and separators[next_separator] <= problem.line:
                index += 1
        else:
            index = len(documents)
        shares[index].append(problem)
    if documents and not shares[-1]:
        shares.pop()
    return shares


def _judge(
    document: YamlDocument, source: SourceText, file: str, problems: list[Diagnostic], files: ContractFiles | None
) -> Judged:
    findings = Findings(document, source, file, {(problem.line, problem.column) for problem in problems}, files)
    contract: LoadedContract | None = None
    with suppress(TooManyFindingsError):
        contract = _judge_root(document.data, findings)
    found = findings.in_order()
    diagnostics = (
        tuple(sorted([*problems, *found], key=lambda finding: (finding.line, finding.column))) if problems else found
    )
    if contract is None or problems or findings.has_errors:
        return Judged(None, diagnostics)
    return Judged(contract if not found else replace(contract, findings=found), diagnostics)


def _judge_root(data: JsonValue, findings: Findings) -> LoadedContract | None:
    if not isinstance(data, dict):
        findings.add(
            "E-ROOT",
            "a contract is a mapping",
            (),
            found=show(data),
            allowed=f"exactly one of {', '.join(CONTRACT_KINDS)}, and {', '.join(_ROOT_FIELDS)}",
            fix="begin with effect_subcontract:",
        )
        return None
    keys = [key for key in data if key in CONTRACT_KINDS]
    kind = contract_kind(keys[0]) if len(keys) == 1 else None
    try:
        root = None if kind is None else kind.file.model_validate(data, context=LOADER)
    except ValidationError:
        root = None
    if kind is None or root is None:
        _judge_parts(data, findings)
        return None
    contract = cast("ContractModel", getattr(root, kind.key))  # the file's model has a field of this name
    judge_rules(contract, (kind.key,), findings.reporter)
    plan = kind.compile_plan(contract, findings)
    if findings.has_errors:
        return None
    return LoadedContract(findings.file, kind.name, root.name, root.description, root.version, contract, plan)


# what is wrong, when something is


def _judge_parts(data: Mapping[str, JsonValue], findings: Findings) -> None:
    judge = PartJudge(findings)
    fields = fields_of(ContractFile)
    kinds = [key for key in data if key in CONTRACT_KINDS]
    if len(kinds) != 1:
        findings.add(
            "E-KIND",
            f"a contract has exactly one kind, found {' and '.join(kinds) or 'none'}",
            (kinds[1],) if kinds else (),
            at="key",
            found=", ".join(kinds) or show(dict(data)),
            allowed=f"exactly one of {', '.join(CONTRACT_KINDS)}",
            fix="split the file" if kinds else _kind_fix(data),
        )
    for key, value in data.items():
        kind = contract_kind(key)
        if kind is not None:
            part = judge.value(fields_of(kind.file)[key].shape, value, (key,))
            if isinstance(part, ContractModel):
                judge_rules(part, (key,), findings.reporter, whole=False)
                kind.judge_parts(part, findings)
        elif key in fields:
            judge.value(fields[key].shape, value, (key,))
        else:
            findings.add(
                "E-UNKNOWN-FIELD",
                f"unknown field {show(key)}",
                (key,),
                at="key",
                found=show(key),
                allowed=", ".join((*CONTRACT_KINDS, *_ROOT_FIELDS)),
                fix=did_you_mean(key, (*CONTRACT_KINDS, *_ROOT_FIELDS)) or "remove it",
            )


def _kind_fix(data: Mapping[str, JsonValue]) -> str:
    if "operations" in data or "subcontract_name" in data:
        return "put all of it below effect_subcontract:, indented"
    suggestions = (did_you_mean(key, CONTRACT_KINDS) for key in list(data)[:10])
    return next(filter(None, suggestions), "add effect_subcontract:")


# files


def _read(contract: str | Path) -> tuple[str, str | bytes]:
    """File name and text. Raises ContractError for what cannot be read."""
    if isinstance(contract, str):
        line = contract.strip()
        if "\n" not in contract and line.lower().endswith(_FILE_ENDINGS) and ": " not in line:
            raise _file_error(
                "<text>",
                f"a str is the text of a contract, but {show(line)} names a file",
                found=show(line),
                fix=f"pass Path({line!r})",
            )
        return "<text>", contract
    if not isinstance(contract, Path):
        message = (  # type: ignore[unreachable]  # callers without a type checker get here
            f"load_contract takes YAML text as a str or a file as a Path, found {type(contract).__name__}"
        )
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
    file = str(contract)
    try:
        mode = contract.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise _file_error(file, f"{file} is {what}", fix="name the contract's file")
        with contract.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _file_error(file, f"the contract cannot be read: {reason}", fix="check path and permissions") from error
    if b"\0" in content:
        raise _file_error(file, f"{file} is no text: it holds NUL bytes", fix="save the contract as UTF-8 text")
    return file, content


def _file_error(file: str, message: str, *, found: str = "", fix: str) -> ContractError:
    diagnostic = Diagnostic(
        "E-FILE", "error", message, file=file, found=found, allowed="YAML as UTF-8, text or file", fix=fix
    )
    return ContractError(summary(file, [diagnostic]), [diagnostic])


def _empty(file: str) -> Diagnostic:
    return Diagnostic(
        "E-EMPTY",
        "error",
        "there is no contract: the text is empty",
        file=file,
        allowed=f"a mapping with exactly one of {', '.join(CONTRACT_KINDS)}",
        fix="begin with effect_subcontract:",
    )


def _many_documents(file: str, count: int) -> Diagnostic:
    return Diagnostic(
        "E-DOCUMENTS",
        "error",
        f"one contract is wanted, but the text has {count} documents",
        file=file,
        found=f"{count} documents",
        allowed="one document",
        fix="split the file at its '---' lines; onex validate judges each document",
    )


def _too_many_documents(file: str, count: int) -> Diagnostic:
    return Diagnostic(
        "E-LIMIT",
        "error",
        f"the text has more than {MAX_DOCUMENTS} documents",
        file=file,
        found=f"{count} documents",
        allowed=f"at most {MAX_DOCUMENTS}",
        fix="split the file",
    )
