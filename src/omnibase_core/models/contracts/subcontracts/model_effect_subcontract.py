"""The effect contract: operations, policies, transaction, and the rules that hold them together (sections 2.2 to
2.8).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Annotated, ClassVar, Final, Self
from uuid import UUID, uuid4

from pydantic import Field, JsonValue, PrivateAttr

from omnibase_core.enums.enum_effect_policy import EnumExecutionMode, EnumExtractionEngine, EnumIsolationLevel
from omnibase_core.grammar.sql_placeholders import is_relative_update
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, Rule
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    EffectIOConfig,
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpIOConfig,
    ModelKafkaIOConfig,
)
from omnibase_core.models.contracts.subcontracts.effect_retry_config import IDEMPOTENCY_DEFAULTS, ModelEffectRetryPolicy
from omnibase_core.models.model_effect_output import ModelEffectOperationResult
from omnibase_core.models.primitives.model_semver import ModelSemVer
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

__all__ = [
    "ModelEffectCircuitBreaker",
    "ModelEffectContractMetadata",
    "ModelEffectInputSchema",
    "ModelEffectObservability",
    "ModelEffectOperation",
    "ModelEffectOperationResult",
    "ModelEffectResponseHandling",
    "ModelEffectRetryPolicy",
    "ModelEffectSubcontract",
    "ModelEffectTransaction",
    "ModelEffectTransactionConfig",
]

BREAKER_NAMESPACE: Final = UUID("6f4d1f0e-5f0b-5d53-9f0a-0e1c5a7d2b11")
"""Namespace of derived breaker ids: UUIDv5 of `<subcontract_name>/<operation_name>`."""

_UNSET_ID: Final = UUID(int=0)
"""Stands in a model until `_complete` has put the real id in, before anyone sees it."""

_Name = Annotated[StrictText, Field(min_length=1, max_length=100)]


class ModelEffectResponseExtract(ContractModel):
    """Where an extracted field comes from, when not from the body.

    from: which part of the answer. path: into the body as in `extract_fields`, into headers a header's name; a status
    needs none.
    """

    origin: Annotated[StrictText, Field(alias="from", pattern="^(status|headers|body)$")]
    path: StrictText | None = None


def _dotpath_prefix(handling: "ModelEffectResponseHandling") -> Iterator[Breach]:
    for name, path in handling.extract_fields.items():
        if name == "result":
            yield Breach(
                "E-EXTRACT-RESERVED",
                "'result' is reserved: ${output.<operation>.result} is the whole document",
                ("extract_fields", name),
                found=repr(name),
                fix="choose another name",
            )
        text = path if isinstance(path, str) else path.path if path.origin == "body" else None
        if isinstance(path, str) or path.origin == "body":
            if text is None:
                yield Breach(
                    "E-EXTRACT-PATH", "a field from the body needs a path", ("extract_fields", name), fix="add path"
                )
            elif handling.extraction_engine is EnumExtractionEngine.DOTPATH and not text.startswith("$."):
                yield Breach(
                    "E-DOTPATH",
                    f"dotpath {text!r} must start with '$.'",
                    ("extract_fields", name),
                    found=repr(text),
                    allowed="$.key.key",
                    fix=f"write '$.{text.lstrip('$.')}'",
                )
        elif path.origin == "headers" and not path.path:
            yield Breach(
                "E-EXTRACT-PATH", "a field from the headers needs the header's name as path", ("extract_fields", name)
            )


class ModelEffectResponseHandling(ContractModel):
    """When an answer is a success, and what is taken out of it.

    success_codes: judged for handlers that give a status; another success status is a failure all the same.
    extract_fields: name -> path into the document (first match), or `{from: status|headers|body, path: ...}`; only
    scalars can be extracted. fail_on_empty: a path without a match fails the operation (after its effect).
    extraction_engine: how paths are read: RFC 9535, or plain `$.key.key`.
    """

    success_codes: list[Annotated[int, Field(strict=True, ge=100, le=599)]] = Field(
        default_factory=[200, 201, 202, 204].copy
    )
    extract_fields: dict[StrictText, StrictText | ModelEffectResponseExtract] = Field(default_factory=dict)
    fail_on_empty: StrictFlag = False
    extraction_engine: EnumExtractionEngine = EnumExtractionEngine.JSONPATH

    rules: ClassVar = (Rule(("extract_fields", "extraction_engine"), _dotpath_prefix),)


class ModelEffectCircuitBreaker(ContractModel):
    """The breaker of an operation (section 2.6).

    enabled: false lets everything pass. failure_threshold: failures that open it. success_threshold: successful probes
    that close it. timeout_ms: how long it stays open before it lets probes through. half_open_requests: probes that may
    be out at once.
    """

    enabled: StrictFlag = False
    failure_threshold: Annotated[int, Field(strict=True, ge=1, le=100)] = 5
    success_threshold: Annotated[int, Field(strict=True, ge=1, le=10)] = 2
    timeout_ms: Annotated[int, Field(strict=True, ge=1_000, le=600_000)] = 60_000
    half_open_requests: Annotated[int, Field(strict=True, ge=1, le=10)] = 3


class ModelEffectTransactionConfig(ContractModel):
    """One transaction around all operations, which must be `db` on one connection (section 2.8).

    enabled: whether there is one. isolation_level: what BEGIN asks for; a stronger one satisfies it.
    rollback_on_error: false commits what was done without the failed operation. timeout_ms: from BEGIN to COMMIT, with
    all repetitions of the whole.
    """

    enabled: StrictFlag = False
    isolation_level: EnumIsolationLevel = EnumIsolationLevel.READ_COMMITTED
    rollback_on_error: StrictFlag = True
    timeout_ms: Annotated[int, Field(strict=True, ge=1_000, le=300_000)] = 30_000


ModelEffectTransaction = ModelEffectTransactionConfig
"""Older name of the contract's `transaction:` block; the run-time transaction is in `omnibase_core.nodes`."""


