"""Examples beside a contract: reading them, running each twice under the guard of purity, and what differs."""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_runtime.commands._console import usage

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.utils.compute_plan import ComputePlan
    from omnibase_core.utils.fsm_plan import FsmPlan

_KEYS: Final = frozenset({"name", "input", "output", "error", "step"})
_PARTS: Final = frozenset({"state", "context", "intents", "events"})
"""What the output of a state machine's example may name."""


@dataclass(frozen=True, slots=True)
class Example:
    """expected: what is compared, by name (`output`, `error`, `step`); nothing is only run."""

    name: str
    input: "JsonValue"
    expected: "Mapping[str, JsonValue]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """problem: None for an example that holds, else why it does not, in lines."""

    name: str
    problem: str | None


Run = Callable[["JsonValue"], "Mapping[str, JsonValue]"]
"""Input -> what came out, by the names that an example may expect."""


def read_examples(file: Path) -> list[Example]:
    """The examples of a file. Raises VALIDATION_ERROR for what is none."""
    from omnibase_core.utils.yaml_document import MAX_BYTES, read_documents
    from omnibase_runtime.commands._inputs import read_bytes

    documents, problems = read_documents(read_bytes(str(file), MAX_BYTES), str(file))
    if problems:
        first = problems[0]
        raise usage(f"{file}:{first.line}:{first.column}: {first.message}")
    data = documents[0].data if len(documents) == 1 else None
    entries = data.get("examples") if isinstance(data, dict) and set(data) == {"examples"} else None
    if not isinstance(entries, list) or not entries:
        raise usage(f"{file}: holds examples: a list of {{name, input, output}}")
    return [_example(file, place, entry) for place, entry in enumerate(entries)]


def _example(file: Path, place: int, entry: "JsonValue") -> Example:
    where = f"{file}: examples[{place}]"
    if not isinstance(entry, dict) or set(entry) - _KEYS or "input" not in entry:
        raise usage(f"{where} is a map with input, and any of {', '.join(sorted(_KEYS - {'input'}))}")
    if "error" in entry and "output" in entry:
        raise usage(f"{where}: output and error exclude each other")
    name = entry.get("name", f"example {place}")
    if not isinstance(name, str):
        raise usage(f"{where}.name is a text")
    return Example(name, entry["input"], {key: entry[key] for key in ("output", "error", "step") if key in entry})


def judge(example: Example, run: Run) -> Verdict:
    """Run it twice; both must be pure, the same, and what is expected."""
    from omnibase_core.mixins.purity_guard import PurityError, PurityGuard

    found: list[Mapping[str, JsonValue]] = []
    for _ in range(2):
        try:
            with PurityGuard(f"example {example.name!r}", timed=True):
                found.append(run(example.input))
        except PurityError as error:
            return Verdict(example.name, error.message)
    if found[0] != found[1]:
        return Verdict(example.name, _difference(found[0], found[1], ("first run", "second run")))
    got = {key: found[0].get(key) for key in example.expected}
    if "error" in found[0] and "error" not in example.expected:
        got = dict(found[0])  # so that the reason is seen
    if got == example.expected:
        return Verdict(example.name, None)
    return Verdict(example.name, _difference(example.expected, got, ("expected", "found")))


def _difference(first: object, second: object, names: tuple[str, str]) -> str:
    """A unified diff of both as JSON."""
    one, other = (
        json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True).splitlines() for value in (first, second)
    )
    return "\n".join(difflib.unified_diff(one, other, *names, lineterm=""))


def compute_run(plan: "ComputePlan") -> Run:
    """The output of a pipeline, or the error with its step."""
    from omnibase_core.utils.compute_executor import judged_run

    def run(data: "JsonValue") -> "Mapping[str, JsonValue]":
        result, error = judged_run(plan, data)
        if error is not None:
            return {"error": error.error_code.value, "message": error.message, "step": result.error_step}
        document: Mapping[str, JsonValue] = json.loads(result.model_dump_json(include={"output"}))
        return document

    return run


def machine_run(plan: "FsmPlan", expected: "Mapping[str, JsonValue]") -> Run:
    """Where a log of actions leads; of the output only what is expected, and of each intent only the expected keys."""
    from omnibase_core.utils.fsm_executor import begin, step
    from omnibase_runtime.commands._machine import actions_of, snapshot_of

    wanted = expected.get("output")
    if wanted is not None and (not isinstance(wanted, dict) or set(wanted) - _PARTS):
        raise usage(f"the output of an action log is a map of {', '.join(sorted(_PARTS))}")

    def run(data: "JsonValue") -> "Mapping[str, JsonValue]":
        if not isinstance(data, dict):
            raise usage("the input of a state machine is a log: {actions: [{action, payload}]}")
        state = begin(plan, snapshot_of(data))
        intents: list[JsonValue] = []
        events: list[JsonValue] = []
        try:
            for action in actions_of(plan, state, data):
                done = step(plan, state, action)
                state = done.state
                intents += [json.loads(intent.model_dump_json()) for intent in done.intents]
                events += [] if done.event is None else [done.event]
        except ModelOnexError as error:
            return {"error": error.error_code.value, "message": error.message}
        whole = {"state": state.state, "context": state.snapshot()["context"], "intents": intents, "events": events}
        return {"output": _only(whole, wanted) if isinstance(wanted, dict) else whole}

    return run


def _only(whole: "Mapping[str, JsonValue]", wanted: "Mapping[str, JsonValue]") -> "JsonValue":
    cut = {key: whole[key] for key in wanted}
    for key in ("intents", "events"):
        found, named = cut.get(key), wanted.get(key)
        if isinstance(found, list) and isinstance(named, list):
            cut[key] = [_cut(entry, named[at] if at < len(named) else entry) for at, entry in enumerate(found)]
    return cut


def _cut(entry: "JsonValue", named: "JsonValue") -> "JsonValue":
    if isinstance(entry, dict) and isinstance(named, dict):
        return {key: entry[key] for key in named if key in entry}
    return entry


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.problem is not None]
