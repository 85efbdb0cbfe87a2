"""What the plan of a workflow says: order, units, retries, waits, and what closures give."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_workflow import EnumOnFailure
from omnibase_core.errors import ModelOnexError
from omnibase_core.utils.workflow_plan import PlannedStep, Unit, WorkflowPlan, WorkflowScope
from omnibase_core.utils.workflow_values import MAX_ITEMS
from tests.support.timing import cpu_bound
from tests.support.workflow_contracts import loaded, workflow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def scope(input_data: JsonValue = None, **steps: JsonValue) -> WorkflowScope:
    return WorkflowScope(input_data, steps, {"id": "w-1", "name": "test", "token": 3}, "an item", 4)


def plan(steps: str, **fields: str) -> WorkflowPlan:
    return loaded(workflow(steps, **fields)).plan


def first(line: str, **fields: str) -> PlannedStep:
    return plan(f"step_id: a, {line}", **fields).steps[0]


def made(tree: str, at: WorkflowScope, **fields: str) -> JsonValue:
    """The input that a step makes of a scope."""
    step = f"step_id: a, step_type: effect, node: x, for_each: [1], input: {tree}"
    planned = plan(f"step_id: b, step_type: effect, node: x\n{step}", **fields)
    return planned.steps[1].make_input(at)


# values


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("'${input.n}'", 7),
        ("'${input}'", {"n": 7, "list": [1, {"x": 2}], "text": "b"}),
        ("'${input.list.1.x}'", 2),
        ("'n=${input.n}'", "n=7"),
        ("'${input.nope:-3}'", 3),
        ("'$${input.n}'", "${input.n}"),
        ("'${steps.b.id}'", "B"),
        ("'${steps.b}'", {"id": "B", "text": "${input.n}"}),
        ("'${steps.b.text}'", "${input.n}"),
        ("'${item}-${index}'", "an item-4"),
        ("'${workflow.id}/${workflow.token}'", "w-1/3"),
        ("{a: {b: ['${input.n}', 1]}, c: 2}", {"a": {"b": [7, 1]}, "c": 2}),
        ("{'$${k}': '${input.n}'}", {"${k}": 7}),
        ("7", 7),
        ("[]", []),
        ("''", ""),
    ],
)
def test_an_input_is_the_tree_with_its_values(tree: str, expected: JsonValue) -> None:
    """A lone placeholder keeps the type of its value; what is put in is never scanned again."""
    at = scope({"n": 7, "list": [1, {"x": 2}], "text": "b"}, b={"id": "B", "text": "${input.n}"})

    assert made(tree, at) == expected


def test_no_input_is_an_empty_map() -> None:
    """A step that says nothing gives nothing."""
    assert first("step_type: effect, node: x").make_input(scope()) == {}


def test_constants_are_shared_and_lists_with_holes_are_not() -> None:
    """What no placeholder touches is made once."""
    make = first("step_type: effect, node: x, input: {a: {b: [1]}, c: ['${input}']}").make_input

    one, two = make(scope(1)), make(scope(2))

    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert one["a"] is two["a"]
    assert (one["c"], two["c"]) == ([1], [2])


def test_a_missing_value_is_told_with_what_is_there() -> None:
    """The keys, never the values."""
    make = first("step_type: effect, node: x, input: {a: '${input.b}'}").make_input

    with pytest.raises(ModelOnexError, match="'b' is missing in input; keys there: secret") as raised:
        make(scope({"secret": "hunter2"}))
    assert "hunter2" not in str(raised.value)


def test_values_are_cheap() -> None:
    """A small input takes at most 4 us of CPU, with room for other programs."""
    import time

    make = first("step_type: effect, node: x, input: {a: '${input.a}', b: '${input.b.c}', d: 1}").make_input
    at = scope({"a": 1, "b": {"c": 2}})

    def cost() -> float:
        started = time.process_time()
        for _ in range(5_000):
            make(at)
        return (time.process_time() - started) / 5_000

    assert min(cost() for _ in range(5)) < cpu_bound(4e-6)


def test_for_each_takes_lists_paths_and_placeholders() -> None:
    """A list has templates for entries; a path is a placeholder without its braces."""
    at = scope({"orders": [1, 2]}, b={"rows": [3]})
    steps = "step_id: b, step_type: effect, node: x\n"
    lists = [
        plan(f"{steps}step_id: a, step_type: effect, node: x, for_each: {given}").steps[1].for_each
        for given in ("input.orders", "$.input.orders", "'${input.orders}'", "steps.b.rows", "[1, '${input.orders.1}']")
    ]

    assert [make(at) for make in lists if make is not None] == [[1, 2], [1, 2], [1, 2], [3], [1, 2]]


@pytest.mark.parametrize(("orders", "kind"), [(None, "null"), ("ab", "str"), ({"a": 1}, "dict")])
def test_what_is_no_list_is_no_for_each(orders: JsonValue, kind: str) -> None:
    """A text is not taken for the list of its letters."""
    step = first("step_type: effect, node: x, for_each: input.orders")
    assert step.for_each is not None

    with pytest.raises(ModelOnexError, match=f"gives {kind}, a list is wanted"):
        step.for_each(scope({"orders": orders}))


def test_a_list_that_does_not_fit_the_journal_is_refused() -> None:
    """Each entry has a place in it."""
    step = first("step_type: effect, node: x, for_each: input.orders")
    assert step.for_each is not None
    orders: list[JsonValue] = [None] * (MAX_ITEMS + 1)

    with pytest.raises(ModelOnexError, match="start a run for each part"):
        step.for_each(scope({"orders": orders}))


def test_conditions_read_input_steps_and_items() -> None:
    """A condition that reads the item is judged for each."""
    steps = plan(
        "step_id: b, step_type: effect, node: x, when: input.n > 5\n"
        "step_id: c, step_type: effect, node: x, when: steps.b.ok && index == 4, for_each: [1]\n"
        "step_id: d, step_type: effect, node: x, when: 'true', for_each: [1]"
    ).steps
    conditions = [step.when for step in steps]
    assert all(conditions)
    at = scope({"n": 7}, b={"ok": True})

    assert [condition(at) for condition in conditions if condition] == [True, True, True]
    assert [step.when_each for step in steps] == [False, True, False]
    assert conditions[0] is not None
    assert not conditions[0](scope({"n": 5}))


# order and units


CHAIN = (
    "step_id: a, step_type: compute, node: total.yaml, input: '${input}'\n"
    "step_id: b, step_type: compute, node: total.yaml, input: '${input}', depends_on: [a]\n"
    "step_id: e, step_type: effect, node: x, depends_on: [b]\n"
    "step_id: c, step_type: compute, node: total.yaml, input: '${input}', depends_on: [a]\n"
    "step_id: d, step_type: compute, node: total.yaml, input: '${input}', depends_on: [e, c]\n"
)


def units(found: WorkflowPlan) -> list[tuple[str, tuple[int, ...], bool]]:
    def ids(unit: Unit) -> str:
        return "".join(found.steps[index].step_id for index in unit.steps)

    return [(ids(unit), unit.depends_on, unit.recorded) for unit in found.units]


@pytest.mark.parametrize(
    ("coordination", "durability", "expected"),
    [
        (
            "sequential",
            "step",
            [("a", (), True), ("b", (0,), True), ("e", (1,), True), ("c", (0,), True), ("d", (2, 3), True)],
        ),
        ("sequential", "level", [("ab", (), True), ("e", (0,), True), ("cd", (0, 1), True)]),
        (
            "sequential",
            "run",
            [("a", (), False), ("b", (0,), False), ("e", (1,), True), ("c", (0,), False), ("d", (2, 3), False)],
        ),
        ("parallel", "level", [("a", (), True), ("bc", (0,), True), ("e", (1,), True), ("d", (1, 2), True)]),
        (
            "pipeline",
            "level",
            [("a", (), True), ("b", (0,), True), ("e", (1,), True), ("c", (0,), True), ("d", (2, 3), True)],
        ),
    ],
)
def test_units_are_what_durability_says(
    coordination: str, durability: str, expected: list[tuple[str, tuple[int, ...], bool]]
) -> None:
    """step: each; level: pure steps next to each other, or of one depth; run: pure steps are not recorded."""
    found = plan(CHAIN, coordination_type=coordination, durability=durability)

    assert units(found) == expected
    assert [found.units[i].dependents for i in range(len(found.units))] == [
        tuple(unit.index for unit in found.units if i in unit.depends_on) for i in range(len(found.units))
    ]


def test_order_depth_and_dependents() -> None:
    """Topologically, ties by declaration."""
    found = plan(
        "step_id: z, step_type: effect, node: x, depends_on: [b]\n"
        "step_id: b, step_type: effect, node: x\n"
        "step_id: a, step_type: effect, node: x\n",
        coordination_type="parallel",
    )

    assert found.order == (1, 0, 2)
    assert [step.depth for step in found.steps] == [1, 0, 0]
    assert found.steps[1].dependents == (0,)
    assert found.steps[0].depends_on == (1,)


def test_only_computations_and_reductions_by_contract_are_pure() -> None:
    """A service may do anything; a compensation is told like a step."""
    found = plan(
        "step_id: a, step_type: compute, node: total.yaml, input: '${input}'\n"
        "step_id: b, step_type: reducer, node: machine.yaml, input: {action: CLOSE}\n"
        "step_id: c, step_type: compute, node: service, "
        "compensate: {step_type: effect, node: store.yaml, input: {id: 1}}\n"
        "step_id: d, step_type: effect, node: store.yaml, input: {id: 1}\n"
        "step_id: e, step_type: effect, node: typed.yaml, input: {n: 1}\n"
    )

    assert [step.pure for step in found.steps] == [True, True, False, False, False]
    assert [step.is_service for step in found.steps] == [False, False, True, False, False]
    assert [step.connection for step in found.steps] == [None, None, None, "main", None]
    undo = found.steps[2].compensate
    assert undo is not None
    assert (undo.step_id, undo.index, undo.connection, undo.node) == ("c.compensate", 5, "main", "store.yaml")


# retries and failures


def attempts(step: str = "", **fields: str) -> tuple[int, list[float], frozenset[str] | None]:
    retry = first(f"step_type: effect, node: x{step}", **fields).retry
    return retry.attempts, [retry.delay_s(n, 0.5) for n in range(2, retry.attempts + 1)], retry.conditions


GENERAL = "{retry_conditions: [TIMEOUT], max_retries: 2, retry_config: {base_delay_ms: 100}}"


@pytest.mark.parametrize(
    ("step", "general", "expected"),
    [
        ("", None, (1, [], None)),
        (", on_failure: retry", None, (4, [1.0, 2.0, 4.0], None)),
        ("", "{}", (4, [1.0, 2.0, 4.0], None)),
        ("", "{retry_enabled: false}", (1, [], None)),
        ("", GENERAL, (3, [0.1, 0.2], frozenset({"TIMEOUT"}))),
        (", retry: {max_retries: 1, backoff_strategy: fixed}", GENERAL, (2, [1.0], frozenset({"TIMEOUT"}))),
        (", retry: {max_retries: 1, retryable_errors: [ValueError]}", GENERAL, (2, [1.0], frozenset({"ValueError"}))),
        (", retry: {enabled: false}", GENERAL, (1, [], None)),
        ("", "{max_retries: 2, retry_config: {max_retries: 1}}", (2, [1.0], None)),
    ],
)
def test_attempts_are_the_steps_own_else_those_of_the_workflow(
    step: str, general: str | None, expected: tuple[int, list[float], frozenset[str] | None]
) -> None:
    """A workflow without a word about it makes one attempt."""
    assert attempts(step, **({} if general is None else {"conflict_resolution": general})) == expected


def test_decorrelated_waits_grow_from_the_one_before() -> None:
    """The upper end triples until the cap."""
    retry = first(
        "step_type: effect, node: x, retry: {max_retries: 4, base_delay_ms: 100, max_delay_ms: 1000, "
        "jitter: decorrelated}"
    ).retry

    assert [retry.delay_s(n, 1.0) for n in range(2, 6)] == [0.1, 0.3, 0.9, 1.0]
    assert [retry.delay_s(n, 0.0) for n in range(2, 6)] == [0.1] * 4


def test_what_follows_a_failure_is_passed_on() -> None:
    """What a step does not say is the workflow's business."""
    assert first("step_type: effect, node: x").on_failure is None
    assert first("step_type: effect, node: x, on_failure: skip").on_failure is EnumOnFailure.SKIP
    assert plan(
        "step_id: a, step_type: effect, node: x", conflict_resolution="{continue_on_error: true}"
    ).continue_on_error


