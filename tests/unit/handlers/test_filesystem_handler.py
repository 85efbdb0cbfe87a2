"""What the filesystem handler does, and what it says about it."""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EnumCoreErrorCode
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from tests.unit.handlers.filesystem_calls import Document, Run, context_of, fault_from, names, umask


async def test_read_says_what_the_file_is(run: Run, tmp_path: Path) -> None:
    """A read gives content, size, digest, encoding and time of change, and the path as it was given."""
    (tmp_path / "a.txt").write_bytes("grün".encode())

    document = await run("read", "a.txt")

    changed = datetime.fromisoformat(str(document.pop("modified_at")))
    assert changed.tzinfo is not None
    assert abs(changed - datetime.now(UTC)) < timedelta(minutes=1)
    assert document == {
        "path": "a.txt",
        "resolved_path": str(tmp_path / "a.txt"),
        "size_bytes": 5,
        "sha256": hashlib.sha256("grün".encode()).hexdigest(),
        "content": "grün",
        "encoding": "utf-8",
    }


@pytest.mark.parametrize("atomic", [True, False])
async def test_write_makes_directories_and_says_what_it_did(run: Run, tmp_path: Path, atomic: bool) -> None:
    """A write makes missing directories, and tells a new file from a replaced one."""
    first = await run("write", "a/b/c.txt", content="grün", atomic=atomic)
    second = await run("write", "a/b/c.txt", content="g", atomic=atomic)

    assert first == {
        "path": "a/b/c.txt",
        "resolved_path": str(tmp_path / "a/b/c.txt"),
        "size_bytes": 5,
        "bytes_written": 5,
        "sha256": hashlib.sha256("grün".encode()).hexdigest(),
        "created": True,
    }
    assert second["created"] is False
    assert (tmp_path / "a/b/c.txt").read_text() == "g"
    assert names(tmp_path / "a/b") == ["c.txt"]


@pytest.mark.parametrize("operation", ["copy", "move"])
async def test_copy_and_move_give_both_paths(run: Run, tmp_path: Path, operation: str) -> None:
    """Copy and move name both paths, with size and digest of what was carried."""
    (tmp_path / "a").write_text("content")

    document = await run(operation, "a", destination_path="d/b", atomic=operation == "move")

    assert document == {
        "path": "a",
        "destination_path": "d/b",
        "resolved_path": str(tmp_path / "a"),
        "resolved_destination_path": str(tmp_path / "d/b"),
        "size_bytes": 7,
        "sha256": hashlib.sha256(b"content").hexdigest(),
    }
    assert (tmp_path / "d/b").read_text() == "content"
    assert (tmp_path / "a").exists() is (operation == "copy")


async def test_delete_says_whether_there_was_a_file(run: Run, tmp_path: Path) -> None:
    """Deleting a missing file is an error, unless `missing_ok` asks to be told; also in missing directories."""
    (tmp_path / "a").touch()

    assert await run("delete", "a") == {
        "path": "a",
        "existed": True,
        "deleted": True,
        "resolved_path": str(tmp_path / "a"),
    }
    assert await run("delete", "a", missing_ok=True) == {"path": "a", "existed": False, "deleted": False}
    assert await run("delete", "no/a", missing_ok=True) == {"path": "no/a", "existed": False, "deleted": False}
    fault = await fault_from(run("delete", "a"))
    assert (fault.error_code, fault.error_kind, fault.phase) == (
        EnumCoreErrorCode.NOT_FOUND,
        "ENOENT",
        EnumFaultPhase.REJECTED,
    )


@pytest.mark.parametrize("atomic", [True, False])
async def test_modes(run: Run, tmp_path: Path, atomic: bool) -> None:
    """An explicit mode is exact; otherwise a replaced file keeps its mode and a new one follows the umask."""
    await run("write", "explicit", content="x", atomic=atomic, mode="0666")
    await run("write", "fresh", content="x", atomic=atomic)
    (tmp_path / "kept").touch()
    (tmp_path / "kept").chmod(0o604)
    await run("write", "kept", content="x", atomic=atomic)
    await run("write", "explicit2", content="x", atomic=atomic, mode="600")

    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}

    assert modes == {"explicit": 0o666, "fresh": 0o666 & ~umask(), "kept": 0o604, "explicit2": 0o600}


