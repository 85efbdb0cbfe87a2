"""Where intents go: the rows of `intent_routes.yaml`."""

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.primitives.strict_types import FrozenModel, StrictFlag, StrictText

_Text = Annotated[StrictText, Field(min_length=1, max_length=2000)]


class ModelIntentRoute(FrozenModel):
    """One row.

    intent_type: a type, known or free. target: a target, or a pattern of `*`, `?` and `[...]` as shells have it.
    contract: an effect contract's file, relative to the table's; its input is the intent. via: another way than the
    type's own (`kafka` for message_publish). connection: a named connection. idempotent: whether doing it twice is as
    good as once; null leaves it to the kind of effect. retry_policy: of intents that bring none. options: of the route.
    """

    intent_type: _Text
    target: _Text = "*"
    contract: _Text | None = None
    via: Literal["kafka"] | None = None
    connection: _Text | None = None
    idempotent: StrictFlag | None = None
    retry_policy: ModelEffectRetryPolicy | None = None
    options: dict[StrictText, JsonValue] = Field(default_factory=dict)

    def fits(self, intent_type: str, target: str) -> bool:
        return self.intent_type == intent_type and (self.target == target or fnmatchcase(target, self.target))


class ModelMailTemplate(FrozenModel):
    """A mail. subject, body, sender: texts with `${input.<key of the intent's data>}`."""

    subject: _Text
    body: StrictText
    sender: _Text = "onex@localhost"


class ModelIntentRoutes(FrozenModel):
    """The whole table.

    routes: an exact target goes before a pattern, then the first row counts. templates: mails by name.
    """

    routes: list[ModelIntentRoute] = Field(default_factory=list)
    templates: dict[StrictText, ModelMailTemplate] = Field(default_factory=dict)

    def route_of(self, intent_type: str, target: str) -> ModelIntentRoute:
        """The row for an intent; one without options when none fits."""
        fitting = [route for route in self.routes if route.fits(intent_type, target)]
        exact = next((route for route in fitting if route.target == target), None)
        return exact or next(iter(fitting), None) or _route_without_options(intent_type)


@lru_cache(maxsize=256)
def _route_without_options(intent_type: str) -> ModelIntentRoute:
    return ModelIntentRoute(intent_type=intent_type)
