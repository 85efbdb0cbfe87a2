"""Stored partial states of aggregations: read, replaced with the expected version, backed up, put together.

Under the owner `aggregation` stands the state of a `state_key`: the partial state of all items so far, and the ids of
the runs that are in it. Under `aggregation.progress` stands how far a run has come that has not ended yet. A run whose
id is in both was killed between the two writes that end it: all its items are in the state.

Progress is of one state and one `conflict_resolution`: it holds that state with the items added, or with `merge` the
items alone. Where either is another one now, the run begins anew. That loses nothing and counts nothing twice: none of
its items is in the state, and all of them are given again.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, cast
from uuid import uuid4

from pydantic import JsonValue

from omnibase_core.enums.enum_aggregation import EnumConflictResolution
from omnibase_core.errors.onex_error import ConcurrentModificationError, StateConsistencyError
from omnibase_core.mixins.threads import in_thread
from omnibase_core.models.contracts.model_contract_reducer import ModelContractReducer
from omnibase_core.protocols.protocol_state import ProtocolStateManager, ProtocolTransactionManager
from omnibase_core.utils.aggregation import Aggregation

OWNER: Final = "aggregation"
PROGRESS: Final = "aggregation.progress"
_NAMED: Final = "named "
_UNNAMED: Final = "run "
_REMEMBERED: Final = 100
"""Ids of the last runs that are kept with the state."""
_MOST_MERGES: Final = 20
"""Somebody else was quicker so many times: that is an error then."""


@dataclass(slots=True)
class Begun:
    """An aggregation at its beginning. done: items of the input that it has already; None: all of them."""

    aggregation: Aggregation
    done: int | None


class AggregationStore:
    """The state of one contract's `state_key`, for one call."""

    def __init__(
        self, contract: ModelContractReducer, states: ProtocolStateManager, transactions: ProtocolTransactionManager
    ) -> None:
        self._contract = contract
        self._key = cast("str", contract.reduction_config.state_key)  # callers have looked
        self._states = states
        self._transactions = transactions
        named = contract.streaming_config.run_id
        self._kind = _UNNAMED if named is None else _NAMED
        self._run = f"{self._kind}{named or uuid4()}"
        self._policy = contract.conflict_resolution
        self._apart = self._policy is EnumConflictResolution.MERGE
        self._before: JsonValue = None
        self._runs: list[JsonValue] = []
        self.version = 0

    async def begin(self) -> Begun:
        """Where to go on. StateConsistencyError for a stored state of another aggregation."""
        await self._read()
        aggregation = Aggregation(self._contract)
        progress = await self._progress()
        if progress is not None:
            self._run = cast("str", progress["run"])  # as written below
        if self._run in self._runs:
            if progress is not None:
                await self.forget_progress()
            await in_thread(lambda: aggregation.absorb(_part(self._before, "state")))
            return Begun(aggregation, None)
        if progress is not None and self._fits(progress):
            await in_thread(lambda: aggregation.absorb(progress["state"]))
            done = cast("int", progress["done"])  # as written below
            aggregation.earlier = aggregation.items - done
            return Begun(aggregation, done)
        if self._before is not None and not self._apart:
            aggregation.absorb(_part(self._before, "state"))
            aggregation.earlier = aggregation.items
        return Begun(aggregation, 0)

    async def _read(self) -> None:
        """What is stored now becomes what the next state is made of."""
        stored = await self._states.get_state(OWNER, self._key)
        self._before, self.version = stored.state, stored.version
        self._runs = [] if self._before is None else cast("list[JsonValue]", _part(self._before, "runs"))  # as stored

    async def _progress(self) -> dict[str, JsonValue] | None:
        """That of this run, if there is any."""
        if not self._contract.streaming_config.checkpoint_items:
            return None
        progress = (await self._states.get_state(PROGRESS, self._key)).state
        return progress if isinstance(progress, dict) and self._is_ours(str(progress["run"])) else None

    def _fits(self, progress: dict[str, JsonValue]) -> bool:
        """Whether its items can still be taken for those of this run."""
        return progress["policy"] == self._policy and (self._apart or progress["version"] == self.version)

    def _is_ours(self, run: str) -> bool:
        """Whether progress is of this run, or, as none of the two has a name, taken for it."""
        return run == self._run or (self._kind == _UNNAMED and run.startswith(_UNNAMED))

    async def note_progress(self, aggregation: Aggregation, done: int) -> None:
        progress: JsonValue = {
            "run": self._run,
            "policy": self._policy,
            "version": self.version,
            "done": done,
            "state": await in_thread(aggregation.dump),
        }
        await self._states.update_state(PROGRESS, self._key, progress)

    async def forget_progress(self) -> None:
        """The run has failed by its input, and would fail again."""
        if self._contract.streaming_config.checkpoint_items:
            await self._states.update_state(PROGRESS, self._key, None)

    async def end(self, aggregation: Aggregation) -> Aggregation:
        """Store the state; the aggregation whose result counts, which with `first_write_wins` may be somebody else's.

        Raises ConcurrentModificationError for a state that was stored meanwhile, unless `conflict_resolution` says
        otherwise, and what the store raises; nothing is stored then.
        """
        for _ in range(_MOST_MERGES):
            whole = await self._joined(aggregation) if self._apart else aggregation
            if whole is None:
                return await self._theirs()
            try:
                await self._replace({"runs": self._runs_with_ours(), "state": await in_thread(whole.dump)})
            except ConcurrentModificationError as error:
                if self._policy is EnumConflictResolution.FIRST_WRITE_WINS:
                    return await self._theirs()
                if not self._apart:
                    raise ConcurrentModificationError(
                        f"state {self._key!r}: somebody else stored one while this run was at it, and theirs stays; "
                        "give the same input again, which adds it to theirs, or choose a conflict_resolution"
                    ) from error
            else:
                return whole
        raise ConcurrentModificationError(
            f"state {self._key!r}: others stored theirs {_MOST_MERGES} times while this one was merged; try again"
        )

    async def _joined(self, aggregation: Aggregation) -> Aggregation | None:
        """What is stored now, with the items of this run added; None when they are in it already."""
        await self._read()
        if self._run in self._runs:
            return None
        whole = Aggregation(self._contract)
        if self._before is not None:
            await in_thread(lambda: whole.absorb(_part(self._before, "state")))
        await in_thread(lambda: whole.absorb(aggregation.dump()))
        return whole

    def _runs_with_ours(self) -> list[JsonValue]:
        """This run too, unless it neither has a name nor keeps progress: it would never be recognised."""
        known_again = self._kind == _NAMED or self._contract.streaming_config.checkpoint_items
        return [*self._runs, self._run][-_REMEMBERED:] if known_again else self._runs

    async def _theirs(self) -> Aggregation:
        stored = await self._states.get_state(OWNER, self._key)
        theirs = Aggregation(self._contract)
        theirs.absorb(_part(stored.state, "state"))
        self.version = stored.version
        await self.forget_progress()
        return theirs

    async def _replace(self, state: JsonValue) -> None:
        backup = self._contract.backup_config
        overwrites = self._policy is EnumConflictResolution.LAST_WRITE_WINS
        async with self._transaction():
            if backup.enabled:  # first, so that without a transaction no failure leaves a new state behind
                kept = state if backup.backup_type == "after" else self._before
                data: JsonValue = {"version": backup.version, "state_key": self._key, "state": kept}
                await self._states.create_backup(str(backup.backup_location), data, keep=backup.retention)
            stored = await self._states.update_state(
                OWNER, self._key, state, expected_version=None if overwrites else self.version
            )
            await self.forget_progress()
        self.version = stored.version

    def _transaction(self) -> AbstractAsyncContextManager[object]:
        return self._transactions.transaction() if self._contract.transaction_config.enabled else nullcontext()


def _part(state: JsonValue, name: str) -> JsonValue:
    if not isinstance(state, dict) or name not in state:
        raise StateConsistencyError(
            f"the stored state is none of an aggregation: {name!r} is missing; use another state_key, or restore a "
            "backup"
        )
    return state[name]


async def restore_aggregation(
    states: ProtocolStateManager, contract: ModelContractReducer, backup_id: str | None = None
) -> int:
    """Store a backup of the contract's place, by default the newest, as the state again; its version.

    Raises NOT_FOUND when there is no such backup, and ConcurrentModificationError when a state is stored meanwhile.
    """
    key = cast("str", contract.reduction_config.state_key)  # a contract with a backup has one
    backup = await states.restore_backup(str(contract.backup_config.backup_location), backup_id)
    version = (await states.get_state(OWNER, key)).version
    return (await states.update_state(OWNER, key, _part(backup, "state"), expected_version=version)).version