@pytest.mark.parametrize("mode", ["rw-r--r--", "0888", "99", "", "00644 "])
async def test_a_mode_is_octal_digits(run: Run, tmp_path: Path, mode: str) -> None:
    """Anything but three or four octal digits is refused before anything is written."""
    fault = await fault_from(run("write", "a", content="x", mode=mode))

    assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.VALIDATION_ERROR, EnumFaultPhase.NOT_SENT)
    assert "'0644'" in fault.message
    assert names(tmp_path) == []


@pytest.mark.parametrize("atomic", [True, False])
async def test_overwrite_false_keeps_what_is_there(run: Run, tmp_path: Path, atomic: bool) -> None:
    """With `overwrite: false` an existing file is a CONFLICT and stays; a missing one is written."""
    await run("write", "a", content="first", atomic=atomic, overwrite=False)

    fault = await fault_from(run("write", "a", content="second", atomic=atomic, overwrite=False))

    assert (fault.error_code, fault.error_kind, fault.phase) == (
        EnumCoreErrorCode.CONFLICT,
        "EEXIST",
        EnumFaultPhase.REJECTED,
    )
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


async def test_an_atomic_write_replaces_and_another_one_rewrites(run: Run, tmp_path: Path) -> None:
    """An atomic write makes a new file, so that readers keep theirs; the other one writes into the same file."""
    (tmp_path / "a").write_text("old")
    before = (tmp_path / "a").stat().st_ino
    with (tmp_path / "a").open() as reader:
        await run("write", "a", content="new", atomic=True)
        assert reader.read() == "old"
    after = (tmp_path / "a").stat().st_ino
    assert after != before
    await run("write", "a", content="x", atomic=False)
    assert (tmp_path / "a").stat().st_ino == after
    assert (tmp_path / "a").read_text() == "x"


async def test_left_over_temporaries_of_the_dead_go_those_of_the_living_stay(run: Run, tmp_path: Path) -> None:
    """A temporary file whose lock is free is removed by the next write of its target, and no other file is."""
    planted = [f".a.onex-{slot}.tmp" for slot in ("0", "1", "3", "0123456789abcdef")]
    for name in [*planted, ".b.onex-0.tmp"]:
        (tmp_path / name).touch()
    with (tmp_path / ".a.onex-1.tmp").open() as living:
        fcntl.flock(living, fcntl.LOCK_EX)

        await run("write", "a", content="x", atomic=True)

        assert names(tmp_path) == [".a.onex-1.tmp", ".b.onex-0.tmp", "a"]
    await run("write", "a", content="y", atomic=True)
    assert names(tmp_path) == [".b.onex-0.tmp", "a"]


async def test_more_living_writers_than_slots(run: Run, tmp_path: Path) -> None:
    """When every slot is taken by a living writer, a write finds a name of its own and leaves theirs alone."""
    taken = [f".a.onex-{slot}.tmp" for slot in range(4)]
    with contextlib.ExitStack() as stack:
        for name in taken:
            fcntl.flock(stack.enter_context((tmp_path / name).open("w")), fcntl.LOCK_EX)

        await run("write", "a", content="x", atomic=True)

        assert names(tmp_path) == [*taken, "a"]


@pytest.mark.parametrize("operation", ["read", "delete", "move", "copy"])
async def test_the_advice_about_a_missing_file_is_none_about_directories(run: Run, operation: str) -> None:
    """`create_dirs` makes no file that could be read."""
    destination = {"destination_path": "b"} if operation in {"move", "copy"} else {}

    fault = await fault_from(run(operation, "a", **destination))

    assert fault.error_code == EnumCoreErrorCode.NOT_FOUND
    assert "create_dirs" not in fault.message
    assert "Check the path" in fault.message


async def test_no_directories_unless_asked(run: Run, tmp_path: Path) -> None:
    """With `create_dirs: false` a missing directory is NOT_FOUND, and none is made."""
    fault = await fault_from(run("write", "d/a", content="x", create_dirs=False))

    assert fault.error_code == EnumCoreErrorCode.NOT_FOUND
    assert "create_dirs" in fault.message
    assert names(tmp_path) == []


