"""What every store of leases, epochs and actions promises."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_action import EnumLeaseEvent as Event
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.errors import (
    ActionExpiredError,
    ConcurrentModificationError,
    EpochMismatchError,
    LeaseConflictError,
    LeaseExpiredError,
    LeaseValidationError,
    ModelOnexError,
    StateUpdateConflictError,
)
from omnibase_core.protocols.protocol_lease import EndedAction, ProtocolLeaseStore
from omnibase_spi.lease_sql import SqlLeaseStore
from tests.support.databases import NAME, adapter_on, until
from tests.support.leases import LEASE, OTHER, TTL, Stores, action_of, leases, shared

__all__ = ["leases", "shared"]

A, B = str(LEASE), str(OTHER)
STATES: list[JsonValue] = [None, 0, False, "", "ä\u0000\ud800 \N{SNOWMAN}", [1.5, {"x": []}], {"n": 2**53}]


async def test_a_free_lease_is_given_with_the_first_token(leases: Stores) -> None:
    """Its length is counted by the clock of the store, and the epoch begins at 0."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    assert isinstance(leases.store, ProtocolLeaseStore)
    assert (record.resource, record.lease_id, record.holder, record.token, record.epoch) == ("w", A, "ada", 1, 0)
    assert 0 < record.remaining_ms <= TTL
    standing = await leases.again.lease("w")
    assert standing is not None
    assert standing.expires_ms == record.expires_ms
    assert await leases.store.lease("other") is None


async def test_whoever_comes_second_is_told_who_has_it_and_for_how_long(leases: Stores) -> None:
    """Under another lease id, and under the same one as another holder."""
    await leases.store.acquire("w", A, "ada", TTL)

    for lease_id, holder in ((B, "bob"), (A, "bob"), (B, "ada")):
        with pytest.raises(LeaseConflictError, match="ada has it for another") as caught:
            await leases.again.acquire("w", lease_id, holder, TTL)
        assert caught.value.context["holder"] == "ada"
        assert 0 < int(str(caught.value.context["remaining_ms"])) <= TTL


async def test_acquiring_ones_own_lease_again_renews_it(leases: Stores) -> None:
    """The token stays, the time grows, and the audit keeps one grant."""
    first = await leases.store.acquire("w", A, "ada", TTL)
    second = await leases.store.acquire("w", A, "ada", 2 * TTL)
    third = await leases.store.renew("w", A, second.token, 3 * TTL)

    assert (first.token, second.token, third.token) == (1, 1, 1)
    assert (first.renewals, second.renewals, third.renewals) == (0, 1, 2)
    assert TTL < second.remaining_ms <= 2 * TTL < third.remaining_ms
    assert [entry.event for entry in await leases.store.audit("w")] == [Event.ACQUIRED]


async def test_tokens_grow_with_every_grant_and_are_never_reset(leases: Stores) -> None:
    """A new holder, the same one after its lease ran out, and after a release."""
    tokens = [(await leases.store.acquire("w", A, "ada", TTL)).token]
    await leases.pass_ms(TTL)
    tokens.append((await leases.store.acquire("w", A, "ada", TTL)).token)
    await leases.pass_ms(TTL)
    tokens.append((await leases.again.acquire("w", B, "bob", TTL)).token)
    assert await leases.again.release("w", B, tokens[-1])
    tokens.append((await leases.store.acquire("w", A, "ada", TTL)).token)

    assert tokens == [1, 2, 3, 4]


async def test_of_many_at_once_one_gets_the_lease(leases: Stores) -> None:
    """However they come, and the others are told about the same holder."""
    asked = [
        (leases.store, leases.again)[number % 2].acquire("w", f"lease-{number}", f"holder-{number}", TTL)
        for number in range(8)
    ]

    answers = await asyncio.gather(*asked, return_exceptions=True)

    given = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert [record.token for record in given] == [1]
    refused = [answer for answer in answers if isinstance(answer, LeaseConflictError)]
    assert {error.context["holder"] for error in refused} == {given[0].holder}
    assert len(refused) == 7


