"""The order example as a program of its own, against its shop and its mail server."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from examples.orders.__main__ import carry_out, parse
from examples.orders.desk import ROUTES, Tally
from examples.orders.world import World, order_of, subjects_in

REPOSITORY = Path(__file__).parents[2]
ORDERS = 3
LIMIT_S = 30.0


@asynccontextmanager
async def _program(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that is gone when the block ends."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, arguments),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "error::ResourceWarning"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield program
    finally:
        if program.returncode is None:
            program.kill()
            await program.communicate()


async def _ended(*arguments: object) -> tuple[int | None, str, str]:
    """Exit status and what was written, of a program that ends by itself."""
    async with _program(*arguments) as program:
        said, complaints = await asyncio.wait_for(program.communicate(), LIMIT_S)
        return program.returncode, said.decode(), complaints.decode()


async def _run(*arguments: object) -> tuple[Tally, list[tuple[object, ...]]]:
    """A run in this process, which nobody kills: what it did, and for each order the rows, mails and events."""
    tally, orders = await carry_out(parse(list(map(str, arguments))))
    return tally, [(order.order, order.rows, order.mails, order.events) for order in orders]


async def _finished(*arguments: object) -> list[tuple[object, ...]]:
    """Runs until nothing waits: what failed is not tried again within a second."""
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while True:
        tally, counts = await _run(*arguments)
        if not tally.waiting:
            return counts
        assert asyncio.get_running_loop().time() < deadline, tally
        await asyncio.sleep(0.05)  # the clock of the outbox is that of the wall


def _counts(document: dict[str, list[dict[str, object]]]) -> list[tuple[object, ...]]:
    return [(order["order"], order["rows"], order["mails"], order["events"]) for order in document["orders"]]


ONCE = [(f"shop-{1000 + place}", 1, 1, 1) for place in range(1, ORDERS + 1)]


async def test_a_run_carries_everything_out_and_the_next_has_nothing_to_do(tmp_path: Path) -> None:
    """Three intents for each order, and none the second time."""
    first, counts = await _run(tmp_path, "--orders", ORDERS)
    second, counts_again = await _run(tmp_path, "--orders", ORDERS)

    assert counts == counts_again == ONCE
    assert first.carried_out == 3 * ORDERS
    assert (second.carried_out, second.transitions) == (0, 0)


async def test_new_orders_are_added_to_the_old_ones(tmp_path: Path) -> None:
    """A later run fetches what the shop has by then."""
    await _run(tmp_path, "--orders", 1)

    grown, counts = await _run(tmp_path, "--orders", ORDERS)

    assert counts == ONCE
    assert grown.carried_out == 3 * (ORDERS - 1)


async def _killed_while_its_first_mail_is_under_way(world: World, *arguments: object) -> None:
    """The mail server has the mail and has not said so."""
    filed, free = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        filed.set()
        await free.wait()

    world.mailbox.on_filed = hold
    async with _program("-m", "examples.orders", *arguments) as program:
        await asyncio.wait_for(filed.wait(), LIMIT_S)
        program.send_signal(signal.SIGKILL)
        await program.communicate()
        assert program.returncode == -signal.SIGKILL
    world.mailbox.on_filed = None
    free.set()


async def test_a_mail_whose_answer_was_lost_is_sent_again_and_filed_once(tmp_path: Path) -> None:
    """The same Message-ID came twice; the mailbox has one mail."""
    world = World(tmp_path / "world", ORDERS)
    arguments = (tmp_path / "desk", "--world", world.directory)

    async with world.running():
        await _killed_while_its_first_mail_is_under_way(world, *arguments)
        counts = await _finished(*arguments)

    assert sorted(world.mailbox.received.values()) == [1] * (ORDERS - 1) + [2]
    assert counts == ONCE


async def test_the_outside_world_may_die_with_the_program(tmp_path: Path) -> None:
    """Killed twice, each time with another mail filed, and run to the end: what was promised is on the disk."""
    mails = tmp_path / "world" / "mail"
    for filed in (1, 2):
        async with _program("-m", "examples.orders", tmp_path, "--orders", ORDERS, "--pause", 200) as program:
            while len(list(mails.glob("*.eml"))) < filed:
                assert program.returncode is None
                await asyncio.sleep(0.01)  # another process; nothing here can be awaited
            program.send_signal(signal.SIGKILL)
            await program.communicate()

    assert await _finished(tmp_path, "--orders", ORDERS) == ONCE


async def test_where_the_mail_server_does_not_help_a_person_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the route's word the mail is not sent again: it is listed as unknown, and settled by who has looked."""
    routes = tmp_path / "routes.yaml"
    line = "  - {intent_type: notification, target: post, idempotent: true}\n"
    table = ROUTES.read_text(encoding="utf-8")
    assert line in table
    routes.write_text(table.replace(line, ""), encoding="utf-8")
    shutil.copy(ROUTES.parent / "publish_event.yaml", tmp_path)
    world, desk = World(tmp_path / "world", ORDERS), tmp_path / "desk"
    arguments = (desk, "--world", world.directory, "--routes", routes)
    monkeypatch.setenv("ONEX_DATA_DIR", str(desk))
    onex = ("-c", "from omnibase_runtime.cli import main; raise SystemExit(main())", "intents")

    async with world.running():
        await _killed_while_its_first_mail_is_under_way(world, *arguments)
        status, _, complaints = await _ended("-m", "examples.orders", *arguments)
        listed = await _ended(*onex, "list", "--unknown", "--json")
        filed = subjects_in(world.directory / "mail")["Order shop-1001"]
        settled = await _ended(*onex, "settle", "shop-1001:mail", "--completed")
        counts = await _finished(*arguments)

    assert status == 5
    assert "onex intents settle" in complaints
    assert [entry["idempotency_key"] for entry in json.loads(listed[1])] == ["shop-1001:mail"]
    assert filed == 1
    assert settled[0] == 0
    assert set(world.mailbox.received.values()) == {1}
    assert counts == ONCE


