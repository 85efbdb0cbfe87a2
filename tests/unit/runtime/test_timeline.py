"""The timeline of a run, out of its journal, its document and its plan."""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from pydantic import JsonValue
from rich.console import Console

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus, EnumStepStatus
from omnibase_core.protocols.protocol_workflow_engine import RunView, StepError, StepOutcome, StepRecord
from omnibase_runtime.commands._runs import print_list
from omnibase_runtime.commands._timeline import Timeline, timeline_of
from omnibase_runtime.commands._timeline_pictures import gantt, mermaid, svg
from omnibase_runtime.commands._times import length, moment_of, span_of, stamp
from tests.support.workflow_contracts import loaded, workflow

if TYPE_CHECKING:
    from omnibase_core.utils.workflow_plan import WorkflowPlan

START = 1_800_000_000.0
REFUSED = StepError(EnumCoreErrorCode.TIMEOUT, "TimeoutError", "too late")


def _plan(steps: str, **fields: str) -> "WorkflowPlan":
    return loaded(workflow(steps, **fields)).plan


def _view(status: EnumRunStatus, progress: JsonValue = None, output: JsonValue = None) -> RunView:
    at = datetime.fromtimestamp(START, UTC)
    return RunView("r", "test", "1.0.0", status, at, at, output=output, progress=progress)


def _record(
    position: int,
    name: str,
    began: float,
    ended: float,
    status: EnumStepStatus = EnumStepStatus.COMPLETED,
    error: StepError | None = None,
    value: JsonValue = None,
) -> StepRecord:
    return StepRecord(position, name, StepOutcome(status, value, error, 1, START + began, START + ended))


def _seen(timeline: Timeline) -> list[tuple[str, str, float | None, float | None]]:
    return [
        (
            bar.name,
            bar.status,
            None if bar.began is None else bar.began - START,
            None if bar.ended is None else bar.ended - START,
        )
        for bar in timeline.bars
    ]


SEQUENCE = """step_id: a, step_type: wait, wait: {signal: go}
step_id: b, step_type: wait, wait: {signal: on}
step_id: c, step_type: wait, wait: {signal: out}"""


def test_in_a_sequence_the_first_that_has_not_ended_is_at_work() -> None:
    """Nobody records a beginning; it begins where the one before has ended, and those after it are to come."""
    progress: JsonValue = {"waiting": {"b": {"for": "on", "prompt": "now?"}}}

    timeline = timeline_of(_view(EnumRunStatus.RUNNING, progress), [_record(1, "a", 0, 2)], _plan(SEQUENCE), START + 5)

    assert _seen(timeline) == [("a", "completed", 0, 2), ("b", "waiting", 2, 5), ("c", "to come", None, None)]
    assert timeline.bars[1].note == "for on: now?"
    assert timeline.counts == (1, 3)
    assert (timeline.start - START, timeline.end - START) == (0, 5)


@pytest.mark.parametrize("status", [EnumRunStatus.QUEUED, EnumRunStatus.PAUSED, EnumRunStatus.SCHEDULED])
def test_nothing_is_at_work_in_a_run_that_rests(status: EnumRunStatus) -> None:
    """Its steps are to come."""
    timeline = timeline_of(_view(status), [], _plan(SEQUENCE), START + 5)

    assert {bar.status for bar in timeline.bars} == {"to come"}


def test_in_parallel_all_whose_dependencies_have_ended_are_at_work() -> None:
    """Each from the end of the last of them."""
    plan = _plan(
        "step_id: a, step_type: wait, wait: {signal: a}\n"
        "step_id: b, step_type: wait, wait: {signal: b}\n"
        "step_id: c, step_type: compute, node: total.yaml, input: {lines: [1]}, depends_on: [a]\n"
        "step_id: d, step_type: compute, node: total.yaml, input: {lines: [1]}, depends_on: [a, b]",
        coordination_type="parallel",
    )

    timeline = timeline_of(_view(EnumRunStatus.RUNNING), [_record(1, "a", 0, 3)], plan, START + 4)

    assert _seen(timeline) == [
        ("a", "completed", 0, 3),
        ("b", "waiting", 0, 4),
        ("c", "running", 3, 4),
        ("d", "to come", None, None),
    ]


def test_items_are_counted_until_their_step_has_ended() -> None:
    """A bar from the first to the last of them; failures are told."""
    plan = _plan("step_id: a, step_type: compute, node: total.yaml, input: {lines: [1]}, for_each: '${input.items}'")
    records = [_record(2, "a[0]", 0, 1), _record(3, "a[1]", 1, 4, EnumStepStatus.FAILED, REFUSED)]

    timeline = timeline_of(_view(EnumRunStatus.RUNNING), records, plan, START + 9)

    assert _seen(timeline) == [("a", "running", 0, 4)]
    assert timeline.bars[0].note == "2 items so far, 1 failed"


def test_steps_that_share_a_record_are_told_apart() -> None:
    """The record of a level has the outcomes of its steps."""
    pure = "step_type: compute, node: total.yaml, input: {lines: [1]}"
    plan = _plan(f"step_id: a, {pure}\nstep_id: b, {pure}", coordination_type="parallel", durability="level")
    values: JsonValue = [
        StepOutcome(EnumStepStatus.COMPLETED, 1, None, 1, START + begin, START + begin + 1).as_json()
        for begin in (0, 1)
    ]

    timeline = timeline_of(
        _view(EnumRunStatus.RUNNING), [_record(0, "a and 1 more", 0, 2, value=values)], plan, START + 9
    )

    assert _seen(timeline) == [("a", "completed", 0, 1), ("b", "completed", 1, 2)]


