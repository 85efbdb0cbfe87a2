"""Public fakes: a scripted handler, virtual time in which a week passes in a moment, and workflows run in it.

Nothing here needs a server or a library beyond the standard one.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, JsonValue

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_bus import EventReceipt
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope, as_envelope
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, RunView, StartRequest, StepRecord
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_core.registry.effect_handler_registry import EffectHandlerRegistry
from omnibase_spi.events_memory import MemoryEventBus

if TYPE_CHECKING:
    from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext

T = TypeVar("T")

Answer = EffectResponse | Mapping[str, JsonValue] | BaseException | Callable[["ResolvedIOContext"], object]
"""What a scripted handler does for one call: return, raise, or ask a function, which may be a coroutine function."""

_A_YEAR: Final = timedelta(days=366)
OK: Final[Mapping[str, JsonValue]] = {"ok": True}


class ScriptedHandler:
    """A handler that answers from a script and remembers what it was asked.

    answers: one per call; the last one stays. A number answers with that HTTP status. Calls are in `contexts`.
    """

    def __init__(self, *answers: Answer | int) -> None:
        self._answers = list(answers) or [OK]
        self.contexts: list[ResolvedIOContext] = []
        self.correlation_ids: list[UUID] = []
        self.running = 0
        self.most_running = 0
        self.closed = False

    @property
    def calls(self) -> int:
        return len(self.contexts)

    async def execute(
        self, resolved_context: "ResolvedIOContext", correlation_id: UUID
    ) -> Mapping[str, JsonValue] | EffectResponse:
        answer = self._answers[min(self.calls, len(self._answers) - 1)]
        self.contexts.append(resolved_context)
        self.correlation_ids.append(correlation_id)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._give(answer, resolved_context)
        finally:
            self.running -= 1

    async def _give(
        self, answer: Answer | int, context: "ResolvedIOContext"
    ) -> Mapping[str, JsonValue] | EffectResponse:
        if isinstance(answer, int):
            return EffectResponse({"status": answer}, answer)
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            made = answer(context)
            if isinstance(made, Awaitable):
                made = await made
            return await self._give(cast("Answer | int", made), context)  # the script's author says what it returns
        return answer

    async def aclose(self) -> None:
        self.closed = True


def fault(
    error_kind: str | None = "ECONNRESET",
    phase: EnumFaultPhase = EnumFaultPhase.AMBIGUOUS,
    *,
    transient: bool = False,
    retry_after_s: float | None = None,
) -> EffectFault:
    """A typed fault for a script."""
    return EffectFault(
        f"scripted {error_kind}", error_kind=error_kind, phase=phase, transient=transient, retry_after_s=retry_after_s
    )


def hang(seconds: float = 1e9) -> Callable[["ResolvedIOContext"], Awaitable[Mapping[str, JsonValue]]]:
    """An answer that comes after `seconds`."""

    async def answer(_context: "ResolvedIOContext") -> Mapping[str, JsonValue]:
        await asyncio.sleep(seconds)
        return OK

    return answer


class RecordingBus(MemoryEventBus):
    """A memory bus that remembers what was published, whether or not anybody subscribes."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[tuple[ModelEventEnvelope[object], str, str | None]] = []
        """(envelope, topic, key), in the order in which `publish` returned."""

    async def publish(
        self, event: ModelEventEnvelope[object] | BaseModel, *, topic: str | None = None, key: str | None = None
    ) -> EventReceipt:
        envelope = as_envelope(event)
        receipt = await super().publish(envelope, topic=topic, key=key)
        self.published.append((envelope, receipt.topic, key))
        return receipt

    def wants(self, event_type: str) -> bool:  # noqa: ARG002  # it remembers all of them
        return True

    def payloads(self, event_type: str | None = None) -> list[object]:
        """What was published, of one event type or of all."""
        return [each.payload for each, _topic, _key in self.published if event_type in {None, each.event_type}]


