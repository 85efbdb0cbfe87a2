"""What a pure computation may not do, and what it may."""

import _thread
import asyncio
import contextlib
import contextvars
import datetime as dt
import gc
import io
import os
import queue
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import randint
from time import monotonic as renamed
from types import BuiltinFunctionType
from typing import cast

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.mixins import purity_guard
from omnibase_core.mixins.purity_guard import PurityError, PurityGuard, pure
from omnibase_core.models.container.model_onex_container import ModelONEXContainer


def _socket() -> None:
    with socket.socket():
        pass


CONTAINER = ModelONEXContainer()
CONTAINER.register_service("ProtocolClock", object())
OPEN = io.FileIO(os.devnull, "r+")
POOL = ThreadPoolExecutor(1)
POOL.submit(int).result()


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    """What stands above is not left open."""
    yield
    OPEN.close()
    POOL.shutdown()


IMPURE: list[tuple[str, Callable[[], object]]] = [
    ("open", lambda: Path(__file__).read_bytes()),
    ("open", lambda: os.open(__file__, os.O_RDONLY)),
    ("os.listdir", lambda: os.listdir("/")),
    ("os.remove", lambda: os.remove("/nonexistent/file")),
    ("socket", _socket),
    ("subprocess.Popen", lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
    ("start_new_thread", lambda: threading.Thread(target=print).start()),
    ("time", time.time),
    ("perf_counter_ns", time.perf_counter_ns),
    ("monotonic", renamed),
    ("localtime", lambda: time.localtime(0)),
    ("sleep", lambda: time.sleep(0)),
    ("gmtime", time.gmtime),
    ("ctime", lambda: time.ctime(0)),
    ("asctime", time.asctime),
    ("strftime", lambda: time.strftime("%H")),
    ("times", os.times),
    ("stat", lambda: Path("/etc").exists()),
    ("stat", lambda: os.path.exists("/etc")),
    ("lstat", lambda: os.lstat("/")),
    ("access", lambda: os.access("/", os.R_OK)),
    ("readlink", lambda: os.readlink("/proc/self/exe")),
    ("getcwd", Path.cwd),
    ("write", lambda: os.write(1, b"written")),
    ("write", lambda: OPEN.write(b"written")),
    ("read", OPEN.read),
    ("print", lambda: print("printed", end="")),
    ("print", lambda: print(*["printed"])),
    ("put", lambda: POOL.submit(time.time)),
    ("get_service 'ProtocolClock'", lambda: CONTAINER.get_service("ProtocolClock")),
    ("get_service 'ProtocolClock'", lambda: CONTAINER.get_service_optional("ProtocolClock")),
    ("now", lambda: dt.datetime.now(dt.UTC)),
    ("today", dt.date.today),
    ("random", random.random),
    ("getrandbits", lambda: randint(1, 6)),
    ("random", lambda: random.shuffle([1, 2, 3])),
    ("seed", random.Random),
    ("urandom", lambda: os.urandom(4)),
    ("urandom", lambda: secrets.token_bytes(4)),
    ("urandom", uuid.uuid4),
    ("uuid", uuid.uuid1),
]


@pytest.mark.parametrize(("how", "computation"), IMPURE, ids=lambda each: each if isinstance(each, str) else "")
def test_io_clock_and_randomness_fail_the_computation(how: str, computation: Callable[[], object]) -> None:
    """PurityError says what was touched, and nothing was done."""
    with pytest.raises(PurityError, match="has to be pure, but touched") as caught, PurityGuard("the test"):
        computation()

    assert caught.value.error_code is EnumCoreErrorCode.OPERATION_FAILED
    if how != "uuid":
        assert how in str(caught.value.context["impure"]) or "random" in how


def test_a_pure_computation_is_left_alone() -> None:
    """A seeded generator, given times, arithmetic, text, streams in memory and late imports are pure."""
    sys.modules.pop("colorsys", None)
    with PurityGuard():
        import colorsys

        seeded = random.Random(42)
        first = [seeded.random(), seeded.randint(1, 6)]
        then = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=1)
        text = then.isoformat() + str(sorted({3, 1})) + str(uuid.uuid5(uuid.NAMESPACE_DNS, "x"))
        seeded.seed(42)
        given = time.strftime("%H", time.gmtime(0)) + time.asctime(time.gmtime(*[0]))
        memory = io.StringIO()
        given_file: dict[str, io.StringIO] = {"file": memory}
        raw = io.TextIOWrapper(io.BytesIO())
        print("a", end="b", file=memory)
        print("c", **given_file)  # type: ignore[call-overload]  # mypy takes them for any keywords
        raw.write(memory.getvalue())
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        waiting.put(1)

        assert given == "00Thu Jan  1 00:00:00 1970"
        assert memory.getvalue() == "abc\n"
        assert [seeded.random(), seeded.randint(1, 6)] == first
        assert text.startswith("2026-01-02")
        assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)


def test_what_is_swallowed_fails_at_the_end() -> None:
    """The first violation counts."""
    with pytest.raises(PurityError, match="the clock"), PurityGuard():
        with contextlib.suppress(ModelOnexError):
            time.time()


def test_an_error_of_its_own_is_the_cause() -> None:
    """When the computation turned the violation into something else."""
    with pytest.raises(PurityError) as caught, PurityGuard():
        try:
            time.time()
        except ModelOnexError:
            raise ValueError("mine") from None

    assert isinstance(caught.value.__cause__, ValueError)


def test_a_plain_error_passes() -> None:
    """As it is."""
    with pytest.raises(ZeroDivisionError), PurityGuard():
        print(1 / 0)


