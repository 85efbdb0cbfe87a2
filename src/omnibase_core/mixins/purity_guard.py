"""A guard over computations that must be pure: it fails one that does I/O, or reads the clock or randomness.

Two hooks of the interpreter see it. Audit events tell of files, sockets, processes and look-ups in a container. The
profile function of the thread sees each call of a built-in function, whatever name the program has for it: `time.time`,
`time.gmtime` without a time, `datetime.now`, `os.stat`, `os.urandom`, `print`, reading and writing of a file that is
open, the start of a thread or work for one, the hidden generator of `random` (one that was seeded is fine). What is
seen raises where it happens, and again when the guard is left, should the computation have swallowed it.

A guard counts for its context: other threads and tasks are not judged, and a thread cannot be started under it. It is
for development and tests, not a jail: calls are some times slower under it. It does not see calls that C code makes
(`map(time.time, ...)`, what `print` does to a `file` that it was given), arguments that say what leaving them out would
(`time.gmtime(None)`) or stand in a list (`time.gmtime(*given)`), services that were looked up before, or the
environment, with the ids of processes. Imports may read files. What the garbage collector runs is not judged: it comes
whenever it likes, with the finalisers of objects and the callbacks of libraries that the computation never knew.
"""

import functools
import gc
import inspect
import io
import random
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from datetime import date
from opcode import opname
from queue import SimpleQueue
from types import BuiltinFunctionType, FrameType, TracebackType
from typing import Final, NamedTuple, ParamSpec, Self, TypeVar, cast

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

P = ParamSpec("P")
R = TypeVar("R")
Profile = Callable[[FrameType, str, object], object]

_EVENTS: Final = {"open": "a file", "builtins.input": "the terminal"}
_NAMING_EVENTS: Final = frozenset({"open", "onex.get_service"})
_EVENT_FAMILIES: Final = {
    "socket": "a socket",
    "os": "files or processes",
    "subprocess": "a process",
    "shutil": "files",
    "tempfile": "files",
    "glob": "files",
    "pathlib": "files",
    "sqlite3": "a database",
    "urllib": "the network",
    "http": "the network",
    "ftplib": "the network",
    "smtplib": "the network",
    "imaplib": "the network",
    "poplib": "the network",
    "syslog": "the system log",
    "webbrowser": "a browser",
    "mmap": "shared memory",
    "fcntl": "a file",
    "onex": "a service",
}
_TIME: Final = frozenset(
    name + unit
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime")
    for unit in ("", "_ns")
)
_NOW: Final = frozenset({"now", "utcnow", "today"})
_SYSTEM_RANDOM: Final = frozenset({"urandom", "getrandom", "generate_time_safe"})
_GENERATOR: Final = frozenset({"random", "getrandbits"})
_CLOCK: Final = _TIME | {"localtime", "ctime", "sleep"}
_TIMES_TAKEN: Final[Mapping[str, int]] = {"gmtime": 1, "asctime": 1, "strftime": 2}
"""With so many arguments they look at no clock."""
_FILES: Final = frozenset(
    {"stat", "lstat", "fstat", "statvfs", "fstatvfs", "access", "readlink", "getcwd", "getcwdb", "mkfifo", "mknod"}
    | {"read", "readv", "pread", "preadv", "write", "writev", "pwrite", "pwritev", "copy_file_range", "sendfile"}
)
_STREAM: Final = frozenset(
    {"read", "read1", "readinto", "readinto1", "readline", "readlines", "readall", "write", "writelines"}
)
_THREADS: Final = frozenset({"start_new_thread", "start_joinable_thread"})
_NAMES: Final = frozenset().union(
    *(_CLOCK, _TIMES_TAKEN, _FILES, _STREAM, _THREADS, _NOW, _SYSTEM_RANDOM, _GENERATOR),
    {"seed", "times", "print", "put"},
)
_OUR_STEPS: Final = "omnibase_core.utils."
_POOL: Final = "concurrent.futures.thread"
_IMPORTER: Final = "<frozen importlib._bootstrap_external>"
_SHARED_GENERATOR: Final = cast("object", random.random.__self__)  # type: ignore[attr-defined]  # a bound method of it


