"""What lies outside of the program: a shop whose orders are fetched by HTTP, and a mail server. Real, small, loopback.

`python -m examples.orders.world DIR` runs it by itself, so that it outlives the programs that use it; they find its
addresses in DIR/world.json, and its mails lie in DIR/mail.

The mail server says 250 once a mail is in its mailbox, by which it has promised to keep it. It files a Message-ID once,
as RFC 7352 describes it: a client that died before it read the 250 cannot know, and sends again. Every mail that came
is counted, with those that were there already.
"""

import argparse
import asyncio
import contextlib
import email
import hashlib
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

_HOST: Final = "127.0.0.1"
_LIMIT: Final = 1 << 20
_ADDRESSES: Final = "world.json"
_CUSTOMERS: Final = (
    ("Ada Lovelace ", "Ada@Example.com"),
    ("Grace Hopper", " grace@example.com"),
    ("Zoe\u0308 O'Neil", "zoe@example.com"),
    ("  Edsger Dijkstra", "EDSGER@example.com "),
)
_HISTORIES: Final = ("placed paid shipped", "placed paid", "placed cancelled", "placed", "placed paid cancelled")


def order_of(shop: str, place: int) -> dict[str, object]:
    """The order at this place of a shop's list, as untidy as such data is; always the same."""
    customer, address = _CUSTOMERS[place % len(_CUSTOMERS)]
    return {
        "id": f"{shop}-{1000 + place}",
        "customer": customer,
        "email": address,
        "quantity": 1 + place % 3,
        "unit_price": f"{7 + place * 13 % 90}.{place * 37 % 100:02}",
        "shipping": "4.90" if place % 2 else "0.00",
        "history": _HISTORIES[place % len(_HISTORIES)],
    }


class Mailbox:
    """A directory with a file for each Message-ID that was received.

    received: how often each came. on_filed: awaited between filing a mail and saying so.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.received: Counter[str] = Counter()
        self.on_filed: Callable[[], Awaitable[None]] | None = None

    def file(self, mail: bytes) -> None:
        """Keep a mail, whole and on the disk, unless it is there."""
        identity = str(email.message_from_bytes(mail)["Message-ID"] or hashlib.sha256(mail).hexdigest())
        self.received[identity] += 1
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._directory.mkdir(parents=True, exist_ok=True)
        draft = self._directory / f".{name}.{os.getpid()}"
        with draft.open("wb") as file:
            file.write(mail)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, self._directory / f"{name}.eml")
        draft.unlink()


def subjects_in(directory: Path) -> Counter[str]:
    """How many mails of each subject lie in a mailbox."""
    mails = directory.glob("*.eml")
    return Counter(str(email.message_from_bytes(mail.read_bytes())["Subject"]) for mail in mails)


class Addresses(NamedTuple):
    """URLs. shop: with the name of a shop behind it, that one's orders are below it."""

    shop: str
    mail: str


def addresses_in(directory: Path) -> Addresses:
    """Where the world that keeps its things in this directory listens. OSError when none ever did."""
    found = json.loads((directory / _ADDRESSES).read_text(encoding="utf-8"))
    return Addresses(found["shop"], found["mail"])


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((_HOST, port))
    return made


class World:
    """Both servers. orders: how many each shop has; a shop is a name in the path, so there is any number of them.

    order_of: the order at a place of a shop's list, counted from 1.
    """

    def __init__(
        self, directory: Path, orders: int = 8, order_of: Callable[[str, int], dict[str, object]] = order_of
    ) -> None:
        self.directory = directory
        self.mailbox = Mailbox(directory / "mail")
        self._orders = orders
        self._order_of = order_of
        self._connections: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Addresses]:
        """Listen for the length of the block. port: of the shop; 0 takes a free one."""
        with _bound(port) as shop_socket, _bound(0) as mail_socket:
            shop_port, mail_port = (each.getsockname()[1] for each in (shop_socket, mail_socket))
            addresses = Addresses(f"http://{_HOST}:{shop_port}", f"smtp://{_HOST}:{mail_port}")
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / _ADDRESSES).write_text(json.dumps(addresses._asdict()), encoding="utf-8")
            mail = await asyncio.start_server(self._kept(self._mail), sock=mail_socket, limit=_LIMIT)
            shop = await asyncio.start_server(self._kept(self._shop), sock=shop_socket)
            try:
                yield addresses
            finally:
                for server in (shop, mail):
                    server.close()
                for writer in list(self._connections):
                    writer.close()
                for server in (shop, mail):
                    await server.wait_closed()

    def _kept(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections.add(writer)
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):  # the client is gone
                pass
            finally:
                self._connections.discard(writer)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        return connection

    async def _shop(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status, document = self._answer(head.split(b" ", 2)[1].decode())
            body = json.dumps(document).encode()
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()

    def _answer(self, path: str) -> tuple[int, object]:
        shop, _, place = path.removeprefix("/").partition("/orders/")
        if not place.isdecimal() or not 1 <= int(place) <= self._orders:
            return 404, {"error": "there is no such order"}
        at = int(place)
        return 200, {"order": self._order_of(shop, at), "next": at + 1 if at < self._orders else 0}

    async def _mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        await say("220 outside")
        while True:
            line = (await reader.readuntil(b"\r\n")).strip()
            command = line[:4].upper()
            if command == b"DATA":
                await say("354 go on")
                lines = []
                while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
                    lines.append(line[1:] if line.startswith(b".") else line)
                self.mailbox.file(b"".join(lines))
                if self.mailbox.on_filed is not None:
                    await self.mailbox.on_filed()
                await say("250 filed")
            elif command == b"QUIT":
                await say("221 bye")
                return
            else:
                known = command in {b"EHLO", b"HELO", b"MAIL", b"RCPT", b"RSET", b"NOOP"}
                await say("250 outside" if known else "502 unknown command")


async def _serve(directory: Path, orders: int, port: int) -> None:
    async with World(directory, orders).running(port) as addresses:
        print(f"shop {addresses.shop}, mail {addresses.mail}", flush=True)
        await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.orders.world", description="A shop and a mail server.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="where mails are filed")
    parser.add_argument("--orders", type=int, default=8, metavar="N", help="orders of the shop (default 8)")
    parser.add_argument("--port", type=int, default=0, metavar="PORT", help="of the shop (default: a free one)")
    found = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(found.directory, found.orders, found.port))


if __name__ == "__main__":
    main(sys.argv[1:])
