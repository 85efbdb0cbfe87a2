"""The pool: bounded, last in first out for connections, first come first served for who waits."""

import asyncio

import pytest

from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ModelResolvedDbContext
from omnibase_spi.db.driver import Document
from omnibase_spi.db.held import Held
from omnibase_spi.db.pool import Pool


class _Connection:
    """Does nothing, and remembers how it was closed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.usable = True
        self.alive = True
        self.closed = ""
        self.in_transaction = False
        self.committed: bool | None = None

    def is_alive(self) -> bool:
        return self.alive

    async def execute(self, context: ModelResolvedDbContext) -> Document:
        return {"rows": [], "rowCount": 0}

    async def begin(self, isolation_level: EnumIsolationLevel | None, *, read_only: bool) -> None: ...

    async def command(self, sql: str) -> None: ...

    async def commit(self) -> bool:
        return True

    def retire(self) -> None: ...

    def close_now(self) -> None:
        self.closed = "now"

    async def close(self) -> None:
        self.closed = "orderly"


class _Factory:
    """Makes connections; waits for `gate` when it is set, and fails while `broken`."""

    def __init__(self) -> None:
        self.made: list[_Connection] = []
        self.gate: asyncio.Event | None = None
        self.broken = False

    async def __call__(self) -> _Connection:
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise EffectFault("no")
        self.made.append(_Connection(len(self.made)))
        return self.made[-1]


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_last_used_connection_is_lent_first() -> None:
    """Few connections stay warm, and the others age unused."""
    pool = Pool(3, _Factory())
    first, second = await pool.acquire(), await pool.acquire()
    pool.give_back(first)
    pool.give_back(second)

    assert pool.take() is second
    assert pool.take() is first
    assert pool.take() is None


async def test_never_more_than_its_size() -> None:
    """Opening connections count too."""
    factory = _Factory()
    factory.gate = asyncio.Event()
    pool = Pool(2, factory)
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(5)]
    await _turns()

    assert pool.open_connections == 2
    factory.gate.set()
    await _turns()
    assert len(factory.made) == 2
    for _ in range(3):
        done = [task.result() for task in tasks if task.done()]
        pool.give_back(done[0])
        tasks = [task for task in tasks if not (task.done() and task.result() is done[0])]
        await _turns()
    assert len(factory.made) == 2


async def test_waiters_are_served_in_order_and_a_cancelled_one_leaves_no_trace() -> None:
    """Also when it is cancelled at the moment in which it was served."""
    pool = Pool(1, _Factory())
    only = await pool.acquire()
    order: list[int] = []

    async def one(number: int) -> None:
        connection = await pool.acquire()
        order.append(number)
        pool.give_back(connection)

    tasks = [asyncio.create_task(one(number)) for number in range(4)]
    await _turns()
    tasks[1].cancel()
    await _turns()
    pool.give_back(only)
    tasks[0].cancel()
    await asyncio.wait(tasks)

    assert order == [2, 3]
    assert not pool._waiters
    assert pool.take() is only


async def test_a_dead_idle_connection_is_replaced() -> None:
    """It is closed, and its place is free."""
    factory = _Factory()
    pool = Pool(1, factory)
    connection = await pool.acquire()
    pool.give_back(connection)
    factory.made[0].alive = False

    assert await pool.acquire() is factory.made[1]
    assert factory.made[0].closed == "now"
    assert pool.open_connections == 1


async def test_a_connection_in_doubt_makes_room_for_a_waiter() -> None:
    """It is closed, never reused, and who waits gets a new one."""
    factory = _Factory()
    pool = Pool(1, factory)
    connection = await pool.acquire()
    task = asyncio.create_task(pool.acquire())
    await _turns()
    factory.made[0].usable = False

    pool.give_back(connection)

    assert await task is factory.made[1]
    assert factory.made[0].closed == "now"


async def test_a_failed_connect_passes_the_place_on() -> None:
    """Who waited behind it tries in turn, and the pool is not one smaller for it."""
    factory = _Factory()
    factory.gate = asyncio.Event()
    factory.broken = True
    pool = Pool(1, factory)
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await _turns()

    factory.gate.set()
    await asyncio.wait(tasks)

    assert all(isinstance(task.exception(), EffectFault) for task in tasks)
    factory.broken = False
    assert pool.open_connections == 0
    await pool.acquire()


async def test_a_cancelled_waiter_passes_its_place_on() -> None:
    """A place kept for one that gives up at that moment goes to the next."""
    factory = _Factory()
    pool = Pool(1, factory)
    connection = await pool.acquire()
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await _turns()
    factory.made[0].usable = False

    pool.give_back(connection)
    tasks[0].cancel()

    assert await tasks[1] is factory.made[1]
    assert tasks[0].cancelled()
    assert pool.open_connections == 1


async def test_closing() -> None:
    """Idle ones are closed in order, lent ones when they come back, and who waits gets a fault."""
    factory = _Factory()
    pool = Pool(2, factory)
    idle, lent = await pool.acquire(), await pool.acquire()
    task = asyncio.create_task(pool.acquire())
    await _turns()
    task.cancel()
    await asyncio.wait({task})
    pool.give_back(idle)
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await _turns()

    await pool.close()
    pool.give_back(lent)

    assert waiting[0].result() is idle
    with pytest.raises(EffectFault, match="closed"):
        await waiting[1]
    with pytest.raises(EffectFault, match="closed"):
        await pool.acquire()
    assert factory.made[1].closed == "now"
    pool.give_back(idle)
    assert pool.open_connections == 0


async def test_held_survives_a_cancellation() -> None:
    """The coroutine stays where it waits, and goes on when it is awaited again."""
    gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    steps: list[str] = []

    async def inner() -> int:
        steps.append("began")
        try:
            number = await gate
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise
        await asyncio.sleep(0)
        steps.append("ended")
        return number

    held = Held(inner())

    async def outer() -> int:
        return await held

    task = asyncio.create_task(outer())
    await _turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["began"]
    gate.set_result(7)

    assert await held == 7
    assert steps == ["began", "ended"]


async def test_held_passes_results_and_exceptions() -> None:
    """It changes nothing but where a cancellation ends."""

    async def fails() -> None:
        await asyncio.sleep(0.001)
        raise KeyError(1)

    async def gives() -> str:
        return "x"

    assert await Held(gives()) == "x"
    with pytest.raises(KeyError):
        await Held(fails())
