"""The old base of effect nodes: handlers inside the node, and a warning at its import."""

import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.errors import ModelOnexError
from omnibase_core.mixins.effect_rollback import ModelEffectTransaction
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.nodes import NodeEffect

STATEMENT = "from omnibase_core.legacy.node_effect_v1 import NodeEffectLegacy"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    legacy = importlib.import_module("omnibase_core.legacy.node_effect_v1")
NodeEffectLegacy = legacy.NodeEffectLegacy


async def greet(operation_data: dict[str, object], transaction: ModelEffectTransaction | None) -> dict[str, object]:
    """A handler for the tests."""
    return {"greeted": operation_data["name"], "in_transaction": transaction is not None}


def asked(effect_type: EnumEffectType = EnumEffectType.API_CALL, **data: object) -> ModelEffectInput:
    return ModelEffectInput(effect_type=effect_type, operation_data=data, retry_enabled=False)


def test_each_import_warns_on_its_line() -> None:
    """The first one and later ones, once per statement, and the class is the same."""
    known: ModuleType | None = sys.modules.pop("omnibase_core.legacy.node_effect_v1", None)
    seen = []
    try:
        for _ in range(3):
            namespace: dict[str, type] = {}
            with warnings.catch_warnings(record=True) as records:
                warnings.simplefilter("always")
                exec(compile(f"\n\n{STATEMENT}", "caller.py", "exec"), namespace)
            assert [(r.category, r.filename, r.lineno) for r in records] == [(DeprecationWarning, "caller.py", 3)]
            assert "derive from omnibase_core.nodes.NodeEffect" in str(records[0].message)
            seen.append(namespace["NodeEffectLegacy"])
    finally:
        if known is not None:
            sys.modules["omnibase_core.legacy.node_effect_v1"] = known

    assert seen[0] is seen[1] is seen[2]
    assert issubclass(seen[0], NodeEffect)


def test_where_warnings_are_errors_the_import_fails() -> None:
    """Though it was imported before; afterwards the class is the same as ever."""
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImportError, match="node_effect_v1 is deprecated"):
                exec(STATEMENT, {})

    assert legacy.NodeEffectLegacy is NodeEffectLegacy
    assert sys.modules["omnibase_core.legacy.node_effect_v1"] is legacy


async def test_a_registered_handler_does_the_effects_of_its_type() -> None:
    """It gets the operation data and the transaction; what it returns is the result."""
    node = NodeEffectLegacy()
    node.register_effect_handler(EnumEffectType.API_CALL, greet)
    node.register_effect_handler("event_emission", greet)

    output = await node.process(asked(name="Ada"))
    other = await node.process(
        ModelEffectInput(
            effect_type=EnumEffectType.EVENT_EMISSION, operation_data={"name": "Bo"}, transaction_enabled=False
        )
    )

    assert output.result == {"greeted": "Ada", "in_transaction": True}
    assert other.result == {"greeted": "Bo", "in_transaction": False}


async def test_a_subclass_brings_handlers() -> None:
    """In its body, or before or after the base's `__init__`; the instance's table is its own."""

    class InBody(NodeEffectLegacy):  # type: ignore[misc, valid-type]  # imported by name, because importing it warns
        effect_handlers = {EnumEffectType.API_CALL: greet}  # as such subclasses write it

    class InInit(NodeEffectLegacy):  # type: ignore[misc, valid-type]  # as above
        def __init__(self) -> None:
            self.effect_handlers = {EnumEffectType.API_CALL: greet}
            super().__init__()
            self.effect_handlers[EnumEffectType.EVENT_EMISSION] = greet

    node = InBody()
    node.register_effect_handler(EnumEffectType.METRICS_COLLECTION, greet)

    assert (await node.process(asked(name="x"))).result["greeted"] == "x"
    assert (await InInit().process(asked(EnumEffectType.EVENT_EMISSION, name="y"))).result["greeted"] == "y"
    assert (await InInit().process(asked(name="z"))).result["greeted"] == "z"
    assert set(InBody.effect_handlers) == {EnumEffectType.API_CALL}
    assert EnumEffectType.METRICS_COLLECTION not in InBody().effect_handlers


