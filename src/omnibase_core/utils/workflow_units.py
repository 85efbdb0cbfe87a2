"""Units: steps that are scheduled and recorded together, as the durability of a workflow says."""

from collections.abc import Iterator

from omnibase_core.enums.enum_workflow import EnumDurability, EnumWorkflowCoordination
from omnibase_core.utils.workflow_graph import dependents_of
from omnibase_core.utils.workflow_plan import PlannedStep, Unit


def units_of(
    steps: tuple[PlannedStep, ...],
    order: list[int],
    coordination: EnumWorkflowCoordination,
    durability: EnumDurability,
) -> tuple[Unit, ...]:
    """What is scheduled and recorded together, in topological order.

    With durability `level` pure steps share a record: in a parallel workflow those of one depth, in a sequential one
    those that follow each other. Items of a pipeline and events pass one step at a time.
    """
    groups = [[index] for index in order]
    if durability is EnumDurability.LEVEL and coordination is EnumWorkflowCoordination.SEQUENTIAL:
        groups = list(_runs(steps, order))
    elif durability is EnumDurability.LEVEL and coordination is EnumWorkflowCoordination.PARALLEL:
        levels: dict[tuple[int, int], list[int]] = {}
        for index in order:
            levels.setdefault((steps[index].depth, -1 if steps[index].pure else index), []).append(index)
        groups = [levels[key] for key in sorted(levels)]
    unit_of = {index: number for number, group in enumerate(groups) for index in group}
    needed = [
        sorted({unit_of[other] for index in group for other in steps[index].depends_on if other in unit_of} - {number})
        for number, group in enumerate(groups)
    ]
    dependents = dependents_of(needed)
    return tuple(
        Unit(
            number,
            tuple(group),
            tuple(needed[number]),
            tuple(dependents[number]),
            not (durability is EnumDurability.RUN and all(steps[index].pure for index in group)),
        )
        for number, group in enumerate(groups)
    )


def _runs(steps: tuple[PlannedStep, ...], order: list[int]) -> Iterator[list[int]]:
    """Pure steps that follow each other, together."""
    group: list[int] = []
    for index in order:
        if group and not (steps[index].pure and steps[group[-1]].pure):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
