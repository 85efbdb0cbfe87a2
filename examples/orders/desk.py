"""The program: fetches orders, normalises them, moves their machines, and has their intents carried out.

It may be killed anywhere. Whatever it had not committed did not happen, and the next run does it; whatever it had
committed is not done again: each step of an order's history is an action with an id of its own, which is committed
together with the new state and the intents that follow from it, and each intent has an idempotency key, of which the
ledger knows what became.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from uuid import UUID, uuid5

from pydantic import JsonValue, SecretStr

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.errors import ConcurrentModificationError, ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ExtractedValue
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.nodes import IntentExecutor, NodeCompute, NodeEffect, NodeReducer
from omnibase_core.protocols.protocol_intent_ledger import ProtocolIntentLedger
from omnibase_core.utils.intent_routes import load_intent_routes
from omnibase_spi.bootstrap import register_effect_handlers
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.reducer_store import ReducerStore

HERE: Final = Path(__file__).parent
ROUTES: Final = HERE / "intent_routes.yaml"
_OF_THE_ORDER: Final = frozenset({EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.CONFLICT})
"""Codes of what a contract says of an order: a value that is not allowed, a step that its state does not."""
_ACTIONS: Final = UUID("0d9e3f0c-27ab-5a0e-8f43-6b9a1c7d2e55")
"""Namespace of the ids of actions: the same step of the same order is the same action in every run."""


@dataclass(slots=True)
class Tally:
    """What a run did.

    waiting: intents that could not be carried out now. given_up: those that are left to a person, of earlier runs too.
    failed: why, of this run. refused: orders that are not as they should be.
    """

    orders: int = 0
    transitions: int = 0
    carried_out: int = 0
    waiting: int = 0
    given_up: int = 0
    failed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def container_for(directory: Path, shop_url: str, mail_url: str, routes: Path = ROUTES) -> ModelONEXContainer:
    """Everything that is ONEX's own lies in one SQLite file below `directory`; that is the default of a container."""
    settings = ModelSettings(data_dir=directory, connections={"post": ModelConnection(url=SecretStr(mail_url))})
    container = ModelONEXContainer()
    register_effect_handlers(container, settings)
    container.register_service("Environment", {"SHOP_URL": shop_url})
    container.register_service("ModelIntentRoutes", load_intent_routes(routes))
    return container


class OrderDesk:
    """The nodes of the example, put together."""

    def __init__(self, container: ModelONEXContainer) -> None:
        adapter = cast("DbAdapter", container.get_service("DbAdapter"))  # registered by container_for
        self._ledger = cast("ProtocolIntentLedger", container.get_service("ProtocolIntentLedger"))  # of a container
        self._tables = NodeEffect.from_contract(container, HERE / "tables.yaml")
        self._fetch = NodeEffect.from_contract(container, HERE / "fetch_order.yaml")
        self._normalise = NodeCompute.from_contract(container, HERE / "normalise_order.yaml")
        machine = NodeReducer.from_contract(container, HERE / "order_machine.yaml")
        self._executor = IntentExecutor(container)
        self._store = ReducerStore(machine, adapter)
        self._outbox = self._store.outbox

    async def run(self, *, pause_s: float = 0.0) -> Tally:
        """Fetch every order of the shop, and bring each up to date. pause_s: after each, for somebody who kills it.

        An order that is not as the contracts want it is refused and left as it was; the others go on.
        """
        tally = Tally()
        await self._tables.process(ModelEffectInput(operation_data={}))
        async for fields in self._fetched():
            tally.orders += 1
            try:
                done = await self._normalise.process(ModelComputeInput(data=fields))
                await self._bring_up_to_date(cast("dict[str, JsonValue]", done.result), tally)  # the output_schema
            except ModelOnexError as error:
                if error.error_code not in _OF_THE_ORDER or isinstance(error, ConcurrentModificationError):
                    raise
                tally.refused += (f"order {fields['order_id']!r}: {error.message}",)
            await self._relay(tally)
            await asyncio.sleep(pause_s)
        await self._relay(tally)
        tally.waiting = await self._outbox.waiting()
        tally.given_up = len(await self._outbox.given_up())
        return tally

    async def _fetched(self) -> AsyncIterator[dict[str, ExtractedValue]]:
        place: ExtractedValue = 1
        while place:
            output = await self._fetch.process(ModelEffectInput(operation_data={"place": place}))
            fields = dict(output.operations[0].extracted_fields)
            place = fields.pop("next")
            yield fields

    async def _bring_up_to_date(self, order: dict[str, JsonValue], tally: Tally) -> None:
        """Apply the order's history. A step that was applied before is recognised by its id, and changes nothing."""
        order_id, history = str(order["order_id"]), cast("list[str]", order["history"])  # the output_schema again
        for number, trigger in enumerate(history):
            action_id = uuid5(_ACTIONS, f"{order_id}:{number}:{trigger}")
            action = ModelReducerInput(action=trigger, payload=order, operation_id=action_id)
            output = await self._store.apply(order_id, action)
            tally.transitions += output.state_metadata.transition is not None

    async def _relay(self, tally: Tally) -> None:
        """Carry out what is due, until a round finds nothing."""
        while results := await self._outbox.relay(self._executor, self._ledger):
            tally.carried_out += sum(result.status is EnumIntentStatus.COMPLETED for result in results)
            tally.failed += tuple(filter(None, map(_failure, results)))


def _failure(result: IntentExecutionResult) -> str | None:
    """Why an intent failed; not that of one that another run has in hand."""
    failed = result.status is EnumIntentStatus.FAILED and result.error_code is not EnumCoreErrorCode.CONFLICT
    return result.error if failed else None
