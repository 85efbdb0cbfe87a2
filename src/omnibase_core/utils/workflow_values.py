"""Templates and conditions of workflows: judged at load for what they may read where they stand, and made to closures.

What stands in a step reads the run's input, the step at hand, and the outputs of steps that surely ended before it; so
it gives the same when a run is taken up again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import NO_DEFAULT, Hole, Template, TemplateError, holes, parse_template
from omnibase_core.models.contracts.contract_model import Breach, KeyPath, Offset
from omnibase_core.models.fsm_state import has_unfinite
from omnibase_core.protocols.protocol_workflow_engine import BLOCK
from omnibase_core.utils.cel_expressions import CelError, CelProgram, compile_cel, keys_read
from omnibase_core.utils.templates import compile_getter, scalar_text, text_of
from omnibase_core.utils.value_trees import list_of, map_of
from omnibase_core.utils.workflow_plan import Condition, MakeValue, WorkflowScope

Report = Callable[[Breach], None]

SOURCES: Final = ("input", "steps", "item", "index", "workflow", "event")
"""What may stand behind `${`; all but `workflow` are names of conditions as well."""
CONDITION_NAMES: Final = ("input", "steps", "item", "index", "event")
_WHOLE: Final = ("input", "item", "index", "event")
RUN_KEYS: Final = ("id", "name", "version")
STEP_KEYS: Final = (*RUN_KEYS, "step_id", "action_id", "idempotency_key", "token", "attempt")
MAX_ITEMS: Final = BLOCK - 10
"""Entries of a `for_each` or a pipeline: each has a place in the journal."""
_WHERE: Final = {
    "item": "item and index are those of a for_each, or of a pipeline",
    "index": "item and index are those of a for_each, or of a pipeline",
    "event": "event is what has started a step of an event-driven workflow, or what a filter or a trigger looks at",
    "steps": "no step has run by then",
    "input": "there is no run yet",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a template or a condition stands.

    owner: whose it is, for messages. sources: what it may read. visible: steps whose outputs are there, as bits.
    step: the step, None for the workflow. keys: of `workflow`.
    """

    owner: str
    sources: tuple[str, ...]
    visible: int = 0
    step: int | None = None
    keys: tuple[str, ...] = STEP_KEYS


