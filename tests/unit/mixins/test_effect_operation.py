"""One operation: attempts, verdicts, delays, deadlines, results (sections 2.5 to 2.7)."""

import asyncio
import logging
from uuid import UUID, uuid4

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase as Phase
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome as Outcome
from omnibase_core.enums.enum_effect_outcome import EnumStopReason as Stop
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import correlated
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import EffectFailedError, ModelEffectOperationResult
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_spi.testing import Answer, ScriptedHandler, container_with, fault, hang
from tests.support.effects import DELETE, GET, INSERT, POST, PUT, contract, node_of, one, operation, run, virtually


def _result(
    io_config: dict[str, object], *answers: Answer | int, **fields: object
) -> tuple[ModelEffectOperationResult, ScriptedHandler]:
    handler = ScriptedHandler(*answers)
    container = container_with(**{str(io_config["handler_type"]): handler})
    output = virtually(lambda: run(container, one(io_config, **fields)))
    return output.operations[0], handler


IDEMPOTENT_POST = {**POST, "idempotency_key": "auto"}
NOT_SENT = fault("ECONNREFUSED", Phase.NOT_SENT)
RESET = fault("ECONNRESET", Phase.AMBIGUOUS)
TIMED_OUT = fault("ETIMEDOUT", Phase.AMBIGUOUS)
DEADLOCK = fault("DEADLOCK", Phase.REJECTED, transient=True)
REFUSED = fault("CONSTRAINT", Phase.REJECTED)
LATE = fault("ECONNRESET", Phase.DONE)


