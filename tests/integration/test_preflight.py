"""What can be known before anything is done is found before anything is done."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from omnibase_core.models.model_effect_output import ModelEffectOutput
from tests.support.effects import contract, operation, run
from tests.support.systems import container_on

WRITE: dict[str, object] = {
    "handler_type": "filesystem",
    "operation": "write",
    "file_path_template": "a.txt",
    "content_template": "x",
}


def _http(**fields: object) -> dict[str, object]:
    return {"handler_type": "http", "method": "GET", "url_template": "http://127.0.0.1:9/", **fields}


SECOND: dict[str, tuple[Mapping[str, object], str, str]] = {
    "database": (
        {"handler_type": "db", "operation": "select", "connection_name": "nowhere", "query_template": "SELECT 1"},
        "RESOURCE_UNAVAILABLE",
        "nowhere",
    ),
    "cluster": (
        {"handler_type": "kafka", "topic": "t", "payload_template": "x", "connection_name": "nowhere"},
        "RESOURCE_UNAVAILABLE",
        "nowhere",
    ),
    "variable": (_http(url_template="${env.API_BASE}/x"), "VALIDATION_ERROR", "API_BASE"),
    "secret": (_http(headers={"X-Key": "${secret.api_key}"}), "VALIDATION_ERROR", "api_key"),
}


async def _run(tmp_path: Path, second: Mapping[str, object], mode: str) -> ModelEffectOutput:
    async with container_on(root=tmp_path) as container:
        made = contract(operation("first", WRITE), operation("second", second), execution_mode=mode)
        return await run(container, made)


@pytest.mark.parametrize("mode", ["sequential_abort", "parallel_abort"])
@pytest.mark.parametrize("what", SECOND)
async def test_an_aborting_call_does_nothing_when_a_later_operation_cannot_run(
    what: str, mode: str, tmp_path: Path
) -> None:
    """A wrong connection, a missing variable or secret: the operation is named, and the first one was not begun."""
    second, code, name = SECOND[what]
    output = await _run(tmp_path, second, mode)

    assert not (tmp_path / "a.txt").exists()
    assert [result.operation_name for result in output.operations] == ["second"]
    assert (output.failed_operation, output.operations[0].error_code) == ("second", code)
    assert output.transaction_state == "none"
    assert name in str(output.operations[0].error_message)


async def test_a_continuing_call_does_what_it_can(tmp_path: Path) -> None:
    """The hopeless operation fails at its turn, the others run."""
    output = await _run(tmp_path, SECOND["database"][0], "sequential_continue")

    assert (tmp_path / "a.txt").exists()
    assert [result.success for result in output.operations] == [True, False]


async def test_a_default_makes_a_variable_dispensable(tmp_path: Path) -> None:
    """`${env.X:-...}` needs no X."""
    reads = {**WRITE, "file_path_template": "b.txt", "content_template": "${env.NOT_SET:-fallback}"}
    output = await _run(tmp_path, reads, "sequential_abort")

    assert output.failed_operation is None
    assert (tmp_path / "b.txt").read_text() == "fallback"
