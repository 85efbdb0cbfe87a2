"""Bodies of HTTP: requests streamed from files, responses read below a cap and turned into documents."""

import asyncio
import base64
import codecs
import os
import threading
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import JsonValue
from pydantic_core import from_json

from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors import EffectFault
from omnibase_core.handlers.confined_path import FileRoots, Place
from omnibase_core.handlers.filesystem_faults import fault_of

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.payload import Payload

STREAMED_FROM_BYTES = 64 * 1024
"""Bodies above this size are written in pieces: one write may hold up the loop, or not fit the kernel's buffer."""
_PIECE_BYTES = 64 * 1024
_YIELD_EVERY_BYTES = 1 << 20
_ODD_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf_7", "utf7"})
"""Text encodings of Python that no server means, some of them quadratic in time."""


class BodyStream:
    """A request body written piece by piece, for one use. `settle` is awaited after the request, however it ended."""

    failure: EffectFault | None = None

    def __init__(self, size: int) -> None:
        self.size = size
        self._unfinished: asyncio.WriteTransport | None = None

    async def next_piece(self) -> bytes | memoryview:
        """The next piece; empty at the end."""
        raise NotImplementedError

    async def write_to(self, writer: "AbstractStreamWriter", transport: asyncio.WriteTransport | None) -> None:
        """Called by the client, in a task of its own."""
        self._unfinished = transport
        while piece := await self.next_piece():
            await writer.write(piece)
        self._unfinished = None

    async def settle(self) -> None:
        """Let the writer of this body end.

        A transport that is closed with bytes to write waits for a peer that may never read them, so it is aborted.
        """
        if self._unfinished is not None:
            self._unfinished.abort()
        await asyncio.sleep(0)


class BytesStream(BodyStream):
    """A body that is in memory already."""

    def __init__(self, body: bytes) -> None:
        super().__init__(len(body))
        self._rest = memoryview(body)

    async def next_piece(self) -> bytes | memoryview:
        piece, self._rest = self._rest[:_PIECE_BYTES], self._rest[_PIECE_BYTES:]
        return piece


