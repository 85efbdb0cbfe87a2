"""Steps that commit with their record, over every database that has transactions."""

import asyncio

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_workflow import EnumStepStatus
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.protocols.protocol_workflow_engine import StepError, StepOutcome, Work
from omnibase_spi.workflow_tx import TransactionalSteps
from tests.support.databases import NAME, Database

DONE = StepOutcome(EnumStepStatus.COMPLETED, {"n": 1}, None, 2, 1.5, 2.5)


def adding(database: Database, outcome: StepOutcome = DONE) -> Work:
    """Work that adds a row and ends so."""

    async def work() -> StepOutcome:
        await database.run("INSERT INTO {t} (n) VALUES (7)")
        return outcome

    return work


async def rows(database: Database) -> int:
    return len(await database.run("SELECT n FROM {t}", operation="select"))


@pytest.fixture
async def steps(database: Database) -> TransactionalSteps:
    await database.make_table("n integer")
    return TransactionalSteps(database.adapter)


async def test_a_step_is_done_once(database: Database, steps: TransactionalSteps) -> None:
    """Asked again it gives its recorded outcome and does nothing; another position is another step."""
    first = await steps.run(NAME, database.table, 1, adding(database))
    again = await steps.run(NAME, database.table, 1, adding(database))
    other = await steps.run(NAME, database.table, 2, adding(database))

    assert first == again == other == DONE
    assert await rows(database) == 2


async def test_what_did_not_complete_leaves_nothing(database: Database, steps: TransactionalSteps) -> None:
    """A failed outcome rolls its effect back, is not recorded, and may be tried again."""
    error = StepError(EnumCoreErrorCode.OPERATION_FAILED, "ModelOnexError", "no")
    failed = StepOutcome(EnumStepStatus.FAILED, None, error)

    assert await steps.run(NAME, database.table, 1, adding(database, failed)) == failed

    assert await rows(database) == 0
    assert await steps.run(NAME, database.table, 1, adding(database)) == DONE
    assert await rows(database) == 1


async def test_work_that_raises_leaves_nothing(database: Database, steps: TransactionalSteps) -> None:
    """A fault of a statement passes, and its transaction is gone."""

    async def work() -> StepOutcome:
        await database.run("INSERT INTO {t} (n) VALUES (7)")
        await database.run("SELECT nothing FROM nowhere")
        return DONE

    with pytest.raises(EffectFault):
        await steps.run(NAME, database.table, 1, work)

    assert await rows(database) == 0
    assert await steps.run(NAME, database.table, 1, adding(database)) == DONE


async def test_cancelled_work_leaves_nothing(database: Database, steps: TransactionalSteps) -> None:
    """A step that is cancelled in the middle has no effect, and is done when it is asked for again."""
    reached = asyncio.Event()

    async def work() -> StepOutcome:
        await database.run("INSERT INTO {t} (n) VALUES (7)")
        reached.set()
        await asyncio.Event().wait()
        return DONE

    task = asyncio.create_task(steps.run(NAME, database.table, 1, work))
    await asyncio.wait_for(reached.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await rows(database) == 0
    assert await steps.run(NAME, database.table, 1, adding(database)) == DONE


async def test_of_two_at_the_same_time_one_does_it(database: Database, steps: TransactionalSteps) -> None:
    """A process that was stopped and woken waits at the row of the one that took over, and finds its outcome."""
    other = TransactionalSteps(database.adapter)
    await steps.run(NAME, database.table, 0, adding(database))

    outcomes = await asyncio.gather(
        steps.run(NAME, database.table, 1, adding(database)), other.run(NAME, database.table, 1, adding(database))
    )

    assert set(map(str, outcomes)) == {str(DONE)}
    assert await rows(database) == 2


async def test_old_rows_are_forgotten(database: Database, steps: TransactionalSteps) -> None:
    """Rows of steps that ended before a moment go, the others stay."""
    await steps.run(NAME, database.table, 1, adding(database))

    before = await steps.forget_before(NAME, 2.0)
    after = await steps.forget_before(NAME, 3.0)

    assert before == 0
    assert after >= 1