async def test_a_lapsed_lease_is_not_renewed(leases: Stores) -> None:
    """Not even while nobody else has it: its holder must see that it had lapsed."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    await leases.pass_ms(TTL)

    with pytest.raises(LeaseExpiredError):
        await leases.store.renew("w", A, record.token, TTL)
    with pytest.raises(LeaseValidationError):
        await leases.store.renew("w", B, record.token, TTL)
    with pytest.raises(LeaseValidationError):
        await leases.store.renew("never", A, 1, TTL)


async def test_release_frees_only_ones_own(leases: Stores) -> None:
    """Another id, an older token and a lapsed lease free nothing."""
    old = await leases.store.acquire("w", A, "ada", TTL)
    await leases.pass_ms(TTL)
    assert not await leases.store.release("w", A, old.token)
    new = await leases.store.acquire("w", A, "ada", TTL)

    assert not await leases.again.release("w", B, new.token)
    assert not await leases.again.release("w", A, old.token)
    assert not await leases.again.release("never", A, 1)
    assert await leases.again.release("w", A, new.token)
    assert not await leases.again.release("w", A, new.token)
    assert (await leases.store.acquire("w", B, "bob", TTL)).token == 3


async def test_verifying_tells_a_lapsed_lease_from_one_that_never_was(leases: Stores) -> None:
    """LeaseExpiredError for one that was this resource's once, LeaseValidationError otherwise."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    assert (await leases.again.verify("w", A)).token == 1
    with pytest.raises(LeaseValidationError, match="never given"):
        await leases.store.verify("w", B)
    with pytest.raises(LeaseExpiredError, match="token shown 7"):
        await leases.store.verify("w", A, 7)
    await leases.pass_ms(TTL)
    with pytest.raises(LeaseExpiredError, match="ran out"):
        await leases.store.verify("w", A, record.token)
    await leases.store.acquire("w", B, "bob", TTL)
    with pytest.raises(LeaseExpiredError, match="bob came after with token 2"):
        await leases.store.verify("w", A)


async def test_every_commit_makes_the_next_epoch(leases: Stores) -> None:
    """And states come back as they were, the current one and older ones."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    for epoch, state in enumerate(STATES):
        assert await leases.store.commit(action_of(record, epoch=epoch), state) == epoch + 1

    for epoch, state in enumerate(STATES, 1):
        stored = await leases.again.state("w", epoch)
        assert (stored.state, stored.version) == (state, epoch)
    assert (await leases.again.state("w")).version == len(STATES)
    assert (await leases.again.state("w")).state == STATES[-1]
    assert (await leases.again.state("never")).version == 0


async def test_an_epoch_that_never_was_is_not_found(leases: Stores) -> None:
    """Nor is one whose state was forgotten; the current state cannot be forgotten."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    for epoch in range(3):
        await leases.store.commit(action_of(record, epoch=epoch), epoch)

    assert await leases.store.forget_states("w", 100) == 2

    for epoch in (0, 1, 2, 4):
        with pytest.raises(ModelOnexError) as caught:
            await leases.store.state("w", epoch)
        assert caught.value.error_code is Code.NOT_FOUND
    assert (await leases.store.state("w")).state == 2
    assert (await leases.store.state("w", 3)).state == 2
    assert await leases.store.forget_states("w", 100) == 0


async def test_a_new_lease_goes_on_from_the_stored_epoch(leases: Stores) -> None:
    """Whoever it is."""
    first = await leases.store.acquire("w", A, "ada", TTL)
    await leases.store.commit(action_of(first), "one")
    await leases.pass_ms(TTL)

    second = await leases.again.acquire("w", B, "bob", TTL)

    assert (second.epoch, second.token) == (1, 2)
    assert await leases.again.commit(action_of(second), "two") == 2


async def test_what_does_not_hold_is_refused_and_told_apart(leases: Stores) -> None:
    """Nothing of it is written, and the audit says who tried."""
    store = leases.store
    record = await store.acquire("w", A, "ada", TTL)
    await store.commit(action_of(record), "one")
    cases = {
        EpochMismatchError: action_of(record, epoch=0),
        LeaseValidationError: action_of(record, epoch=1, lease_id=B),
        ActionExpiredError: action_of(record, epoch=1, expires_at=datetime.now(UTC) - timedelta(days=30_000 / 24)),
        LeaseExpiredError: action_of(record, epoch=1, metadata={"lease_token": 9}),
    }

    for expected, action in cases.items():
        for judged in (store.commit(action, "x"), store.begin(action), store.check(action)):
            with pytest.raises(expected) as caught:
                await judged
            assert caught.value.correlation_id == action.correlation_id

    assert (await store.state("w")).state == "one"
    refused = [entry for entry in await store.audit("w") if entry.event is Event.REFUSED]
    assert [(entry.action, entry.detail["error"]) for entry in refused if isinstance(entry.detail, dict)] == [
        (action, expected.__name__) for expected, action in cases.items() for _ in range(2)
    ]
    assert [entry.holder for entry in refused] == ["ada", "ada", "", "", "ada", "ada", "ada", "ada"]
    assert refused[0].token == record.token


