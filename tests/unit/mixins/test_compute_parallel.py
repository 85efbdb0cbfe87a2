"""Chunks on workers: every item once, in order, with failures that name the item, and nothing left behind."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.mixins import chunk_worker, compute_parallel
from omnibase_core.mixins.chunk_worker import Done, Failed, Work, run_chunk, serve
from omnibase_core.mixins.compute_parallel import Backend, ChunksTimedOutError, run_chunks
from omnibase_core.mixins.purity_guard import PurityError
from omnibase_core.utils.algorithms import Sum
from omnibase_core.utils.chunking import Chunk
from tests.support import compute_workers as functions

BACKENDS: list[Backend] = ["serial", "threads", "processes"]


@pytest.fixture(autouse=True)
def nothing_stays() -> object:
    yield
    assert multiprocessing.active_children() == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onex-compute")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("length", "workers"), [(0, 3), (1, 3), (2, 3), (50, 3), (1003, 2)])
async def test_every_item_once_and_in_order(backend: Backend, length: int, workers: int) -> None:
    """Also with fewer items than workers."""
    items = list(range(length))

    results = await run_chunks(Work(functions.numbered, "w"), items, workers=workers, backend=backend)

    assert [item for _, _, chunk in results for item in chunk] == items
    assert [number for number, _, _ in results] == list(range(len(results)))
    assert [start for _, start, _ in results] == [chunk[0] for _, _, chunk in results]


async def test_every_length_on_threads() -> None:
    """0 to 40 items, 1 to 16 workers."""
    for workers in range(1, 17):
        for length in range(0, 41, 3):
            results = await run_chunks(
                Work(functions.numbered, "w"), list(range(length)), workers=workers, backend="threads"
            )
            assert [item for _, _, chunk in results for item in chunk] == list(range(length))


async def test_processes_are_other_processes_and_no_more_than_asked_for() -> None:
    """Nor more than there are chunks."""
    work = Work(functions.process_id, "w")

    ids = await run_chunks(work, list(range(20)), workers=2, backend="processes")
    assert os.getpid() not in ids
    assert len(set(ids)) <= 2
    assert len(await run_chunks(work, [1], workers=9, backend="processes")) == 1


async def test_a_limit_counts_from_when_a_worker_is_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process takes its time to start; what it does then is held to the limit."""
    enlist = compute_parallel._Run.enlist

    def slowly(run: compute_parallel._Run[object], process: compute_parallel.ProcessLike) -> bool:
        time.sleep(0.7)  # in a worker's thread
        return enlist(run, process)

    monkeypatch.setattr(compute_parallel._Run, "enlist", slowly)

    found = await run_chunks(Work(functions.process_id, "w"), [1, 2], backend="processes", limit_seconds=0.6)
    assert len(found) == 2
    with pytest.raises(ChunksTimedOutError):
        await run_chunks(Work(functions.hangs, "w"), [str(tmp_path)], backend="processes", limit_seconds=0.3)


async def test_work_is_sent_once_to_a_worker() -> None:
    """However many chunks it gets: here it is pickled once in all."""
    counting = functions.Counting()

    results = await run_chunks(Work(counting, "w"), list(range(40)), workers=2, backend="processes", chunk_size=1)

    assert results == [1] * 40
    assert counting.pickled == 1


@pytest.mark.parametrize("backend", BACKENDS)
async def test_progress_counts_items(backend: Backend) -> None:
    """It grows up to all, on the event loop's thread."""
    heard: list[tuple[int, int]] = []
    threads: set[int] = set()

    def on_progress(done: int, size: int) -> None:
        heard.append((done, size))
        threads.add(threading.get_ident())

    await run_chunks(
        Work(functions.numbered, "w"),
        list(range(30)),
        workers=2,
        backend=backend,
        chunk_size=5,
        on_progress=on_progress,
    )

    assert heard[-1] == (30, 30)
    assert heard == sorted(set(heard))
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_failure_names_chunk_and_item(backend: Backend) -> None:
    """And has the cause."""
    work = Work(functions.refuses_seven, "algorithm 'x'")

    with pytest.raises(
        ModelOnexError, match=r"^algorithm 'x': chunk 1 \(items 5 to 9\), item 7: LookupError: seven$"
    ) as caught:
        await run_chunks(work, list(range(20)), workers=2, backend=backend, chunk_size=5)

    assert caught.value.error_code is EnumCoreErrorCode.OPERATION_FAILED
    assert caught.value.context == {"chunk": 1, "first": 5, "last": 9, "item": 7}
    assert isinstance(caught.value.__cause__, LookupError)


