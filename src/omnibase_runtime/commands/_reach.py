"""What a contract reaches: connections and their drivers, hosts, names of variables and secrets, file roots."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from omnibase_core.logging.redaction import masked_url
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    EffectIOConfig,
    ModelDbIOConfig,
    ModelHttpIOConfig,
    ModelKafkaIOConfig,
)
from omnibase_core.utils.effect_plan import EffectPlan
from omnibase_runtime.settings import BUILT_IN, LoadedSettings

if TYPE_CHECKING:
    from pydantic import JsonValue

_EMBEDDED: Final = frozenset({"default", "embedded"})
_DRIVERS: Final = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "kafka": "kafka",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """A named connection as it is set up. `family`: `db` or `kafka`. `problem`: why it cannot be used, or empty."""

    name: str
    family: str
    driver: str
    target: str
    source: str
    problem: str = ""

    def as_json(self) -> "JsonValue":
        return {
            "name": self.name,
            "family": self.family,
            "driver": self.driver,
            "target": self.target,
            "source": self.source,
            "problem": self.problem or None,
        }


def connection(name: str, family: str, loaded: LoadedSettings) -> Connection:
    """The connection of that name; without settings only the embedded database exists."""
    settings = loaded.settings
    known = settings.connections.get(name)
    if known is None and name in _EMBEDDED and family == "db":
        return Connection(name, family, "sqlite", str(settings.data_dir / "embedded.db"), BUILT_IN)
    if known is None:
        fix = f"add [connections.{name}] with a url to the settings, or set ONEX_CONNECTIONS__{name.upper()}__URL"
        return Connection(name, family, "", "", "", f"not set up: {fix}")
    url = known.url.get_secret_value()
    driver = _DRIVERS.get(url.partition(":")[0].lower(), "")
    problem = ""
    if not driver or (driver == "kafka") != (family == "kafka"):
        allowed = "kafka://" if family == "kafka" else "postgresql://, mysql:// or sqlite:///"
        problem = f"the operation is {family}, so its url must begin with {allowed}"
    return Connection(name, family, driver, masked_url(url), loaded.sources.get(f"connections.{name}.url", ""), problem)


def connections_of(plan: EffectPlan, loaded: LoadedSettings) -> list[Connection]:
    """The connections of a contract, each once, in the order of their use."""
    keys = dict.fromkeys(key for op in plan.subcontract.operations if (key := _key(op.io_config)) is not None)
    return [connection(name, family, loaded) for name, family in keys]


def connection_used_by(config: EffectIOConfig, found: Iterable[Connection]) -> Connection | None:
    """The one that an operation uses."""
    key = _key(config)
    return next((one for one in found if (one.name, one.family) == key), None)


def _key(config: EffectIOConfig) -> tuple[str, str] | None:
    if isinstance(config, ModelDbIOConfig | ModelKafkaIOConfig):
        return config.connection_name, config.handler_type.value
    return None


def hosts_of(plan: EffectPlan, urls: Iterable[str]) -> list[str]:
    """Hosts that requests go to, and patterns that data may choose from."""
    hosts: dict[str, None] = {}
    for url in urls:
        hosts[_host(url)] = None
    for operation in plan.subcontract.operations:
        if isinstance(operation.io_config, ModelHttpIOConfig):
            hosts.update(dict.fromkeys(operation.io_config.allowed_hosts))
    return list(hosts)


def _host(url: str) -> str:
    """Host and port of a URL; a leading placeholder as it is, because it brings scheme and host along."""
    if url.startswith(("${", "***")):
        return url.partition("}")[0] + "}" if url.startswith("${") else "***"
    try:
        return urlsplit(url).netloc or url
    except ValueError:
        return url.partition("://")[2].partition("/")[0]


def names_read(plan: EffectPlan, source: str) -> list[str]:
    """Names that `${source.NAME}` reads, sorted."""
    return sorted(
        {hole.path[0] for operation in plan.operations for _, hole in operation.io.holes if hole.source == source}
    )


def file_roots(settings: ModelSettings) -> list[str]:
    """Directories below which files may be touched."""
    roots = settings.policy.file_roots
    return [str(root) for root in roots] if roots is not None else [str(Path.cwd())]
