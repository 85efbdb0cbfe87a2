"""The pure functions that users call."""

import inspect
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from pydantic import JsonValue

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.effect_fault import EffectFault
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpIOConfig,
    ModelKafkaIOConfig,
)
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
    ModelResolvedHttpContext,
    ModelResolvedKafkaContext,
)
from omnibase_core.models.contracts.subcontracts.effect_retry_config import ModelEffectRetryPolicy
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectResponseExtract
from omnibase_core.protocols.protocol_effect_handler import EffectResponse
from omnibase_core.utils import effect_executor
from omnibase_core.utils.effect_executor import (
    calculate_backoff,
    extract_response_fields,
    is_retryable_error,
    resolve_io_config,
    resolve_template,
    utc_now,
)

ID = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("name", "positional"),
    [
        ("resolve_template", ["template", "context"]),
        ("resolve_io_config", ["io_config", "context"]),
        ("calculate_backoff", ["retry_count", "policy"]),
        ("is_retryable_error", ["error", "policy"]),
        ("extract_response_fields", ["response", "extract_fields", "extraction_engine"]),
    ],
)
def test_signatures(name: str, positional: list[str]) -> None:
    """The parameters of the specification come first; whatever else there is, is keyword-only and has a default."""
    parameters = inspect.signature(getattr(effect_executor, name)).parameters.values()

    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert all(p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY)
    assert {p.kind for p in parameters} <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


# resolve_template


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$${x}", "${x}"),
        ("Hello ${input.name}!", "Hello Ann!"),
        ("${input.n}", "5"),
        ("${input.flag} ${input.nothing}", "true null"),
        ("${input.tree}", '{"a": [1, "x"]}'),
        ("${input.id}", str(ID)),
        ("${input.price}/${input.price}", "1.50/1.50"),
        ("${input.text}", '"quoted" ${input.n}'),
        ("${output.first.field}-${output.first.result.deep.0}", "f-d"),
        ("${env.E}${secret.S}", "es"),
        ("${input.none:-7}", "7"),
    ],
)
def test_resolve_template_gives_text(template: str, text: str) -> None:
    """Always text, encoded for no place; a list or a map is JSON where it stands alone."""
    context: dict[str, dict[str, object]] = {
        "input": {
            "name": "Ann", "n": 5, "flag": True, "nothing": None, "tree": {"a": [1, "x"]}, "id": ID,
            "price": Decimal("1.50"), "text": '"quoted" ${input.n}',
        },
        "output": {"first": {"field": "f", "result": {"deep": ["d"]}}},
        "env": {"E": "e"},
        "secrets": {"S": "s"},
    }  # fmt: skip

    assert resolve_template(template, context) == text


@pytest.mark.parametrize(
    "template", ["${input.a} x ${input.tree}", "${nope.a}", "${input.a", "${input.missing}", "${}"]
)
def test_resolve_template_refuses_cleanly(template: str) -> None:
    """A malformed template and a missing value are VALIDATION_ERROR."""
    with pytest.raises(ModelOnexError) as caught:
        resolve_template(template, {"input": {"a": 1, "tree": {}}})

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR


@pytest.mark.parametrize("given", [{}, {"env": None, "secrets": None}])
def test_env_and_secrets_fall_back_to_the_process(monkeypatch: pytest.MonkeyPatch, given: dict[str, None]) -> None:
    """What the context does not give is read from the process environment, or from the one handed in."""
    monkeypatch.setenv("ONEX_T", "process")

    assert resolve_template("${env.ONEX_T} ${secret.ONEX_T}", given) == "process process"  # type: ignore[arg-type]  # None counts as not given
    assert resolve_template("${env.ONEX_T} ${secret.ONEX_T}", {}, environ={"ONEX_T": "mine"}) == "mine mine"
    assert resolve_template("${env.ONEX_T} ${secret.ONEX_T}", {"env": {"ONEX_T": "e"}}) == "e process"
    assert resolve_template("${env.ONEX_T} ${secret.ONEX_T}", {"secrets": {"ONEX_T": "s"}}) == "process s"


