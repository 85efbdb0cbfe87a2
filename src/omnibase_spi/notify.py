"""Notifications: mail by SMTP or into a directory, and webhooks.

smtplib runs in a thread: the few mails of a program do not need more. A message's id comes from the intent's key, so
that it is the same however often it is sent, and a mailbox can tell.
"""

import asyncio
import hashlib
import os
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_effect_outcome import EnumFaultPhase
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.logging.redaction import shown_target
from omnibase_core.models.configuration.model_settings import ModelSettings
from omnibase_core.models.container.model_onex_container import ModelONEXContainer
from omnibase_core.models.contracts.model_intent_routes import ModelIntentRoute, ModelIntentRoutes, ModelMailTemplate
from omnibase_core.models.model_intent import ModelIntent
from omnibase_core.protocols.protocol_intent_handler import IntentDone
from omnibase_core.utils.effect_executor import resolve_template
from omnibase_spi.intents import ApiCallRoute, event_id, payload_of

_SMTP_SECONDS: Final = 30.0
_PORTS: Final = {"smtp": 25, "smtps": 465}


class NotificationRoute:
    """`{template, to, data}`; target: a named connection, or the URL of a webhook.

    The URL of a connection is `smtp://user:password@host:port` (STARTTLS where the server has it, and always before a
    password), `smtps://`, or `maildir:///path`, which writes one file per message, by its id. Mail goes only through a
    connection of the settings: a target may be data, which names no server and no directory. An http URL, named or not,
    is a webhook: the payload is posted as it is, to a private address only if it is named.
    template: a mail of the routing table's `templates`. to: an address, or several.
    """

    retries_itself = False

    def __init__(self, container: ModelONEXContainer) -> None:
        self._container = container
        self._webhook = ApiCallRoute(container)

    def is_idempotent(self, intent: ModelIntent, route: ModelIntentRoute) -> bool:
        return self._named_url(intent, route).startswith("maildir:")

    def database_of(self, intent: ModelIntent, route: ModelIntentRoute) -> str | None:
        del intent, route
        return None

    async def carry_out(self, intent: ModelIntent, route: ModelIntentRoute) -> IntentDone:
        payload = payload_of(intent, "template", "to", "data")
        name, url = route.connection or intent.target, self._named_url(intent, route)
        if (url or name).startswith(("http://", "https://")):
            call = intent.model_copy(update={"payload": {"method": "POST", "body": payload}})
            return await self._webhook.carry_out(call, route)
        parts = urlsplit(url)
        if parts.scheme not in {"maildir", *_PORTS}:
            what = "target" if route.connection is None else "connection"
            raise ModelOnexError(
                f"notification: {what} {shown_target(name)!r} is no webhook URL and no named connection with an "
                "smtp://, smtps://, maildir:// or http(s):// URL; mail goes only through a connection of the settings",
                EnumCoreErrorCode.CONFIGURATION_ERROR,
            )
        message = self._message(intent, payload)
        if parts.scheme == "maildir":
            await asyncio.to_thread(_keep, Path(unquote(parts.path)), message)
        else:
            await _send(parts, message, name)
        return IntentDone({"message_id": str(message["Message-ID"])})

    def _named_url(self, intent: ModelIntent, route: ModelIntentRoute) -> str:
        """The URL of the connection, empty when the settings have none of that name."""
        connection = self._container.get_service(ModelSettings).connections.get(route.connection or intent.target)
        return "" if connection is None else connection.url.get_secret_value()

    def _message(self, intent: ModelIntent, payload: dict[str, JsonValue]) -> EmailMessage:
        template, name = self._template(payload.get("template"))
        to, data = payload.get("to"), payload.get("data") or {}
        addresses = [to] if isinstance(to, str) else to
        if not isinstance(addresses, list) or not addresses or not isinstance(data, dict):
            raise _invalid(f"template {name!r} needs to (an address, or a list of them) and data (a map)")
        scope = {"input": data}
        message = EmailMessage(policy=SMTP)
        try:
            message["From"] = template.sender
            message["To"] = ", ".join(_address(address) for address in addresses)
            message["Subject"] = resolve_template(template.subject, scope, environ={})
        except ValueError:  # what the library says quotes the value
            raise _invalid(f"template {name!r}: an address or the subject is not fit for a header") from None
        message["Message-ID"] = f"<{event_id(intent)}@onex>"
        message.set_content(resolve_template(template.body, scope, environ={}))
        return message

    def _template(self, name: JsonValue) -> tuple[ModelMailTemplate, str]:
        routes = self._container.get_service_optional("ModelIntentRoutes")
        known = routes.templates if isinstance(routes, ModelIntentRoutes) else {}
        if isinstance(name, str) and name in known:
            return known[name], name
        raise _invalid(f"template {name!r} is unknown; known: {', '.join(sorted(known)) or 'none'}")


