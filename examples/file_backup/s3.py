"""A backup in an S3 bucket: a multipart upload, streamed; the object that stood there is kept until the commit.

S3 shows an object whole or not at all, so only the steps around the upload need care. The previous object is copied,
inside S3, to a second key; a run that finds that key rolls the killed run before it back, as on a disk. There are no
locks in S3: one run at a time on a key is the caller's duty. An upload whose process was killed leaves parts that are
stored although nobody sees them; a lifecycle rule of the bucket (AbortIncompleteMultipartUpload) removes them.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from examples.file_backup.local import chunks_of, open_source, system_errors
from examples.file_backup.models import ModelFileBackupInput
from examples.file_backup.work import CHUNK_BYTES, Backup, NewHash, OnBytes, ReadBack, StoppedError
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError
from omnibase_core.handlers.confined_path import FileRoots

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store

T = TypeVar("T")
SCHEME: Final = "s3://"
_PART_BYTES: Final = 8 * CHUNK_BYTES
_SMALLEST_PARTS: Final = 10_000
"""Parts that one upload may have; a larger file gets larger parts."""
_PARTS_AT_ONCE: Final = 2
_COPY_LIMIT: Final = 5 << 30
"""Bytes that S3 copies by itself in one request."""
_S3_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_NO_BUCKET: Final = (EnumCoreErrorCode.NOT_FOUND, "there is no such bucket or object; check the address")
_FORBIDDEN: Final = (EnumCoreErrorCode.SECURITY_VIOLATION, "S3 forbids it to these credentials")
_REASONS: Final = {
    "NotFoundError": _NO_BUCKET,
    "FileNotFoundError": _NO_BUCKET,  # which the client raises in its stead
    "PermissionDeniedError": _FORBIDDEN,
    "PermissionError": _FORBIDDEN,
    "UnauthenticatedError": (
        EnumCoreErrorCode.SECURITY_VIOLATION,
        "S3 knows no such credentials; check AWS_ACCESS_KEY_ID",
    ),
    "InvalidPathError": (EnumCoreErrorCode.VALIDATION_ERROR, "S3 takes no such key; choose another name"),
}


class S3Service:
    """Where S3 is. Credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what AWS gives its own machines.

    endpoint: base URL of a service that speaks S3, such as `http://127.0.0.1:9000`, which needs the two variables;
        None: AWS, by AWS_REGION.
    region: None: AWS_REGION, else us-east-1.
    """

    def __init__(self, endpoint: str | None = None, region: str | None = None) -> None:
        self.endpoint = endpoint
        self.region = region
        self._stores: dict[str, S3Store] = {}

    def store(self, bucket: str) -> "S3Store":
        """The client of a bucket; it connects when it is used. CONFIGURATION_ERROR without the extra `s3`."""
        found = self._stores.get(bucket)
        if found is None:
            found = self._stores[bucket] = self._make(bucket)
        return found

    def _make(self, bucket: str) -> "S3Store":
        try:
            from obstore.store import S3Store
        except ModuleNotFoundError:
            raise ModelOnexError(
                "a backup to s3:// needs the S3 client; install it: pip install 'omnibase[s3]'",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            ) from None
        if self.endpoint is not None and not os.environ.get("AWS_ACCESS_KEY_ID"):
            # Else the client would ask the cloud's metadata address for credentials, and show them to a stranger.
            raise ModelOnexError(
                f"a backup to the S3 service at {self.endpoint!r} needs credentials of its own; "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        where: dict[str, str] = {}
        if self.endpoint is not None:
            where["endpoint"] = self.endpoint
        if self.region is not None:
            where["region"] = self.region
        plain = self.endpoint is not None and urlsplit(self.endpoint).scheme == "http"
        return S3Store(
            bucket,
            config=where,  # type: ignore[arg-type]  # a TypedDict whose keys these are
            client_options={"allow_http": plain, "connect_timeout": "5s", "read_timeout": "60s", "timeout": "3600s"},
            retry_config={"max_retries": 0},  # the node retries, with a rollback before each attempt
            checksum_algorithm="SHA256",  # S3 checks each part as it arrives
        )


class S3Backup(Backup):
    """One file to `s3://bucket/key`."""

    def __init__(
        self,
        request: ModelFileBackupInput,
        read_back: ReadBack,
        new_hash: NewHash,
        on_bytes: OnBytes,
        *,
        roots: FileRoots,
        base: str,
        service: S3Service,
    ) -> None:
        super().__init__(request, read_back, new_hash, on_bytes)
        self._bucket, self._key = split_address(request.backup_path)
        folder, slash, name = self._key.rpartition("/")
        self._previous = f"{folder}{slash}.{name}.onex-backup-previous"
        self._roots = roots
        self._base = base
        self._store = service.store(self._bucket)
        self._kept = self._began = False
        self._before: str | None = None
        self._e_tag: str | None = None

    def _place(self) -> None:
        import obstore

        with open_source(self, self._roots, self._base) as (descriptor, info):
            self.source_size_bytes = info.st_size
            existing = self._roll_back_a_killed_run()
            if existing is not None:
                self._before = existing["e_tag"]
                self._kept = True
                self._server_copy(self._key, self._previous, existing["size"])
            self.check()
            self._began = True
            parts = max(_PART_BYTES, -(-info.st_size // (_SMALLEST_PARTS - 1)))
            result = self._call(
                "put",
                lambda: obstore.put(
                    self._store,
                    self._key,
                    self._read(chunks_of(descriptor)),
                    use_multipart=True,
                    chunk_size=parts,
                    max_concurrency=_PARTS_AT_ONCE,
                ),
            )
            self._e_tag = result["e_tag"]

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """What the upload takes; the digest is that of what was read."""
        digest, size = self._new_hash(), 0
        with system_errors(self):
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                self.copied(len(chunk))
                if size > self.source_size_bytes:
                    break  # it grows while it is read, perhaps for ever
                yield chunk
        if size != self.source_size_bytes:
            raise self.fault(
                f"the source changed while it was read ({size} bytes, {self.source_size_bytes} before)",
                "SOURCE_CHANGED",
                EnumCoreErrorCode.CONFLICT,
                transient=True,
            )
        self.digest = digest.hexdigest()

    def _stored(self) -> Iterator[bytes]:
        import obstore

        found = self._call("get", lambda: obstore.get(self._store, self._key))
        if found.meta["e_tag"] != self._e_tag:
            raise self.fault(
                "another program replaced the object before it was verified, and was left alone",
                "TARGET_CHANGED",
                EnumCoreErrorCode.CONFLICT,
            )
        self.backup_size_bytes = found.meta["size"]
        chunks = iter(found.stream(min_chunk_size=CHUNK_BYTES))
        while (chunk := self._call("get", lambda: next(chunks, None))) is not None:
            yield bytes(chunk)

    def _commit(self) -> None:
        if not self.verified:
            head = self._head(self._key)
            self.backup_size_bytes = 0 if head is None else head["size"]
        if self._kept:
            self._delete(self._previous)
            self._kept = False

    def _undo(self) -> bool:
        if not (self._kept or self._began):
            return False
        now = self._head(self._key)
        kept = self._head(self._previous) if self._kept else None
        ours = False
        if now is not None and self._began:
            # After an upload whose answer was lost its tag is unknown: what is not the old object counts as ours.
            ours = now["e_tag"] != self._before if self._e_tag is None else now["e_tag"] == self._e_tag
        if ours and kept is not None:
            self._server_copy(self._previous, self._key, kept["size"])
        elif ours:
            self._delete(self._key)
        if kept is not None:
            self._delete(self._previous)
        return ours

    def _roll_back_a_killed_run(self) -> "ObjectMeta | None":
        """What stands at the key now, after a run that was killed before its commit is undone."""
        kept = self._head(self._previous)
        if kept is not None:
            self._server_copy(self._previous, self._key, kept["size"])
            self._delete(self._previous)
        return self._head(self._key)

    def _release(self) -> None:
        """Nothing is held between the steps."""

    def _head(self, key: str) -> "ObjectMeta | None":
        import obstore

        def look() -> "ObjectMeta | None":
            try:
                return obstore.head(self._store, key)
            except FileNotFoundError:  # of which the client's NotFoundError is one
                return None

        return self._call("head", look)

    def _server_copy(self, old: str, new: str, size: int) -> None:
        import obstore

        if size < _COPY_LIMIT:
            self._call("copy", lambda: obstore.copy(self._store, old, new))
            return
        found = self._call("get", lambda: obstore.get(self._store, old))
        parts = max(_PART_BYTES, -(-size // (_SMALLEST_PARTS - 1)))
        self._call(
            "put",
            lambda: obstore.put(
                self._store,
                new,
                found.stream(min_chunk_size=CHUNK_BYTES),
                use_multipart=True,
                chunk_size=parts,
                max_concurrency=_PARTS_AT_ONCE,
            ),
        )

    def _delete(self, key: str) -> None:
        import obstore

        self._call("delete", lambda: obstore.delete(self._store, key))

    def _call(self, verb: str, request: Callable[[], T]) -> T:
        """One request; the client's text is not passed on, because S3 puts key ids and signed headers into it."""
        from obstore.exceptions import BaseError

        try:
            return request()
        except (StoppedError, ModelOnexError):
            raise
        except (BaseError, OSError) as error:
            self.check()
            name = type(error).__name__
            code, advice = _REASONS.get(name, (EnumCoreErrorCode.OPERATION_FAILED, "is the service there?"))
            said = _S3_CODE.search(str(error))
            reason = f"{name}, {said[1]}" if said else name
        raise self.fault(f"S3 {verb} failed ({reason}); {advice}", "S3_" + verb.upper(), code, transient=True)


def split_address(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; VALIDATION_ERROR for anything else."""
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket or not key or key.endswith("/"):
        raise ModelOnexError(
            f"file backup: the path {address!r} names no object; write s3://bucket/key",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    return bucket, key