class FileStream(BodyStream):
    """A file, read in a thread; at most one piece of it is in memory."""

    def __init__(self, descriptor: int, size: int) -> None:
        super().__init__(size)
        self._descriptor = descriptor
        self._left = size
        self._lock = threading.Lock()

    @classmethod
    async def open(cls, path: str, roots: FileRoots) -> "FileStream":
        """Open a regular file below `roots`. Raises EffectFault, NOT_SENT."""
        opening = asyncio.get_running_loop().run_in_executor(None, _open, path, roots)
        try:
            return cls(*await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise

    async def next_piece(self) -> bytes | memoryview:
        if not self._left:
            return b""
        piece = await asyncio.get_running_loop().run_in_executor(None, self._read)
        if not piece:
            self.failure = EffectFault(
                f"body_file became shorter while it was sent: {self._left} of {self.size} bytes are missing",
                error_kind="BODY_FILE",
                phase=EnumFaultPhase.AMBIGUOUS,
            )
            raise self.failure
        self._left -= len(piece)
        return piece

    async def settle(self) -> None:
        await super().settle()
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _read(self) -> bytes:
        with self._lock:
            return b"" if self._descriptor < 0 else os.read(self._descriptor, min(self._left, 4 * _PIECE_BYTES))

    def _close(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@lru_cache(maxsize=1)
def _payload_class() -> "type[Payload]":
    from aiohttp.payload import Payload

    class StreamPayload(Payload):
        """The client's wrapper of a `BodyStream`; what it needs to close, `settle` closes."""

        _autoclose = True
        _value: BodyStream

        async def write(self, writer: "AbstractStreamWriter") -> None:
            await self._value.write_to(writer, getattr(writer, "transport", None))

        async def write_with_length(
            self,
            writer: "AbstractStreamWriter",
            content_length: int | None,  # noqa: ARG002 - it is the stream's own size, which the header was made of
        ) -> None:
            await self.write(writer)

        def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
            raise NotImplementedError

    return StreamPayload


def payload_of(stream: BodyStream) -> "Payload":
    """The stream as the client takes it."""
    return _payload_class()(stream)


def _open(path: str, roots: FileRoots) -> tuple[int, int]:
    try:
        with Place(roots, path, "http body_file") as place:
            descriptor, status = place.open_file()
            return descriptor, status.st_size
    except OSError as error:
        raise fault_of(error, "http body_file", repr(path), EnumFaultPhase.NOT_SENT) from None
    except EffectFault as fault:
        fault.phase = EnumFaultPhase.NOT_SENT
        raise


def _close_unused(opening: "asyncio.Future[tuple[int, int]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])


async def read_body(response: "ClientResponse", cap: int) -> bytes:
    """The decoded body, at most `cap` bytes; empty when that of a status from 300 on cannot be decoded.

    Raises EffectFault, DONE: the server has carried the request out, and the answer is too large or cannot be decoded.
    The caller closes the response after any exception.
    """
    length = response.content_length
    encoding = response.headers.get("Content-Encoding")
    if encoding is None or encoding.lower() == "identity":
        if length is not None and length <= cap:
            return await response.read()
        if length is not None and response.method != "HEAD":
            raise _too_large(cap)
        return await _read_pieces(response, None, cap)
    if response.method == "HEAD":
        return b""
    encoding = encoding.strip().lower()
    if encoding not in ("gzip", "x-gzip", "deflate"):
        if response.status >= 300:
            response.close()
            return b""
        raise _undecodable(f"the answer is encoded as {encoding[:40]!r}, which was not asked for")
    try:
        return await _read_pieces(response, _Inflater(deflate=encoding == "deflate"), cap)
    except zlib.error:
        if response.status >= 300:
            response.close()
            return b""
        problem = f"the answer is not valid {encoding}"
    raise _undecodable(problem)


async def _read_pieces(response: "ClientResponse", inflater: "_Inflater | None", cap: int) -> bytes:
    pieces: list[bytes] = []
    total = breath = 0
    while raw := await response.content.readany():
        for piece in (raw,) if inflater is None else inflater.feed(raw):
            total += len(piece)
            if total > cap:
                raise _too_large(cap)
            pieces.append(piece)
            if total - breath > _YIELD_EVERY_BYTES:
                breath = total
                await asyncio.sleep(0)
    if inflater is not None and total and not inflater.complete:
        raise zlib.error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Inflater:
    """Undoes gzip (also several members in a row) or deflate, a bounded piece at a time."""

    def __init__(self, *, deflate: bool) -> None:
        self._deflate = deflate
        self._head = b""
        self._engine: zlib._Decompress | None = None if deflate else zlib.decompressobj(wbits=31)

    @property
    def complete(self) -> bool:
        return self._engine is not None and self._engine.eof

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """Yield pieces of at most 64 KiB. Raises zlib.error."""
        if self._engine is None:
            raw = self._head + raw
            if len(raw) < 2:
                self._head = raw
                return
            # Some servers send deflate without the zlib frame around it.
            framed = raw[0] & 0x0F == 8 and int.from_bytes(raw[:2]) % 31 == 0
            self._engine = zlib.decompressobj(wbits=15 if framed else -15)
        engine = self._engine
        while raw:
            if engine.eof:
                if self._deflate or not raw.strip(b"\0"):
                    return  # padding after the end
                engine = self._engine = zlib.decompressobj(wbits=31)
            piece = engine.decompress(raw, _PIECE_BYTES)
            raw = engine.unused_data if engine.eof else engine.unconsumed_tail
            yield piece
        while not engine.eof:
            piece = engine.decompress(b"", _PIECE_BYTES)
            if not piece:
                return
            yield piece


def document_of(body: bytes, status: int, content_type: str, response_format: str) -> JsonValue:
    """What `ModelResolvedHttpContext.response_format` makes of a body.

    Raises EffectFault, DONE, for JSON that does not parse under a status below 300; other statuses fall back to text.
    Text that is not valid in its charset has U+FFFD in the wrong places.
    """
    if not body:
        return None
    if response_format == "bytes":
        return base64.b64encode(body).decode("ascii")
    if response_format == "json" or (response_format == "auto" and is_json(content_type)):
        try:
            return _parse(body, content_type)
        except ValueError as error:
            place = str(error).rpartition(" at ")[2][:60]
        if status < 300:
            raise _undecodable(f"the answer (status {status}, {len(body)} bytes) is not valid JSON: {place}")
    return body.decode(_charset(content_type), errors="replace")


def is_json(content_type: str) -> bool:
    """`application/json` or a type that ends in `+json`."""
    if content_type == "application/json":
        return True
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _parse(body: bytes, content_type: str) -> JsonValue:
    try:
        parsed: JsonValue = from_json(body, allow_inf_nan=False)
    except ValueError:
        if body.startswith(b"\xef\xbb\xbf"):
            body = body[3:]
        elif (charset := _charset(content_type)) != "utf-8":
            body = body.decode(charset).encode()
        else:
            raise
        parsed = from_json(body, allow_inf_nan=False)
    return parsed


def _charset(content_type: str) -> str:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip("'\"").lower().replace("-", "_")
            try:
                return "utf-8" if charset in _ODD_CHARSETS else _text_codec(charset)
            except LookupError:
                return "utf-8"
    return "utf-8"


@lru_cache(maxsize=64)
def _text_codec(charset: str) -> str:
    b"    ".decode(charset, errors="replace")  # LookupError for codecs that are not text
    return codecs.lookup(charset).name


def _too_large(cap: int) -> EffectFault:
    return EffectFault(
        f"the answer is larger than {cap} bytes decoded; raise max_response_bytes in the contract, which"
        " policy.max_response_bytes bounds",
        error_kind="RESPONSE_TOO_LARGE",
        phase=EnumFaultPhase.DONE,
    )


def _undecodable(message: str) -> EffectFault:
    return EffectFault(message, error_kind="BAD_RESPONSE_BODY", phase=EnumFaultPhase.DONE)
