"""What a workflow must know of the contracts that its steps name: their kind, and which input they take."""

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from pydantic import JsonValue

from omnibase_core.grammar.template_text import NO_DEFAULT
from omnibase_core.models.contracts.contract_model import KeyPath
from omnibase_core.utils.input_check import SchemaCheck

if TYPE_CHECKING:
    from omnibase_core.utils.contract_loader import LoadedContract
    from omnibase_core.utils.effect_plan import EffectPlan
    from omnibase_core.utils.fsm_plan import FsmPlan
    from omnibase_core.utils.workflow_bundle import LoadedWorkflow

FILE_ENDINGS: Final = (".yaml", ".yml", ".json")
"""A node whose name ends so is a contract; any other is a service of the container."""
Unknown = Mapping[KeyPath, bool]
Misfit = tuple[KeyPath, str, str]
"""Place in the input, what is wrong there, what helps."""
_ACTION: Final = ("action", "payload", "state")
_REDUCED: Final = ("state", "intents", "transition")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a contract.

    repeatable: doing it twice is as good as once. connection: of an effect whose operations can all run in one
    transaction of this database connection. misfits: what is wrong with an input whatever its unknown places hold.
    gives: the keys of the output, and those below each, as far as they are known; None is anything.
    """

    kind: str
    repeatable: bool = True
    connection: str | None = None
    misfits: Callable[[JsonValue, Unknown], Iterator[Misfit]] = lambda _sample, _unknown: iter(())
    gives: "Mapping[str, Collection[str] | None] | None" = None


def is_file(node: str) -> bool:
    """Whether a node is a contract file."""
    return node.endswith(FILE_ENDINGS)


def node_path(node: str) -> str:
    """The path of a contract, as the bundle spells it."""
    return posixpath.normpath(node)


def facts_of(loaded: "LoadedContract") -> NodeFacts:
    """The facts of a contract that was loaded."""
    if loaded.effect_plan is not None:
        return _of_effect(loaded.effect_plan)
    if loaded.compute_plan is not None:
        return NodeFacts("compute", misfits=_by_schema(loaded.compute_plan.check_input))
    if loaded.kind == "reducer":
        return _of_reducer(cast("FsmPlan", loaded.plan))  # the plan of this kind
    workflow = cast("LoadedWorkflow", loaded.plan)  # as above, the last one
    return NodeFacts("orchestrator", repeatable=True, misfits=_by_schema(workflow.schema))


def _by_schema(check: object) -> Callable[[JsonValue, Unknown], Iterator[Misfit]]:
    if not isinstance(check, SchemaCheck):
        return lambda _sample, _unknown: iter(())

    def misfits(sample: JsonValue, unknown: Unknown) -> Iterator[Misfit]:
        for place, problem in check.misfits(sample, unknown):
            yield place, problem, "give what its input_schema wants"

    return misfits


def _of_effect(plan: "EffectPlan") -> NodeFacts:
    connections = {operation.connection_name for operation in plan.operations}
    together = plan.mode.aborts and all(
        operation.handler_kind == "db" and not operation.label.startswith("db raw") for operation in plan.operations
    )
    schema = plan.subcontract.input_schema
    required = [] if schema is None else [tuple(name.split(".")) for name in schema.required_fields]
    reads = {
        hole.path[0]: operation.name
        for operation in reversed(plan.operations)
        for _, hole in operation.io.holes
        if hole.source == "input" and hole.default is NO_DEFAULT
    }
    by_schema = _by_schema(plan.check_input)

    def misfits(sample: JsonValue, unknown: Unknown) -> Iterator[Misfit]:
        if () in unknown:
            return
        if not isinstance(sample, dict):
            yield (), "the input of an effect is a map", "write a map"
            return
        told = set()
        for path in required:
            if _is_missing(sample, path, unknown):
                told.add(path[0])
                yield path[:-1], f"it lacks {'.'.join(path)}, which is required", f"add {'.'.join(path)}"
        for name, operation in reads.items():
            if name not in sample and name not in told:
                yield (), f"it lacks {name}, which operation {operation!r} reads", f"add {name}"
        yield from by_schema(sample, unknown)

    return NodeFacts(
        "effect",
        all(operation.idempotent for operation in plan.operations),
        next(iter(connections)) if together and len(connections) == 1 else None,
        misfits,
        {operation.name: tuple(operation.finders) for operation in plan.operations},
    )


def _is_missing(sample: JsonValue, path: tuple[str, ...], unknown: Unknown) -> bool:
    for depth, key in enumerate(path):
        if path[:depth] in unknown:
            return False
        if isinstance(sample, list) and key.isdigit() and int(key) < len(sample):
            sample = sample[int(key)]
        elif isinstance(sample, dict) and key in sample:
            sample = sample[key]
        else:
            return True
    return sample is None and path not in unknown


def _of_reducer(plan: "FsmPlan") -> NodeFacts:
    def misfits(sample: JsonValue, unknown: Unknown) -> Iterator[Misfit]:
        if () in unknown:
            return
        if not isinstance(sample, dict):
            yield (), "a reducer is given {action, payload, state}", "write a map"
            return
        for key in sample:
            if key not in _ACTION:
                yield (key,), f"unknown field {key!r}, allowed: {', '.join(_ACTION)}", "put data below payload"
        action, payload, state = (sample.get(key) for key in _ACTION)
        if ("action",) not in unknown and not (isinstance(action, str) and action in plan.triggers):
            known = ", ".join(sorted(plan.triggers))
            if action is None:
                yield (), f"it lacks action; the machine knows {known}", "add action"
            else:
                yield ("action",), f"the machine has no trigger {action!r}; it knows {known}", "write one of these"
        if ("payload",) not in unknown and payload is not None and not isinstance(payload, dict):
            yield ("payload",), "payload is a map", "write a map"
        if state is None or ("state",) in unknown:
            return
        if not isinstance(state, dict):
            yield ("state",), "state is a snapshot of the machine, as an earlier step gave it", "write a map"
        elif ("state", "state") not in unknown and str(state.get("state")) not in plan.states:
            known = ", ".join(sorted(plan.states))
            yield ("state",), f"the machine has no state {state.get('state')!r}; it knows {known}", "write one of these"

    return NodeFacts("reducer", misfits=misfits, gives=dict.fromkeys(_REDUCED))