class ValueCompiler:
    """Compiles values of one workflow; what is wrong is reported, and the closure that comes out is not to be run."""

    def __init__(
        self,
        indexes: Mapping[str, int],
        disabled: frozenset[int],
        not_before: Callable[[int, int], tuple[str, str]],
        gives: Callable[[int], Mapping[str, Collection[str] | None] | None],
        report: Report,
    ) -> None:
        """not_before: of a step that is read and the reading step, why the first does not surely come before, and what
        to do about it. gives: the known keys of a step's output.
        """
        self._indexes = indexes
        self._disabled = disabled
        self._not_before = not_before
        self._gives = gives
        self._report = report

    def value(self, tree: JsonValue, path: KeyPath, place: Place) -> MakeValue:
        """A tree whose texts are templates; one that is a single placeholder keeps the type of its value.

        Parts without placeholders are made once and shared: nobody changes them.
        """
        constant, make = self._tree(tree, path, place)
        return (lambda _scope: constant) if make is None else make

    def text(self, text: str, path: KeyPath, place: Place) -> MakeValue:
        """A template that gives a text."""
        part = text_of(self._template(text, path, place), scalar_text)
        return _constant(part) if isinstance(part, str) else cast("MakeValue", part.emit())  # reads by attribute names

    def entries(self, given: str | list[JsonValue], path: KeyPath, place: Place) -> MakeValue:
        """A list, or a placeholder or a path such as `input.orders`; what that gives is judged each time."""
        if isinstance(given, list):
            return self.value(given, path, place)
        written = given if "${" in given else "${" + given.removeprefix("$.") + "}"
        template = self._template(written, path, place)
        hole = template[0] if template else None
        if not isinstance(hole, Hole) or len(template) != 1:
            if template:
                self._report(
                    Breach(
                        "E-TEMPLATE",
                        f"{path[-1]} is a text with placeholders, which gives no list",
                        path,
                        repr(given),
                        "a list, one placeholder, or a path",
                        "write ${input.<name>} alone, or an item for each",
                    )
                )
            return _constant(None)
        get = _getter(hole)
        what = f"{place.owner}: {path[-1]} {given!r}"

        def make(scope: WorkflowScope) -> JsonValue:
            found = get(scope)
            if type(found) is not list:
                kind = "null" if found is None else type(found).__name__
                raise ModelOnexError(f"{what} gives {kind}, a list is wanted", EnumCoreErrorCode.VALIDATION_ERROR)
            if len(found) > MAX_ITEMS:
                raise ModelOnexError(
                    f"{what} gives {len(found)} entries, allowed are {MAX_ITEMS}; start a run for each part",
                    EnumCoreErrorCode.VALIDATION_ERROR,
                )
            return found

        return make

    def moment(self, text: str, path: KeyPath, place: Place) -> Callable[[WorkflowScope, datetime], datetime]:
        """A time in ISO 8601, with its zone."""
        make = self.text(text, path, place)
        if "${" not in text:
            try:
                moment_of(text, path[-1])
            except ModelOnexError as error:
                self._report(Breach("E-WAIT", error.message, path, repr(text), fix="write 2030-01-31T12:00:00Z"))
        return lambda scope, _now: moment_of(str(make(scope)), path[-1])

    def condition(self, text: str, path: KeyPath, place: Place) -> tuple[Condition, frozenset[str]]:
        """A CEL condition, and the names that it reads.

        Raises ModelOnexError CONFIGURATION_ERROR when the extra `cel` is not installed.
        """
        names = tuple(name for name in CONDITION_NAMES if name in place.sources)
        try:
            program = compile_cel(text, names, condition=True)
        except CelError as error:
            self._report(Breach("E-CEL", error.message, (*path, Offset(error.offset)), repr(text), fix=error.fix))
            return _always, frozenset()
        if "steps" in program.whole:
            self._report(
                Breach(
                    "E-CEL",
                    "steps is read as a whole, and which steps have ended by then is a matter of chance",
                    path,
                    repr(text),
                    fix="read steps by their names: steps.<id>",
                )
            )
        for name, offset in keys_read(text, "steps") if "steps" in program.roots else ():
            self._judge_step(name, f"steps.{name}", (*path, Offset(offset)), place)
        holds = program.holds
        if not program.roots:
            return self._constant_condition(program, path), program.roots

        def condition(scope: WorkflowScope) -> bool:
            return holds(
                {
                    "input": scope.input,
                    "steps": cast("Mapping[str, object]", scope.steps),  # a map of values
                    "item": scope.item,
                    "index": scope.index,
                    "event": scope.event,
                }
            )

        return condition, program.roots

    def _constant_condition(self, program: CelProgram, path: KeyPath) -> Condition:
        try:
            return _always if program.holds({}) else never
        except ModelOnexError as error:
            self._report(Breach("E-CEL", error.message, path, repr(program.text), fix="mend the expression"))
            return _always

    # templates

    def _tree(self, tree: JsonValue, path: KeyPath, place: Place) -> tuple[JsonValue, MakeValue | None]:
        """A constant, or a closure that makes the value."""
        if isinstance(tree, str):
            return self._leaf(self._template(tree, path, place))
        if isinstance(tree, dict):
            entries = {self._key(key, path): self._tree(value, (*path, key), place) for key, value in tree.items()}
            if any(make for _, make in entries.values()):
                return None, map_of(entries)
            return {key: constant for key, (constant, _) in entries.items()}, None
        if isinstance(tree, list):
            parts = [self._tree(value, (*path, index), place) for index, value in enumerate(tree)]
            return (None, list_of(parts)) if any(make for _, make in parts) else ([part for part, _ in parts], None)
        if has_unfinite(tree):
            self._report(Breach("E-JSON", f"{tree!r} has no JSON form", path, repr(tree), fix="write a number"))
        return tree, None

    def _leaf(self, template: Template) -> tuple[JsonValue, MakeValue | None]:
        first = template[0] if template else ""
        if len(template) == 1 and isinstance(first, Hole):
            return None, _getter(first)
        part = text_of(template, scalar_text)
        return (part, None) if isinstance(part, str) else (None, cast("MakeValue", part.emit()))  # by attribute names

    def _key(self, key: str, path: KeyPath) -> str:
        if "${" in key.replace("$${", ""):
            self._report(
                Breach(
                    "E-JSON-KEY",
                    f"placeholder as key {key!r}: keys are the contract's own",
                    (*path, key),
                    repr(key),
                    fix="write the key literally; a map with free keys can be a value as a whole",
                )
            )
        return key.replace("$${", "${")

    def _template(self, text: str, path: KeyPath, place: Place) -> Template:
        if "${" not in text:
            return (text,) if text else ()
        try:
            template = parse_template(text, SOURCES, _WHOLE)
        except TemplateError as error:
            for problem in error.problems:
                self._report(
                    Breach(problem.code, problem.message, (*path, Offset(problem.offset)), repr(text), fix=problem.fix)
                )
            return ()
        for part in template:
            if isinstance(part, Hole):
                self._judge_hole(part, (*path, Offset(part.offset)), place)
        return template

    def _judge_hole(self, hole: Hole, path: KeyPath, place: Place) -> None:
        if hole.source not in place.sources:
            self._report(
                Breach(
                    "E-TEMPLATE",
                    f"{place.owner} cannot read {hole.text}: {_WHERE[hole.source]}",
                    path,
                    repr(hole.text),
                    ", ".join(place.sources),
                )
            )
        elif hole.source == "steps":
            self._judge_step(hole.path[0], hole.text, path, place)
            if hole.default is NO_DEFAULT:
                self._judge_output(hole, path)
        elif hole.source == "index" and hole.path:
            self._report(Breach("E-TEMPLATE", f"{hole.text}: index is a number", path, repr(hole.text), "${index}"))
        elif hole.source == "workflow" and (len(hole.path) != 1 or hole.path[0] not in place.keys):
            self._report(
                Breach(
                    "E-TEMPLATE",
                    f"{hole.text}: workflow has no {'.'.join(hole.path)!r} here",
                    path,
                    repr(hole.text),
                    ", ".join(place.keys),
                    "use one of these",
                )
            )

    def _judge_output(self, hole: Hole, path: KeyPath) -> None:
        """Whether a step gives what is read of it, as far as its contract tells."""
        name, *below = hole.path
        gives = self._gives(self._indexes[name]) if name in self._indexes else None
        if gives is None or not below:
            return
        inner = gives.get(below[0])
        if below[0] not in gives:
            what, wrong, allowed = f"step {name!r}", below[0], gives
        elif inner is not None and len(below) > 1 and below[1] not in inner:
            what, wrong, allowed = f"operation {below[0]!r} of step {name!r}", below[1], dict.fromkeys(inner)
        else:
            return
        self._report(
            Breach(
                "E-UNKNOWN-FIELD-REFERENCE",
                f"{hole.text}: {what} gives no {wrong!r}",
                path,
                repr(wrong),
                ", ".join(allowed) or "nothing: it extracts no fields",
                "" if allowed else "add extract_fields to the operation's response_handling",
            )
        )

    def _judge_step(self, name: str, written: str, path: KeyPath, place: Place) -> None:
        other = self._indexes.get(name)
        if other is None:
            self._report(
                Breach(
                    "E-UNKNOWN-STEP",
                    f"{written}: there is no step {name!r}",
                    path,
                    repr(name),
                    ", ".join(self._indexes),
                )
            )
        elif not place.visible >> other & 1:
            if other == place.step:
                message, fix = f"{written}: {place.owner} reads its own output", "read the output of a step before it"
            else:
                why, fix = self._not_before(other, -1 if place.step is None else place.step)
                message = f"{written}: {why}"
            self._report(Breach("E-ORDER", message, path, repr(name), fix=fix))
        elif other in self._disabled:
            self._report(
                Breach(
                    "W-STEP-DISABLED",
                    f"{written}: step {name!r} is disabled, so its output is null",
                    path,
                    repr(name),
                    fix="enable it, or read something else",
                    severity="warning",
                )
            )


