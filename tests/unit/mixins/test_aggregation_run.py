"""Aggregations carried out: input of every kind, files, stored states, resuming, cancelling."""

import asyncio
import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest

from benchmarks.aggregation import items as made_up
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import ConcurrentModificationError, ModelOnexError, StateConsistencyError
from omnibase_core.infrastructure.infra_bases import ModelServiceReducer
from omnibase_core.mixins.aggregation_files import PREFIX, SpillDirectory, SpilledRows, Stopped
from omnibase_core.mixins.aggregation_run import OnProgress, run_aggregation
from omnibase_core.mixins.aggregation_store import OWNER, PROGRESS, restore_aggregation
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_reducer_output import ModelReducerOutput
from omnibase_core.nodes import ModelReducerInput, NodeReducer
from omnibase_core.protocols.protocol_state import StoredState
from omnibase_core.utils.aggregation import aggregate
from omnibase_spi.store_memory import MemoryStateManager
from tests.support.aggregations import contract, sales

SALES = sales(5_000)


@pytest.fixture
def store() -> MemoryStateManager:
    return MemoryStateManager()


@pytest.fixture
def container(store: MemoryStateManager) -> ModelONEXContainer:
    made = ModelONEXContainer()
    made.register_service("ProtocolStateManager", store)
    made.register_service("ProtocolTransactionManager", store)
    return made


async def run(
    container: ModelONEXContainer, data: object, method: str = "sum", /, **fields: object
) -> ModelReducerOutput:
    on_progress = cast("OnProgress | None", fields.pop("on_progress", None))
    return await run_aggregation(contract(data, method, **fields), container, on_progress=on_progress)


async def slowly(items: list[dict[str, object]], size: int = 0) -> AsyncIterator[object]:
    """Items one by one, or chunks of a size."""
    for start in range(0, len(items), size or 1):
        await asyncio.sleep(0)
        yield items[start : start + size] if size else items[start]


def chunks(items: list[dict[str, object]], size: int) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# input


@pytest.mark.parametrize("kind", ["list", "items", "chunks", "tuples", "function", "async items", "async chunks"])
async def test_every_kind_of_input_gives_the_same(kind: str, container: ModelONEXContainer) -> None:
    """And all of it is counted."""
    data: dict[str, object] = {
        "list": SALES,
        "items": iter(SALES),
        "chunks": chunks(SALES, 777),
        "tuples": [tuple(SALES[:3]), (), tuple(SALES[3:])],
        "function": lambda skip: iter(SALES[skip:]),
        "async items": slowly(SALES),
        "async chunks": slowly(SALES, 1_500),
    }
    seen: list[int] = []
    fields = {"value_field": "amount", "group_by": "region"}
    output = await run(
        container, data[kind], enabled=kind != "list", chunk_size=1_000, on_progress=seen.append, **fields
    )

    assert output.aggregated_data == aggregate(contract(SALES, "sum", **fields))
    metrics = output.reduction_metrics
    assert (metrics.records_processed, metrics.state_size) == (5_000, 7)
    assert metrics.reduction_ratio == 7 / 5_000
    assert seen == sorted(seen)
    assert seen[-1] == 5_000


async def test_items_that_are_lists() -> None:
    """They are items when the contract says so, and in a batch always."""
    data = [[1], [2, 3]]
    container = ModelONEXContainer()

    assert (await run(container, data, "collect")).result == data
    assert (await run(container, iter(data), "collect", enabled=True, items_come_as="items")).result == data
    assert (await run(container, iter(data), "collect", enabled=True)).result == [1, 2, 3]
    assert (await run(container, [], "collect", enabled=True)).result == []
    with pytest.raises(ModelOnexError, match="yields lists of items, found int"):
        await run(container, [1], "collect", enabled=True, items_come_as="chunks")
    assert (await run(container, {"name": "x", "items": [1, 2]})).result == 3
    with pytest.raises(ModelOnexError, match="found dict"):
        await run(container, {"items": [1, 2], "others": []}, enabled=True)
    with pytest.raises(ModelOnexError, match="found str"):
        await run(container, "text", "collect", enabled=True)


