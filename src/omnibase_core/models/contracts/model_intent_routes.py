"""Where intents go: the rows of `intent_routes.yaml`."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, JsonValue

from omnibase_core.enums.enum_intent import EnumIntentType
from omnibase_core.grammar.template_text import TemplateError, parse_template
from omnibase_core.logging.redaction import shown_target
from omnibase_core.models.contracts.contract_model import Breach, ContractModel, Offset, Rule
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.primitives.strict_types import StrictFlag, StrictText

_Text = Annotated[StrictText, Field(min_length=1, max_length=2000)]
MAIL_SOURCES: Final = ("input",)
"""What a mail's template may speak of: the data of its intent."""


def _via_fits(route: "ModelIntentRoute") -> Iterator[Breach]:
    if route.via is None:
        return
    if route.intent_type != EnumIntentType.MESSAGE_PUBLISH:
        yield Breach(
            "E-VALUE",
            f"via: {route.via} is a way of message_publish, the row is for {route.intent_type}",
            ("via",),
            repr(route.via),
            "no via for this type",
            "remove via",
        )
    elif route.contract is not None:
        yield Breach(
            "E-VALUE",
            "a row has contract or via, not both: the contract would do it",
            ("via",),
            repr(route.via),
            fix="remove one of the two",
        )


def _connection_is_used(route: "ModelIntentRoute") -> Iterator[Breach]:
    name = route.connection
    if name is None:
        return
    if "://" in name:
        yield Breach(
            "E-VALUE",
            "connection is the name of a connection of the settings, not a URL",
            ("connection",),
            repr(shown_target(name)),
            "a name",
            "put the URL into the settings, as url of [connections.<name>], and write the name here",
        )
    elif route.contract is not None:
        yield Breach(
            "E-VALUE",
            "nothing uses this connection: the contract names its own",
            ("connection",),
            repr(name),
            fix="remove connection",
        )
    elif route.intent_type == EnumIntentType.MESSAGE_PUBLISH and route.via is None:
        yield Breach(
            "E-VALUE",
            "nothing uses this connection: events go to the bus of the container",
            ("connection",),
            repr(name),
            fix="add via: kafka, or remove connection",
        )
    elif route.intent_type == EnumIntentType.FILE_OPERATION:
        yield Breach(
            "E-VALUE",
            "nothing uses this connection: files lie under the roots of the policy",
            ("connection",),
            repr(name),
            fix="remove connection",
        )


class ModelIntentRoute(ContractModel):
    """One row.

    intent_type: a type, known or free. target: a target, or a pattern of `*`, `?` and `[...]` as shells have it.
    contract: an effect contract's file, relative to the table's; its input is the intent. via: another way than the
    type's own (`kafka` for message_publish). connection: the name of a connection, of types that have one. idempotent:
    whether doing it twice is as good as once; null leaves it to the kind of effect. retry_policy: of intents that bring
    none. options: of the route.
    """

    rules: ClassVar = (
        Rule(("intent_type", "via", "contract"), _via_fits),
        Rule(("intent_type", "via", "contract", "connection"), _connection_is_used),
    )

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


def _template_holds(name: str, text: str) -> Iterator[Breach]:
    try:
        parse_template(text, MAIL_SOURCES)
    except TemplateError as error:
        for problem in error.problems:
            yield Breach(problem.code, problem.message, (name, Offset(problem.offset)), fix=problem.fix)


def _one_line(name: str, text: str) -> Iterator[Breach]:
    if {"\r", "\n"} & set(text):
        yield Breach("E-TEXT", f"{name} has a line break", (name,), repr(text), "one line", "write it on one line")


def _subject_is_fit(mail: "ModelMailTemplate") -> Iterator[Breach]:
    yield from _one_line("subject", mail.subject)
    yield from _template_holds("subject", mail.subject)


def _body_is_fit(mail: "ModelMailTemplate") -> Iterator[Breach]:
    yield from _template_holds("body", mail.body)


def _sender_is_fit(mail: "ModelMailTemplate") -> Iterator[Breach]:
    yield from _one_line("sender", mail.sender)
    if "${" in mail.sender:
        yield Breach(
            "E-LITERAL", "sender is literal: found a placeholder", ("sender",), repr(mail.sender), fix="write the value"
        )


class ModelMailTemplate(ContractModel):
    """A mail. subject, body: texts with `${input.<key of the intent's data>}`. sender: an address as it is."""

    rules: ClassVar = (
        Rule(("subject",), _subject_is_fit),
        Rule(("body",), _body_is_fit),
        Rule(("sender",), _sender_is_fit),
    )

    subject: _Text
    body: StrictText
    sender: _Text = "onex@localhost"


class ModelIntentRoutes(ContractModel):
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