def _getter(hole: Hole) -> MakeValue:
    return cast("MakeValue", compile_getter(hole))  # it reads attributes by name, which the scope of a workflow has


def _constant(value: JsonValue) -> MakeValue:
    return lambda _scope: value


def _always(_scope: WorkflowScope) -> bool:
    return True


def never(_scope: WorkflowScope) -> bool:
    """The condition that is written as one that cannot be true."""
    return False


def moment_of(text: str, what: object) -> datetime:
    """The time that a text gives. VALIDATION_ERROR unless it is one of ISO 8601 with a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ModelOnexError(
            f"{what} gives {text[:60]!r}, a time in ISO 8601 with its zone is wanted, such as 2030-01-31T12:00:00Z",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return moment


def holes_of(text: str) -> tuple[Hole, ...]:
    """The placeholders of a template. Raises TemplateError."""
    return holes(parse_template(text, SOURCES, _WHOLE))


def sample_of(tree: JsonValue) -> tuple[JsonValue, dict[KeyPath, bool]]:
    """A value such as the tree gives, and the places in it that are not known yet (true: it is a text for sure)."""
    unknown: dict[KeyPath, bool] = {}
    return _sample(tree, (), unknown), unknown


def _sample(tree: JsonValue, path: KeyPath, unknown: dict[KeyPath, bool]) -> JsonValue:
    if isinstance(tree, dict):
        return {
            key.replace("$${", "${"): _sample(value, (*path, key.replace("$${", "${")), unknown)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_sample(value, (*path, index), unknown) for index, value in enumerate(tree)]
    if isinstance(tree, str) and "${" in tree:
        try:
            template: Sequence[str | Hole] = parse_template(tree, SOURCES, _WHOLE)
        except TemplateError:
            template = ()
        if all(isinstance(part, str) for part in template) and template:
            return "".join(map(str, template))
        unknown[path] = len(template) > 1
        return "" if len(template) > 1 else None
    return tree
