"""Service bases: health, metrics, configuration, and contracts that bring their input."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.enums.enum_health_status import EnumHealthStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.infrastructure.infra_bases import (
    ModelServiceCompute,
    ModelServiceEffect,
    ModelServiceOrchestrator,
    ModelServiceReducer,
)
from omnibase_core.mixins.mixin_service import MixinService
from omnibase_core.mixins.service_health import OutcomeWindow, judge_health
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_contract_compute import ModelContractCompute
from omnibase_core.models.contracts.model_contract_effect import ModelContractEffect
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_health import NodeHealthStatus
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.nodes import ModelEffectInput, ModelEffectTransaction, NodeEffect
from omnibase_core.protocols.protocol_services import NodeConfigProvider
from omnibase_core.utils.fsm_executor import FsmAction
from omnibase_spi.defaults import SettingsConfigProvider
from omnibase_spi.metrics import PrometheusEffectMetrics
from omnibase_spi.testing import ScriptedHandler, container_with
from tests.support.effects import GET, SELECT, contract, one, operation
from tests.support.http_server import FaultServer
from tests.support.systems import container_on
from tests.support.tcp_proxy import TcpProxy


class FileNode(ModelServiceEffect):
    """The shape in which users write nodes."""

    def __init__(self, container: ModelONEXContainer) -> None:
        super().__init__(container)
        self.stats = {"written": 0}

    async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
        data = input_data.operation_data
        path = Path(str(data["path"]))
        if data.get("fail"):
            message = "the disk is full"
            raise OSError(28, message)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(data["text"]))
        if isinstance(transaction, ModelEffectTransaction):
            transaction.add_operation("write", {"path": str(path)}, lambda: path.unlink(missing_ok=True))
        self.stats["written"] += 1
        if data.get("fail_late"):
            message = "a later step failed"
            raise ModelOnexError(message, Code.OPERATION_FAILED)
        return {"path": str(path), "bytes": path.stat().st_size}


def _input(**data: object) -> ModelEffectInput:
    return ModelEffectInput(
        effect_type=EnumEffectType.FILE_OPERATION,
        operation_data=data,
        operation_id=uuid4(),
        transaction_enabled=True,
        retry_enabled=True,
        max_retries=0,
        retry_delay_ms=1000,
        circuit_breaker_enabled=True,
        metadata={"who": "a newcomer"},
    )


async def test_a_newcomers_class_works_with_a_bare_container(tmp_path: Path) -> None:
    """Success output, directories made, statistics kept; failure as ModelOnexError with a message; rollback done."""
    node = FileNode(ModelONEXContainer())
    output = await node.process(_input(path=tmp_path / "new" / "a.txt", text="hello"))

    with pytest.raises(ModelOnexError) as caught:
        await node.process(_input(path=tmp_path / "b.txt", text="x", fail_late=True))

    assert output.result == {"path": str(tmp_path / "new" / "a.txt"), "bytes": 5}
    assert output.metadata == {"who": "a newcomer"}
    assert node.stats == {"written": 2}
    assert caught.value.message == "a later step failed"
    assert not (tmp_path / "b.txt").exists()


async def test_metrics_are_what_happened(tmp_path: Path) -> None:
    """Counted by Prometheus and by the node itself, after real calls."""
    registry = CollectorRegistry()
    container = ModelONEXContainer()
    container.register_service("ProtocolEffectMetrics", PrometheusEffectMetrics(registry))
    node = FileNode(container)
    for number in range(5):
        await node.process(_input(path=tmp_path / str(number), text="x"))
    for _ in range(2):
        with pytest.raises(ModelOnexError):
            await node.process(_input(path=tmp_path / "bad", text="x", fail=True))

    labels = {"contract": "FileNode", "operation": "file_operation", "handler": "code"}
    count = "onex_operation_duration_seconds_count"
    assert registry.get_sample_value(count, {**labels, "outcome": "succeeded"}) == 5
    assert registry.get_sample_value(count, {**labels, "outcome": "failed"}) == 2
    numbers = node.get_effect_metrics()
    assert (numbers["successful_effects"], numbers["failed_effects"]) == (5, 2)


async def test_too_many_failures_of_the_last_minute_degrade(tmp_path: Path) -> None:
    """One in ten is too many; the caller's own mistakes do not count."""
    node = FileNode(ModelONEXContainer())
    for number in range(9):
        await node.process(_input(path=tmp_path / str(number), text="x"))
    healthy = await node.health_check()
    with pytest.raises(ModelOnexError):
        await node.process(_input(path=tmp_path / "bad", text="x", fail=True))
    degraded = await node.health_check()

    assert healthy.status is EnumHealthStatus.HEALTHY
    assert degraded.status is EnumHealthStatus.DEGRADED
    assert degraded.details["error_rate"] == 0.1


