"""What lies outside of the workflows: one small HTTP server on this machine, with a shop, a bank, a carrier, a chat.

    GET  /orders/<number>     an order
    POST /payments /refunds /shipments /labels /messages /index
                              keeps what is posted; once for each Idempotency-Key, as such services do

Each request is counted, so that it can be seen how often something was asked for, and how often it was done.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pydantic import JsonValue

_HOST: Final = "127.0.0.1"
_PLACES: Final = ("payments", "refunds", "shipments", "labels", "messages", "index")
_CUSTOMERS: Final = (" Ada Lovelace", "Grace Hopper ", "Edsger  Dijkstra")
UNSHIPPABLE: Final = "o-13"
"""The carrier refuses this order."""


def order_of(number: str) -> dict[str, JsonValue]:
    """An order, as untidy as such data is; always the same."""
    at = int(number.removeprefix("o-"))
    return {"id": number, "customer": _CUSTOMERS[at % 3], "quantity": 1 + at % 4, "unit_price": f"{10 + at}.50"}


class World:
    """The server.

    delay_s: before each answer. asked: requests by place. kept: what was done, by place and key, in order.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.asked: Counter[str] = Counter()
        self.kept: dict[str, dict[str, JsonValue]] = {place: {} for place in _PLACES}
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """Listen for the length of the block, at `url`."""
        server = await asyncio.start_server(self._serve, _HOST, 0)
        self.url = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.close()
            await server.wait_closed()

    def texts(self, place: str = "messages") -> list[str]:
        """The texts that were posted there, in order."""
        return [str(body.get("text")) for body in self.kept[place].values() if isinstance(body, dict)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = lines[0].split(" ", 2)
                status, document = await self._answer(method, path, headers.get("idempotency-key", ""), body)
                text = json.dumps(document).encode()
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
                writer.write(head.encode() + text)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):  # the client is gone
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, method: str, path: str, key: str, body: bytes) -> tuple[int, JsonValue]:
        place, _, rest = path.removeprefix("/").partition("/")
        self.asked[place] += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if method == "GET" and place == "orders" and rest.removeprefix("o-").isdecimal():
            return 200, order_of(rest)
        if method != "POST" or place not in self.kept:
            return 404, {"error": "there is nothing of the kind"}
        document: JsonValue = json.loads(body)
        if place == "shipments" and isinstance(document, dict) and document.get("order") == UNSHIPPABLE:
            return 422, {"error": "too heavy"}
        kept = self.kept[place]
        kept.setdefault(key or str(len(kept)), document)
        return 200, {"id": f"{place}-{1 + list(kept).index(key)}" if key in kept else f"{place}-{len(kept)}"}