async def test_content_is_needed(run: Run) -> None:
    """A write without content, and a copy or move without destination, are VALIDATION_ERROR."""
    for pending in (run("write", "a"), run("copy", "a"), run("move", "a")):
        fault = await fault_from(pending)
        assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.VALIDATION_ERROR, EnumFaultPhase.NOT_SENT)


async def test_empty_content_is_content(run: Run, tmp_path: Path) -> None:
    """An empty text writes an empty file, which reads as an empty text."""
    await run("write", "a", content="", atomic=True)

    assert (tmp_path / "a").stat().st_size == 0
    assert (await run("read", "a"))["content"] == ""


async def test_encodings(run: Run, tmp_path: Path) -> None:
    """Text is written and read in the named encoding; line ends are left as they are."""
    await run("write", "a", content="grün\r\n", encoding="latin-1")

    assert (tmp_path / "a").read_bytes() == b"gr\xfcn\r\n"
    assert (await run("read", "a", encoding="latin-1"))["content"] == "grün\r\n"


@pytest.mark.parametrize("encoding", ["klingon", "zlib", "rot13", "", "a\0b"])
async def test_unknown_encodings_are_refused_unread(run: Run, tmp_path: Path, encoding: str) -> None:
    """An encoding that is unknown, or none of text, is VALIDATION_ERROR before any file is touched."""
    (tmp_path / "a").write_text("old")

    for pending in (run("read", "a", encoding=encoding), run("write", "a", content="x", encoding=encoding)):
        fault = await fault_from(pending)
        assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.VALIDATION_ERROR, EnumFaultPhase.NOT_SENT)
    assert (tmp_path / "a").read_text() == "old"


async def test_what_an_encoding_cannot_say(run: Run, tmp_path: Path) -> None:
    """Bytes that are no text are a fault after the read, characters that cannot be written one before the write.

    Neither shows the content, not even in what hangs on the error.
    """
    (tmp_path / "a").write_bytes(b"secret \xff")

    reading = await fault_from(run("read", "a"))
    writing = await fault_from(run("write", "b", content="secret ü", encoding="ascii"))

    assert (reading.error_kind, reading.phase) == ("EILSEQ", EnumFaultPhase.DONE)
    assert "at byte 7" in reading.message
    assert writing.phase is EnumFaultPhase.NOT_SENT
    assert "at character 7" in writing.message
    for fault in (reading, writing):
        assert "secret" not in fault.message
        assert fault.__cause__ is None
        assert fault.__context__ is None
    assert not (tmp_path / "b").exists()


async def test_the_cap_on_memory(tmp_path: Path) -> None:
    """Reads and writes over `max_file_bytes` are refused; copies and moves are streamed and go through."""
    handler = FilesystemHandler([tmp_path], max_file_bytes=2048)
    (tmp_path / "large").write_bytes(b"x" * 2049)
    (tmp_path / "just").write_bytes(b"x" * 2048)

    async def call(operation: str, path: str, **more: object) -> Document:
        return await handler.execute(resolved_context=context_of(operation, path, **more), correlation_id=uuid4())

    fault = await fault_from(call("read", "large"))
    assert fault.error_kind == "EFBIG"
    assert "max_file_bytes" in fault.message
    assert (await call("read", "just"))["size_bytes"] == 2048
    assert "2048" in (await fault_from(call("write", "new", content="x" * 2049))).message
    assert (await call("copy", "large", destination_path="copied"))["size_bytes"] == 2049
    moved = await call("move", "large", destination_path="moved", atomic=True)
    assert (moved["size_bytes"], moved["sha256"]) == (2049, None)


async def test_files_without_a_size_are_read_and_capped() -> None:
    """A file that says 0 bytes and holds more, as in /proc, is read to its end, within the cap."""
    handler = FilesystemHandler([Path("/proc")], max_file_bytes=1 << 20)

    document = await handler.execute(resolved_context=context_of("read", "filesystems"), correlation_id=uuid4())

    assert document["content"] == await asyncio.to_thread(Path("/proc/filesystems").read_text)
    capped = FilesystemHandler([Path("/proc")], max_file_bytes=16)
    fault = await fault_from(capped.execute(resolved_context=context_of("read", "filesystems"), correlation_id=uuid4()))
    assert fault.error_kind == "EFBIG"


