"""`reference/errors.md` and `reference/settings.md`: closed vocabularies and settings, out of enums and models."""

import inspect
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import BaseModel

from docs.field_tables import default_of, meanings, paragraph, table
from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode as Code
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase as Phase
from omnibase_core.enums.enum_effect_outcome import EnumOperationOutcome as Outcome
from omnibase_core.enums.enum_effect_outcome import EnumStopReason as Stop
from omnibase_core.enums.enum_effect_types import EnumTransactionState as State
from omnibase_core.models.configuration.model_settings import (
    ModelConnection,
    ModelPolicy,
    ModelRetryBudget,
    ModelSettings,
)
from omnibase_runtime.settings import DEFAULT_FILE, FILE_VARIABLE
from omnibase_spi.db.mysql import MysqlDriver
from omnibase_spi.db.postgres import PostgresDriver
from omnibase_spi.db.sqlite import SqliteDriver
from omnibase_spi.kafka import KafkaAdapter

_ABOUT_ERRORS: Final = paragraph("""
    Every error that ONEX raises on purpose is a `ModelOnexError` (`omnibase_core.errors`) with `message`,
    `error_code`, `context` and `correlation_id`. A call that failed raises `EffectFailedError`, whose
    `partial_output` says what had happened by then.
""")
_ABOUT_SETTINGS: Final = paragraph(f"""
    `onex` reads built-in defaults, then one TOML file (`--config`, else `{FILE_VARIABLE}`, else `{DEFAULT_FILE}` in
    the current directory if there is one), then variables; later over earlier, key by key. Relative paths in them
    count from the current directory. A variable is `ONEX_` and the key in upper case, with two underscores for each
    dot; lists and maps are JSON. What follows `ONEX_SECRETS__` is the name of a secret, letter by letter. As a library,
    `register_effect_handlers(container, settings)` takes a `ModelSettings`, and a bare container reads the variables
    only. `onex doctor` shows every value and where it comes from.
""")


_CODES: Mapping[StrEnum, str] = {
    Code.VALIDATION_ERROR: "The contract, the input or what was typed is wrong. Nothing was sent.",
    Code.CONFIGURATION_ERROR: "The installation is wrong: a setting, a connection, a missing client library.",
    Code.RESOURCE_UNAVAILABLE: "Something that is needed is not there: a handler, a named connection, a secret's file.",
    Code.OPERATION_FAILED: "The other side refused or failed.",
    Code.TIMEOUT: "Time ran out before anything that matters was sent, or while something harmless to repeat was.",
    Code.CIRCUIT_BREAKER_OPEN: "The target failed too often lately. Nothing was sent.",
    Code.EXTRACTION_ERROR: "The effect was done, but its answer does not hold what the contract takes out of it.",
    Code.RATE_LIMITED: "The other side asked for fewer requests (HTTP 429).",
    Code.CANCELLED: "The caller gave up.",
    Code.CONFLICT: "The state has moved on.",
    Code.OUTCOME_UNKNOWN: "It may or may not have been done, and repeating it could do it twice.",
    Code.SECURITY_VIOLATION: "The policy does not allow it. Nothing was sent.",
    Code.NOT_FOUND: "What was named does not exist.",
    Code.INTERNAL_ERROR: "A defect of ONEX.",
}
_PHASES: Mapping[StrEnum, str] = {
    Phase.NOT_SENT: "It provably never left.",
    Phase.REJECTED: "The other side proved that it did nothing.",
    Phase.AMBIGUOUS: "It was sent, and there was no answer that says what became of it.",
    Phase.DONE: "It was done; a later step failed.",
}
_OUTCOMES: Mapping[StrEnum, str] = {
    Outcome.SUCCEEDED: "Done, and everything asked for was taken out of the answer.",
    Outcome.FAILED: 'Never sent, refused, or failed over there; or done, and the message says "after the effect".',
    Outcome.UNKNOWN: "Nobody can say.",
    Outcome.SKIPPED: "Not begun, because an operation that it depends on did not succeed.",
    Outcome.COMPENSATED: "Reserved: done and taken back. Nothing gives it yet.",
}
_STOPS: Mapping[StrEnum, str] = {
    Stop.SUCCESS: "It succeeded.",
    Stop.NOT_RETRYABLE: "The fault is not in the policy's lists, or the effect is done.",
    Stop.NOT_IDEMPOTENT: "It may have been done, and doing it twice is not as good as once.",
    Stop.ATTEMPTS: "No retries are left.",
    Stop.DEADLINE: "The next wait, or the next attempt, would end after the deadline.",
    Stop.BUDGET: "The retries against this target have used up their budget.",
    Stop.RETRY_AFTER: "The other side asks for a longer wait than the deadline leaves.",
    Stop.BREAKER_OPEN: "The circuit breaker is open.",
    Stop.CANCELLED: "The call was cancelled.",
}
_STATES: Mapping[StrEnum, str] = {
    State.NONE: "Nothing ran.",
    State.PENDING: "Reserved for transactions of programs.",
    State.ACTIVE: "Begun, and not yet ended; seen from inside only.",
    State.COMMITTED: "The database answered COMMIT. Without a transaction: every operation succeeded.",
    State.ROLLED_BACK: "A ROLLBACK was carried out, or the database answered COMMIT with a rollback.",
    State.FAILED: "The connection was lost before COMMIT was sent. Without a transaction: an operation failed.",
    State.UNKNOWN: "COMMIT was sent and its answer was lost.",
}