def test_meta_may_be_given() -> None:
    """A context may bring the ids of a call."""
    assert resolve_template("${meta.operation_id}", {"meta": {"operation_id": ID}}) == str(ID)


# resolve_io_config


def test_http_is_resolved() -> None:
    """Every text of an HTTP config is filled in for its place."""
    config = ModelHttpIOConfig(
        url_template="${env.BASE}/orders/${input.id}",
        method="POST",
        headers={"X-Tenant": "${input.tenant}"},
        body_template='{"note": "${input.note}", "n": ${input.n}}',
        query_params={"page": "${input.n}", "flag": True, "tags": ["a", "${input.note}"]},
    )

    resolved = resolve_io_config(
        config, {"input": {"id": "a/b", "tenant": "acme", "note": 'say "x"', "n": 5}, "env": {"BASE": "https://h/v1/"}}
    )

    assert isinstance(resolved, ModelResolvedHttpContext)
    assert resolved == ModelResolvedHttpContext(
        url="https://h/v1/orders/a%2Fb",
        method="POST",
        headers={"X-Tenant": "acme", "Content-Type": "application/json"},
        body='{"note": "say \\"x\\"", "n": 5}',
        query_params={"page": "5", "flag": "true", "tags": ["a", 'say "x"']},
        timeout_ms=30_000,
    )


def test_db_is_resolved() -> None:
    """SQL text stays, parameters keep their types."""
    config = ModelDbIOConfig(
        operation="insert",
        connection_name="main",
        query_template="INSERT INTO t VALUES ($1, $2, $3)",
        query_params=["${input.n}", "x${input.n}", {"k": "${input.id}"}],
    )

    resolved = resolve_io_config(config, {"input": {"n": 5, "id": ID}})

    assert isinstance(resolved, ModelResolvedDbContext)
    assert (resolved.query, resolved.params) == (config.query_template, [5, "x5", {"k": str(ID)}])


def test_kafka_is_resolved() -> None:
    """Payload, key and headers are filled in."""
    config = ModelKafkaIOConfig(
        topic="t", payload_template="${input.doc}", partition_key_template="${input.id}", headers={"h": "${input.id}"}
    )

    resolved = resolve_io_config(config, {"input": {"doc": {"a": 1}, "id": ID}})

    assert isinstance(resolved, ModelResolvedKafkaContext)
    assert (resolved.payload, resolved.partition_key, resolved.headers) == ('{"a": 1}', str(ID), {"h": str(ID)})


def test_filesystem_is_resolved() -> None:
    """Paths and content are filled in; a write without a template writes input.content."""
    config = ModelFilesystemIOConfig(file_path_template="out/${input.id}.txt", operation="write")

    resolved = resolve_io_config(config, {"input": {"id": ID, "content": "text"}})

    assert isinstance(resolved, ModelResolvedFilesystemContext)
    assert (resolved.file_path, resolved.content, resolved.atomic) == (f"out/{ID}.txt", "text", True)


def test_a_config_that_does_not_fit_is_refused() -> None:
    """A template error that only compilation finds is VALIDATION_ERROR with its rule and a fix; a warning is none."""
    bad = ModelHttpIOConfig(url_template="http://${input.host}/", method="GET")
    odd = ModelHttpIOConfig(url_template="http://h/", method="POST", body_template="{not json ${input.a}")

    with pytest.raises(ModelOnexError, match="allowed_hosts is empty \\(list the hosts") as caught:
        resolve_io_config(bad, {"input": {"host": "h"}})

    assert caught.value.error_code is EnumCoreErrorCode.VALIDATION_ERROR
    assert caught.value.context == {"rule": "E-HOST-FROM-DATA"}
    assert resolve_io_config(odd, {"input": {"a": 1}}).body == "{not json 1"  # type: ignore[union-attr]  # an HTTP context


# calculate_backoff, is_retryable_error


