"""The file backup node: whole or not at all, verified, and the previous backup back after any failure."""

import asyncio
import gc
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from pydantic import JsonValue, ValidationError

from examples.file_backup.handler import BACKED_UP, FileBackedUp, FileBackupHandler
from examples.file_backup.models import ModelFileBackupInput, ModelFileBackupOutput
from examples.file_backup.node import FileBackupNode
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_effect_types import EnumEffectType
from omnibase_core.enums.enum_node_kind import EnumNodeKind
from omnibase_core.errors import EffectFault, ModelOnexError
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from tests.support.suspensions import cancelled_at

OLD, NEW = b"the previous backup", b"the new content \x00\xff" * 10


def rotten(_stored: Iterator[bytes]) -> Iterator[bytes]:
    """What a failing disk gives back."""
    return iter([b"rot"])


class Files:
    """A source with NEW, and a target in a directory of its own."""

    def __init__(self, home: Path) -> None:
        self.source = home / "source"
        self.folder = home / "backups"
        self.target = self.folder / "target"
        self.source.write_bytes(NEW)

    def with_previous(self) -> "Files":
        self.folder.mkdir(exist_ok=True)
        self.target.write_bytes(OLD)
        return self

    def request(self, **more: object) -> ModelFileBackupInput:
        return ModelFileBackupInput.model_validate(
            {"source_path": self.source, "backup_path": self.target, "max_retries": 0, **more}
        )

    def call(self, **more: object) -> ModelEffectInput:
        data = {"source_path": str(self.source), "backup_path": str(self.target)}
        return ModelEffectInput.model_validate(
            {"effect_type": EnumEffectType.FILE_OPERATION, "operation_data": data, "retry_enabled": False, **more}
        )

    def found(self) -> dict[str, bytes]:
        """Everything in the target's directory, temporary files included."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()} if self.folder.exists() else {}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def node_with(**seams: object) -> FileBackupNode:
    return FileBackupNode(None, FileBackupHandler(**seams))  # type: ignore[arg-type]  # the handler's own parameters


# models


def test_the_input_has_the_defaults_of_the_specification() -> None:
    """atomic, verified, three retries a second apart."""
    request = ModelFileBackupInput(source_path="a", backup_path="b")

    assert (request.atomic, request.verify_backup, request.max_retries, request.retry_delay_ms) == (True, True, 3, 1000)
    assert request.metadata == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": 11},
        {"max_retries": -1},
        {"retry_delay_ms": 99},
        {"retry_delay_ms": 30_001},
        {"source_path": ""},
        {"atomic": "yes"},
        {"max_retries": True},
        {"unknown": 1},
    ],
    ids=str,
)
def test_the_input_refuses_what_is_out_of_bounds(wrong: dict[str, object]) -> None:
    """0..10 retries, 100..30000 ms, no coercion, no unknown field."""
    with pytest.raises(ValidationError):
        ModelFileBackupInput.model_validate({"source_path": "a", "backup_path": "b", **wrong})


def test_the_models_are_frozen_and_come_back_from_json() -> None:
    """They may cross a wire."""
    output = ModelFileBackupOutput(success=True, source_path="a", backup_path="b", checksum_match=True)

    assert ModelFileBackupOutput.model_validate_json(output.model_dump_json()) == output
    with pytest.raises(ValidationError):
        output.success = False  # type: ignore[misc]  # that is the point


# what a backup does


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("previous", [True, False])
async def test_a_backup_is_a_copy_with_mode_and_time_and_nothing_beside_it(
    files: Files, atomic: bool, previous: bool
) -> None:
    """Missing directories are made; the output has the sizes and the result of the verification."""
    if previous:
        files.with_previous()
    files.source.chmod(0o640)
    os.utime(files.source, ns=(1_000_000_000, 2_000_000_000))

    output = await FileBackupNode().backup(files.request(atomic=atomic))

    assert files.found() == {"target": NEW}
    info = files.target.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o640, 2_000_000_000)
    assert output.success
    assert (output.source_size_bytes, output.backup_size_bytes) == (len(NEW), len(NEW))
    assert (output.verified, output.checksum_match, output.rollback_performed) == (True, True, False)
    assert output.transaction_id is not None
    assert output.error_message is None


async def test_without_verification_nothing_is_read_back(files: Files) -> None:
    """And the output says so."""
    output = await node_with(read_back=rotten).backup(files.request(verify_backup=False))

    assert (output.success, output.verified, output.checksum_match) == (True, False, None)
    assert output.backup_size_bytes == len(NEW)


async def test_an_empty_file_and_a_name_of_255_bytes(files: Files) -> None:
    """The names of the temporary files stay within the limit."""
    files.source.write_bytes(b"")
    files.target = files.folder / ("ü" * 127 + "x")

    first = await FileBackupNode().backup(files.request())
    second = await FileBackupNode().backup(files.request())

    assert first.success, first.error_message
    assert second.success, second.error_message
    assert files.found() == {files.target.name: b""}


async def test_a_link_at_the_target_stays_and_its_file_is_replaced(files: Files) -> None:
    """As with any program that writes a file."""
    files.with_previous()
    link = files.folder / "link"
    link.symlink_to("target")

    output = await FileBackupNode().backup(files.request(backup_path=link))

    assert output.success
    assert link.is_symlink()
    assert files.found() == {"target": NEW, "link": NEW}


async def test_holes_of_a_sparse_file_stay_holes(files: Files) -> None:
    """A disk image does not grow by being backed up."""
    with files.source.open("wb") as file:
        file.write(b"head")
        file.truncate(16 << 20)

    output = await FileBackupNode().backup(files.request())

    info = files.target.stat()
    assert output.success
    assert info.st_size == 16 << 20
    assert info.st_blocks * 512 <= files.source.stat().st_blocks * 512 + (1 << 20)
    assert files.target.read_bytes() == files.source.read_bytes()


# what fails, and leaves everything as it was


async def test_a_missing_source_is_no_success_and_leaves_no_file(files: Files) -> None:
    """Not even a directory, and it is not retried."""
    output = await FileBackupNode().backup(files.request(source_path=files.source.with_name("missing"), max_retries=3))

    assert not output.success
    assert "does not exist" in (output.error_message or "")
    assert output.retry_count == 0
    assert not files.folder.exists()


async def test_process_raises_what_backup_says(files: Files) -> None:
    """A ModelOnexError with a message, and the facts in its context."""
    files.source.unlink()
    with pytest.raises(ModelOnexError) as caught:
        await FileBackupNode().process(files.call())

    assert caught.value.error_code is Code.NOT_FOUND
    assert "does not exist" in caught.value.message
    facts = caught.value.context["file_backup"]
    assert isinstance(facts, dict)
    assert facts["rollback_performed"] is False


@pytest.mark.parametrize("hard_links", [True, False])
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("transaction", [True, False])
async def test_a_mismatch_restores_the_previous_backup_and_says_so(
    files: Files, atomic: bool, hard_links: bool, transaction: bool
) -> None:
    """However the previous backup was kept, and with or without a transaction."""
    files.with_previous()
    node = node_with(read_back=rotten, hard_links=hard_links)
    inode = files.target.stat().st_ino
    call = files.call(transaction_enabled=transaction, operation_data={**files.call().operation_data, "atomic": atomic})

    with pytest.raises(EffectFault) as caught:
        await node.process(call)

    assert files.found() == {"target": OLD}
    if hard_links:
        assert files.target.stat().st_ino == inode
    facts = caught.value.context["file_backup"]
    assert isinstance(facts, dict)
    assert (facts["rollback_performed"], facts["checksum_match"], facts["verified"]) == (True, False, True)
    assert caught.value.error_kind == "CHECKSUM_MISMATCH"
    assert "is back" in caught.value.message


async def test_backup_says_that_it_rolled_back(files: Files) -> None:
    """`rollback_performed=True, checksum_match=False`; and a first backup that does not verify is removed."""
    output = await node_with(read_back=rotten).backup(files.request())

    assert (output.success, output.rollback_performed, output.checksum_match) == (False, True, False)
    assert files.found() == {}


async def test_rot_on_the_disk_is_found(files: Files) -> None:
    """One byte of the placed file is changed behind the backup's back, before it is read again."""
    files.with_previous()

    def rot(stored: Iterator[bytes]) -> Iterator[bytes]:
        with files.target.open("r+b") as file:
            file.seek(3)
            file.write(b"X")
        return stored

    output = await node_with(read_back=rot).backup(files.request())

    assert output.checksum_match is False
    assert files.found() == {"target": OLD}