def errors() -> str:
    """Error codes, exit statuses, phases, outcomes, stop reasons and transaction states."""
    codes = [(f"`{code}`", str(Code(code).exit_status), text) for code, text in _every(Code, _CODES)]
    parts = [
        "# Errors and outcomes",
        _ABOUT_ERRORS,
        "## Error codes and exit statuses",
        "`onex` ends with 0, or with the status of the error's code. The list only ever grows.",
        table(("code", "exit status", "means"), codes),
    ]
    for title, intro, enum, texts in (
        ("Phases", "How far a failed attempt came (`attempts[].phase`).", Phase, _PHASES),
        ("Outcomes", "What became of an operation (`operations[].outcome`).", Outcome, _OUTCOMES),
        ("Stop reasons", "Why no further attempt was made (`operations[].stop_reason`).", Stop, _STOPS),
        ("Transaction states", "What became of the whole (`transaction_state`).", State, _STATES),
    ):
        rows = [(f"`{word}`", text) for word, text in _every(enum, texts)]
        parts += [f"## {title}", intro, table(("word", "means"), rows)]
    return "\n\n".join(parts) + "\n"


def _every(enum: type[StrEnum], texts: Mapping[StrEnum, str]) -> list[tuple[str, str]]:
    return [(member.value, texts[member]) for member in enum]


def settings() -> str:
    """Settings, policy, connections, and the variables that set them."""
    parts = [
        "# Settings",
        _ABOUT_SETTINGS,
    ]
    for title, cls, prefix in (
        ("Everything", ModelSettings, ""),
        ("`policy`", ModelPolicy, "policy"),
        ("`retry_budget`", ModelRetryBudget, "retry_budget"),
        ("`connections.NAME`", ModelConnection, "connections.NAME"),
    ):
        whole, texts = meanings(cls)
        parts += [
            f"## {title}",
            whole,
            table(("key", "default", "variable", "meaning"), _setting_rows(cls, prefix, texts)),
        ]
    parts += ["## Options of a connection", *map(_options, (PostgresDriver, SqliteDriver, MysqlDriver, KafkaAdapter))]
    return "\n\n".join(parts) + "\n"


def _setting_rows(cls: type[BaseModel], prefix: str, texts: Mapping[str, str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in cls.model_fields:
        key = f"{prefix}.{name}" if prefix else name
        nested = name in {"connections", "policy", "retry_budget"}
        variable = "" if nested else f"`ONEX_{key.upper().replace('.', '__')}{'__NAME' if name == 'secrets' else ''}`"
        rows.append((f"`{key}`", default_of(cls, name), variable, texts[name]))
    return rows


def _options(cls: type[object]) -> str:
    said = (inspect.getdoc(cls) or "").split("\n\n")
    name = {"PostgresDriver": "postgresql", "SqliteDriver": "sqlite", "MysqlDriver": "mysql", "KafkaAdapter": "kafka"}
    chosen = [" ".join(part.split()) for part in said if "ption" in part or "URL" in part]
    return f"**{name[cls.__name__]}**: " + " ".join(chosen)
