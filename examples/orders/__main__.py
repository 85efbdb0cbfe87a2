"""`python -m examples.orders`: orders become rows, mails and events, each once, however often it is killed."""

import argparse
import asyncio
import json
import logging
import shlex
import sqlite3
import sys
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from examples.orders.desk import ROUTES, OrderDesk, Tally, container_for
from examples.orders.world import World, addresses_in, subjects_in
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors import ModelOnexError

_SHOP = "shop"
_DIRECTORY = Path(".onex/orders")


class Seen(NamedTuple):
    """One order, as it is found behind ONEX's back."""

    order: str
    customer: str
    total_cents: int
    state: str
    rows: int
    mails: int
    events: int


def seen_in(directory: Path, mailbox: Path) -> list[Seen]:
    """Look the orders up where they went: with sqlite3 and in the mailbox."""
    with closing(sqlite3.connect(directory / "embedded.db")) as database:
        rows = Counter(name for (name,) in database.execute("SELECT order_id FROM orders"))
        bodies = database.execute("SELECT body FROM order_events WHERE topic = 'order.placed'")
        events = Counter(json.loads(body)["order_id"] for (body,) in bodies)
        states = [
            json.loads(text)
            for (text,) in database.execute("SELECT state FROM onex_state WHERE owner = 'order' ORDER BY state_key")
        ]
    mails = subjects_in(mailbox)
    found = []
    for state in states:
        context = state["context"]
        order = context["order_id"]
        counts = rows[order], mails[f"Order {order}"], events[order]
        found.append(Seen(order, context["customer"], context["total_cents"], state["state"], *counts))
    return found


class Arguments(argparse.Namespace):
    """Of the command line. pause: in milliseconds."""

    directory: Path
    orders: int
    world: Path | None
    routes: Path
    pause: int
    as_json: bool


def parse(arguments: list[str]) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m examples.orders",
        description="Fetch orders and carry out what follows from them, each once. Kill it, and run it again.",
        epilog="Exit status: 0, or that of the error: 2 for refused orders, 5 when intents wait or are given up, "
        "10 when stopped.",
    )
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=_DIRECTORY,
        metavar="DIR",
        help=f"where everything is kept (default {_DIRECTORY})",
    )
    parser.add_argument("--orders", type=int, default=8, metavar="N", help="orders that the shop has (default 8)")
    parser.add_argument(
        "--world", type=Path, metavar="DIR", help="that of a running examples.orders.world (default: its own)"
    )
    parser.add_argument("--routes", type=Path, default=ROUTES, metavar="FILE", help="another intent_routes.yaml")
    parser.add_argument("--pause", type=int, default=0, metavar="MS", help="wait after each order (default 0)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON document on standard output")
    return parser.parse_args(arguments, Arguments())


async def carry_out(found: Arguments) -> tuple[Tally, list[Seen]]:
    """One run, and what is there behind it."""
    async with AsyncExitStack() as stack:
        world = found.world or found.directory / "world"
        if found.world is None:
            addresses = await stack.enter_async_context(World(world, found.orders).running())
        else:
            addresses = addresses_in(world)
        container = container_for(found.directory, f"{addresses.shop}/{_SHOP}", addresses.mail, found.routes)
        await stack.enter_async_context(container)
        tally = await OrderDesk(container).run(pause_s=found.pause / 1000)
        return tally, seen_in(found.directory, world / "mail")


def _show(tally: Tally, orders: list[Seen], *, as_json: bool) -> None:
    if as_json:
        this_run = {"transitions": tally.transitions, "carried_out": tally.carried_out}
        numbers = {"waiting": tally.waiting, "given_up": tally.given_up}
        print(json.dumps({**this_run, **numbers, "orders": [order._asdict() for order in orders]}, indent=2))
        return
    screen = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("order", "customer", "total", "state", "rows", "mails", "events"):
        table.add_column(column, justify="left" if column in {"order", "customer", "state"} else "right")
    for order in orders:
        total = f"{order.total_cents // 100}.{order.total_cents % 100:02}"
        counts = (str(order.rows), str(order.mails), str(order.events))
        table.add_row(order.order, order.customer, total, order.state, *counts)
    screen.print(table)
    rows, mails, events = (sum(getattr(order, name) for order in orders) for name in ("rows", "mails", "events"))
    left = f"{tally.waiting} intents wait" + (f", {tally.given_up} are given up" if tally.given_up else "")
    screen.print(f"{len(orders)} orders: {rows} rows, {mails} mails, {events} events; {left}")
    Console(stderr=True, highlight=False, quiet=not sys.stderr.isatty()).print(
        f"[dim]in this run: {tally.transitions} transitions, {tally.carried_out} intents carried out[/]"
    )


def main(arguments: list[str]) -> int:
    """The exit status."""
    found = parse(arguments)
    logging.getLogger("onex").setLevel(logging.ERROR)
    try:
        tally, orders = asyncio.run(carry_out(found))
    except KeyboardInterrupt:
        print("stopped; run it again, and it goes on", file=sys.stderr)
        return EnumCoreErrorCode.CANCELLED.exit_status
    except ModelOnexError as error:
        print(f"error {error.message}", file=sys.stderr)
        return error.error_code.exit_status
    except OSError as error:
        print(f"error {error.strerror}: {error.filename}", file=sys.stderr)
        return EnumCoreErrorCode.RESOURCE_UNAVAILABLE.exit_status
    _show(tally, orders, as_json=found.as_json)
    for reason in tally.failed:
        print(f"not carried out: {reason}", file=sys.stderr)
    for reason in tally.refused:
        print(f"refused: {reason}", file=sys.stderr)
    if tally.waiting and not tally.failed:
        print("what waits failed lately, or another run is at it: run it again a little later", file=sys.stderr)
    if tally.given_up:
        onex = f"ONEX_DATA_DIR={shlex.quote(str(found.directory))} onex intents"
        print(f"{tally.given_up} given up: {onex} list --given-up says why,", file=sys.stderr)
        print(f"and {onex} settle KEY --retry gives one to the next run", file=sys.stderr)
    if tally.waiting or tally.given_up:
        return EnumCoreErrorCode.OPERATION_FAILED.exit_status
    return EnumCoreErrorCode.VALIDATION_ERROR.exit_status if tally.refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