async def test_an_action_expires_by_the_clock_of_the_store(leases: Stores) -> None:
    """The moment itself is too late; a lease that runs out first is named first."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    soon = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=record.now_ms + TTL)
    action = action_of(record, expires_at=soon)

    assert await leases.store.commit(action, 1) == 1
    await leases.pass_ms(TTL)
    with pytest.raises(LeaseExpiredError):
        await leases.store.commit(action_of(record, epoch=1, expires_at=soon), 2)


async def test_a_holder_that_slept_past_its_lease_writes_nothing(leases: Stores) -> None:
    """Neither before anybody took over, nor after, with its token and without."""
    old = await leases.store.acquire("w", A, "ada", TTL)
    await leases.store.commit(action_of(old), "ada")
    await leases.pass_ms(TTL)

    with pytest.raises(LeaseExpiredError):
        await leases.store.commit(action_of(old, epoch=1), "late")
    new = await leases.again.acquire("w", B, "bob", TTL)
    for metadata in ({}, {"lease_token": old.token}):
        with pytest.raises(LeaseExpiredError):
            await leases.store.commit(action_of(old, epoch=1, metadata=metadata), "late")
    assert await leases.again.commit(action_of(new), "bob") == 2
    assert (await leases.store.state("w")).state == "bob"


async def test_the_same_lease_given_anew_does_not_revive_old_actions(leases: Stores) -> None:
    """The token tells the grants apart where the id does not."""
    old = await leases.store.acquire("w", A, "ada", TTL)
    await leases.pass_ms(TTL)
    new = await leases.store.acquire("w", A, "ada", TTL)

    with pytest.raises(LeaseExpiredError, match="token shown 1, last token 2"):
        await leases.store.commit(action_of(old), 1)
    assert await leases.store.commit(action_of(new), 1) == 1


async def test_of_many_commits_at_one_epoch_one_is_made(leases: Stores) -> None:
    """The others compare at commit, and are told that the epoch moved."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    commits = [
        (leases.store, leases.again)[number % 2].commit(action_of(record), {"by": number}) for number in range(8)
    ]

    answers = await asyncio.gather(*commits, return_exceptions=True)

    assert sorted(str(type(answer).__name__) for answer in answers) == ["EpochMismatchError"] * 7 + ["int"]
    assert (await leases.store.state("w")).version == 1


async def test_an_action_is_committed_once(leases: Stores) -> None:
    """Repeated, after its answer was lost, it gives its epoch, even after the lease; with another state it does not."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    action = action_of(record)
    assert await leases.store.commit(action, {"n": 1}) == 1
    await leases.store.commit(action_of(record, epoch=1), {"n": 2})
    await leases.pass_ms(TTL)

    assert await leases.again.commit(action, {"n": 1}) == 1
    with pytest.raises(StateUpdateConflictError, match="committed already as epoch 1") as caught:
        await leases.again.commit(action, {"n": 3})
    assert isinstance(caught.value, EpochMismatchError), "who reads again and decides again does the right thing"
    assert (await leases.store.state("w")).state == {"n": 2}


async def test_an_action_is_begun_once(leases: Stores) -> None:
    """Who comes second is told what is known of it, until the end and after the lease."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    action = action_of(record)

    answers = await asyncio.gather(*(store.begin(action) for store in (leases.store, leases.again) * 4))
    begun = [answer for answer in answers if answer is not None]
    assert len(begun) == 7
    assert {(entry.event, entry.holder, entry.token) for entry in begun} == {(Event.STARTED, "ada", 1)}
    await leases.store.finish(action, Event.COMPLETED, {"sent": True})
    await leases.pass_ms(TTL)
    ended = await leases.again.begin(action)
    assert ended is not None
    assert (ended.event, ended.detail, ended.action) == (Event.COMPLETED, {"sent": True}, action)


