"""The default routes of intents that the effect engine carries out: HTTP, files, events, contracts of the table.

What an intent brings are values: nothing in them is a template.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid5

from pydantic import JsonValue, ValidationError

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import shown_target
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute
from omnibase_core.models.contracts.subcontracts.effect_retry_config import IDEMPOTENCY_DEFAULTS, ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.models.model_effect_input import ModelEffectInput
from omnibase_core.models.model_effect_output import ModelEffectOutput
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.nodes.node_effect import NodeEffect
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.protocols.protocol_intent_handler import IntentDone

_NAMESPACE: Final = UUID("5f2c1a9e-6f0b-5d0e-8a0c-3a8e6f1f3b11")
_PATH_SAFE: Final = "/:@!$&'()*+,;=-._~"
_INVALID: Final = EnumCoreErrorCode.VALIDATION_ERROR
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_MAX_NODES: Final = 256
"""Shapes of intents that a route keeps the plans of; the oldest goes first."""
_FILE_KEYS: Final = {"write": ("content",), "move": ("destination",), "copy": ("destination",)}
"""What an operation on a file needs beside its path; no other takes it."""
_ONCE: Final = ModelEffectRetryPolicy(enabled=False)
_is_plain: Final = re.compile(r"[A-Za-z0-9_~-]+").fullmatch


def event_id(intent: ModelIntent) -> UUID:
    """The same for every attempt to carry the intent, or another of its key, out."""
    return intent.intent_id if intent.idempotency_key is None else uuid5(_NAMESPACE, intent.idempotency_key)


def place_of(intent: ModelIntent) -> str:
    """Type and target for messages, in which a URL shows no password."""
    return f"{intent.intent_type} to {shown_target(intent.target)!r}"


def payload_of(intent: ModelIntent, *allowed: str) -> dict[str, JsonValue]:
    """The payload as a map with these keys; VALIDATION_ERROR otherwise."""
    if not isinstance(intent.payload, dict):
        raise ModelOnexError(
            f"{place_of(intent)}: the payload is a map of {', '.join(allowed)}; found {type(intent.payload).__name__}",
            _INVALID,
        )
    unknown = sorted(set(intent.payload) - set(allowed))
    if unknown:
        raise ModelOnexError(
            f"{place_of(intent)}: payload key {unknown[0]!r} is unknown; allowed: {', '.join(allowed)}",
            _INVALID,
        )
    return intent.payload


def choice_of(intent: ModelIntent, payload: dict[str, JsonValue], key: str, allowed: tuple[str, ...]) -> str:
    """A word of the payload out of a closed list."""
    found = payload.get(key)
    if isinstance(found, str) and found in allowed:
        return found
    raise ModelOnexError(f"{place_of(intent)}: {key} is {found!r}; allowed: {', '.join(allowed)}", _INVALID)


class EngineRoute:
    """What the handlers that run on the effect engine share: it repeats, breaks and limits as for any contract.

    Intents of one shape share a node, so that the contract is compiled once: what differs between them is its input.
    """

    retries_itself = True

    def __init__(self, container: ModelONEXContainer) -> None:
        self._container = container
        self._nodes: dict[Hashable, NodeEffect] = {}

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        del intent, route
        return None

    async def _run(
        self,
        intent: ModelIntent,
        shape: Hashable,
        config: dict[str, object],
        data: dict[str, object],
        extract: tuple[str, ...] = (),
    ) -> IntentDone:
        """Carry out the one operation of `config` on `data`. shape: all that `config` is made of. extract: names in the
        answer that become the result.
        """
        policy = intent.retry_policy
        key = (intent.intent_type, shape, None if policy is None else policy.model_dump_json())
        node = self._nodes.get(key)
        if node is None:
            node = NodeEffect(self._container)
            node.effect_subcontract = _subcontract(intent, config, extract)
            if len(self._nodes) >= _MAX_NODES:
                del self._nodes[next(iter(self._nodes))]
            self._nodes[key] = node
        output = await node.process(_input(intent, data))
        done = _done(output)
        return IntentDone({**output.operations[0].extracted_fields}, done.attempts) if extract else done


def _subcontract(intent: ModelIntent, config: dict[str, object], extract: tuple[str, ...]) -> ModelEffectSubcontract:
    operation: dict[str, object] = {"operation_name": "request", "io_config": config}
    if extract:
        operation["response_handling"] = {"extract_fields": {name: f"$.{name}" for name in extract}}
    fields: dict[str, object] = {
        "subcontract_name": f"intent_{intent.intent_type}"[:100],
        "operations": [operation],
    }
    if intent.retry_policy is not None:
        fields["default_retry_policy"] = intent.retry_policy
    try:
        return ModelEffectSubcontract.model_validate(fields)
    except ValidationError as error:
        raise _refused(intent, error) from None


def _literal(text: str) -> str:
    """A text in which nothing is a placeholder."""
    return text.replace("${", "$${")


def _texts(intent: ModelIntent, what: str, given: JsonValue) -> dict[str, str]:
    if given is None:
        return {}
    if isinstance(given, dict):
        return {name: str(value) for name, value in given.items()}
    raise ModelOnexError(f"{place_of(intent)}: {what} is a map of texts, found {type(given).__name__}", _INVALID)


class ApiCallRoute(EngineRoute):
    """`{method, path?, body?, headers?, query?}`; target: a named connection, whose URL is the base, or a URL.

    The host of a URL is data: private addresses are refused unless the operator's policy names them. An idempotency key
    is sent as `Idempotency-Key`. The result has the status.
    """

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del route
        method = intent.payload.get("method") if isinstance(intent.payload, dict) else None
        return IDEMPOTENCY_DEFAULTS["http"].get(str(method).upper(), False)

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        payload = payload_of(intent, "method", "path", "body", "headers", "query")
        given = payload.get("method")
        method = choice_of(
            intent,
            {"method": given.upper() if isinstance(given, str) else given},
            "method",
            tuple(IDEMPOTENCY_DEFAULTS["http"]),
        )
        headers = _texts(intent, "headers", payload.get("headers"))
        if intent.idempotency_key is not None and not any(name.lower() == "idempotency-key" for name in headers):
            headers = {"Idempotency-Key": intent.idempotency_key, **headers}
        query = _texts(intent, "query", payload.get("query"))
        base, from_data = self._base(intent, route.connection or intent.target)
        path, segments = _path(intent, base, payload.get("path"))
        data: dict[str, object] = {
            "headers": list(headers.values()),
            "query": list(query.values()),
            "segments": segments,
            "body": payload.get("body"),
        }
        config: dict[str, object] = {
            "handler_type": "http",
            "method": method,
            "url_template": _literal(base) + path,
            "headers": {name: f"${{input.headers.{index}}}" for index, name in enumerate(headers)},
            "query_params": {name: f"${{input.query.{index}}}" for index, name in enumerate(query)},
        }
        if "body" in payload:
            config["body_template"] = "${input.body:-null}"
        elif method in _WITH_BODY:
            config["body_template"] = ""
        if from_data:
            _host_as_data(intent, config, data)
        shape = (method, base, path, tuple(headers), tuple(query), "body" in payload, from_data)
        return await self._run(intent, shape, config, data)

    def _base(self, intent: ModelIntent, target: str) -> tuple[str, bool]:
        connection = self._container.get_service(ModelSettings).connections.get(target)
        if connection is not None:
            url = connection.url.get_secret_value()
            if url.startswith(("http://", "https://")):
                return url, False
            raise ModelOnexError(
                f"{intent.intent_type}: connection {target!r} is no http:// or https:// URL",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        if target.startswith(("http://", "https://")):
            return target, True
        shown = shown_target(target)
        fix = f"; add [connections.{target}] with a url to the settings" if shown == target else ""
        raise ModelOnexError(
            f"{intent.intent_type}: target {shown!r} is neither a named connection nor an http:// or https:// URL{fix}",
            EnumCoreErrorCode.RESOURCE_UNAVAILABLE,
        )


def _path(intent: ModelIntent, base: str, path: JsonValue) -> tuple[str, list[str]]:
    """The template of a path and its values: plain segments, such as ids, so that paths of one shape share a plan."""
    if path is None:
        return "", []
    parts = path.split("/") if isinstance(path, str) else []
    if not isinstance(path, str) or "?" in base or "#" in base or {".", ".."} & set(parts):
        raise ModelOnexError(
            f"{place_of(intent)}: path is a text below a URL without a query, and has no "
            f"segments '.' or '..'; found {path!r}",
            _INVALID,
        )
    joint = "" if base.endswith("/") else "/"
    pieces: list[str] = []
    segments: list[str] = []
    for segment in path.removeprefix("/").split("/"):
        if _is_plain(segment):
            pieces.append(f"${{input.segments.{len(segments)}}}")
            segments.append(segment)
        else:
            pieces.append(_literal(quote(segment, safe=_PATH_SAFE)))
    return joint + "/".join(pieces), segments


def _host_as_data(intent: ModelIntent, config: dict[str, object], data: dict[str, object]) -> None:
    """The same request, with a host that the guard judges like any other that a contract was given."""
    url = str(config["url_template"])
    host = urlsplit(url).netloc
    if "@" in host or "$" in host:
        raise ModelOnexError(f"{intent.intent_type}: a target URL holds no user, password or '$'", _INVALID)
    scheme, _, rest = url.partition("://")
    config["url_template"] = f"{scheme}://${{input.host}}{rest[len(host) :]}"
    config["allowed_hosts"] = [host]
    data["host"] = host


class FileRoute(EngineRoute):
    """`{operation write/delete/move/copy/read, path?, content?, destination?}`; target: the path, under the roots.

    The result of a read has the `content`.
    """

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del route
        operation = intent.payload.get("operation") if isinstance(intent.payload, dict) else None
        return IDEMPOTENCY_DEFAULTS["filesystem"].get(str(operation), False)

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        del route
        payload = payload_of(intent, "operation", "path", "content", "destination")
        operation = choice_of(intent, payload, "operation", tuple(IDEMPOTENCY_DEFAULTS["filesystem"]))
        needed = _FILE_KEYS.get(operation, ())
        payload_of(intent, "operation", "path", *needed)
        for key in needed:
            if key not in payload:
                raise ModelOnexError(f"{place_of(intent)}: {operation} needs {key}", _INVALID)
        path = str(payload.get("path") or intent.target)
        config: dict[str, object] = {"handler_type": "filesystem", "operation": operation}
        data: dict[str, object] = {}
        for name, key, value in (
            ("file_path_template", "path", path),
            ("destination_path_template", "destination", payload.get("destination")),
        ):
            if value is not None:
                fits = isinstance(value, str) and value and ".." not in value and "\0" not in value
                config[name] = f"${{input.{key}}}" if fits else _literal(str(value))
                data[key] = value
        if "content" in payload:
            config["content_template"] = "${input.content}"
            data["content"] = payload["content"]
        extract = ("content",) if operation == "read" else ()
        return await self._run(intent, tuple(config.items()), config, data, extract)


class ContractRoute(EngineRoute):
    """An effect contract of the routing table.

    Its input has `payload`, `target`, `intent_id`, `intent_type`, `idempotency_key`. Idempotent only when the route
    says so.
    """

    def __init__(self, container: ModelONEXContainer) -> None:
        super().__init__(container)
        self._files: dict[str, NodeEffect] = {}

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del intent, route
        return False

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        file = route.contract or ""
        node = self._files.get(file)
        if node is None:
            node = self._files[file] = NodeEffect.from_contract(self._container, Path(file))
        data: dict[str, object] = {
            "payload": intent.payload,
            "target": intent.target,
            "intent_id": str(intent.intent_id),
            "intent_type": str(intent.intent_type),
            "idempotency_key": intent.idempotency_key,
        }
        output = await node.process(_input(intent, data))
        if output.failed_operation is not None:  # a continuing mode does not raise
            failed = next(done for done in output.operations if done.operation_name == output.failed_operation)
            raise ModelOnexError(
                f"contract {output.subcontract_name!r}, operation {failed.operation_name!r}: {failed.error_message}",
                failed.error_code,
            )
        return _done(output)


class PublishRoute(EngineRoute):
    """The payload as an event of type `target` on the container's bus; with `via: kafka` as a message to that topic.

    The event's id is that of the intent's key, so that a bus, and consumers who look, take it once.
    """

    retries_itself = False

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        del intent
        return route.via is None

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        if route.via == "kafka":
            config: dict[str, object] = {
                "handler_type": "kafka",
                "topic": intent.target,
                "connection_name": route.connection or "default",
                "payload_template": "${input.payload:-null}",
                "headers": {"onex-event-id": "${input.event_id}"},
            }
            data: dict[str, object] = {"payload": intent.payload, "event_id": str(event_id(intent))}
            once = intent.model_copy(update={"retry_policy": _ONCE})
            return await self._run(once, (intent.target, route.connection), config, data)
        bus = self._container.get_service("ProtocolEventBus")
        if not isinstance(bus, ProtocolEventBus):
            raise ModelOnexError("message_publish needs a ProtocolEventBus", EnumCoreErrorCode.CONFIGURATION_ERROR)
        event = ModelEventEnvelope[JsonValue](
            event_type=intent.target,
            payload=intent.payload,
            envelope_id=event_id(intent),
            correlation_id=intent.correlation_id,
            source="/onex/intents",
        )
        await bus.publish(event)
        return IntentDone({"envelope_id": str(event.envelope_id)})


def _input(intent: ModelIntent, data: dict[str, object]) -> ModelEffectInput:
    return ModelEffectInput(operation_data=data, operation_id=event_id(intent), correlation_id=intent.correlation_id)


def _done(output: ModelEffectOutput) -> IntentDone:
    """Extracted fields, and the status of the last operation that had one."""
    result: dict[str, JsonValue] = {}
    for done in output.operations:
        if done.extracted_fields:
            result[done.operation_name] = dict(done.extracted_fields)
        if done.status_code is not None:
            result["status_code"] = done.status_code
    return IntentDone(result, output.total_retry_count + 1)


def _refused(intent: ModelIntent, error: ValidationError) -> ModelOnexError:
    first = error.errors(include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return ModelOnexError(f"{place_of(intent)}: {where}: {first['msg']}", _INVALID)