async def test_copy_keeps_the_mode_of_the_source_or_the_replaced(run: Run, tmp_path: Path) -> None:
    """A new copy takes the source's mode within the umask, a replaced file keeps its own, an explicit mode is exact."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o700)
    (tmp_path / "kept").touch(mode=0o600)

    for name, mode in (("new", None), ("kept", None), ("explicit", "0640")):
        await run("copy", "a", destination_path=name, mode=mode)

    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
    assert modes == {"a": 0o700, "new": 0o700 & ~umask(), "kept": 0o600, "explicit": 0o640}


@pytest.mark.parametrize("operation", ["copy", "move"])
async def test_one_and_the_same_file(run: Run, tmp_path: Path, operation: str) -> None:
    """A file cannot be copied or moved onto itself, by whatever name."""
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "hard")

    for destination in ("a", "./a", "hard"):
        fault = await fault_from(run(operation, "a", destination_path=destination))
        assert (fault.error_code, fault.error_kind) == (EnumCoreErrorCode.CONFLICT, "SAME_FILE")
    assert (tmp_path / "a").read_text() == (tmp_path / "hard").read_text() == "x"


@pytest.mark.parametrize("operation", ["copy", "move"])
async def test_destinations_are_kept_unless_overwriting(run: Run, tmp_path: Path, operation: str) -> None:
    """With `overwrite: false` an existing destination is a CONFLICT, and both files stay."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")

    fault = await fault_from(run(operation, "a", destination_path="b", overwrite=False))

    assert fault.error_code == EnumCoreErrorCode.CONFLICT
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("a", "b")
    await run(operation, "a", destination_path="c", overwrite=False)
    await run(operation, "c", destination_path="b")
    assert (tmp_path / "b").read_text() == "a"


async def test_move_and_delete_take_the_link_itself(run: Run, tmp_path: Path) -> None:
    """A link is moved and deleted as what it is, even one that leads nowhere; what it names is not touched."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("/nowhere")

    moved = await run("move", "link", destination_path="moved", atomic=True)
    await run("delete", "dangling")

    assert moved["sha256"] is None
    assert (tmp_path / "moved").readlink() == Path("a")
    assert names(tmp_path) == ["a", "moved"]


async def test_move_with_a_mode(run: Run, tmp_path: Path) -> None:
    """A moved file gets the mode that is asked for, and else keeps its own."""
    (tmp_path / "a").touch(mode=0o600)

    await run("move", "a", destination_path="b", atomic=True)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    await run("move", "b", destination_path="c", atomic=True, mode="0644")
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o644


async def test_an_atomic_move_across_file_systems_fails_fast(tmp_path: Path, far: Path) -> None:
    """It is REJECTED, says what to set, and leaves source and destination alone."""
    handler = FilesystemHandler([tmp_path, far])
    (tmp_path / "a").write_text("x")
    context = context_of("move", "a", destination_path=str(far / "b"), atomic=True)

    fault = await fault_from(handler.execute(resolved_context=context, correlation_id=uuid4()))

    assert (fault.error_code, fault.error_kind, fault.phase) == (
        EnumCoreErrorCode.OPERATION_FAILED,
        "EXDEV",
        EnumFaultPhase.REJECTED,
    )
    assert "atomic: false" in fault.message
    assert (tmp_path / "a").read_text() == "x"
    assert names(far) == []


async def test_a_move_across_file_systems_copies_then_deletes(tmp_path: Path, far: Path) -> None:
    """A move that is not atomic carries content, mode and time over, and honours `overwrite: false`."""
    handler = FilesystemHandler([tmp_path, far])
    (tmp_path / "a").write_text("x" * 3_000_000)
    (tmp_path / "a").chmod(0o640)
    os.utime(tmp_path / "a", (1_000_000_000, 1_000_000_000))
    (far / "taken").touch()

    def move(destination: str) -> Coroutine[Any, Any, Document]:
        context = context_of("move", "a", destination_path=str(far / destination), overwrite=False)
        return handler.execute(resolved_context=context, correlation_id=uuid4())

    assert (await fault_from(move("taken"))).error_code == EnumCoreErrorCode.CONFLICT
    document = await move("b")
    info = (far / "b").stat()
    assert document["sha256"] == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime, info.st_size) == (0o640, 1_000_000_000, 3_000_000)
    assert names(tmp_path) == []
    assert names(far) == ["b", "taken"]