async def test_what_was_not_begun_does_not_end(leases: Stores) -> None:
    """NOT_FOUND."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    with pytest.raises(ModelOnexError, match="not begun") as caught:
        await leases.store.finish(action_of(record), Event.FAILED)
    assert caught.value.error_code is Code.NOT_FOUND


async def test_the_audit_tells_who_did_what_under_which_token_and_epoch(leases: Stores) -> None:
    """In the order in which it happened, with the action word by word; a limit keeps the newest."""
    store = leases.store
    first = await store.acquire("w", A, "ada", TTL)
    sent, changed = action_of(first), action_of(first, command_payload={"x": [None, 1.5]})
    await store.begin(sent)
    await store.finish(sent, Event.FAILED, {"error": "E"})
    await store.commit(changed, 1)
    await store.release("w", A, first.token)
    second = await leases.again.acquire("w", B, "bob", TTL)
    await store.force_release("w", "root")

    audit = await leases.again.audit("w")

    assert [(entry.event, entry.holder, entry.token, entry.epoch) for entry in audit] == [
        (Event.ACQUIRED, "ada", 1, 0),
        (Event.STARTED, "ada", 1, 0),
        (Event.FAILED, "ada", 1, 0),
        (Event.COMMITTED, "ada", 1, 1),
        (Event.RELEASED, "ada", 1, 1),
        (Event.ACQUIRED, "bob", 2, 1),
        (Event.FORCED, "root", second.token, 1),
    ]
    assert [entry.action for entry in audit] == [None, sent, sent, changed, None, None, None]
    assert audit[2].detail == {"error": "E"}
    numbers = [entry.number for entry in audit]
    assert numbers == sorted(set(numbers))
    assert await leases.store.audit("w", 2) == audit[-2:]
    assert await leases.store.audit("never") == []


async def test_a_person_frees_a_lease_whoever_has_it(leases: Stores) -> None:
    """Its holder is refused from then on; a free one stays free, an unknown one is NOT_FOUND."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    assert (await leases.again.force_release("w", "root")).holder == "ada"

    with pytest.raises(LeaseExpiredError):
        await leases.store.commit(action_of(record), 1)
    assert (await leases.again.force_release("w", "root")).remaining_ms == 0
    assert [entry.event for entry in await leases.store.audit("w")][:2] == [Event.ACQUIRED, Event.FORCED]
    assert (await leases.store.acquire("w", A, "ada", TTL)).token == 2
    with pytest.raises(ModelOnexError) as caught:
        await leases.store.force_release("never", "root")
    assert caught.value.error_code is Code.NOT_FOUND


async def test_leases_are_listed_by_name(leases: Stores) -> None:
    """Free ones among them, up to a limit."""
    for name in ("b", "a", "c"):
        await leases.store.acquire(name, A, "ada", TTL)
    await leases.store.release("a", A, 1)

    listed = await leases.again.leases()

    assert [(record.resource, record.remaining_ms > 0) for record in listed] == [("a", False), ("b", True), ("c", True)]
    assert [record.resource for record in await leases.again.leases(2)] == ["a", "b"]


@pytest.mark.parametrize(("resource", "lease_id", "ttl"), [("", A, TTL), ("w" * 201, A, TTL), ("w", "\0", TTL)])
async def test_names_that_no_store_takes_are_refused(leases: Stores, resource: str, lease_id: str, ttl: int) -> None:
    """VALIDATION_ERROR, before anything is written."""
    with pytest.raises(ModelOnexError, match=r"1\.\.200") as caught:
        await leases.store.acquire(resource, lease_id, "ada", ttl)
    assert caught.value.error_code is Code.VALIDATION_ERROR


async def test_times_and_states_that_no_store_takes_are_refused(leases: Stores) -> None:
    """VALIDATION_ERROR."""
    for ttl in (0, -5, 9, 10**10):
        with pytest.raises(ModelOnexError, match="time to live"):
            await leases.store.acquire("w", A, "ada", ttl)
    record = await leases.store.acquire("w", A, "ada", TTL)
    with pytest.raises(ModelOnexError, match="no JSON"):
        await leases.store.commit(action_of(record), float("nan"))
    assert (await leases.store.state("w")).version == 0


