"""Pictures of workflows: steps, the order between them, conditions, and what undoes a step."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from omnibase_core.enums.enum_workflow import EnumWorkflowCoordination, EnumWorkflowStepType
from omnibase_runtime.commands._pictures import dot_text, mermaid_text

if TYPE_CHECKING:
    from omnibase_core.models.contracts.subcontracts.model_orchestrator_subcontract import ModelOrchestratorSubcontract
    from omnibase_core.models.contracts.subcontracts.workflow_steps import ModelWorkflowStep, ModelWorkflowWork
    from omnibase_core.utils.workflow_plan import WorkflowPlan

_WIDTH: Final = 200
_HEIGHT: Final = 56
_GAP_X: Final = 50
_GAP_Y: Final = 70
_SHOWN: Final = 60


class Box(NamedTuple):
    """A step. style: `work`, `wait`, or `undo`; off: it is disabled."""

    key: str
    lines: tuple[str, ...]
    style: str
    off: bool = False


class Arrow(NamedTuple):
    """From one box to another; aside: it is no order, but what undoes or escalates."""

    start: str
    end: str
    label: str = ""
    aside: bool = False


def boxes(contract: "ModelOrchestratorSubcontract") -> Iterator[Box]:
    """Every step, those beside the order included."""
    for index, step in enumerate(contract.steps):
        lines = [step.step_name or step.step_id, *_does(step)]
        if step.for_each is not None:
            lines.append(f"for each of {_short(str(step.for_each))}")
        if step.on_event is not None:
            lines.append(f"on {' and '.join(step.event_types)}")
        if step.when is not None and not step.depends_on:
            lines.append(f"when {_short(step.when)}")
        style = "wait" if step.step_type in {EnumWorkflowStepType.WAIT, EnumWorkflowStepType.APPROVAL} else "work"
        yield Box(f"s{index}", tuple(lines), style, not step.enabled)
        if step.compensate is not None:
            yield Box(f"c{index}", (step.compensate.step_id or "undo", *_does(step.compensate)), "undo")
        if step.approval is not None and step.approval.escalate is not None:
            escalate = step.approval.escalate
            yield Box(f"e{index}", (escalate.step_id or "escalate", *_does(escalate)), "undo")


def _does(step: "ModelWorkflowWork | ModelWorkflowStep") -> Iterator[str]:
    kind = step.step_type.value
    wait = getattr(step, "wait", None)
    if wait is not None:
        cause = next(name for name in ("signal", "event", "duration_ms", "until") if getattr(wait, name) is not None)
        value = getattr(wait, cause)
        yield f"wait: {getattr(value, 'type', value)}" if cause != "duration_ms" else f"wait: {value} ms"
    else:
        yield kind if step.node is None else f"{kind}: {step.node}"


def arrows(contract: "ModelOrchestratorSubcontract", plan: "WorkflowPlan") -> Iterator[Arrow]:
    """The order, with the condition of the step that it leads to; in a sequence also the order that nobody wrote."""
    previous: int | None = None
    for index in plan.order:
        step = contract.steps[index]
        label = "" if step.when is None else f"when {_short(step.when)}"
        needed = plan.steps[index].depends_on
        for other in needed:
            yield Arrow(f"s{other}", f"s{index}", label)
        by_order = plan.coordination in {EnumWorkflowCoordination.SEQUENTIAL, EnumWorkflowCoordination.PIPELINE}
        if by_order and previous is not None and previous not in needed:
            yield Arrow(f"s{previous}", f"s{index}", "" if needed else label)
        previous = index
        if step.compensate is not None:
            yield Arrow(f"s{index}", f"c{index}", "undone by", aside=True)
        if step.approval is not None and step.approval.escalate is not None:
            yield Arrow(f"s{index}", f"e{index}", f"after {step.approval.escalate_after_ms} ms", aside=True)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _title(contract: "ModelOrchestratorSubcontract") -> str:
    return f"{contract.workflow_name} {contract.version} · {contract.coordination_type.value}"


_BRACKETS: Final = {"work": ("[", "]"), "wait": ("{{", "}}"), "undo": ("([", "])")}


def mermaid(contract: "ModelOrchestratorSubcontract", plan: "WorkflowPlan") -> Iterator[str]:
    """A flow chart: waits are hexagons, what undoes is rounded and reached by a dotted arrow."""
    yield "flowchart TD"
    yield f'  subgraph workflow["{mermaid_text(_title(contract))}"]'
    for box in boxes(contract):
        left, right = _BRACKETS[box.style]
        yield f'    {box.key}{left}"{"<br/>".join(map(mermaid_text, _lines(box)))}"{right}'
    for arrow in arrows(contract, plan):
        label = mermaid_text(arrow.label)
        if arrow.aside:
            yield f'    {arrow.start} -. "{label}" .-> {arrow.end}'
        else:
            yield f'    {arrow.start} -- "{label}" --> {arrow.end}' if label else f"    {arrow.start} --> {arrow.end}"
    yield "  end"


def _lines(box: Box) -> tuple[str, ...]:
    return (*box.lines, "disabled") if box.off else box.lines


def dot(contract: "ModelOrchestratorSubcontract", plan: "WorkflowPlan") -> Iterator[str]:
    """For Graphviz."""
    shapes = {"work": "box", "wait": "hexagon", "undo": "box"}
    yield "digraph workflow {"
    yield f"  label={dot_text(_title(contract))}; labelloc=t; rankdir=TB; fontname=Helvetica"
    yield "  node [style=rounded, fontname=Helvetica]; edge [fontname=Helvetica, fontsize=10]"
    for box in boxes(contract):
        name, *rest = (html.escape(line) for line in _lines(box))
        text = "".join(f'<BR/><FONT POINT-SIZE="10">{line}</FONT>' for line in rest)
        style = ', style="rounded,dashed"' if box.style == "undo" or box.off else ""
        yield f"  {box.key} [label=<<B>{name}</B>{text}>, shape={shapes[box.style]}{style}]"
    for arrow in arrows(contract, plan):
        facts = [f"label={dot_text(arrow.label)}"] if arrow.label else []
        facts += ["style=dashed"] if arrow.aside else []
        yield f"  {arrow.start} -> {arrow.end}" + (f" [{', '.join(facts)}]" if facts else "")
    yield "}"


def svg(contract: "ModelOrchestratorSubcontract", plan: "WorkflowPlan") -> Iterator[str]:
    """A picture of its own: a row for each depth, what undoes beside its step."""
    places = _places(contract, plan)
    width = 40 + max(x for x, _ in places.values()) + _WIDTH
    height = 60 + max(y for _, y in places.values()) + _HEIGHT
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, sans-serif" font-size="13" role="img">'
    )
    yield f"  <title>{html.escape(_title(contract))}</title>"
    yield (
        '  <defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    for arrow in arrows(contract, plan):
        yield from _svg_arrow(arrow, places)
    for box in boxes(contract):
        yield from _svg_box(box, *places[box.key])
    yield "</svg>"


def _places(contract: "ModelOrchestratorSubcontract", plan: "WorkflowPlan") -> dict[str, tuple[int, int]]:
    """Left upper corners. In a sequence each step has a row of its own."""
    by_order = plan.coordination in {EnumWorkflowCoordination.SEQUENTIAL, EnumWorkflowCoordination.PIPELINE}
    rows: dict[int, list[str]] = {}
    for number, index in enumerate(plan.order):
        step = contract.steps[index]
        row = rows.setdefault(number if by_order else plan.steps[index].depth, [])
        row.append(f"s{index}")
        if step.compensate is not None:
            row.append(f"c{index}")
        if step.approval is not None and step.approval.escalate is not None:
            row.append(f"e{index}")
    return {
        key: (20 + column * (_WIDTH + _GAP_X), 30 + row * (_HEIGHT + _GAP_Y))
        for row, keys in rows.items()
        for column, key in enumerate(keys)
    }


def _svg_box(box: Box, x: int, y: int) -> Iterator[str]:
    dashes = ' stroke-dasharray="5 4"' if box.style == "undo" or box.off else ""
    radius = {"work": 8, "wait": 26, "undo": 8}[box.style]
    name, *rest = _lines(box)
    middle = x + _WIDTH // 2
    yield f"  <g><title>{html.escape(', '.join(_lines(box)))}</title>"
    size = f'x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}"'
    yield f'  <rect {size} rx="{radius}" fill="#fff" stroke="#000"{dashes}/>'
    yield f'  <text x="{middle}" y="{y + 24}" text-anchor="middle" font-weight="bold">{_cut(name)}</text>'
    yield f'  <text x="{middle}" y="{y + 42}" text-anchor="middle" font-size="10">{_cut(", ".join(rest))}</text></g>'


def _cut(text: str) -> str:
    return html.escape(text if len(text) <= 34 else text[:33] + "…")


def _svg_arrow(arrow: Arrow, places: dict[str, tuple[int, int]]) -> Iterator[str]:
    (x1, y1), (x2, y2) = places[arrow.start], places[arrow.end]
    if y1 == y2:
        path = f"M{x1 + _WIDTH} {y1 + _HEIGHT // 2}L{x2} {y2 + _HEIGHT // 2}"
        label_x, label_y = (x1 + _WIDTH + x2) // 2, y1 + _HEIGHT // 2 - 6
    else:
        start, end = x1 + _WIDTH // 2, x2 + _WIDTH // 2
        bend = _GAP_Y // 2
        skips = abs(y2 - y1) > _HEIGHT + _GAP_Y and x1 == x2
        out = 130 if skips else 0  # an arrow over boxes between goes round them
        path = f"M{start} {y1 + _HEIGHT}C{start - out} {y1 + _HEIGHT + bend} {end - out} {y2 - bend} {end} {y2}"
        label_x, label_y = (start + end) // 2 - out // 2, (y1 + _HEIGHT + y2) // 2 + 4
    dashes = ' stroke-dasharray="4 3"' if arrow.aside else ""
    yield f'  <path d="{path}" fill="none" stroke="#555"{dashes} marker-end="url(#tip)"/>'
    if arrow.label:
        yield (
            f'  <text x="{label_x}" y="{label_y}" text-anchor="middle" font-size="10" fill="#333">'
            f"{_cut(arrow.label)}</text>"
        )
