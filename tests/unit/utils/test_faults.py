"""From an error or a status to a decision."""

import errno
import socket
from datetime import UTC, datetime, timedelta

import pytest

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase as Phase
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome as Outcome
from omnibase_core.enums.enum_effect_outcome import EnumStopReason as Stop
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.utils.faults import (
    Fault,
    RetryLists,
    fault_of_error,
    fault_of_status,
    is_listed_anywhere,
    judge,
    retry_after_seconds,
)

LISTS = RetryLists(frozenset({429, 500, 502, 503, 504}), frozenset({"ECONNRESET", "ETIMEDOUT", "ECONNREFUSED"}))
NOTHING = RetryLists(frozenset(), frozenset())


# the table of section 2.5


@pytest.mark.parametrize(
    ("phase", "idempotent", "repeat", "reason", "outcome"),
    [
        (Phase.NOT_SENT, True, True, Stop.ATTEMPTS, Outcome.FAILED),
        (Phase.NOT_SENT, False, True, Stop.ATTEMPTS, Outcome.FAILED),
        (Phase.REJECTED, True, True, Stop.ATTEMPTS, Outcome.FAILED),
        (Phase.REJECTED, False, True, Stop.ATTEMPTS, Outcome.FAILED),
        (Phase.AMBIGUOUS, True, True, Stop.ATTEMPTS, Outcome.FAILED),
        (Phase.AMBIGUOUS, False, False, Stop.NOT_IDEMPOTENT, Outcome.UNKNOWN),
        (Phase.DONE, True, False, Stop.NOT_RETRYABLE, Outcome.FAILED),
        (Phase.DONE, False, False, Stop.NOT_RETRYABLE, Outcome.FAILED),
    ],
)
def test_the_phase_table(phase: Phase, idempotent: bool, repeat: bool, reason: Stop, outcome: Outcome) -> None:
    """A listed fault is repeated as phase and idempotency allow."""
    fault = Fault("x", Code.OPERATION_FAILED, phase, "ECONNRESET", listed=True)

    verdict = judge(fault, idempotent=idempotent, attempts_left=1)

    assert (verdict.repeat, verdict.reason, verdict.outcome) == (repeat, reason, outcome)
    assert verdict.code is (Code.OUTCOME_UNKNOWN if outcome is Outcome.UNKNOWN else Code.OPERATION_FAILED)


@pytest.mark.parametrize("phase", [Phase.NOT_SENT, Phase.REJECTED])
@pytest.mark.parametrize("idempotent", [True, False])
def test_what_is_not_listed_is_not_repeated(phase: Phase, idempotent: bool) -> None:
    """The phase alone does not allow a repetition."""
    verdict = judge(Fault("x", Code.OPERATION_FAILED, phase), idempotent=idempotent, attempts_left=5)

    assert (verdict.repeat, verdict.reason) == (False, Stop.NOT_RETRYABLE)


def test_attempts_run_out() -> None:
    """Without attempts left the reason is the number of attempts."""
    fault = Fault("x", Code.OPERATION_FAILED, Phase.REJECTED, listed=True)

    verdict = judge(fault, idempotent=True, attempts_left=0)

    assert (verdict.repeat, verdict.reason) == (False, Stop.ATTEMPTS)


# statuses


@pytest.mark.parametrize(
    ("status", "phase", "listed", "target_failed", "outcome_when_not_idempotent"),
    [
        (429, Phase.REJECTED, True, None, Outcome.FAILED),
        (400, Phase.REJECTED, False, False, Outcome.FAILED),
        (404, Phase.REJECTED, False, False, Outcome.FAILED),
        (302, Phase.REJECTED, False, False, Outcome.FAILED),
        (408, Phase.AMBIGUOUS, False, True, Outcome.UNKNOWN),
        (500, Phase.AMBIGUOUS, True, True, Outcome.FAILED),
        (501, Phase.AMBIGUOUS, False, True, Outcome.FAILED),
        (502, Phase.AMBIGUOUS, True, True, Outcome.UNKNOWN),
        (503, Phase.AMBIGUOUS, True, True, Outcome.FAILED),
        (504, Phase.AMBIGUOUS, True, True, Outcome.UNKNOWN),
        (206, Phase.DONE, False, False, Outcome.FAILED),
    ],
)
def test_statuses(
    status: int, phase: Phase, listed: bool, target_failed: bool | None, outcome_when_not_idempotent: Outcome
) -> None:
    """429 is rejected, other 4xx are rejected for good, 408 and 5xx ambiguous, a success outside the codes is done."""
    fault = fault_of_status(status, {200, 201}, LISTS, 3.0)

    assert (fault.phase, fault.listed, fault.target_failed) == (phase, listed, target_failed)
    assert (fault.status_code, fault.retry_after_s) == (status, 3.0)
    assert fault.code is (Code.RATE_LIMITED if status == 429 else Code.OPERATION_FAILED)
    assert fault.message == f"status {status} is not among the success codes (200, 201)"
    assert judge(fault, idempotent=False, attempts_left=1).outcome is outcome_when_not_idempotent


