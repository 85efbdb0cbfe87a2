"""Runs a function in a forked child and stops it at each of its system calls: ptrace through ctypes, no tool, no root.

Linux only. The calling process must have a single thread, because it forks.
"""

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

_TRACEME, _GETREGS, _SETREGS, _SYSCALL, _SETOPTIONS = 0, 12, 13, 24, 0x4200
_SYSGOOD, _EXITKILL = 1, 0x100000
CAN_INJECT = platform.machine() == "x86_64"
"""Registers, and so the numbers and results of system calls, are those of this machine only."""

# Calls that touch files, as the x86_64 kernel numbers them.
FILE_CALLS = {
    0: "read",
    1: "write",
    3: "close",
    5: "fstat",
    73: "flock",
    74: "fsync",
    77: "ftruncate",
    82: "rename",
    91: "fchmod",
    93: "fchown",
    257: "openat",
    258: "mkdirat",
    262: "newfstatat",
    263: "unlinkat",
    264: "renameat",
    265: "linkat",
    280: "utimensat",
    316: "renameat2",
    332: "statx",
}


_REGISTERS = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss".split()  # noqa: SIM905  # in the order of the kernel
_REGISTERS += "fs_base gs_base ds es fs gs".split()  # noqa: SIM905  # in the order of the kernel


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in _REGISTERS]


@dataclass
class Ending:
    """How a child ended. stops: system calls (entries and exits) seen. injected: the call that was made to fail."""

    killed: bool
    stops: int
    injected: str = ""


def _ptrace(request: int, pid: int, address: int = 0, data: object = None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    result = libc.ptrace(request, pid, address, data)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")
    return int(result)


def permitted() -> str:
    """Why processes cannot be traced here; empty if they can."""
    if sys.platform != "linux":
        return f"ptrace is not available on {sys.platform}"
    try:
        ending = run_traced(lambda: None, kill_at=1 << 30)
    except OSError as error:
        return str(error)
    return "" if not ending.killed else "the traced child did not end by itself"


def run_traced(work: Callable[[], None], *, kill_at: int = 0, fail_at: int = 0, error: int = 0) -> Ending:
    """Run `work` in a child; kill it at its `kill_at`-th stop (1-based), or make its `fail_at`-th file call fail."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        raise OSError(1, "ptrace: the child could not ask to be traced")
    _ptrace(_SETOPTIONS, pid, 0, _SYSGOOD | _EXITKILL)
    stops, file_calls, entering, injecting, injected = 0, 0, True, False, ""
    while True:
        _ptrace(_SYSCALL, pid)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return Ending(killed=os.WIFSIGNALED(status), stops=stops, injected=injected)
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            continue  # a signal of the child's own: it is of no interest here
        stops += 1
        if stops == kill_at:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Ending(killed=True, stops=stops)
        if fail_at:
            registers = _Registers()
            if entering or injecting:
                _ptrace(_GETREGS, pid, 0, ctypes.addressof(registers))
            if entering and registers.orig_rax in FILE_CALLS:
                file_calls += 1
                if file_calls == fail_at:
                    injected = FILE_CALLS[registers.orig_rax]
                    injecting = True
                    registers.orig_rax = ctypes.c_ulonglong(-1).value  # no such call: the kernel does nothing
                    _ptrace(_SETREGS, pid, 0, ctypes.addressof(registers))
            elif injecting and not entering:
                registers.rax = ctypes.c_ulonglong(-error).value
                _ptrace(_SETREGS, pid, 0, ctypes.addressof(registers))
                injecting = False
        entering = not entering


def run_until_event(work: Callable[[], None], *, kill_at: int) -> Ending:
    """Without ptrace: run `work` in a child that kills itself at its `kill_at`-th audit event (open, rename...)."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(event: str, _: tuple[object, ...]) -> None:
            nonlocal seen
            if event.startswith(("os.", "open", "fcntl.")):
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.addaudithook(count)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return Ending(killed=os.WIFSIGNALED(status), stops=kill_at)
