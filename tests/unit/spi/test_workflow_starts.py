"""Runs that are started by events."""

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumRunStatus
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.workflow_runner import WorkflowRunner
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_workflow_engine import RunFilter, RunView, Signal, StartRequest
from omnibase_spi.engine_memory import MemoryEngine
from omnibase_spi.events_memory import MemoryEventBus
from omnibase_spi.testing import run_virtual
from omnibase_spi.workflow_starts import EventStarts, run_id_of
from tests.support.workflow_contracts import loaded, workflow

STEPS = "step_id: go, step_type: wait, wait: {signal: go}"


class Stage:
    """A workflow that listens to a bus, and what its events have started."""

    def __init__(self, *triggers: str) -> None:
        self.engine = MemoryEngine(WorkflowRunner(ModelONEXContainer()).run)
        self.bus = MemoryEventBus(max_attempts=2)
        self.starts = EventStarts(self.engine, self.bus)
        self.bundle = loaded(workflow(STEPS, triggers=f"[{', '.join(triggers)}]")).bundle
        self.triggers = self.starts.listen(self.bundle)

    async def hears(self, event_type: str, payload: JsonValue = None) -> ModelEventEnvelope[object]:
        """Publish an event and wait until it is handled."""
        event: ModelEventEnvelope[object] = ModelEventEnvelope(event_type=event_type, payload=payload)
        await self.publish(event)
        return event

    async def publish(self, event: ModelEventEnvelope[object]) -> None:
        await self.bus.publish(event)
        await self.bus.drain()

    async def runs(self) -> list[RunView]:
        """The oldest first."""
        return list(reversed(await self.engine.list(RunFilter())))

    async def aclose(self) -> None:
        await self.starts.aclose()
        await self.engine.aclose()
        await self.bus.aclose()


def test_an_event_starts_a_run_with_its_payload() -> None:
    """The id of the run is made of the event's, the input is its payload."""

    async def main() -> None:
        stage = Stage("{event: {on_event: placed}}")

        event = await stage.hears("placed", {"order": 7})

        (run,) = await stage.runs()
        assert stage.triggers == 1
        assert run.workflow_id == run_id_of("test", event.envelope_id)
        assert run.input_data == {"order": 7}
        await stage.aclose()

    run_virtual(main())


def test_of_several_types_each_starts_a_run_and_templates_make_its_input() -> None:
    """As the contract says it."""

    async def main() -> None:
        stage = Stage('{event: {on_event: [placed, moved]}, input: {what: "${event.type}", n: "${event.payload.n}"}}')

        await stage.hears("placed", {"n": 1})
        await stage.hears("moved", {"n": 2})
        await stage.hears("paid", {"n": 3})

        assert [run.input_data for run in await stage.runs()] == [{"what": "placed", "n": 1}, {"what": "moved", "n": 2}]
        await stage.aclose()

    run_virtual(main())


def test_the_same_event_twice_is_one_run() -> None:
    """Also for a second listener, as after a crash between start and acknowledgement."""

    async def main() -> None:
        stage = Stage("{event: {on_event: placed}}")
        event = await stage.hears("placed", {"order": 7})
        other_bus = MemoryEventBus()
        again = EventStarts(stage.engine, other_bus)
        again.listen(stage.bundle)
        await again.ready()

        await other_bus.publish(event)
        await other_bus.drain()

        assert len(await stage.runs()) == 1
        await again.aclose()
        await other_bus.aclose()
        await stage.aclose()

    run_virtual(main())


def test_a_filter_lets_others_pass_by() -> None:
    """An event without what it asks for is not the one either."""

    async def main() -> None:
        stage = Stage("{event: {on_event: placed, filter: event.payload.n > 5}}")

        payloads: list[JsonValue] = [{"n": 1}, {"n": 9}, {"m": 9}, None]
        for payload in payloads:
            await stage.hears("placed", payload)

        assert [run.input_data for run in await stage.runs()] == [{"n": 9}]
        await stage.aclose()

    run_virtual(main())


def test_of_one_key_there_is_one_run_at_a_time() -> None:
    """When it has ended the next event starts another."""

    async def main() -> None:
        stage = Stage('{event: {on_event: placed, key: "${event.payload.order}"}}')
        await stage.hears("placed", {"order": 1, "n": 1})
        await stage.hears("placed", {"order": 1, "n": 2})
        await stage.hears("placed", {"order": 2, "n": 3})
        first, _ = await stage.runs()
        await stage.engine.signal(first.workflow_id, Signal("go"))
        await stage.engine.wait(first.workflow_id)

        await stage.hears("placed", {"order": 1, "n": 4})

        runs = await stage.runs()
        assert [run.input_data for run in runs] == [{"order": 1, "n": 1}, {"order": 2, "n": 3}, {"order": 1, "n": 4}]
        assert [run.status for run in runs] == [EnumRunStatus.COMPLETED, EnumRunStatus.RUNNING, EnumRunStatus.RUNNING]
        await stage.aclose()

    run_virtual(main())


class _AwayOnce(MemoryEngine):
    """An engine that cannot be asked the first time."""

    away = True

    async def start(self, request: StartRequest) -> RunView:
        if self.away:
            self.away = False
            message = "away"
            raise ModelOnexError(message, EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        return await super().start(request)


def test_an_event_is_not_lost_when_the_engine_is_away() -> None:
    """The bus repeats it."""

    async def main() -> None:
        engine, bus = _AwayOnce(WorkflowRunner(ModelONEXContainer()).run), MemoryEventBus()
        starts = EventStarts(engine, bus)
        starts.listen(loaded(workflow(STEPS, triggers="[{event: {on_event: placed}}]")).bundle)
        event: ModelEventEnvelope[object] = ModelEventEnvelope(event_type="placed", payload={})

        await bus.publish(event)
        await bus.drain()

        assert len(await engine.list(RunFilter())) == 1
        await starts.aclose()
        await engine.aclose()
        await bus.aclose()

    run_virtual(main())


def test_an_event_whose_run_is_there_is_done_with() -> None:
    """Also when its contract has changed since: the run keeps the one that it began with."""

    async def main() -> None:
        stage = Stage("{event: {on_event: placed}}")
        event: ModelEventEnvelope[object] = ModelEventEnvelope(event_type="placed", payload={"order": 1})
        older = loaded(workflow(STEPS, version="0.9.0")).bundle
        await stage.engine.start(StartRequest(run_id_of("test", event.envelope_id), older, {"order": 1}))

        await stage.publish(event)

        assert len(await stage.runs()) == 1
        assert await stage.bus.dead_letters() == []
        await stage.aclose()

    run_virtual(main())


def test_after_the_end_nothing_is_started() -> None:
    """Closing leaves the bus and the engine open."""

    async def main() -> None:
        stage = Stage("{event: {on_event: placed}}")
        await stage.starts.aclose()

        await stage.hears("placed")

        assert await stage.runs() == []
        await stage.aclose()

    run_virtual(main())


def test_a_workflow_without_triggers_for_events_listens_to_nothing() -> None:
    """One by the clock is not one of them."""

    async def main() -> None:
        stage = Stage('{schedule: {cron: "0 2 * * *"}}')

        assert stage.triggers == 0
        await stage.aclose()

    run_virtual(main())
