"""Transactions around contracts: what is issued, and what is said about the end (section 2.8)."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase as Phase
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome as Outcome
from omnibase_core.enums.enum_effect_policy import EnumIsolationLevel
from omnibase_core.enums.enum_effect_types import EnumTransactionState as State
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import ResolvedIOContext
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOutput
from omnibase_core.protocols.protocol_effect_handler import ProtocolDbTransaction
from omnibase_spi.testing import ScriptedHandler, container_with, fault, hang
from tests.support.effects import INSERT, SELECT, contract, node_of, operation, run, virtually


class _Transaction:
    """A scripted transaction that follows the protocol's promises."""

    def __init__(self, database: "ScriptedDatabase") -> None:
        self.database = database
        self.state = State.ACTIVE

    async def commit(self) -> None:
        self.database.log.append("COMMIT")
        end = self.database.commits.pop(0) if self.database.commits else State.COMMITTED
        if isinstance(end, tuple):
            self.state, error = end
            raise error
        self.state = end

    async def rollback(self) -> None:
        self.database.log.append("ROLLBACK")
        if self.database.rollback_fails:
            self.state = State.FAILED
            raise fault("ECONNRESET")
        self.state = State.ROLLED_BACK

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        self.database.log.append("SAVEPOINT")
        try:
            yield
        except BaseException:
            self.database.log.append("ROLLBACK TO")
            raise
        self.database.log.append("RELEASE")


class ScriptedDatabase(ScriptedHandler):
    """A db handler that writes down what it was asked to issue."""

    def __init__(self, *answers: object) -> None:
        super().__init__(*answers)  # type: ignore[arg-type]  # the answers of the base
        self.log: list[str] = []
        self.begins: list[BaseException] = []
        self.commits: list[State | tuple[State, BaseException]] = []
        self.rollback_fails = False

    async def execute(self, resolved_context: ResolvedIOContext, correlation_id: UUID) -> object:  # type: ignore[override]  # what the base returns
        self.log.append(resolved_context.query)  # type: ignore[union-attr]  # db contexts
        return await super().execute(resolved_context, correlation_id)

    def transaction(
        self, connection_name: str, *, isolation_level: EnumIsolationLevel | None = None, read_only: bool = False
    ) -> AbstractAsyncContextManager[ProtocolDbTransaction]:
        return self._transaction(connection_name, isolation_level, read_only)

    @asynccontextmanager
    async def _transaction(
        self, name: str, level: EnumIsolationLevel | None, read_only: bool
    ) -> AsyncIterator[ProtocolDbTransaction]:
        self.log.append(f"BEGIN {level.sql if level else ''}{' READ ONLY' if read_only else ''} on {name}")
        if self.begins:
            raise self.begins.pop(0)
        transaction = _Transaction(self)
        try:
            yield transaction
        except BaseException:
            await transaction.rollback()
            raise
        if transaction.state is State.ACTIVE:
            await transaction.commit()


def _insert(sql: str) -> dict[str, object]:
    return {**INSERT, "query_template": f"{sql} $1"}


def _two(**fields: object) -> ModelEffectSubcontract:
    fields.setdefault("transaction", {"enabled": True})
    return contract(operation("a", _insert("A")), operation("b", _insert("B")), **fields)


def _run(database: ScriptedDatabase, made: ModelEffectSubcontract) -> ModelEffectOutput:
    return virtually(lambda: run(container_with(db=database), made))


BEGIN = "BEGIN READ COMMITTED on main"
DEADLOCK = fault("DEADLOCK", Phase.REJECTED, transient=True)
REFUSED = fault("CONSTRAINT", Phase.REJECTED)


def test_a_good_transaction_begins_and_commits_once() -> None:
    """BEGIN with the isolation level, the statements, COMMIT."""
    database = ScriptedDatabase()
    output = _run(database, _two(transaction={"enabled": True, "isolation_level": "serializable"}))

    assert database.log == ["BEGIN SERIALIZABLE on main", "A $1", "B $1", "COMMIT"]
    assert output.transaction_state is State.COMMITTED


def test_a_failure_rolls_back_and_what_succeeded_is_no_success() -> None:
    """The statement before the failed one is undone, and says so."""
    database = ScriptedDatabase({"rows": []}, REFUSED)
    output = _run(database, _two())

    assert database.log == [BEGIN, "A $1", "B $1", "ROLLBACK"]
    assert (output.transaction_state, output.failed_operation) == (State.ROLLED_BACK, "b")
    assert [r.outcome for r in output.operations] == [Outcome.FAILED, Outcome.FAILED]
    assert output.operations[0].error_message == "undone: the transaction was rolled back"


def test_a_rollback_that_was_not_carried_out_is_not_called_rolled_back() -> None:
    """The connection was lost: the state is FAILED."""
    database = ScriptedDatabase(REFUSED)
    database.rollback_fails = True
    output = _run(database, _two())

    assert output.transaction_state is State.FAILED


def test_a_statement_is_never_repeated_inside_a_transaction() -> None:
    """A lost connection inside is the end; only a serialisation failure or deadlock repeats the whole."""
    database = ScriptedDatabase(fault("ECONNRESET"))
    _run(database, _two())
    assert database.log == [BEGIN, "A $1", "ROLLBACK"]

    database = ScriptedDatabase({"rows": []}, DEADLOCK, {"rows": []})
    output = _run(database, _two())
    assert database.log == [BEGIN, "A $1", "B $1", "ROLLBACK", BEGIN, "A $1", "B $1", "COMMIT"]
    assert (output.transaction_state, output.total_retry_count) == (State.COMMITTED, 1)


