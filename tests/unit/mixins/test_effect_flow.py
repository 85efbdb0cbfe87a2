"""The order of operations: modes, dependencies, skipping, concurrency, references (section 2.7)."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome as Outcome
from omnibase_core.enums.enum_effect_types import EnumTransactionState as State
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from omnibase_spi.testing import ScriptedHandler, container_with
from tests.support.effects import GET, POST, contract, node_of, operation, run, virtually

NO_RETRY = {"max_retries": 0}


def _get(name: str) -> dict[str, object]:
    return {**GET, "url_template": f"http://host/{name}"}


def _by_path(script: dict[str, object], seconds: float = 0.0) -> ScriptedHandler:
    """A handler that answers by the last segment of the URL."""

    async def answer(context: ResolvedIOContext) -> object:
        await asyncio.sleep(seconds)
        url = context.url  # type: ignore[union-attr]  # http contexts
        return script.get(url.rsplit("/", 1)[1], {"ok": True})

    return ScriptedHandler(answer)


def _outcomes(output: ModelEffectOutput) -> dict[str, str]:
    return {result.operation_name: result.outcome.value for result in output.operations}


def test_sequential_abort_stops_at_the_first_failure_and_raises() -> None:
    """Later operations are not run and not in the output."""
    handler = _by_path({"b": 404})
    container = container_with(http=handler)
    three = contract(*(operation(name, _get(name)) for name in "abc"))

    async def main() -> EffectFailedError:
        with pytest.raises(EffectFailedError) as caught:
            await node_of(container, three).process(ModelEffectInput(operation_data={}))
        return caught.value

    output = virtually(main).partial_output
    assert output is not None
    assert _outcomes(output) == {"a": "succeeded", "b": "failed"}
    assert (output.failed_operation, output.transaction_state) == ("b", State.FAILED)
    assert handler.calls == 2


def test_sequential_continue_runs_all_and_does_not_raise() -> None:
    """`failed_operation` names the first failure."""
    container = container_with(http=_by_path({"b": 404, "c": 404}))
    four = contract(*(operation(name, _get(name)) for name in "abcd"), execution_mode="sequential_continue")

    async def main() -> ModelEffectOutput:
        return await node_of(container, four).process(ModelEffectInput(operation_data={}))

    output = virtually(main)
    assert _outcomes(output) == {"a": "succeeded", "b": "failed", "c": "failed", "d": "succeeded"}
    assert (output.failed_operation, output.transaction_state) == ("b", State.FAILED)


@pytest.mark.parametrize("mode", ["sequential_continue", "parallel_continue"])
def test_what_depends_on_a_failure_is_skipped_in_every_mode(mode: str) -> None:
    """Skipping passes on to what depends on the skipped one."""
    container = container_with(http=_by_path({"a": 404}))
    chain = contract(
        operation("a", _get("a")),
        operation("b", _get("b"), depends_on=["a"]),
        operation("c", _get("c"), depends_on=["b"]),
        operation("d", _get("d")),
        execution_mode=mode,
    )
    output = virtually(lambda: run(container, chain))

    assert _outcomes(output) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "succeeded"}
    assert output.operations[1].error_message == "skipped: it depends on a"


def test_output_of_an_earlier_operation_is_read_with_its_type() -> None:
    """Extracted fields and the whole document can be referenced."""
    handler = _by_path({"a": {"id": 7, "list": [{"name": "x"}]}})
    container = container_with(http=handler)
    two = contract(
        operation("first", _get("a"), response_handling={"extract_fields": {"id": "$.id"}}),
        operation(
            "second",
            {**POST, "body_template": '{"id": ${output.first.id}, "name": "${output.first.result.list.0.name}"}'},
        ),
    )
    virtually(lambda: run(container, two))

    assert handler.contexts[1].body == '{"id": 7, "name": "x"}'  # type: ignore[union-attr]  # http contexts


def test_parallel_operations_start_when_what_they_depend_on_is_done() -> None:
    """Not level by level: `d` waits for `b` only, however long `c` takes."""
    started: dict[str, float] = {}

    async def answer(context: ResolvedIOContext) -> object:
        name = context.url.rsplit("/", 1)[1]  # type: ignore[union-attr]  # http contexts
        started[name] = asyncio.get_running_loop().time() - 1000
        await asyncio.sleep({"a": 1, "b": 1, "c": 10, "d": 1}[name])
        return {"ok": True}

    container = container_with(http=ScriptedHandler(answer))
    graph = contract(
        operation("d", _get("d"), depends_on=["b"]),
        operation("a", _get("a")),
        operation("b", _get("b"), depends_on=["a"]),
        operation("c", _get("c"), depends_on=["a"]),
        execution_mode="parallel_abort",
    )
    output = virtually(lambda: run(container, graph))

    assert started == pytest.approx({"a": 0, "b": 1, "c": 1, "d": 2})
    assert [result.operation_name for result in output.operations] == ["d", "a", "b", "c"]
    assert output.total_duration_ms == pytest.approx(11_000)


def test_at_most_max_concurrency_run_at_once() -> None:
    """Ten operations of a second each, three at a time, take four seconds."""
    handler = _by_path({}, seconds=1)
    container = container_with(http=handler)
    ten = contract(
        *(operation(f"o{i}", _get("x")) for i in range(10)), execution_mode="parallel_continue", max_concurrency=3
    )
    output = virtually(lambda: run(container, ten))

    assert handler.most_running == 3
    assert output.total_duration_ms == pytest.approx(4_000)
    assert output.transaction_state is State.COMMITTED


def test_parallel_abort_cancels_what_runs_and_waits_for_it() -> None:
    """The call ends with the failure, when the cancelled ones have put their things in order."""
    tidied: list[str] = []

    async def answer(context: ResolvedIOContext) -> object:
        name = context.url.rsplit("/", 1)[1]  # type: ignore[union-attr]  # http contexts
        if name == "bad":
            await asyncio.sleep(1)
            return 404
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.5)
            tidied.append(name)
        return {"ok": True}

    container = container_with(http=ScriptedHandler(answer))
    graph = contract(
        operation("slow", _get("slow")),
        operation("bad", _get("bad")),
        operation("later", _get("later"), depends_on=["slow"]),
        execution_mode="parallel_abort",
    )
    output = virtually(lambda: run(container, graph))

    assert tidied == ["slow"]
    assert _outcomes(output) == {"bad": "failed"}
    assert output.total_duration_ms == pytest.approx(1_500)


@pytest.mark.parametrize("mode", ["sequential_abort", "sequential_continue", "parallel_abort", "parallel_continue"])
def test_input_is_judged_before_anything_runs(mode: str) -> None:
    """In every mode a wrong input raises, and no handler is called."""
    handler = ScriptedHandler()
    container = container_with(http=handler)
    strict = contract(operation("a", GET), execution_mode=mode, input_schema={"required_fields": ["user.id", "name"]})

    async def main() -> ModelOnexError:
        with pytest.raises(ModelOnexError) as caught:
            await node_of(container, strict).process(ModelEffectInput(operation_data={"user": {}, "name": None}))
        return caught.value

    error = virtually(main)
    assert error.error_code is Code.VALIDATION_ERROR
    assert "missing user.id, name" in error.message
    assert handler.calls == 0


def test_the_flow_timeout_ends_the_whole_invocation() -> None:
    """What is running is cut, what has not begun fails without being sent."""
    handler = _by_path({}, seconds=2)
    container = container_with(http=handler)
    slow = contract(
        *(operation(f"o{i}", _get("x"), retry_policy=NO_RETRY) for i in range(4)),
        execution_mode="sequential_continue",
        flow_timeout_ms=3_000,
    )
    output = virtually(lambda: run(container, slow))

    assert [r.outcome for r in output.operations] == [Outcome.SUCCEEDED, *[Outcome.FAILED] * 3]
    assert {r.error_code for r in output.operations[1:]} == {Code.TIMEOUT}
    assert handler.calls == 2
    assert output.total_duration_ms == pytest.approx(3_000)


def test_reassigning_contract_or_container_is_heeded() -> None:
    """The next call runs the new contract on the new services."""
    first, second = ScriptedHandler(), ScriptedHandler()
    container = container_with(http=first)

    async def main() -> None:
        node = node_of(container, contract(operation("a", GET)))
        await node.process(ModelEffectInput(operation_data={}))
        container.register_service("scripted-http", second)
        await node.process(ModelEffectInput(operation_data={}))
        node.effect_subcontract = contract(operation("b", _get("other")))
        await node.process(ModelEffectInput(operation_data={}))

    virtually(main)
    assert (first.calls, second.calls) == (1, 2)
    assert second.contexts[1].url.endswith("/other")  # type: ignore[union-attr]  # http contexts


@st.composite
def _graphs(draw: st.DrawFn) -> list[tuple[list[int], bool]]:
    """(what each depends on, whether it fails): earlier ones only, so that there is no cycle."""
    size = draw(st.integers(1, 8))
    return [
        (draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else [], draw(st.booleans()))
        for index in range(size)
    ]


@given(_graphs(), st.integers(1, 4), st.sampled_from(["parallel_continue", "sequential_continue"]))
@settings(max_examples=150, deadline=None)
def test_any_graph_ends_with_every_operation_accounted_for(
    graph: list[tuple[list[int], bool]], limit: int, mode: str
) -> None:
    """An operation runs exactly when all it depends on succeeded; all have a result, in order of declaration."""
    fails = {f"o{i}": 404 for i, (_, failing) in enumerate(graph) if failing}
    handler = _by_path(dict(fails), seconds=0.01)
    container = container_with(http=handler)
    made = contract(
        *(operation(f"o{i}", _get(f"o{i}"), depends_on=[f"o{d}" for d in deps]) for i, (deps, _) in enumerate(graph)),
        execution_mode=mode,
        max_concurrency=limit,
    )
    output = virtually(lambda: run(container, made))

    expected: list[str] = []
    for deps, failing in graph:
        ready = all(expected[d] == "succeeded" for d in deps)
        expected.append(("failed" if failing else "succeeded") if ready else "skipped")
    assert [r.outcome.value for r in output.operations] == expected
    assert [r.operation_name for r in output.operations] == [f"o{i}" for i in range(len(graph))]
    assert handler.calls == sum(outcome != "skipped" for outcome in expected)
    assert handler.most_running <= limit
