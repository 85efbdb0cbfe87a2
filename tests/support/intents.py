"""Short ways to say intents, and a container that keeps what is its own in a directory of the test."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue, SecretStr

from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.models.configuration.model_settings import ModelConnection, ModelPolicy, ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.nodes.intent_executor import IntentExecutor
from omnibase_core.protocols.protocol_intent_handler import IntentDone
from omnibase_spi.bootstrap import register_effect_handlers
from omnibase_spi.ledger_memory import MemoryIntentLedger


def container_in(directory: Path, policy: ModelPolicy | None = None, **urls: str) -> ModelONEXContainer:
    connections = {name: ModelConnection(url=SecretStr(url)) for name, url in urls.items()}
    container = ModelONEXContainer()
    settings = ModelSettings(
        data_dir=directory, connections=connections, policy=policy or ModelPolicy(file_roots=(directory,))
    )
    register_effect_handlers(container, settings)
    return container


def intent(kind: str, target: str = "t", payload: JsonValue = None, **fields: object) -> ModelIntent:
    return ModelIntent.model_validate({"intent_type": kind, "target": target, "payload": payload, **fields})


async def execute(container: ModelONEXContainer, *intents: ModelIntent) -> list[IntentExecutionResult]:
    return await IntentExecutor(container).execute_intents(intents)


async def one(
    container: ModelONEXContainer, kind: str, target: str, payload: JsonValue, **fields: object
) -> IntentExecutionResult:
    return (await execute(container, intent(kind, target, payload, **fields)))[0]


def statuses(results: Sequence[IntentExecutionResult]) -> list[EnumIntentStatus]:
    return [result.status for result in results]


class ScriptedRoute:
    """A handler that answers from a script: what is raised, or a result; the last answer stays."""

    def __init__(
        self, *answers: JsonValue | BaseException, idempotent: bool = False, retries_itself: bool = False
    ) -> None:
        self._answers = list(answers) or [None]
        self._idempotent = idempotent
        self.retries_itself = retries_itself
        self.database: str | None = None
        self.seen: list[ModelIntent] = []

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        return self._idempotent

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        return self.database

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        answer = self._answers[min(len(self.seen), len(self._answers) - 1)]
        self.seen.append(intent)
        if isinstance(answer, BaseException):
            raise answer
        return IntentDone(answer)


class SharedLedger(MemoryIntentLedger):
    """A ledger whose transactions roll back, and may lose the answer to COMMIT."""

    def __init__(self, *, lost_answers: int = 0, transactions: int = 100) -> None:
        super().__init__()
        self.lost_answers = lost_answers
        self.transactions = transactions

    def transaction(self, connection_name: str) -> "SharedLedger | None":
        self.transactions -= 1
        return self if connection_name == "main" and self.transactions >= 0 else None

    async def __aenter__(self) -> None:
        self._before = dict(self._entries)

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is not None:
            self._entries = self._before
        elif self.lost_answers:
            self.lost_answers -= 1
            raise EffectFault("lost", error_kind="ECONNRESET")