async def test_another_digest_may_be_used(files: Files) -> None:
    """`new_hash` makes the digest of source and backup alike."""
    made: list[str] = []

    class Sum:
        def __init__(self) -> None:
            self.total = 0

        def update(self, data: bytes | memoryview) -> None:
            self.total += sum(data)

        def hexdigest(self) -> str:
            made.append(f"{self.total:x}")
            return made[-1]

    output = await node_with(new_hash=Sum).backup(files.request())

    assert output.checksum_match
    assert made == [f"{sum(NEW):x}"] * 2


async def test_a_failed_attempt_is_undone_and_repeated(files: Files) -> None:
    """The second attempt succeeds, and the count says so."""
    files.with_previous()
    seen: list[bytes] = []

    def once(stored: Iterator[bytes]) -> Iterator[bytes]:
        seen.append(files.target.read_bytes())
        return rotten(stored) if len(seen) == 1 else stored

    output = await node_with(read_back=once).backup(files.request(max_retries=2, retry_delay_ms=100))

    assert (output.success, output.retry_count, output.rollback_performed) == (True, 1, False)
    assert seen == [NEW, NEW]
    assert files.found() == {"target": NEW}


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_later_step_that_fails_restores_the_previous_backup(files: Files, transaction: bool) -> None:
    """A subclass adds a step after the backup; the previous one is kept until that has succeeded too."""
    files.with_previous()

    class Node(FileBackupNode):
        async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
            await super()._execute_effect(input_data, transaction)
            assert files.target.read_bytes() == NEW
            raise ModelOnexError("the catalogue is full", Code.CONFLICT)

    with pytest.raises(ModelOnexError, match="catalogue"):
        await Node().process(files.call(transaction_enabled=transaction))

    assert files.found() == {"target": OLD}


