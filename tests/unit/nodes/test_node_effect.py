"""Effect nodes written in Python: the contract of a code-driven node, to the letter (section 2.12)."""

import asyncio
import gc
import threading
import warnings
from pathlib import Path
from unittest.mock import MagicMock
from uuid import UUID, uuid4

import pytest

from omnibase_core.enums.enum_circuit_breaker_state import EnumCircuitBreakerState
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase as Phase
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.onex_error import ModelOnexError, TransactionError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.nodes import ModelEffectInput, ModelEffectTransaction, NodeEffect
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_spi.testing import fault, run_virtual
from tests.support.effects import virtually

Plan = list[object]


class Scripted(NodeEffect):
    """Does one thing per attempt: raises an exception, or returns a dict."""

    def __init__(self, container: object, *plan: object) -> None:
        super().__init__(container)  # type: ignore[arg-type]  # tests pass mocks as well
        self.plan = list(plan)
        self.calls: list[tuple[ModelEffectInput, object]] = []
        self.undone: list[str] = []

    async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
        self.calls.append((input_data, transaction))
        number = len(self.calls)
        if isinstance(transaction, ModelEffectTransaction):
            transaction.add_operation("first", {"n": number}, lambda: self.undone.append(f"first {number}"))
            transaction.add_operation("second", {"n": number}, self._undo_second)
        step = self.plan[min(number, len(self.plan)) - 1]
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, float):
            await asyncio.sleep(step)
            return {"slept": step}
        assert isinstance(step, dict)
        return step

    async def _undo_second(self) -> None:
        await asyncio.sleep(0.01)
        self.undone.append(f"second {len(self.calls)}")


def _input(**fields: object) -> ModelEffectInput:
    return ModelEffectInput.model_validate({"operation_data": {}, **fields})


def _process(node: NodeEffect, **fields: object) -> object:
    return virtually(lambda: node.process(_input(**fields)))


def _error(node: NodeEffect, **fields: object) -> ModelOnexError:
    async def main() -> ModelOnexError:
        with pytest.raises(ModelOnexError) as caught:
            await node.process(_input(**fields))
        return caught.value

    return virtually(main)


def test_the_result_is_the_very_object_that_was_returned() -> None:
    """Neither validated nor copied; class, version, mode and one operation named after the effect type."""
    answer: dict[str, object] = {"object": object()}
    node = Scripted(ModelONEXContainer(), answer)

    async def main() -> object:
        return await node.process(_input(effect_type="file_operation"))

    output = virtually(main)
    assert output.result is answer  # type: ignore[attr-defined]  # a ModelEffectOutput
    assert output.subcontract_name == "Scripted"  # type: ignore[attr-defined]  # as above
    assert output.subcontract_version == "1.0.0"  # type: ignore[attr-defined]  # as above
    assert output.operations[0].operation_name == "file_operation"  # type: ignore[attr-defined]  # as above
    assert output.transaction_state is EnumTransactionState.COMMITTED  # type: ignore[attr-defined]  # as above


def test_it_is_called_with_input_and_transaction() -> None:
    """The transaction is None when switched off, else truthy and of this attempt."""
    node = Scripted(None, {})
    _process(node, transaction_enabled=False)
    _process(node)

    assert node.calls[0][1] is None
    transaction = node.calls[1][1]
    assert transaction
    assert isinstance(transaction, ModelEffectTransaction)
    assert transaction.state is EnumTransactionState.COMMITTED


@pytest.mark.parametrize("container", [None, MagicMock(), ModelONEXContainer()])
def test_any_container_will_do(container: object) -> None:
    """None, a mock or a bare one; constructors only store it. Breaker and retries work with all of them."""
    node = Scripted(container, ConnectionRefusedError(111, "no"), {"done": True})
    output = _process(node, circuit_breaker_enabled=True, retry_enabled=True)

    assert output.result == {"done": True}  # type: ignore[attr-defined]  # a ModelEffectOutput
    assert output.retry_count == 1  # type: ignore[attr-defined]  # as above


