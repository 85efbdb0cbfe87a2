"""Routes of intents that run on the effect engine: what shares a plan, and that what is shared holds no values."""

from pathlib import Path

from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_intent import ModelIntent
from omnibase_spi.intents import EngineRoute
from tests.support.http_server import FaultServer, Request
from tests.support.intents import container_in, execute, intent, statuses


def _plans(container: ModelONEXContainer, kind: str) -> int:
    route = container.get_service(f"IntentHandler:{kind}")
    assert isinstance(route, EngineRoute)
    return len(route._nodes)


def _write(path: Path | str, **fields: object) -> ModelIntent:
    return intent("file_operation", str(path), {"operation": "write", "content": f"in {path}"}, **fields)


async def test_files_of_one_operation_share_a_plan(tmp_path: Path) -> None:
    """Paths and contents are values; a retry policy of the intent's own is not."""
    paths = [tmp_path / name for name in ("a.txt", "b.json", "${env.HOME}", "d/e")]
    async with container_in(tmp_path) as container:
        results = await execute(container, *map(_write, paths))
        before = _plans(container, "file_operation")
        await execute(container, _write(tmp_path / "f", retry_policy={"max_retries": 1}))

        assert set(statuses(results)) == {EnumIntentStatus.COMPLETED}
        assert [path.read_text(encoding="utf-8") for path in paths] == [f"in {path}" for path in paths]
        assert (before, _plans(container, "file_operation")) == (1, 2)


async def test_calls_of_one_shape_share_a_plan(tmp_path: Path, fault_server: FaultServer) -> None:
    """Plain segments of the path, keys, bodies and the values of headers and query; their names are the shape."""
    async with container_in(tmp_path, bank=fault_server.url) as container:
        calls = [
            intent(
                "api_call",
                "bank",
                {
                    "method": "PUT",
                    "path": f"/orders/{number}/é;v=a",
                    "body": {"n": number},
                    "headers": {"X-N": f"${{n}} {number}"},
                    "query": {"q": f"{number}&x"},
                },
                idempotency_key=f"key {number}",
            )
            for number in range(3)
        ]
        results = await execute(container, *calls)
        one_shape = _plans(container, "api_call")
        await execute(container, intent("api_call", "bank", {"method": "GET", "path": "/orders/1/2/3"}))

        assert set(statuses(results)) == {EnumIntentStatus.COMPLETED}
        assert (one_shape, _plans(container, "api_call")) == (1, 2)
    seen = sorted(fault_server.requests[:3], key=_target)
    assert [_target(request) for request in seen] == [f"/orders/{n}/%C3%A9;v=a?q={n}%26x" for n in range(3)]
    assert [request.headers["x-n"] for request in seen] == [f"${{n}} {number}" for number in range(3)]
    assert [request.headers["idempotency-key"] for request in seen] == [f"key {number}" for number in range(3)]


def _target(request: Request) -> str:
    return request.target


async def test_the_number_of_plans_is_bounded(tmp_path: Path) -> None:
    """Shapes come from data, which must not fill the memory."""
    async with container_in(tmp_path) as container:
        intents = [_write(tmp_path / "x", retry_policy={"base_delay_ms": 100 + number}) for number in range(300)]
        results = await execute(container, *intents)

        assert set(statuses(results)) == {EnumIntentStatus.COMPLETED}
        assert _plans(container, "file_operation") == 256