async def test_wrong_input_does_not_make_a_node_ill() -> None:
    """VALIDATION_ERROR is the caller's."""
    node = ModelServiceEffect(container_with(http=ScriptedHandler()))
    node.effect_subcontract = one(GET)
    node.effect_subcontract = contract(operation("a", GET), input_schema={"required_fields": ["x"]})
    for _ in range(5):
        with pytest.raises(ModelOnexError):
            await node.process(ModelEffectInput(operation_data={}))

    assert (await node.health_check()).status is EnumHealthStatus.HEALTHY


def test_the_window_forgets_after_a_minute() -> None:
    """Outcomes older than 60 s do not count; memory is fixed."""
    now = [1000.0]
    window = OutcomeWindow(lambda: now[0])
    window.record(success=False)
    assert window.error_rate() == 1.0
    now[0] += 30
    window.record(success=True)
    assert window.error_rate() == 0.5
    now[0] += 31
    assert window.error_rate() == 0.0
    now[0] += 3600
    assert window.error_rate() == 0.0


@pytest.mark.parametrize(
    ("dependencies", "usage", "rate", "status"),
    [
        ({}, {}, 0.0, EnumHealthStatus.HEALTHY),
        ({"db": None}, {"memory": 0.89}, 0.099, EnumHealthStatus.HEALTHY),
        ({"db": "refused"}, {}, 0.0, EnumHealthStatus.DEGRADED),
        ({}, {"memory": 0.9}, 0.0, EnumHealthStatus.DEGRADED),
        ({}, {}, 0.1, EnumHealthStatus.DEGRADED),
    ],
)
def test_health_is_judged_by_three_rules(
    dependencies: dict[str, str | None], usage: dict[str, float], rate: float, status: EnumHealthStatus
) -> None:
    """A dependency down, a resource used to 0.9, or one failure in ten."""
    assert judge_health(dependencies, usage, rate).status is status


async def test_a_check_that_fails_is_unhealthy_and_does_not_raise() -> None:
    """The details say what went wrong."""

    class Broken(ModelServiceEffect):
        def _all_dependencies(self) -> dict[str, object]:  # type: ignore[override]  # breaks on purpose
            message = "cannot look"
            raise RuntimeError(message)

    found = await Broken(ModelONEXContainer()).health_check()

    assert found.status is EnumHealthStatus.UNHEALTHY
    assert found.details == {"error": "RuntimeError: cannot look"}