class PurityError(ModelOnexError):
    """A computation that has to be pure was not. `context["impure"]` says what it touched."""

    default_code = EnumCoreErrorCode.OPERATION_FAILED


class _Thread(threading.local):
    """How many guards a thread is in, and the profile function that it had before the first of them.

    Those of tasks end in any order, so none of them can put back what it found.
    """

    guards: int = 0
    before: object = None

    def enter(self) -> None:
        if not self.guards:
            self.before = sys.getprofile()
        self.guards += 1
        sys.setprofile(_profile)

    def leave(self) -> None:
        self.guards -= 1
        if self.guards:
            sys.setprofile(_profile)  # the interpreter drops one that raised
            return
        sys.setprofile(cast("Profile | None", self.before))  # what getprofile gave
        self.before = None


_thread: Final = _Thread()


class PurityGuard:
    """Context manager: what runs inside must be pure.

    May be nested and used for any number of computations, one after the other. Raises PurityError.

    timed: what runs inside is run by this package, which measures its steps and holds their limits; its own looks at
    the clock do not count.
    """

    def __init__(self, name: str = "computation", *, timed: bool = False) -> None:
        self._name = name
        self._timed = timed
        self._token: Token[PurityGuard | None] | None = None
        self.violation: PurityError | None = None

    def __enter__(self) -> Self:
        _install()
        _surround_collections()
        self.violation = None
        self._token = _guard.set(self)
        _thread.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _thread.leave()
        if self._token is not None:
            _guard.reset(self._token)
        violation = self.violation
        if violation is not None and error is not violation:
            raise violation from error

    def allows(self, what: str, frame: FrameType) -> bool:
        """Whether it is our own clock."""
        return self._timed and what == "the clock" and str(frame.f_globals.get("__name__")).startswith(_OUR_STEPS)

    def blame(self, what: str, how: str) -> PurityError:
        """The error to raise; the first one is kept."""
        error = PurityError(
            f"{self._name} has to be pure, but touched {what} ({how}); pass in what it needs, or do it in an EFFECT "
            "node",
            context={"impure": how},
        )
        self.violation = self.violation or error
        return error


