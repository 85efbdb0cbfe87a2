"""Runs that are started by events: what the `triggers` of a workflow say, on an event bus and an engine."""

from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus, ProtocolSubscription
from omnibase_core.protocols.protocol_workflow_engine import EngineDriver, StartRequest, WorkflowBundle
from omnibase_core.utils.workflow_bundle import load_bundle
from omnibase_core.utils.workflow_plan import StartPlan, WorkflowScope
from omnibase_spi.engine_memory_events import as_signal


def run_id_of(workflow_name: str, event_id: UUID) -> str:
    """The id of the run that an event starts: one event is one run, however often it comes."""
    return f"{workflow_name}-{event_id}"


class EventStarts:
    """Starts runs on `engine` for events of `bus`, until it is closed. Neither of the two is closed with it.

    An event is acknowledged when its run is started; the bus repeats it when the engine could not be asked. Processes
    that listen for the same workflow share its events.
    """

    def __init__(self, engine: EngineDriver, bus: ProtocolEventBus) -> None:
        self._engine = engine
        self._bus = bus
        self._subscriptions: list[ProtocolSubscription] = []

    def listen(self, bundle: WorkflowBundle) -> int:
        """Listen for the workflow's events from now on; returns how many triggers it has for events. Needs no loop.

        Runs have the contract as it is in the bundle.
        """
        plan = load_bundle(bundle).plan
        for number, start in enumerate(plan.starts):
            handle = _Handler(self._engine, bundle, plan.name, start)
            for event_type in start.event_types:
                group = f"start/{plan.name}/{number}/{event_type}"
                self._subscriptions.append(self._bus.subscribe(event_type, handle, group))
        return len(plan.starts)

    async def ready(self) -> None:
        """Return once events that are published from now on will start runs."""
        for subscription in self._subscriptions:
            await subscription.ready()

    async def aclose(self) -> None:
        """Take no further event; returns when those that were being handled are."""
        leaving = [subscription.unsubscribe() for subscription in self._subscriptions]
        self._subscriptions.clear()
        for each in leaving:
            await each


class _Handler:
    """Starts the runs of one trigger."""

    def __init__(self, engine: EngineDriver, bundle: WorkflowBundle, name: str, start: StartPlan) -> None:
        self._engine = engine
        self._bundle = bundle
        self._name = name
        self._start = start

    async def __call__(self, event: ModelEventEnvelope[object]) -> None:
        start = self._start
        scope = WorkflowScope(None, {}, {}, event=as_signal(event))
        if start.event_filter is not None and not self._passes(scope):
            return
        key = None if start.event_key is None else f"{self._name}/{start.event_key(scope)}"
        request = StartRequest(
            run_id_of(self._name, event.envelope_id), self._bundle, start.make_input(scope), deduplication_key=key
        )
        try:
            await self._engine.start(request)
        except ModelOnexError as error:
            # CONFLICT: a run of this key goes on, or the event's own run is there, of a contract that has changed since
            if error.error_code is not EnumCoreErrorCode.CONFLICT:
                raise

    def _passes(self, scope: WorkflowScope) -> bool:
        try:
            return self._start.event_filter is None or self._start.event_filter(scope)
        except Exception:  # noqa: BLE001  # an event without what the filter asks for is not the one
            return False
