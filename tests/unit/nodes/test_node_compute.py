"""The COMPUTE node: contracts, subclasses, registered functions, and the cache."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from pydantic import JsonValue

from omnibase_core import nodes
from omnibase_core.errors import ContractError, ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.mixins.purity_guard import PurityError
from omnibase_core.models.contracts.subcontracts.model_compute_subcontract import ModelComputeSubcontract
from omnibase_core.models.model_compute_output import ComputeFailedError
from omnibase_core.nodes import ModelComputeInput, ModelComputeOutput, NodeCompute
from tests.support.compute import contract, transformation

TRIM = transformation("trim", "trim")
EFFECT = """\
effect_subcontract:
  subcontract_name: t
  operations:
    - operation_name: a
      io_config: {handler_type: http, method: GET, url_template: https://example.test}
"""


class Doubling(NodeCompute):
    """A code-driven node."""

    async def compute(self, input_data: ModelComputeInput) -> object:
        if input_data.data == "refused":
            raise ModelOnexError("no")
        return input_data.data * 2  # type: ignore[operator]  # a test gives it what cannot be doubled


async def test_a_contract_runs() -> None:
    """From text, with result, ids and the results of its steps."""
    node = NodeCompute.from_contract(None, contract([TRIM]))
    request = ModelComputeInput(data=" a ", correlation_id=uuid4())

    output = await node.process(request)

    assert (output.result, output.processed_data, output.cache_hit) == ("a", "a", False)
    assert (output.operation_id, output.correlation_id) == (request.operation_id, request.correlation_id)
    assert output.pipeline is not None
    assert list(output.pipeline.step_results) == ["trim"]
    assert output.processing_time_ms >= output.pipeline.processing_time_ms
    assert node.execute_pipeline(" b ").output == "b"


async def test_a_contract_is_read_from_a_file(tmp_path: Path) -> None:
    """Named by a Path."""
    file = tmp_path / "c.yaml"
    file.write_text(contract([TRIM]))

    assert (await NodeCompute.from_contract(None, file).process(ModelComputeInput(data=" a"))).result == "a"


async def test_a_failure_is_raised_with_what_was_computed() -> None:
    """With the code of the step's error, and the partial result."""
    node = NodeCompute.from_contract(None, contract([TRIM, transformation("join", "join")]))

    with pytest.raises(ComputeFailedError, match="compute 'demo': step 'join'") as caught:
        await node.process(ModelComputeInput(data=" a "))

    assert caught.value.error_code == "VALIDATION_ERROR"
    assert caught.value.pipeline_result is not None
    assert caught.value.pipeline_result.step_results["trim"].output == "a"
    assert node.execute_pipeline(" a ").error_step == "join"


def test_contracts_that_it_does_not_run_are_refused() -> None:
    """Broken ones, and those of another kind."""
    with pytest.raises(ContractError):
        NodeCompute.from_contract(None, contract([]))
    with pytest.raises(ModelOnexError, match="NodeCompute runs a compute_subcontract, found effect_subcontract"):
        NodeCompute.from_contract(None, EFFECT)


async def test_a_contract_that_was_built_in_python_runs_and_may_be_replaced() -> None:
    """The next call heeds the new one."""
    node = NodeCompute()
    body = {"operation_name": "x", "pipeline": [TRIM]}
    node.compute_subcontract = ModelComputeSubcontract.model_validate(body)

    first = await node.process(ModelComputeInput(data=" a", cache_enabled=True))
    node.compute_subcontract = ModelComputeSubcontract.model_validate(
        {**body, "pipeline": [transformation("case_conversion", mode="uppercase")]}
    )
    second = await node.process(ModelComputeInput(data=" a", cache_enabled=True))

    assert (first.result, second.result) == ("a", " A")


async def test_a_contract_from_python_that_cannot_run_is_refused() -> None:
    """With all of its problems."""
    node = NodeCompute()
    pipeline = [transformation("regex", "r", pattern="("), transformation("json_path", "p", path="a")]
    node.compute_subcontract = ModelComputeSubcontract.model_validate({"operation_name": "x", "pipeline": pipeline})

    with pytest.raises(ModelOnexError, match=r"compute contract 'x': pipeline.0.*pattern.*pipeline.1.*path"):
        await node.process(ModelComputeInput(data="a"))


async def test_a_node_with_nothing_to_run_says_so() -> None:
    """A contract, a subclass or a registered function is missing."""
    with pytest.raises(ModelOnexError, match="has no compute_subcontract") as caught:
        await NodeCompute().process(ModelComputeInput(data=1))

    assert caught.value.error_code == "CONFIGURATION_ERROR"


async def test_a_subclass_computes() -> None:
    """What it raises becomes a ModelOnexError, and its own ModelOnexError passes."""
    node = Doubling()

    assert (await node.process(ModelComputeInput(data=2))).result == 4
    with pytest.raises(ModelOnexError, match="Doubling: computation 'default' failed with TypeError") as caught:
        await node.process(ModelComputeInput(data=None))
    assert caught.value.error_code == "OPERATION_FAILED"
    with pytest.raises(ModelOnexError, match=r"^no$"):
        await node.process(ModelComputeInput(data="refused"))


async def test_registered_functions_are_chosen_by_name() -> None:
    """Also on a node with a contract, whose inputs without a name go to the contract."""
    node = NodeCompute.from_contract(None, contract([TRIM]))
    node.register_computation("length", lambda data: len(str(data)))

    assert (await node.process(ModelComputeInput(data="abc", computation_type="length"))).result == 3
    assert (await node.process(ModelComputeInput(data=" abc"))).result == "abc"
    with pytest.raises(ModelOnexError, match="registered already"):
        node.register_computation("length", str)


def test_a_coroutine_function_is_no_registered_computation() -> None:
    """Nobody would wait for it; said at once, and what to do."""

    async def later(data: object) -> object:
        return data

    with pytest.raises(ModelOnexError, match=r"'later' is a coroutine function.* override async def compute") as caught:
        NodeCompute().register_computation("later", later)

    assert caught.value.error_code == "VALIDATION_ERROR"


async def test_a_registered_function_runs_in_a_thread_where_the_input_allows_it() -> None:
    """The event loop goes on meanwhile; errors, the guard and the cache are as they always are."""
    node, met = NodeCompute(), threading.Barrier(2)

    def meet(data: object) -> object:
        met.wait(5)
        return data

    node.register_computation("meet", meet)
    node.register_computation("clock", lambda _data: time.time())
    apart = {"parallel_enabled": True, "cache_enabled": True}

    both = await asyncio.gather(
        *(node.process(ModelComputeInput(data=at, computation_type="meet", **apart)) for at in range(2))
    )
    again = await node.process(ModelComputeInput(data=1, computation_type="meet", **apart))
    assert [(output.result, output.parallel_execution_used) for output in both] == [(0, True), (1, True)]
    assert (again.result, again.cache_hit, again.parallel_execution_used) == (1, True, False)
    node.purity = "enforce"
    with pytest.raises(PurityError, match="computation 'clock' has to be pure"):
        await node.process(ModelComputeInput(data=1, computation_type="clock", parallel_enabled=True))


async def test_a_name_that_nobody_registered_is_refused() -> None:
    """With the names that there are, and the nearest; a contract does not run in its place."""
    for node in (NodeCompute(), NodeCompute.from_contract(None, contract([TRIM]))):
        node.register_computation("length", len)  # type: ignore[arg-type]  # data is what the input brings

        with pytest.raises(ModelOnexError, match="no computation 'lenght'; registered: length; did you mean") as caught:
            await node.process(ModelComputeInput(data="", computation_type="lenght"))

        assert caught.value.error_code == "NOT_FOUND"
    with pytest.raises(ModelOnexError, match="registered: none"):
        await NodeCompute().process(ModelComputeInput(data="", computation_type="x"))


async def test_a_result_is_cached_when_the_input_asks_for_it() -> None:
    """By content and computation; what JSON cannot hold is computed again."""
    calls: list[object] = []

    def count(data: object) -> object:
        calls.append(data)
        return [data] if isinstance(data, int) else data

    node = NodeCompute()
    node.register_computation("count", count)

    async def ask(data: object, *, cached: bool = True) -> ModelComputeOutput:
        return await node.process(ModelComputeInput(data=data, computation_type="count", cache_enabled=cached))

    outputs = [await ask(1), await ask(1), await ask(2), await ask(1, cached=False), await ask(calls), await ask(b"")]
    again = await ask(b"")

    assert [output.cache_hit for output in outputs] == [False, True, False, False, False, False]
    assert outputs[1].result == [1]
    assert not again.cache_hit
    assert len(calls) == 6


async def test_the_cache_of_a_code_driven_node_tells_metadata_apart() -> None:
    """Because `compute` sees it."""

    class Scaled(NodeCompute):
        async def compute(self, input_data: ModelComputeInput) -> object:
            return [input_data.data, input_data.metadata["factor"]]

    node = Scaled()

    outputs = [
        await node.process(ModelComputeInput(data=5, metadata={"factor": factor}, cache_enabled=True))
        for factor in (2, 3, 2)
    ]

    assert [output.result for output in outputs] == [[5, 2], [5, 3], [5, 2]]
    assert [output.cache_hit for output in outputs] == [False, False, True]


async def test_the_correlation_id_of_the_context_is_taken() -> None:
    """When the input has none."""
    wanted = uuid4()
    token = current_correlation_id.set(wanted)
    try:
        output = await Doubling().process(ModelComputeInput(data=1))
    finally:
        current_correlation_id.reset(token)

    assert output.correlation_id == wanted


def test_the_output_is_built_and_written_under_both_names() -> None:
    """`processed_data` is `result`; what JSON does not know is written as text."""
    output = ModelComputeOutput.model_validate({"processed_data": {"a": {1}}})

    assert output.result == output.processed_data == {"a": {1}}
    assert ModelComputeOutput(result=object).model_dump(mode="json")["result"] == "<class 'object'>"


def test_the_door_knows_its_names_and_opens_late() -> None:
    """What pure nodes need is imported when it is asked for; other names are refused as modules refuse them."""
    module = "omnibase_core.nodes.node_compute"
    code = f"import sys, omnibase_core.nodes as n; assert {module!r} not in sys.modules; n.NodeCompute"

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0
    assert set(nodes.__all__) <= set(dir(nodes))
    with pytest.raises(AttributeError, match="has no attribute 'NodeNothing'"):
        nodes.NodeNothing  # type: ignore[attr-defined]  # noqa: B018  # that is what is refused


class Clocked(NodeCompute):
    """Looks at the clock where its input says so."""

    async def compute(self, input_data: ModelComputeInput) -> object:
        return time.time() if input_data.data else 0


async def test_purity_is_enforced_where_it_is_asked_for() -> None:
    """Of subclasses and of registered functions; a contract's own looks at the clock do not count."""
    node, free = Clocked(), Clocked()
    node.purity = "enforce"
    registered = NodeCompute.from_contract(None, contract([TRIM], pipeline_timeout_ms=1_000))
    registered.purity = "enforce"
    registered.register_computation("now", lambda _data: time.time())

    with pytest.raises(PurityError, match="Clocked: computation 'default' has to be pure"):
        await node.process(ModelComputeInput(data=1))
    with pytest.raises(PurityError):
        await registered.process(ModelComputeInput(data=1, computation_type="now"))

    assert (await node.process(ModelComputeInput(data=0))).result == 0
    assert (await registered.process(ModelComputeInput(data=" a"))).result == "a"
    assert (await free.process(ModelComputeInput(data=1))).result


@pytest.mark.parametrize("depth", [200, 250, 300, 900])
async def test_a_failure_is_told_however_deep_the_outputs_are(depth: int) -> None:
    """What the serializer cannot write is a text in the error and in the JSON of the result."""
    steps = [transformation("identity", "same"), transformation("trim", "wrong", mode="both")]
    node = NodeCompute.from_contract(None, contract(steps))
    data: JsonValue = 1
    for _ in range(depth):
        data = [data]

    with pytest.raises(ComputeFailedError, match="must be a text, found a list") as caught:
        await node.process(ModelComputeInput(data=data))

    told = cast("dict[str, dict[str, dict[str, object]]]", caught.value.context["pipeline_result"])
    assert isinstance(told["step_results"]["same"]["output"], str) is (depth > 245)
    assert caught.value.pipeline_result is not None
    assert caught.value.pipeline_result.step_results["same"].output is data
    assert caught.value.pipeline_result.model_dump_json()


async def test_an_error_shows_no_large_outputs() -> None:
    """It would be as large as all of them; the result has them."""
    steps = [transformation("identity", "same"), transformation("trim", "wrong", mode="both")]
    node = NodeCompute.from_contract(None, contract(steps))

    with pytest.raises(ComputeFailedError) as caught:
        await node.process(ModelComputeInput(data=[1] * 100_000))

    assert len(repr(caught.value.context)) < 1_000
    assert "too large to be shown here" in repr(caught.value.context)
    assert caught.value.pipeline_result is not None
    assert caught.value.pipeline_result.step_results["same"].output == [1] * 100_000


async def test_a_failure_is_told_whatever_the_steps_before_it_gave() -> None:
    """A key that is no Unicode has no JSON, so the output stands there as a text; the result keeps it as it is."""
    steps = [transformation("group_by", "groups", key="$"), transformation("trim", "wrong", mode="both")]
    node = NodeCompute.from_contract(None, contract(steps))

    with pytest.raises(ComputeFailedError, match="must be a text, found a mapping") as caught:
        await node.process(ModelComputeInput(data=["\ud800"]))

    told = cast(
        "dict[str, dict[str, dict[str, object]]]", caught.value.context["pipeline_result"]
    )  # JSON of the result
    assert told["step_results"]["groups"]["output"] == r"{'\ud800': ['\ud800']}"
    assert caught.value.pipeline_result is not None
    assert caught.value.pipeline_result.step_results["groups"].output == {"\ud800": ["\ud800"]}