def test_without_contract_and_without_method_it_is_a_configuration_error() -> None:
    """The message says what to do."""
    error = _error(NodeEffect(ModelONEXContainer()))

    assert error.error_code is Code.CONFIGURATION_ERROR
    assert "_execute_effect" in error.message
    assert "from_contract" in error.message


def test_a_failed_attempt_is_rolled_back_in_reverse_before_the_next() -> None:
    """Each attempt has a fresh transaction; sync and async rollback functions both run."""
    node = Scripted(None, RuntimeError("once"), {"ok": True})
    _process(node, retry_enabled=True)

    assert node.undone == ["second 1", "first 1"]
    assert node.calls[0][1] is not node.calls[1][1]


def test_all_rollbacks_run_whatever_one_of_them_does() -> None:
    """Their errors are collected in the error's context, and the state is not called rolled back."""
    undone: list[str] = []

    class Node(NodeEffect):
        async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
            assert isinstance(transaction, ModelEffectTransaction)
            transaction.add_operation("a", {}, lambda: undone.append("a"))
            transaction.add_operation("b", {}, self._bad)
            transaction.add_operation("c", {}, lambda: undone.append("c"))
            raise KeyError("x")

        def _bad(self) -> None:
            message = "cannot undo"
            raise OSError(message)

    error = _error(Node(None))

    assert undone == ["c", "a"]
    assert error.context["transaction_state"] == "failed"
    assert error.context["rollback_errors"] == ["OSError: cannot undo"]


def test_cancellation_rolls_back_and_passes() -> None:
    """All rollbacks run, then the cancellation goes on."""
    node = Scripted(None, 100.0)

    async def main() -> bool:
        task = asyncio.ensure_future(node.process(_input()))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert virtually(main)
    assert node.undone == ["second 1", "first 1"]


def test_the_timeout_covers_all_attempts_and_rolls_back() -> None:
    """TIMEOUT at timeout_ms, whatever is being done."""
    node = Scripted(None, RuntimeError("first"), 100.0)

    async def main() -> tuple[ModelOnexError, float]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(ModelOnexError) as caught:
            await node.process(_input(timeout_ms=2500, retry_enabled=True, retry_delay_ms=1000))
        return caught.value, loop.time() - started

    error, took = virtually(main)
    assert error.error_code is Code.TIMEOUT
    assert took == pytest.approx(2.5, abs=0.05)
    assert node.undone == ["second 1", "first 1", "second 2", "first 2"]


NEVER = [
    ModelOnexError("x", Code.VALIDATION_ERROR),
    ModelOnexError("x", Code.CONFIGURATION_ERROR),
    ModelOnexError("x", Code.RESOURCE_UNAVAILABLE),
    ModelOnexError("x", Code.NOT_FOUND),
    ModelOnexError("x", Code.SECURITY_VIOLATION),
    ModelOnexError("x", Code.EXTRACTION_ERROR),
    ModelOnexError("x", Code.CANCELLED),
    ModelOnexError("x", Code.OUTCOME_UNKNOWN),
    ModelOnexError("x", Code.CIRCUIT_BREAKER_OPEN),
    FileNotFoundError(2, "no such file"),
    PermissionError(13, "denied"),
    TypeError("a bug"),
    AttributeError("a bug"),
    KeyError("a bug"),
]


@pytest.mark.parametrize("error", NEVER, ids=lambda e: f"{type(e).__name__}-{getattr(e, 'error_code', '')}")
def test_some_errors_are_never_retried(error: Exception) -> None:
    """Also with retry_enabled=True given explicitly; and they do not count against the breaker."""
    node = Scripted(None, error)
    for _ in range(6):
        _error(node, retry_enabled=True, circuit_breaker_enabled=True)

    assert len(node.calls) == 6


