"""Secrets from three places, asked in order: values of the host program, files of a directory, the environment."""

import asyncio
import errno
import os
import re
import stat
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.logging.redaction import register_secret

MAX_SECRET_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SETTLED_NS: Final = 100_000_000  # a file changed within this time of being read may change again with the same stamps
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_Stamp = tuple[int, int, int, int, int]


class LayeredSecrets:
    """A `ProtocolSecretProvider`. A later place is asked only when the earlier ones have no secret of that name.

    values: given by the host program; read at each call, so the program may change the mapping.
    directory: one file per secret, the way Docker and Kubernetes mount them; None: no files. A file is read again when
    it
        changed, so that a rotated secret is seen by the next attempt. At most 64 KiB of UTF-8; one trailing newline is
        not part of the secret.
    allowed: names that may be read, as the operator's policy has them; None: all.

    Every secret that is found is registered for redaction.
    """

    __slots__ = ("_allowed", "_directory", "_environ", "_files", "_values")

    def __init__(
        self,
        values: Mapping[str, str] | None = None,
        directory: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        allowed: Collection[str] | None = None,
    ) -> None:
        self._values = {} if values is None else values
        self._directory = directory
        self._environ = {} if environ is None else environ
        self._allowed = None if allowed is None else frozenset(allowed)
        self._files: dict[str, tuple[_Stamp, str]] = {}

    async def get(self, name: str) -> str | None:
        """The secret called `name`, or None when no place has it.

        Raises EffectFault, always with the phase NOT_SENT: VALIDATION_ERROR for a name that is no name,
        SECURITY_VIOLATION for one that the policy does not allow, CONFIGURATION_ERROR for a file that cannot be a
        secret, and RESOURCE_UNAVAILABLE, with the errno's name as kind, for one that cannot be read.
        """
        if _NAME.fullmatch(name) is None:
            raise _fault(name, f"is not a name; names match {_NAME.pattern}", EnumCoreErrorCode.VALIDATION_ERROR)
        if self._allowed is not None and name not in self._allowed:
            text = f"is not among those that the policy allows, {sorted(self._allowed)}; add it to policy.secret_names"
            raise _fault(name, text, EnumCoreErrorCode.SECURITY_VIOLATION)
        value = self._values.get(name)
        if value is None and self._directory is not None:
            value = await self._from_file(name, self._directory / name)
        if value is None:
            value = self._environ.get(name)
        if value is not None:
            register_secret(value)
        return value

    async def _from_file(self, name: str, path: Path) -> str | None:
        try:
            # Not in a thread: it asks the kernel's memory, and a hop through a thread would cost every attempt 60 us.
            found = os.stat(path)  # noqa: PTH116 # a Path object costs as much again
            known = self._files.get(name)
            if known is not None and known[0] == _stamp(found):
                return known[1]
            stamp, data = await asyncio.to_thread(_read, path)
            if data is None:
                text = f"{path} is not a regular file; put the secret into one"
                raise _fault(name, text, EnumCoreErrorCode.CONFIGURATION_ERROR)
        except OSError as error:
            self._files.pop(name, None)
            if error.errno in _MISSING:
                return None
            raise _unreadable(name, path, error) from None
        return self._keep(name, path, stamp, data)

    def _keep(self, name: str, path: Path, stamp: _Stamp | None, data: bytes) -> str:
        if len(data) > MAX_SECRET_BYTES:
            text = f"{path} holds more than {MAX_SECRET_BYTES} bytes; a secret is at most that long"
            raise _fault(name, text, EnumCoreErrorCode.CONFIGURATION_ERROR)
        try:
            value = data.decode()
        except UnicodeDecodeError as error:
            text = f"{path} is not UTF-8 (at byte {error.start}); store binary secrets as base64"
            raise _fault(name, text, EnumCoreErrorCode.CONFIGURATION_ERROR) from None
        if value.endswith("\n"):
            value = value[:-2] if value.endswith("\r\n") else value[:-1]
        if stamp is not None:
            self._files[name] = (stamp, value)
        return value


def _read(path: Path) -> tuple[_Stamp | None, bytes | None]:
    """A stamp, None when it cannot vouch for the content, and the content; None when the path is no regular file.

    Reads at most one byte more than a secret may have.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold the thread
    try:
        found = os.fstat(descriptor)  # before reading: a change while reading then shows at the next call
        if not stat.S_ISREG(found.st_mode):
            return None, None
        pieces, left = [], MAX_SECRET_BYTES + 1
        while left and (piece := os.read(descriptor, left)):
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    settled = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS
    return (_stamp(found) if settled else None), b"".join(pieces)


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _unreadable(name: str, path: Path, error: OSError) -> EffectFault:
    kind = errno.errorcode.get(error.errno or 0, "EIO")
    text = f"{path} cannot be read: {error.strerror}; check its owner and mode"
    return _fault(name, text, EnumCoreErrorCode.RESOURCE_UNAVAILABLE, kind, transient=kind not in {"EACCES", "EPERM"})


def _fault(
    name: str, text: str, code: EnumCoreErrorCode, kind: str | None = None, *, transient: bool = False
) -> EffectFault:
    return EffectFault(
        f"secret {name!r}: {text}",
        code,
        {"secret_name": name},
        error_kind=kind,
        phase=EnumFaultPhase.NOT_SENT,
        transient=transient,
    )
