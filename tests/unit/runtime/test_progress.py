"""The account of a run that was cancelled, and the composition that makes it."""

import asyncio

import pytest

from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.nodes import ModelEffectInput, NodeEffect
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry
from omnibase_core.utils.contract_loader import load_contract
from omnibase_core.utils.effect_plan import EffectPlan
from omnibase_runtime.app import compose
from omnibase_runtime.commands._progress import Progress
from omnibase_spi.testing import ScriptedHandler, fault, hang
from tests.support.cli import GREETING


def _plan(text: str = GREETING) -> EffectPlan:
    plan = load_contract(text).effect_plan
    assert plan is not None
    return plan


async def _cancelled(plan: EffectPlan, answer: BaseException | None) -> Progress:
    """The progress of a run that is cancelled while its second operation waits: for an answer, or after `answer`."""
    asked = asyncio.Event()

    def second(context: ResolvedIOContext) -> object:
        asked.set()
        return answer or hang()(context)

    progress = Progress(plan)
    container = compose(ModelSettings(), watch=progress)
    container.register_service("EffectHandlerRegistry", EffectHandlerRegistry({"filesystem": "scripted"}))
    container.register_service("scripted", ScriptedHandler({"size_bytes": 3}, second))
    node = NodeEffect(container)
    node.effect_subcontract = plan.subcontract
    running = asyncio.ensure_future(node.process(ModelEffectInput(operation_data={"name": "a"})))
    await asked.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await container.aclose()
    return progress


async def test_an_operation_in_flight_is_unknown_and_those_before_it_stand() -> None:
    """A cancelled attempt may have been done; nothing is claimed about it."""
    progress = await _cancelled(_plan(), None)

    output = progress.so_far()
    assert progress.left_over() == "read was in flight, and may or may not have been done"
    assert [(r.operation_name, r.outcome.value) for r in output.operations] == [
        ("write", "succeeded"),
        ("read", "unknown"),
    ]
    assert output.failed_operation == "read"
    assert output.transaction_state is EnumTransactionState.FAILED
    assert output.result == {"write": {"size": 3}}


async def test_an_operation_that_waits_for_its_next_attempt_is_not_in_flight() -> None:
    """Its last attempt is known to have failed."""
    policy = "default_retry_policy: {base_delay_ms: 20000}\n  input_schema"

    progress = await _cancelled(_plan(GREETING.replace("input_schema", policy)), fault("ECONNREFUSED"))

    assert progress.left_over() == "nothing was in flight"
    assert progress.so_far().operations[1].outcome.value == "failed"
    assert "ECONNREFUSED" in (progress.so_far().operations[1].error_message or "")


def test_before_anything_began_there_is_nothing_to_tell() -> None:
    """No operation, no state."""
    output = Progress(_plan()).so_far()

    assert output.operations == []
    assert output.transaction_state is EnumTransactionState.NONE


def test_inside_a_cancelled_transaction_nothing_is_claimed_to_be_done() -> None:
    """What succeeded before is unknown, because the transaction did not end."""
    plan = _plan(
        "effect_subcontract:\n  subcontract_name: x\n  transaction: {enabled: true}\n  operations:\n"
        "    - operation_name: q\n      io_config:\n"
        "        {handler_type: db, operation: insert, connection_name: embedded, query_template: SELECT 1}\n"
    )
    progress = Progress(plan)
    row = progress.operation_watch("x", "q")
    row.started()
    row.finished(row.cut_off().model_copy(update={"success": True}))

    output = progress.so_far()

    assert output.transaction_state is EnumTransactionState.UNKNOWN
    assert [r.outcome.value for r in output.operations] == ["unknown"]


def test_the_composition_root_brings_no_metrics_unless_asked() -> None:
    """A command line counts nothing and imports no metrics library."""
    assert compose(ModelSettings()).get_service_optional("ProtocolEffectMetrics") is None