@pytest.mark.parametrize("key", ["operation_type", "operation"])
async def test_file_operations_need_no_handler(tmp_path: Path, key: str) -> None:
    """Write, read, copy and delete work under either name of the operation."""
    path, copy = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    node = NodeEffectLegacy()

    async def run(operation: str, **data: object) -> dict[str, object]:
        output = await node.process(asked(EnumEffectType.FILE_OPERATION, **{key: operation}, file_path=path, **data))
        result: dict[str, object] = output.result
        return result

    assert (await run("write", data="hello"))["size_bytes"] == 5
    assert (await run("read"))["content"] == "hello"
    await run("copy", data=copy)
    await run("delete")
    assert (await run("exists"))["exists"] is False
    assert Path(copy).read_text() == "hello"


async def test_a_file_operation_may_be_replaced() -> None:
    """A handler given for `file_operation` goes before the built-in one."""
    node = NodeEffectLegacy()
    node.register_effect_handler(EnumEffectType.FILE_OPERATION, greet)

    output = await node.process(asked(EnumEffectType.FILE_OPERATION, name="file"))

    assert output.result["greeted"] == "file"


async def test_a_file_operation_without_its_keys_is_refused(tmp_path: Path) -> None:
    """The message names what is missing and what was found; a missing file is NOT_FOUND."""
    node = NodeEffectLegacy()

    with pytest.raises(
        ModelOnexError, match=r"needs 'file_path' in operation_data, found the keys \['operation'\]"
    ) as raised:
        await node.process(asked(EnumEffectType.FILE_OPERATION, operation="read"))
    with pytest.raises(ModelOnexError, match="needs 'operation_type'"):
        await node.process(asked(EnumEffectType.FILE_OPERATION, file_path="x"))
    with pytest.raises(ModelOnexError) as missing:
        await node.process(asked(EnumEffectType.FILE_OPERATION, operation="read", file_path=str(tmp_path / "none")))

    assert raised.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert missing.value.error_code is EnumCoreErrorCode.NOT_FOUND


async def test_an_effect_without_a_handler_says_how_to_register_one() -> None:
    """CONFIGURATION_ERROR, with the call that would help."""
    with pytest.raises(ModelOnexError) as raised:
        await NodeEffectLegacy().process(asked(name="x"))

    assert raised.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR
    assert "node.register_effect_handler(EnumEffectType.API_CALL, handler)" in raised.value.message
    assert "registered: file_operation" in raised.value.message


def test_what_cannot_be_registered_is_refused() -> None:
    """An unknown effect type, and what is no function."""
    node = NodeEffectLegacy()

    with pytest.raises(ModelOnexError, match="effect type 'teleport' is unknown; allowed: file_operation"):
        node.register_effect_handler("teleport", greet)
    with pytest.raises(ModelOnexError, match="the handler of api_call is a str"):
        node.register_effect_handler(EnumEffectType.API_CALL, "greet")


async def test_a_failing_handler_is_rolled_back_and_retried() -> None:
    """The handler's transaction works as everywhere: undone after a failure, fresh for the next attempt."""
    done: list[str] = []

    async def flaky(_data: dict[str, object], transaction: ModelEffectTransaction | None) -> dict[str, object]:
        assert transaction is not None
        transaction.add_operation("step", None, lambda: done.append("undone"))
        done.append("done")
        if len(done) == 1:
            raise ConnectionResetError
        return {}

    node = NodeEffectLegacy()
    node.register_effect_handler(EnumEffectType.API_CALL, flaky)
    output = await node.process(
        ModelEffectInput(operation_data={}, retry_enabled=True, max_retries=1, retry_delay_ms=0)
    )

    assert (done, output.retry_count) == (["done", "undone", "done"], 1)
