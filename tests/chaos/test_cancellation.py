"""Cancelling a call at any await leaves nothing behind."""

import asyncio

import pytest

from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_spi.testing import ScriptedHandler, container_with, fault, run_virtual
from tests.support.effects import GET, contract, node_of, operation
from tests.support.suspensions import cancelled_at
from tests.unit.mixins.test_effect_transaction import ScriptedDatabase, _two

BREAKER = {"enabled": True, "failure_threshold": 1, "half_open_requests": 2, "timeout_ms": 1000}


async def _slowly_ok(_context: ResolvedIOContext) -> object:
    await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    return {"rows": [], "rowCount": 1}


async def _slowly_bad(context: ResolvedIOContext) -> object:
    await _slowly_ok(context)
    return fault("ECONNRESET")


def _contract(mode: str) -> ModelEffectSubcontract:
    return contract(
        operation("a", GET, circuit_breaker=BREAKER),
        operation("b", GET, circuit_breaker=BREAKER),
        operation("c", GET, circuit_breaker=BREAKER, depends_on=["a"]),
        execution_mode=mode,
        max_concurrency=2,
        default_retry_policy={"base_delay_ms": 1500},
    )


async def _call(container: ModelONEXContainer, made: ModelEffectSubcontract) -> None:
    await node_of(container, made).process(ModelEffectInput(operation_data={}))


def _fresh() -> tuple[ScriptedHandler, ModelONEXContainer]:
    handler = ScriptedHandler(_slowly_bad, _slowly_ok, _slowly_bad, _slowly_ok)
    return handler, container_with(http=handler)


def _nothing_is_left(handler: ScriptedHandler, container: ModelONEXContainer) -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert handler.running == 0
    for breaker in container.get_service(BreakerRegistry).all().values():
        assert breaker.half_open_requests == 0


def test_no_task_and_no_breaker_permit_is_left_whatever_await_is_cancelled() -> None:
    """A sweep over all suspension points of a sequential call, whose breakers open and probe on the way."""

    async def sweep() -> int:
        n = 0
        while True:
            handler, container = _fresh()
            reached = await cancelled_at(_call(container, _contract("sequential_continue")), n)
            _nothing_is_left(handler, container)
            if not reached:
                return n
            n += 1

    assert run_virtual(sweep()) >= 8


@pytest.mark.parametrize("mode", ["sequential_continue", "parallel_abort", "parallel_continue"])
def test_no_task_and_no_breaker_permit_is_left_whenever_a_call_is_cancelled(mode: str) -> None:
    """The same over time, every 50 ms, so that operations in tasks of their own are met at each of their awaits."""

    async def sweep() -> int:
        for n in range(1, 400):
            handler, container = _fresh()
            task = asyncio.ensure_future(_call(container, _contract(mode)))
            done, _ = await asyncio.wait([task], timeout=n * 0.05)
            task.cancel()
            await asyncio.wait([task])
            _nothing_is_left(handler, container)
            if done:
                task.exception()
                return n
        return 0

    assert run_virtual(sweep()) >= 4


def test_a_transaction_is_rolled_back_whatever_await_is_cancelled() -> None:
    """After a cancelled call the log ends in ROLLBACK, or in a COMMIT that had been sent; never in between."""

    async def sweep() -> int:
        n = 0
        while True:
            database = ScriptedDatabase(_slowly_ok)
            reached = await cancelled_at(_call(container_with(db=database), _two()), n)
            assert database.log == [] or database.log[-1] in {"ROLLBACK", "COMMIT"}
            assert asyncio.all_tasks() == {asyncio.current_task()}
            if not reached:
                return n
            n += 1

    assert run_virtual(sweep()) >= 4
