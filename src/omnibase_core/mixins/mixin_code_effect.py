"""Running a code-driven node: its `_execute_effect` inside retry, breaker, timeout and transaction (section 2.12)."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Final
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5
from weakref import WeakKeyDictionary

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase, EnumStopReason
from omnibase_core.enums.enum_effect_policy import EnumExecutionMode
from omnibase_core.enums.enum_effect_types import EnumTransactionState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.correlation import current_correlation_id
from omnibase_core.logging.redaction import redact
from omnibase_core.mixins.cut import Cut, CutOffError
from omnibase_core.mixins.effect_binding import keep_in_loop
from omnibase_core.mixins.effect_records import attempt_record, success_record
from omnibase_core.mixins.effect_rollback import ModelEffectTransaction
from omnibase_core.models.configuration.model_circuit_breaker import ModelCircuitBreaker
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectCircuitBreaker
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectAttempt, ModelEffectOutput
from omnibase_core.models.primitives.trusted import trusted
from omnibase_core.registry.breaker_registry import BreakerRegistry
from omnibase_core.utils.effect_executor import retry_lists, utc_now
from omnibase_core.utils.faults import Fault, fault_of_error

_log = logging.getLogger("onex.effect")

NEVER_RETRIED: Final = frozenset(
    {
        EnumCoreErrorCode.VALIDATION_ERROR,
        EnumCoreErrorCode.CONFIGURATION_ERROR,
        EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        EnumCoreErrorCode.NOT_FOUND,
        EnumCoreErrorCode.SECURITY_VIOLATION,
        EnumCoreErrorCode.EXTRACTION_ERROR,
        EnumCoreErrorCode.CANCELLED,
        EnumCoreErrorCode.OUTCOME_UNKNOWN,
        EnumCoreErrorCode.CIRCUIT_BREAKER_OPEN,
    }
)
_BUGS: Final = (
    TypeError,
    AttributeError,
    NameError,
    LookupError,
    AssertionError,
    NotImplementedError,
    SyntaxError,
    ImportError,
)
_HOPELESS: Final = (*_BUGS, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Exceptions that the next attempt would only meet again."""
_HOPELESS_KINDS: Final = frozenset({"ENOENT", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "ELOOP", "ENAMETOOLONG"})
"""The same, as kinds of faults."""
_CAP_MS: Final = 30_000
_LISTS: Final = retry_lists(ModelEffectRetryPolicy())
_BREAKER_DEFAULTS: Final = ModelEffectCircuitBreaker(enabled=True)
_OUTPUT_FIELDS: Final = set(ModelEffectOutput.model_fields)
_NO_FAULT: Final = Fault("", EnumCoreErrorCode.OPERATION_FAILED, EnumFaultPhase.DONE)


class EffectMetrics(dict[str, object]):
    """Numbers of a node; a dict that may also be awaited, because both ways of asking are in use."""

    def __await__(self) -> Generator[object, object, "EffectMetrics"]:
        return _same(self).__await__()


async def _same(metrics: EffectMetrics) -> EffectMetrics:
    return metrics


class EffectCounters:
    """What a code-driven node counts; times are seconds."""

    __slots__ = ("breakers", "failed", "in_flight", "retries", "seconds", "succeeded")

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.retries = 0
        self.in_flight = 0
        self.seconds = 0.0
        self.breakers: dict[str, ModelCircuitBreaker] = {}

    def snapshot(self) -> EffectMetrics:
        total = self.succeeded + self.failed
        return EffectMetrics(
            total_effects=total,
            successful_effects=self.succeeded,
            failed_effects=self.failed,
            retries=self.retries,
            active_effects=self.in_flight,
            success_rate=self.succeeded / total if total else 1.0,
            average_duration_ms=self.seconds * 1000 / total if total else 0.0,
            circuit_breakers={name: breaker.state.value for name, breaker in self.breakers.items()},
        )