def test_the_whole_is_repeated_under_the_default_retry_policy() -> None:
    """`max_retries` of the default policy bounds the repetitions; 0 makes one attempt."""
    for retries in (0, 2):
        database = ScriptedDatabase(DEADLOCK)
        output = _run(database, _two(default_retry_policy={"max_retries": retries}))
        assert database.log.count(BEGIN) == retries + 1
        assert output.transaction_state is State.ROLLED_BACK


def test_a_refused_commit_is_a_rollback_and_may_be_repeated() -> None:
    """A serialisation failure at COMMIT rolls back; the next try may commit."""
    database = ScriptedDatabase()
    database.commits = [(State.ROLLED_BACK, DEADLOCK), State.COMMITTED]
    output = _run(database, _two())

    assert database.log.count("COMMIT") == 2
    assert output.transaction_state is State.COMMITTED


def test_a_lost_answer_to_commit_is_unknown() -> None:
    """OUTCOME_UNKNOWN in every mode; nothing is repeated, no operation claims success."""
    for mode in ("sequential_abort", "sequential_continue"):
        database = ScriptedDatabase()
        database.commits = [(State.UNKNOWN, fault("ECONNRESET"))]
        made = _two(execution_mode=mode)

        async def main(database: ScriptedDatabase = database, made: ModelEffectSubcontract = made) -> EffectFailedError:
            with pytest.raises(EffectFailedError) as caught:
                await node_of(container_with(db=database), made).process(ModelEffectInput(operation_data={}))
            return caught.value

        error = virtually(main)
        assert error.error_code is Code.OUTCOME_UNKNOWN
        assert error.partial_output is not None
        assert error.partial_output.transaction_state is State.UNKNOWN
        assert {r.outcome for r in error.partial_output.operations} == {Outcome.UNKNOWN}
        assert database.log.count(BEGIN) == 1


def test_a_begin_that_fails_leaves_nothing() -> None:
    """Nothing ran; a refused connection is repeated, another failure is not."""
    database = ScriptedDatabase()
    database.begins = [fault("ECONNREFUSED", Phase.NOT_SENT)]
    assert _run(database, _two()).transaction_state is State.COMMITTED

    database = ScriptedDatabase()
    database.begins = [EffectFault("no such database", Code.CONFIGURATION_ERROR, phase=Phase.NOT_SENT)]

    async def main() -> EffectFailedError:
        with pytest.raises(EffectFailedError) as caught:
            await node_of(container_with(db=database), _two()).process(ModelEffectInput(operation_data={}))
        return caught.value

    error = virtually(main)
    assert error.error_code is Code.CONFIGURATION_ERROR
    assert error.partial_output is not None
    assert error.partial_output.operations == []


def test_continue_uses_savepoints_and_rolls_back_at_the_end() -> None:
    """With rollback_on_error any failure ends in ROLLBACK, after all have run."""
    database = ScriptedDatabase(REFUSED, {"rows": []})
    output = _run(database, _two(execution_mode="sequential_continue"))

    assert database.log == [BEGIN, "SAVEPOINT", "A $1", "ROLLBACK TO", "SAVEPOINT", "B $1", "RELEASE", "ROLLBACK"]
    assert output.transaction_state is State.ROLLED_BACK


def test_without_rollback_on_error_only_the_failed_statement_is_undone() -> None:
    """The rest is committed."""
    database = ScriptedDatabase(REFUSED, {"rows": []})
    made = _two(execution_mode="sequential_continue", transaction={"enabled": True, "rollback_on_error": False})
    output = _run(database, made)

    assert database.log[-3:] == ["B $1", "RELEASE", "COMMIT"]
    assert output.transaction_state is State.COMMITTED
    assert [r.success for r in output.operations] == [False, True]


def test_a_transaction_past_its_deadline_is_rolled_back() -> None:
    """COMMIT is not sent after the deadline."""
    database = ScriptedDatabase(hang(5))
    made = contract(operation("a", _insert("A")), transaction={"enabled": True, "timeout_ms": 1000})
    output = _run(database, made)

    assert database.log == [BEGIN, "A $1", "ROLLBACK"]
    assert output.transaction_state is State.ROLLED_BACK


def test_a_read_only_contract_asks_for_a_read_only_transaction() -> None:
    """All operations are SELECTs with read_only: true."""
    database = ScriptedDatabase()
    _run(database, contract(operation("a", {**SELECT, "read_only": True}), transaction={"enabled": True}))

    assert database.log[0] == "BEGIN READ COMMITTED READ ONLY on main"


def test_a_handler_without_transactions_is_a_configuration_error() -> None:
    """Never `committed` by a handler that cannot commit."""
    container = container_with(db=ScriptedHandler())

    async def main() -> ModelOnexError:
        with pytest.raises(ModelOnexError) as caught:
            await node_of(container, _two()).process(ModelEffectInput(operation_data={}))
        return caught.value

    error = virtually(main)
    assert error.error_code is Code.CONFIGURATION_ERROR
    assert "no transaction support" in error.message
