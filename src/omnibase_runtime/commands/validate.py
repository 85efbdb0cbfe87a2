"""`onex validate`: all findings of all files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnibase_core.errors.contract_error import Diagnostic
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._options import Json

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.utils.contract_loader import LoadedContract
    from omnibase_core.utils.fsm_plan import FsmPlan

Files = Annotated[
    list[str], typer.Argument(metavar="FILES", help="Contract files; - for standard input.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found in one file. `contracts` are those of its documents that are valid; routes: None for a file of
    contracts, else how many a valid routing table of intents has.
    """

    name: str
    text: str
    documents: int
    contracts: tuple["LoadedContract", ...]
    diagnostics: tuple[Diagnostic, ...]
    routes: int | None = None

    def count(self, severity: str) -> int:
        return sum(d.severity == severity for d in self.diagnostics)


def validate(
    files: Files,
    as_json: Json = False,
    sarif: Annotated[bool, typer.Option("--sarif", metavar="", help="SARIF 2.1.0 on standard output.")] = False,
) -> None:
    """Find everything that is wrong with contracts, each with file, line, column, and what to do about it.

    Every document of a file is judged. So is a routing table of intents, with the contracts that it names.

    [bold]Exit status[/]: 0, also with warnings, or 2.

    [bold]Example[/]: onex validate contracts/*.yaml
    """
    _console.mode.json = as_json
    if as_json and sarif:
        raise _console.usage("--json and --sarif exclude each other: there is one standard output")
    reports = [_judge(file) for file in files]
    diagnostics = [diagnostic for report in reports for diagnostic in report.diagnostics]
    if as_json:
        _console.say_json(_document(reports))
    elif sarif:
        from omnibase_runtime.commands._sarif import sarif_log

        _console.say_json(sarif_log(diagnostics))
    else:
        _print(reports)
    raise typer.Exit(2 if any(d.severity == "error" for d in diagnostics) else 0)


def _judge(file: str) -> FileReport:
    from omnibase_core.utils.contract_loader import judge_text

    name = _inputs.STDIN_NAME if file == _inputs.STDIN else file
    try:
        raw = _inputs.read_bytes(file, _inputs.MAX_CONTRACT_BYTES)
    except ModelOnexError as error:
        message = error.message.removeprefix(f"{file}: ")
        return FileReport(name, "", 0, (), (Diagnostic("E-FILE", "error", message, file=name),))
    if _is_routing_table(raw):
        return _judge_routes(name, raw)
    judged = judge_text(raw, name)
    if not judged:
        fix = f"onex new effect {Path(name).stem} writes one to begin with" if file != _inputs.STDIN else ""
        return FileReport(name, "", 0, (), (Diagnostic("E-EMPTY", "error", "holds no contract", file=name, fix=fix),))
    return FileReport(
        name,
        raw.decode(errors="replace"),
        len(judged),
        tuple(one.contract for one in judged if one.contract is not None),
        tuple(diagnostic for one in judged for diagnostic in one.diagnostics),
    )


def _is_routing_table(raw: bytes) -> bool:
    if b"routes" not in raw and b"templates" not in raw:
        return False
    from omnibase_core.utils.intent_routes import is_intent_routes
    from omnibase_core.utils.yaml_document import read_documents

    documents, _ = read_documents(raw)
    return len(documents) == 1 and is_intent_routes(documents[0].data)


def _judge_routes(name: str, raw: bytes) -> FileReport:
    from omnibase_core.utils.intent_routes import judge_intent_routes

    judged = judge_intent_routes(raw, name)
    routes = None if judged.routes is None else len(judged.routes.routes)
    return FileReport(name, raw.decode(errors="replace"), 1, (), judged.diagnostics, routes)


def _document(reports: Sequence[FileReport]) -> "JsonValue":
    files: list[JsonValue] = []
    for report in reports:
        contracts: list[JsonValue] = [_named(contract) for contract in report.contracts]
        if report.routes is not None:
            contracts = [{"kind": "intent_routes", "name": None, "version": None}]
        findings: list[JsonValue] = [asdict(diagnostic) for diagnostic in report.diagnostics]
        files.append(
            {"file": report.name, "documents": report.documents, "contracts": contracts, "diagnostics": findings}
        )
    errors = sum(report.count("error") for report in reports)
    warnings = sum(report.count("warning") for report in reports)
    return {"valid": errors == 0, "errors": errors, "warnings": warnings, "files": files}


def _named(contract: "LoadedContract") -> "JsonValue":
    """Name and version of the file's own, else those of what it holds."""
    effect, compute = contract.effect_subcontract, contract.compute_subcontract
    if contract.workflow is not None:
        workflow = contract.workflow.subcontract
        name, version = contract.name or workflow.workflow_name, contract.version or workflow.version
        return {"kind": contract.kind, "name": name, "version": version}
    if contract.kind == "reducer":
        machine = cast("FsmPlan", contract.plan).machine  # the plan of this kind
        own: JsonValue = contract.name or machine.state_machine_name
        return {"kind": contract.kind, "name": own, "version": contract.version or machine.state_machine_version}
    named = contract.name or (effect.subcontract_name if effect else compute.operation_name if compute else None)
    own_version = contract.version or (effect.version if effect else compute.version if compute else None)
    return {"kind": contract.kind, "name": named, "version": own_version}


def _print(reports: Sequence[FileReport]) -> None:
    from omnibase_runtime.commands._diagnostics import print_diagnostics
    from omnibase_runtime.commands._render import count

    for report in reports:
        print_diagnostics(report.diagnostics, texts={report.name: report.text})
    for report in reports:
        if not report.count("error"):
            _print_valid(report)
    errors, warnings = (sum(report.count(s) for report in reports) for s in ("error", "warning"))
    if errors:
        told = count(errors, "error") + (f" and {count(warnings, 'warning')}" if warnings else "")
        broken = sum(report.count("error") > 0 for report in reports)
        _console.say(f"{told} in {broken} of {count(len(reports), 'file')}", stderr=True)


def _print_valid(report: FileReport) -> None:
    from rich.text import Text

    from omnibase_runtime.commands._render import can_show, count

    warnings = report.count("warning")
    what = ", ".join(_described(contract) for contract in report.contracts) or "no document"
    if report.routes is not None:
        what = f"routing table of intents, {count(report.routes, 'route')}"
    told = f"  {what}" + (f"  {count(warnings, 'warning')}" if warnings else "")
    mark = "✓" if can_show("✓") else "ok"
    screen = _console.console()
    screen.print(Text.assemble((mark, "green"), " ", (report.name, "bold"), (told, "dim")), soft_wrap=True)


def _described(contract: "LoadedContract") -> str:
    from omnibase_runtime.commands._render import count

    if contract.workflow is not None:
        workflow = contract.workflow.subcontract
        return f"{contract.kind} {workflow.workflow_name} {workflow.version}, {count(len(workflow.steps), 'step')}"
    if contract.kind == "reducer":
        machine = cast("FsmPlan", contract.plan).machine  # the plan of this kind
        states = count(len(machine.states), "state")
        return f"{contract.kind} {machine.state_machine_name} {machine.state_machine_version}, {states}"
    effect, compute = contract.effect_subcontract, contract.compute_subcontract
    if compute is not None:
        return f"{contract.kind} {compute.operation_name} {compute.version}, {count(len(compute.pipeline), 'step')}"
    if effect is None:
        return contract.kind
    return f"{contract.kind} {effect.subcontract_name} {effect.version}, {count(len(effect.operations), 'operation')}"
