"""Runs that are taken up again: the same result, nothing that has ended is done twice, whatever the plan and moment."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import (
    EnumDurability,
    EnumOnFailure,
    EnumRunStatus,
    EnumWorkflowCoordination,
)
from omnibase_core.protocols.protocol_workflow_engine import RunView, StartRequest, StepRecord, position_of
from omnibase_core.utils.workflow_plan import WorkflowPlan
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.engine_memory_store import MemoryRun, MemoryStore, hash_of
from omnibase_spi.testing import run_virtual
from tests.support.computing import compute_nodes, pure
from tests.support.workflows import BUNDLE, Bench, Service, StepSpec, failure, plan_of, step

REQUEST = StartRequest("w", BUNDLE, [1, 2])
_OF_THE_CLOCK = frozenset({"started_at", "ended_at", "parallelism_achieved", "issued"})


def timeless(value: JsonValue) -> JsonValue:
    """A document without what the clock says; `issued` has what others had done by then."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in _OF_THE_CLOCK}
    if isinstance(value, list):
        return [timeless(each) for each in value]
    return value


def store_with(records: Mapping[int, StepRecord], full: MemoryRun) -> MemoryStore:
    """What a process leaves that died when these records stood."""
    run = MemoryRun(REQUEST, EnumRunStatus.RUNNING, 0.0, 0.0, hash_of(REQUEST), 1)
    run.records = dict(records)
    run.times = {position: moment for position, moment in full.times.items() if position == position_of(-1)}
    return MemoryStore({"w": run})


def go(bench: Bench, store: MemoryStore) -> tuple[RunView, MemoryRun]:
    """Run `w` to its end, from what the store has."""

    async def main() -> tuple[RunView, MemoryRun]:
        engine = MemoryEngine(bench.run, store)
        await engine.start(REQUEST)
        view = await engine.wait("w")
        await engine.aclose()
        return view, store.runs["w"]

    return run_virtual(main())


@st.composite
def specs(draw: st.DrawFn, *, may_abort: bool) -> list[StepSpec]:
    """Steps of a random graph: effects and computations, lists, conditions, failures with their policies."""
    count = draw(st.integers(1, 7))
    made: list[StepSpec] = []
    policies = [None, EnumOnFailure.SKIP]
    if may_abort:
        policies += [EnumOnFailure.ABORT, EnumOnFailure.COMPENSATE]
    for number in range(count):
        name = f"s{number}"
        needs = draw(st.lists(st.sampled_from(range(number)), unique=True, max_size=3)) if number else []
        fields: dict[str, object] = {"on_failure": draw(st.sampled_from(policies))}
        if draw(st.booleans()):
            fields["for_each"] = lambda scope: scope.input
        if draw(st.integers(0, 4)) == 0:
            fields["when"] = lambda _scope: False
        if draw(st.booleans()):
            fields["compensate"] = step(f"undo-{name}", make_input=lambda scope, n=name: f"undo-{n}:{scope.index}")
        make = pure if draw(st.booleans()) else step
        if make is step:
            fields["make_input"] = lambda scope, n=name: f"{n}:{scope.index}"
        made.append(make(name, *(f"s{need}" for need in needs), **fields))
    return made


