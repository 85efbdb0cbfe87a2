"""What an operation would send, without secrets and without doing it.

Templates are filled in by the code that a run uses. Secrets answer `***`; outputs of earlier operations, ids of the
call and variables that are not set answer with their own placeholder. One that decides the host of a URL is put back
after the rest was filled in.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote

from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.grammar.template_text import NO_DEFAULT, Hole
from omnibase_core.logging.redaction import MASK
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    EffectIOConfig,
    ModelHttpBasicAuth,
    ModelHttpIOConfig,
)
from omnibase_core.utils.effect_plan import EffectPlan, OperationPlan
from omnibase_core.utils.io_plan import compile_io
from omnibase_core.utils.templates import Scope

if TYPE_CHECKING:
    from pydantic import JsonValue

    from omnibase_core.models.contracts.contract_model import Breach

_NO_HOST: Final = "shown.invalid"
_LEFT_OUT: Final = frozenset({"handler_type", "timeout_ms", "body_is_secret"})
_ALWAYS: Final = frozenset(
    {"method", "url", "connection_name", "operation", "query", "topic", "acks", "file_path", "atomic", "payload"}
)


class StandIn(str):
    """A placeholder's own text in place of a value that is not known; whatever is asked below it answers alike."""

    __slots__ = ()

    def __getitem__(self, key: object) -> str:
        if isinstance(key, str):
            return StandIn(f"{str.__str__(self)[:-1]}.{key}}}")
        return str(self)[cast("slice", key)]  # a str takes nothing else but indexes


class _Everything(dict[str, str]):
    """A mapping that has every name."""

    def __missing__(self, key: str) -> str:
        return MASK


@dataclass(frozen=True, slots=True)
class DryOperation:
    """`fields`: the resolved context, as far as it says what is sent. `notes`: what is decided later."""

    fields: "dict[str, JsonValue]"
    notes: list[str] = field(default_factory=list)


def missing_variables(plan: EffectPlan, environ: Mapping[str, str]) -> list[str]:
    """Variables that a template needs and nobody has set."""
    needed = {
        h.path[0] for op in plan.operations for _, h in op.io.holes if h.source == "env" and h.default is NO_DEFAULT
    }
    return sorted(name for name in needed if name not in environ)


def dry_scope(plan: EffectPlan, data: Mapping[str, object], environ: Mapping[str, str]) -> Scope:
    """The scope of a run of which only the input and the environment are known."""
    outputs: dict[str, Mapping[str, object]] = {}
    for operation in plan.operations:
        outputs[operation.name] = StandIn(f"${{output.{operation.name}}}")  # type: ignore[assignment]  # answers to every key
    return Scope(
        data,
        outputs,
        _Everything(),
        {**environ, **{name: StandIn(f"${{env.{name}}}") for name in missing_variables(plan, environ)}},
        {name: StandIn(f"${{meta.{name}}}") for name in ("correlation_id", "operation_id", "timestamp")},
    )


def dry_operation(operation: OperationPlan, config: EffectIOConfig, scope: Scope) -> DryOperation:
    """Resolve one operation. Raises ModelOnexError for what the input is to blame for, as a run would."""
    hosts: dict[str, str] = {}
    resolve = operation.io.resolve
    while True:
        try:
            context = resolve(scope)[0]
            break
        except ModelOnexError as error:
            hole = _refused_host(error, operation, config, scope)
            if hole is None or not isinstance(config, ModelHttpIOConfig) or hole.text not in config.url_template:
                raise
            host = f"h{len(hosts)}.{_NO_HOST}"
            hosts[host] = hole.text
            url = config.url_template.replace(hole.text, f"http://{host}" if hole.offset == 0 else host)
            config = config.model_copy(update={"url_template": url, "allowed_hosts": []})
            resolve = compile_io(config, _ignore, operation.name).resolve
    chosen = context.model_dump(mode="json", exclude=set(_LEFT_OUT), exclude_defaults=True)
    values = context.model_dump(mode="json")
    fields = {name: values[name] for name in values if name in chosen or name in _ALWAYS}
    if hosts:
        url = str(fields["url"])
        for host, text in hosts.items():
            url = url.replace(f"http://{host}", text) if url.startswith(f"http://{host}") else url.replace(host, text)
        fields["url"] = url
        fields.pop("allowed_hosts", None)
    notes = [f"{text} decides the host when it runs" for text in hosts.values()]
    return DryOperation(_readable(fields, config, _stand_ins(operation, scope)), notes)


def _ignore(_breach: "Breach") -> None:
    """The contract was judged when it was loaded."""


def _refused_host(error: ModelOnexError, operation: OperationPlan, config: EffectIOConfig, scope: Scope) -> Hole | None:
    """The hole in a URL whose stand-in was refused; None when the refused value was the user's own."""
    if not isinstance(config, ModelHttpIOConfig):
        return None
    text = error.context.get("template")
    holes = (hole for path, hole in operation.io.holes if path == ("url_template",) and hole.text == text)
    return next((hole for hole in holes if _is_stand_in(hole, scope)), None)


def _is_stand_in(hole: Hole, scope: Scope) -> bool:
    if hole.source == "env":
        return isinstance(scope.env.get(hole.path[0]), StandIn)
    return hole.source != "input"


def _readable(
    fields: "dict[str, JsonValue]", config: EffectIOConfig, stand_ins: Iterable[str]
) -> "dict[str, JsonValue]":
    """Stand-ins that were encoded for their place are shown as themselves, encoded secrets not at all."""
    url = fields.get("url")
    if isinstance(url, str):
        for text in (MASK, *stand_ins):
            url = url.replace(quote(text, safe=""), text)
        fields["url"] = url
    headers = fields.get("headers")
    if isinstance(config, ModelHttpIOConfig) and isinstance(headers, dict):
        if isinstance(config.auth, ModelHttpBasicAuth):
            headers["Authorization"] = f"Basic {MASK}"
        if config.idempotency_key is not None and config.idempotency_key.value == "auto":
            headers[config.idempotency_key.header] = "(a UUID derived from operation_id and operation name)"
    return fields


def _stand_ins(operation: OperationPlan, scope: Scope) -> Iterator[str]:
    for _, hole in operation.io.holes:
        if _is_stand_in(hole, scope):
            yield f"${{{'.'.join((hole.source, *hole.path))}}}"