class ModelEffectObservability(ContractModel):
    """What is written down about a call: metadata only; secrets never.

    log_request: each attempt is logged at level INFO, as operation, verb, target and number. log_response: status and
    duration of each answer likewise. emit_metrics: false keeps the contract out of the metrics. trace_propagation: the
    current W3C `traceparent` goes along in the headers of HTTP requests and messages.
    """

    log_request: StrictFlag = True
    log_response: StrictFlag = False
    emit_metrics: StrictFlag = True
    trace_propagation: StrictFlag = True


class ModelEffectContractMetadata(ContractModel):
    """About the contract itself; nothing of it changes what runs.

    contract_id: of your own registry. revision: counts up with every change. created_at, updated_at, author, tags: for
    the reader and for tools. contract_hash: SHA-256 over the canonical JSON (RFC 8785) of the contract without its
    metadata, in hex; computed when absent, and a warning when it differs.
    """

    # Of a loaded contract without a given hash; most programs never ask for it. Needed until it is read.
    _compute_hash: Callable[[], str] | None = PrivateAttr(default=None)

    contract_id: UUID | None = None
    revision: Annotated[int, Field(strict=True, ge=1)] = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    author: Annotated[StrictText, Field(max_length=100)] | None = None
    tags: list[StrictText] = Field(default_factory=list)
    contract_hash: Annotated[StrictText, Field(pattern="^[0-9a-f]{64}$")] | None = None

    def with_hash(self, compute: Callable[[], str]) -> Self:
        """A copy whose `contract_hash` is computed when it is first read; it does not count as set."""
        copy = self.model_copy()
        copy._compute_hash = compute  # noqa: SLF001  # of its own class
        return copy

    def __getattribute__(self, name: str) -> object:
        if name == "contract_hash" and self.__dict__[name] is None and self._compute_hash is not None:
            self.__dict__[name] = self._compute_hash()
            self._compute_hash = None
        return super().__getattribute__(name)

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        _ = self.contract_hash
        return super().__repr_args__()

    def __getstate__(self) -> dict[object, object]:
        _ = self.contract_hash  # what is saved holds the hash, not the whole contract
        return super().__getstate__()