async def test_a_failure_of_several_items_together_names_the_chunk() -> None:
    """When no item fails by itself."""
    with pytest.raises(ModelOnexError, match=r"chunk 0 \(items 0 to 2\): LookupError: too many"):
        await run_chunks(Work(functions.refuses_long_chunks, "w"), [1, 2, 3], chunk_size=3)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_an_item_that_does_not_fit_is_a_validation_error(backend: Backend) -> None:
    """With its place among all items."""
    with pytest.raises(ModelOnexError, match=r"item 5: expected a number, found str") as caught:
        await run_chunks(Work(Sum().process_chunk, "w"), [1, 2, 3, 4, 5, "6"], workers=2, backend=backend, chunk_size=2)

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


async def test_of_several_failures_the_first_in_order_is_told() -> None:
    """Even when a later one happened sooner."""
    functions.RELEASE.clear()

    with pytest.raises(ModelOnexError, match="item 0: LookupError: zero"):
        await run_chunks(
            Work(functions.refuses_nine_and_is_slow_before, "w"), [0, 9, 5], workers=2, backend="threads", chunk_size=1
        )


async def test_a_worker_that_dies_is_told() -> None:
    """RESOURCE_UNAVAILABLE with the chunk that it was at."""
    with pytest.raises(ModelOnexError, match=r"chunk 3 \(items 3 to 3\): the worker process died") as caught:
        await run_chunks(Work(functions.dies, "w"), list(range(8)), workers=1, backend="processes", chunk_size=1)

    assert caught.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE


async def test_work_that_cannot_be_sent_is_told() -> None:
    """CONFIGURATION_ERROR, whether it fails here or there."""
    for function in (lambda chunk: chunk, functions.Unloadable()):
        with pytest.raises(ModelOnexError, match="cannot be sent to a worker process") as caught:
            await run_chunks(Work(function, "w"), [1], backend="processes")
        assert caught.value.error_code is EnumCoreErrorCode.CONFIGURATION_ERROR


async def test_items_that_cannot_be_sent_are_told() -> None:
    """VALIDATION_ERROR."""
    with pytest.raises(ModelOnexError, match="the items cannot be sent to a worker process") as caught:
        await run_chunks(Work(functions.numbered, "w"), [threading.Lock()], backend="processes")

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (functions.lock, "the result of the chunk cannot be sent from the worker"),
        (functions.raises_stubborn, "StubbornError: this and that"),
    ],
)
async def test_what_cannot_be_sent_back_is_told_in_words(function: Callable[[Chunk], object], told: str) -> None:
    """A result or an exception."""
    with pytest.raises(ModelOnexError, match=told):
        await run_chunks(Work(function, "w"), [1], backend="processes")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_purity_is_enforced_on_the_worker(backend: Backend) -> None:
    """Wherever the worker is."""
    with pytest.raises(PurityError, match=r"w: chunk 0 .* touched the clock"):
        await run_chunks(Work(functions.clock, "w", enforce_purity=True), [1], backend=backend)
    assert await run_chunks(Work(functions.clock, "w"), [1], backend=backend)


async def _files_in(directory: Path, count: int) -> list[int]:
    while len(found := list(directory.iterdir())) < count:  # noqa: ASYNC110  # other processes make them
        await asyncio.sleep(0.005)
    return [int(each.name) for each in found]


async def _gone(ids: list[int]) -> None:
    while any(psutil.pid_exists(each) for each in ids):  # noqa: ASYNC110  # the killed are reaped by another process
        await asyncio.sleep(0.005)


async def test_loading_the_work_does_not_count() -> None:
    """A worker is ready when it has what it works with."""
    slow = Work(functions.SlowToArrive(1.2), "w")

    assert await run_chunks(slow, [0], backend="processes", limit_seconds=1.0) == [1]


