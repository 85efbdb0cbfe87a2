"""An intent with a key, and an action on a stored state, on SQLite: beside the bare statements that do the same work.

Bare: one connection in a thread of its own, the statements and their texts made beforehand, one hop each. That is what
a program would write by hand that knows its table, its key and its outcome; what is added is routing, looking columns
up, the ledger's JSON, attempts with their limits, and results.
"""

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import Table, Times, one_by_one, paired
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_reducer_input import ModelReducerInput
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.nodes.node_reducer import NodeReducer
from omnibase_core.utils.fsm_executor import FsmAction
from omnibase_spi.bootstrap import register_effect_handlers
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.reducer_store import ReducerStore

Statements = list[tuple[str, tuple[object, ...]]]
LEDGER = "idem_key, intent, owner, state, outcome, changed_at"


class _Counts(NodeReducer):
    """The least reducer with an intent."""

    def reduce(self, state: object, action: FsmAction) -> tuple[object, list[ModelIntent]]:
        count = int(str(state["count"])) if isinstance(state, dict) else 0
        return {"count": count + 1}, [_intent(action.trigger)]


def _intent(key: str | None) -> ModelIntent:
    payload = {"operation": "insert", "data": {"number": 5, "note": "a note"}}
    return ModelIntent(intent_type="database_write", target="orders", payload=payload, idempotency_key=key)


def test_intents(tmp_path: Path, table: Table) -> None:
    """A row with its ledger entry in one transaction; a row alone; and a state with an intent in the outbox."""
    found = asyncio.run(_measure(tmp_path))
    for figure, ours in (
        ("row and ledger entry", "with a key"),
        ("a row, no key", "without"),
        ("state and outbox", "an action"),
    ):
        table.add_comparison("intents, sqlite", figure, found.compare(ours, f"{ours}, bare"))
    intents = found.compare("making", "making")
    table.add("intents, sqlite", "of it, making the intent", intents.ours, "us")


async def _measure(directory: Path) -> Times:
    loop = asyncio.get_running_loop()
    numbers = itertools.count()
    text = _intent("key 1000").model_dump_json()
    outcome = json.dumps({"result": {"row_count": 1}, "error": None, "attempts": 1})
    async with ModelONEXContainer() as container:
        register_effect_handlers(container, ModelSettings(data_dir=directory))
        adapter = container.get_service(DbAdapter)
        store = ReducerStore(_Counts(container), adapter)
        executor = IntentExecutor(container)
        with ThreadPoolExecutor(1) as worker:
            raw = await loop.run_in_executor(worker, _connect, directory / "embedded.db")
            await loop.run_in_executor(worker, raw.execute, "CREATE TABLE orders (number integer, note text)")
            await store.apply("k", ModelReducerInput(action="first"))
            await executor.execute_intents([_intent("first")])

            def bare(make: Callable[[], Statements]) -> Callable[[], Awaitable[object]]:
                async def call() -> None:
                    for statement in make():
                        await loop.run_in_executor(worker, _run, raw, *statement)

                return call

            async def with_a_key() -> None:
                (result,) = await executor.execute_intents([_intent(f"key {next(numbers)}")])
                assert result.error is None

            async def without() -> None:
                (result,) = await executor.execute_intents([_intent(None)])
                assert result.error is None

            async def action() -> None:
                await store.apply("k", ModelReducerInput(action=f"key {next(numbers)}"))

            async def making() -> None:
                _intent("key")

            row = ("INSERT INTO orders (number, note) VALUES (?, ?)", (5, "a note"))
            subjects = {
                "with a key": with_a_key,
                "with a key, bare": bare(lambda: _entry(f"bare {next(numbers)}", row, text, outcome)),
                "without": without,
                "without, bare": bare(lambda: [row]),
                "an action": action,
                "an action, bare": bare(lambda: _action(f"bare {next(numbers)}", text)),
                "making": making,
            }
            times = await paired({name: one_by_one(call) for name, call in subjects.items()}, operations=20, rounds=40)
            await loop.run_in_executor(worker, raw.close)
    return times


def _entry(key: str, row: tuple[str, tuple[object, ...]], text: str, outcome: str) -> Statements:
    entry = f"INSERT INTO onex_intent_ledger ({LEDGER}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (idem_key) DO NOTHING"
    return [
        ("BEGIN IMMEDIATE", ()),
        (entry, (key, text, "me", "running", "{}", 1.0)),
        row,
        (
            "UPDATE onex_intent_ledger SET state = ?, outcome = ?, changed_at = ? WHERE idem_key = ? AND owner = ?",
            ("completed", outcome, 2.0, key, "me"),
        ),
        ("COMMIT", ()),
    ]


def _action(key: str, text: str) -> Statements:
    return [
        ("SELECT state, version FROM onex_state WHERE owner = ? AND state_key = ?", ("_Counts", "k")),
        ("SELECT version FROM onex_action WHERE owner = ? AND state_key = ? AND action_id = ?", ("me", "k", key)),
        ("BEGIN IMMEDIATE", ()),
        ("UPDATE onex_state SET state = state WHERE owner = ? AND state_key = ? AND version > ?", ("_Counts", "k", 0)),
        ("INSERT INTO onex_action VALUES (?, ?, ?, ?, ?)", ("me", "k", key, 1, 1.0)),
        (
            "INSERT INTO onex_intent_outbox VALUES (?, ?, ?, ?, 'waiting', 0, 0, 0, 0, ?, NULL)",
            (key, key, key, text, 1.0),
        ),
        ("COMMIT", ()),
    ]


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = NORMAL")
    return raw


def _run(raw: sqlite3.Connection, sql: str, params: tuple[object, ...]) -> list[object]:
    return raw.execute(sql, params).fetchall()
