"""`reference/services.md`: what a bare container has, out of the bootstrap, and what a program may bring."""

import inspect
from collections.abc import Mapping
from typing import Final

from docs.field_tables import paragraph, table
from omnibase_core.enums.enum_intent import EnumIntentType
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.protocols import (
    protocol_effect_handler,
    protocol_effect_metrics,
    protocol_event_bus,
    protocol_intent_handler,
    protocol_intent_ledger,
    protocol_lease,
    protocol_secret_provider,
    protocol_services,
    protocol_state,
)
from omnibase_spi.bootstrap import HANDLERS, default_services

_SEAMS: Final = (
    protocol_effect_handler,
    protocol_effect_metrics,
    protocol_event_bus,
    protocol_intent_handler,
    protocol_intent_ledger,
    protocol_lease,
    protocol_secret_provider,
    protocol_services,
    protocol_state,
)
_ABOUT: Final = paragraph("""
    What `ModelONEXContainer().get_service(key)` gives. A default is made when it is first asked for, and closed with
    the container, newest first. `register_service(key, service)` puts something else in its place; a key is a name, or
    a class or protocol that stands for its name. `container.scope()` is a container for one call: what is registered
    there is found first. A key that is unknown is RESOURCE_UNAVAILABLE, with the nearest names.
""")
_OF_NO_PROTOCOL: Final[Mapping[str, str]] = {
    "ModelSettings": "Settings and policy, out of the environment; `register_effect_handlers` takes others.",
    "EffectHandlerRegistry": "Handler kind -> key of the service that carries it out.",
    "BreakerRegistry": "Circuit breakers by id, so that operations of one id share one.",
    "BudgetRegistry": "Retry budgets by target.",
    "ModelIntentRoutes": "Where intents go, and their mails; empty. `load_intent_routes` reads a table.",
    "MemoryCaches": "The caches of this process that `cache_update` intents write to, by name.",
    **{f"IntentHandler:{kind.value}": f"Carries out intents of the type `{kind.value}`." for kind in EnumIntentType},
    "IntentHandler:contract": "Carries out intents whose route names a contract.",
    "WorkflowRunner": "Runs workflows for the engine: the interpreter, bound to this container's nodes and services.",
    "EngineDriver": "The engine that keeps runs of workflows; by default in memory, the last thousand that ended.",
    "Environment": "What `${env.X}` of a contract reads: a mapping, cut down to the policy's `env_names`.",
    "WallClock": "A function that gives the seconds since 1970, for Retry-After and time stamps.",
    **{name: f"Handler of `{kind}`." for kind, name in HANDLERS.items()},
}


def services() -> str:
    """Keys with a default, then protocols without one."""
    container = ModelONEXContainer()
    told = _protocols()
    rows = []
    for key in default_services(container):
        service = container.get_service(key)
        made = "a function" if inspect.isroutine(service) else f"`{type(service).__name__.lstrip('_')}`"
        rows.append((f"`{key}`", made, told.pop(key) if key in told else _OF_NO_PROTOCOL[key]))
    if unknown := _OF_NO_PROTOCOL.keys() - default_services(container).keys():
        message = f"no service of a bare container: {', '.join(sorted(unknown))}"
        raise LookupError(message)
    parts = [
        "# Services of a container",
        _ABOUT,
        "## With a default",
        table(("key", "default", "is"), rows),
        "## Without one",
        "Protocols of what a program may register, or what its own handlers may have beside `execute`.",
        table(("protocol", "is"), [(f"`{name}`", text) for name, text in told.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _protocols() -> dict[str, str]:
    """Every protocol that can be asked for with isinstance, and the first paragraph of what it says."""
    found: dict[str, str] = {}
    for module in _SEAMS:
        for name, cls in inspect.getmembers_static(module, inspect.isclass):
            if cls.__module__ == module.__name__ and getattr(cls, "_is_runtime_protocol", False):
                found[name] = paragraph((inspect.getdoc(cls) or "").split("\n\n")[0])
    return found