async def test_workers_that_do_not_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a limit; it is no fault of the work."""
    monkeypatch.setattr(compute_parallel, "_START_SECONDS", 0.1)
    slow = Work(functions.SlowToArrive(60), "w")

    with pytest.raises(ModelOnexError, match="w: no worker process was ready within") as caught:
        await run_chunks(slow, [0], backend="processes", limit_seconds=1.0)

    assert caught.value.error_code is EnumCoreErrorCode.RESOURCE_UNAVAILABLE


async def test_cancellation_kills_processes(tmp_path: Path) -> None:
    """Also those that would never end."""
    running = asyncio.create_task(
        run_chunks(Work(functions.hangs, "w"), [str(tmp_path)] * 2, workers=2, backend="processes", chunk_size=1)
    )
    ids = await asyncio.wait_for(_files_in(tmp_path, 2), 10)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await asyncio.wait_for(_gone(ids), 10)


async def test_cancellation_waits_for_what_threads_are_at() -> None:
    """Nothing more is begun; a second cancellation does not leave threads behind either."""
    begun, release = threading.Event(), threading.Event()
    chunks: list[int] = []

    def held(chunk: Chunk) -> int:
        chunks.append(chunk.number)
        begun.set()
        release.wait(10)
        return 0

    running = asyncio.create_task(run_chunks(Work(held, "w"), [1, 2, 3], workers=1, backend="threads", chunk_size=1))
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert chunks == [0]


@pytest.mark.parametrize("backend", BACKENDS)
async def test_what_progress_raises_ends_the_call(backend: Backend) -> None:
    """As it is."""

    def on_progress(done: int, _size: int) -> None:
        raise InterruptedError(done)

    with pytest.raises(InterruptedError):
        await run_chunks(
            Work(functions.numbered, "w"), list(range(9)), backend=backend, chunk_size=1, on_progress=on_progress
        )


async def test_a_serial_computation_lets_others_run() -> None:
    """Few items between chunks, many on a thread."""
    for length in (900, 1500):
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await run_chunks(Work(functions.numbered, "w"), list(range(length)), chunk_size=10)
        task.cancel()

        assert turns > 1


def test_a_worker_serves_until_the_other_side_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process does, here in this one: the work, then chunks."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # only the main thread may
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        thread = threading.Thread(target=serve, args=(theirs,))
        thread.start()
        ours.send(Work(functions.refuses_seven, "w"))
        assert ours.recv() == Done(None)
        ours.send(Chunk([1, 2]))
        assert ours.recv() == Done(2)
        ours.send(Chunk([1, 7]))
        failed = ours.recv()
        assert isinstance(failed, Failed)
        assert failed.index == 1
        ours.close()
        thread.join(5)

    for sent in (b"", b"not a pickle"):
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:
            if sent:
                ours.send_bytes(sent)
                serve(theirs)
                assert isinstance(ours.recv(), Failed)
            else:
                ours.close()
                serve(theirs)


def test_what_cannot_be_packed_becomes_words() -> None:
    """In the worker, before it is sent."""
    result = chunk_worker._packed(Done(threading.Lock()))
    stubborn = chunk_worker._packed(run_chunk(Work(functions.raises_stubborn, "w"), Chunk([1])))

    assert b"cannot be sent from the worker" in result
    assert b"StubbornError: this and that" in stubborn


async def test_without_a_fork_server_each_worker_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same results."""
    compute_parallel._context.cache_clear()
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    try:
        assert await run_chunks(Work(functions.refuses_seven, "w"), [1, 2], workers=2, backend="processes") == [1, 1]
        assert compute_parallel._context().get_start_method() == "spawn"
    finally:
        compute_parallel._context.cache_clear()


@pytest.mark.parametrize(("start", "told"), [('if __name__ == "__main__":', "[3, 3]"), ("if True:", "put that under")])
def test_a_program_has_its_work_in_its_own_file(start: str, told: str, tmp_path: Path) -> None:
    """Its main module is imported by the workers; one that starts work when imported is told how to write it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from omnibase_core.mixins.chunk_worker import Work\n"
        "from omnibase_core.mixins.compute_parallel import run_chunks\n"
        "def count(chunk):\n    return len(chunk)\n"
        f"{start}\n    print(asyncio.run(run_chunks(Work(count, 'w'), list(range(6)), workers=2, backend='processes', "
        "chunk_size=3)))\n"
    )

    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=30, check=False)

    assert told in run.stdout + run.stderr