def test_explicit_retry_repeats_any_other_error() -> None:
    """The caller's word that repeating is safe: max_retries + 1 attempts, exponential from retry_delay_ms."""
    node = Scripted(None, ValueError("flaky"))

    async def main() -> tuple[ModelOnexError, float]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(ModelOnexError) as caught:
            await node.process(_input(retry_enabled=True, max_retries=3, retry_delay_ms=1000, timeout_ms=60_000))
        return caught.value, loop.time() - started

    error, took = virtually(main)
    assert len(node.calls) == 4
    assert 6.3 <= took <= 7.8
    assert error.context["stop_reason"] == "attempts"
    assert isinstance(error.__cause__, ValueError)


def test_unset_retry_repeats_only_what_was_provably_not_done() -> None:
    """not_sent and rejected faults; an ambiguous one is the end."""
    assert len(_calls(ConnectionRefusedError(111, "no"))) == 4
    assert len(_calls(fault("DEADLOCK", Phase.REJECTED, transient=True))) == 4
    assert len(_calls(fault("ECONNRESET", Phase.AMBIGUOUS))) == 1
    assert len(_calls(ValueError("flaky"))) == 1


def _calls(error: Exception) -> list[tuple[ModelEffectInput, object]]:
    node = Scripted(None, error)
    _error(node, timeout_ms=60_000)
    return node.calls


def test_no_retry_when_switched_off() -> None:
    """retry_enabled=False makes one attempt."""
    node = Scripted(None, ConnectionRefusedError(111, "no"))
    _error(node, retry_enabled=False)

    assert len(node.calls) == 1


def test_an_error_of_the_user_leaves_as_the_same_object() -> None:
    """With the facts of the call added to its context; anything else is wrapped with its cause."""
    own = ModelOnexError("mine", Code.CONFLICT, {"key": 1})
    error = _error(Scripted(None, own), correlation_id=UUID(int=7))

    assert error is own
    assert error.context["key"] == 1
    assert error.context["attempts"] == 1
    assert error.correlation_id == UUID(int=7)

    cause = ZeroDivisionError("by zero")
    wrapped = _error(Scripted(None, cause))
    assert wrapped.__cause__ is cause
    assert wrapped.error_code is Code.OPERATION_FAILED
    assert "by zero" in wrapped.message


def test_the_breaker_opens_after_five_failures_and_is_shared_by_class_and_effect_type() -> None:
    """A second node of the class meets the same breaker; another effect type has its own."""
    container = ModelONEXContainer()
    container.register_service("BreakerRegistry", BreakerRegistry(lambda: 0.0))
    first, second = Scripted(container, ValueError("down")), Scripted(container, {})
    switches: dict[str, object] = {"circuit_breaker_enabled": True, "retry_enabled": False}
    for _ in range(5):
        _error(first, **switches)

    error = _error(second, **switches)
    _process(second, **switches, effect_type="database_operation")

    assert error.error_code is Code.CIRCUIT_BREAKER_OPEN
    assert len(second.calls) == 1
    states = first.get_effect_metrics()["circuit_breakers"]
    assert isinstance(states, dict)
    assert list(states.values()) == [EnumCircuitBreakerState.OPEN.value]


def test_at_most_max_concurrent_effects_run_at_once_and_waiting_counts_as_time() -> None:
    """Ten at a time by default; one that waits too long times out."""

    class Node(NodeEffect):
        running = 0
        most = 0

        async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(1)
            self.running -= 1
            return {}

    node = Node(None)

    async def main() -> list[object]:
        calls = [node.process(_input(timeout_ms=2_500)) for _ in range(25)]
        return await asyncio.gather(*calls, return_exceptions=True)

    results = virtually(main)
    assert node.most == 10
    late = [r for r in results if isinstance(r, ModelOnexError)]
    assert len(late) == 5
    assert {error.error_code for error in late} == {Code.TIMEOUT}


def test_one_node_serves_several_loops_and_leaves_nothing() -> None:
    """Built without a loop, used in three, never closed: no task, no thread, no warning."""
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        node = Scripted(None, {})
        for _ in range(3):
            asyncio.run(_left_alone(node))
        del node
        gc.collect()

    assert threading.active_count() == threads