# waits


def test_waits_for_a_time() -> None:
    """A length counts from the beginning of the wait; a time is a template."""
    length = first("step_type: wait, wait: {duration_ms: 1500}").wait
    moment = first("step_type: wait, wait: {until: '${input.at}'}").wait
    assert length is not None
    assert moment is not None
    assert length.until is not None
    assert moment.until is not None

    assert length.until(scope(), NOW) == NOW + timedelta(seconds=1.5)
    assert moment.until(scope({"at": "2026-01-01T01:00:00+01:00"}), NOW) == NOW
    with pytest.raises(ModelOnexError, match="with its zone"):
        moment.until(scope({"at": "tomorrow"}), NOW)


def test_a_wait_for_an_event_has_filter_and_key() -> None:
    """The filter sees the event beside the run's own data."""
    wait = first(
        "step_type: wait, wait: {event: {type: paid, filter: event.payload.n == input.n, key: 'o-${input.n}'}, "
        "timeout_ms: 5, on_timeout: continue, value: late}"
    ).wait
    assert wait is not None
    assert wait.event_filter is not None
    assert wait.event_key is not None
    at = scope({"n": 7})
    at.event = {"payload": {"n": 7}}

    assert (wait.event_type, wait.timeout_ms, wait.fails_on_timeout, wait.timeout_value) == ("paid", 5, False, "late")
    assert wait.event_filter(at)
    assert wait.event_key(at) == "o-7"


