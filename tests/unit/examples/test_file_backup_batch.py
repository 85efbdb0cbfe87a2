"""Many files at a time: pairs, directory trees, progress, and the command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.file_backup.__main__ import main
from examples.file_backup.handler import FileBackupHandler
from examples.file_backup.node import BackupResult, FileBackupNode
from examples.file_backup.tree import Pair, pairs_of
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import ModelOnexError

pytestmark = pytest.mark.usefixtures("own_log_level")
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Six files in three directories, one of them empty, and a link."""
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "empty").mkdir()
    for name in ("one", "a/two", "a/three", "a/b/four", "a/b/five", "ü ${x}"):
        (root / name).write_text(f"content of {name}")
    (root / "link").symlink_to("one")
    return root


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def files_of(root: Path) -> dict[str, str]:
    return {name: text for name, text in contents(root).items() if name != "link"}


async def test_a_tree_is_backed_up_file_by_file(tree: Path, tmp_path: Path) -> None:
    """Results stand in the order of the pairs; links are left out; progress is told for each file and for bytes."""
    seen: list[BackupResult] = []
    told: list[int] = []
    node = FileBackupNode(None, FileBackupHandler(on_bytes=told.append))
    pairs = list(pairs_of(tree, tmp_path / "copy"))

    results = await node.backup_many(pairs, concurrency=3, on_progress=seen.append)

    assert contents(tmp_path / "copy") == files_of(tree)
    assert [result.output.source_path for result in results] == [pair.source for pair in pairs]
    assert {result.output.source_path for result in seen} == {pair.source for pair in pairs}
    assert sum(told) == sum(pair.size_bytes for pair in pairs) == node.backup_stats["total_bytes"]


async def test_one_that_fails_does_not_keep_the_others(tree: Path, tmp_path: Path) -> None:
    """Its result has the error; what cannot even be asked for has one too."""
    pairs: list[tuple[str | Path, str | Path]] = [
        (tree / "missing", tmp_path / "x"),
        (tree / "one", tmp_path / "y"),
        (tree / "one", ""),
    ]

    bad, good, unasked = await FileBackupNode().backup_many(pairs, max_retries=0)

    assert bad.error is not None
    assert bad.error.error_code is Code.NOT_FOUND
    assert good.output.success
    assert unasked.error is not None
    assert unasked.error.error_code is Code.VALIDATION_ERROR
    assert (tmp_path / "y").read_text() == "content of one"


def test_where_a_file_goes(tree: Path, tmp_path: Path) -> None:
    """To the target, or into it where it is a directory or ends with a slash; the same in a bucket."""
    one = tree / "one"

    def target(to: str | Path) -> str:
        [pair] = pairs_of(one, to)
        return pair.backup

    assert target(tmp_path / "new") == str(tmp_path / "new")
    assert target(tmp_path) == str(tmp_path / "one")
    assert target(f"{tmp_path}/new/") == str(tmp_path / "new" / "one")
    assert target("s3://bucket") == "s3://bucket/one"
    assert target("s3://bucket/p/") == "s3://bucket/p/one"
    assert target("s3://bucket/p") == "s3://bucket/p"
    assert Pair(str(tree / "a" / "two"), "s3://bucket/p/a/two", 16) in set(pairs_of(tree, "s3://bucket/p"))


def test_a_backup_inside_its_own_source_is_refused(tree: Path) -> None:
    """Else each run would back up the one before."""
    with pytest.raises(ModelOnexError) as caught:
        list(pairs_of(tree, tree / "a" / "backup"))

    assert caught.value.error_code is Code.VALIDATION_ERROR


# the command


@pytest.mark.parametrize("options", [(), ("--no-verify",), ("--jobs", "1"), ("--contract",)], ids=str)
def test_the_command_backs_a_tree_up(
    tree: Path, tmp_path: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice, so that the second run replaces; the summary counts."""
    (tree / "ü ${x}").unlink()  # the contract's roots are told by path, and this name belongs to the tests above
    for text in ("first", "second"):
        (tree / "one").write_text(text)
        assert main([str(tree), str(tmp_path / "copy"), *options]) == 0
        assert "5 of 5 files backed up" in capsys.readouterr().out

    found = contents(tmp_path / "copy")
    assert {name: text for name, text in found.items() if not name.endswith(".previous")} == files_of(tree)
    if "--contract" in options:
        assert found["one.previous"] == "first"


def test_the_command_prints_one_json_document(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the output model of each file."""
    status = main([str(tree / "one"), str(tmp_path / "copy"), "--json"])
    document = json.loads(capsys.readouterr().out)

    assert status == 0
    assert (document["files"], document["successful"], document["failed"], document["error"]) == (1, 1, 0, None)
    assert document["backups"][0]["checksum_match"] is True


def test_a_users_mistake_is_a_message_and_the_status_of_its_code(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing source 14, target in the source 2, nonsense 2; never a traceback."""
    for arguments, status in (
        ([str(tree / "missing"), str(tmp_path / "x")], 14),
        ([str(tree / "missing"), str(tmp_path / "x"), "--contract"], 14),
        ([str(tree), str(tree / "x")], 2),
        ([str(tree / "one"), "s3://"], 2),
        ([str(tree / "one"), str(tree / "one" / "below")], 5),
    ):
        assert main(arguments) == status, arguments
        written = capsys.readouterr()
        assert "file backup" in written.err
        assert "Traceback" not in written.err
    for arguments in (["only-one"], [str(tree), "x", "--jobs", "0"], [str(tree), "s3://b/x", "--contract"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_everything_is_tidy(tmp_path: Path, number: signal.Signals) -> None:
    """The previous backup stands, nothing lies beside it, the status is that of CANCELLED, without a traceback."""
    source, folder = tmp_path / "source", tmp_path / "backups"
    folder.mkdir()
    (folder / "target").write_text("previous")
    with source.open("wb") as file:
        file.truncate(64 << 30)  # a hole that takes minutes to read
    command = [sys.executable, "-m", "examples.file_backup", str(source), str(folder / "target")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 20
        while len(os.listdir(folder)) < 3 and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # another process: its temporary file is the only sign
        run.send_signal(number)
        out, err = run.communicate(timeout=20)

    assert run.returncode == Code.CANCELLED.exit_status, err
    assert "Traceback" not in err
    assert "0 of 1 files" in out
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"target": "previous"}


# memory

_MEASURE = """
import asyncio, resource, sys
from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.node import FileBackupNode

async def main(source, target):
    node = FileBackupNode()
    await node.backup(ModelFileBackupInput(source_path=__file__, backup_path=target))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output = await node.backup(ModelFileBackupInput(source_path=source, backup_path=target))
    assert output.success and output.checksum_match, output
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_file_of_512_mib_needs_less_than_64_mib_of_memory(tmp_path: Path) -> None:
    """Streamed in both directions; 2 GiB with the same bound is in `benchmarks/test_file_backup.py`."""
    source, script = tmp_path / "source", tmp_path / "measure.py"
    script.write_text(_MEASURE)
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for _ in range(512):
            file.write(block)

    done = subprocess.run(
        [sys.executable, str(script), str(source), str(tmp_path / "target")],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024
