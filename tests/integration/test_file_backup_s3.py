"""The file backup into S3, against a local server that speaks it."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.file_backup.__main__ import main
from examples.file_backup.handler import FileBackupHandler
from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.node import FileBackupNode
from examples.file_backup.s3 import S3Service
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from tests.support import backends

pytestmark = [pytest.mark.usefixtures("own_log_level"), pytest.mark.xdist_group("s3")]  # one server serves them all
LARGE = os.urandom(1 << 20) * 20  # three parts
OLD = b"the previous object"
_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=somebody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=unjudged",
    "Content-Type": "application/octet-stream",
}


@dataclass
class Bucket:
    """A bucket as a plain HTTP client sees it, behind the back of the client under test."""

    endpoint: str
    name: str = "backups"

    def request(self, method: str, path: str = "", data: bytes | None = None) -> bytes:
        url = f"{self.endpoint}/{self.name}{path}"
        request = urllib.request.Request(url, data=data, method=method, headers=_HEADERS)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def names(self) -> list[str]:
        return re.findall("<Key>([^<]*)</Key>", self.request("GET", "?list-type=2").decode())

    def objects(self) -> dict[str, bytes]:
        return {key: self.request("GET", f"/{key}") for key in self.names()}

    def uploads(self) -> list[str]:
        """Multipart uploads that were begun and neither completed nor aborted."""
        return re.findall("<UploadId>([^<]*)</UploadId>", self.request("GET", "?uploads").decode())

    def address(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The endpoint of an S3 server in a process of its own, on a free port of this machine."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        found = None
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                break
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        assert found is not None, "the server did not start"
        backends.ran_against("S3", "moto in server mode, a process of its own")
        yield found[0]
        process.terminate()
        drain.join()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, and credentials in the environment, which the server does not judge."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTKEYID0000001")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = Bucket(server)
    try:
        for key in bucket.names():
            bucket.request("DELETE", f"/{key}")
    except urllib.error.HTTPError:
        bucket.request("PUT")
    return bucket


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(LARGE)
    return path


def node_on(bucket: Bucket, **seams: object) -> FileBackupNode:
    handler = FileBackupHandler(s3=S3Service(bucket.endpoint), **seams)  # type: ignore[arg-type]  # its own parameters
    return FileBackupNode(None, handler)


def request(source: Path, bucket: Bucket, **more: object) -> ModelFileBackupInput:
    fields = {"source_path": source, "backup_path": bucket.address("p/target"), "max_retries": 0, **more}
    return ModelFileBackupInput.model_validate(fields)


@pytest.mark.parametrize("content", [LARGE, b"small", b""], ids=["parts", "small", "empty"])
@pytest.mark.parametrize("previous", [True, False])
async def test_a_file_becomes_an_object(source: Path, bucket: Bucket, content: bytes, previous: bool) -> None:
    """Uploaded in parts, read back and compared; nothing else is left in the bucket."""
    source.write_bytes(content)
    if previous:
        bucket.request("PUT", "/p/target", OLD)
    told: list[int] = []

    output = await node_on(bucket, on_bytes=told.append).backup(request(source, bucket))

    assert output.success, output.error_message
    assert (output.verified, output.checksum_match) == (True, True)
    assert (output.source_size_bytes, output.backup_size_bytes, sum(told)) == (len(content),) * 3
    assert bucket.objects() == {"p/target": content}
    assert bucket.uploads() == []


async def test_without_verification_the_size_is_asked_for(source: Path, bucket: Bucket) -> None:
    """S3 itself has checked the parts as they arrived."""
    output = await node_on(bucket).backup(request(source, bucket, verify_backup=False))

    assert (output.success, output.verified) == (True, False)
    assert bucket.objects() == {"p/target": LARGE}


@pytest.mark.parametrize("previous", [True, False])
async def test_a_mismatch_restores_the_previous_object(source: Path, bucket: Bucket, previous: bool) -> None:
    """Or removes the new one, where there was none; and says so."""
    before = {"p/target": OLD} if previous else {}
    for key, content in before.items():
        bucket.request("PUT", f"/{key}", content)

    output = await node_on(bucket, read_back=lambda _: iter([b"rot"])).backup(request(source, bucket))

    assert (output.success, output.checksum_match, output.rollback_performed) == (False, False, True)
    assert bucket.objects() == before


async def test_cancelled_in_the_middle_of_an_upload(source: Path, bucket: Bucket) -> None:
    """The upload is aborted, the previous object stands, and nothing lies beside it."""
    bucket.request("PUT", "/p/target", OLD)
    loop, half = asyncio.get_running_loop(), asyncio.Event()
    go_on = threading.Event()
    told = [0]

    def on_bytes(count: int) -> None:
        told[0] += count
        if told[0] == 12 << 20:
            loop.call_soon_threadsafe(half.set)
            assert go_on.wait(10)

    task = asyncio.ensure_future(node_on(bucket, on_bytes=on_bytes).backup(request(source, bucket)))
    await half.wait()
    task.cancel()
    loop.call_later(0.01, go_on.set)
    await asyncio.wait([task])

    assert task.cancelled()
    assert await asyncio.to_thread(bucket.objects) == {"p/target": OLD}
    assert await asyncio.to_thread(bucket.uploads) == []


async def test_a_source_that_grows_is_refused(source: Path, bucket: Bucket) -> None:
    """And its upload is aborted."""

    def grow(count: int) -> None:
        if count > 0:
            with source.open("ab") as file:
                file.write(b"more")

    output = await node_on(bucket, on_bytes=grow).backup(request(source, bucket))

    assert "changed while it was read" in (output.error_message or "")
    assert bucket.objects() == {}
    assert bucket.uploads() == []


async def test_a_killed_run_is_rolled_back_by_the_next(source: Path, bucket: Bucket) -> None:
    """Its second key is the sign: the next run brings the previous object back before it begins, and then fails."""
    bucket.request("PUT", "/p/target", OLD)
    killed = FileBackupHandler(s3=S3Service(bucket.endpoint)).begin(request(source, bucket))
    killed.place()
    assert len(bucket.names()) == 2

    output = await node_on(bucket, read_back=lambda _: iter([b"rot"])).backup(request(source, bucket))

    assert output.rollback_performed
    assert bucket.objects() == {"p/target": OLD}


async def test_an_object_that_another_program_replaced_is_left_alone(source: Path, bucket: Bucket) -> None:
    """Neither verified nor rolled back."""
    handler = FileBackupHandler(s3=S3Service(bucket.endpoint))
    backup = handler.begin(request(source, bucket))
    backup.place()
    bucket.request("PUT", "/p/target", b"of another program")
    with pytest.raises(Exception, match="another program replaced"):
        backup.verify()
    await handler.undo(backup)

    assert backup.rolled_back is False
    assert bucket.objects() == {"p/target": b"of another program"}


async def test_failures_are_messages_without_credentials(source: Path, bucket: Bucket) -> None:
    """A missing bucket, a missing source, an address without a key, a server that is not there."""
    node, nowhere = node_on(bucket), FileBackupNode(None, FileBackupHandler(s3=S3Service("http://127.0.0.1:1")))
    for who, changes, code in (
        (node, {"backup_path": "s3://no-such-bucket/x"}, Code.NOT_FOUND),
        (node, {"source_path": source.with_name("missing")}, Code.NOT_FOUND),
        (node, {"backup_path": "s3://backups"}, Code.VALIDATION_ERROR),
        (nowhere, {}, Code.OPERATION_FAILED),
    ):
        result = await who.attempt(request(source, bucket, **changes))

        assert result.error is not None
        assert result.error.error_code is code, result.error.message
        for secret in ("AKIATESTKEYID0000001", "secret-of-the-test", "Signature"):
            assert secret not in f"{result.error!r} {result.error.message} {result.error.context}"
    assert bucket.objects() == {}


async def test_a_service_of_ones_own_needs_credentials_of_its_own(
    source: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the client would ask the cloud's metadata address, and hand what it gets to a stranger."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    result = await node_on(bucket).attempt(request(source, bucket))

    assert result.error is not None
    assert result.error.error_code is Code.CONFIGURATION_ERROR


def test_the_command_backs_a_tree_up_into_a_bucket(
    tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--s3 URL` and `s3://bucket/prefix`, one object for each file."""
    (tmp_path / "tree" / "a").mkdir(parents=True)
    for name in ("one", "a/two"):
        (tmp_path / "tree" / name).write_text(name)

    status = main([str(tmp_path / "tree"), bucket.address("nightly"), "--s3", bucket.endpoint])

    assert status == 0
    assert "2 of 2 files backed up" in capsys.readouterr().out
    assert bucket.objects() == {"nightly/one": b"one", "nightly/a/two": b"a/two"}