@pytest.mark.parametrize(
    ("on_timeout", "fails", "approved"), [("reject", False, False), ("approve", False, True), ("fail", True, False)]
)
def test_an_approval_waits_for_its_own_name(on_timeout: str, fails: bool, approved: bool) -> None:
    """No answer means what the contract says."""
    wait = first(
        "step_type: approval, approval: {prompt: 'Pay ${input.n}?', approvers: [ann], timeout_ms: 9, "
        f"on_timeout: {on_timeout}, escalate_after_ms: 5, escalate: {{step_type: effect, node: call}}}}"
    ).wait
    assert wait is not None
    assert wait.prompt is not None
    assert wait.escalation is not None

    assert (wait.signal, wait.approvers, wait.fails_on_timeout) == ("a", ("ann",), fails)
    assert isinstance(wait.timeout_value, dict)
    assert wait.timeout_value["approved"] is approved
    assert wait.prompt(scope({"n": 7})) == "Pay 7?"
    assert (wait.escalation.step_id, wait.escalation.index) == ("a.escalate", 1)


# pipelines, events, triggers


def test_a_pipeline_hands_an_item_from_step_to_step() -> None:
    """Without an input of its own a step gets what the one before made; a disabled one is passed over."""
    found = plan(
        "step_id: a, step_type: effect, node: x\n"
        "step_id: off, step_type: effect, node: x, enabled: false\n"
        "step_id: b, step_type: effect, node: x\n"
        "step_id: c, step_type: effect, node: x, input: {i: '${index}', o: '${item}'}",
        coordination_type="pipeline",
    )
    at = scope({"items": [1, 2]}, a="behind a", b="behind b")
    assert found.items is not None

    assert found.items(at) == [1, 2]
    assert found.steps[0].make_input(at) == "an item"
    assert found.steps[2].make_input(at) == "behind a"
    assert found.steps[3].make_input(at) == {"i": 4, "o": "an item"}


