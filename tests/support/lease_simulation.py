"""Several orchestrators over one lease store, in virtual time, out of one seed.

Orchestrators are programs over the real `LeaseManager` and `WorkflowStateManager`; their store is behind a network.
They are paused and go on in the middle of a line, crash and start again knowing nothing, are cut off, get answers late,
twice or never, have a second branch that still believes in an older epoch, and their clocks run fast or slow. When the
faults are over, every workflow must end; and at no time

- may an epoch come twice or be left out, or a step of a workflow be lost or done twice,
- may a write be made by anything but the last token that was given, or after that lease had ended,
- may a lease be given while another holder's has not ended.

The same seed is the same history: `python -m tests.support.lease_simulation SEED` shows it.
"""

import heapq
import itertools
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumActionTarget, EnumActionType, EnumLeaseEvent
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import EpochMismatchError, ModelOnexError
from omnibase_core.mixins.lease_manager import LeaseManager
from omnibase_core.mixins.workflow_actions import WorkflowStateManager
from omnibase_core.models.model_action import ModelAction
from omnibase_core.protocols.protocol_lease import LeaseRecord, ProtocolLeaseStore, WorkflowLease
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_spi.lease_memory import MemoryLeaseStore

T = TypeVar("T")

TTL_MS = 1_000
FAULTS_END_MS = 12_000
"""No pause, crash or partition begins after this."""
LIMIT_MS = 120_000
"""By then every workflow has ended."""
NO_ANSWER_MS = 400


class InvariantBrokenError(AssertionError):
    """Something happened that must not, with everything that had happened before."""


@dataclass(slots=True)
class Grant:
    """A lease as the store gave it. ends_ms: 0 once it is released."""

    token: int
    holder: str
    ends_ms: int


@dataclass(slots=True)
class Process:
    """One incarnation of an orchestrator, or what is left of it."""

    name: str
    program: "Coroutine[object, object, None] | None" = None
    awaited: int = 0
    """The number of the request or sleep that it waits for; answers to others are dropped."""
    paused_until: int = 0
    cut_off_until: int = 0
    rate: float = 1.0


class _Until:
    """What a program awaits: it is told later."""

    def __await__(self) -> Generator["_Until", Any, Any]:
        return (yield self)