def _document(**steps: Mapping[str, JsonValue]) -> JsonValue:
    plain: dict[str, JsonValue] = {
        "error": None,
        "attempts": 1,
        "started_at": START,
        "ended_at": START + 1,
        "status": "completed",
    }
    return {
        "steps": {name: {**plain, **entry} for name, entry in steps.items()},
        "started_at": START,
        "ended_at": START + 8,
        "output": None,
    }


def test_of_a_run_that_has_ended_the_document_tells() -> None:
    """Also what was left out and why; what was undone follows, and belongs to no order."""
    error: JsonValue = {"code": "TIMEOUT", "kind": "TimeoutError", "message": "too late"}
    reason: JsonValue = {"code": "CANCELLED", "kind": "Skipped", "message": "it was not reached"}
    output = _document(
        a={"status": "compensated", "items": {"total": 2, "failed": 1}},
        b={"status": "failed", "error": error, "attempts": 3},
        c={"status": "skipped", "error": reason, "attempts": 0, "started_at": 0, "ended_at": 0},
    )
    records = [_record(9, "a.compensate[0]", 5, 6), _record(10, "a.compensate[1]", 6, 7)]

    timeline = timeline_of(_view(EnumRunStatus.FAILED, None, output), records, _plan(SEQUENCE), START + 99)

    assert _seen(timeline) == [
        ("a", "compensated", 0, 1),
        ("b", "failed", 0, 1),
        ("c", "skipped", None, None),
        ("a.compensate", "completed", 5, 7),
    ]
    assert [bar.note for bar in timeline.bars] == [
        "2 items, 1 failed",
        "TIMEOUT: too late",
        "it was not reached",
        "2 items",
    ]
    assert timeline.counts == (2, 3)
    assert timeline.end - START == 8


def test_without_a_plan_the_records_are_shown() -> None:
    """A run of a version that this one cannot read, in the order in which things began."""
    records = [_record(4, "b", 2, 3), _record(1, "a", 0, 1)]

    timeline = timeline_of(_view(EnumRunStatus.RUNNING), records, None, START + 4)

    assert _seen(timeline) == [("a", "completed", 0, 1), ("b", "completed", 2, 3)]
    assert timeline.counts == (2, 2)


def test_a_run_without_a_time_has_a_picture() -> None:
    """Nothing has begun: no bar, no division by zero."""
    view = _view(EnumRunStatus.QUEUED)
    timeline = timeline_of(view, [], _plan(SEQUENCE), START)

    assert gantt(timeline, 40).row_count == 3
    assert "rect x" not in "".join(svg(view, timeline))
    assert list(mermaid(view, timeline))[-1] == "  section steps"


def test_names_cannot_break_a_picture() -> None:
    """Whatever a workflow is called; control characters and markup are written out."""
    at = datetime.fromtimestamp(START, UTC)
    view = RunView("<r>;\x1b[2J", "a:b", "1.0.0", EnumRunStatus.RUNNING, at, at)
    timeline = timeline_of(view, [_record(1, "x:y</g>", 0, 1)], None, START + 1)

    drawn = "".join(svg(view, timeline))

    assert "<r>" not in drawn
    assert "</g></text>" not in drawn
    assert "\x1b" not in drawn
    assert "x:y" not in "".join(mermaid(view, timeline))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0021, "2.1 ms"),
        (75, "1 min 15 s"),
        (3_600, "1 h"),
        (5_400, "1 h 30 min"),
        (172_800, "2 d"),
        (180_000, "2 d 2 h"),
    ],
)
def test_lengths_are_told_in_fitting_units(seconds: float, text: str) -> None:
    """Two units at most."""
    assert length(seconds) == text


def test_times_are_read_as_times_or_lengths() -> None:
    """A zone counts; without one it is UTC; a length counts from now."""
    assert stamp(moment_of("2030-01-31T09:00+02:00", "--x")) == "2030-01-31T07:00:00Z"
    assert stamp(moment_of("2030-01-31", "--x")) == "2030-01-31T00:00:00Z"
    ago, ahead = moment_of("90m", "--x"), moment_of("1.5h", "--x", ahead=True)
    assert (ahead - ago).total_seconds() == pytest.approx(3 * 3_600, abs=5)
    assert span_of("250ms", "--x").total_seconds() == 0.25
    assert stamp(None) == ""


@pytest.mark.parametrize(("columns", "shown"), [(80, False), (140, True)])
def test_a_narrow_list_leaves_out_what_it_can(
    columns: int, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An id is never broken, and nothing is folded letter by letter."""
    screen = Console(width=columns, file=io.StringIO())
    monkeypatch.setattr("omnibase_runtime.commands._console.console", lambda: screen)
    view = replace(_view(EnumRunStatus.RUNNING), workflow_id=str(UUID(int=7)), attributes={"customer": "ada", "n": 1})

    print_list([view])

    assert capsys.readouterr().out == ""
    assert isinstance(screen.file, io.StringIO)
    heading, line, *more = screen.file.getvalue().splitlines()
    assert (str(UUID(int=7)) in line, more) == (True, [])
    assert ("ATTRIBUTES" in heading, "customer=ada, n=1" in line) == (shown, shown)
