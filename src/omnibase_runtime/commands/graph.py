"""`onex graph`: a picture of a contract."""

import html
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from omnibase_runtime.commands import _console, _inputs
from omnibase_runtime.commands._options import ContractFile
from omnibase_runtime.commands._pictures import dot_text, mermaid_text

if TYPE_CHECKING:
    from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeSubcontract
    from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
    from omnibase_core.utils.effect_plan import EffectPlan, OperationPlan
    from omnibase_core.utils.fsm_plan import FsmPlan


class Format(StrEnum):
    """Languages of pictures."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def graph(
    file: ContractFile,
    picture: Annotated[Format, typer.Option("--format", "-f", help="Language of the picture.")] = Format.MERMAID,
) -> None:
    """Draw the operations of a contract: in which order they run, what they read from each other, under which policies.

    A solid arrow is the order, a dotted one carries outputs; what is not idempotent has a double border.

    Of a state machine: states, and arrows with trigger and guard. Of a workflow: steps, arrows with conditions, and
    what undoes them. These two --format svg draws by itself.

    [bold]Example[/]: onex graph orders.yaml --format dot | dot -Tsvg > orders.svg
    """
    loaded = _inputs.load(file)
    if loaded.kind == "reducer":
        from omnibase_runtime.commands import _machine

        machine = cast("FsmPlan", loaded.plan).machine  # the plan of this kind
        draw = {Format.MERMAID: _machine.mermaid, Format.DOT: _machine.dot, Format.SVG: _machine.svg}[picture]
        for line in draw(machine):
            _console.say(line)
        return
    if loaded.workflow is not None:
        from omnibase_runtime.commands import _workflow_picture

        paint = {
            Format.MERMAID: _workflow_picture.mermaid,
            Format.DOT: _workflow_picture.dot,
            Format.SVG: _workflow_picture.svg,
        }[picture]
        for line in paint(loaded.workflow.subcontract, loaded.workflow.plan):
            _console.say(line)
        return
    if picture is Format.SVG:
        raise _console.usage(
            "--format svg draws state machines and workflows; for other contracts write --format dot | dot -Tsvg"
        )
    if loaded.compute_subcontract is not None:
        for line in _pipeline(loaded.compute_subcontract, picture):
            _console.say(line)
        return
    contract, compiled = _inputs.effect_of(loaded)
    lines = _mermaid(contract, compiled) if picture is Format.MERMAID else _dot(contract, compiled)
    for line in lines:
        _console.say(line)


def _pipeline(contract: "ModelComputeSubcontract", picture: Format) -> Iterator[str]:
    """The steps of a compute contract; arrows into branches have the name of the branch."""
    from omnibase_runtime.commands._compute import boxes, edges

    steps = list(boxes(contract.pipeline))
    arrows = edges(contract.pipeline, [])
    title = f"{contract.operation_name} {contract.version}"
    if picture is Format.MERMAID:
        yield "flowchart TD"
        yield f'  subgraph contract["{mermaid_text(title)}"]'
        for name, kind in steps:
            yield f'    s_{name}["{mermaid_text(name)}<br/>{mermaid_text(kind)}"]'
        for start, end, label in arrows:
            yield f'    s_{start} -. "{mermaid_text(label)}" .-> s_{end}' if label else f"    s_{start} --> s_{end}"
        yield "  end"
        return
    yield "digraph contract {"
    yield f"  label={dot_text(title)}; labelloc=t; rankdir=TB; fontname=Helvetica"
    yield "  node [shape=box, style=rounded, fontname=Helvetica]; edge [fontname=Helvetica, fontsize=10]"
    for name, kind in steps:
        yield f"  s_{name} [label=<<B>{html.escape(name)}</B><BR/>{html.escape(kind)}>]"
    for start, end, label in arrows:
        yield f"  s_{start} -> s_{end}" + (f" [style=dashed, label={dot_text(label)}]" if label else "")
    yield "}"


def _edges(compiled: "EffectPlan") -> Iterator[tuple[int, int, str]]:
    """(from, to, outputs that are read), the order of a sequence included; without outputs the text is empty."""
    reads: dict[tuple[int, int], dict[str, None]] = {}
    index_of = {operation.name: operation.index for operation in compiled.operations}
    for operation in compiled.operations:
        for _, hole in operation.io.holes:
            if hole.source == "output":
                reads.setdefault((index_of[hole.path[0]], operation.index), {})[".".join(hole.path[1:])] = None
    if not compiled.mode.is_parallel:
        for index in range(len(compiled.operations) - 1):
            if (index, index + 1) not in reads:
                yield index, index + 1, ""
    for operation in compiled.operations:
        for other in operation.depends_on:
            is_next = not compiled.mode.is_parallel and other + 1 == operation.index
            if (other, operation.index) not in reads and not is_next:
                yield other, operation.index, ""
    for (start, end), names in reads.items():
        yield start, end, ", ".join(names)


def _labels(contract: "ModelEffectSubcontract", operation: "OperationPlan") -> list[str]:
    """Lines of a box: name, what it does, what happens when it fails."""
    from omnibase_runtime.commands._render import count, milliseconds

    retries = 0 if contract.transaction.enabled else operation.max_retries
    policies = [
        count(retries, "retry", "retries") if retries else "no retry",
        milliseconds(operation.operation_timeout_s * 1_000),
    ]
    if operation.breaker.enabled and not contract.transaction.enabled:
        policies.append(f"breaker {operation.breaker.failure_threshold}")
    return [operation.name, operation.label, ", ".join(policies)]


def _title(contract: "ModelEffectSubcontract", compiled: "EffectPlan") -> str:
    title = f"{contract.subcontract_name} {contract.version} · {contract.execution_mode.value}"
    if compiled.transaction is not None:
        title += f" · transaction on {compiled.connection_name}, {compiled.transaction.isolation_level.value}"
    return title


def _mermaid(contract: "ModelEffectSubcontract", compiled: "EffectPlan") -> Iterator[str]:
    """Texts are quoted, and what Mermaid reads inside quotes is written as its entity codes."""
    yield "flowchart TD"
    yield f'  subgraph contract["{mermaid_text(_title(contract, compiled))}"]'
    for operation in compiled.operations:
        text = "<br/>".join(mermaid_text(line) for line in _labels(contract, operation))
        left, right = ("[", "]") if operation.idempotent else ("[[", "]]")
        yield f'    op{operation.index}{left}"{text}"{right}'
    for start, end, names in _edges(compiled):
        yield f'    op{start} -. "{mermaid_text(names)}" .-> op{end}' if names else f"    op{start} --> op{end}"
    yield "  end"


def _dot(contract: "ModelEffectSubcontract", compiled: "EffectPlan") -> Iterator[str]:
    yield "digraph contract {"
    yield f"  label={dot_text(_title(contract, compiled))}; labelloc=t; rankdir=TB; fontname=Helvetica"
    yield "  node [shape=box, style=rounded, fontname=Helvetica]; edge [fontname=Helvetica, fontsize=10]"
    for operation in compiled.operations:
        name, *rest = _labels(contract, operation)
        lines = "<BR/>".join(f'<FONT POINT-SIZE="10">{html.escape(line)}</FONT>' for line in rest)
        borders = 1 if operation.idempotent else 2
        yield f"  op{operation.index} [label=<<B>{html.escape(name)}</B><BR/>{lines}>, peripheries={borders}]"
    for start, end, names in _edges(compiled):
        yield f"  op{start} -> op{end}" + (f" [style=dashed, label={dot_text(names)}]" if names else "")
    yield "}"