async def _left_alone(node: NodeEffect) -> None:
    await asyncio.gather(*(node.process(_input(circuit_breaker_enabled=True)) for _ in range(20)))
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_subclass_may_assign_any_public_attribute() -> None:
    """Names that users' nodes are known to use."""
    names = [
        "backup_stats",
        "active_transactions",
        "circuit_breakers",
        "effect_handlers",
        "logger",
        "event_bus",
        "db_pool",
        "metrics_collector",
        "semaphore",
        "max_concurrent_effects",
        "node_id",
        "container",
    ]

    class Node(NodeEffect):
        def __init__(self, container: object) -> None:
            super().__init__(container)  # type: ignore[arg-type]  # as users do
            for name in names:
                if name not in {"container", "max_concurrent_effects"}:
                    setattr(self, name, {"mine": name})

        async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
            return {"ok": True}

    output = _process(Node(MagicMock()), circuit_breaker_enabled=True)
    assert output.result == {"ok": True}  # type: ignore[attr-defined]  # a ModelEffectOutput


def test_a_subclass_may_override_process() -> None:
    """It is an ordinary method."""

    class Node(Scripted):
        async def process(self, input_data: ModelEffectInput) -> object:  # type: ignore[override]  # as users do
            return "mine"

    assert _process(Node(None, {})) == "mine"


def test_metrics_count_what_happened_and_may_be_awaited() -> None:
    """Sync and awaited give the same numbers."""
    node = Scripted(None, ValueError("flaky"), {"ok": True}, TypeError("bug"))

    async def main() -> tuple[dict[str, object], dict[str, object]]:
        await node.process(_input(retry_enabled=True))
        with pytest.raises(ModelOnexError):
            await node.process(_input())
        return node.get_effect_metrics(), await node.get_effect_metrics()

    now, awaited = virtually(main)
    assert now == awaited
    assert {key: now[key] for key in ("total_effects", "successful_effects", "failed_effects", "retries")} == {
        "total_effects": 2,
        "successful_effects": 1,
        "failed_effects": 1,
        "retries": 1,
    }
    assert now["success_rate"] == 0.5


# transaction_context


async def test_transaction_context_commits_after_a_normal_exit() -> None:
    """Nothing is undone."""
    undone: list[str] = []
    async with NodeEffect(None).transaction_context(uuid4()) as transaction:
        transaction.add_operation("a", {}, lambda: undone.append("a"))

    assert transaction.state is EnumTransactionState.COMMITTED
    assert undone == []


async def test_transaction_context_rolls_back_in_reverse_and_lets_the_error_pass() -> None:
    """Sync and async functions, all of them."""
    undone: list[str] = []

    async def undo_b() -> None:
        undone.append("b")

    with pytest.raises(LookupError):
        async with NodeEffect(None).transaction_context() as transaction:
            transaction.add_operation("a", {}, lambda: undone.append("a"))
            transaction.add_operation("b", {}, undo_b)
            raise LookupError

    assert undone == ["b", "a"]
    assert transaction.state is EnumTransactionState.ROLLED_BACK


async def test_transaction_context_awaited_gives_a_begun_transaction() -> None:
    """The caller commits or rolls back; afterwards it takes nothing more."""
    transaction = await NodeEffect(None).transaction_context(uuid4())

    assert transaction.state is EnumTransactionState.ACTIVE
    await transaction.commit()
    with pytest.raises(TransactionError):
        transaction.add_operation("late", {}, None)
    with pytest.raises(TransactionError):
        await transaction.rollback()


# execute_file_operation