async def test_an_input_that_fails(container: ModelONEXContainer) -> None:
    """OPERATION_FAILED with the cause and the contract's id; a generator is closed, of either kind."""
    closed: list[str] = []

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("gone")

    async def broken_async(error: Exception) -> AsyncIterator[int]:
        try:
            yield 1
            raise error
        finally:
            closed.append("async")

    for data in (broken(), broken_async(LookupError("gone"))):
        with pytest.raises(ModelOnexError, match="input_data raised LookupError: gone") as caught:
            await run(container, data, enabled=True, correlation_id=UUID(int=5))
        assert caught.value.error_code is Code.OPERATION_FAILED
        assert isinstance(caught.value.__cause__, LookupError)
        assert caught.value.correlation_id == UUID(int=5)
    with pytest.raises(ModelOnexError, match="mine"):
        await run(container, broken_async(ModelOnexError("mine")), enabled=True)
    with pytest.raises(ModelOnexError, match="expected a number"):
        await run(container, (each for each in [1, "a"]), enabled=True)
    assert closed == ["async", "async"]


async def test_a_node_aggregates_data(container: ModelONEXContainer) -> None:
    """By `reduction_type`, in `process`; by a contract in `execute_reduction`, which is counted like any call."""
    asked = ModelReducerInput(
        data=SALES, reduction_type="max", payload={"value_field": "number", "group_by": ["label"]}, batch_size=100
    )
    output = await NodeReducer(container).process(asked)
    assert output.operation_id == asked.operation_id == output.correlation_id
    assert output.aggregated_data == aggregate(contract(SALES, "max", value_field="number", group_by="label"))

    service = ModelServiceReducer(container)
    streamed = asked.model_copy(update={"data": iter(SALES), "streaming_mode": "incremental"})
    assert (await service.execute_reduction(streamed)).aggregated_data == output.aggregated_data
    assert (await service.execute_reduction(contract([1, 2], "sum"))).aggregated_data == 3
    with pytest.raises(ModelOnexError, match="no action; give the name of one, or data"):
        await service.execute_reduction(ModelReducerInput(data=[1]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction_type": "summ"}, r"reduction_type 'summ'.*reduction_config\.aggregation_method: Input should be"),
        ({"reduction_type": "sum", "payload": {"valuefield": "amount"}}, r"reduction_config\.valuefield: Extra inputs"),
        ({"reduction_type": "percentile", "payload": {"percentile": 200}}, r"reduction_config\.percentile: "),
    ],
)
async def test_a_node_tells_how_data_cannot_be_reduced(fields: dict[str, object], message: str) -> None:
    """With the id of the call, and without the pages of pydantic."""
    asked = ModelReducerInput.model_validate({"data": [1], "correlation_id": UUID(int=5), **fields})

    with pytest.raises(ModelOnexError, match=message) as caught:
        await NodeReducer().process(asked)

    assert (caught.value.error_code, caught.value.correlation_id) == (Code.VALIDATION_ERROR, UUID(int=5))
    assert "pydantic.dev" not in str(caught.value)


async def test_late_items_are_in_the_events(container: ModelONEXContainer) -> None:
    """And counted in the metadata."""
    window = {"type": "tumbling", "time_field": "at", "size_ms": 1_000}
    output = await run(container, SALES, "count", window=window, watermark_ms=300, late_data_policy="side_output")

    assert len(output.events) == int(output.metadata["late_items"]) > 10
    assert output.events[0]["event"] == "late_item"


# memory and files


def many(count: int) -> list[dict[str, object]]:
    return [{"k": f"group {number * 7919 % count}", "v": number} for number in range(count)]


