"""From a named connection to librdkafka's settings, and from its refusal to a sentence without secrets."""

import re

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.configuration.model_settings import ModelConnection

_OURS = {
    "acks": "the contract's `acks` decides",
    "request.required.acks": "the contract's `acks` decides",
    "enable.idempotence": "it is on when `acks` is all",
    "enable.gapless.guarantee": "an idempotent producer that meets a gap is replaced instead",
    "compression.type": "the contract's `compression` decides",
    "compression.codec": "the contract's `compression` decides",
    "delivery.timeout.ms": "the contract's `timeout_ms` decides",
    "message.timeout.ms": "the contract's `timeout_ms` decides",
    "retries": "an idempotent producer retries, others must not",
    "message.send.max.retries": "an idempotent producer retries, others must not",
    "bootstrap.servers": "the connection's url names the brokers",
    "metadata.broker.list": "the connection's url names the brokers",
    "transactional.id": "transactions are not supported",
    **dict.fromkeys(
        ("error_cb", "stats_cb", "throttle_cb", "oauth_cb", "on_delivery", "logger", "partitioner_cb"),
        "it is a function",
    ),
}
_ALIASES = {"linger.ms": "queue.buffering.max.ms"}
_SECRET_WORDS = ("password", "secret", "key", "pem", "token", "config", "certificate")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_DEFAULT_PORT = 9092


def brokers(connection_name: str, connection: ModelConnection) -> str:
    """The list of bootstrap servers from a url `kafka://host:port,host2:port`; ports default to 9092.

    CONFIGURATION_ERROR for anything else; the url is not quoted, because it may hold a password.
    """
    url = connection.url.get_secret_value()
    scheme, _, rest = url.partition("://")
    rest = rest.removesuffix("/")
    if scheme != "kafka" or "@" in rest or not all(map(_HOST.fullmatch, rest.split(","))):
        text = (
            f"connection {connection_name!r}: the url is not of the form kafka://host:port,host2:port (no user, path "
            "or query); credentials belong into the options sasl.username and sasl.password"
        )
        raise _configuration(text, connection_name)
    return ",".join(host if re.search(r":[0-9]+$", host) else f"{host}:{_DEFAULT_PORT}" for host in rest.split(","))


def producer_settings(
    connection_name: str, connection: ModelConnection, acks: str, compression: str, limit_ms: int
) -> dict[str, str]:
    """All settings of one producer as text."""
    for name in connection.options:
        if name in _OURS:
            text = f"connection {connection_name!r}: the option {name!r} cannot be set: {_OURS[name]}; remove it"
            raise _configuration(text, connection_name)
    given = {name: _text(value) for name, value in connection.options.items() if value is not None}
    defaults = {
        "linger.ms": "0",
        "reconnect.backoff.max.ms": "1000",
        "topic.metadata.propagation.max.ms": str(min(5_000, limit_ms // 2)),
    }
    settings = {n: value for n, value in defaults.items() if n not in given and _ALIASES.get(n) not in given} | given
    settings |= {
        "bootstrap.servers": brokers(connection_name, connection),
        "acks": acks,
        "enable.idempotence": "true" if acks == "all" else "false",
        "compression.type": compression,
        "message.timeout.ms": str(limit_ms),
    }
    if acks != "all":
        settings["message.send.max.retries"] = "0"
    return settings


def refused_settings(connection: ModelConnection, said: str) -> str:
    """What librdkafka said when it refused the settings, naming the option, with no value of a secret option in it."""
    for name, value in connection.options.items():
        text = _text(value)
        if text and any(word in name.lower() for word in _SECRET_WORDS):
            said = said.replace(text, "***")
    named = [repr(name) for name in connection.options if name in said or _ALIASES.get(name, name) in said]
    which = f"the option {', '.join(named)} was refused" if named else "the options were refused"
    return f"{which}: {said}; see librdkafka's CONFIGURATION.md for names and values"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _configuration(text: str, connection_name: str) -> ModelOnexError:
    return ModelOnexError(text, EnumCoreErrorCode.CONFIGURATION_ERROR, {"connection_name": connection_name})
