"""A `ModelContractEffect` as a subcontract and its input. What the program gives as a value stays a value."""

from collections.abc import Mapping
from typing import Final

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.model_contract_effect import ModelContractEffect
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract

_SQL: Final = frozenset({"select", "insert", "update", "delete", "upsert", "raw"})
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_FILES: Final = frozenset({"read", "write", "delete", "move", "copy"})
_PARAMETERS: Final = {
    "db": ("query", "parameters"),
    "http": ("url", "headers", "query", "body"),
    "kafka": ("topic", "payload", "key", "headers"),
    "filesystem": ("path", "content", "destination"),
}

Request = tuple[ModelEffectSubcontract, dict[str, object]]


def request_of(contract: ModelContractEffect) -> Request:
    """(subcontract, input). Raises VALIDATION_ERROR for an operation type or parameters that fit nothing."""
    if contract.subcontract is not None:
        return contract.subcontract, contract.input_data
    service, io = contract.external_service_config, contract.io_operation_config
    if service is None or io is None:
        raise ModelOnexError("the contract says neither what to do nor with whom", EnumCoreErrorCode.VALIDATION_ERROR)
    kind = _kind(io.operation_type, io.parameters)
    unknown = sorted(set(io.parameters) - set(_PARAMETERS[kind]))
    if unknown:
        raise ModelOnexError(
            f"{io.operation_type} takes the parameters {', '.join(_PARAMETERS[kind])}; "
            f"found {', '.join(unknown)} as well",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    config, data = _CONFIGS[kind](io.operation_type, io.parameters, service.connection_name)
    operation: dict[str, object] = {"operation_name": "request", "io_config": {"handler_type": kind, **config}}
    fields: dict[str, object] = {"subcontract_name": service.service_name[:100], "operations": [operation]}
    if contract.retry_config is not None:
        fields["default_retry_policy"] = contract.retry_config
    return ModelEffectSubcontract.model_validate(fields), data


def _kind(operation_type: str, parameters: Mapping[str, object]) -> str:
    if operation_type.lower() in _SQL and "query" in parameters and "url" not in parameters:
        return "db"
    if operation_type.upper() in _METHODS and "url" in parameters:
        return "http"
    if operation_type.lower() in {"produce", "publish"}:
        return "kafka"
    if operation_type.lower() in _FILES and "path" in parameters:
        return "filesystem"
    raise ModelOnexError(
        f"operation_type {operation_type!r} with parameters {', '.join(sorted(parameters)) or 'none'} is no "
        "SQL statement {query, parameters}, HTTP request {url, ...}, message {topic, payload} or file operation "
        "{path, ...}",
        EnumCoreErrorCode.VALIDATION_ERROR,
    )


def _literal(value: object) -> str:
    """A text in which nothing is a placeholder."""
    return str(value).replace("${", "$${")


def _literals(texts: object) -> dict[str, str]:
    if not isinstance(texts, Mapping):
        raise ModelOnexError(
            f"headers and query are maps of texts, found {type(texts).__name__}", EnumCoreErrorCode.VALIDATION_ERROR
        )
    return {str(name): _literal(text) for name, text in texts.items()}


def _db(
    operation_type: str, parameters: Mapping[str, object], connection: str | None
) -> tuple[dict[str, object], dict[str, object]]:
    values = parameters.get("parameters") or []
    if not isinstance(values, list | tuple):
        raise ModelOnexError(
            f"parameters of a query are a list for $1..$n, found {type(values).__name__}",
            EnumCoreErrorCode.VALIDATION_ERROR,
        )
    config: dict[str, object] = {
        "operation": operation_type,
        "connection_name": connection or "default",
        "query_template": parameters["query"],
        "query_params": [f"${{input.parameters.{index}:-null}}" for index in range(len(values))],
    }
    return config, {"parameters": list(values)}


def _http(
    operation_type: str, parameters: Mapping[str, object], _connection: str | None
) -> tuple[dict[str, object], dict[str, object]]:
    config: dict[str, object] = {
        "method": operation_type.upper(),
        "url_template": _literal(parameters["url"]),
        "headers": _literals(parameters.get("headers", {})),
        "query_params": _literals(parameters.get("query", {})),
    }
    if "body" in parameters:
        config["body_template"] = "${input.body:-null}"
    elif config["method"] in {"POST", "PUT", "PATCH"}:
        config["body_template"] = ""
    return config, {"body": parameters.get("body")}


def _kafka(
    _operation_type: str, parameters: Mapping[str, object], connection: str | None
) -> tuple[dict[str, object], dict[str, object]]:
    config: dict[str, object] = {
        "topic": parameters.get("topic", ""),
        "payload_template": "${input.payload:-null}",
        "headers": _literals(parameters.get("headers", {})),
        "connection_name": connection or "default",
    }
    if parameters.get("key") is not None:
        config["partition_key_template"] = "${input.key}"
    return config, {"payload": parameters.get("payload"), "key": parameters.get("key")}


def _file(
    operation_type: str, parameters: Mapping[str, object], _connection: str | None
) -> tuple[dict[str, object], dict[str, object]]:
    config: dict[str, object] = {
        "operation": operation_type.lower(),
        "file_path_template": _literal(parameters["path"]),
    }
    if "destination" in parameters:
        config["destination_path_template"] = _literal(parameters["destination"])
    if "content" in parameters:
        config["content_template"] = "${input.content}"
    return config, {"content": parameters.get("content")}


_CONFIGS: Final = {"db": _db, "http": _http, "kafka": _kafka, "filesystem": _file}