class MixinCodeEffect:
    """Gives `process_code` to a class that has `_execute_effect(input_data, transaction)`."""

    container: object
    max_concurrent_effects: int = 10

    async def _execute_effect(
        self,
        input_data: ModelEffectInput,  # noqa: ARG002  # for those who override it
        transaction: object | None,  # noqa: ARG002  # as above
    ) -> dict[str, object]:
        """To be overridden: do the work, and return what `ModelEffectOutput.result` shall be, the very object.

        transaction: None when the input says `transaction_enabled: false`, else the attempt's transaction, to which
        `add_operation(name, data, rollback_fn)` adds what was done and how to undo it.
        """
        raise ModelOnexError(
            f"{type(self).__name__} has neither a contract nor a method _execute_effect; "
            "override `async def _execute_effect(self, input_data, transaction)`, or use NodeEffect.from_contract",
            EnumCoreErrorCode.CONFIGURATION_ERROR,
        )

    @property
    def _counters(self) -> EffectCounters:
        counters: EffectCounters | None = self.__dict__.get("_effect_counters")
        if counters is None:
            counters = self.__dict__["_effect_counters"] = EffectCounters()
        return counters

    async def process_code(self, input_data: ModelEffectInput) -> ModelEffectOutput:
        """Run `_execute_effect` under the switches of the input.

        Every exception but cancellation leaves as ModelOnexError with its cause; one that the user raised as such
        leaves as the same object.
        """
        loop = asyncio.get_running_loop()
        run = _Run(self, input_data, loop)
        counters = self._counters
        counters.in_flight += 1
        token = current_correlation_id.set(run.correlation_id)
        try:
            output = await run.to_its_end()
        except BaseException:
            counters.failed += 1
            raise
        else:
            counters.succeeded += 1
            return output
        finally:
            current_correlation_id.reset(token)
            counters.in_flight -= 1
            counters.retries += max(0, run.number - 1)
            counters.seconds += loop.time() - run.started

    def _breaker_of(self, input_data: ModelEffectInput) -> ModelCircuitBreaker | None:
        """One breaker per class and effect type, in the container's registry, or in an own one where there is none."""
        if not input_data.circuit_breaker_enabled:
            return None
        name = f"{type(self).__module__}.{type(self).__qualname__}/{input_data.effect_type.value}"
        breaker = self._counters.breakers.get(name)
        if breaker is None:
            breaker = self._breaker_registry().breaker(uuid5(NAMESPACE_OID, name), _BREAKER_DEFAULTS, name)
            self._counters.breakers[name] = breaker
        return breaker

    def _breaker_registry(self) -> BreakerRegistry:
        ask = getattr(self.container, "get_service_optional", None)
        found = ask("BreakerRegistry") if callable(ask) else None
        if isinstance(found, BreakerRegistry):
            return found
        own: BreakerRegistry = self.__dict__.setdefault("_own_breakers", BreakerRegistry())
        return own

    @asynccontextmanager
    async def _slot(self, loop: asyncio.AbstractEventLoop) -> AsyncIterator[None]:
        """One of `max_concurrent_effects` places; semaphores belong to a loop, nodes outlive loops."""
        slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        slots = self.__dict__.setdefault("_slots", WeakKeyDictionary())
        semaphore = slots.get(loop)
        if semaphore is None:
            semaphore = slots[loop] = asyncio.Semaphore(self.max_concurrent_effects)
        async with semaphore:
            yield


def _is_hopeless(fault: Fault) -> bool:
    error = fault.error
    cause = None if error is None else error.__cause__
    return fault.kind in _HOPELESS_KINDS or isinstance(error, _HOPELESS) or isinstance(cause, _HOPELESS)


