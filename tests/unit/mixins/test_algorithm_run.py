"""Algorithm contracts carried out."""

import asyncio
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast
from uuid import UUID

import psutil
import pytest
from pydantic import ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import AlgorithmNotFoundError, ModelOnexError
from omnibase_core.mixins.algorithm_run import run_algorithm
from omnibase_core.mixins.purity_guard import PurityError
from omnibase_core.models.contracts.model_contract_compute import ModelContractCompute
from omnibase_core.models.model_compute_output import ModelComputeOutput
from omnibase_core.utils.algorithm_registry import AlgorithmRegistry
from omnibase_core.utils.algorithms import Sum
from omnibase_core.utils.result_cache import ResultCache
from tests.support import compute_workers as own

ID = UUID("11111111-2222-4333-8444-555555555555")


def registry() -> AlgorithmRegistry:
    made = AlgorithmRegistry()
    for name, algorithm in (("spins", own.Spins), ("broken", own.Broken), ("hangs", own.Hangs)):
        made.register(name, algorithm)
    return made


def contract(
    data: object, algorithm: str = "sum", parameters: Mapping[str, object] | None = None, /, **fields: object
) -> ModelContractCompute:
    config = {"algorithm_type": algorithm, "parameters": dict(parameters or {})}
    return ModelContractCompute.model_validate(
        {"correlation_id": ID, "input_data": data, "algorithm_config": config, **fields}
    )


async def run(
    data: object, algorithm: str = "sum", parameters: Mapping[str, object] | None = None, /, **fields: object
) -> ModelComputeOutput:
    return await run_algorithm(contract(data, algorithm, parameters, **fields), registry())


async def test_the_result_and_its_metrics() -> None:
    """The five keys of the specification; the id of the contract."""
    output = await run([1, 2, 3])

    assert output.result == output.processed_data == 6
    assert output.correlation_id == ID
    assert set(output.performance_metrics) == {
        "execution_time", "data_size", "algorithm_type", "items_per_second", "workers",
    }  # fmt: skip
    metrics = output.performance_metrics
    assert (metrics["data_size"], metrics["algorithm_type"], metrics["workers"]) == (3, "sum", 1)
    seconds = metrics["execution_time"]
    assert isinstance(seconds, float)
    assert seconds > 0
    assert metrics["items_per_second"] == pytest.approx(3 / seconds)
    assert output.processing_time_ms == pytest.approx(seconds * 1000)
    assert not output.parallel_execution_used
    assert not output.cache_hit


class Letters:
    """All that the specification asks of an algorithm."""

    def process_chunk(self, chunk: Sequence[object]) -> int:
        return sum(len(str(item)) for item in chunk)

    def merge(self, first: int, second: int) -> int:
        return first + second


class Foreign:
    """A registry of somebody else."""

    def get_algorithm(self, name: str) -> object:
        return Letters() if name == "letters" else object()


async def test_without_a_finish_the_state_is_the_result() -> None:
    """Of any registry; what is no algorithm is refused before anything runs."""
    output = await run_algorithm(contract(["a", "bc", "d"], "letters"), Foreign())
    empty = await run_algorithm(contract([], "letters"), Foreign())

    assert (output.result, empty.result) == (4, 0)
    with pytest.raises(ModelOnexError, match="lacks process_chunk, merge") as caught:
        await run_algorithm(contract([1], "other"), Foreign())
    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


@pytest.mark.parametrize("backend", ["serial", "threads", "processes", None])
async def test_every_backend_gives_the_same_bits(backend: str | None) -> None:
    """And says whether it was parallel; None is processes for two workers."""
    items = [0.1 * each for each in range(500)]

    output = await run(items, "stddev", parallel_config={"worker_count": 2, "backend": backend, "chunk_size": 7})

    assert output.result == (await run(items, "stddev")).result
    assert output.parallel_execution_used == (backend != "serial")
    assert output.performance_metrics["workers"] == (1 if backend == "serial" else 2)


async def test_no_items_give_the_result_of_nothing() -> None:
    """On any backend, without a worker's start."""
    output = await run([], "sum", parallel_config={"worker_count": 4})

    assert (output.result, output.performance_metrics["data_size"], output.parallel_execution_used) == (0, 0, False)