def test_guards_end_and_nest() -> None:
    """Outside everything is allowed again, and a profiler that was there is back."""
    seen: list[str] = []

    def profiler(_frame: object, event: str, _arg: object) -> None:
        seen.append(event)

    sys.setprofile(profiler)
    try:
        with PurityGuard() as outer:
            with pytest.raises(PurityError), PurityGuard():
                time.time()
            with pytest.raises(PurityError):
                time.monotonic()
            outer.violation = None
        back = sys.getprofile()
    finally:
        sys.setprofile(None)

    assert back is profiler
    assert time.time() > 0
    assert Path(__file__).exists()


def test_guards_may_end_in_any_order() -> None:
    """As those of tasks do: the one that is left still guards, and the last puts the profiler back."""
    first, second = PurityGuard("first"), PurityGuard("second")
    one, other = contextvars.copy_context(), contextvars.copy_context()
    profiler = sys.getprofile()

    one.run(first.__enter__)
    other.run(second.__enter__)
    one.run(first.__exit__, None, None, None)

    with pytest.raises(PurityError, match="second has to be pure"):
        other.run(lambda: time.time() > 0)
    with pytest.raises(PurityError, match="second has to be pure"):
        other.run(second.__exit__, None, None, None)
    assert sys.getprofile() is profiler


def test_the_decorator_guards_each_call() -> None:
    """Also after one that failed."""

    @pure
    def stamped(*, really: bool) -> float:
        """Documented."""
        return time.time() if really else 0.0

    with pytest.raises(PurityError, match=r"stamped has to be pure"):
        stamped(really=True)
    assert stamped(really=False) == 0.0
    assert stamped.__doc__ == "Documented."


async def test_the_decorator_guards_a_coroutine_and_no_other_task() -> None:
    """Another task may look at the clock meanwhile."""
    inside, outside = asyncio.Event(), asyncio.Event()

    @pure
    async def computed(*, really: bool) -> float:
        inside.set()
        await outside.wait()
        return time.time() if really else 1.0

    async def other() -> float:
        await inside.wait()
        seen = time.time()
        outside.set()
        return seen

    value, seen = await asyncio.gather(computed(really=False), other())
    assert value == 1.0
    assert seen > 0
    with pytest.raises(PurityError):
        await computed(really=True)


def test_another_thread_is_not_judged() -> None:
    """A guard counts for its context."""
    go, done = threading.Event(), threading.Event()
    seen: list[float] = []

    def work() -> None:
        go.wait(5)
        seen.append(time.time())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with PurityGuard():
        go.set()
        done.wait()
    thread.join()

    assert seen


def _seed_anew(a: object) -> str | None:  # named as in `random`, whose frame tells what the seed is
    return purity_guard._touched(
        cast("BuiltinFunctionType", super(random.Random, random.Random(1)).seed), sys._getframe()
    )


@pytest.mark.parametrize(
    ("called", "touched"),
    [
        (time.time, "the clock"),
        (time.sleep, "the clock"),
        (dt.datetime.now, "the clock"),
        (dt.date.today, "the clock"),
        (os.urandom, "randomness"),
        (_thread.start_new_thread, "threads"),
        (random.random, "randomness"),
        (random.Random(1).random, None),
        ([].append, None),
    ],
)
def test_what_the_profile_function_makes_of_a_call(called: Callable[..., object], touched: str | None) -> None:
    """Called here as the interpreter calls it, because that shows to no coverage."""
    guard = PurityGuard("x")
    token = purity_guard._guard.set(guard)
    try:
        if touched is None:
            purity_guard._profile(sys._getframe(), "c_call", called)
        else:
            with pytest.raises(PurityError, match=f"x has to be pure, but touched {touched}"):
                purity_guard._profile(sys._getframe(), "c_call", called)
        purity_guard._profile(sys._getframe(), "call", None)
    finally:
        purity_guard._guard.reset(token)

    assert (guard.violation is None) == (touched is None)
    purity_guard._profile(sys._getframe(), "c_call", called)  # no guard, no judgement


def test_a_generator_may_be_seeded_with_something_only() -> None:
    """None means the system's randomness. Other classes may have methods of such names."""
    assert _seed_anew(None) == "randomness"
    assert _seed_anew(5) is None


def test_what_the_audit_hook_makes_of_an_event() -> None:
    """The same for audit events; those of no interest pass."""
    token = purity_guard._guard.set(PurityGuard("x"))
    try:
        with pytest.raises(PurityError, match=r"touched a file \(open '/a'\)"):
            purity_guard._audit("open", ("/a", "r", 0))
        with pytest.raises(PurityError, match=r"touched a socket \(socket.connect\)"):
            purity_guard._audit("socket.connect", ())
        purity_guard._audit("compile", ())
    finally:
        purity_guard._guard.reset(token)
    purity_guard._audit("open", ("/a", "r", 0))


def test_what_the_garbage_collector_runs_is_not_judged() -> None:
    """Finalisers and callbacks of others come whenever it likes; behind it the computation is judged again."""
    seen: list[str] = []

    class Timed:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append(f"finaliser {time.time() > 0}")

    def clocked(phase: str, _info: object) -> None:
        seen.append(f"{phase} {time.time() > 0}")

    gc.callbacks.append(clocked)
    try:
        Timed()
        with PurityGuard() as guard:
            gc.collect()
        assert guard.violation is None
        with pytest.raises(PurityError, match="the clock"), PurityGuard():
            time.time()
    finally:
        gc.callbacks.remove(clocked)

    assert {"start True", "finaliser True", "stop True"} <= set(seen)