class _Run:
    """One call of a code-driven node."""

    def __init__(self, node: MixinCodeEffect, input_data: ModelEffectInput, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.input = input_data
        self.loop = loop
        self.breaker = node._breaker_of(input_data)  # noqa: SLF001  # the two halves of one mixin
        self.started = loop.time()
        self.deadline = self.started + input_data.timeout_ms / 1000
        self.correlation_id: UUID = input_data.correlation_id or current_correlation_id.get() or uuid4()
        self.number = 0
        self.attempts: list[ModelEffectAttempt] = []
        self.last_failure: tuple[Exception, Fault, ModelEffectTransaction | None] | None = None
        container = node.container
        self.keeper = container.keep_abandoned if isinstance(container, ModelONEXContainer) else keep_in_loop

    async def to_its_end(self) -> ModelEffectOutput:
        while True:
            permit = self._permit()
            self.number += 1
            began = self.loop.time()
            transaction = ModelEffectTransaction(self.input.operation_id) if self.input.transaction_enabled else None
            try:
                result = await Cut(self._attempt(transaction), self.deadline, self.loop, self.keeper)
            except asyncio.CancelledError:
                self._tell_breaker(permit, None)
                if transaction is not None:
                    await transaction.rollback()
                raise
            except Exception as error:  # noqa: BLE001  # the attempt boundary: whatever a user's code raises
                fault = self._fault_of(error)
                self._tell_breaker(permit, fault)
                if transaction is not None:
                    await transaction.rollback()
                await self._go_on_or_raise(error, fault, transaction, began)
                continue
            self._tell_breaker(permit, _NO_FAULT)
            self._record(began, None, 0.0)
            return self._output(result)

    async def _attempt(self, transaction: ModelEffectTransaction | None) -> dict[str, object]:
        node = self.node
        async with node._slot(self.loop):  # noqa: SLF001  # the two halves of one mixin
            if transaction is None:
                return await node._execute_effect(self.input, None)  # noqa: SLF001  # the method that users override
            transaction.begin()
            result = await node._execute_effect(self.input, transaction)  # noqa: SLF001  # as above
            if transaction.state is EnumTransactionState.ACTIVE:
                await transaction.commit()
            return result

    def _permit(self) -> int | None:
        """Leave to make an attempt; an open breaker ends the call, with the last real error where there is one."""
        if self.breaker is None:
            return None
        permit = self.breaker.acquire()
        if permit is not None:
            return permit
        if self.last_failure is not None:
            raise self._error(*self.last_failure, EnumStopReason.BREAKER_OPEN)
        wait = self.breaker.refusal() or 0.0
        raise ModelOnexError(
            f"{self._name()}: the circuit breaker is open, nothing was done; it tries again in {wait:.3g} s",
            EnumCoreErrorCode.CIRCUIT_BREAKER_OPEN,
            {
                "effect_type": self.input.effect_type.value,
                "attempts": 0,
                "stop_reason": EnumStopReason.BREAKER_OPEN.value,
                "retry_in_s": wait,
            },
            self.correlation_id,
        )

    def _tell_breaker(self, permit: int | None, fault: Fault | None) -> None:
        """Codes that are never retried say nothing about the target: five missing files must not block the sixth."""
        if self.breaker is None or permit is None:
            return
        if fault is None or fault.code in NEVER_RETRIED or _is_hopeless(fault):
            self.breaker.release(permit)
        elif fault is _NO_FAULT:
            self.breaker.succeed(permit)
        else:
            self.breaker.fail(permit)

    def _fault_of(self, error: Exception) -> Fault:
        if isinstance(error, CutOffError):
            return Fault(
                f"no result within timeout_ms {self.input.timeout_ms}",
                EnumCoreErrorCode.TIMEOUT,
                EnumFaultPhase.AMBIGUOUS,
                "ETIMEDOUT",
                error=error,
            )
        fault = fault_of_error(error, _LISTS)
        if isinstance(error, FileNotFoundError):
            fault.code = EnumCoreErrorCode.NOT_FOUND
        return fault

    async def _go_on_or_raise(
        self, error: Exception, fault: Fault, transaction: ModelEffectTransaction | None, began: float
    ) -> None:
        """Wait for the next attempt, or raise what the caller gets."""
        reason = self._stop_reason(error, fault)
        delay_ms = 0.0
        if reason is None:
            delay_ms = self._delay_ms()
            if self.loop.time() + delay_ms / 1000 >= self.deadline:
                reason = EnumStopReason.DEADLINE
        self._record(began, fault, 0.0 if reason else delay_ms)
        self.last_failure = error, fault, transaction
        if reason is not None:
            raise self._error(error, fault, transaction, reason)
        _log.info("%s: attempt %d failed (%s), next in %.0f ms", self._name(), self.number, fault.code, delay_ms)
        await asyncio.sleep(delay_ms / 1000)

    def _stop_reason(self, error: Exception, fault: Fault) -> EnumStopReason | None:
        """None: once more. Explicit `retry_enabled=True` is the caller's word that repeating is safe."""
        if fault.code in NEVER_RETRIED or _is_hopeless(fault) or not self.input.retry_enabled:
            return EnumStopReason.NOT_RETRYABLE
        if isinstance(error, CutOffError):
            return EnumStopReason.DEADLINE
        explicit = "retry_enabled" in self.input.model_fields_set
        if not explicit and fault.phase in {EnumFaultPhase.AMBIGUOUS, EnumFaultPhase.DONE}:
            return EnumStopReason.NOT_IDEMPOTENT
        if not explicit and not fault.listed:
            return EnumStopReason.NOT_RETRYABLE
        return EnumStopReason.ATTEMPTS if self.number > self.input.max_retries else None

    def _delay_ms(self) -> float:
        """Exponential from `retry_delay_ms` with a tenth of jitter, at most 30 s before it."""
        delay = min(_CAP_MS, self.input.retry_delay_ms << min(self.number - 1, 20))
        return delay * (1 + 0.1 * (2 * random.random() - 1))  # noqa: S311  # jitter is no secret

    def _error(
        self, error: Exception, fault: Fault, transaction: ModelEffectTransaction | None, reason: EnumStopReason
    ) -> ModelOnexError:
        facts: dict[str, object] = {
            "effect_type": self.input.effect_type.value,
            "attempts": self.number,
            "stop_reason": reason.value,
        }
        if transaction is not None:
            facts["transaction_state"] = transaction.state.value
            if transaction.rollback_errors:
                facts["rollback_errors"] = [redact(f"{type(e).__name__}: {e}") for e in transaction.rollback_errors]
        if isinstance(error, ModelOnexError):
            for name, value in facts.items():
                error.context.setdefault(name, value)
            error.correlation_id = error.correlation_id or self.correlation_id
            return error
        made = ModelOnexError(f"{self._name()}: {redact(fault.message)}", fault.code, facts, self.correlation_id)
        made.__cause__ = error.__cause__ if isinstance(error, CutOffError) else error
        return made

    def _record(self, began: float, fault: Fault | None, delay_ms: float) -> None:
        now = self.loop.time()
        source = "backoff" if delay_ms else None
        record = attempt_record(self.number, began - self.started, now - began, fault, delay_ms, source)
        self.attempts.append(record)

    def _output(self, result: dict[str, object]) -> ModelEffectOutput:
        duration_ms = (self.loop.time() - self.started) * 1000
        operation = success_record(self.input.effect_type.value, duration_ms, self.attempts, {}, None)
        return trusted(
            ModelEffectOutput,
            {
                "correlation_id": self.correlation_id,
                "operation_id": self.input.operation_id,
                "operations": [operation],
                "failed_operation": None,
                "total_retry_count": self.number - 1,
                "total_duration_ms": duration_ms,
                "transaction_state": EnumTransactionState.COMMITTED,
                "execution_mode": EnumExecutionMode.SEQUENTIAL_ABORT,
                "subcontract_name": self._name(),
                "subcontract_version": "1.0.0",
                "timestamp": utc_now(),
                "result": result,
                "metadata": self.input.metadata,
            },
            _OUTPUT_FIELDS,
        )

    def _name(self) -> str:
        return type(self.node).__name__
