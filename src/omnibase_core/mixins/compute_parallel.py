"""Chunks on workers: in this thread, on threads, in processes, or on a cluster. Every item once, results in order.

Workers pull: each takes the next chunk when it is done with one, so at most one chunk a worker is on its way. The work
(the function and what it holds) is sent once to each process, a chunk is sent once. No worker outlives the call.

When chunks fail, the first of them in the order of the items is reported, as a single worker would: chunks are begun in
order, and those begun are finished first. When the call is cancelled, processes are killed at once; a thread cannot be
stopped, so the call waits for the chunks that threads are at. A cluster is an executor that somebody brings
(`concurrent.futures.Executor`, which Dask, Ray, MPI and others have): it is given a few chunks at a time, each with the
work; a call that ends early takes back what it has not begun.
"""

import asyncio
import contextvars
import functools
import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Final, Generic, Literal, Protocol, TypeVar

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.mixins.chunk_worker import Failed, Outcome, Work, run_chunk, serve
from omnibase_core.mixins.purity_guard import PurityError
from omnibase_core.utils.algorithms import ItemFault
from omnibase_core.utils.chunking import CHUNKS_PER_WORKER, Chunk, chunk_at, chunk_ranges

R = TypeVar("R")
Backend = Literal["serial", "threads", "processes", "cluster"]
OnProgress = Callable[[int, int], None]
"""Called on the event loop with the number of items that are done, and of all."""
_START_SECONDS: Final = 60.0
_IMPORTED: Final = ("omnibase_core.mixins.pipeline_items", "omnibase_core.nodes")
"""What workers of pipelines import, and what the main module of a program mostly does: a third of a second each."""
_INLINE_ITEMS: Final = 1000
"""So few items of a serial computation are not worth a thread, and hold the event loop for a moment only."""


_DEATH: Final = (
    "the worker process died: the work crashed it, it was killed for want of memory, or the program's main module "
    'starts work when it is imported (put that under `if __name__ == "__main__":`)'
)


class ChunksTimedOutError(TimeoutError):
    """The workers were stopped at the limit of a call."""


class ProcessLike(Protocol):
    """What is needed of a `multiprocessing` process."""

    @property
    def exitcode(self) -> int | None: ...

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def close(self) -> None: ...


async def run_chunks(
    work: Work[R],
    items: Sequence[object],
    *,
    workers: int = 1,
    backend: Backend = "serial",
    chunk_size: int | None = None,
    on_progress: OnProgress | None = None,
    cluster: Callable[[], Executor] | None = None,
    limit_seconds: float | None = None,
) -> list[R]:
    """The partial results of all chunks, in the order of the items; none for no items.

    cluster: makes the executor of the backend `cluster`; it is shut down when the call ends. limit_seconds: for the
    whole call, from the moment in which a worker is ready, because starting a process takes longer than most work.

    Raises ChunksTimedOutError at the limit; ModelOnexError naming the chunk and its first failing item:
    VALIDATION_ERROR for an item that does not fit, CONFIGURATION_ERROR for work that cannot be sent to a process,
    RESOURCE_UNAVAILABLE when a process dies or none starts, else OPERATION_FAILED with the cause. What `on_progress`
    raises ends the call.
    """
    if backend == "serial":
        workers = 1
    places = chunk_ranges(len(items), workers, chunk_size)
    run = _Run(work, items, places)
    if not places:
        return []
    if limit_seconds is None:
        return await _carry_out(run, workers, backend, on_progress, cluster, None)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_START_SECONDS) as limit:
            waiting = True

            def ready() -> None:
                nonlocal waiting
                if waiting and not limit.expired():
                    waiting, run.ready = False, True
                    limit.reschedule(loop.time() + limit_seconds)

            try:
                return await _carry_out(run, workers, backend, on_progress, cluster, ready)
            finally:
                waiting = False
    except TimeoutError:
        if not limit.expired():
            raise
        if run.ready:
            raise ChunksTimedOutError from None
        raise ModelOnexError(
            f"{work.name}: no worker process was ready within {_START_SECONDS:.0f} seconds; what the program's main "
            "module does when it is imported, each worker does",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        ) from None