async def test_health_follows_a_dependency_that_stops_and_starts(postgres_url: str) -> None:
    """Degraded and back; readiness follows, liveness does not. The dependency is a real database behind a proxy."""
    from tests.integration.test_transactions import _place

    async with TcpProxy(*_place(postgres_url)) as proxy:
        async with container_on(main=f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres") as container:
            node = ModelServiceEffect(container)
            node.effect_subcontract = one(SELECT)
            seen = [await _state(node)]
            await proxy.refuse()
            seen.append(await _state(node))
            await proxy.listen()
            seen.append(await _state(node))

    assert seen == [("healthy", True, True), ("degraded", True, False), ("healthy", True, True)]


async def _state(node: ModelServiceEffect) -> tuple[str, bool, bool]:
    health = await node.health_check()
    return health.status.value, node.is_live(), await node.is_ready()


async def test_dependencies_are_pinged_at_once_and_for_two_seconds_at_most() -> None:
    """A dependency that hangs is down; the others are asked meanwhile."""
    node = ModelServiceEffect(ModelONEXContainer())
    started = asyncio.get_running_loop().time()
    node.add_dependency("hangs", lambda: asyncio.sleep(60))
    node.add_dependency("also hangs", lambda: asyncio.sleep(60))
    node.add_dependency("well", lambda: True)
    node.add_dependency("ill", lambda: False)
    health = await node.health_check()

    assert asyncio.get_running_loop().time() - started < 2.5
    assert health.details["dependencies"] == {
        "hangs": "no answer within 2 s",
        "also hangs": "no answer within 2 s",
        "well": True,
        "ill": "not well",
    }


async def test_services_of_the_container_with_a_ping_are_dependencies() -> None:
    """Those that were made, and whose ping takes nothing."""

    class Cache:
        def ping(self) -> None:
            message = "gone"
            raise ConnectionError(message)

    container = ModelONEXContainer()
    container.register_service("Cache", Cache())
    node = ModelServiceEffect(container)

    health = await node.health_check()

    assert health.details["dependencies"] == {"Cache": "ConnectionError: gone"}
    assert not health.is_healthy


async def test_a_draining_node_is_live_and_not_ready() -> None:
    """It still carries out what comes."""
    node = ModelServiceEffect(ModelONEXContainer())
    node.drain()

    assert node.is_live()
    assert not await node.is_ready()


def test_configuration_comes_from_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's values, then the environment, then the default."""
    monkeypatch.setitem(os.environ, "ONEX_NODE__BACKUP__DIR", "/from/env")
    container = ModelONEXContainer()
    node = ModelServiceEffect(container)
    assert node.get_config("backup.dir") == "/from/env"
    container.register_service(NodeConfigProvider, SettingsConfigProvider({"backup.dir": "/given"}))

    assert node.get_config("backup.dir") == "/given"
    assert node.get_config("nothing", 7) == 7


# contracts that bring their input


async def test_a_contract_with_sql_runs_with_its_parameters(tmp_path: Path) -> None:
    """Values are bound, whatever they look like."""
    async with container_on(main=f"sqlite:///{tmp_path / 'a.db'}") as container:
        node = ModelServiceEffect(container)
        for query, parameters, kind in (
            ("CREATE TABLE t (a TEXT, b INTEGER)", [], "raw"),
            ("INSERT INTO t VALUES ($1, $2)", ["${input.x}'; DROP TABLE t", None], "insert"),
            ("SELECT a, b FROM t", [], "select"),
        ):
            output = await node.execute_effect(_sql(kind, query, parameters))
            assert output.failed_operation is None
        wrong = _sql("select", "SELECT * FROM missing", [])
        with pytest.raises(ModelOnexError) as caught:
            await node.execute_effect(wrong)

    assert "missing" in caught.value.message
    assert caught.value.correlation_id == wrong.correlation_id


def _sql(kind: str, query: str, parameters: Sequence[object]) -> ModelContractEffect:
    return ModelContractEffect.model_validate(
        {
            "external_service_config": {"service_name": "main database", "connection_name": "main"},
            "io_operation_config": {
                "operation_type": kind,
                "parameters": {"query": query, "parameters": list(parameters)},
            },
        }
    )


async def test_contracts_for_http_and_files(fault_server: FaultServer, tmp_path: Path) -> None:
    """URL, headers and body are values, not templates."""
    async with container_on(root=tmp_path) as container:
        node = ModelServiceEffect(container)
        posted = ModelContractEffect.model_validate(
            {
                "external_service_config": {"service_name": "echo"},
                "io_operation_config": {
                    "operation_type": "POST",
                    "parameters": {
                        "url": f"{fault_server.url}/echo",
                        "headers": {"X-A": "${env.HOME}"},
                        "body": {"a": "${input.b}"},
                    },
                },
            }
        )
        await node.execute_effect(posted)
        await node.execute_effect(
            ModelContractEffect.model_validate(
                {
                    "external_service_config": {"service_name": "files"},
                    "io_operation_config": {
                        "operation_type": "write",
                        "parameters": {"path": "${x}.txt", "content": "${y}"},
                    },
                }
            )
        )

    request = fault_server.requests[0]
    assert request.json() == {"a": "${input.b}"}
    assert request.headers["x-a"] == "${env.HOME}"
    assert (tmp_path / "${x}.txt").read_text() == "${y}"


async def test_a_contract_with_a_subcontract_runs_with_its_input() -> None:
    """The other way to say it."""
    handler = ScriptedHandler({"ok": True})
    node = ModelServiceEffect(container_with(http=handler))
    made = ModelContractEffect(
        subcontract=one({**GET, "url_template": "http://host/${input.id}"}), input_data={"id": 7}
    )
    output = await node.execute_effect(made)

    assert handler.contexts[0].url == "http://host/7"  # type: ignore[union-attr]  # an http context
    assert output.correlation_id == made.correlation_id


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"external_service_config": {"service_name": "x"}},
        {
            "external_service_config": {"service_name": "x"},
            "io_operation_config": {"operation_type": "select"},
            "subcontract": one(GET),
        },
    ],
)
def test_a_contract_says_it_in_one_way(fields: dict[str, object]) -> None:
    """Service and operation, or a subcontract."""
    with pytest.raises(ModelOnexError, match="either"):
        ModelContractEffect.model_validate(fields)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("select", {}), ("GET", {}), ("dance", {"url": "x"}), ("select", {"query": "SELECT 1", "bogus": 1})],
)
async def test_an_operation_that_fits_nothing_is_a_validation_error(kind: str, parameters: dict[str, object]) -> None:
    """The message says what there is."""
    made = ModelContractEffect.model_validate(
        {
            "external_service_config": {"service_name": "x"},
            "io_operation_config": {"operation_type": kind, "parameters": parameters},
        }
    )
    with pytest.raises(ModelOnexError) as caught:
        await ModelServiceEffect(ModelONEXContainer()).execute_effect(made)

    assert caught.value.error_code is Code.VALIDATION_ERROR