@pytest.mark.parametrize("previous", [True, False])
async def test_cancelled_at_any_await_nothing_has_changed(files: Files, previous: bool) -> None:
    """The previous backup, or the new one if the commit was already on its way; and no file beside it."""
    point = 0
    while True:
        files.folder.mkdir(exist_ok=True)
        files.target.unlink(missing_ok=True)
        if previous:
            files.with_previous()
        reached = await cancelled_at(FileBackupNode().process(files.call()), point)
        assert files.found() in ([{"target": OLD} if previous else {}, {"target": NEW}]), point
        assert asyncio.all_tasks() == {asyncio.current_task()}
        if not reached:
            break
        point += 1
    assert point >= 3


@pytest.mark.parametrize("atomic", [True, False])
async def test_cancelled_in_the_middle_of_a_copy(files: Files, atomic: bool) -> None:
    """The thread stops at its next chunk, and the progress that was told is taken back."""
    files.with_previous()
    files.source.write_bytes(bytes(8 << 20))
    loop, half, told = asyncio.get_running_loop(), asyncio.Event(), [0]
    go_on = threading.Event()

    def on_bytes(count: int) -> None:
        told[0] += count
        if told[0] == 4 << 20:
            loop.call_soon_threadsafe(half.set)
            assert go_on.wait(10)

    task = asyncio.ensure_future(node_with(on_bytes=on_bytes).backup(files.request(atomic=atomic)))
    await half.wait()
    task.cancel()
    loop.call_later(0.01, go_on.set)
    await asyncio.wait([task])

    assert task.cancelled()
    assert told == [0]
    assert files.found() == {"target": OLD}