@pytest.mark.parametrize(
    ("io_config", "answer", "attempts", "stop", "outcome", "code"),
    [
        (GET, NOT_SENT, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (GET, RESET, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (GET, 500, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (GET, 429, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.RATE_LIMITED),
        (GET, 404, 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (GET, 408, 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (GET, 206, 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (GET, LATE, 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (PUT, RESET, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (PUT, 503, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (POST, NOT_SENT, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (POST, 429, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.RATE_LIMITED),
        (POST, RESET, 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (POST, TIMED_OUT, 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (POST, 500, 1, Stop.NOT_IDEMPOTENT, Outcome.FAILED, Code.OPERATION_FAILED),
        (POST, 503, 1, Stop.NOT_IDEMPOTENT, Outcome.FAILED, Code.OPERATION_FAILED),
        (POST, 502, 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (POST, 504, 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (POST, 408, 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (POST, LATE, 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (IDEMPOTENT_POST, RESET, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (IDEMPOTENT_POST, 502, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (INSERT, DEADLOCK, 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (INSERT, REFUSED, 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (INSERT, RESET, 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (GET, ConnectionRefusedError(111, "refused"), 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (POST, ConnectionRefusedError(111, "refused"), 4, Stop.ATTEMPTS, Outcome.FAILED, Code.OPERATION_FAILED),
        (POST, ConnectionResetError(104, "reset"), 1, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN, Code.OUTCOME_UNKNOWN),
        (GET, TimeoutError(), 4, Stop.ATTEMPTS, Outcome.FAILED, Code.TIMEOUT),
        (GET, ValueError("a bug"), 1, Stop.NOT_RETRYABLE, Outcome.FAILED, Code.OPERATION_FAILED),
        (
            GET,
            ModelOnexError("no", Code.SECURITY_VIOLATION),
            1,
            Stop.NOT_RETRYABLE,
            Outcome.FAILED,
            Code.SECURITY_VIOLATION,
        ),
    ],
)
def test_phase_and_idempotency_decide_about_a_repetition(
    io_config: dict[str, object], answer: Answer | int, attempts: int, stop: Stop, outcome: Outcome, code: Code
) -> None:
    """The truth table of section 2.5, row by row, with the inherited default policy."""
    result, handler = _result(io_config, answer)

    assert (handler.calls, result.stop_reason, result.outcome, result.error_code) == (attempts, stop, outcome, code)
    assert not result.success
    assert len(result.attempts) == attempts


def test_a_success_after_failures_counts_its_retries() -> None:
    """Retries are attempts after the first, and each attempt is recorded with its phase and delay."""
    result, _ = _result(GET, 503, RESET, {"ok": True})

    assert result.success
    assert result.outcome is Outcome.SUCCEEDED
    assert result.retries == 2
    assert [a.number for a in result.attempts] == [1, 2, 3]
    assert [a.phase for a in result.attempts] == [Phase.AMBIGUOUS, Phase.AMBIGUOUS, None]
    assert [a.status_code for a in result.attempts] == [503, None, None]
    assert [a.error_kind for a in result.attempts] == [None, "ECONNRESET", None]
    assert 900 <= result.attempts[0].delay_ms <= 1100
    assert 1800 <= result.attempts[1].delay_ms <= 2200
    assert result.attempts[2].started_ms == pytest.approx(sum(a.delay_ms for a in result.attempts))


def test_the_word_of_the_contract_beats_the_table() -> None:
    """`idempotent` overrides the defaults in both directions, an idempotency key included."""
    assert _result(POST, RESET, idempotent=True)[1].calls == 4
    assert _result(GET, RESET, idempotent=False)[1].calls == 1
    assert _result(IDEMPOTENT_POST, RESET, idempotent=False)[1].calls == 1


def test_an_idempotency_key_is_the_same_on_all_attempts_and_calls_of_one_operation_id() -> None:
    """The key derives from operation id and name: another operation id, another key."""
    handler = ScriptedHandler(503, 503, 200)
    container = container_with(http=handler)
    operation_id = uuid4()

    async def main() -> None:
        node = node_of(container, one(IDEMPOTENT_POST))
        await node.process(ModelEffectInput(operation_data={}, operation_id=operation_id))
        await node.process(ModelEffectInput(operation_data={}, operation_id=operation_id))
        await node.process(ModelEffectInput(operation_data={}))

    virtually(main)
    keys = [context.headers["Idempotency-Key"] for context in handler.contexts]  # type: ignore[union-attr]  # http contexts
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]
    assert UUID(keys[0]).version == 5


def test_a_retry_policy_lists_what_is_repeated() -> None:
    """Statuses and kinds that are not listed end the operation at once; transient faults need no entry."""
    policy = {"retryable_status_codes": [404], "retryable_errors": ["ODD"]}
    assert _result(GET, 404, retry_policy=policy)[1].calls == 4
    assert _result(GET, 500, retry_policy=policy)[1].calls == 1
    assert _result(GET, fault("ODD"), retry_policy=policy)[1].calls == 4
    assert _result(GET, RESET, retry_policy=policy)[1].calls == 1
    assert _result(GET, DEADLOCK, retry_policy=policy)[1].calls == 4


def test_a_disabled_policy_makes_one_attempt() -> None:
    """`enabled: false` and `max_retries: 0` both mean one attempt."""
    for policy in ({"enabled": False}, {"max_retries": 0}):
        result, handler = _result(GET, RESET, retry_policy=policy)
        assert (handler.calls, result.stop_reason) == (1, Stop.ATTEMPTS)


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [("fixed", [200, 200, 200]), ("linear", [200, 400, 600]), ("exponential", [200, 400, 800])],
)
def test_delays_follow_the_strategy(strategy: str, delays: list[int]) -> None:
    """Without jitter the delays are those of the strategy."""
    policy = {"backoff_strategy": strategy, "base_delay_ms": 200, "jitter_factor": 0}
    result, _ = _result(GET, RESET, retry_policy=policy)

    assert [a.delay_ms for a in result.attempts[:3]] == delays
    assert {a.delay_source for a in result.attempts[:3]} == {"backoff"}


def test_retry_after_only_lengthens_a_delay() -> None:
    """A longer wait is heeded and named; a shorter one changes nothing; false switches it off."""
    long = EffectResponse(None, 503, {"retry-after": "7"})
    short = EffectResponse(None, 503, {"retry-after": "0"})
    policy = {"jitter_factor": 0}

    result, _ = _result(GET, long, short, 200, retry_policy=policy)
    deaf, _ = _result(GET, long, 200, retry_policy={**policy, "respect_retry_after": False})

    assert [(a.delay_ms, a.delay_source) for a in result.attempts[:2]] == [(7000, "retry_after"), (2000, "backoff")]
    assert (deaf.attempts[0].delay_ms, deaf.attempts[0].delay_source) == (1000, "backoff")


def test_a_retry_after_beyond_the_deadline_ends_the_operation_at_once() -> None:
    """No sleep starts that would end after the deadline; the reason says whose wish it was."""
    result, handler = _result(GET, EffectResponse(None, 503, {"retry-after": "3600"}))

    assert (handler.calls, result.stop_reason, result.error_code) == (1, Stop.RETRY_AFTER, Code.OPERATION_FAILED)
    assert result.duration_ms < 1


def test_no_sleep_starts_that_would_end_after_the_deadline() -> None:
    """Then the last real error comes back with the reason `deadline`."""
    policy = {"backoff_strategy": "fixed", "base_delay_ms": 700, "jitter_factor": 0}
    result, handler = _result(GET, RESET, retry_policy=policy, operation_timeout_ms=1500)

    assert (handler.calls, result.stop_reason, result.error_code) == (3, Stop.DEADLINE, Code.OPERATION_FAILED)
    assert result.duration_ms == pytest.approx(1400)
    assert result.error_message == "scripted ECONNRESET"


def test_an_attempt_is_cut_off_at_its_timeout_and_repeated_when_idempotent() -> None:
    """`timeout_ms` is the attempt's limit; a cut attempt counts as ETIMEDOUT, ambiguous."""
    result, handler = _result({**GET, "timeout_ms": 300}, hang(), 200)

    assert result.success
    assert handler.calls == 2
    assert handler.running == 0
    assert result.attempts[0].duration_ms == pytest.approx(300)
    assert (result.attempts[0].error_kind, result.attempts[0].phase) == ("ETIMEDOUT", Phase.AMBIGUOUS)


def test_a_call_that_hangs_until_the_deadline_is_a_timeout() -> None:
    """Without an earlier failure the error is TIMEOUT; a non-idempotent call cut in flight is OUTCOME_UNKNOWN."""
    idle, _ = _result(GET, hang(), operation_timeout_ms=2000)
    write, _ = _result(POST, hang(), operation_timeout_ms=2000)

    assert (idle.error_code, idle.stop_reason, idle.outcome) == (Code.TIMEOUT, Stop.DEADLINE, Outcome.FAILED)
    assert idle.duration_ms == pytest.approx(2000)
    assert (write.error_code, write.outcome) == (Code.OUTCOME_UNKNOWN, Outcome.UNKNOWN)


def test_a_deadline_that_cuts_a_later_attempt_reports_the_last_real_error() -> None:
    """The failure before says more than that time ran out."""
    result, _ = _result(GET, 503, hang(), operation_timeout_ms=5000)

    assert (result.stop_reason, result.status_code) == (Stop.DEADLINE, 503)
    assert result.error_code is Code.OPERATION_FAILED


def test_a_handler_that_ignores_cancellation_does_not_hold_the_operation() -> None:
    """The operation ends within a second of its deadline; the handler is kept in the container and awaited at
    aclose.
    """
    ended: list[bool] = []

    async def stubborn(_context: object) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        until = loop.time() + 30
        while loop.time() < until:
            try:
                await asyncio.sleep(until - loop.time())
            except asyncio.CancelledError:
                continue
        ended.append(True)
        return {}

    handler = ScriptedHandler(stubborn)
    container = container_with(http=handler)

    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await run(container, one(GET, operation_timeout_ms=2000))
        took = loop.time() - started
        still_running = not ended
        await container.aclose()
        return took, still_running

    took, still_running = virtually(main)
    assert took <= 3.0
    assert still_running
    assert ended == [True]


def test_a_delete_that_finds_nothing_after_an_ambiguous_attempt_succeeded() -> None:
    """The earlier attempt did it; without one, nothing to delete is a failure."""
    for gone in (404, 410, ModelOnexError("no such file", Code.NOT_FOUND)):
        assert _result(DELETE, RESET, gone)[0].success
        assert not _result(DELETE, gone)[0].success
        assert not _result(DELETE, NOT_SENT, gone)[0].success


def test_extraction_after_the_effect_is_a_failure_that_is_not_repeated() -> None:
    """The effect was done; repeating it would double it."""
    handling = {"extract_fields": {"id": "$.id"}, "fail_on_empty": True}
    result, handler = _result(GET, {"other": 1}, response_handling=handling)

    assert (handler.calls, result.error_code, result.outcome) == (1, Code.EXTRACTION_ERROR, Outcome.FAILED)
    assert result.error_message is not None
    assert "after the effect" in result.error_message


def test_extracted_fields_are_in_the_result() -> None:
    """Scalars come out by name, what is missing as None."""
    handling = {"extract_fields": {"id": "$.a.id", "none": "$.b", "status": {"from": "status"}}}
    result, _ = _result(GET, EffectResponse({"a": {"id": 7}}, 200), response_handling=handling)

    assert result.extracted_fields == {"id": 7, "none": None, "status": 200}


def test_a_missing_value_fails_before_anything_is_sent() -> None:
    """A template problem is VALIDATION_ERROR, is not repeated, and says what is missing."""
    result, handler = _result({**GET, "url_template": "http://host/${input.id}"}, 200)

    assert (handler.calls, result.error_code) == (0, Code.VALIDATION_ERROR)
    assert result.error_message is not None
    assert "'id' is missing in input" in result.error_message


def test_a_kind_without_a_handler_fails_its_operation() -> None:
    """RESOURCE_UNAVAILABLE, repeated by nobody, listing what is there."""
    container = container_with(db=ScriptedHandler())
    output = virtually(lambda: run(container, one(GET)))

    result = output.operations[0]
    assert (result.error_code, len(result.attempts)) == (Code.RESOURCE_UNAVAILABLE, 1)
    assert result.error_message is not None
    assert "No handler registered for 'http'; registered: db" in result.error_message


def test_the_correlation_id_reaches_handler_and_output() -> None:
    """Given, it is used; else each call has one of its own."""
    handler = ScriptedHandler()
    container = container_with(http=handler)
    given = uuid4()

    async def main() -> list[UUID]:
        node = node_of(container, one(GET))
        first = await node.process(ModelEffectInput(operation_data={}, correlation_id=given))
        second = await node.process(ModelEffectInput(operation_data={}))
        return [first.correlation_id, second.correlation_id]

    ids = virtually(main)
    assert ids[0] == given
    assert ids[1] != given
    assert handler.correlation_ids == ids


def test_an_error_says_contract_operation_finding_and_reason() -> None:
    """The raised error carries code, cause and the partial output, as model and as dict."""
    handler = ScriptedHandler(503)
    container = container_with(http=handler)

    async def main() -> EffectFailedError:
        with pytest.raises(EffectFailedError) as caught:
            await node_of(container, one(GET)).process(ModelEffectInput(operation_data={}))
        return caught.value

    error = virtually(main)
    assert error.error_code is Code.OPERATION_FAILED
    for part in ("'tested'", "'only'", "http GET", "status 503", "4 attempts", "attempts"):
        assert part in error.message
    assert error.partial_output is not None
    assert error.context["partial_output"] == error.partial_output.model_dump(mode="json")


def test_a_tight_timeout_of_the_input_shortens_the_call() -> None:
    """`timeout_ms` counts when it is given, and can only shorten `flow_timeout_ms`."""
    container = container_with(http=ScriptedHandler(hang()))

    async def main() -> float:
        node = node_of(container, one(GET))
        with pytest.raises(EffectFailedError):
            await node.process(ModelEffectInput(operation_data={}, timeout_ms=500))
        return asyncio.get_running_loop().time()

    assert virtually(main) == pytest.approx(1000.5)


# secrets, traces, logs

WITH_SECRET = {**POST, "headers": {"X-Key": "${secret.api_key}"}}


class _Store:
    """A store of secrets that answers from a script."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def get(self, name: str) -> str | None:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return "late"
        return None if answer is None else str(answer)


def _with_store(store: _Store, **fields: object) -> tuple[ModelEffectOperationResult, ScriptedHandler]:
    handler = ScriptedHandler()
    container = container_with(http=handler)
    container.register_service("ProtocolSecretProvider", store)
    output = virtually(lambda: run(container, one(WITH_SECRET, **fields)))
    return output.operations[0], handler


def test_a_secrets_store_that_is_briefly_away_is_asked_again() -> None:
    """Nothing was sent, so even a plain POST is tried again."""
    result, handler = _with_store(_Store(TimeoutError(), ConnectionResetError(104, "x"), "s3cret-value"))

    assert result.success
    assert [attempt.phase for attempt in result.attempts] == [Phase.NOT_SENT, Phase.NOT_SENT, None]
    assert handler.contexts[0].headers["X-Key"] == "s3cret-value"  # type: ignore[union-attr]  # an http context


def test_a_secrets_store_that_hangs_is_cut_off_and_is_no_unknown_outcome() -> None:
    """The attempt's limit holds for it as well."""
    result, handler = _with_store(_Store(1e9), operation_timeout_ms=2000)

    assert handler.calls == 0
    assert (result.outcome, result.error_code) == (Outcome.FAILED, Code.TIMEOUT)
    assert result.duration_ms == pytest.approx(2000)


def test_a_missing_value_has_sent_nothing() -> None:
    """Its phase says so."""
    result, _ = _result({**GET, "url_template": "http://host/${input.id}"})

    assert result.attempts[0].phase is Phase.NOT_SENT


def test_the_current_trace_goes_along_unless_the_contract_says_otherwise() -> None:
    """W3C traceparent in the headers; an own header stays; trace_propagation: false switches it off."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    handler = ScriptedHandler()
    container = container_with(http=handler)

    async def main() -> None:
        with correlated(traceparent=trace):
            await run(container, one(GET))
            await run(container, one({**GET, "headers": {"Traceparent": "mine"}}))
            off = {"observability": {"trace_propagation": False}}
            await run(container, contract(operation("only", GET), **off))
        await run(container, one(GET))

    virtually(main)
    headers = [context.headers for context in handler.contexts]  # type: ignore[union-attr]  # http contexts
    assert headers == [{"traceparent": trace}, {"Traceparent": "mine"}, {}, {}]


def test_requests_are_logged_as_metadata_and_responses_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """At level INFO: verb, target, attempt, status; never a body."""
    body = {**POST, "body_template": '{"card": "4111-1111"}'}
    quiet, talkative = {"log_request": False}, {"log_response": True}
    container = container_with(http=ScriptedHandler(EffectResponse({"number": "4111-1111"}, 200)))
    with caplog.at_level(logging.INFO, "onex.effect"):
        virtually(lambda: run(container, contract(operation("only", body), observability=quiet)))
        assert caplog.text == ""
        virtually(lambda: run(container, contract(operation("only", body), observability=talkative)))

    assert "http POST to http://host:80, attempt 1" in caplog.text
    assert "status 200 from http://host:80" in caplog.text
    assert "4111" not in caplog.text


def test_a_wrong_status_names_method_and_url_without_the_query() -> None:
    """What was being done stands before what was found."""
    result, _ = _result({**GET, "url_template": "http://host/a/b?token=secret"}, 404)

    assert result.error_message is not None
    assert result.error_message.startswith("GET http://host/a/b: status 404")
    assert "token" not in result.error_message


def test_a_service_that_is_no_handler_is_a_configuration_error() -> None:
    """It names the service and what is missing."""
    container = container_with(http=object())
    output = virtually(lambda: run(container, one(GET)))

    result = output.operations[0]
    assert result.error_code is Code.CONFIGURATION_ERROR
    assert "'scripted-http'" in str(result.error_message)