async def _carry_out(
    run: "_Run[R]",
    workers: int,
    backend: Backend,
    on_progress: OnProgress | None,
    cluster: Callable[[], Executor] | None,
    ready: Callable[[], None] | None,
) -> list[R]:
    """ready: called once or more on the loop, as soon as a worker can begin."""
    work = run.work
    if ready is not None and backend != "processes":
        ready()
    if backend == "serial" and run.size <= _INLINE_ITEMS:
        for number in iter(run.take, None):
            run.note(number, run_chunk(work, run.chunk(number)))
            if on_progress is not None:
                on_progress(run.items_done, run.size)
            await asyncio.sleep(0)
        return run.results()
    if backend == "cluster":
        await _on_cluster(run, cluster, workers * CHUNKS_PER_WORKER, on_progress)
        return run.results()
    packed = _packed(work) if backend == "processes" else None
    await _on_threads(run, min(workers, run.chunks), packed, on_progress, ready)
    return run.results()


class _Run(Generic[R]):
    """Which chunks are begun, and what became of them. For any thread."""

    def __init__(self, work: Work[R], items: Sequence[object], places: list[range]) -> None:
        self.work = work
        self.items_done = 0
        self.ready = False
        """Whether a worker could begin."""
        self.stopped = False
        self.size = len(items)
        self.chunks = len(places)
        self._items = items
        self._places = places
        self._next = 0
        self._outcomes: dict[int, Outcome[R]] = {}
        self._lock = threading.Lock()
        self._processes: set[ProcessLike] = set()

    def take(self) -> int | None:
        """The next chunk to begin; None when there is none, or nothing more shall be begun."""
        with self._lock:
            if self.stopped or self._next == len(self._places):
                return None
            self._next += 1
            return self._next - 1

    def chunk(self, number: int) -> Chunk:
        return chunk_at(self._items, self._places[number], number)

    def note(self, number: int, outcome: "Outcome[R]") -> None:
        with self._lock:
            self._outcomes[number] = outcome
            if isinstance(outcome, Failed):
                self.stopped = True
            else:
                self.items_done += len(self._places[number])

    def stop(self) -> None:
        """Begin nothing more, and kill the processes."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.kill()

    def enlist(self, process: ProcessLike) -> bool:
        """Start a process that `stop` will kill; False when it is too late."""
        with self._lock:
            if self.stopped:
                return False
            process.start()
            self._processes.add(process)
            return True

    def dismiss(self, process: ProcessLike) -> None:
        with self._lock:
            self._processes.discard(process)
            process.kill()
        process.join()
        process.close()

    def results(self) -> list[R]:
        found: list[R] = []
        for number, outcome in sorted(self._outcomes.items()):
            if isinstance(outcome, Failed):
                raise chunk_error(self.work.name, number, self._places[number], outcome) from outcome.error
            found.append(outcome.result)
        return found


def chunk_error(name: str, number: int, place: range, failed: Failed) -> ModelOnexError:
    """The error of some work that failed for a chunk: it names the chunk and, if it is known, the item."""
    error = failed.error
    context: dict[str, object] = {"chunk": number, "first": place.start, "last": place.stop - 1}
    where = f"chunk {number} (items {place.start} to {place.stop - 1})"
    if failed.index is not None:
        context["item"] = place.start + failed.index
        where += f", item {place.start + failed.index}"
    code, text = EnumCoreErrorCode.OPERATION_FAILED, f"{type(error).__name__}: {error}"
    if isinstance(error, ItemFault):
        code, text = EnumCoreErrorCode.VALIDATION_ERROR, str(error)
    elif isinstance(error, ModelOnexError):
        code, text = error.error_code, error.message
        context = {**error.context, **context}
    kind = PurityError if isinstance(error, PurityError) else ModelOnexError
    return kind(f"{name}: {where}: {text}", code, context)


async def _on_threads(
    run: _Run[R],
    count: int,
    packed: bytes | None,
    on_progress: OnProgress | None,
    ready: Callable[[], None] | None,
) -> None:
    """A thread a worker; with `packed` work each has a process. Returns when all have ended, however it comes."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[None] = asyncio.Queue()

    def tell() -> None:
        loop.call_soon_threadsafe(news.put_nowait, None)

    def begun() -> None:
        if ready is not None:
            loop.call_soon_threadsafe(ready)

    def drive() -> None:
        if packed is not None:
            _drive_process(run, packed, tell, begun)
            return
        for number in iter(run.take, None):
            run.note(number, run_chunk(run.work, run.chunk(number)))
            tell()

    with ThreadPoolExecutor(count, "onex-compute") as pool:
        threads = [loop.run_in_executor(pool, contextvars.copy_context().run, drive) for _ in range(count)]
        for thread in threads:
            thread.add_done_callback(lambda _: news.put_nowait(None))
        try:
            reported = 0
            while not all(thread.done() for thread in threads):
                await news.get()
                if on_progress is not None and run.items_done > reported:
                    reported = run.items_done
                    on_progress(reported, run.size)
        finally:
            run.stop()
            await _ended(threads)
    for thread in threads:
        thread.result()