def _one_schema(schema: "ModelEffectInputSchema") -> Iterator[Breach]:
    if schema.json_schema is not None and (schema.required_fields or schema.optional_fields):
        yield Breach(
            "E-INPUT-SCHEMA",
            "json_schema stands alone: found required_fields or optional_fields beside it",
            ("json_schema",),
            fix="say it in one way",
        )


class ModelEffectInputSchema(ContractModel):
    """What `operation_data` must hold, judged before any operation runs.

    required_fields: dotted names that must be there and not null. optional_fields: dotted names, written down for the
    reader and for tools; further fields are allowed. json_schema: JSON Schema 2020-12; its references stay inside it.
    """

    required_fields: list[_Name] = Field(default_factory=list)
    optional_fields: list[_Name] = Field(default_factory=list)
    json_schema: dict[str, JsonValue] | None = None

    rules: ClassVar = (Rule(("required_fields", "optional_fields", "json_schema"), _one_schema),)


_BUILT_IN_POLICY: Final = ModelEffectRetryPolicy()


def _own_retries(operation: "ModelEffectOperation", general: ModelEffectRetryPolicy) -> int:
    """Retries that an operation's own `retry_policy` block leads to, field by field over the general one."""
    own = operation.retry_policy
    if own is None:
        return 0
    enabled = (own if "enabled" in own.model_fields_set else general).enabled
    retries = (own if "max_retries" in own.model_fields_set else general).max_retries
    return retries if enabled else 0


def _explicit_retry_is_safe(
    operation: "ModelEffectOperation", general: ModelEffectRetryPolicy = _BUILT_IN_POLICY
) -> Iterator[Breach]:
    retries = _own_retries(operation, general)
    if retries == 0 or operation.get_effective_idempotency():
        return
    yield Breach(
        "E-RETRY-UNSAFE",
        f"operation {operation.operation_name!r} ({operation.describe()}) is not idempotent but has retry enabled: "
        "a repetition could do it twice",
        ("retry_policy",),
        found=f"retry_policy with max_retries {retries}",
        fix="leave retry_policy out (the inherited one narrows itself), set max_retries: 0, add an idempotency_key, "
        "or say idempotent: true if repeating is harmless",
    )


def _raw_is_declared(operation: "ModelEffectOperation") -> Iterator[Breach]:
    config = operation.io_config
    if isinstance(config, ModelDbIOConfig) and config.operation == "raw" and operation.idempotent is None:
        yield Breach(
            "W-RAW-IDEMPOTENCE",
            f"operation {operation.operation_name!r}: a raw statement without idempotent counts as non-idempotent",
            ("io_config", "operation"),
            found="'raw'",
            fix="say idempotent: true or false",
            severity="warning",
        )


