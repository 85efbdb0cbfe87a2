"""The old base of effect nodes, with handlers inside the node. Importing it warns; new nodes derive from NodeEffect."""

from collections.abc import Awaitable, Callable
from typing import cast

from omnibase_core._moved import warn_at_imports
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.effect_rollback import ModelEffectTransaction
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.nodes.node_effect import NodeEffect

warn_at_imports(
    __name__,
    "omnibase_core.legacy.node_effect_v1 is deprecated; derive from omnibase_core.nodes.NodeEffect and override "
    "_execute_effect, or write a contract and run it with NodeEffect.from_contract",
)

InlineHandler = Callable[[dict[str, object], ModelEffectTransaction | None], Awaitable[dict[str, object]]]
"""Called with the input's `operation_data` and the attempt's transaction (None when the input wants none)."""


class NodeEffectLegacy(NodeEffect):
    """A code-driven node that leaves the work to a handler of its own per effect type.

    effect_handlers: by effect type; a subclass may have some in its body or assign them before or after `__init__`, and
    `register_effect_handler` adds to those of the instance. What the handler returns is the output's `result`. Retry,
    breaker, timeout and transaction are those of NodeEffect.

    There is one for `file_operation` unless another is given: `operation_type` (or `operation`), `file_path` and `data`
    of the `operation_data` go to `execute_file_operation`. It adds nothing to the transaction: a single operation on a
    file is done or not done, and is not taken back.
    """

    effect_handlers: dict[EnumEffectType, InlineHandler]

    def __init__(self, container: Container | None = None) -> None:
        super().__init__(container)
        given = getattr(self, "effect_handlers", {})
        self.effect_handlers = {EnumEffectType.FILE_OPERATION: self._file_operation, **given}

    def register_effect_handler(self, effect_type: EnumEffectType | str, handler: InlineHandler) -> None:
        """Let `handler` do the effects of this type from now on, on this instance.

        Raises ModelOnexError VALIDATION_ERROR for an unknown effect type or what cannot be called.
        """
        try:
            kind = EnumEffectType(effect_type)
        except ValueError:
            raise ModelOnexError(
                f"{type(self).__name__}: effect type {effect_type!r} is unknown; allowed: {', '.join(EnumEffectType)}",
                EnumCoreErrorCode.VALIDATION_ERROR,
            ) from None
        if not callable(handler):
            raise ModelOnexError(
                f"{type(self).__name__}: the handler of {kind.value} is a {type(handler).__name__}, not a function; "
                "give it an `async def handler(operation_data, transaction) -> dict`",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        self.effect_handlers[kind] = handler

    async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
        handler = self.effect_handlers.get(input_data.effect_type)
        if handler is None:
            kind = input_data.effect_type
            known = ", ".join(each.value for each in self.effect_handlers) or "none"
            raise ModelOnexError(
                f"{type(self).__name__} has no handler for effect type {kind.value!r}; registered: {known}. "
                f"Register one with node.register_effect_handler(EnumEffectType.{kind.name}, handler), "
                "an `async def handler(operation_data, transaction) -> dict`",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
                {"effect_type": kind.value},
            )
        own = cast("ModelEffectTransaction | None", transaction)  # NodeEffect makes no other
        return await handler(input_data.operation_data, own)

    async def _file_operation(
        self, operation_data: dict[str, object], transaction: ModelEffectTransaction | None
    ) -> dict[str, object]:
        del transaction
        operation = operation_data.get("operation_type", operation_data.get("operation"))
        path = operation_data.get("file_path")
        for name, value in (("operation_type", operation), ("file_path", path)):
            if not value:
                raise ModelOnexError(
                    f"{type(self).__name__}: a file operation needs {name!r} in operation_data, "
                    f"found the keys {sorted(map(str, operation_data))}",
                    EnumCoreErrorCode.VALIDATION_ERROR,
                )
        return await self.execute_file_operation(
            str(operation),
            str(path),
            operation_data.get("data"),
            atomic=bool(operation_data.get("atomic", True)),
        )