def test_events_start_steps() -> None:
    """One type or several, by key."""
    found = plan(
        "step_id: a, step_type: effect, node: x, on_event: [placed, paid], filter: event.payload.n > input.n, "
        "key: '${event.payload.id}', debounce_ms: 5, event_timeout_ms: 9, input: {e: '${event.id}'}",
        coordination_type="event_driven",
    )
    trigger = found.steps[0].trigger
    assert trigger is not None
    assert trigger.event_filter is not None
    assert trigger.event_key is not None
    at = scope({"n": 1})
    at.event = {"id": "e1", "payload": {"n": 2, "id": "o1"}}

    assert (trigger.event_types, trigger.debounce_ms, trigger.timeout_ms) == (("placed", "paid"), 5, 9)
    assert trigger.event_filter(at)
    assert trigger.event_key(at) == "o1"
    assert found.steps[0].make_input(at) == {"e": "e1"}


def test_runs_are_started_by_the_clock_and_by_events() -> None:
    """The input of such a run is made of the event, or written down."""
    found = plan(
        "step_id: a, step_type: effect, node: x",
        triggers="[{schedule: {cron: '0 2 * * 1-5', timezone: Europe/Berlin}, input: {full: true}}, "
        "{event: {on_event: placed, filter: event.payload.n > 1, key: '${event.payload.id}'}}, "
        "{event: {on_event: [a, b]}, input: {id: '${event.payload.id}'}}]",
    )
    at = WorkflowScope(None, {}, {}, event={"payload": {"n": 2, "id": "o1"}})
    schedule, (placed, either) = found.schedules[0], found.starts
    assert placed.event_filter is not None
    assert placed.event_key is not None

    assert (schedule.cron, schedule.timezone, schedule.make_input(at)) == (
        "0 2 * * 1-5",
        "Europe/Berlin",
        {"full": True},
    )
    assert placed.event_filter(at)
    assert (placed.event_key(at), placed.make_input(at)) == ("o1", {"n": 2, "id": "o1"})
    assert (either.event_types, either.make_input(at)) == (("a", "b"), {"id": "o1"})


def test_the_rest_of_the_plan() -> None:
    """Dependencies, limits, key, output, input check."""
    found = plan(
        "step_id: a, step_type: effect, node: x, idempotency_key: 'k-${workflow.id}', priority: 1, timeout_ms: 9",
        dependencies="[{service_name: mail, dependency_type: optional, version_constraint: '>=1,<2'}]",
        output="{all: '${steps.a}', id: '${workflow.id}'}",
        input_schema="{type: object, required: [n]}",
        workflow_timeout_ms="99",
        lease="{ttl_ms: 2000}",
    )
    key, make_output, check = found.steps[0].idempotency_key, found.make_output, found.check_input
    assert key is not None
    assert make_output is not None
    assert check is not None

    assert [(d.service, d.kind, d.version) for d in found.dependencies] == [("mail", "optional", ">=1,<2")]
    assert (found.timeout_ms, found.lease_ttl_ms, found.steps[0].priority, found.steps[0].timeout_ms) == (
        99,
        2000,
        1,
        9,
    )
    assert key(scope()) == "k-w-1"
    assert make_output(scope(a=[1])) == {"all": [1], "id": "w-1"}
    assert check({"n": 1}) == []
    assert check({}) == ["the input: breaks 'required' 'n'"]
