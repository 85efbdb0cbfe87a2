"""Where the groups of an aggregation go that memory cannot hold: a directory of its own, gone when it ends.

The directory holds a file `lock` that is locked as long as the aggregation lives. What a killed process left behind is
removed by the next aggregation that spills to the same place: its lock is free.
"""

import contextlib
import itertools
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError

PREFIX: Final = "onex-aggregation-"
_BUFFER_BYTES: Final = 16 * 1024
_ROWS_AT_ONCE: Final = 200
"""Rows of a result in a line."""


class Stopped(Exception):
    """The aggregation is not wanted any more."""


class SpilledRows:
    """The rows of a result that was too large for memory: iterable as often as wanted, and of known length.

    They are in a file without a name, which is gone when this object is closed or forgotten.
    """

    def __init__(self, file: IO[str], rows: Iterable[Mapping[str, object]]) -> None:
        self._file = file
        self._length = 0
        encode = json.JSONEncoder(separators=(",", ":")).encode
        waiting = iter(rows)
        while batch := list(itertools.islice(waiting, _ROWS_AT_ONCE)):
            file.write(encode(batch) + "\n")
            self._length += len(batch)
        file.flush()
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, JsonValue]]:
        place = 0
        while True:
            self._file.seek(place)
            line = self._file.readline()
            if not line:
                return
            place = self._file.tell()
            yield from json.loads(line)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | tuple | SpilledRows):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # rows are equal to a list of the same

    def __repr__(self) -> str:
        return f"SpilledRows({self._length} rows)"

    def close(self) -> None:
        """Forget the rows."""
        self._file.close()


class SpillDirectory:
    """`SpillFiles` below `place`, by default the system's directory for temporary files. Made at the first write.

    written_bytes: of all runs, those that were merged into others among them. stopped: once true, whatever is being
    written or read raises Stopped.
    """

    def __init__(self, place: str | None) -> None:
        self._place = Path(place or tempfile.gettempdir())
        self._directory: Path | None = None
        self._lock: IO[bytes] | None = None
        self._runs = 0
        self.written_bytes = 0
        self.stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        self._directory = self._lock = None

    def write(self, lines: Iterable[str]) -> Path:
        """Keep lines in a new file. RESOURCE_UNAVAILABLE when the disk does not take them."""
        try:
            path = self._made() / f"run-{self._runs:06d}"
            self._runs += 1
            with path.open("w", encoding="utf-8", newline="\n", buffering=_BUFFER_BYTES) as file:
                for line in lines:
                    self._require_wanted()
                    file.write(f"{line}\n")
            self.written_bytes += path.stat().st_size
        except OSError as error:
            raise self._no_room(error) from error
        return path

    def read(self, run: object) -> Iterator[str]:
        """The lines of a run, one after the other."""
        with Path(str(run)).open(encoding="utf-8", newline="\n", buffering=_BUFFER_BYTES) as file:
            for line in file:
                self._require_wanted()
                yield line

    def _require_wanted(self) -> None:
        if self.stopped:
            raise Stopped

    def drop(self, run: object) -> None:
        Path(str(run)).unlink(missing_ok=True)

    def keep(self, rows: Iterable[Mapping[str, object]]) -> SpilledRows:
        """The rows of a result, on disk."""
        file = _unnamed(self._place)
        try:
            return SpilledRows(file, rows)
        except OSError as error:
            file.close()
            raise self._no_room(error) from error
        except BaseException:
            file.close()
            raise

    def _no_room(self, error: OSError) -> ModelOnexError:
        return ModelOnexError(
            f"spilling groups of an aggregation to {self._place} failed: {error.strerror or error}; make room, "
            "raise memory_management.buffer_size_mb, or name another spill_directory",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        )

    def _made(self) -> Path:
        if self._directory is None:
            self._remove_left_behind()
            self._directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._place))
            self._lock = (self._directory / "lock").open("wb")
            _lock_at_once(self._lock)
        return self._directory

    def _remove_left_behind(self) -> None:
        for directory in self._place.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError), (directory / "lock").open("r+b") as lock:
                _lock_at_once(lock)
                shutil.rmtree(directory, ignore_errors=True)


def _unnamed(place: Path) -> IO[str]:
    """A file that is gone once it is closed."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", buffering=_BUFFER_BYTES, dir=place)


def _lock_at_once(file: IO[bytes]) -> None:
    """Lock a file until it is closed. OSError when another has locked it, and where there are no such locks."""
    if os.name != "posix":
        raise OSError("no locks of this kind")
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
