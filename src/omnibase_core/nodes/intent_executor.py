"""The EFFECT node that carries intents out (section 4.4).

With an idempotency key: the ledger is asked first, the intent runs, the outcome is written. Where the effect is a write
to the ledger's own database, entry and write commit in one transaction, so that there is no moment between them.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus, EnumLedgerState
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import shown_target
from omnibase_core.mixins.effect_binding import Container
from omnibase_core.mixins.intent_attempts import DEFAULT_POLICY, Attempted, attempt, attempt_once
from omnibase_core.mixins.intent_entry import begin_entry, finish_entry, leave_entry, take_entry_over
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute, ModelIntentRoutes
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.nodes.node_effect import NodeEffect
from omnibase_core.protocols.protocol_intent_handler import IntentDone, ProtocolIntentHandler
from omnibase_core.protocols.protocol_intent_ledger import LedgerEntry, LedgerOutcome, ProtocolIntentLedger

_RUNNING: Final = EnumLedgerState.RUNNING
_UNKNOWN: Final = EnumLedgerState.UNKNOWN
_COMPLETED: Final = EnumLedgerState.COMPLETED
_FAILED: Final = EnumLedgerState.FAILED

IntentFunction = Callable[[ModelIntent], Awaitable[object]]


class IntentExecutor(NodeEffect):
    """Carries intents out, by priority; the results are in execution order.

    Routes: what `register` was given, then the rows of the container's `ModelIntentRoutes`, then the type's default.
    The ledger is the container's `ProtocolIntentLedger`. max_concurrency: intents of one priority that run at once;
    never two priorities. limit_s: what one intent may take with all its attempts.
    """

    def __init__(
        self,
        container: Container | None = None,
        *,
        max_concurrency: int = 4,
        limit_s: float = 300.0,
    ) -> None:
        super().__init__(container)
        if max_concurrency < 1 or limit_s <= 0:
            raise ModelOnexError(
                f"an IntentExecutor needs max_concurrency >= 1 and limit_s > 0, found {max_concurrency} and {limit_s}",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        self.max_concurrency = max_concurrency
        self.limit_s = limit_s
        self._registered: list[tuple[ModelIntentRoute, ProtocolIntentHandler]] = []
        self._in_flight: dict[str, asyncio.Event] = {}
        self._handlers: dict[str, ProtocolIntentHandler] = {}
        self._ledger: ProtocolIntentLedger | None = None
        """Services that were found to keep to their protocols, which takes longer to see than to route an intent."""

    def register(
        self,
        intent_type: str,
        target: str,
        handler: ProtocolIntentHandler | IntentFunction,
        *,
        idempotent: bool = False,
    ) -> None:
        """Route intents to a handler, or to a coroutine function that takes the intent and returns what JSON can hold.

        target: exact or a pattern, as in the table. The latest registration that fits counts. idempotent: of a
        function; a handler knows itself.
        """
        route = ModelIntentRoute(intent_type=intent_type, target=target)
        known = handler if isinstance(handler, ProtocolIntentHandler) else _Function(handler, idempotent=idempotent)
        self._registered.insert(0, (route, known))

    async def _execute_effect(self, input_data: ModelEffectInput, transaction: object | None) -> dict[str, object]:
        """As a node: `operation_data.intents`, and `stop_on_failure`; the result has `results`."""
        del transaction  # what was carried out is in the ledger
        given = input_data.operation_data.get("intents")
        if not isinstance(given, list):
            raise ModelOnexError(
                f"operation_data.intents is a list of intents, found {type(given).__name__}",
                EnumCoreErrorCode.VALIDATION_ERROR,
            )
        intents = [ModelIntent.model_validate(intent) for intent in given]
        stop = input_data.operation_data.get("stop_on_failure") is True
        return {"results": await self.execute_intents(intents, stop_on_failure=stop)}

    async def execute_intents(
        self, intents: Sequence[ModelIntent], *, stop_on_failure: bool = False
    ) -> list[IntentExecutionResult]:
        """Carry them out; a failure is in its result and does not stop the others, unless asked.

        stop_on_failure: what has not begun when one failed is SKIPPED. Cancellation passes; intents that it interrupts
        are UNKNOWN in the ledger, those that it kept from running may run again at once. Not to be called inside an
        open transaction on the ledger's connection: what it carried out could be rolled back in the ledger, but not in
        the world. Store intents in an outbox there.
        """
        results: list[IntentExecutionResult] = []
        ordered = sorted(intents, key=lambda intent: intent.priority.rank)
        failed = False
        for _, group in groupby(ordered, key=lambda intent: intent.priority):
            batch = list(group)
            found: list[IntentExecutionResult | None] = [None] * len(batch)
            waiting = iter(range(len(batch)))

            async def work(
                batch: list[ModelIntent] = batch,
                found: list[IntentExecutionResult | None] = found,
                waiting: Iterator[int] = waiting,
            ) -> None:
                nonlocal failed
                for index in waiting:
                    if stop_on_failure and failed:
                        return
                    found[index] = done = await self._execute(batch[index])
                    failed = failed or done.status is EnumIntentStatus.FAILED

            if self.max_concurrency == 1 or len(batch) == 1:
                await work()
            else:
                async with asyncio.TaskGroup() as tasks:
                    for _worker in range(min(self.max_concurrency, len(batch))):
                        tasks.create_task(work())
            results += [
                done or IntentExecutionResult(intent_id=intent.intent_id, status=EnumIntentStatus.SKIPPED)
                for intent, done in zip(batch, found, strict=True)
            ]
        return results

    async def _execute(self, intent: ModelIntent) -> IntentExecutionResult:
        started = asyncio.get_running_loop().time()
        try:
            result = await self._routed(intent)
        except ModelOnexError as error:  # no route, or a ledger that does not answer
            result = _failed(intent, error.message, error.error_code, 0)
        duration_ms = (asyncio.get_running_loop().time() - started) * 1000
        return result.model_copy(update={"duration_ms": duration_ms})

    async def _routed(self, intent: ModelIntent) -> IntentExecutionResult:
        job = self._job(intent)
        key = intent.idempotency_key
        if key is None:
            return _result(intent, await job.run(self.limit_s))
        while key in self._in_flight:
            await self._in_flight[key].wait()
        self._in_flight[key] = asyncio.Event()
        try:
            ledger = self._the_ledger()
            opening = None if job.database is None else ledger.transaction(job.database)
            if opening is not None:
                return await self._in_one_transaction(ledger, key, job)
            return await self._in_two_steps(ledger, key, job)
        finally:
            self._in_flight.pop(key).set()

    def _job(self, intent: ModelIntent) -> "_Job":
        for route, handler in self._registered:
            if route.fits(intent.intent_type, intent.target):
                return _Job(intent, route, handler)
        table = self.container.get_service_optional("ModelIntentRoutes")
        routes = table if isinstance(table, ModelIntentRoutes) else ModelIntentRoutes()
        route = routes.route_of(intent.intent_type, intent.target)
        name = "IntentHandler:contract" if route.contract else f"IntentHandler:{intent.intent_type}"
        found = self.container.get_service_optional(name)
        known = self._handlers.get(name)
        if known is not None and known is found:
            return _Job(intent, route, known)
        if not isinstance(found, ProtocolIntentHandler):
            raise ModelOnexError(
                f"intent {intent.intent_type!r} to {shown_target(intent.target)!r}: no route; add a row to the routing "
                "table (intent_type, target, contract), or executor.register(intent_type, target, handler)",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        self._handlers[name] = found
        return _Job(intent, route, found)

    def _the_ledger(self) -> ProtocolIntentLedger:
        found = self.container.get_service_optional("ProtocolIntentLedger")
        if self._ledger is not None and self._ledger is found:
            return self._ledger
        if not isinstance(found, ProtocolIntentLedger):
            raise ModelOnexError(
                "an intent with an idempotency_key needs a ledger; register one as ProtocolIntentLedger",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        self._ledger = found
        return found

    async def _in_one_transaction(self, ledger: ProtocolIntentLedger, key: str, job: "_Job") -> IntentExecutionResult:
        """Entry and write commit together, so an attempt whose answer was lost may be repeated: it finds its entry."""
        standing: LedgerEntry | None = None

        async def work() -> IntentDone:
            nonlocal standing
            opening = ledger.transaction(job.database or "")
            if opening is None:
                raise ModelOnexError("the ledger is kept elsewhere now", EnumCoreErrorCode.CONFLICT)
            async with opening:
                standing = await ledger.begin(key, job.intent)
                if standing is not None:
                    return IntentDone()
                done = await job.carry_out()
                await ledger.finish(key, LedgerOutcome(_COMPLETED, done.result, None, done.attempts))
                return done

        attempted = await attempt(work, job.policy, idempotent=True, limit_s=self.limit_s)
        entry: LedgerEntry | None = standing
        if entry is None:
            if attempted.done is None and not attempted.unknown and await begin_entry(ledger, key, job.intent) is None:
                await finish_entry(ledger, key, LedgerOutcome(_FAILED, None, attempted.error, attempted.attempts))
            return _result(job.intent, attempted)
        if entry.intent.intent_id == job.intent.intent_id and attempted.attempts > 1:
            return _result(job.intent, Attempted(IntentDone(entry.outcome.result), attempted.attempts))
        return await self._standing(ledger, key, job, entry)

    async def _in_two_steps(self, ledger: ProtocolIntentLedger, key: str, job: "_Job") -> IntentExecutionResult:
        standing = await begin_entry(ledger, key, job.intent)
        return await (self._begun(ledger, key, job) if standing is None else self._standing(ledger, key, job, standing))

    async def _standing(
        self, ledger: ProtocolIntentLedger, key: str, job: "_Job", entry: LedgerEntry
    ) -> IntentExecutionResult:
        """The key has an entry."""
        outcome = entry.outcome
        if outcome.state in {_COMPLETED, _FAILED}:
            return IntentExecutionResult(
                intent_id=job.intent.intent_id,
                status=EnumIntentStatus.DUPLICATE,
                result=outcome.result,
                error=outcome.error,
            )
        if outcome.state is _RUNNING:
            message = f"idempotency key {key!r} is being carried out by another executor; ask again later"
            return _failed(job.intent, message, EnumCoreErrorCode.CONFLICT, 0)
        if not job.idempotent:
            message = (
                f"idempotency key {key!r} was begun and nobody knows how it ended; repeating it could double the "
                "effect. Look, then say onex intents settle"
            )
            return _failed(job.intent, message, EnumCoreErrorCode.OUTCOME_UNKNOWN, 0)
        if not await take_entry_over(ledger, entry):
            message = f"idempotency key {key!r} was taken by another executor at this moment; ask again later"
            return _failed(job.intent, message, EnumCoreErrorCode.CONFLICT, 0)
        return await self._begun(ledger, key, job)

    async def _begun(self, ledger: ProtocolIntentLedger, key: str, job: "_Job") -> IntentExecutionResult:
        try:
            attempted = await job.run(self.limit_s)
        except BaseException:
            await leave_entry(ledger, key)
            raise
        if attempted.done is not None:
            outcome = LedgerOutcome(_COMPLETED, attempted.done.result, None, attempted.attempts)
        else:
            state = _UNKNOWN if attempted.unknown else _FAILED
            outcome = LedgerOutcome(state, None, attempted.error, attempted.attempts)
        result = _result(job.intent, attempted)
        try:
            await finish_entry(ledger, key, outcome)
        except ModelOnexError as error:
            message = f"{result.error or 'carried out'}; but the ledger did not take the outcome: {error.message}"
            return result.model_copy(update={"error": message})
        return result


class _Job:
    """An intent with its route and its handler."""

    __slots__ = ("_handler", "_route", "database", "idempotent", "intent", "policy")

    def __init__(self, intent: ModelIntent, route: ModelIntentRoute, handler: ProtocolIntentHandler) -> None:
        if intent.retry_policy is None and route.retry_policy is not None:
            intent = intent.model_copy(update={"retry_policy": route.retry_policy})
        self.intent = intent
        self._route = route
        self._handler = handler
        self.policy = intent.retry_policy or DEFAULT_POLICY
        self.idempotent = handler.is_idempotent(intent, route) if route.idempotent is None else route.idempotent
        self.database = handler.database_of(intent, route)

    async def carry_out(self) -> IntentDone:
        return await self._handler.carry_out(self.intent, self._route)

    async def run(self, limit_s: float) -> Attempted:
        if self._handler.retries_itself:
            return await attempt_once(self.carry_out, idempotent=self.idempotent, limit_s=limit_s)
        return await attempt(self.carry_out, self.policy, idempotent=self.idempotent, limit_s=limit_s)


class _Function:
    """A coroutine function as a handler."""

    retries_itself = False

    def __init__(self, function: IntentFunction, *, idempotent: bool) -> None:
        self._function = function
        self._idempotent = idempotent

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del intent, route
        return self._idempotent

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        del intent, route
        return None

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        del route
        found: object = self._function(intent)
        result = await found if inspect.isawaitable(found) else found
        return IntentDone(_as_json(result))


def _as_json(result: object) -> JsonValue:
    """What a function gave. It has done its work, so whatever has no JSON is told as text."""
    plain: JsonValue = to_jsonable_python(result, inf_nan_mode="null", fallback=str)
    return plain


def _result(intent: ModelIntent, attempted: Attempted) -> IntentExecutionResult:
    if attempted.done is None:
        return _failed(intent, attempted.error or "", attempted.code, attempted.attempts)
    return IntentExecutionResult(
        intent_id=intent.intent_id,
        status=EnumIntentStatus.COMPLETED,
        result=attempted.done.result,
        attempts=attempted.attempts,
    )


def _failed(intent: ModelIntent, message: str, code: EnumCoreErrorCode | None, attempts: int) -> IntentExecutionResult:
    return IntentExecutionResult(
        intent_id=intent.intent_id,
        status=EnumIntentStatus.FAILED,
        error=message,
        error_code=code,
        attempts=attempts,
    )
