"""How often the server really saw an operation: fault x kind, through the whole stack (section 2.5)."""

import time
from collections.abc import Callable

import pytest

from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from tests.support.effects import node_of, one
from tests.support.http_server import (
    FaultServer,
    Step,
    bad_chunk,
    disconnect,
    drip,
    hang,
    malformed_head,
    reset,
    status,
    too_many,
    truncated,
)
from tests.support.systems import container_on

POLICY = {"max_retries": 2, "base_delay_ms": 100, "jitter_factor": 0}
KINDS: dict[str, dict[str, object]] = {
    "GET": {"method": "GET"},
    "PUT": {"method": "PUT", "body_template": '{"a": 1}'},
    "POST": {"method": "POST", "body_template": '{"a": 1}'},
    "POST idempotent": {"method": "POST", "body_template": '{"a": 1}', "idempotency_key": "auto"},
}
ALWAYS = dict.fromkeys(KINDS, 3)
ONCE = dict.fromkeys(KINDS, 1)
NOT_PLAIN_POST = {**ALWAYS, "POST": 1}
FAULTS: dict[str, tuple[Callable[[], Step], dict[str, int], str]] = {
    "reset after the request": (lambda: reset, NOT_PLAIN_POST, "unknown"),
    "closed without an answer": (lambda: disconnect, NOT_PLAIN_POST, "unknown"),
    "truncated body": (lambda: truncated(b'{"a": 1}', 3), NOT_PLAIN_POST, "unknown"),
    "bad chunk": (lambda: bad_chunk, NOT_PLAIN_POST, "unknown"),
    "malformed head": (lambda: malformed_head, NOT_PLAIN_POST, "unknown"),
    "no answer": (lambda: hang, NOT_PLAIN_POST, "unknown"),
    "slow drip": (lambda: drip(b"x" * 100, 0.05), NOT_PLAIN_POST, "unknown"),
    "500": (lambda: status(500), NOT_PLAIN_POST, "failed"),
    "502": (lambda: status(502), NOT_PLAIN_POST, "unknown"),
    "503": (lambda: status(503), NOT_PLAIN_POST, "failed"),
    "504": (lambda: status(504), NOT_PLAIN_POST, "unknown"),
    "429": (too_many, ALWAYS, "failed"),
    "404": (lambda: status(404), ONCE, "failed"),
    "400": (lambda: status(400), ONCE, "failed"),
    "408": (lambda: status(408), ONCE, "unknown"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_the_server_sees_as_many_attempts_as_section_2_5_says(
    fault: str, kind: str, fault_server: FaultServer
) -> None:
    """Counted at the server; a plain POST is never sent twice after an ambiguous failure."""
    step, expected, plain_post = FAULTS[fault]
    fault_server.route("/x", step())
    made = one(
        {"handler_type": "http", "url_template": f"{fault_server.url}/x", "timeout_ms": 300, **KINDS[kind]},
        operation_timeout_ms=5000,
    ).model_copy(update={"default_retry_policy": _policy()})
    async with container_on() as container:
        output = await _partial(node_of(container, made))

    assert len(fault_server.requests) == expected[kind]
    assert len(output.operations[0].attempts) == expected[kind]
    assert output.operations[0].outcome.value == (plain_post if kind == "POST" else "failed")
    keys = {request.headers.get("idempotency-key") for request in fault_server.requests}
    assert len(keys) == 1
    assert (None in keys) == (kind != "POST idempotent")


def _policy() -> object:
    from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy

    return ModelEffectRetryPolicy.model_validate(POLICY)


async def _partial(node: object) -> ModelEffectOutput:
    from omnibase_core.nodes import NodeEffect

    assert isinstance(node, NodeEffect)
    with pytest.raises(EffectFailedError) as caught:
        await node.process(ModelEffectInput(operation_data={}))
    assert caught.value.partial_output is not None
    return caught.value.partial_output


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_connection_is_tried_again_by_every_kind(kind: str) -> None:
    """Nothing was sent, so nothing can be doubled."""
    async with FaultServer() as server:
        url = f"{server.url}/x"
    made = one({"handler_type": "http", "url_template": url, **KINDS[kind]}).model_copy(
        update={"default_retry_policy": _policy()}
    )
    async with container_on() as container:
        output = await _partial(node_of(container, made))

    assert len(output.operations[0].attempts) == 3
    assert {attempt.error_kind for attempt in output.operations[0].attempts} == {"ECONNREFUSED"}


@pytest.mark.parametrize("step", [hang, drip(b"x" * 10_000, 0.05)])
async def test_a_deadline_holds_within_250_ms(step: Step, fault_server: FaultServer) -> None:
    """Whatever the server does, the operation ends at its deadline."""
    fault_server.route("/x", step)
    made = one(
        {"handler_type": "http", "method": "GET", "url_template": f"{fault_server.url}/x"}, operation_timeout_ms=1000
    )
    async with container_on() as container:
        node = node_of(container, made)
        for _ in range(3):  # a busy machine may be late once
            started = time.monotonic()
            output = await _partial(node)
            took = time.monotonic() - started
            if took < 1.25:
                break

    assert 0.95 < took < 1.25
    assert (output.operations[0].error_code, output.operations[0].stop_reason) == ("TIMEOUT", "deadline")


async def test_retry_after_in_seconds_and_as_a_date_is_waited_for(fault_server: FaultServer) -> None:
    """The wait is the server's, and the attempt says so."""
    fault_server.script(too_many(seconds=1))
    made = one({"handler_type": "http", "method": "GET", "url_template": f"{fault_server.url}/x"})
    async with container_on() as container:
        output = await node_of(container, made.model_copy(update={"default_retry_policy": _policy()})).process(
            ModelEffectInput(operation_data={})
        )

    first = output.operations[0].attempts[0]
    assert (first.delay_ms, first.delay_source) == (1000, "retry_after")
    assert output.operations[0].attempts[1].started_ms >= 1000