async def test_leases_really_run_out(shared: Stores) -> None:
    """By the clock of the database, without any help."""
    await shared.store.acquire("w", A, "ada", 50)

    async def free() -> bool:
        record = await shared.again.lease("w")
        return record is not None and record.remaining_ms == 0

    await until(free, "the lease runs out")

    assert (await shared.again.acquire("w", B, "bob", TTL)).token == 2


async def test_a_commit_and_writes_of_the_program_are_one(shared: Stores) -> None:
    """In the transaction of their connection: neither is there after a rollback, the audit included."""
    database, store = shared.database, shared.store
    assert database is not None
    record = await store.acquire("w", A, "ada", TTL)
    await database.run("CREATE TABLE {t}_own (n integer)")

    with pytest.raises(RuntimeError):
        async with database.adapter.transaction(NAME):
            await database.run("INSERT INTO {t}_own VALUES (1)")
            assert await store.commit(action_of(record), 1) == 1
            raise RuntimeError
    assert (await store.state("w")).version == 0
    async with database.adapter.transaction(NAME):
        await database.run("INSERT INTO {t}_own VALUES (2)")
        assert await store.commit(action_of(record), 1) == 1

    assert await database.run("SELECT n FROM {t}_own") == [{"n": 2}]
    assert [entry.event for entry in await store.audit("w")] == [Event.ACQUIRED, Event.COMMITTED]
    await database.run("DROP TABLE {t}_own")


async def test_a_store_may_be_used_first_in_a_transaction_that_is_rolled_back(shared: Stores) -> None:
    """Its tables, indexes and triggers go with it, and are made again; the fence and the audit hold then."""
    database = shared.database
    assert database is not None
    store = SqlLeaseStore(database.adapter, NAME, table=database.table)
    with pytest.raises(RuntimeError):
        async with database.adapter.transaction(NAME):
            await store.acquire("w", A, "ada", TTL)
            raise RuntimeError

    record = await store.acquire("w", A, "ada", TTL)
    async with store.transaction():
        assert await store.commit(action_of(record), 1) == 1
        with pytest.raises(EpochMismatchError):
            await store.commit(action_of(record), 2)

    assert [entry.event for entry in await shared.again.audit("w")] == [Event.ACQUIRED, Event.COMMITTED, Event.REFUSED]


async def test_a_lease_survives_its_adapter_and_its_event_loop(shared: Stores) -> None:
    """The same store in one `asyncio.run` after another."""
    database = shared.database
    assert database is not None
    store = SqlLeaseStore(database.other(), NAME, table=database.table)

    records = [
        await asyncio.to_thread(lambda: asyncio.run(store.acquire("w", A, "ada", TTL))),
        await asyncio.to_thread(lambda: asyncio.run(store.acquire("w", A, "ada", TTL))),
    ]

    assert [(record.token, record.renewals) for record in records] == [(1, 0), (1, 1)]


async def test_tables_may_be_made_by_many_at_the_same_moment(shared: Stores) -> None:
    """Whoever loses finds them there."""
    database = shared.database
    assert database is not None
    stores = [SqlLeaseStore(adapter, NAME, table=database.table) for adapter in (database.adapter, database.other())]

    records = await asyncio.gather(
        *(store.acquire(f"w{number}", A, "ada", TTL) for number, store in enumerate(stores * 3))
    )

    assert {record.token for record in records} == {1}


async def test_actions_that_have_ended_are_reported_in_one_go(leases: Stores) -> None:
    """Each is an entry with an epoch of its own; the state stays, and older states are found as before."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    await leases.store.commit(action_of(record), {"n": 1})
    good, bad = action_of(record, epoch=1), action_of(record, epoch=1)

    epoch = await leases.store.report(
        "w", A, record.token, [EndedAction(good, Event.COMPLETED), EndedAction(bad, Event.FAILED, {"code": "x"})]
    )

    assert epoch == 3
    assert [
        (entry.event, entry.action, entry.holder, entry.token, entry.epoch, entry.detail)
        for entry in (await leases.again.audit("w"))[2:]
    ] == [(Event.COMPLETED, good, "ada", 1, 2, None), (Event.FAILED, bad, "ada", 1, 3, {"code": "x"})]
    assert (await leases.again.state("w")).state == (await leases.again.state("w", 3)).state == {"n": 1}
    assert (await leases.again.state("w")).version == 3
    assert (await leases.again.state("w", 1)).state == {"n": 1}
    assert await leases.again.commit(action_of(record, epoch=3), {"n": 2}) == 4
    assert await leases.store.report("w", A, record.token, []) == 4


async def test_without_a_state_a_report_makes_epochs_all_the_same(leases: Stores) -> None:
    """The state of such an epoch is none."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    assert await leases.store.report("w", A, 1, [EndedAction(action_of(record), Event.COMPLETED)]) == 1

    stored = await leases.store.state("w")
    assert (stored.state, stored.version) == (None, 1)