async def test_what_was_given_up_is_said_until_a_person_lets_it_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A routing table has no template for the mail; with one that has, the run after the word sends it."""
    routes, desk = tmp_path / "routes.yaml", tmp_path / "desk"
    table, _, _ = ROUTES.read_text(encoding="utf-8").partition("templates:")
    routes.write_text(table, encoding="utf-8")
    shutil.copy(ROUTES.parent / "publish_event.yaml", tmp_path)
    monkeypatch.setenv("ONEX_DATA_DIR", str(desk))
    onex = ("-c", "from omnibase_runtime.cli import main; raise SystemExit(main())", "intents")
    world = World(tmp_path / "world", 1)
    arguments = ("-m", "examples.orders", desk, "--world", world.directory)

    async with world.running():
        broken = await _ended(*arguments, "--routes", routes)
        listed = await _ended(*onex, "list", "--given-up", "--json")
        still = await _ended(*arguments)
        settled = await _ended(*onex, "settle", "shop-1001:mail", "--retry")
        whole = await _ended(*arguments, "--json")

    assert (broken[0], still[0], settled[0], whole[0]) == (5, 5, 0, 0), (broken, still, settled, whole)
    assert "template 'confirmation' is unknown" in broken[2]
    assert "1 are given up" in still[1]
    assert "onex intents list --given-up" in still[2]
    assert [entry["idempotency_key"] for entry in json.loads(listed[1])] == ["shop-1001:mail"]
    assert _counts(json.loads(whole[1])) == ONCE[:1]


async def test_an_order_that_is_not_as_it_should_be_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    """An amount that has no cents, and a step that its state does not allow, are named; nothing follows from them."""

    def odd(shop: str, place: int) -> dict[str, object]:
        wrong = {1: {"unit_price": "12.5"}, 2: {"history": "shipped"}}
        return {**order_of(shop, place), **wrong.get(place, {})}

    world = World(tmp_path / "world", ORDERS, odd)

    async with world.running():
        status, said, complaints = await _ended("-m", "examples.orders", tmp_path, "--world", world.directory, "--json")

    assert status == 2
    assert _counts(json.loads(said)) == ONCE[2:]
    first, second = complaints.splitlines()
    assert "shop-1001" in first
    assert "unit_price" in first
    assert "shop-1002" in second
    assert "shipped" in second


async def test_a_shop_that_is_away_ends_the_run_with_its_status(tmp_path: Path) -> None:
    """And when there never was one, the message names the file that would say where it is."""
    world = World(tmp_path / "world")
    async with world.running():
        pass

    gone, _, complaint = await _ended("-m", "examples.orders", tmp_path, "--world", world.directory)
    never, _, missing = await _ended("-m", "examples.orders", tmp_path, "--world", tmp_path / "none")

    assert gone not in {0, None}
    assert complaint.startswith("error ")
    assert "Traceback" not in complaint
    assert never == 4
    assert str(tmp_path / "none" / "world.json") in missing


async def test_an_interrupted_run_is_finished_by_the_next(tmp_path: Path) -> None:
    """Ctrl-C ends it in order, with the status of a cancellation."""
    world = World(tmp_path / "world", ORDERS)
    arguments = (tmp_path / "desk", "--world", world.directory)
    seen = asyncio.Event()

    async def tell() -> None:
        seen.set()

    world.mailbox.on_filed = tell
    async with world.running():
        async with _program("-m", "examples.orders", *arguments, "--pause", 60_000) as program:
            await asyncio.wait_for(seen.wait(), LIMIT_S)
            program.send_signal(signal.SIGINT)
            _, complaints = await asyncio.wait_for(program.communicate(), LIMIT_S)
        counts = await _finished(*arguments)

    assert (program.returncode, complaints.decode()) == (10, "stopped; run it again, and it goes on\n")
    assert counts == ONCE


async def test_the_outside_world_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    """It says where it listens, on its output and in its directory."""
    outside = tmp_path / "outside"
    async with _program("-m", "examples.orders.world", outside, "--orders", ORDERS) as program:
        assert program.stdout is not None
        said = await asyncio.wait_for(program.stdout.readline(), LIMIT_S)
        status, document, _ = await _ended("-m", "examples.orders", tmp_path / "desk", "--world", outside, "--json")

    assert said.startswith(b"shop http://127.0.0.1:")
    assert status == 0
    assert _counts(json.loads(document)) == ONCE


async def test_runs_at_the_same_time_share_the_work(tmp_path: Path) -> None:
    """Nothing happens twice, and no mail is even sent twice; who ends early says that something is left."""
    world = World(tmp_path / "world", ORDERS)
    arguments = (tmp_path / "desk", "--world", world.directory)

    async with world.running():
        runs = await asyncio.gather(*(_ended("-m", "examples.orders", *arguments) for _ in range(3)))
        counts = await _finished(*arguments)

    assert {status for status, _, _ in runs} <= {0, 5}, runs
    assert set(world.mailbox.received.values()) == {1}
    assert counts == ONCE
