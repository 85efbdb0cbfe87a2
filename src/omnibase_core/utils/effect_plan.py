"""What exactly will run: a contract compiled once into a frozen plan (templates, paths, policies, order).

Everything that depends on the contract alone is decided here, so that a call only fills in values. Problems are
reported as `Breach`es with their key path; a plan is made only when there was none.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_policy import EnumExecutionMode, EnumExtractionEngine
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import Hole
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, KeyPath, Offset
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpIOConfig,
    ModelKafkaIOConfig,
)
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import (
    ModelEffectCircuitBreaker,
    ModelEffectOperation,
    ModelEffectSubcontract,
    ModelEffectTransactionConfig,
)
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.utils.effect_executor import retry_lists
from omnibase_core.utils.extraction import PathError, ResponseFinder, compile_extract
from omnibase_core.utils.faults import RetryLists
from omnibase_core.utils.input_check import InputCheck, compile_input_check
from omnibase_core.utils.io_compiler import IoPlan
from omnibase_core.utils.io_plan import compile_io

Report = Callable[[Breach], None]
P = TypeVar("P", bound=ContractModel)

META_KEYS: Final = ("correlation_id", "operation_id", "timestamp")


@dataclass(slots=True)  # frozen ones take four times as long to build, a fifth of a millisecond for fifty
class OperationPlan:
    """One operation, compiled; nobody changes it.

    connection_name: empty where there is none. policy, breaker: the effective ones (own over inherited, field by
    field).
    """

    name: str
    index: int
    label: str
    handler_kind: str
    connection_name: str
    io: IoPlan
    idempotent: bool
    deletes: bool
    max_retries: int
    policy: ModelEffectRetryPolicy
    lists: RetryLists
    attempt_timeout_s: float
    operation_timeout_s: float
    breaker: ModelEffectCircuitBreaker
    breaker_key: UUID
    success_codes: frozenset[int]
    finders: Mapping[str, ResponseFinder]
    fail_on_empty: bool
    depends_on: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EffectPlan:
    """A contract, compiled. `transaction` is None unless it is enabled; `connection_name` is the transaction's."""

    name: str
    version: str
    mode: EnumExecutionMode
    max_concurrency: int
    operations: tuple[OperationPlan, ...]
    referenced: frozenset[int]
    transaction: ModelEffectTransactionConfig | None
    transaction_policy: ModelEffectRetryPolicy
    connection_name: str
    flow_timeout_s: float
    check_input: InputCheck | None
    subcontract: ModelEffectSubcontract


def compile_plan(contract: ModelEffectSubcontract, report: Report | None = None) -> EffectPlan:
    """Compile a contract. Without `report` the first error is raised as ModelOnexError VALIDATION_ERROR."""
    return _Planner(contract, report or _raise_first).plan()


def judge_plan(contract: ModelEffectSubcontract, report: Report) -> None:
    """Report what `compile_plan` would, of a contract of which some parts are missing because they are not well-formed.

    A part that needs one of those cannot be judged and is passed over.
    """
    planner = _Planner(contract, report)
    dependencies = [planner.judge(index, operation) for index, operation in enumerate(contract.operations)]
    planner.refuse_cycles(dependencies)
    with suppress(AttributeError):
        if contract.input_schema is not None:
            compile_input_check(contract.input_schema, "", report)


def _mended(config: P) -> P:
    """A config whose missing fields are such that they cause no finding, so that the others are judged.

    Without `allowed_hosts` the host cannot be judged; it stays missing, and compiling ends there, which is last.
    """
    fields = type(config).model_fields
    missing = {
        name: "" if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
        for name, info in fields.items()
        if name not in config.__dict__ and name != "allowed_hosts"
    }
    return trusted(type(config), {**config.__dict__, **missing}, config.model_fields_set) if missing else config


def _raise_first(breach: Breach) -> None:
    if breach.severity == "error":
        path = ".".join(str(key) for key in breach.path if isinstance(key, str) or type(key) is int)
        fix = f" ({breach.fix})" if breach.fix else ""
        raise ModelOnexError(
            f"{path}: {breach.message}{fix}", EnumCoreErrorCode.VALIDATION_ERROR, {"rule": breach.code, "path": path}
        )