def acts_of(made: list[StepSpec], failing: set[int]) -> dict[str, object]:
    return {
        f"{spec.step_id}:{item}": failure(f"{spec.step_id} is broken")
        for number, spec in enumerate(made)
        if number in failing
        for item in (0, 1)
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_run_that_dies_at_any_record_ends_the_same_and_repeats_nothing_that_ended(data: st.DataObject) -> None:
    """Every prefix of the journal, in the order in which it was written."""
    parallel = data.draw(st.booleans())
    made = data.draw(specs(may_abort=not parallel))
    durability = data.draw(st.sampled_from(list(EnumDurability)))
    plan = plan_of(
        *made,
        durability=durability,
        coordination=EnumWorkflowCoordination.PARALLEL if parallel else EnumWorkflowCoordination.SEQUENTIAL,
        continue_on_error=parallel or data.draw(st.booleans()),
        max_parallel_steps=data.draw(st.integers(1, 4)),
    )
    failing = data.draw(st.sets(st.integers(0, 6), max_size=3))
    seconds = data.draw(st.sampled_from([0.0, 1.0]))

    def bench() -> Bench:
        return Bench(plan, Service(acts_of(made, failing), seconds), compute_nodes())

    whole = bench()
    expected, full = go(whole, MemoryStore())
    journal = list(full.records.items())

    for cut in range(len(journal) + 1):
        again = bench()
        kept = dict(journal[:cut])
        view, run = go(again, store_with(kept, full))

        assert view.status is expected.status
        assert timeless(view.output) == timeless(expected.output)
        assert {position: record.name for position, record in run.records.items()} == {
            position: record.name for position, record in full.records.items()
        }
        finished = {_call_of(record) for record in kept.values()}
        assert finished.isdisjoint(map(str, again.service.calls))
        assert len(again.service.calls) + sum(call in finished for call in map(str, whole.service.calls)) == len(
            whole.service.calls
        )


def _call_of(record: StepRecord) -> str:
    """The parameters of the call that a record is of."""
    name, _, item = record.name.partition("[")
    return f"{name}:{item.rstrip(']') or 0}"


def branches() -> WorkflowPlan:
    """Five branches of four steps, one of them over a list, joined at the end."""
    made = []
    for branch in "abcde":
        for stage in range(4):
            name = f"{branch}{stage}"
            needs = (f"{branch}{stage - 1}",) if stage else ()
            fields: dict[str, object] = {"for_each": lambda scope: scope.input} if stage == 2 else {}
            made.append(step(name, *needs, make_input=lambda scope, n=name: f"{n}:{scope.index}", **fields))
    made.append(step("end", *(f"{branch}3" for branch in "abcde"), make_input=lambda scope: dict(scope.steps)))
    plan = plan_of(*made, coordination=EnumWorkflowCoordination.PARALLEL)
    return replace(plan, max_parallel_steps=7)


class Delayed(Service):
    """Answers after a random time, and knows what has ended in any process."""

    def __init__(self, seed: int, ended: list[JsonValue]) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.ended = ended

    async def execute(self, parameters: JsonValue) -> object:
        assert parameters not in self.ended, "done twice"
        await asyncio.sleep(self._random.random())
        return await super().execute(parameters)


@pytest.mark.parametrize("seed", range(50))
def test_parallel_branches_with_random_delays_are_taken_up_after_crashes_without_a_mismatch(seed: int) -> None:
    """Every process has other delays, and dies at a random moment; the last one comes to the end."""
    chance = random.Random(seed)
    store, ended = MemoryStore(), list[JsonValue]()
    names: dict[int, str] = {}
    plan = branches()

    async def process(number: int, last: bool) -> RunView | None:
        bench = Bench(plan, Delayed(seed * 100 + number, ended))
        engine = MemoryEngine(bench.run, store)
        await engine.start(REQUEST)
        if last:
            view = await engine.wait("w")
            await engine.aclose()
            return view
        await asyncio.sleep(chance.random() * 3)
        await engine.crash()
        for position, record in store.runs["w"].records.items():
            assert names.setdefault(position, record.name) == record.name
        return None

    for number in range(chance.randint(1, 6)):
        run_virtual(process(number, last=False))
    view = run_virtual(process(99, last=True))

    assert view is not None
    assert view.status is EnumRunStatus.COMPLETED
    assert isinstance(view.output, dict)
    output = view.output["output"]
    assert isinstance(output, dict)
    expected = {
        f"{branch}{stage}": [f"{branch}2:0", f"{branch}2:1"] if stage == 2 else f"{branch}{stage}:0"
        for branch in "abcde"
        for stage in range(4)
    }
    assert output == {**expected, "end": expected}
    assert len(ended) == 5 * 5 + 1