def test_a_service_is_a_node() -> None:
    """Composition, not a chain: the node and one mixin."""
    assert ModelServiceEffect.__bases__ == (MixinService, NodeEffect)
    assert NodeHealthStatus(status=EnumHealthStatus.HEALTHY).is_healthy


# the pure kinds


async def test_a_compute_service_runs_computations_and_algorithms_and_counts_them() -> None:
    """By name, or by a contract that names an algorithm and brings its input."""
    registry = CollectorRegistry()
    container = ModelONEXContainer()
    container.register_service("ProtocolEffectMetrics", PrometheusEffectMetrics(registry))
    node = ModelServiceCompute(container)
    node.register_computation("double", _double)
    doubled = await node.process(ModelComputeInput(data=21, computation_type="double"))
    summed = await node.execute_compute(
        ModelContractCompute.model_validate({"input_data": [1.5, 2.5], "algorithm_config": {"algorithm_type": "sum"}})
    )
    again = await node.execute_compute(ModelComputeInput(data=1, computation_type="double"))
    with pytest.raises(ModelOnexError):
        await node.process(ModelComputeInput(data=1, computation_type="missing"))

    assert (doubled.result, summed.result, again.result) == (42, 4.0, 2)
    labels = {"contract": "ModelServiceCompute", "operation": "compute", "handler": "code"}
    count = "onex_operation_duration_seconds_count"
    assert registry.get_sample_value(count, {**labels, "outcome": "succeeded"}) == 3
    assert registry.get_sample_value(count, {**labels, "outcome": "failed"}) == 1
    assert (await node.health_check()).status is EnumHealthStatus.DEGRADED


def _double(value: object) -> object:
    assert isinstance(value, int)
    return value * 2


async def test_a_reducer_service_folds_and_is_well() -> None:
    """A reducer of code; both names of the call."""

    class Counter(ModelServiceReducer):
        def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
            assert isinstance(state, dict)
            return {"n": state["n"] + 1}, []

    node = Counter(ModelONEXContainer())
    first = await node.process(ModelReducerInput(state={"n": 1}, action="add"))
    second = await node.execute_reduction(ModelReducerInput(state={"n": 2}, action="add"))

    assert (first.new_state, second.new_state) == ({"n": 2}, {"n": 3})
    assert (await node.health_check()).is_healthy
    assert await node.is_ready()


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        (ModelServiceEffect(ModelONEXContainer()).execute_effect, "ModelEffectInput or ModelContractEffect"),
        (ModelServiceCompute(ModelONEXContainer()).execute_compute, "ModelComputeInput or ModelContractCompute"),
        (ModelServiceReducer(ModelONEXContainer()).execute_reduction, "ModelReducerInput or ModelContractReducer"),
        (
            ModelServiceOrchestrator(ModelONEXContainer()).execute_orchestration,
            "ModelOrchestratorInput or ModelContractOrchestrator",
        ),
    ],
)
async def test_what_is_neither_input_nor_contract_is_refused(
    call: Callable[[object], Awaitable[object]], allowed: str
) -> None:
    """With what is allowed."""
    with pytest.raises(ModelOnexError, match=f"takes a {allowed}; found dict") as caught:
        await call({"action": "add"})

    assert caught.value.error_code is Code.VALIDATION_ERROR


def test_a_service_with_a_double_for_a_container_has_no_metrics_and_no_configuration() -> None:
    """Nothing that a mock says is believed."""
    node = ModelServiceEffect(MagicMock())

    assert node.get_config("x", 3) == 3