async def test_a_backup_that_takes_too_long_is_undone(files: Files) -> None:
    """TIMEOUT while the verification hangs; the previous backup is back when `process` returns."""
    files.with_previous()
    go_on = threading.Event()

    def slow(stored: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in stored:
            go_on.wait(0.3)
            yield chunk

    with pytest.raises(ModelOnexError) as caught:
        await node_with(read_back=slow).process(files.call(timeout_ms=100))

    assert caught.value.error_code is Code.TIMEOUT
    assert files.found() == {"target": OLD}


async def test_a_source_that_changes_while_it_is_read_is_refused(files: Files) -> None:
    """Half of one version and half of another is no backup."""
    files.with_previous()

    def grow(_count: int) -> None:
        with files.source.open("ab") as file:
            file.write(b"more")

    output = await node_with(on_bytes=grow).backup(files.request())

    assert "changed while it was read" in (output.error_message or "")
    assert files.found() == {"target": OLD}


async def test_a_backup_that_another_program_replaced_is_left_alone(files: Files) -> None:
    """It is neither verified nor rolled back."""
    files.with_previous()
    other = files.source.with_name("other")
    handler = FileBackupHandler()
    backup = handler.begin(files.request())
    backup.place()
    other.write_bytes(b"of another program")
    other.replace(files.target)

    with pytest.raises(EffectFault) as caught:
        backup.verify()
    await handler.undo(backup)

    assert caught.value.error_kind == "TARGET_CHANGED"
    assert backup.rolled_back is False
    assert files.found() == {"target": b"of another program"}


async def test_two_backups_to_one_target_exclude_each_other(files: Files) -> None:
    """The second is a CONFLICT at once, and changes nothing; afterwards the target is free."""
    files.with_previous()
    handler = FileBackupHandler()
    first = handler.begin(files.request())
    first.place()

    second = await FileBackupNode().backup(files.request())
    first.commit()
    third = await FileBackupNode().backup(files.request())

    assert "another backup to this target is running" in (second.error_message or "")
    assert third.success
    assert files.found() == {"target": NEW}


@pytest.mark.parametrize("same", [True, False])
async def test_the_source_itself_and_a_directory_are_no_targets(files: Files, same: bool) -> None:
    """Refused with the reason."""
    files.folder.mkdir()
    output = await FileBackupNode().backup(files.request(backup_path=files.source if same else files.folder))

    assert not output.success
    assert ("one and the same" if same else "directory") in (output.error_message or "")
    assert files.source.read_bytes() == NEW
    assert files.found() == {}


async def test_a_killed_run_is_rolled_back_by_the_next_even_if_that_fails(files: Files) -> None:
    """What a run left that was killed between its rename and its commit."""
    files.with_previous()
    killed = FileBackupHandler().begin(files.request())
    killed.place()
    killed._release()  # what the kernel does for a process that is gone: locks and descriptors
    assert len(files.found()) == 2

    output = await node_with(read_back=rotten).backup(files.request())

    assert output.rollback_performed
    assert files.found() == {"target": OLD}


async def test_paths_are_confined_to_roots_when_asked(files: Files) -> None:
    """Then a path outside is SECURITY_VIOLATION; without roots any path will do."""
    result = await node_with(roots=[files.source.parent / "elsewhere"]).attempt(files.request())

    assert result.error is not None
    assert result.error.error_code is Code.SECURITY_VIOLATION
    assert files.found() == {}


async def test_relative_paths_are_taken_from_the_current_directory(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or from the first root, when there are roots."""
    monkeypatch.chdir(files.source.parent)
    for node in (FileBackupNode(), node_with(roots=[files.source.parent])):
        output = await node.backup(ModelFileBackupInput(source_path="source", backup_path="./backups/target"))
        assert output.success, output.error_message
        assert files.found() == {"target": NEW}
        files.target.unlink()


async def test_an_input_that_is_none_of_a_backup_is_a_validation_error() -> None:
    """The message names the fields."""
    with pytest.raises(ModelOnexError) as caught:
        await FileBackupNode().process(ModelEffectInput(operation_data={"source_path": "x", "speed": 3}))

    assert caught.value.error_code is Code.VALIDATION_ERROR
    assert "backup_path" in caught.value.message
    assert "speed" in caught.value.message


# the node and its handler


async def test_statistics_count_what_happened(files: Files) -> None:
    """Per call, with the bytes of those that succeeded."""
    node = FileBackupNode()
    assert node.backup_stats["success_rate"] == 1.0
    for _ in range(3):
        await node.backup(files.request())
    await node.backup(files.request(source_path="/nowhere/at/all"))

    assert node.backup_stats == {
        "total_backups": 4,
        "successful_backups": 3,
        "failed_backups": 1,
        "total_bytes": 3 * len(NEW),
        "success_rate": 0.75,
    }
    assert node.get_effect_metrics()["total_effects"] == 4


@pytest.mark.parametrize("container", [None, ModelONEXContainer(), MagicMock()])
async def test_the_call_of_the_tutorial(files: Files, container: ModelONEXContainer | None) -> None:
    """All switches given, any container; the result is a dict with the output's fields."""
    call = files.call(
        operation_id=uuid4(),
        transaction_enabled=True,
        retry_enabled=True,
        max_retries=3,
        retry_delay_ms=1000,
        circuit_breaker_enabled=True,
        metadata={"why": "test"},
    )
    output = await FileBackupNode(container).process(call)

    assert isinstance(output.result, dict)
    fields = {name: value for name, value in output.result.items() if name != "sha256"}
    assert ModelFileBackupOutput.model_validate(fields).success
    assert output.operation_id == call.operation_id == fields["operation_id"]


async def test_five_missing_files_do_not_block_the_sixth(files: Files) -> None:
    """What the caller did wrong does not count against the breaker."""
    node = FileBackupNode()
    bad = files.call(
        circuit_breaker_enabled=True, operation_data={"source_path": "/nowhere/x", "backup_path": str(files.target)}
    )
    for _ in range(6):
        with pytest.raises(ModelOnexError):
            await node.process(bad)

    output = await node.process(files.call(circuit_breaker_enabled=True))
    assert output.failed_operation is None


async def test_the_handler_says_what_it_did_in_one_event(files: Files) -> None:
    """`ModelHandlerOutput` of an EFFECT: events, no result."""
    handler, envelope, correlation = FileBackupHandler(), uuid4(), uuid4()
    backup = handler.begin(files.request())
    said = await handler.handle(backup, envelope, correlation)
    await handler.commit(backup)

    assert (said.node_kind, said.result, said.input_envelope_id) == (EnumNodeKind.EFFECT, None, envelope)
    assert said.correlation_id == correlation
    [event] = said.events
    assert isinstance(event, ModelEventEnvelope)
    assert event.event_type == BACKED_UP == "file.backed_up"
    assert isinstance(event.payload, FileBackedUp)
    assert event.payload.backup_path == str(files.target)


async def test_the_event_is_published_after_the_commit(files: Files) -> None:
    """Subscribers find the backup in place and nothing beside it; a failed backup publishes nothing."""
    files.with_previous()
    async with ModelONEXContainer() as container:
        bus = container.get_service("ProtocolEventBus")
        assert isinstance(bus, ProtocolEventBus)
        seen: list[tuple[str, dict[str, bytes]]] = []
        heard = asyncio.Event()

        def hear(event: ModelEventEnvelope[JsonValue]) -> None:
            seen.append((event.event_type, files.found()))
            heard.set()

        bus.subscribe(BACKED_UP, hear)
        node = FileBackupNode(container)
        await node.backup(files.request(source_path="/nowhere/x"))
        await node.backup(files.request())
        await asyncio.wait_for(heard.wait(), 5)

    assert seen == [(BACKED_UP, {"target": NEW})]


async def test_called_without_process_it_commits_by_itself(files: Files) -> None:
    """`_execute_effect(input, transaction)` by hand, with any transaction that has `add_operation`."""
    files.with_previous()
    noted: list[tuple[str, Callable[[], object]]] = []

    class Transaction:
        transaction_id = uuid4()

        def add_operation(self, name: str, _data: object, rollback: Callable[[], object]) -> None:
            noted.append((name, rollback))

    result = await FileBackupNode()._execute_effect(files.call(), Transaction())

    assert result["success"] is True
    assert result["transaction_id"] == Transaction.transaction_id
    assert [name for name, _ in noted] == ["file_backup"]
    assert files.found() == {"target": NEW}


async def test_what_could_be_neither_committed_nor_undone_is_said(files: Files) -> None:
    """The error is ambiguous and says that the previous backup is not back; it is never called rolled back."""
    files.with_previous()
    handler = FileBackupHandler()
    backup = handler.begin(files.request())
    await handler.handle(backup, uuid4())
    kept = next(path for path in files.folder.iterdir() if path.name.endswith("previous"))
    kept.unlink()
    kept.mkdir()  # what can be neither removed as a file nor renamed onto one

    with pytest.raises(EffectFault, match="could not be brought back") as caught:
        await handler.commit(backup)

    assert caught.value.phase is EnumFaultPhase.AMBIGUOUS
    assert backup.rolled_back is False
    assert files.target.read_bytes() == NEW


def test_one_node_serves_several_loops_and_leaves_nothing(files: Files) -> None:
    """No descriptor, no thread, no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        node = FileBackupNode()
        asyncio.run(_some(node, files))
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        threads = threading.active_count()
        for _ in range(3):
            asyncio.run(_some(node, files))
        del node
        gc.collect()

    assert threading.active_count() == threads
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


async def _some(node: FileBackupNode, files: Files) -> None:
    outputs = await asyncio.gather(
        *(node.backup(files.request(backup_path=files.folder / str(number))) for number in range(10))
    )
    assert all(output.success for output in outputs)
    await node.backup(files.request(source_path="/nowhere/x"))