async def test_items_of_an_object() -> None:
    """Its only list, or the one that is named."""
    assert (await run({"values": [1, 2], "unit": "m"})).result == 3
    assert (await run({"a": [1], "b": [2]}, input_field="b")).result == 2


@pytest.mark.parametrize(
    ("data", "fields", "problem"),
    [
        ({"a": [1], "b": [2]}, {}, r"input_data has not one list but 2 \(a, b\); name the items by input_field"),
        ({"a": 1}, {}, "not one list but 0"),
        ({"a": [1]}, {"input_field": "b"}, "input_field is 'b', but input_data has no list of that name; lists: a"),
        ([1], {"input_field": "b"}, "input_data is a list itself"),
    ],
)
async def test_items_that_cannot_be_found(data: object, fields: dict[str, object], problem: str) -> None:
    """VALIDATION_ERROR saying what is there."""
    with pytest.raises(ModelOnexError, match=problem) as caught:
        await run(data, "sum", None, **fields)

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.correlation_id == ID


async def test_all_problems_of_the_input_at_once() -> None:
    """Missing fields, wrong types, and no items."""
    validation = {"required_fields": ["a", "b"], "data_types": {"c": "integer", "d": "number", "e": "str", "f": "list"}}

    with pytest.raises(ModelOnexError) as caught:
        await run({"c": True, "d": 1.5, "e": None, "x": []}, input_field="y", input_validation=validation)

    assert caught.value.context["problems"] == [
        "input_data.a is missing",
        "input_data.b is missing",
        "input_data.c: expected integer, found bool",
        "input_data.e: expected str, found null",
        "input_field is 'y', but input_data has no list of that name; lists: x",
    ]


async def test_each_item_of_a_list_is_validated() -> None:
    """All are counted, a hundred are listed."""
    validation = {"required_fields": ["v"], "data_types": {"v": "integer"}}
    items: list[object] = [{"v": 1}, {}, 5, {"v": "x"}, *[{}] * 200]

    with pytest.raises(ModelOnexError, match=r"; and 103 more$") as caught:
        await run(items, "sum", {"field": "v"}, input_validation=validation)

    problems = cast("list[str]", caught.value.context["problems"])
    assert problems[:3] == [
        "input_data[1].v is missing",
        "input_data[2]: expected an object, found int",
        "input_data[3].v: expected integer, found str",
    ]
    assert (len(problems), caught.value.context["problem_count"]) == (100, 203)
    assert (await run([{"v": 1}, {"v": 2}], "sum", {"field": "v"}, input_validation=validation)).result == 3


async def test_an_unknown_algorithm() -> None:
    """With the nearest names, and the contract's id."""
    with pytest.raises(AlgorithmNotFoundError, match="did you mean 'stddev'") as caught:
        await run([1], "stdev")

    assert caught.value.correlation_id == ID


async def test_a_registry_of_the_program() -> None:
    """It needs `get_algorithm(name)` only; parameters make another of the algorithm's class."""

    class Mine:
        def get_algorithm(self, _name: str) -> object:
            return Sum()

    output = await run_algorithm(contract([{"v": 4}], "any", {"field": "v"}), Mine())

    assert output.result == 4


@pytest.mark.parametrize(
    ("wanted", "algorithm", "expected"),
    [("json", "sum", 3), ("array", "sum", [3]), ("array", "sort", [1, 2]), ("none", "sum", None)],
)
async def test_formats(wanted: str, algorithm: str, expected: object) -> None:
    """The algorithm's own, always a list, only the metrics."""
    output = await run([2, 1], algorithm, output_transformation={"format": wanted})

    assert output.result == expected


@pytest.fixture
def no_dataframes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_dataframes")
async def test_a_dataframe_needs_a_library() -> None:
    """It is said before any work is done, with what to install."""
    with pytest.raises(ModelOnexError, match=r"needs pandas or polars.*omnibase\[dataframe\]") as caught:
        await run([], "broken", output_transformation={"format": "dataframe"})

    assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