def container_with(**handlers: object) -> ModelONEXContainer:
    """A container whose handler kinds are exactly these; breakers follow the running loop's clock, virtual or not."""
    container = ModelONEXContainer()
    registry = EffectHandlerRegistry()
    for kind, handler in handlers.items():
        registry.register(kind, f"scripted-{kind}")
        container.register_service(f"scripted-{kind}", handler)
    container.register_service("EffectHandlerRegistry", registry)
    container.register_service("BreakerRegistry", BreakerRegistry(_loop_time))
    return container


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class _VirtualSelector(selectors.BaseSelector):
    """Waits for nothing: when no file is ready, the time that the loop wanted to wait has passed."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and timeout is None:
            message = "virtual time: everything waits for something that never comes"
            raise RuntimeError(message)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready

    def register(self, fileobj: "selectors._FileObject", events: int, data: object = None) -> selectors.SelectorKey:  # type: ignore[name-defined]  # typeshed keeps the alias private
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: "selectors._FileObject") -> selectors.SelectorKey:  # type: ignore[name-defined]  # as above
        return self._real.unregister(fileobj)

    def get_map(self) -> "Mapping[selectors._FileObject, selectors.SelectorKey]":  # type: ignore[name-defined]  # as above
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting. Not for code that waits for threads."""

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-6  # the usual nanosecond is lost in a float after some months

    def time(self) -> float:
        return self._virtual.now


def run_virtual(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def repeat(answer: Answer | int, times: int, then: Answer | int) -> Iterable[Answer | int]:
    """`answer` so many times, then `then`."""
    return [*[answer] * times, then]


@dataclass(frozen=True)
class WorkflowTrial:
    """A run that has ended. records: its journal. seconds: how long it took, by the virtual clock."""

    view: RunView
    records: tuple[StepRecord, ...]
    seconds: float

    @property
    def output(self) -> JsonValue:
        """The output of the workflow; None of a run that did not end well."""
        return self._document.get("output")

    @property
    def statuses(self) -> dict[str, str]:
        """How each step ended, by step id."""
        steps = self._document.get("steps")
        found = steps if isinstance(steps, dict) else {}
        return {name: str(entry["status"]) for name, entry in found.items() if isinstance(entry, dict)}

    @property
    def _document(self) -> dict[str, JsonValue]:
        return self.view.output if isinstance(self.view.output, dict) else {}


def run_workflow(
    contract: str | Path,
    input_data: JsonValue = None,
    *,
    container: ModelONEXContainer | None = None,
    drive: Callable[[EngineDriver], Awaitable[object]] | None = None,
    workflow_id: str = "test",
) -> WorkflowTrial:
    """Run a workflow to its end in virtual time, on the engine in memory.

    contract: YAML text as a `str`, or a file as a `Path`. container: with the services and handlers that the steps
    use; it is not closed. drive: goes on beside the run once that has begun: it may sleep, send signals, look, cancel.
    A run that fails raises nothing: `view.status` and `view.error` tell. One that waits for ever is TIMEOUT after a
    virtual year. Raises ContractError, and what `drive` raises.
    """
    from omnibase_core.utils.contract_loader import load_kind  # YAML: other fakes do not need it

    loaded = load_kind(contract, "orchestrator", "run_workflow").workflow
    if loaded is None:  # pragma: no cover  # of an orchestrator there is one
        message = "a contract without a workflow"
        raise RuntimeError(message)
    services = ModelONEXContainer() if container is None else container

    async def main() -> WorkflowTrial:
        engine = cast("EngineDriver", services.get_service("EngineDriver"))  # its key
        began = _loop_time()
        await engine.start(StartRequest(workflow_id, loaded.bundle, input_data))
        if drive is not None:
            await drive(engine)
        view = await engine.wait(workflow_id, _A_YEAR)
        return WorkflowTrial(view, tuple(await engine.steps(workflow_id)), _loop_time() - began)

    return run_virtual(main())
