"""Windows over event time: which ones an item falls into, and which are closed.

The watermark is the latest event time so far less `watermark_ms`; a window that ends at or before it is closed. It is
looked at item by item, so that neither chunks nor batch or streaming make a difference. A sliding window that is closed
does not get the item, and the item is late when all of its windows are closed. A session that is closed is never
extended. With late_data_policy `update` nothing is ever closed.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeVar, cast

from omnibase_core.enums.enum_aggregation import EnumLateData
from omnibase_core.models.contracts.model_contract_reducer import ModelStreamingConfig, ModelWindowConfig
from omnibase_core.utils.aggregation_fields import Key
from omnibase_core.utils.aggregation_methods import Method

S = TypeVar("S")
_NEVER: Final = -(1 << 62)
"""Before any event time: nothing is closed yet."""


class Watermark:
    """How far event time has come."""

    def __init__(self, streaming: ModelStreamingConfig) -> None:
        self._behind = streaming.watermark_ms
        self._closes = streaming.late_data_policy is not EnumLateData.UPDATE
        self.latest: int | None = None

    @property
    def at(self) -> int:
        """Windows that end here or before are closed."""
        return self.latest - self._behind if self._closes and self.latest is not None else _NEVER

    def pass_by(self, time: int) -> None:
        if self.latest is None or time > self.latest:
            self.latest = time


def windows_at(window: ModelWindowConfig, time: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the tumbling or sliding windows that hold a time, the earliest first."""
    size = cast("int", window.size_ms)  # both types have one
    step = window.slide_ms or size
    start = time - time % step
    first = start - (size - 1 - time % step) // step * step
    for each in range(first, start + 1, step):
        yield each, each + size


class Session(Generic[S]):
    """Items of a group that are near each other: from its start to a gap after its last."""

    __slots__ = ("end", "start", "state")

    def __init__(self, start: int, end: int, state: S) -> None:
        self.start = start
        self.end = end
        self.state = state


class Sessions(Generic[S]):
    """The sessions of all groups that may still change."""

    def __init__(self, method: Method[S], gap_ms: int) -> None:
        self._method = method
        self._gap = gap_ms
        self._open: dict[Key, list[Session[S]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def add(self, key: Key, time: int, value: object, closed_until: int) -> bool:
        """Add a value to the session around it, or begin one. False: it is late, nothing was done."""
        start, end = time, time + self._gap
        sessions = self._open.get(key, [])
        near = [each for each in sessions if each.end > closed_until and each.start < end and start < each.end]
        if not near and end <= closed_until:
            return False
        state = self._method.fold(None, [value])
        made = self._joined([*near, Session(start, end, state)])
        self._open[key] = [*(each for each in sessions if each not in near), made]
        return True

    def _joined(self, sessions: Sequence[Session[S]]) -> Session[S]:
        first, *others = sessions
        for other in others:
            first.state = self._method.merge(first.state, other.state)
            first.start, first.end = min(first.start, other.start), max(first.end, other.end)
        return first

    def put(self, key: Key, session: Session[S]) -> None:
        """Take a session over as it is."""
        self._open.setdefault(key, []).append(session)

    def take(self, closed_until: int | None) -> Iterator[tuple[Key, Session[S]]]:
        """Remove the sessions that are closed, or all of them."""
        for key, sessions in list(self._open.items()):
            taken = [each for each in sessions if closed_until is None or each.end <= closed_until]
            left = [each for each in sessions if each not in taken]
            if left:
                self._open[key] = left
            else:
                del self._open[key]
            for session in taken:
                yield key, session

    def every(self) -> Iterator[tuple[Key, Session[S]]]:
        for key, sessions in self._open.items():
            for session in sessions:
                yield key, session

    def joined(self, sessions: Sequence[Session[S]]) -> list[Session[S]]:
        """Sessions of one group, those that overlap made one; in order of time."""
        done: list[Session[S]] = []
        for each in sorted(sessions, key=lambda session: (session.start, session.end)):
            if done and each.start < done[-1].end:
                self._joined([done[-1], each])
            else:
                done.append(each)
        return done
