"""The EFFECT node."""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal, Self, cast
from uuid import UUID, uuid4

from pydantic import JsonValue
from pydantic_core import to_json, to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.effect_rollback import TransactionContext
from omnibase_core.mixins.mixin_code_effect import EffectMetrics, MixinCodeEffect
from omnibase_core.mixins.mixin_effect_execution import MixinEffectExecution
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedFilesystemContext
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput

_log = logging.getLogger("onex.effect")

FileOperation = Literal["read", "write", "delete", "exists", "copy", "move"]
_FILE_OPERATIONS: Final = ("read", "write", "delete", "exists", "copy", "move")
_EVERYWHERE: Final = (Path("/"),)


class NodeEffect(MixinEffectExecution, MixinCodeEffect):
    """Talks to the outside world: as a contract says, or as a subclass does.

    `NodeEffect.from_contract(container, contract)` needs only a container; a bare one runs contracts where
    `omnibase_spi` is installed. `container` and `effect_subcontract` may be reassigned; the next call heeds it.

    A subclass that overrides `async def _execute_effect(self, input_data, transaction)` is code-driven: `process` wraps
    it in the retry, breaker, timeout and transaction that its `ModelEffectInput` asks for. Building a node starts
    nothing and needs no running loop; one node serves several loops, one after another. A subclass may assign any
    public attribute.

    max_concurrent_effects: attempts of a code-driven node that may run at once (default 10); waiting counts against the
    input's timeout.
    """

    container: Container
    effect_subcontract: ModelEffectSubcontract

    _is_code_driven: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._is_code_driven = cls._execute_effect is not MixinCodeEffect._execute_effect  # noqa: SLF001  # one family

    def __init__(self, container: Container | None = None) -> None:
        self.container = ModelONEXContainer() if container is None else container
        self.node_id: UUID = uuid4()

    @classmethod
    def from_contract(cls, container: Container | None, contract: str | Path) -> Self:
        """A node that runs `contract`: YAML text as a `str`, or a file as a `Path`.

        Raises ContractError with every problem of the contract, and ModelOnexError VALIDATION_ERROR for a contract of
        another kind or a `str` that names a file.
        """
        from omnibase_core.utils.contract_loader import load_kind  # YAML: a node written in Python never needs it

        loaded = load_kind(contract, "effect", "NodeEffect")
        node = cls(container)
        node.effect_subcontract = cast("ModelEffectSubcontract", loaded.subcontract)  # of this kind
        node._effect_plan = loaded.effect_plan
        return node

    async def process(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Carry the effect out once. What is raised stands at `execute_effect` (contract) and `process_code` (code).

        A node without a contract and without an `_execute_effect` of its own raises CONFIGURATION_ERROR.
        """
        if hasattr(self, "effect_subcontract") and not self._is_code_driven:
            return await self.execute_effect(input_data)
        return await self.process_code(input_data)

    def transaction_context(self, operation_id: UUID | None = None) -> TransactionContext:
        """`async with` it: commit at the end, roll back on an exception. Or await it for a begun transaction."""
        return TransactionContext(operation_id)

    def get_effect_metrics(self) -> EffectMetrics:
        """What this node did as a code-driven one, since it was built; may be awaited as well.

        Keys: total_effects, successful_effects, failed_effects, retries, active_effects, success_rate (1.0 of none),
        average_duration_ms, circuit_breakers {class and effect type: state}.
        """
        return self._counters.snapshot()

    async def emit_state_change_event(
        self, event_type: str, payload: Mapping[str, object], correlation_id: UUID | None = None
    ) -> bool:
        """Publish an event on the event bus: that of an attribute `event_bus`, else the container's.

        True when the bus took it; False, with a log event, when there is none or it refused. Raises nothing but
        cancellation, since what the event tells has happened already.
        """
        # events cost a tenth of what importing this module may cost, and most nodes publish none
        from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
        from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus

        try:
            bus = getattr(self, "event_bus", None)
            if not isinstance(bus, ProtocolEventBus):
                find = getattr(self.container, "get_service_optional", None)
                bus = find("ProtocolEventBus") if callable(find) else None
            if not isinstance(bus, ProtocolEventBus):
                return False
            event = ModelEventEnvelope[JsonValue].model_validate(
                {
                    "event_type": event_type,
                    "payload": to_jsonable_python(payload, fallback=str),
                    "correlation_id": correlation_id or current_correlation_id.get() or uuid4(),
                    "source": f"onex:{type(self).__name__}",
                }
            )
            await bus.publish(event)
        except Exception as error:  # noqa: BLE001  # the event is about something that has happened: it must not fail
            _log.warning("event %s of %s was not published: %s", event_type, type(self).__name__, redact(str(error)))
            return False
        return True

    async def execute_file_operation(
        self, operation_type: FileOperation | str, file_path: str | Path, data: object = None, atomic: bool = True
    ) -> dict[str, object]:
        """A file operation of the program's own code, not confined to roots.

        data: what to write (text, bytes, or anything else as JSON), or the destination of a copy or move.
        Returns `path`, `operation` and, as far as they apply, `size_bytes`, `content` (text, or bytes where the file is
        no UTF-8) and `exists`. Raises ModelOnexError: NOT_FOUND for a missing file, VALIDATION_ERROR for an unknown
        operation, OPERATION_FAILED with the operating system's reason.
        """
        if operation_type not in _FILE_OPERATIONS:
            raise ModelOnexError(
                f"file operation {operation_type!r} is unknown; allowed: {', '.join(_FILE_OPERATIONS)}",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        path = str(Path.cwd() / file_path)
        document: dict[str, object] = {"path": str(file_path), "operation": str(operation_type)}
        if operation_type == "exists":
            document["exists"] = await asyncio.to_thread(os.path.exists, path)
            return document
        if operation_type == "read":
            return {**document, **await asyncio.to_thread(_read, path), "exists": True}
        fields: dict[str, object] = {"timeout_ms": 1, "file_path": path, "operation": operation_type}
        if operation_type == "write":
            fields |= {"content": _content(data), "atomic": atomic}
        elif operation_type in {"copy", "move"}:
            if not isinstance(data, str | Path):
                raise ModelOnexError(
                    f"{operation_type} of {str(file_path)!r} needs the destination as data, "
                    f"found {type(data).__name__}",
                    EnumCoreErrorCode.VALIDATION_ERROR,
                )
            fields |= {"destination_path": str(Path.cwd() / data), "atomic": atomic and operation_type == "move"}
        context = ModelResolvedFilesystemContext.model_validate(fields)
        done = await FilesystemHandler(_EVERYWHERE).execute(context, uuid4())
        return document | _facts(done, exists=operation_type != "delete")


def _facts(done: dict[str, JsonValue], *, exists: bool) -> dict[str, object]:
    facts: dict[str, object] = {"exists": exists}
    if "size_bytes" in done:
        facts["size_bytes"] = done["size_bytes"]
    return facts


def _content(data: object) -> str | bytes:
    if data is None:
        return ""
    return data if isinstance(data, str | bytes) else to_json(data).decode()


def _read(path: str) -> dict[str, object]:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ModelOnexError(f"read of {path!r}: there is no such file", EnumCoreErrorCode.NOT_FOUND) from error
    except OSError as error:
        raise ModelOnexError(f"read of {path!r}: {error.strerror}", EnumCoreErrorCode.OPERATION_FAILED) from error
    try:
        content: str | bytes = data.decode()
    except UnicodeDecodeError:
        content = data
    return {"size_bytes": len(data), "content": content}
