"""A workflow with all that belongs to it: the contracts that its steps name, its schemas, its child workflows.

A run is pinned to these texts (`WorkflowBundle`). They are what was read while the workflow was loaded, so loading them
again, from the bundle, gives the same.
"""

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ContractError, Diagnostic, ModelOnexError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract
from omnibase_core.models.contracts.subcontracts.workflow_steps import WORK, ModelWorkflowWork
from omnibase_core.protocols.protocol_workflow_engine import WorkflowBundle
from omnibase_core.utils.contract_files import ContractFiles, FileRefusedError, files_of, read_schema
from omnibase_core.utils.contract_findings import Findings
from omnibase_core.utils.contract_loader import Judged, LoadedContract, judge_text
from omnibase_core.utils.input_check import SchemaCheck, compile_schema_check
from omnibase_core.utils.workflow_compiler import Report, compile_workflow, judge_workflow
from omnibase_core.utils.workflow_node_facts import FILE_ENDINGS, facts_of, is_file, node_path
from omnibase_core.utils.workflow_plan import WorkflowPlan

MAX_DEPTH: Final = 20
"""Child workflows of child workflows."""
MAX_CHARACTERS: Final = 4_000_000
"""Of all texts of a bundle, which is stored with each run."""
_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow that may run.

    nodes: the contracts of its steps, by path (`PlannedStep.node`). schema: of its input. bundle: the texts of it all;
    that of a child workflow is in the child's own `LoadedWorkflow`.
    """

    subcontract: ModelOrchestratorSubcontract
    plan: WorkflowPlan
    nodes: Mapping[str, LoadedContract]
    schema: SchemaCheck | None
    bundle: WorkflowBundle


def load_workflow(contract: ModelOrchestratorSubcontract, findings: Findings, key: str) -> LoadedWorkflow:
    """Compile a contract whose rules have been judged, with everything that it names.

    key: of the contract in the file. What is wrong is added to the findings, also that of the other files.
    """
    loader = _Loader(contract, findings, key)
    nodes = loader.nodes()
    schema = loader.schema()
    facts = {path: facts_of(loaded) for path, loaded in nodes.items()}
    plan = compile_workflow(contract, facts, schema, loader.report)
    return LoadedWorkflow(contract, plan, nodes, schema, loader.bundle())


def judge_parts_of_workflow(contract: ModelOrchestratorSubcontract, findings: Findings, key: str) -> None:
    """Report what `load_workflow` would, of a contract that may have holes."""
    loader = _Loader(contract, findings, key)
    facts = {path: facts_of(loaded) for path, loaded in loader.nodes().items()}
    schema = None
    with suppress(AttributeError):
        schema = loader.schema()
    judge_workflow(contract, facts, schema, loader.report)


def bundle_of(root: str, files: Mapping[str, str]) -> WorkflowBundle:
    """The bundle of these texts."""
    return WorkflowBundle(root, dict(files), _digest(root, files))


def _digest(root: str, files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([root, sorted(files.items())]).encode()).hexdigest()


_loaded: Final[dict[str, LoadedContract]] = {}
"""The workflows of the latest bundles, by digest."""


def load_bundle(bundle: WorkflowBundle) -> LoadedWorkflow:
    """The workflow of a bundle, without reading a file; kept as long as it is among the 64 used last.

    Raises ContractError when this version does not accept its texts, and ModelOnexError VALIDATION_ERROR for a bundle
    that is not what its digest says.
    """
    kept = _loaded.pop(bundle.digest, None)
    if kept is None:
        kept = _load(bundle)
    while len(_loaded) >= _KEPT:
        _loaded.pop(next(iter(_loaded)), None)
    _loaded[bundle.digest] = kept
    workflow = kept.workflow
    if workflow is None:
        raise ModelOnexError(
            f"{bundle.root}: a bundle holds a workflow, found {kept.kind}_subcontract",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return workflow


def _load(bundle: WorkflowBundle) -> LoadedContract:
    if bundle.root not in bundle.files or _digest(bundle.root, bundle.files) != bundle.digest:
        raise ModelOnexError(
            f"{bundle.root}: the texts of this bundle are not those of its digest {bundle.digest[:12]}; "
            "start a new run from the contract's file",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    judged = judge_text(bundle.files[bundle.root], bundle.root, files_of(bundle.files))
    loaded = judged[0].contract
    if loaded is None or len(judged) > 1:
        diagnostics = [diagnostic for document in judged for diagnostic in document.diagnostics]
        told = "\n".join(map(str, diagnostics))
        raise ContractError(f"{bundle.root}: the contract of the run is not valid any more\n{told}", diagnostics)
    return loaded


@dataclass(frozen=True, slots=True)
class _Kept:
    """A contract that was loaded, and the texts that this took."""

    judged: list[Judged]
    texts: Mapping[str, str]


class _Loader:
    """Loads what one workflow names."""

    def __init__(self, contract: ModelOrchestratorSubcontract, findings: Findings, key: str) -> None:
        self.contract = contract
        self.findings = findings
        self.report: Report = findings.reporter((key,))
        self.texts: dict[str, str] = {}
        own = posixpath.basename(findings.file.replace("\\", "/"))
        self.files: ContractFiles | None = None
        self.own = own
        if findings.files is not None:
            trail = findings.files.trail or (own,)
            self.files = replace(findings.files.recorded(self.texts), trail=trail)
            self.own = trail[-1]

    def bundle(self) -> WorkflowBundle:
        """The texts, by path relative to the workflow's folder."""
        folder = posixpath.dirname(self.own) or "."
        texts = {posixpath.relpath(path, folder): text for path, text in self.texts.items()}
        size = sum(map(len, texts.values()))
        if size > MAX_CHARACTERS:
            self.report(
                Breach(
                    "E-LIMIT",
                    f"the workflow and what it names have {size} characters, and each run keeps them all",
                    ("steps",),
                    str(size),
                    f"at most {MAX_CHARACTERS}",
                    "split the workflow into child workflows that are started by events, or shorten the schemas",
                )
            )
        root = posixpath.basename(self.own)
        return bundle_of(root, {root: self.findings.source.text, **texts})

    def schema(self) -> SchemaCheck | None:
        """The check of the workflow's input."""
        given = self.contract.input_schema
        if given is None:
            return None
        if isinstance(given, str):
            try:
                given = dict(read_schema(self.files, given))
            except FileRefusedError as error:
                self.report(
                    Breach(
                        "E-SCHEMA-FILE",
                        f"input_schema: {error}",
                        ("input_schema",),
                        repr(given),
                        "the name of a JSON or YAML file beside the contract, or below it",
                        "name such a file, or write the schema here",
                    )
                )
                return None
        return compile_schema_check(given, "the input", ("input_schema",), self.report)

    def nodes(self) -> dict[str, LoadedContract]:
        """The contracts of the steps, by path; those that are refused are left out."""
        found: dict[str, LoadedContract | None] = {}
        refused: dict[str, str] = {}
        for place, step in works_of(self.contract):
            node = step.__dict__.get("node")
            if not isinstance(node, str) or step.__dict__.get("step_type", next(iter(WORK))) not in WORK:
                continue
            path = node_path(node)
            if not is_file(node):
                if "/" in node:
                    self._refuse(place, node, "a path whose end is none of a contract's")
                continue
            if path not in found and path not in refused:
                try:
                    found[path] = self._node(path)
                except FileRefusedError as error:
                    refused[path] = str(error)
            if path in refused:
                self._refuse(place, node, refused[path])
        return {path: loaded for path, loaded in found.items() if loaded is not None}

    def _refuse(self, place: KeyPath, node: str, why: str) -> None:
        if why.startswith("workflows start each other"):
            fix = "a workflow cannot wait for itself; start the other one by an event"
            self.report(Breach("E-CYCLE", why, (*place, "node"), repr(node), fix=fix))
            return
        self.report(
            Breach(
                "E-NODE-FILE",
                f"{node}: {why}",
                (*place, "node"),
                repr(node),
                f"a contract that ends in {', '.join(FILE_ENDINGS)}, relative to this file, or the name of a service",
                "correct the path",
            )
        )

    def _node(self, name: str) -> LoadedContract | None:
        """The contract at a path; None when it is not valid, which the findings then say."""
        files = self.files
        if files is None:
            raise FileRefusedError("this workflow is no file, so nothing lies beside it")
        path = files.path(name)
        if path in files.trail:
            circle = [*files.trail[files.trail.index(path) :], path]
            raise FileRefusedError(f"workflows start each other: {' -> '.join(circle)}")
        if len(files.trail) > MAX_DEPTH:
            raise FileRefusedError(f"child workflows nest deeper than {MAX_DEPTH}")
        kept = files.kept.get(path)
        if not isinstance(kept, _Kept):
            texts: dict[str, str] = {}
            inner = files.recorded(texts)
            text = inner.read(name)
            below = replace(inner.of(path), trail=(*files.trail, path))
            kept = files.kept[path] = _Kept(judge_text(text, files.spelled(path), below), texts)
        files.record(kept.texts)
        self.findings.adopt(_errors(kept.judged))
        if len(kept.judged) != 1:
            raise FileRefusedError(f"one contract is wanted, the file has {len(kept.judged)} documents")
        return kept.judged[0].contract


def _errors(judged: list[Judged]) -> Iterator[Diagnostic]:
    for document in judged:
        yield from (diagnostic for diagnostic in document.diagnostics if diagnostic.severity == "error")


def works_of(contract: ModelOrchestratorSubcontract) -> Iterator[tuple[KeyPath, ModelWorkflowWork]]:
    """Everything in a contract that names a node, with its place; a contract with holes has less of it."""
    for index, step in enumerate(contract.__dict__.get("steps", ())):
        place: KeyPath = ("steps", index)
        yield place, step
        compensate = step.__dict__.get("compensate")
        if compensate is not None:
            yield (*place, "compensate"), compensate
        escalate = getattr(step.__dict__.get("approval"), "__dict__", {}).get("escalate")
        if escalate is not None:
            yield (*place, "approval", "escalate"), escalate
