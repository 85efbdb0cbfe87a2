"""Several orchestrators with pauses, crashes, partitions and clocks that run wrong: one writer at a time, always."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from pydantic import JsonValue

from omnibase_core.models.model_action import ModelAction
from omnibase_core.protocols.protocol_lease import LeaseRecord
from omnibase_spi.lease_memory import MemoryLeaseStore
from tests.support.lease_simulation import InvariantBrokenError, Remote, World

SEEDS, PARTS = 2_000, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_no_history_breaks_an_invariant(part: int) -> None:
    """Epochs, tokens, holders and steps; and every workflow ends. A failure prints its history and its seed."""
    happened: Counter[str] = Counter()
    for seed in range(part, SEEDS, PARTS):
        world = World(seed)
        world.run()
        happened.update(_kind(what) for _, _, what in world.history)

    for kind in ("crashes", "pause", "cut off", "write: LeaseExpiredError", "write: EpochMismatchError", "lost"):
        assert happened[kind] >= 20, f"hardly ever: {kind}, of {happened}"


def _kind(what: str) -> str:
    for kind in ("crashes", "pause", "cut off", "lost"):
        if kind in what:
            return kind
    return f"{what.partition(' ')[0]}: {what.rpartition(' ')[2]}"


def test_a_seed_is_a_history() -> None:
    """Run alone it is the same."""
    first, second = World(11), World(11)

    first.run()
    second.run()

    assert first.history == second.history


class Unfenced(MemoryLeaseStore):
    """Writes whatever it is told to."""

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        record = self._records[action.resource]
        self._records[action.resource] = replace(record, epoch=record.epoch + 1)
        self._states.setdefault(action.resource, {})[record.epoch + 1] = json.dumps(state)
        return record.epoch + 1


class ValidatesFirst(Remote):
    """Judges an action and writes in the next request, as everybody builds it at first."""

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        await self.world.call(self.process, "judge", lambda: self.world.store.check(action, token))
        return await super().commit(action, state, token)


class ForgetsTokens(MemoryLeaseStore):
    """Deletes the row of a lease that is released."""

    async def release(self, resource: str, lease_id: str, token: int) -> bool:
        freed = await super().release(resource, lease_id, token)
        if freed:
            self._records[resource] = replace(self._records[resource], token=0)
        return freed


class GivesTooEarly(MemoryLeaseStore):
    """Compares with a clock that is 300 ms fast."""

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        record = self._records.get(resource)
        if record is not None and record.holder != holder and record.expires_ms - self._now_ms() < 300:
            self._records[resource] = replace(record, expires_ms=0)
        return await super().acquire(resource, lease_id, holder, ttl_ms)


class ComparesNoEpoch(MemoryLeaseStore):
    """Proves the lease only."""

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        epoch = self._records[action.resource].epoch
        return await super().commit(action.model_copy(update={"epoch": epoch}), state, token)


class NeverEnds(MemoryLeaseStore):
    """Believes that a lease still holds as long as nobody else has it."""

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        record = self._records[action.resource]
        self._records[action.resource] = replace(record, expires_ms=self._now_ms() + 1)
        try:
            return await super().commit(action, state, token)
        finally:
            ended = replace(self._records[action.resource], expires_ms=record.expires_ms)
            self._records[action.resource] = ended


class KeepsLeasesForEver(MemoryLeaseStore):
    """A holder that crashed has its lease to the end of time."""

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        return await super().acquire(resource, lease_id, holder, 1_000 * ttl_ms)


@pytest.mark.parametrize(
    ("store", "remote", "rule"),
    [
        (Unfenced, ValidatesFirst, "under token|after its lease|done twice|epoch"),
        (ForgetsTokens, Remote, "two holders|after"),
        (GivesTooEarly, Remote, "given to .* while .* had it"),
        (ComparesNoEpoch, Remote, "twice|epoch"),
        (NeverEnds, Remote, "written by .* after its lease"),
        (KeepsLeasesForEver, Remote, "never ended"),
    ],
)
def test_a_store_that_is_wrong_is_found_out(store: type[MemoryLeaseStore], remote: type[Remote], rule: str) -> None:
    """The invariants can be broken; the failure says which, by which seed, and what had happened."""
    with pytest.raises(InvariantBrokenError) as caught:
        for seed in range(SEEDS):
            World(seed, store, remote).run()

    told = str(caught.value).splitlines()
    assert re.search(rule, told[0]), told[0]
    assert re.fullmatch(r"alone: python -m tests.support.lease_simulation \d+", told[1])
    assert "starts, its clock at" in told[3]
    assert len(told) > 10
