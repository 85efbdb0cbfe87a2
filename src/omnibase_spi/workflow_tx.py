"""Steps whose effect is in a database and happens exactly once: their record commits in the same transaction.

The row of the step, in `onex_workflow_tx` of the step's own connection, is written first: a second process that does
the same step, such as one that was stopped and woken after others took its run over, waits at that row and then finds
the outcome. What the step does goes through the same `DbAdapter` and so joins the transaction.
"""

import json
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.protocols.protocol_workflow_engine import StepError, StepOutcome, Work
from omnibase_spi.db.adapter import DbAdapter
from omnibase_spi.db.own_table import SqlTable

_LOOKS: Final = 3
_TABLE: Final = "onex_workflow_tx"
_COLUMNS: Final = (
    "step_key VARCHAR(400) NOT NULL, place INTEGER NOT NULL, outcome TEXT NOT NULL, written_at DOUBLE PRECISION "
    "NOT NULL, PRIMARY KEY (step_key, place)"
)


class _RolledBackError(Exception):
    """Leaves the transaction with an outcome that must not commit."""

    def __init__(self, outcome: StepOutcome) -> None:
        super().__init__()
        self.outcome = outcome


class TransactionalSteps:
    """Runs steps in a transaction of a named connection, each once."""

    def __init__(self, adapter: DbAdapter) -> None:
        self._adapter = adapter
        self._tables: dict[str, SqlTable] = {}

    async def run(self, connection_name: str, workflow_id: str, position: int, work: Work) -> StepOutcome:
        """Do the work and commit its outcome with it, or give the outcome that stands there.

        An outcome that is not `completed` rolls everything back and leaves no row. Raises EffectFault when the
        transaction could not be begun or committed. After a COMMIT whose answer was lost the row tells; where that
        cannot be asked for either, the outcome is `unknown`.
        """
        for left in range(_LOOKS - 1, -1, -1):
            try:
                return await self._once(connection_name, workflow_id, position, work)
            except EffectFault as fault:
                if fault.phase is not EnumFaultPhase.AMBIGUOUS:
                    raise
                if not left:
                    error = StepError(EnumCoreErrorCode.OUTCOME_UNKNOWN, type(fault).__name__, fault.message)
                    return StepOutcome(EnumStepStatus.UNKNOWN, None, error)
        raise AssertionError  # the last look returns or raises

    async def _once(self, connection_name: str, workflow_id: str, position: int, work: Work) -> StepOutcome:
        table = self._table(connection_name)
        await table.prepare()
        try:
            async with self._adapter.transaction(connection_name):
                mine = await table.changed(
                    table.insert_once("step_key, place, outcome, written_at", "step_key, place"),
                    workflow_id,
                    position,
                    "",
                    0.0,
                )
                if not mine:
                    rows = await table.run(
                        "SELECT outcome FROM {t} WHERE step_key = $1 AND place = $2", workflow_id, position
                    )
                    return StepOutcome.from_json(json.loads(str(rows[0]["outcome"])))
                outcome = await work()
                if outcome.status is not EnumStepStatus.COMPLETED:
                    raise _RolledBackError(outcome)
                await table.changed(
                    "UPDATE {t} SET outcome = $1, written_at = $2 WHERE step_key = $3 AND place = $4",
                    json.dumps(outcome.as_json()),
                    outcome.ended_at,
                    workflow_id,
                    position,
                )
                return outcome
        except _RolledBackError as left:
            return left.outcome

    async def forget_before(self, connection_name: str, seconds_since_1970: float) -> int:
        """Delete rows of steps that ended before. Do so only for runs that have ended."""
        return await self._table(connection_name).changed("DELETE FROM {t} WHERE written_at < $1", seconds_since_1970)

    def _table(self, connection_name: str) -> SqlTable:
        table = self._tables.get(connection_name)
        if table is None:
            table = self._tables[connection_name] = SqlTable(self._adapter, connection_name, _TABLE, _COLUMNS)
        return table