def inherit(general: P, own: P | None) -> P:
    """The effective policy: a field that `own` sets, else the one of `general`."""
    if own is None or not own.model_fields_set:
        return general
    values = {**general.__dict__, **{name: getattr(own, name) for name in own.model_fields_set}}
    return trusted(type(general), values, general.model_fields_set | own.model_fields_set)


class _Planner:
    def __init__(self, contract: ModelEffectSubcontract, report: Report) -> None:
        self.contract = contract
        self.report = report
        self.indexes = {operation.operation_name: index for index, operation in enumerate(contract.operations)}
        self.lists: dict[int, RetryLists] = {}

    def plan(self) -> EffectPlan:
        contract = self.contract
        operations = tuple(self._operation(index, operation) for index, operation in enumerate(contract.operations))
        self.refuse_cycles([operation.depends_on for operation in operations])
        transaction = contract.transaction if contract.transaction.enabled else None
        first = contract.operations[0].io_config
        return EffectPlan(
            contract.subcontract_name,
            contract.version,
            contract.execution_mode,
            contract.max_concurrency,
            operations,
            frozenset(
                self.indexes[h.path[0]]
                for op in operations
                for _, h in op.io.holes
                if h.source == "output" and h.path[0] in self.indexes
            ),
            transaction,
            contract.default_retry_policy,
            first.connection_name if transaction and isinstance(first, ModelDbIOConfig) else "",
            contract.flow_timeout_ms / 1000,
            None
            if contract.input_schema is None
            else compile_input_check(contract.input_schema, contract.subcontract_name, self.report),
            contract,
        )

    def judge(self, index: int, operation: ModelEffectOperation) -> tuple[int, ...]:
        """Report problems of an operation with holes; returns the operations that it waits for, as far as known."""
        found = {self.indexes[name] for name in operation.depends_on if name in self.indexes}
        place: KeyPath = ("operations", index, "io_config")
        with suppress(AttributeError):
            self._finders(index, operation)
        holes: list[tuple[KeyPath, Hole]] = []
        with suppress(AttributeError):
            compile_io(
                _mended(operation.io_config),
                lambda breach: self.report(_moved(breach, place)),
                operation.operation_name,
                holes,
            )
        with suppress(AttributeError):
            found |= self._references(index, operation, holes)
        return tuple(sorted(found))

    def _operation(self, index: int, operation: ModelEffectOperation) -> OperationPlan:
        contract = self.contract
        place: KeyPath = ("operations", index)

        def report(breach: Breach) -> None:
            self.report(_moved(breach, (*place, "io_config")))

        config = operation.io_config
        io = compile_io(config, report, operation.operation_name)
        references = self._references(index, operation, io.holes)
        policy = inherit(contract.default_retry_policy, operation.retry_policy)
        handling = operation.response_handling
        lists = self.lists.get(id(policy)) or self.lists.setdefault(id(policy), retry_lists(policy))
        retries = policy.enabled and not contract.transaction.enabled
        return OperationPlan(
            name=operation.operation_name,
            index=index,
            label=operation.describe(),
            handler_kind=operation.handler_type,
            connection_name=config.connection_name if isinstance(config, (ModelDbIOConfig, ModelKafkaIOConfig)) else "",
            io=io,
            idempotent=operation.get_effective_idempotency(),
            deletes=(isinstance(config, ModelHttpIOConfig) and config.method == "DELETE")
            or (isinstance(config, ModelFilesystemIOConfig) and config.operation == "delete"),
            max_retries=policy.max_retries if retries else 0,
            policy=policy,
            lists=lists,
            attempt_timeout_s=config.timeout_ms / 1000,
            operation_timeout_s=(operation.operation_timeout_ms or 60_000) / 1000,
            breaker=inherit(contract.default_circuit_breaker, operation.circuit_breaker),
            breaker_key=operation.correlation_id,
            success_codes=frozenset(handling.success_codes),
            finders=self._finders(index, operation),
            fail_on_empty=handling.fail_on_empty,
            depends_on=tuple(sorted({self.indexes[n] for n in operation.depends_on if n in self.indexes} | references)),
        )

    def _references(
        self, index: int, operation: ModelEffectOperation, holes: Sequence[tuple[KeyPath, Hole]]
    ) -> set[int]:
        """Operations whose output this one reads; reports sources that do not exist where the placeholder stands."""
        found: set[int] = set()
        for path, hole in holes:
            problem = self._problem_of(index, operation, hole)
            if problem is not None:
                self.report(_moved(problem, ("operations", index, "io_config", *path, Offset(hole.offset))))
            elif hole.source == "output":
                found.add(self.indexes[hole.path[0]])
        return found

    def _problem_of(self, index: int, operation: ModelEffectOperation, hole: Hole) -> Breach | None:
        if hole.source in {"item", "index"}:
            return Breach(
                "E-TEMPLATE",
                f"{hole.text}: {hole.source} exists only inside for_each",
                found=repr(hole.text),
                allowed="input, env, secret, output, meta",
            )
        if hole.source == "meta" and (len(hole.path) != 1 or hole.path[0] not in META_KEYS):
            return Breach(
                "E-TEMPLATE",
                f"{hole.text}: meta has no {'.'.join(hole.path)!r}",
                found=repr(hole.text),
                allowed=", ".join(META_KEYS),
            )
        if hole.source in {"env", "secret"} and len(hole.path) != 1:
            return Breach(
                "E-TEMPLATE", f"{hole.text}: {hole.source} values are texts, without keys", found=repr(hole.text)
            )
        if hole.source != "output":
            return None
        name, wanted = hole.path[0], hole.path[1]
        if name not in self.indexes:
            return Breach(
                "E-UNKNOWN-OPERATION",
                f"{hole.text}: there is no operation {name!r}",
                found=repr(name),
                allowed=", ".join(self.indexes),
            )
        if self.indexes[name] == index or (not self.contract.execution_mode.is_parallel and self.indexes[name] > index):
            return Breach(
                "E-ORDER",
                f"{hole.text}: operation {name!r} does not come before {operation.operation_name!r}",
                found=repr(name),
                fix="move it up, or choose a parallel execution_mode",
            )
        fields = self.contract.operations[self.indexes[name]].response_handling.extract_fields
        if wanted != "result" and wanted not in fields:
            return Breach(
                "E-UNKNOWN-FIELD-REFERENCE",
                f"{hole.text}: operation {name!r} extracts no field {wanted!r}",
                found=repr(wanted),
                allowed=", ".join([*fields, "result"]),
                fix=f"add {wanted} to its response_handling.extract_fields, or read below result",
            )
        return None

    def _finders(self, index: int, operation: ModelEffectOperation) -> dict[str, ResponseFinder]:
        handling = operation.response_handling
        finders: dict[str, ResponseFinder] = {}
        for name, spec in handling.extract_fields.items():
            try:
                finders[name] = compile_extract(spec, handling.extraction_engine)
            except PathError as error:
                path = spec if isinstance(spec, str) else spec.path or "$"
                if handling.extraction_engine is EnumExtractionEngine.DOTPATH and not path.startswith("$."):
                    continue  # the model's own rule says so
                self.report(
                    Breach(
                        "E-EXTRACT-PATH",
                        f"field {name!r}: {error}",
                        ("operations", index, "response_handling", "extract_fields", name),
                        found=repr(spec if isinstance(spec, str) else spec.path),
                        allowed="a JSONPath of RFC 9535, such as $.items[0].id",
                    )
                )
        return finders

    def refuse_cycles(self, dependencies: Sequence[tuple[int, ...]]) -> None:
        """In parallel modes references may point anywhere, without a cycle; one is reported as the path it takes."""
        done: set[int] = set()
        for start, needed in enumerate(dependencies):
            if not needed:
                continue
            trail: list[int] = []
            stack = [(start, iter(needed))]
            while stack:
                node, edges = stack[-1]
                if node in done:
                    stack.pop()
                    continue
                if not trail or trail[-1] != node:
                    trail.append(node)
                target = next(edges, None)
                if target is None:
                    done.add(node)
                    trail.pop()
                    stack.pop()
                elif target in trail:
                    circle = [*trail[trail.index(target) :], target]
                    names = [self.contract.operations[n].operation_name for n in circle]
                    self.report(
                        Breach(
                            "E-CYCLE",
                            f"operations wait for each other: {' -> '.join(names)}",
                            ("operations", node),
                            fix="remove one of the references or depends_on entries on the way",
                        )
                    )
                    return
                elif target not in done:
                    stack.append((target, iter(dependencies[target])))


def _moved(breach: Breach, place: KeyPath) -> Breach:
    return Breach(
        breach.code, breach.message, (*place, *breach.path), breach.found, breach.allowed, breach.fix, breach.severity
    )