def test_a_done_status_is_never_listed() -> None:
    """A success status that a policy lists is not repeated: the effect was done."""
    assert not fault_of_status(202, {200}, RetryLists(frozenset({202}), frozenset()), None).listed


# errors


@pytest.mark.parametrize(
    ("error", "kind", "phase", "code"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "ECONNREFUSED", Phase.NOT_SENT, Code.OPERATION_FAILED),
        (ConnectionRefusedError(), "ECONNREFUSED", Phase.NOT_SENT, Code.OPERATION_FAILED),
        (OSError(errno.EHOSTUNREACH, "x"), "ECONNREFUSED", Phase.NOT_SENT, Code.OPERATION_FAILED),
        (OSError(errno.ENETUNREACH, "x"), "ECONNREFUSED", Phase.NOT_SENT, Code.OPERATION_FAILED),
        (socket.gaierror(-2, "x"), "ECONNREFUSED", Phase.NOT_SENT, Code.OPERATION_FAILED),
        (ConnectionResetError(errno.ECONNRESET, "x"), "ECONNRESET", Phase.AMBIGUOUS, Code.OPERATION_FAILED),
        (ConnectionResetError(), "ECONNRESET", Phase.AMBIGUOUS, Code.OPERATION_FAILED),
        (BrokenPipeError(), "ECONNRESET", Phase.AMBIGUOUS, Code.OPERATION_FAILED),
        (ConnectionAbortedError(), "ECONNRESET", Phase.AMBIGUOUS, Code.OPERATION_FAILED),
        (TimeoutError(), "ETIMEDOUT", Phase.AMBIGUOUS, Code.TIMEOUT),
        (OSError(errno.ETIMEDOUT, "x"), "ETIMEDOUT", Phase.AMBIGUOUS, Code.TIMEOUT),
        (FileNotFoundError(errno.ENOENT, "x"), "ENOENT", Phase.AMBIGUOUS, Code.OPERATION_FAILED),
        (OSError("no number"), None, Phase.AMBIGUOUS, Code.OPERATION_FAILED),
        (ValueError("x"), None, Phase.REJECTED, Code.OPERATION_FAILED),
        (KeyError(), None, Phase.REJECTED, Code.OPERATION_FAILED),
        (ModelOnexError("x", Code.VALIDATION_ERROR), None, Phase.REJECTED, Code.VALIDATION_ERROR),
        (ModelOnexError("x", Code.TIMEOUT), "ETIMEDOUT", Phase.AMBIGUOUS, Code.TIMEOUT),
    ],
    ids=repr,
)
def test_untyped_errors(error: Exception, kind: str | None, phase: Phase, code: Code) -> None:
    """An OSError is known by its errno or its class, TimeoutError is ETIMEDOUT, anything else simply failed."""
    fault = fault_of_error(error, LISTS)

    assert (fault.kind, fault.phase, fault.code, fault.error) == (kind, phase, code, error)
    assert fault.listed == (kind in LISTS.errors)
    assert fault.timed_out == (kind == "ETIMEDOUT")


class _OwnResetError(ConnectionResetError):
    pass


def test_a_subclass_is_known_by_its_base() -> None:
    """A library's own kind of connection error counts as what it derives from."""
    assert fault_of_error(_OwnResetError(), LISTS).kind == "ECONNRESET"