def _address(address: JsonValue) -> str:
    if isinstance(address, str) and "@" in address and not set(address) & set("\r\n,;<>\0"):
        return address
    raise _invalid("an address is a text such as 'ada@example.com'")


def _invalid(what: str) -> ModelOnexError:
    return ModelOnexError(f"notification: {what}", EnumCoreErrorCode.VALIDATION_ERROR)


def _keep(directory: Path, message: EmailMessage) -> None:
    """Whole or not at all; the same message again replaces itself."""
    digest = hashlib.sha256(str(message["Message-ID"]).encode()).hexdigest()[:32]
    try:
        (directory / "tmp").mkdir(parents=True, exist_ok=True)
        (directory / "new").mkdir(exist_ok=True)
        draft = directory / "tmp" / f"{digest}.{os.getpid()}"
        with draft.open("wb") as file:
            file.write(message.as_bytes())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(directory / "new" / f"{digest}.eml")
    except OSError as error:
        raise EffectFault(
            f"mail into {directory}: {error.strerror}", error_kind="MAILDIR", phase=EnumFaultPhase.REJECTED
        ) from None


async def _send(parts: SplitResult, message: EmailMessage, name: str) -> None:
    """In a thread; a cancellation waits for it, because nobody could say otherwise whether the mail went."""
    sending = asyncio.ensure_future(asyncio.to_thread(_deliver, parts, message, name))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait({sending}, timeout=_SMTP_SECONDS)
        raise


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates of the system takes tens of milliseconds."""
    return ssl.create_default_context()


def _deliver(parts: SplitResult, message: EmailMessage, name: str) -> None:
    phase = EnumFaultPhase.NOT_SENT
    host, port = parts.hostname or "localhost", parts.port or _PORTS[parts.scheme]
    try:
        with (
            smtplib.SMTP_SSL(host, port, timeout=_SMTP_SECONDS, context=_tls())
            if parts.scheme == "smtps"
            else smtplib.SMTP(host, port, timeout=_SMTP_SECONDS)
        ) as server:
            server.ehlo()
            if parts.scheme == "smtp" and (server.has_extn("starttls") or parts.password):
                server.starttls(context=_tls())
                server.ehlo()
            if parts.password is not None:
                server.login(unquote(parts.username or ""), unquote(parts.password))
            phase = EnumFaultPhase.AMBIGUOUS
            server.send_message(message)
            phase = EnumFaultPhase.DONE
    except smtplib.SMTPResponseException as error:
        raise _refusal(name, error.smtp_code) from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _refusal(name, next(iter(error.recipients.values()))[0]) from None
    except (OSError, smtplib.SMTPException) as error:
        if phase is EnumFaultPhase.DONE:  # it was taken; the farewell was not
            return
        kind = "ETIMEDOUT" if isinstance(error, TimeoutError) else "ECONNRESET"
        refused = "ECONNREFUSED" if isinstance(error, ConnectionRefusedError) else kind
        raise EffectFault(
            f"mail through {name!r}: {type(error).__name__} while "
            f"{'connecting' if phase is EnumFaultPhase.NOT_SENT else 'sending'}",
            EnumCoreErrorCode.OPERATION_FAILED,
            error_kind=refused,
            phase=phase,
        ) from None


def _refusal(name: str, status: int) -> EffectFault:
    """A server that said no took nothing; 4yz asks to come again (RFC 5321, 4.2.1)."""
    return EffectFault(
        f"mail through {name!r}: the server answered {status}",
        error_kind="SMTP",
        phase=EnumFaultPhase.REJECTED,
        transient=400 <= status < 500,
    )