async def test_groups_beyond_the_limit_are_on_disk_meanwhile(tmp_path: Path, container: ModelONEXContainer) -> None:
    """Runs appear in the directory, nothing is left at the end, and the rows are the same."""
    items, seen = many(20_000), set[str]()

    def look(done: int) -> None:
        seen.update(path.name for path in tmp_path.glob(f"{PREFIX}*/run-*"))

    output = await run(
        container, chunks(items, 500), on_progress=look, value_field="v", group_by="k", enabled=True, buffer_size_mb=1,
        spill_directory=str(tmp_path), chunk_size=500,
    )  # fmt: skip
    rows = output.aggregated_data
    assert isinstance(rows, SpilledRows)
    assert rows == aggregate(contract(items, "sum", value_field="v", group_by="k"))
    assert output.reduction_metrics.state_size == len(rows) == len(list(rows)) == 20_000
    assert json.loads(output.model_dump_json())["result"] == list(rows)
    assert int(output.metadata["spilled_bytes"]) > 100_000
    assert list(tmp_path.iterdir()) == []
    assert repr(rows) == "SpilledRows(20000 rows)"
    assert rows != list(rows)[:-1]
    assert rows != 3
    rows.close()
    assert len(seen) > 3


async def test_a_percentile_of_more_than_memory_holds(tmp_path: Path, container: ModelONEXContainer) -> None:
    """Sorted on disk, and equal to what memory gives."""
    items = [number * 7919 % 50_000 / 7 for number in range(50_000)]
    asked = {"percentile": [0, 33.3, 50, 100], "enabled": True}

    output = await run(container, items, "percentile", buffer_size_mb=1, spill_directory=str(tmp_path), **asked)

    assert int(output.metadata["spilled_bytes"]) > 0
    assert output.result == aggregate(contract(items, "percentile", percentile=asked["percentile"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["error", "cancel"])
async def test_nothing_is_left_after_an_error_or_a_cancellation(
    end: str, tmp_path: Path, container: ModelONEXContainer
) -> None:
    """Directory, thread and descriptors are gone when the call ends."""
    items, spilled = many(30_000), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless() -> Iterator[object]:
        yield from items
        if end == "error":
            yield {"k": "x", "v": "no number"}
        while True:
            if list(tmp_path.glob("*/run-*")):
                loop.call_soon_threadsafe(spilled.set)
            yield items[0]

    call = asyncio.create_task(
        run(container, endless(), value_field="v", group_by="k", enabled=True, buffer_size_mb=1,
            spill_directory=str(tmp_path), chunk_size=500)
    )  # fmt: skip
    if end == "cancel":
        await asyncio.wait_for(spilled.wait(), 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        with pytest.raises(ModelOnexError, match=r"item 30000 .*: field 'v': expected a number"):
            await call
    assert list(tmp_path.iterdir()) == []
    assert _open_below(tmp_path) == []


def _open_below(place: Path) -> list[str]:
    """Open files there, deleted ones too."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(str(place))]


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    """By the next one that spills there; what is in use stays, and so does what is not ours."""
    (tmp_path / f"{PREFIX}dead").mkdir()
    (tmp_path / f"{PREFIX}dead" / "lock").touch()
    (tmp_path / f"{PREFIX}other").mkdir()

    with SpillDirectory(str(tmp_path)) as one, SpillDirectory(str(tmp_path)) as two:
        runs = [one.write(["[]"]), two.write(["[1]", "[2]"])]

        assert [list(two.read(each)) for each in runs] == [["[]\n"], ["[1]\n", "[2]\n"]]
        assert not (tmp_path / f"{PREFIX}dead").exists()
        two.drop(runs[1])
        two.stopped = True
        with pytest.raises(Stopped):
            list(two.read(runs[0]))
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}other"]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """RESOURCE_UNAVAILABLE, with what to do; nothing is left."""

    def full() -> Iterator[str]:
        yield "[]"
        raise OSError(errno.ENOSPC, "No space left on device")

    def no_rows() -> Iterator[dict[str, object]]:
        yield {}
        raise OSError(errno.ENOSPC, "No space left on device")

    def broken() -> Iterator[dict[str, object]]:
        yield {}
        raise ValueError("odd")

    with SpillDirectory(str(tmp_path)) as files:
        for attempt in (lambda: files.write(full()), lambda: files.keep(no_rows())):
            with pytest.raises(ModelOnexError, match="No space left on device; make room, raise") as caught:
                attempt()
            assert caught.value.error_code is Code.RESOURCE_UNAVAILABLE
        with pytest.raises(ValueError, match="odd"):
            files.keep(broken())
    assert list(tmp_path.iterdir()) == []


_LIMITED = (
    "import json; from benchmarks.aggregation import measured; print(json.dumps(measured(150_000, 1_000_000, 8)))"
)


def test_the_limit_of_memory_is_held() -> None:
    """In a process of its own: 140,000 groups, for which 8 MiB are too little, within 8 MiB by the kernel."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )  # fmt: skip
    found = json.loads(done.stdout)

    assert found["spilled_mib"] > 3
    assert found["rows"] == len({item["group"] for chunk in made_up(150_000, 1_000_000) for item in chunk})
    assert found["total"] == pytest.approx(sum(number * 0.01 for number in range(150_000)), rel=1e-12)
    assert found["peak_mib"] - found["base_mib"] <= 8


# stored states

KEPT: dict[str, object] = {"value_field": "amount", "group_by": "region", "state_key": "sales"}


async def test_a_stored_state_goes_on(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """Three calls give the bits of one; each raises the version."""
    for method in ("sum", "average", "first", "last", "collect", "distinct", "percentile"):
        fields = {**KEPT, "state_key": method}
        for start in (0, 1_000, 2_500):
            end = {0: 1_000, 1_000: 2_500, 2_500: 5_000}[start]
            output = await run(container, SALES[start:end], method, **fields)

        assert json.dumps(output.result) == json.dumps(aggregate(contract(SALES, method, **fields)))
        assert output.metadata["state_version"] == "3"
        assert output.reduction_metrics.records_processed == 2_500


async def test_an_error_leaves_the_state_as_it_was(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """A bad item, an input that fails, a state of another aggregation, a backup that fails."""
    await run(container, SALES[:10], **KEPT)
    before = await store.get_state(OWNER, "sales")

    with pytest.raises(ModelOnexError, match="item 5 "):
        await run(container, [*SALES[:5], {"region": "x", "amount": "1"}], **KEPT)
    with pytest.raises(StateConsistencyError, match="use another state_key"):
        await run(container, SALES, "average", **KEPT)

    async def no_backup(*_: object, **__: object) -> str:
        raise ModelOnexError("no room for backups")

    store.create_backup = no_backup  # type: ignore[method-assign]  # a store that fails half-way
    for transaction in (True, False):
        with pytest.raises(ModelOnexError, match="no room for backups"):
            await run(
                container, SALES, transaction_config={"enabled": transaction},
                backup_config={"enabled": True, "backup_location": "b"}, **KEPT,
            )  # fmt: skip
    assert await store.get_state(OWNER, "sales") == before


async def test_a_stored_state_that_is_none(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """StateConsistencyError says what to do."""
    await store.update_state(OWNER, "sales", [1])

    with pytest.raises(StateConsistencyError, match="use another state_key, or restore a backup"):
        await run(container, SALES, **KEPT)


class Rival(MemoryStateManager):
    """Somebody else stores a state just before ours, so many times."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.times = times

    async def update_state(
        self, owner: str, key: str, state: object, *, expected_version: int | None = None
    ) -> StoredState:
        if owner == OWNER and self.times:
            self.times -= 1
            theirs = ModelONEXContainer()
            theirs.register_service("ProtocolStateManager", self)
            theirs.register_service("ProtocolTransactionManager", self)
            left, self.times = self.times, 0
            await run(theirs, SALES[:100], **KEPT)
            self.times = left
        return await super().update_state(owner, key, state, expected_version=expected_version)  # type: ignore[arg-type]  # JSON


def with_store(store: MemoryStateManager) -> ModelONEXContainer:
    made = ModelONEXContainer()
    made.register_service("ProtocolStateManager", store)
    made.register_service("ProtocolTransactionManager", store)
    return made


def total(items: list[dict[str, object]]) -> object:
    return aggregate(contract(items, "sum", **KEPT))


@pytest.mark.parametrize("policy", [None, "error"])
async def test_a_state_that_was_stored_meanwhile_is_an_error(policy: str | None) -> None:
    """Unless the contract says otherwise; theirs stays."""
    store = Rival()

    with pytest.raises(ConcurrentModificationError):
        await run(with_store(store), SALES[100:], conflict_resolution=policy, **KEPT)
    assert (await run(with_store(store), [], **KEPT)).result == total(SALES[:100])


async def test_who_wins_is_chosen() -> None:
    """last: ours replaces theirs; first: theirs stays and is the result; merge: the items of both count."""
    ours = SALES[100:]
    last, first, both = Rival(), Rival(), Rival(3)

    assert (await run(with_store(last), ours, conflict_resolution="last_write_wins", **KEPT)).result == total(ours)
    kept = await run(with_store(first), ours, conflict_resolution="first_write_wins", **KEPT)
    assert (kept.result, kept.metadata["state_version"]) == (total(SALES[:100]), "1")
    merged = await run(with_store(both), ours, conflict_resolution="merge", **KEPT)
    assert merged.result == total(SALES[:100] * 3 + ours)

    with pytest.raises(ConcurrentModificationError, match="20 times"):
        await run(with_store(Rival(50)), ours, conflict_resolution="merge", **KEPT)


async def test_backups_are_kept_and_restored(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """The state before each update, as many as wanted; restoring one brings its result back."""
    backup = {"enabled": True, "backup_location": "place", "retention": 2, "version": "7"}
    asked = contract([], "sum", backup_config=backup, **KEPT)
    for start in (0, 10, 20, 30):
        await run(
            container, SALES[start : start + 10], backup_config=backup, transaction_config={"enabled": True}, **KEPT
        )
    backups = await store.list_backups("place")
    assert len(backups) == 2
    kept = cast("dict[str, object]", await store.restore_backup("place"))
    assert (kept["version"], kept["state_key"]) == ("7", "sales")

    assert await restore_aggregation(store, asked, backups[1].backup_id) == 5
    assert (await run(container, [], **KEPT)).result == total(SALES[:20])
    after = {**backup, "backup_type": "after", "backup_location": "after"}
    await run(container, SALES[20:30], backup_config=after, **KEPT)
    await restore_aggregation(store, contract([], "sum", backup_config=after, **KEPT))
    assert (await run(container, [], **KEPT)).result == total(SALES[:30])


# resuming

RESUMED: dict[str, object] = {**KEPT, "enabled": True, "chunk_size": 100, "checkpoint_items": 300}


@pytest.mark.parametrize("method", ["sum", "first", "collect", "percentile"])
@pytest.mark.parametrize("kind", ["items", "function", "async"])
async def test_a_run_that_was_cut_off_goes_on(
    method: str, kind: str, container: ModelONEXContainer, store: MemoryStateManager
) -> None:
    """From its last stored progress, with the bits of a run in one go; the state before stays until the end."""
    await run(container, SALES[:50], method, **KEPT)

    def cut_off() -> Iterator[object]:
        yield from SALES[50:1_700]
        raise TimeoutError

    with pytest.raises(ModelOnexError, match="TimeoutError"):
        await run(container, cut_off(), method, **RESUMED)
    assert (await store.get_state(OWNER, "sales")).version == 1
    again: object = iter(SALES[50:])
    if kind == "async":
        again = slowly(SALES[50:])
    if kind == "function":
        again = lambda skip: iter(SALES[50 + skip :])  # noqa: E731  # as a program would give it

    output = await run(container, again, method, **RESUMED)

    assert json.dumps(output.result) == json.dumps(aggregate(contract(SALES, method, **KEPT)))
    assert output.metadata["resumed_at"] == "1500"
    assert output.reduction_metrics.records_processed == 4_950 - 1_500
    assert (await store.get_state(PROGRESS, "sales")).state is None


@pytest.mark.parametrize("method", ["sum", "min"])
async def test_an_item_is_numbered_among_those_of_its_own_input(
    method: str, container: ModelONEXContainer, store: MemoryStateManager
) -> None:
    """Not among those of the stored state; also behind progress that an earlier run had made."""
    await run(container, SALES[:50], method, **KEPT)
    bad = {**SALES[0], "amount": []}

    with pytest.raises(ModelOnexError, match="item 2 "):
        await run(container, [*SALES[50:52], bad], method, **KEPT)

    def cut_off() -> Iterator[object]:
        yield from SALES[50:550]
        raise TimeoutError

    with pytest.raises(ModelOnexError, match="TimeoutError"):
        await run(container, cut_off(), method, **RESUMED)
    assert (await store.get_state(PROGRESS, "sales")).state is not None
    with pytest.raises(ModelOnexError, match="item 700 "):
        await run(container, [*SALES[50:750], bad], method, **RESUMED)


async def test_a_bad_item_ends_the_run_for_good(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """It would fail again; the next run begins anew."""
    with pytest.raises(ModelOnexError, match="item 1000"):
        await run(container, [*SALES[:1_000], {"region": "x", "amount": "no"}], **RESUMED)

    output = await run(container, SALES, **RESUMED)

    assert output.result == total(SALES)
    assert "resumed_at" not in output.metadata


async def test_windows_go_on_where_they_were(container: ModelONEXContainer) -> None:
    """Open sessions and the watermark are part of the progress."""
    window = {"type": "session", "time_field": "at", "gap_ms": 200}
    fields = {**RESUMED, "window": window, "watermark_ms": 500}

    def cut_off() -> Iterator[object]:
        yield from SALES[:1_234]
        raise TimeoutError

    with pytest.raises(ModelOnexError, match="TimeoutError"):
        await run(container, cut_off(), "collect", **fields)
    output = await run(container, iter(SALES), "collect", **fields)
    straight = await run(ModelONEXContainer(), iter(SALES), "collect", **fields)

    assert output.result == straight.result
    assert output.metadata["late_items"] == straight.metadata["late_items"] != "0"


class DiesAfterTheState(MemoryStateManager):
    """Ends the program between the state and the end of its progress."""

    armed = False

    async def update_state(
        self, owner: str, key: str, state: object, *, expected_version: int | None = None
    ) -> StoredState:
        if self.armed and owner == PROGRESS and state is None:
            self.armed = False
            raise SystemExit
        return await super().update_state(owner, key, state, expected_version=expected_version)  # type: ignore[arg-type]  # JSON


async def test_no_item_counts_twice_when_killed_at_the_very_end() -> None:
    """The state was stored, its progress not yet forgotten: the same input again gives the stored result."""
    store = DiesAfterTheState()
    store.armed = True
    with pytest.raises(SystemExit):
        await run(with_store(store), iter(SALES), **RESUMED)

    output = await run(with_store(store), iter(SALES), **RESUMED)

    assert output.result == total(SALES)
    assert (output.metadata["resumed_at"], output.reduction_metrics.records_processed) == ("end", 0)
    assert (await store.get_state(PROGRESS, "sales")).state is None


async def test_a_run_with_a_name_counts_once(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """Given again it is the stored result; progress of another name is none of its own."""
    monday, tuesday = {**RESUMED, "run_id": "monday"}, {**RESUMED, "run_id": "tuesday"}

    def cut_off() -> Iterator[object]:
        yield from SALES[:700]
        raise TimeoutError

    await run(container, SALES[:1_000], **monday)
    again = await run(container, SALES[:1_000], **monday)
    with pytest.raises(ModelOnexError, match="TimeoutError"):
        await run(container, cut_off(), **tuesday)
    other = await run(container, SALES[1_000:], **{**RESUMED, "run_id": "wednesday"})
    unnamed = await run(container, SALES[:5], **RESUMED)

    assert again.result == total(SALES[:1_000])
    assert again.metadata["resumed_at"] == "end"
    assert other.result == total(SALES)
    assert unnamed.result == total(SALES + SALES[:5])


async def test_a_run_in_the_state_is_not_added_again_behind_others() -> None:
    """Killed at the very end; then others stored theirs; then it is given again."""
    store = DiesAfterTheState()
    store.armed = True
    monday = {**RESUMED, "run_id": "monday"}
    with pytest.raises(SystemExit):
        await run(with_store(store), SALES[:1_000], **monday)
    await run(with_store(store), SALES[1_000:2_000], **{**KEPT, "enabled": True, "run_id": "tuesday"})
    await run(with_store(store), SALES[2_000:], **KEPT)

    again = await run(with_store(store), SALES[:1_000], **monday)

    assert (again.result, again.metadata["resumed_at"]) == (total(SALES), "end")
    assert (await store.get_state(PROGRESS, "sales")).state is None


async def test_a_run_that_was_given_twice_at_a_time_is_merged_once(container: ModelONEXContainer) -> None:
    """The later one gives what is stored."""
    monday = {**KEPT, "enabled": True, "run_id": "monday", "conflict_resolution": "merge"}

    async def slower() -> AsyncIterator[object]:
        yield SALES
        await run(container, SALES, **monday)

    output = await run(container, slower(), **monday)

    assert (output.result, output.metadata["state_version"]) == (total(SALES), "1")


@pytest.mark.parametrize("policy", [None, "last_write_wins", "first_write_wins"])
async def test_a_run_begins_anew_when_somebody_else_stored_a_state_since(
    policy: str | None, container: ModelONEXContainer
) -> None:
    """Its progress was of the state before; so the input that is given again is added to theirs, from its start."""
    fields = {**RESUMED, "run_id": "monday", "conflict_resolution": policy}

    def cut_off() -> Iterator[object]:
        yield from SALES[:700]
        raise TimeoutError

    with pytest.raises(ModelOnexError, match="TimeoutError"):
        await run(container, cut_off(), **fields)
    await run(container, SALES[:50], **KEPT)

    output = await run(container, lambda skip: iter(SALES[skip:]), **fields)

    assert output.result == total(SALES[:50] + SALES)
    assert "resumed_at" not in output.metadata


async def test_what_a_conflict_asks_for_helps() -> None:
    """The same input again."""
    store = Rival()
    with pytest.raises(ConcurrentModificationError, match="give the same input again"):
        await run(with_store(store), SALES[100:], **RESUMED)

    output = await run(with_store(store), SALES[100:], **RESUMED)

    assert output.result == total(SALES)


@pytest.mark.parametrize(("before", "after"), [(None, "merge"), ("merge", None), ("merge", "last_write_wins")])
async def test_a_run_begins_anew_when_its_conflict_resolution_was_changed(
    before: str | None, after: str | None, container: ModelONEXContainer
) -> None:
    """Progress is of the items with the state before, or of the items alone."""
    await run(container, SALES[:50], **KEPT)

    def cut_off() -> Iterator[object]:
        yield from SALES[50:750]
        raise TimeoutError

    with pytest.raises(ModelOnexError, match="TimeoutError"):
        await run(container, cut_off(), conflict_resolution=before, **RESUMED)

    output = await run(container, iter(SALES[50:]), conflict_resolution=after, **RESUMED)

    assert output.result == total(SALES)


async def test_a_cancelled_run_keeps_its_progress(container: ModelONEXContainer, store: MemoryStateManager) -> None:
    """And its thread has ended."""
    reached = asyncio.Event()

    async def stuck() -> AsyncIterator[object]:
        for item in SALES[:1_000]:
            yield item
        reached.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(run(container, stuck(), **RESUMED))
    await reached.wait()
    threads = threading.active_count()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert threading.active_count() <= threads
    assert (await run(container, iter(SALES), **RESUMED)).metadata["resumed_at"] == "900"