def test_an_errno_may_be_listed_by_its_own_name() -> None:
    """A policy that lists EHOSTUNREACH means it, although its kind is that of every failed connect."""
    assert fault_of_error(OSError(errno.EHOSTUNREACH, "x"), RetryLists(frozenset(), frozenset({"EHOSTUNREACH"}))).listed
    assert not fault_of_error(OSError("no number"), NOTHING).listed


@pytest.mark.parametrize(
    ("error", "listed", "target_failed"),
    [
        (EffectFault("x", error_kind="ECONNRESET"), True, True),
        (EffectFault("x", error_kind="OWN_WORD"), False, True),
        (EffectFault("x", status_code=503), True, True),
        (EffectFault("x", phase=Phase.REJECTED, transient=True, sqlstate="40001"), True, False),
        (EffectFault("x", phase=Phase.NOT_SENT, error_kind="ECONNREFUSED"), True, True),
        (EffectFault("x", phase=Phase.NOT_SENT), False, None),
        (EffectFault("x", Code.SECURITY_VIOLATION, phase=Phase.NOT_SENT, error_kind="ECONNREFUSED"), True, None),
        (EffectFault("x", phase=Phase.DONE), False, False),
    ],
    ids=range(8),
)
def test_typed_faults_say_it_themselves(error: EffectFault, listed: bool, target_failed: bool | None) -> None:
    """A typed fault brings phase, kind and nature; local refusals say nothing about the target."""
    fault = fault_of_error(error, LISTS)

    assert (fault.phase, fault.kind, fault.status_code) == (error.phase, error.error_kind, error.status_code)
    assert (fault.listed, fault.target_failed) == (listed, target_failed)


def test_free_text_is_never_matched() -> None:
    """A message that speaks of ECONNRESET is no ECONNRESET."""
    assert not fault_of_error(RuntimeError("ECONNRESET 503"), LISTS).listed


# Retry-After

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 1e9),
        ("Mon, 06 May 2024 07:08:39 GMT", 30.0),
        ("Monday, 06-May-24 07:08:39 GMT", 30.0),
        ("Mon May  6 07:08:39 2024", 30.0),
        ("Mon, 06 May 2024 07:00:00 GMT", 0.0),
        ("Mon, 06 May 2024 09:08:39 +0200", 30.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\u0665", None),
        ("Mon, 99 May 2024 07:08:39 GMT", None),
        ("Mon, 06 May 2024 07:08:39 +9999999999", None),
        ("a, b", None),
        ("1 2 3 4 5 6 7", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds, or one of the three date forms against the given clock; a past date is no wait, nonsense is nothing."""
    assert retry_after_seconds(value, lambda: NOW) == seconds


def test_retry_after_reads_the_wall_clock_by_default() -> None:
    """Without a clock given, the date counts from now."""
    moment = datetime.now(UTC) + timedelta(hours=1)

    seconds = retry_after_seconds(moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))

    assert seconds is not None
    assert 3_500 < seconds <= 3_600


# causes


def _chain(length: int, last: Exception) -> Exception:
    error = last
    for _ in range(length):
        outer = RuntimeError("outer")
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize(("depth", "found"), [(0, True), (1, True), (9, True), (10, True), (11, False), (50, False)])
def test_causes_are_followed_ten_deep(depth: int, found: bool) -> None:
    """The tenth cause is looked at, the eleventh is not."""
    assert is_listed_anywhere(_chain(depth, ConnectionResetError()), LISTS) is found


def test_a_cycle_of_causes_ends() -> None:
    """Errors that cause each other are looked at once."""
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first

    assert not is_listed_anywhere(first, LISTS)


class _Foreign(Exception):  # somebody else's
    def __init__(self, status_code: object = None, error_kind: object = None) -> None:
        super().__init__()
        self.status_code = status_code
        self.error_kind = error_kind


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (_Foreign(503), True),
        (_Foreign(404), False),
        (_Foreign(error_kind="ETIMEDOUT"), True),
        (_Foreign([503], {"ETIMEDOUT"}), False),
        (_Foreign("503"), False),
    ],
)
def test_a_foreign_error_may_carry_status_and_kind(error: Exception, found: bool) -> None:
    """`status_code` and `error_kind` of any error are read; what is no number and no word is passed over."""
    assert is_listed_anywhere(error, LISTS) is found