def pure(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: each call of a function, and of a coroutine function up to its end, runs under a guard."""
    name = getattr(function, "__qualname__", repr(function))
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
            with PurityGuard(name):
                return await function(*args, **kwargs)

        return cast("Callable[P, R]", awaited)  # R is the coroutine of what it returns

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with PurityGuard(name):
            return function(*args, **kwargs)

    return called


_guard: ContextVar[PurityGuard | None] = ContextVar("onex_purity_guard", default=None)
_installing = threading.Lock()
_installed: list[bool] = []
_collecting: Final[set[int]] = set()
"""The thread in which the garbage collector is at work."""


def _install() -> None:
    """Audit hooks stay until the process ends, so there is one, and only once a guard was wanted."""
    with _installing:
        if not _installed:
            sys.addaudithook(_audit)
            _installed.append(True)


def _surround_collections() -> None:
    """Our callbacks are the first and the last of the garbage collector's; others may have come since."""
    known = gc.callbacks
    if known and known[0] is _collection_begins and known[-1] is _collection_ends:
        return
    with _installing:
        for ours in (_collection_begins, _collection_ends):
            if ours in gc.callbacks:
                gc.callbacks.remove(ours)
        gc.callbacks.insert(0, _collection_begins)
        gc.callbacks.append(_collection_ends)


def _collection_begins(phase: str, _info: object) -> None:
    if phase == "start":
        _collecting.add(threading.get_ident())


def _collection_ends(phase: str, _info: object) -> None:
    if phase == "stop":
        _collecting.discard(threading.get_ident())


def _audit(event: str, args: tuple[object, ...], guard_of: "Callable[[], PurityGuard | None]" = _guard.get) -> None:
    guard = guard_of()  # a default: hooks outlive the names of their module when the interpreter ends
    if guard is None or threading.get_ident() in _collecting:
        return
    what = _EVENTS.get(event) or _EVENT_FAMILIES.get(event.partition(".")[0])
    if what is None or sys._getframe(1).f_code.co_filename == _IMPORTER:  # noqa: SLF001  # there is no other way to ask
        return
    raise guard.blame(what, event if event not in _NAMING_EVENTS else f"{event} {args[0]!r}")


def _profile(frame: FrameType, event: str, called: object) -> None:
    if event != "c_call" or called.__name__ not in _NAMES:  # type: ignore[attr-defined]  # c_call brings a built-in
        return
    guard = _guard.get()
    if guard is None or threading.get_ident() in _collecting:
        return
    what = _touched(cast("BuiltinFunctionType", called), frame)  # as above
    if what is not None and not guard.allows(what, frame):
        raise guard.blame(what, f"{getattr(called, '__qualname__', '?')}() at {_place(frame)}")


def _touched(called: BuiltinFunctionType, frame: FrameType) -> str | None:
    name, owner = called.__name__, called.__self__
    module = called.__module__
    if module == "time":
        return "the clock" if name in _CLOCK or _lacks_time(name, frame) else None
    if module in {"posix", "nt"} and (name in _FILES or name == "times"):
        return "the clock" if name == "times" else None if _importing(frame) else "a file"
    if name in _STREAM and isinstance(owner, io.IOBase):
        return "an open file" if _is_open_file(owner) and not _importing(frame) else None
    if name == "print" and module == "builtins":
        return "the terminal" if "file" not in _call_site(frame).keywords else None
    if name == "put" and isinstance(owner, SimpleQueue):
        return "threads" if frame.f_globals.get("__name__") == _POOL else None
    if name in _NOW and isinstance(owner, type) and issubclass(owner, date):
        return "the clock"
    if name in _SYSTEM_RANDOM and module in {"posix", "nt", "_uuid"}:
        return "randomness"
    if name in _THREADS and module == "_thread":
        return "threads"
    if isinstance(owner, random.Random):
        if name in _GENERATOR and owner is _SHARED_GENERATOR:
            return "randomness"
        if name == "seed" and frame.f_locals.get("a", owner) is None:
            return "randomness"
    return None


def _lacks_time(name: str, frame: FrameType) -> bool:
    given = _call_site(frame).arguments
    return given is not None and given < _TIMES_TAKEN.get(name, 0)


def _is_open_file(stream: io.IOBase) -> bool:
    """Not so bytes and text in memory."""
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORTER:
        frame = frame.f_back
    return frame is not None


class _CallSite(NamedTuple):
    """What the bytecode tells of the arguments of a call. arguments: None when it does not tell how many."""

    arguments: int | None
    keywords: Sequence[str] = ()


def _call_site(frame: FrameType) -> _CallSite:
    """Of the call that a frame is at: a profile function is not told the arguments."""
    code, at = frame.f_code.co_code, frame.f_lasti
    name = opname[code[at]]
    if name == "CALL_FUNCTION_EX":
        return _CallSite(None, ["file"] if code[at + 1] & 1 else [])  # a map of keywords may have any
    before = at - 2
    while opname[code[before]] in {"CACHE", "PRECALL"}:
        before -= 2
    if name != "CALL_KW" and opname[code[before]] != "KW_NAMES":
        return _CallSite(code[at + 1])
    index = code[before + 1]
    if opname[code[before - 2]] == "EXTENDED_ARG":
        index += code[before - 1] << 8
    names: Sequence[str] = frame.f_code.co_consts[index]
    return _CallSite(code[at + 1], names)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
