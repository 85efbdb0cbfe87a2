"""Actions on stored states: load, reduce, and keep the new state with its intents, in the one order that is safe."""

import asyncio
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ConcurrentModificationError, ModelOnexError
from omnibase_core.models.fsm_state import FsmState
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.models.model_reducer_output import ModelReducerOutput, ModelReducerStateMetadata
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import SqlTable
from omnibase_spi.outbox import SqlOutbox
from omnibase_spi.store_sql import SqlStateManager

_FIRST_WAIT_SECONDS: Final = 0.002
_MAX_WAIT_SECONDS: Final = 0.25
_SAME: Final = {"duplicate": "true"}


class ReducerStore:
    """Applies actions of a reducer to states in a database connection (SQLite or PostgreSQL).

    New state, intents and the id of the action are kept in one transaction, or nothing is. So an action is applied
    once, however often it is sent: what is not sure to have been applied (OUTCOME_UNKNOWN, a crash) is sent again with
    the same `operation_id`; several states may take one action. Intents wait in `outbox`, whose `relay` carries them
    out.

    owner: under which the states are kept in `states`; by default the name of the machine, or of the class.
    prefix: of the names of the tables. max_tries: how often an action is reduced anew because another one changed its
    state in between.
    """

    def __init__(
        self,
        reducer: NodeReducer,
        adapter: DbAdapter,
        connection_name: str = "default",
        *,
        owner: str | None = None,
        prefix: str = "onex",
        max_tries: int = 20,
    ) -> None:
        self.reducer = reducer
        self.states = SqlStateManager(adapter, connection_name, table=f"{prefix}_state")
        self.outbox = SqlOutbox(adapter, connection_name, table=f"{prefix}_intent_outbox")
        self.owner = owner or _name_of(reducer)
        self.max_tries = max_tries
        self._prefix = prefix
        self._actions = SqlTable(
            adapter,
            connection_name,
            f"{prefix}_action",
            "owner TEXT NOT NULL, state_key TEXT NOT NULL, action_id TEXT NOT NULL, version BIGINT NOT NULL, "
            "applied_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (owner, state_key, action_id)",
        )
        self._prepared = False

    async def state(self, key: str) -> StoredState:
        """The state of a key as it is kept: of a machine its snapshot; version 0 before the first action."""
        return await self.states.get_state(self.owner, key)

    async def apply(self, key: str, input_data: ModelReducerInput) -> ModelReducerOutput:
        """Apply an action to the state of `key`, and return what the reducer made of it.

        An action that was applied before changes nothing: the output has the state as it is now, no intents, and
        `duplicate` in its metadata. One that leaves the state as it is and has no intents is not kept.

        Raises what the reducer raises, and then nothing is kept; ConcurrentModificationError after `max_tries`;
        TransactionError OUTCOME_UNKNOWN when the answer to COMMIT was lost; VALIDATION_ERROR for an input that brings
        a state.
        """
        if input_data.state is not None:
            raise ModelOnexError(
                f"{self.owner}/{key}: the input brings a state; it comes from the store, so leave it out",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        await self._prepare()
        number = 0
        while True:
            number += 1
            stored = await self.state(key)
            if await self._applied(key, input_data):
                return _duplicate(input_data, await self.state(key))
            output = await self.reducer.process(input_data.model_copy(update={"state": stored.state}))
            state = _kept_form(output.new_state, f"{self.owner}/{key}")
            if not output.intents and state == stored.state:
                return output
            try:
                await self._keep(key, input_data, stored.version, state, output)
            except ConcurrentModificationError:
                if number >= self.max_tries:
                    raise
                # each round one of those who race succeeds; the wait lets the others be fewer
                most = min(_MAX_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**number)
                await asyncio.sleep(random.random() * most)  # noqa: S311  # no secret
            else:
                return output

    async def _prepare(self) -> None:
        """The tables, before a transaction is open."""
        if not self._prepared:
            await self.states.prepare()
            await self.outbox.prepare()
            await self._actions.prepare()
            self._prepared = self.states.adapter.ambient(self.states.connection_name) is None

    async def _keep(
        self, key: str, input_data: ModelReducerInput, version: int, state: JsonValue, output: ModelReducerOutput
    ) -> None:
        async with self.states.transaction():
            kept = await self.states.update_state(self.owner, key, state, expected_version=version)
            await self._actions.changed(
                "INSERT INTO {t} (owner, state_key, action_id, version, applied_at) VALUES ($1, $2, $3, $4, $5)",
                self.owner,
                key,
                str(input_data.operation_id),
                kept.version,
                datetime.now(UTC).timestamp(),
            )
            place = [self.states.connection_name, self._prefix, self.owner, key]
            await self.outbox.add(output.intents, of=json.dumps(place))

    async def _applied(self, key: str, input_data: ModelReducerInput) -> bool:
        rows = await self._actions.run(
            "SELECT version FROM {t} WHERE owner = $1 AND state_key = $2 AND action_id = $3",
            self.owner,
            key,
            str(input_data.operation_id),
        )
        return bool(rows)

    async def forget_actions(self, before: datetime) -> int:
        """Delete the ids of actions that were applied before; returns how many. They would be applied again."""
        query = "DELETE FROM {t} WHERE owner = $1 AND applied_at < $2"
        return await self._actions.changed(query, self.owner, before.timestamp())


def _name_of(reducer: NodeReducer) -> str:
    subcontract = getattr(reducer, "reducer_subcontract", None)
    return type(reducer).__name__ if subcontract is None else str(subcontract.state_machine.state_machine_name)


def _kept_form(state: object, what: str) -> JsonValue:
    if isinstance(state, FsmState):
        return state.snapshot()
    if isinstance(state, Mapping):
        return dict(state)
    if isinstance(state, str):
        return state
    raise ModelOnexError(
        f"{what}: a state that is to be stored is a text or a map, found {type(state).__name__}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def _duplicate(input_data: ModelReducerInput, stored: StoredState) -> ModelReducerOutput:
    name = stored.state.get("state") if isinstance(stored.state, dict) else stored.state
    known = name if isinstance(name, str) else None
    return ModelReducerOutput(
        correlation_id=input_data.correlation_id or input_data.operation_id,
        operation_id=input_data.operation_id,
        result=stored.state,
        new_state=stored.state,
        state_metadata=ModelReducerStateMetadata(previous_state=known, new_state=known),
        metadata=_SAME,
    )
