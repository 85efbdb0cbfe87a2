"""The parts of the order example, and its page."""

import asyncio
import smtplib
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.orders.desk import HERE
from examples.orders.world import World, addresses_in, order_of, subjects_in
from omnibase_core.enums.enum_intent import EnumIntentPriority
from omnibase_core.errors import ModelOnexError
from omnibase_core.models.model_compute_input import ModelComputeInput
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.models.model_reducer_output import ModelReducerOutput
from omnibase_core.nodes import NodeCompute, NodeReducer
from tests.support.docs_pages import ROOT, PageRun

NORMALISE = NodeCompute.from_contract(None, HERE / "normalise_order.yaml")
MACHINE = NodeReducer.from_contract(None, HERE / "order_machine.yaml")
GIVEN = {
    "order_id": "a-1",
    "customer": " Zoe\u0308 ",
    "email": " Zoe@Example.com",
    "quantity": 3,
    "unit_price": "0.07",
    "shipping": "4.90",
    "history": "placed paid",
}
ORDER = {"order_id": "a-1", "customer": "Zoë", "email": "zoe@example.com", "total_cents": 511, "total_text": "5.11"}


def _normalised(**changes: object) -> dict[str, object]:
    done = asyncio.run(NORMALISE.process(ModelComputeInput(data={**GIVEN, **changes})))
    return cast("dict[str, object]", done.result)  # the output_schema


async def _reduced(action: str, state: object = None, **changes: object) -> ModelReducerOutput:
    given = {"action": action, "state": state, "payload": {**ORDER, **changes}}
    return await MACHINE.process(ModelReducerInput.model_validate(given))


def test_an_order_is_brought_into_one_form() -> None:
    """Texts are composed, trimmed and lowered, amounts become cents, the history a list."""
    assert _normalised() == {**ORDER, "history": ["placed", "paid"]}


@settings(deadline=None)  # how fast it is depends on what else runs
@given(st.integers(1, 1000), st.decimals(0, 9_999_999, places=2), st.decimals(0, 9_999_999, places=2))
def test_totals_are_exact(quantity: int, unit_price: Decimal, shipping: Decimal) -> None:
    """What exact decimals give, for any amounts, in cents and as a text."""
    found = _normalised(quantity=quantity, unit_price=f"{unit_price:.2f}", shipping=f"{shipping:.2f}")

    total = quantity * unit_price + shipping
    assert found["total_cents"] == int(total * 100)
    assert found["total_text"] == f"{total:.2f}"


@pytest.mark.parametrize(
    "wrong",
    [{"unit_price": "1.5"}, {"unit_price": "-1.50"}, {"quantity": 0}, {"shipping": "1,50"}, {"history": "refunded"}],
)
def test_what_is_no_order_is_refused(wrong: dict[str, object]) -> None:
    """Amounts without cents or below zero, no quantity, a step that nobody knows."""
    with pytest.raises(ModelOnexError):
        _normalised(**wrong)


async def test_placing_an_order_emits_a_row_a_mail_and_an_event() -> None:
    """With their priorities, and keys that the next run makes again."""
    output = await _reduced("placed")

    assert [(str(intent.intent_type), intent.priority, intent.idempotency_key) for intent in output.intents] == [
        ("database_write", EnumIntentPriority.CRITICAL, "a-1:row"),
        ("notification", EnumIntentPriority.HIGH, "a-1:mail"),
        ("message_publish", EnumIntentPriority.NORMAL, "a-1:event"),
    ]


async def test_an_order_goes_its_way_and_emits_nothing_more() -> None:
    """Placed, paid, shipped; from where nothing leads on."""
    state: object = None
    names = []
    for action in ("placed", "paid", "shipped"):
        output = await _reduced(action, state)
        state = output.new_state
        names.append(output.state_metadata.new_state)

    assert names == ["ORDER_PLACED", "PAYMENT_CONFIRMED", "SHIPPED"]
    assert output.intents == []
    with pytest.raises(ModelOnexError):
        await _reduced("cancelled", state)


async def test_an_order_over_nothing_is_not_placed() -> None:
    """The guard asks for a total above zero."""
    with pytest.raises(ModelOnexError, match="IDLE"):
        await _reduced("placed", total_cents=0)


def _send(mail_url: str, identity: str, body: str) -> None:
    host, _, port = mail_url.removeprefix("smtp://").partition(":")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", "ada@example.com", "Order 1"
    message["Message-ID"] = identity
    message.set_content(body)
    with smtplib.SMTP(host, int(port), timeout=5) as server:
        server.send_message(message)


async def test_the_mail_server_files_a_message_id_once_and_counts_what_came(tmp_path: Path) -> None:
    """Also after it was started again; lines that begin with a dot arrive as they were."""
    for _ in range(2):
        world = World(tmp_path)
        async with world.running() as addresses:
            for identity in ("<a@x>", "<b@x>", "<a@x>"):
                await asyncio.to_thread(_send, addresses.mail, identity, ".one\n..two\n")

    assert subjects_in(tmp_path / "mail") == {"Order 1": 2}
    assert world.mailbox.received == {"<a@x>": 2, "<b@x>": 1}
    assert all(b"\r\n.one\r\n..two\r\n" in mail.read_bytes() for mail in (tmp_path / "mail").iterdir())


async def test_a_world_says_where_it_listens(tmp_path: Path) -> None:
    """In a file of its directory, for programs that come later."""
    async with World(tmp_path).running() as addresses:
        assert addresses_in(tmp_path) == addresses


def test_orders_of_a_shop_are_always_the_same() -> None:
    """Ids have the shop's name, so that shops do not get into each other's way."""
    assert order_of("a", 1) == order_of("a", 1)
    assert [order_of(shop, 1)["id"] for shop in "ab"] == ["a-1001", "b-1001"]


def test_every_block_of_the_page_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, in a fresh directory beside the example."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "examples").symlink_to(ROOT / "examples")

    PageRun(ROOT / "examples" / "orders" / "README.md", tmp_path).carry_out()


def test_the_page_names_every_file_of_the_example() -> None:
    """A new file is explained."""
    page = (HERE / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in HERE.iterdir() if path.suffix in {".py", ".yaml"} and path.name[:2] != "__"}

    assert {name for name in files if f"`{name}`" not in page} == set()