@pytest.mark.parametrize("library", ["pandas", "polars"])
async def test_a_dataframe_is_made_of_rows(
    library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_dataframes: None
) -> None:
    """By a library that takes rows, as both do: objects are rows, other values a column `value`."""
    (tmp_path / f"{library}.py").write_text(
        "class DataFrame:\n    def __init__(self, rows):\n        self.rows = rows\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, library)

    grouped = await run([{"g": 1}], "group_aggregate", {"group_by": "g"}, output_transformation={"format": "dataframe"})
    plain = await run([2, 1], "sort", output_transformation={"format": "dataframe"})

    assert grouped.result.rows == [{"g": 1, "count": 1}]  # type: ignore[attr-defined]  # of the module above
    assert plain.result.rows == [{"value": 1}, {"value": 2}]  # type: ignore[attr-defined]  # the same
    assert isinstance(sys.modules.pop(library), ModuleType)


async def test_results_are_cached_only_when_asked_for() -> None:
    """By content: equal data is enough, other data, parameters or algorithms are not."""
    cache = ResultCache()
    enabled = {"cache_enabled": True}

    async def call(data: object, algorithm: str = "sum", **fields: object) -> ModelComputeOutput:
        return await run_algorithm(contract(data, algorithm, None, **fields), registry(), cache=cache)

    assert not (await call([1, 2])).cache_hit
    assert not (await call([1, 2], performance=enabled)).cache_hit
    hit = await call([1, 2], performance=enabled, output_transformation={"format": "array"})
    assert (hit.cache_hit, hit.result, hit.performance_metrics["workers"]) == (True, [3], 0)
    for other in (call([1, 2.0], performance=enabled), call([1, 2], "mean", performance=enabled)):
        assert not (await other).cache_hit
    assert not (await run_algorithm(contract([1, 2], performance=enabled), registry())).cache_hit


async def test_the_cache_tells_objects_of_one_class_apart() -> None:
    """By their names and by what they hold now; an object that cannot be pickled is not cached."""
    cache, made = ResultCache(), AlgorithmRegistry()
    changing, hidden = own.Over(5), own.Over(5)
    hidden.note = lambda: None
    for name, algorithm in (("few", own.Over(100)), ("many", changing), ("hidden", hidden)):
        made.register(name, algorithm)

    async def call(name: str) -> tuple[object, bool]:
        asked = contract([1, 10, 50], name, performance={"cache_enabled": True})
        output = await run_algorithm(asked, made, cache=cache)
        return output.result, output.cache_hit

    assert [await call(name) for name in ("few", "many", "many")] == [(0, False), (2, False), (2, True)]
    changing.limit = 20
    assert await call("many") == (1, False)
    made.register("few", own.Over(0))
    assert await call("few") == (3, False)
    assert [await call("hidden"), await call("hidden")] == [(2, False), (2, False)]


@pytest.mark.parametrize("size", [None, 100, 3, 2, 1])
@pytest.mark.parametrize(
    ("algorithm", "parameters", "items", "item"),
    [
        ("max", {}, [1, 2, 3, 4, 5, 6, "x", 8], 6),
        ("sort", {}, [1, 2, 3, 4, 5, 6, "x", 8], 6),
        ("top_k", {}, ["x", 8], 1),
        ("sum", {}, [1, math.nan, "x"], 1),
        ("median", {"field": "v"}, [{"v": 1}, {"v": "x"}, {}], 1),
    ],
)
async def test_the_same_item_is_named_however_items_are_cut(
    algorithm: str, parameters: dict[str, object], items: list[object], item: int, size: int | None
) -> None:
    """With its chunk."""
    with pytest.raises(ModelOnexError, match=rf"algorithm '{algorithm}': chunk \d \(.*\), item {item}: ex") as caught:
        await run(items, algorithm, parameters, parallel_config={"chunk_size": size})

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.context["item"] == item
    assert cast("int", caught.value.context["first"]) <= item <= cast("int", caught.value.context["last"])


@pytest.mark.parametrize(
    ("how", "code"),
    [("ValueError", EnumCoreErrorCode.VALIDATION_ERROR), ("KeyError", EnumCoreErrorCode.OPERATION_FAILED)],
)
async def test_partial_results_that_do_not_fit(how: str, code: EnumCoreErrorCode) -> None:
    """An error that says so."""
    with pytest.raises(ModelOnexError, match="putting 2 partial results together failed") as caught:
        await run([1, 2], "broken", {"how": how}, parallel_config={"chunk_size": 1})

    assert caught.value.error_code is code


async def test_a_result_that_no_float_can_hold_is_told() -> None:
    """Instead of an infinity, which JSON would turn into null."""
    with pytest.raises(ModelOnexError, match="algorithm 'sum': the result is beyond the range of floats") as caught:
        await run([1e308, 1e308])

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_purity_is_enforced_also_where_states_are_merged() -> None:
    """With `purity: enforce`; a pure algorithm gives its result."""
    config = {"chunk_size": 1}

    with pytest.raises(PurityError, match="the clock"):
        await run([1, 2], "broken", {"how": "clock"}, parallel_config=config, purity="enforce")
    await run([1, 2], "broken", {"how": "clock"}, parallel_config=config)
    assert (await run([1, 2], parallel_config=config, purity="enforce")).result == 3


async def test_a_timeout_kills_what_does_not_end(tmp_path: Path) -> None:
    """TIMEOUT, and no process is left."""
    with pytest.raises(ModelOnexError, match=r"longer than performance\.timeout_ms, 1500 ms") as caught:
        await run(
            [1],
            "hangs",
            {"directory": str(tmp_path)},
            parallel_config={"backend": "processes"},
            performance={"timeout_ms": 1500},
        )

    assert caught.value.error_code is EnumCoreErrorCode.TIMEOUT
    while any(psutil.pid_exists(int(each.name)) for each in tmp_path.iterdir()):  # noqa: ASYNC110  # reaped elsewhere
        await asyncio.sleep(0.005)


async def test_a_timeout_error_of_progress_is_no_timeout_of_the_contract() -> None:
    """It passes as it is."""

    def on_progress(_done: int, _size: int) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await run_algorithm(contract([1]), registry(), on_progress=on_progress)


async def test_progress_reaches_the_caller() -> None:
    """Through the whole call."""
    heard: list[tuple[int, int]] = []

    await run_algorithm(
        contract(list(range(10)), parallel_config={"chunk_size": 5}),
        registry(),
        on_progress=lambda *each: heard.append(each),
    )

    assert heard == [(5, 10), (10, 10)]


async def test_several_event_loops_one_after_another() -> None:
    """Nothing is bound to a loop."""
    results = [
        await asyncio.to_thread(asyncio.run, run([1, 2], parallel_config={"worker_count": 2, "backend": "threads"}))
        for _ in range(2)
    ]

    assert [each.result for each in results] == [3, 3]


def test_a_timeout_needs_a_backend_that_can_be_stopped() -> None:
    """A rule of the contract; more than one worker means processes."""
    with pytest.raises(ModelOnexError, match="the backend is 'threads'") as caught:
        contract([1], parallel_config={"backend": "threads"}, performance={"timeout_ms": 5})

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    parallel = contract([1], parallel_config={"worker_count": 2}, performance={"timeout_ms": 5})
    assert parallel.parallel_config.chosen_backend == "processes"


@pytest.mark.parametrize(
    "fields",
    [
        {"parallel_config": {"worker_count": 0}},
        {"parallel_config": {"worker_count": True}},
        {"parallel_config": {"backend": "gpu"}},
        {"parallel_config": {"chunk_size": 0}},
        {"output_transformation": {"format": "xml"}},
        {"input_validation": {"data_types": {"a": "decimal"}}},
        {"performance": {"cache_ttl_seconds": 0}},
        {"purity": "maybe"},
        {"unknown": 1},
    ],
)
def test_fields_have_bounds(fields: dict[str, object]) -> None:
    """A ValidationError, as everywhere."""
    with pytest.raises(ValidationError):
        contract([1], "sum", None, **fields)


def test_a_contract_is_frozen() -> None:
    """And its id is there without being given."""
    made = contract([1])

    with pytest.raises(ValidationError):
        setattr(made, "purity", "enforce")  # noqa: B010  # mypy knows that it may not be written
    other = ModelContractCompute.model_validate({"input_data": [], "algorithm_config": {"algorithm_type": "sum"}})
    assert other.correlation_id != made.correlation_id