@dataclass
class World:
    """Time, the network, the orchestrators, and what they have done."""

    seed: int
    make_store: "Callable[[Callable[[], int]], MemoryLeaseStore]" = MemoryLeaseStore
    make_remote: "Callable[[World, Process], Remote] | None" = None
    now: int = 1_000
    history: list[tuple[int, str, str]] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)
    commits: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.store = self.make_store(lambda: self.now)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._requests = itertools.count(1)
        self.workflows = {f"w{index}": self.chance.randint(3, 9) for index in range(self.chance.randint(1, 3))}
        self.unfinished = set(self.workflows)
        self._processes: list[Process] = []

    def run(self) -> None:
        """Until every workflow has ended. Raises InvariantBrokenError."""
        try:
            self._run()
        finally:
            for process in self._processes:
                if process.program is not None:
                    process.program.close()
        self._check_states()

    def _run(self) -> None:
        for index in range(self.chance.randint(2, 4)):
            self._start(f"o{index}", 1)
        while self.unfinished:
            if not self._queue or self.now > LIMIT_MS:
                raise self.broken(f"never ended: {sorted(self.unfinished)}")
            self.now, _, happen = heapq.heappop(self._queue)
            happen()

    def at(self, delay_ms: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay_ms, next(self._order), happen))

    def note(self, who: str, what: str) -> None:
        self.history.append((self.now, who, what))

    def broken(self, rule: str) -> InvariantBrokenError:
        told = "\n".join(f"{moment:>7} ms  {who:<6} {what}" for moment, who, what in self.history)
        return InvariantBrokenError(
            f"{rule}\nalone: python -m tests.support.lease_simulation {self.seed}\nworkflows: {self.workflows}\n{told}"
        )

    def _start(self, name: str, incarnation: int) -> None:
        process = Process(f"{name}.{incarnation}", rate=self.chance.uniform(0.7, 1.4))
        process.program = Orchestrator(self, process).work()
        self._processes.append(process)
        self.note(process.name, f"starts, its clock at {process.rate:.2f}")
        self.at(self.chance.randint(0, 50), lambda: self._resume(process, 0, None, None))
        if self.now < FAULTS_END_MS:
            self.at(self.chance.randint(50, 1_200), lambda: self._fail(process, name, incarnation))

    def _fail(self, process: Process, name: str, incarnation: int) -> None:
        """The next fault of a process, and the one after it."""
        if self.now >= FAULTS_END_MS:
            return
        length = self.chance.choice((TTL_MS // 4, TTL_MS, 3 * TTL_MS))
        fault = self.chance.random()
        if fault < 0.25:
            self.note(process.name, "crashes")
            if process.program is not None:
                process.program.close()
            process.program = None
            self.at(length, lambda: self._start(name, incarnation + 1))
            return
        if fault < 0.65:
            self.note(process.name, f"is paused for {length} ms")
            process.paused_until = self.now + length
        else:
            self.note(process.name, f"is cut off for {length} ms")
            process.cut_off_until = self.now + length
        self.at(self.chance.randint(50, 1_200), lambda: self._fail(process, name, incarnation))

    def _resume(self, process: Process, request: int, value: object, error: ModelOnexError | None) -> None:
        """Let a program go on from what it awaits, when it is awake."""
        if process.program is None or process.awaited != request:
            return
        if process.paused_until > self.now:
            self.at(process.paused_until - self.now, lambda: self._resume(process, request, value, error))
            return
        process.awaited = -1
        try:
            if error is None:
                process.program.send(value)
            else:
                process.program.throw(error)
        except StopIteration:
            process.program = None

    async def sleep(self, process: Process, ms: int) -> None:
        request = process.awaited = next(self._requests)
        self.at(ms, lambda: self._resume(process, request, None, None))
        await _Until()

    async def call(self, process: Process, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store over the network; no answer in time is an error like a real one."""
        request = process.awaited = next(self._requests)
        for _ in range(2 if self.chance.random() < 0.03 else 1):
            self.at(self._latency(), lambda: self._arrive(process, request, what, ask))
        away = ModelOnexError(f"{what}: no answer", EnumCoreErrorCode.RESOURCE_UNAVAILABLE)
        self.at(NO_ANSWER_MS, lambda: self._resume(process, request, None, away))
        return cast("T", await _Until())  # what `_arrive` sends

    def _latency(self) -> int:
        return self.chance.randint(1, 20) if self.chance.random() < 0.97 else self.chance.randint(20, 3 * TTL_MS)

    def _arrive(self, process: Process, request: int, what: str, ask: Callable[[], Awaitable[T]]) -> None:
        if process.cut_off_until > self.now:
            self.note(process.name, f"{what}: lost on the way")
            return
        value, error = at_once(ask)
        self.note(process.name, f"{what}: {_shown(value) if error is None else type(error).__name__}")
        self.at(self._latency(), lambda: self._answer(process, request, value, error))

    def _answer(self, process: Process, request: int, value: object, error: ModelOnexError | None) -> None:
        if process.cut_off_until > self.now:
            self.note(process.name, "the answer is lost")
            return
        self._resume(process, request, value, error)

    def granted(self, record: LeaseRecord, *, renewed: bool) -> None:
        """The store gave or renewed a lease."""
        before = self.grants.get(record.resource)
        if before is not None and not renewed and record.token != before.token:
            if before.ends_ms > self.now:
                raise self.broken(f"{record.resource}: given to {record.holder} while {before.holder} had it")
            if record.token < before.token:
                raise self.broken(f"{record.resource}: token {record.token} after {before.token}")
        elif before is not None and before.holder != record.holder:
            raise self.broken(f"{record.resource}: token {record.token} given to two holders")
        self.grants[record.resource] = Grant(record.token, record.holder, record.expires_ms)

    def committed(self, action: ModelAction, epoch: int) -> None:
        """The store made an epoch."""
        resource, grant = action.resource, self.grants[action.resource]
        if action.token != grant.token:
            raise self.broken(f"{resource}: written under token {action.token}, the last one given is {grant.token}")
        if grant.ends_ms <= self.now:
            raise self.broken(f"{resource}: written by {grant.holder} after its lease")
        if epoch != self.commits.get(resource, 0) + 1:
            raise self.broken(f"{resource}: epoch {epoch} after {self.commits.get(resource, 0)}")
        self.commits[resource] = epoch

    def _check_states(self) -> None:
        """Each step once and in order, and the same in the audit."""
        for workflow, steps in self.workflows.items():
            states = [at_once(lambda e=epoch, w=workflow: self.store.state(w, e))[0] for epoch in range(1, steps + 1)]  # type: ignore[misc]  # defaults bind the loop's names
            if [state.state for state in states if isinstance(state, StoredState)] != list(range(1, steps + 1)):
                raise self.broken(f"{workflow}: steps lost or done twice: {states}")
            audit = at_once(lambda w=workflow: self.store.audit(w, 100_000))[0] or ()  # type: ignore[misc]  # as above
            written = [entry for entry in audit if entry.event is EnumLeaseEvent.COMMITTED]
            if [entry.epoch for entry in written] != list(range(1, steps + 1)):
                raise self.broken(f"{workflow}: the audit has other epochs: {[entry.epoch for entry in written]}")
            tokens = [entry.token for entry in written]
            if tokens != sorted(tokens):
                raise self.broken(f"{workflow}: a write by an older token in the audit: {tokens}")
            given = [(entry.token, entry.holder) for entry in audit if entry.event is EnumLeaseEvent.ACQUIRED]
            if [token for token, _ in given] != list(range(1, len(given) + 1)):
                raise self.broken(f"{workflow}: tokens in the audit: {given}")
            if not {(entry.token, entry.holder) for entry in written} <= set(given):
                raise self.broken(f"{workflow}: written by somebody else than the holder of the token: {written}")


class Remote:
    """The part of `ProtocolLeaseStore` that orchestrators use, behind the network of one process."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process

    async def acquire(self, resource: str, lease_id: str, holder: str, ttl_ms: int) -> LeaseRecord:
        async def ask() -> LeaseRecord:
            record = await self.world.store.acquire(resource, lease_id, holder, ttl_ms)
            self.world.granted(record, renewed=False)
            return record

        return await self.world.call(self.process, f"acquire {resource}", ask)

    async def renew(self, resource: str, lease_id: str, token: int, ttl_ms: int) -> LeaseRecord:
        async def ask() -> LeaseRecord:
            record = await self.world.store.renew(resource, lease_id, token, ttl_ms)
            self.world.granted(record, renewed=True)
            return record

        return await self.world.call(self.process, f"renew {resource} token {token}", ask)

    async def release(self, resource: str, lease_id: str, token: int) -> bool:
        async def ask() -> bool:
            freed = await self.world.store.release(resource, lease_id, token)
            if freed:
                self.world.grants[resource].ends_ms = 0
            return freed

        return await self.world.call(self.process, f"release {resource} token {token}", ask)

    async def commit(self, action: ModelAction, state: JsonValue, token: int | None = None) -> int:
        async def ask() -> int:
            known = self.world.commits.get(action.resource, 0)
            epoch = await self.world.store.commit(action, state, token)
            if epoch > known:  # else the answer to a repetition
                self.world.committed(action, epoch)
            return epoch

        return await self.world.call(self.process, f"write {action.resource} {state} token {action.token}", ask)

    async def state(self, resource: str, epoch: int | None = None) -> StoredState:
        return await self.world.call(self.process, f"read {resource}", lambda: self.world.store.state(resource, epoch))


class Orchestrator:
    """Takes a workflow that has not ended, and carries its steps out for as long as it may."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        remote = (world.make_remote or Remote)(world, process)
        store = cast("ProtocolLeaseStore", remote)  # the part that is used here
        self._manager = LeaseManager(
            store, holder=process.name, ttl_ms=TTL_MS, clock=lambda: world.now / 1000 * process.rate
        )
        self._states = WorkflowStateManager(self._manager)

    async def work(self) -> None:
        world = self._world
        while world.unfinished:
            workflow = world.chance.choice(sorted(world.unfinished))
            try:
                await self._drive(await self._manager.acquire_lease(workflow), workflow)
            except ModelOnexError:
                await world.sleep(self._process, world.chance.randint(10, TTL_MS))

    async def _drive(self, lease: WorkflowLease, workflow: str) -> None:
        world = self._world
        stored = await self._states.get_state(workflow)
        step, epoch = stored.state if isinstance(stored.state, int) else 0, stored.version
        while step < world.workflows[workflow]:
            if self._manager.remaining_ms(lease) < TTL_MS * 2 / 3:
                lease = await self._manager.renew_lease(lease)
            action = self._manager.issue(lease, EnumActionType.UPDATE_STATE, EnumActionTarget.REDUCER, epoch=epoch)
            await world.sleep(self._process, world.chance.randint(1, TTL_MS // 5))
            if epoch and world.chance.random() < 0.1:
                await self._try_an_older_epoch(lease, epoch - 1)
            epoch = await self._write(action, step + 1)
            step += 1
        world.unfinished.discard(workflow)
        await self._manager.release_lease(workflow, lease.lease_id)

    async def _try_an_older_epoch(self, lease: WorkflowLease, epoch: int) -> None:
        """A second branch, which has not seen what the first one wrote."""
        stale = self._manager.issue(lease, EnumActionType.UPDATE_STATE, EnumActionTarget.REDUCER, epoch=epoch)
        try:
            await self._states.update_state_with_action(stale, -1)
        except EpochMismatchError:
            return
        raise self._world.broken(f"{lease.workflow_id}: epoch {epoch} was written twice")

    async def _write(self, action: ModelAction, step: int) -> int:
        """An answer that is lost is asked for again, by the same action."""
        for _ in range(3):
            try:
                return await self._states.update_state_with_action(action, step)
            except ModelOnexError as error:
                if error.error_code is not EnumCoreErrorCode.RESOURCE_UNAVAILABLE:
                    raise
        return await self._states.update_state_with_action(action, step)


def at_once(ask: Callable[[], Awaitable[T]]) -> tuple[T | None, ModelOnexError | None]:
    """What a store that never suspends answers."""
    try:
        ask().__await__().send(None)
    except StopIteration as stop:
        return stop.value, None
    except ModelOnexError as error:
        return None, error
    message = "the store suspended"
    raise RuntimeError(message)


def _shown(value: object) -> str:
    if isinstance(value, LeaseRecord):
        return f"token {value.token} until {value.expires_ms}, epoch {value.epoch}"
    return f"{value.state} at epoch {value.version}" if isinstance(value, StoredState) else str(value)


def main(arguments: Sequence[str]) -> None:
    world = World(int(arguments[0]))
    world.run()
    print(world.broken("nothing is wrong"))


if __name__ == "__main__":
    main(sys.argv[1:])