class ModelEffectOperation(ContractModel):
    """One operation of a contract.

    operation_name: unique; what `${output.X}` and `depends_on` call it. description: for the reader. io_config: what it
    does. response_handling: when it succeeded, and what is taken out of the answer. retry_policy, circuit_breaker: its
    own, each set field in place of the inherited one.

    idempotent: overrides `IDEMPOTENCY_DEFAULTS`. operation_timeout_ms: hard limit over all attempts, delays included.
    depends_on: operations that must succeed first; `${output.X...}` implies X. correlation_id: the breaker's identity,
    derived from the names inside a subcontract unless given (random for an operation built alone in Python).
    """

    operation_name: Annotated[StrictText, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    description: Annotated[StrictText, Field(max_length=500)] | None = None
    idempotent: StrictFlag | None = None
    io_config: EffectIOConfig
    response_handling: ModelEffectResponseHandling = ModelEffectResponseHandling()
    retry_policy: ModelEffectRetryPolicy | None = None
    circuit_breaker: ModelEffectCircuitBreaker | None = None
    correlation_id: UUID = _UNSET_ID
    operation_timeout_ms: Annotated[int, Field(strict=True, ge=1_000, le=600_000)] | None = 60_000
    depends_on: list[StrictText] = Field(default_factory=list)

    rules: ClassVar = (
        Rule(("operation_name", "idempotent", "io_config", "retry_policy"), _explicit_retry_is_safe, in_python=True),
        Rule(("operation_name", "idempotent", "io_config"), _raw_is_declared),
    )
    not_built: ClassVar = ("when", "for_each", "rate_limit", "bulkhead", "cache", "compensate", "on_failure")

    def _complete(self, *, loading: bool) -> None:
        if self.correlation_id is _UNSET_ID and not loading:
            self.__dict__["correlation_id"] = uuid4()
        if self.operation_timeout_ms is None:
            self.__dict__["operation_timeout_ms"] = 60_000

    @property
    def handler_type(self) -> str:
        """The handler kind that carries this operation out."""
        return self.io_config.handler_type.value

    def describe(self) -> str:
        """Kind and verb, such as `http POST` or `db insert`."""
        return f"{self.handler_type} {_verb(self.io_config)}"

    def get_effective_idempotency(self) -> bool:
        """Whether doing this operation twice is as good as once: by word of the contract, else by section 2.5."""
        if self.idempotent is not None:
            return self.idempotent
        config = self.io_config
        if isinstance(config, ModelHttpIOConfig) and config.idempotency_key is not None:
            return True
        if isinstance(config, ModelDbIOConfig) and config.operation in {"update", "upsert"}:
            return not is_relative_update(config.query_template)
        verb = _verb(config)
        return IDEMPOTENCY_DEFAULTS.get(self.handler_type, {}).get(
            verb.upper() if isinstance(config, ModelDbIOConfig) else verb, False
        )


def _verb(config: ModelHttpIOConfig | ModelDbIOConfig | ModelKafkaIOConfig | ModelFilesystemIOConfig) -> str:
    if isinstance(config, ModelHttpIOConfig):
        return config.method
    return "produce" if isinstance(config, ModelKafkaIOConfig) else config.operation


def _names_are_unique(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    first: dict[str, int] = {}
    for index, operation in enumerate(contract.operations):
        name = operation.operation_name
        if name in first:
            yield Breach(
                "E-DUPLICATE-NAME",
                f"operation name {name!r} is used twice (operations {first[name]} and {index})",
                ("operations", index, "operation_name"),
                found=repr(name),
                allowed="unique names",
                fix="rename one of them",
            )
        first.setdefault(name, index)


def _dependencies_exist(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    names = {operation.operation_name: index for index, operation in enumerate(contract.operations)}
    for index, operation in enumerate(contract.operations):
        for place, name in enumerate(operation.depends_on):
            path = ("operations", index, "depends_on", place)
            if name not in names:
                yield Breach(
                    "E-UNKNOWN-OPERATION",
                    f"operation {operation.operation_name!r} depends on {name!r}, which does not exist",
                    path,
                    found=repr(name),
                    allowed=", ".join(names),
                )
            elif not contract.execution_mode.is_parallel and names[name] >= index:
                yield Breach(
                    "E-ORDER",
                    f"operation {operation.operation_name!r} depends on {name!r}, which does not come before it",
                    path,
                    found=repr(name),
                    fix="move it up, or choose a parallel execution_mode",
                )


def _explicit_retries_are_safe(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    for index, operation in enumerate(contract.operations):
        with suppress(AttributeError):  # a part that is not well-formed is missing; it has a finding of its own
            for breach in _explicit_retry_is_safe(operation, contract.default_retry_policy):
                yield replace(breach, path=("operations", index, *breach.path))


def _transaction_scope(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    if not contract.transaction.enabled:
        return
    others = [op for op in contract.operations if not isinstance(op.io_config, ModelDbIOConfig)]
    if others:
        named = ", ".join(f"{op.operation_name} ({op.handler_type})" for op in others)
        yield Breach(
            "E-TX-KINDS",
            f"transaction.enabled, but there are non-DB operations: {named}",
            ("transaction", "enabled"),
            found=named,
            allowed="db operations on the same connection",
            fix="move them into a contract of their own; what has left the database cannot be rolled back",
        )
    configs = [op.io_config for op in contract.operations]
    connections = sorted({config.connection_name for config in configs if isinstance(config, ModelDbIOConfig)})
    if len(connections) > 1:
        yield Breach(
            "E-TX-CONNECTIONS",
            f"a transaction needs the same connection for all operations, found {', '.join(connections)}",
            ("transaction", "enabled"),
            found=", ".join(connections),
            allowed="one connection_name",
            fix="split the contract, one transaction per connection",
        )
    if contract.execution_mode.is_parallel:
        yield Breach(
            "E-TX-PARALLEL",
            f"execution_mode {contract.execution_mode.value} cannot share one connection inside a transaction",
            ("execution_mode",),
            found=repr(contract.execution_mode.value),
            allowed="sequential_abort, sequential_continue",
        )
    if contract.execution_mode is EnumExecutionMode.SEQUENTIAL_ABORT and not contract.transaction.rollback_on_error:
        yield Breach(
            "W-TX-ROLLBACK",
            "rollback_on_error: false with sequential_abort commits what was done before the failed operation",
            ("transaction", "rollback_on_error"),
            severity="warning",
        )
    yield from _transaction_operations(contract)


def _transaction_operations(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    level = contract.transaction.isolation_level
    snapshot = level.strength >= EnumIsolationLevel.REPEATABLE_READ.strength
    for index, operation in enumerate(contract.operations):
        config = operation.io_config
        if not isinstance(config, ModelDbIOConfig):
            continue
        if config.operation == "raw":
            yield Breach(
                "E-TX-RAW",
                f"operation {operation.operation_name!r}: raw statements are not allowed inside transactions",
                ("operations", index, "io_config", "operation"),
                found="'raw'",
                allowed="select, insert, update, delete, upsert",
                fix="name the kind of the statement, or run it outside the transaction",
            )
        if _own_retries(operation, contract.default_retry_policy) == 0:
            continue
        if config.operation == "select" and snapshot:
            yield Breach(
                "E-TX-SELECT-RETRY",
                f"operation {operation.operation_name!r}: a SELECT with its own retry inside {level.value} "
                "would read the same snapshot again",
                ("operations", index, "retry_policy"),
                fix="leave retry_policy out; the whole transaction is repeated under default_retry_policy",
            )
        else:
            yield Breach(
                "W-TX-RETRY",
                f"operation {operation.operation_name!r}: its retry_policy has no effect inside a transaction",
                ("operations", index, "retry_policy"),
                fix="set default_retry_policy, under which the whole transaction is repeated",
                severity="warning",
            )


def _writes_want_a_transaction(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    if contract.transaction.enabled:
        return
    writes: dict[str, list[str]] = {}
    for operation in contract.operations:
        config = operation.io_config
        # raw: forbidden in a transaction
        if isinstance(config, ModelDbIOConfig) and config.operation not in {"select", "raw"} and not config.read_only:
            writes.setdefault(config.connection_name, []).append(operation.operation_name)
    for connection, names in writes.items():
        if len(names) > 1:
            yield Breach(
                "W-NO-TRANSACTION",
                f"{', '.join(names)} write to {connection!r} without a transaction: "
                "a failure between them leaves half of it",
                ("operations",),
                fix="set transaction.enabled: true (in a contract of db operations), or accept the risk",
                severity="warning",
            )


def _future_keys(contract: "ModelEffectSubcontract") -> Iterator[Breach]:
    for key in contract.future:
        if not key.startswith("ONEX_"):
            yield Breach(
                "E-FUTURE-KEY",
                f"future key {key!r} does not start with ONEX_",
                ("future", key),
                found=repr(key),
                allowed="ONEX_...",
                fix=f"write ONEX_{key}, or remove it",
            )


class ModelEffectSubcontract(ContractModel):
    """An effect contract: what `effect_subcontract:` of a file holds.

    subcontract_name: of metrics, errors and derived ids. version, description: for the reader and for tools.
    metadata: about the contract. execution_mode: order of the operations, and whether the first failure ends the call.
    max_concurrency: operations at once in the parallel modes. operations: what is done.
    default_retry_policy, default_circuit_breaker: for operations that set nothing else. transaction: around them all.
    observability: what is counted and logged. correlation_id: kept for tools; derived from the name unless given.
    input_schema: what the input must hold. deterministic: permits tools to replay or cache results. future: keys that
    begin with ONEX_ are kept, nothing reads them yet. flow_timeout_ms: hard limit of a whole call.
    """

    INTERFACE_VERSION: ClassVar = ModelSemVer(1, 0, 0)

    subcontract_name: _Name
    version: Annotated[StrictText, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = "1.0.0"
    description: Annotated[StrictText, Field(max_length=1_000)] | None = None
    metadata: ModelEffectContractMetadata = ModelEffectContractMetadata()
    execution_mode: EnumExecutionMode = EnumExecutionMode.SEQUENTIAL_ABORT
    max_concurrency: Annotated[int, Field(strict=True, ge=1, le=100)] = 10
    operations: Annotated[list[ModelEffectOperation], Field(min_length=1, max_length=50)]
    default_retry_policy: ModelEffectRetryPolicy = ModelEffectRetryPolicy()
    default_circuit_breaker: ModelEffectCircuitBreaker = ModelEffectCircuitBreaker()
    transaction: ModelEffectTransactionConfig = ModelEffectTransactionConfig()
    observability: ModelEffectObservability = ModelEffectObservability()
    correlation_id: UUID = _UNSET_ID
    input_schema: ModelEffectInputSchema | None = None
    deterministic: StrictFlag = False
    future: dict[StrictText, JsonValue] = Field(default_factory=dict)
    flow_timeout_ms: Annotated[int, Field(strict=True, ge=1_000, le=3_600_000)] = 300_000

    rules: ClassVar = (
        Rule(("operations",), _names_are_unique),
        Rule(("operations", "execution_mode"), _dependencies_exist),
        Rule(("operations", "default_retry_policy"), _explicit_retries_are_safe),
        Rule(("operations", "execution_mode", "transaction"), _transaction_scope),
        Rule(("operations", "transaction"), _writes_want_a_transaction),
        Rule(("future",), _future_keys),
    )

    def _complete(self, *, loading: bool) -> None:
        prefix = hashlib.sha1(BREAKER_NAMESPACE.bytes + self.subcontract_name.encode(), usedforsecurity=False)
        if self.correlation_id is _UNSET_ID:
            self.__dict__["correlation_id"] = _uuid5(prefix, "")
        if not loading:
            self.__dict__["operations"] = [_with_derived_id(operation, prefix) for operation in self.operations]
            return
        for operation in self.operations:
            if operation.correlation_id is _UNSET_ID:
                operation.__dict__["correlation_id"] = _uuid5(prefix, "/" + operation.operation_name)


def _with_derived_id(operation: ModelEffectOperation, prefix: "hashlib._Hash") -> ModelEffectOperation:
    if "correlation_id" in operation.model_fields_set:
        return operation
    derived = _uuid5(prefix, "/" + operation.operation_name)
    if operation.correlation_id == derived:
        return operation
    own = operation.model_copy()  # the caller may hold the operation, and hand it to another subcontract
    own.__dict__["correlation_id"] = derived
    return own


def _uuid5(prefix: "hashlib._Hash", name: str) -> UUID:
    """UUIDv5 whose hash has begun with namespace and first part of the name; the prefix is hashed once per contract."""
    digest = prefix.copy()
    digest.update(name.encode())
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF000 << 64) & ~(0xC000 << 48) | (5 << 76) | (0x8000 << 48)
    return UUID(int=number)