async def _on_cluster(
    run: _Run[R], make: Callable[[], Executor] | None, most: int, on_progress: OnProgress | None
) -> None:
    """At most `most` chunks are with the executor at a time."""
    if make is None:
        raise ModelOnexError(
            f"{run.work.name}: the backend cluster needs an executor, and none was brought; set compute_cluster to "
            "'module:function', or choose the backend processes",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        )
    executor = await asyncio.to_thread(make)
    waiting: dict[asyncio.Future[Outcome[R]], int] = {}
    finished = False
    try:
        while True:
            while len(waiting) < most and (number := run.take()) is not None:
                submitted = executor.submit(run_chunk, run.work, run.chunk(number))
                waiting[asyncio.wrap_future(submitted)] = number
            if not waiting:
                break
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                run.note(waiting.pop(future), _from_cluster(future))
            if on_progress is not None and not run.stopped:
                on_progress(run.items_done, run.size)
        finished = True
    finally:
        run.stop()
        for future in waiting:
            future.cancel()
        await asyncio.to_thread(executor.shutdown, wait=finished)


def _from_cluster(future: "asyncio.Future[Outcome[R]]") -> "Outcome[R]":
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001  # whatever the engine raises, the chunk is not done
        failed = ModelOnexError(
            f"the executor of the cluster failed ({type(error).__name__}: {error})",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        )
        failed.__cause__ = error
        return Failed(failed, None)


async def _ended(threads: "Sequence[asyncio.Future[None]]") -> None:
    """Wait for all, also when cancelled meanwhile; then the cancellation counts."""
    cancelled = False
    while any(not thread.done() for thread in threads):
        try:
            await asyncio.wait(threads)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _drive_process(run: _Run[R], packed: bytes, tell: Callable[[], None], begun: Callable[[], None]) -> None:
    with _process(run) as (connection, process):
        if connection is None:
            return
        number: int | None = None
        try:
            connection.send_bytes(packed)
            started: Outcome[None] = connection.recv()
            if isinstance(started, Failed):
                raise _unusable(run.work.name, started.error)
            begun()
            while (number := run.take()) is not None:
                connection.send_bytes(_packed_chunk(run.work.name, run.chunk(number)))
                outcome: Outcome[R] = connection.recv()
                run.note(number, outcome)
                tell()
        except (EOFError, OSError):
            _note(run, number, _death(process))
        except ModelOnexError as error:
            _note(run, number, error)


def _death(process: ProcessLike) -> ModelOnexError:
    process.join(1.0)
    if process.exitcode == -getattr(signal, "SIGALRM", 0):
        return ModelOnexError("a step went on behind its limit, and was killed", EnumCoreErrorCode.TIMEOUT)
    return ModelOnexError(_DEATH, EnumCoreErrorCode.RESOURCE_UNAVAILABLE)


def _note(run: _Run[R], number: int | None, error: ModelOnexError) -> None:
    number = run.take() if number is None else number
    if number is not None:
        run.note(number, Failed(error, None))


@functools.cache
def _context() -> SpawnContext | ForkServerContext:
    """Workers are forked from a small server, which has imported what they need and has no threads that a fork would
    break. It starts with the first of them and ends with this process. Where there is none, each worker starts anew,
    which takes a tenth of a second.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", serve.__module__, *_IMPORTED])
    return context


@contextmanager
def _process(run: _Run[R]) -> Iterator["tuple[Connection | None, ProcessLike]"]:
    context = _context()
    ours, theirs = context.Pipe()
    with ours:
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        try:
            enlisted = run.enlist(process)
        finally:
            theirs.close()
        if not enlisted:
            yield None, process
            return
        try:
            yield ours, process
        finally:
            run.dismiss(process)


def _packed(work: Work[R]) -> bytes:
    try:
        return pickle.dumps(work)
    except Exception as error:
        raise _unusable(work.name, error) from error


def _packed_chunk(name: str, chunk: Chunk) -> bytes:
    try:
        return pickle.dumps(chunk)
    except Exception as error:
        raise ModelOnexError(
            f"{name}: the items cannot be sent to a worker process ({type(error).__name__}: {error}); "
            "choose the backend threads or serial",
            EnumCoreErrorCode.VALIDATION_ERROR,
        ) from error


def _unusable(name: str, error: Exception) -> ModelOnexError:
    return ModelOnexError(
        f"{name} cannot be sent to a worker process ({type(error).__name__}: {error}); define it at the top of a "
        "module that can be imported, or choose the backend threads or serial",
        EnumCoreErrorCode.CONFIGURATION_ERROR,
    )
