"""Where file operations may reach."""

import contextlib
import os
import socket
from pathlib import Path
from uuid import uuid4

import pytest

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EnumCoreErrorCode
from omnibase_core.handlers.filesystem_handler import FilesystemHandler
from tests.unit.handlers.filesystem_calls import Run, context_of, fault_from


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        (operation, path)
        for operation in ("read", "write", "delete", "copy", "move")
        for path in ("../secret", "/etc/hostname", "up/secret", "in/../../secret", "absolute", "/")
        # Deleting and moving act on the link itself, which lies inside.
        if operation not in {"delete", "move"} or path != "absolute"
    ],
)
async def test_no_operation_leaves_the_roots(tmp_path: Path, operation: str, path: str) -> None:
    """Neither `..`, nor an absolute path, nor a link leads out of the roots; the refusal names the setting."""
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "up").symlink_to("..")
    (root / "absolute").symlink_to(tmp_path / "secret")
    handler = FilesystemHandler([root])
    more = {"content": "x", "destination_path": "in/new"}

    context = context_of(operation, path, **more)
    fault = await fault_from(handler.execute(resolved_context=context, correlation_id=uuid4()))

    assert fault.phase is EnumFaultPhase.NOT_SENT
    if path != "/":
        assert fault.error_code == EnumCoreErrorCode.SECURITY_VIOLATION
        assert "file_roots" in fault.message
        assert str(root) in fault.message
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (root / "in/new").exists()


@pytest.mark.parametrize("operation", ["copy", "move"])
async def test_destinations_are_confined_too(run: Run, tmp_path: Path, operation: str) -> None:
    """A destination outside the roots is refused, and the source stays."""
    (tmp_path / "a").write_text("x")

    fault = await fault_from(run(operation, "a", destination_path="../b"))

    assert fault.error_kind == "OUTSIDE_ROOTS"
    assert (tmp_path / "a").exists()


async def test_links_inside_the_roots_are_followed(run: Run, tmp_path: Path) -> None:
    """Relative and absolute links inside are followed, in the middle and at the end of a path, also by a write."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("old")
    (tmp_path / "middle").symlink_to("data")
    (tmp_path / "end").symlink_to(tmp_path / "middle/a")

    assert (await run("read", "middle/../data/./a"))["content"] == "old"
    assert (await run("read", tmp_path / "end"))["resolved_path"] == str(tmp_path / "data/a")
    await run("write", "end", content="new", atomic=True)
    assert (tmp_path / "data/a").read_text() == "new"
    assert (tmp_path / "end").is_symlink()


async def test_several_roots(tmp_path: Path) -> None:
    """A relative path belongs to the first root, an absolute one to its own; a link may lead from one to the other."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    (tmp_path / "one/link").symlink_to("../two/a")
    handler = FilesystemHandler([tmp_path / "one", tmp_path / "two"])

    for path, content in {
        "a": "one",
        str(tmp_path / "two/a"): "two",
        "link": "two",
        "../two/../one/a": "one",
    }.items():
        document = await handler.execute(resolved_context=context_of("read", path), correlation_id=uuid4())
        assert document["content"] == content


async def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    """A root that is itself a link is the operator's word: paths may begin with either of its names."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a").write_text("x")
    (tmp_path / "alias").symlink_to("real")
    handler = FilesystemHandler([tmp_path / "alias"])

    for path in ("a", str(tmp_path / "alias/a"), str(tmp_path / "real/a")):
        document = await handler.execute(resolved_context=context_of("read", path), correlation_id=uuid4())
        assert document["resolved_path"] == str(tmp_path / "real/a")


async def test_without_roots_the_current_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`roots=None` follows the current directory from call to call; an empty list allows nothing."""
    handler = FilesystemHandler()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)

        monkeypatch.chdir(tmp_path / name)
        document = await handler.execute(resolved_context=context_of("read", "a"), correlation_id=uuid4())

        assert document["content"] == name
    fault = await fault_from(
        FilesystemHandler([]).execute(resolved_context=context_of("read", "a"), correlation_id=uuid4())
    )
    assert fault.error_code == EnumCoreErrorCode.SECURITY_VIOLATION