async def test_file_operation_write_read_exists_delete(tmp_path: Path) -> None:
    """Each returns path, operation, and what applies."""
    node, path = NodeEffect(None), tmp_path / "deep" / "a.txt"

    written = await node.execute_file_operation("write", path, "hello ü", atomic=True)
    read = await node.execute_file_operation("read", str(path))
    there = await node.execute_file_operation("exists", path)
    deleted = await node.execute_file_operation("delete", path)
    gone = await node.execute_file_operation("exists", path)

    assert written == {"path": str(path), "operation": "write", "size_bytes": 8, "exists": True}
    assert read == {"path": str(path), "operation": "read", "size_bytes": 8, "content": "hello ü", "exists": True}
    assert (there["exists"], deleted["exists"], gone["exists"]) == (True, False, False)


async def test_file_operation_bytes_and_json(tmp_path: Path) -> None:
    """Bytes as they are, anything else as JSON."""
    node = NodeEffect(None)
    await node.execute_file_operation("write", tmp_path / "b", b"\xff\x00", atomic=False)
    await node.execute_file_operation("write", tmp_path / "j", {"a": [1]})

    assert (await node.execute_file_operation("read", tmp_path / "b"))["content"] == b"\xff\x00"
    assert (await node.execute_file_operation("read", tmp_path / "j"))["content"] == '{"a":[1]}'


async def test_file_operation_copy_and_move(tmp_path: Path) -> None:
    """The destination is given as data."""
    node = NodeEffect(None)
    (tmp_path / "a").write_text("x")
    await node.execute_file_operation("copy", tmp_path / "a", tmp_path / "b")
    await node.execute_file_operation("move", tmp_path / "a", str(tmp_path / "c"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


async def test_file_operation_errors(tmp_path: Path) -> None:
    """A missing file is NOT_FOUND, an unknown operation or a missing destination VALIDATION_ERROR."""
    node = NodeEffect(None)
    for operation, code in (
        ("read", Code.NOT_FOUND),
        ("truncate", Code.VALIDATION_ERROR),
        ("move", Code.VALIDATION_ERROR),
    ):
        with pytest.raises(ModelOnexError) as caught:
            await node.execute_file_operation(operation, tmp_path / "missing")
        assert caught.value.error_code is code


def test_file_operation_needs_no_root(tmp_path: Path) -> None:
    """It is the program's own code, and not confined."""

    async def main() -> None:
        await NodeEffect(None).execute_file_operation("write", tmp_path / "outside.txt", "x")

    asyncio.run(main())
    assert (tmp_path / "outside.txt").read_text() == "x"


def test_virtual_time_is_used() -> None:
    """A node works on any event loop."""
    assert run_virtual(Scripted(None, 50.0).process(_input(timeout_ms=60_000))).result == {"slept": 50.0}


async def test_file_operation_errors_that_are_hopeless_are_not_retried(tmp_path: Path) -> None:
    """A directory instead of a file, a missing permission: once, and they do not open the breaker."""

    class Node(NodeEffect):
        calls = 0

        async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
            self.calls += 1
            return await self.execute_file_operation("read", tmp_path)

    node = Node(None)
    for _ in range(6):
        with pytest.raises(ModelOnexError) as caught:
            await node.process(_input(retry_enabled=True, retry_delay_ms=0, circuit_breaker_enabled=True))
        assert caught.value.error_code is not Code.CIRCUIT_BREAKER_OPEN

    assert node.calls == 6


def test_a_breaker_that_opens_between_attempts_leaves_the_last_real_error() -> None:
    """The reason says that the breaker stopped it; without an attempt the error is the breaker's own."""
    node = Scripted(None, *[ValueError(f"down {n}") for n in range(9)])
    switches: dict[str, object] = {"retry_enabled": True, "max_retries": 9, "retry_delay_ms": 1, "timeout_ms": 60_000}
    first = _error(node, circuit_breaker_enabled=True, **switches)
    second = _error(node, circuit_breaker_enabled=True, **switches)

    assert len(node.calls) == 5
    assert "down 4" in first.message
    assert first.context["stop_reason"] == "breaker_open"
    assert (second.error_code, second.context["attempts"]) == (Code.CIRCUIT_BREAKER_OPEN, 0)