async def test_what_happened_is_in_the_audit_also_of_who_has_lost_the_lease(leases: Stores) -> None:
    """Under its own name, token and epoch, and refused: the epochs of who came after stay, and so does their state."""
    record = await leases.store.acquire("w", A, "ada", TTL)
    first, second = action_of(record), action_of(record, epoch=1)
    await leases.pass_ms(TTL)
    with pytest.raises(LeaseExpiredError):
        await leases.store.report("w", A, record.token, [EndedAction(first, Event.COMPLETED)])
    later = await leases.again.acquire("w", B, "bob", TTL)
    await leases.again.commit(action_of(later), {"n": 1})

    with pytest.raises(LeaseExpiredError):
        await leases.store.report("w", A, record.token, [EndedAction(second, Event.FAILED, {"code": "x"})])

    entries = await leases.again.audit("w")
    assert [
        (entry.event, entry.holder, entry.lease_id, entry.token, entry.epoch, entry.action, entry.detail)
        for entry in entries
        if entry.event in {Event.COMPLETED, Event.FAILED}
    ] == [
        (Event.COMPLETED, "ada", A, 1, 0, first, None),
        (Event.FAILED, "ada", A, 1, 1, second, {"code": "x"}),
    ]
    assert (await leases.store.state("w")).version == 1
    assert (await leases.store.state("w", 1)).state == {"n": 1}


async def test_nothing_is_reported_under_a_lease_that_never_was(leases: Stores) -> None:
    """Whoever shows it has done nothing that this store could know of."""
    record = await leases.store.acquire("w", A, "ada", TTL)

    with pytest.raises(LeaseValidationError):
        await leases.store.report("w", B, record.token, [EndedAction(action_of(record), Event.COMPLETED)])

    assert {entry.event for entry in await leases.store.audit("w")} == {Event.ACQUIRED}


async def test_times_are_whole_milliseconds_of_the_database(shared: Stores) -> None:
    """Close to ours on the same machine, and in order."""
    before = datetime.now(UTC).timestamp() * 1000
    first = await shared.store.acquire("w", A, "ada", TTL)
    second = await shared.again.lease("w")
    after = datetime.now(UTC).timestamp() * 1000

    assert second is not None
    assert before - 2 <= first.now_ms <= second.now_ms <= after + 2
    assert first.expires_ms - first.now_ms in range(TTL - 1000, TTL + 1)


async def test_a_database_that_cannot_fence_is_refused(mysql: object) -> None:
    """CONFIGURATION_ERROR at the making, not a silent race later."""
    adapter = getattr(mysql, "adapter")  # noqa: B009  # typed by its fixture's module

    with pytest.raises(ModelOnexError, match="SQLite or PostgreSQL") as caught:
        SqlLeaseStore(adapter, NAME)
    assert caught.value.error_code is Code.CONFIGURATION_ERROR


async def test_a_locked_database_is_a_refusal_that_may_be_repeated(tmp_path: Path) -> None:
    """Nothing was written, and the error says so."""
    url = f"sqlite:///{tmp_path}/locked.db"
    hasty, other = adapter_on(url, busy_timeout_ms=10), adapter_on(url)
    store = SqlLeaseStore(hasty, NAME)
    record = await store.acquire("w", A, "ada", TTL)

    async with other.transaction(NAME):
        with pytest.raises(ConcurrentModificationError, match="nothing was written"):
            await store.commit(action_of(record), 1)

    assert await store.commit(action_of(record), 1) == 1
    await hasty.aclose()
    await other.aclose()