def test_backoff_grows_from_the_base() -> None:
    """The first retry waits the base, the next twice that, without jitter exactly."""
    policy = ModelEffectRetryPolicy(base_delay_ms=100, max_delay_ms=1_000, jitter_factor=0.0)

    assert [calculate_backoff(n, policy) for n in range(7)] == [100, 100, 200, 400, 800, 1_000, 1_000]
    assert 0 <= calculate_backoff(3, ModelEffectRetryPolicy(base_delay_ms=100)) <= 440


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ValueError("ECONNRESET"), False),
        (EffectFault("x", status_code=503), True),
        (EffectFault("x", status_code=404), False),
        (EffectFault("x", error_kind="ECONNREFUSED"), True),
        (EffectFault("x", transient=True), True),
        (ModelOnexError("x"), False),
    ],
    ids=repr,
)
def test_is_retryable_error(error: Exception, retryable: bool) -> None:
    """The policy's lists decide, by status and kind, along the causes."""
    outer = RuntimeError("outer")
    outer.__cause__ = error

    assert is_retryable_error(error, ModelEffectRetryPolicy()) is retryable
    assert is_retryable_error(outer, ModelEffectRetryPolicy()) is retryable


def test_lists_of_the_policy_count() -> None:
    """A policy with other lists decides otherwise."""
    policy = ModelEffectRetryPolicy(retryable_status_codes=[404], retryable_errors=["OWN"])

    assert is_retryable_error(EffectFault("x", status_code=404), policy)
    assert is_retryable_error(EffectFault("x", error_kind="OWN"), policy)
    assert not is_retryable_error(ConnectionResetError(), policy)


# extract_response_fields


def test_fields_of_a_document() -> None:
    """First matches by name, None where there is none; both engines, a plain document or a whole response."""
    fields = {"id": "$.data[0].id", "none": "$.nope"}
    document: JsonValue = {"data": [{"id": 7}]}

    assert extract_response_fields(document, fields) == {"id": 7, "none": None}
    assert extract_response_fields(EffectResponse(document, 200), fields) == {"id": 7, "none": None}
    assert extract_response_fields(document, {"id": "$.data.0.id"}, "dotpath") == {"id": 7}
    assert extract_response_fields(document, {"id": "$.data.0.id"}, extraction_engine="dotpath") == {"id": 7}


def test_fields_of_status_and_headers() -> None:
    """An object names another source than the document."""
    spec = ModelEffectResponseExtract.model_validate({"from": "status"})

    assert extract_response_fields(EffectResponse({}, 201), {"s": spec}) == {"s": 201}


@pytest.mark.parametrize(
    ("fields", "engine", "said", "code"),
    [
        ({"f": "$.list"}, "jsonpath", "non-primitive type list", EnumCoreErrorCode.EXTRACTION_ERROR),
        ({"f": "$"}, "jsonpath", "non-primitive type object", EnumCoreErrorCode.EXTRACTION_ERROR),
        ({"f": "$.list"}, "jq", "Unknown extraction_engine", EnumCoreErrorCode.VALIDATION_ERROR),
        ({"f": "$["}, "jsonpath", "field 'f'", EnumCoreErrorCode.VALIDATION_ERROR),
        ({"f": "list"}, "dotpath", "must start with", EnumCoreErrorCode.VALIDATION_ERROR),
    ],
)
def test_fields_that_cannot_be_had(fields: dict[str, str], engine: str, said: str, code: EnumCoreErrorCode) -> None:
    """Lists and maps, unknown engines and malformed paths end in their error."""
    with pytest.raises(ModelOnexError, match=said.replace("$", r"\$")) as caught:
        extract_response_fields({"list": [1]}, fields, engine)

    assert caught.value.error_code is code


def test_fail_on_empty() -> None:
    """A path without a match fails when that is asked for."""
    with pytest.raises(ModelOnexError, match="was not found"):
        extract_response_fields({}, {"f": "$.f"}, fail_on_empty=True)


def test_the_clock_is_a_parameter() -> None:
    """UTC, from the clock that is given."""
    assert utc_now(lambda: 0.0) == datetime(1970, 1, 1, tzinfo=UTC)