async def test_a_missing_root_is_the_operatorsfault_from(tmp_path: Path) -> None:
    """A root that does not exist is CONFIGURATION_ERROR and named."""
    handler = FilesystemHandler([tmp_path / "gone"])

    fault = await fault_from(handler.execute(resolved_context=context_of("read", "a"), correlation_id=uuid4()))

    assert fault.error_code == EnumCoreErrorCode.CONFIGURATION_ERROR
    assert str(tmp_path / "gone") in fault.message


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 20_000, "\udcff\ud800"])
async def test_impossible_paths_are_refused_unread(run: Run, path: str) -> None:
    """An empty path, NUL, endless text and characters that no name can hold are VALIDATION_ERROR."""
    fault = await fault_from(run("read", path))

    assert (fault.error_code, fault.phase) == (EnumCoreErrorCode.VALIDATION_ERROR, EnumFaultPhase.NOT_SENT)
    assert len(fault.message) < 500


@pytest.mark.parametrize("path", ["d", "d/", ".", "d/..", "d/."])
async def test_directories_are_no_files(run: Run, tmp_path: Path, path: str) -> None:
    """No operation takes a directory."""
    (tmp_path / "d").mkdir()
    (tmp_path / "a").touch()

    for operation in ("read", "write", "delete", "move", "copy"):
        fault = await fault_from(run(operation, path, content="x", destination_path="new"))
        assert fault.error_kind == "EISDIR", operation
    assert (await fault_from(run("copy", "a", destination_path=path))).error_kind == "EISDIR"
    assert (tmp_path / "d").is_dir()


async def test_names_and_depth_have_limits(run: Run) -> None:
    """A name of 256 bytes and 300 directories are VALIDATION_ERROR; a name of 255 bytes is written atomically."""
    assert (await fault_from(run("write", "x" * 256, content=""))).error_kind == "ENAMETOOLONG"
    fault = await fault_from(run("write", "d/" * 300 + "f", content=""))
    assert fault.error_code == EnumCoreErrorCode.VALIDATION_ERROR
    assert "200" in fault.message
    longest = "ü" * 127 + "x"
    await run("write", longest, content="x", atomic=True)
    assert (await run("read", longest))["content"] == "x"


async def test_circular_links_end(run: Run, tmp_path: Path) -> None:
    """A circle of links is ELOOP, in the middle and at the end of a path."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert (await fault_from(run("read", "a"))).error_kind == "ELOOP"
    assert (await fault_from(run("read", "a/x"))).error_kind == "ELOOP"
    assert (await fault_from(run("write", "a", content="", atomic=True))).error_kind == "ELOOP"


async def test_what_is_no_regular_file_is_refused_without_waiting(run: Run, tmp_path: Path) -> None:
    """FIFOs and sockets are refused by every operation, at once, as source and as destination."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a").write_text("x")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("socket")
    for special in ("fifo", "socket"):
        for operation in ("read", "write", "delete", "copy", "move"):
            fault = await fault_from(run(operation, special, content="x", destination_path="new"))
            assert fault.error_kind == "NOT_A_FILE", (special, operation)
            assert special.upper() in fault.message.upper()
        for operation in ("copy", "move"):
            fault = await fault_from(run(operation, "a", destination_path=special))
            assert fault.error_kind == "NOT_A_FILE", (special, operation)
        assert (await fault_from(run("write", special, content="x", atomic=True))).error_kind == "NOT_A_FILE"


async def test_devices_and_magic_links_are_refused(tmp_path: Path) -> None:
    """Even with everything as root, devices and the links of the process file system are no files."""
    handler = FilesystemHandler([Path("/")])
    (tmp_path / "a").write_text("x")
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        for path, kind in (("/dev/null", "NOT_A_FILE"), (f"/proc/self/fd/{descriptor}", "MAGIC_LINK")):
            fault = await fault_from(handler.execute(resolved_context=context_of("read", path), correlation_id=uuid4()))
            assert fault.error_kind == kind
    finally:
        os.close(descriptor)
