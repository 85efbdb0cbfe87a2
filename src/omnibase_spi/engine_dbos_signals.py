"""Signals that were sent to runs: kept until they are taken, each by one position of its run."""

import json

from omnibase_core.protocols.protocol_workflow_engine import Signal
from omnibase_spi.engine_dbos_tables import WorkflowTables
from omnibase_spi.engine_dbos_views import text_of
from omnibase_spi.workflow_checks import json_of


class SignalTable:
    """The signals of a store. Its methods block."""

    def __init__(self, tables: WorkflowTables) -> None:
        self._tables = tables

    def send(self, workflow_id: str, signal: Signal) -> None:
        """Keep a signal for a run, once for its key."""
        self._tables.change(
            "INSERT INTO {s}onex_signals (workflow_id, topic, signal_key, payload, sender) "
            "VALUES (:id, :topic, :key, :payload, :sender) ON CONFLICT (workflow_id, topic, signal_key) DO NOTHING",
            id=workflow_id,
            topic=signal.topic,
            key=signal.key,
            payload=json_of(signal.payload, f"The payload of a signal to workflow {workflow_id!r}"),
            sender=signal.sender,
        )

    def take(self, workflow_id: str, topic: str, position: int) -> Signal | None:
        """The signal of this position: the one that it took before a crash, else the next one that nobody took."""
        with self._tables.writing() as connection:
            taken = self._tables.rows_in(
                connection,
                "SELECT * FROM {s}onex_signals WHERE workflow_id = :id AND taken_by = :position",
                id=workflow_id,
                position=position,
            )
            if not taken:
                taken = self._tables.rows_in(
                    connection,
                    "UPDATE {s}onex_signals SET taken_by = :position WHERE number = (SELECT min(number) FROM "
                    "{s}onex_signals WHERE workflow_id = :id AND topic = :topic AND taken_by IS NULL) "
                    "AND taken_by IS NULL RETURNING *",
                    position=position,
                    id=workflow_id,
                    topic=topic,
                )
        if not taken:
            return None
        row = taken[0]
        return Signal(
            text_of(row["topic"]),
            json.loads(text_of(row["payload"])),
            None if row["signal_key"] is None else text_of(row["signal_key"]),
            None if row["sender"] is None else text_of(row["sender"]),
        )

    def waiting(self, executor_id: str) -> list[str]:
        """The runs of a process that have a signal which nobody took."""
        rows = self._tables.rows(
            "SELECT DISTINCT s.workflow_id FROM {s}onex_signals s JOIN {s}workflow_status w "
            "ON w.workflow_uuid = s.workflow_id WHERE s.taken_by IS NULL AND w.status = 'PENDING' "
            "AND w.executor_id = :me",
            me=executor_id,
        )
        return [text_of(row["workflow_id"]) for row in rows]
