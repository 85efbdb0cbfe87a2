"""IO configs compiled to resolvers: constants in a ready dict, one closure per field that has placeholders.

`compile_io` is called once, at load. What it returns is called on every attempt and builds a resolved context.
"""

from collections.abc import Callable
from typing import Final, cast

from pydantic import JsonValue

from omnibase_core.grammar.template_text import NO_DEFAULT, Hole, Template, TemplateError
from omnibase_core.models.contracts.contract_model import Breach, KeyPath
from omnibase_core.models.contracts.subcontracts.effect_io_configs import (
    EffectIOConfig,
    ModelDbIOConfig,
    ModelFilesystemIOConfig,
    ModelHttpIOConfig,
    ModelKafkaIOConfig,
)
from omnibase_core.models.contracts.subcontracts.effect_resolved_context import (
    ModelResolvedDbContext,
    ModelResolvedFilesystemContext,
    ModelResolvedKafkaContext,
)
from omnibase_core.utils.http_plan import compile_http
from omnibase_core.utils.io_compiler import (
    Compiler,
    IoPlan,
    Resolver,
    Value,
    builder,
    json_or_nearly,
    judge_text,
    mapping_value,
    split_parts,
)
from omnibase_core.utils.json_templates import json_text
from omnibase_core.utils.templates import (
    Part,
    Scope,
    check_unicode,
    compile_getter,
    json_like,
    json_value,
    key_names,
    path_of,
    refuse,
    render_hole,
    scalar_text,
    single_body,
    text_of,
)


def compile_io(
    config: EffectIOConfig,
    report: Callable[[Breach], None],
    operation_name: str = "",
    holes: list[tuple[KeyPath, Hole]] | None = None,
) -> IoPlan:
    """Compile an IO config; every problem is reported, and the plan is usable only when there was none.

    holes: where the placeholders are collected; it keeps those found until an exception.
    """
    compiler = Compiler(report, operation_name, [] if holes is None else holes)
    if isinstance(config, ModelHttpIOConfig):
        resolve, target = compile_http(config, compiler)
    elif isinstance(config, ModelDbIOConfig):
        resolve, target = _db(config, compiler)
    elif isinstance(config, ModelKafkaIOConfig):
        resolve, target = _kafka(config, compiler)
    else:
        resolve, target = _filesystem(config, compiler)
    secrets = frozenset(hole.path[0] for _, hole in compiler.holes if hole.source == "secret")
    return IoPlan(resolve, target, compiler.holes, secrets)


def _db(config: ModelDbIOConfig, compiler: Compiler) -> tuple[Resolver, str]:
    compiler.literal(config.connection_name, "connection_name")
    target = f"db:{config.connection_name}"
    constants: dict[str, object] = {
        "timeout_ms": config.timeout_ms,
        "connection_name": config.connection_name,
        "operation": config.operation,
        "query": config.query_template,
        "fetch_size": config.fetch_size,
        "read_only": config.read_only,
        "params": [],
    }
    if not config.query_params:
        return builder(ModelResolvedDbContext, constants, {}, target), target
    getters = [_tree_value(value, compiler, ("query_params", index)) for index, value in enumerate(config.query_params)]
    if not any(callable(getter) for getter in getters):
        return builder(ModelResolvedDbContext, {**constants, "params": getters}, {}, target), target
    fixed = tuple(getter if callable(getter) else _constant(getter) for getter in getters)
    return builder(
        ModelResolvedDbContext, constants, {"params": lambda scope: [get(scope) for get in fixed]}, target
    ), target


def _constant(value: object) -> Value:
    return lambda _scope: value


def _tree_value(tree: JsonValue, compiler: Compiler, path: KeyPath) -> JsonValue | Value:
    """A typed value: a constant, or a closure that keeps the types of what is put in."""
    if isinstance(tree, str):
        template = compiler.parse(tree, *path)
        if len(template) == 1 and isinstance(template[0], Hole):
            return _typed_hole(template[0])
        return text_of(template, scalar_text)
    if isinstance(tree, list):
        parts = [_tree_value(child, compiler, (*path, index)) for index, child in enumerate(tree)]
        if any(callable(part) for part in parts):
            return lambda scope: [part(scope) if callable(part) else part for part in parts]
        return cast("JsonValue", parts)  # none is a closure
    if isinstance(tree, dict):
        compiler.names(tree, *path)
        pairs = {key: _tree_value(child, compiler, (*path, key)) for key, child in tree.items()}
        if any(callable(part) for part in pairs.values()):
            return lambda scope: {key: part(scope) if callable(part) else part for key, part in pairs.items()}
        return cast("JsonValue", pairs)  # none is a closure
    return tree


_JSON_SCALARS = (str, int, float, bool, type(None))


def _typed_hole(hole: Hole) -> Value:
    get = compile_getter(hole)

    def typed(scope: Scope) -> object:
        value = get(scope)
        if type(value) is str:
            if not value.isascii():
                check_unicode(value, hole)
            return value
        if type(value) in _JSON_SCALARS:
            return value
        value = json_like(value, hole)
        if isinstance(value, str | list | dict):
            json_value(value, hole)  # what has no JSON text is refused here, not by the driver
        return value

    return typed


def _kafka(config: ModelKafkaIOConfig, compiler: Compiler) -> tuple[Resolver, str]:
    compiler.literal(config.connection_name, "connection_name")
    target = f"kafka:{config.connection_name}"
    parts: dict[str, Part | Value | None] = {"payload": _payload(config, compiler), "partition_key": None}
    if config.partition_key_template is not None:
        parts["partition_key"] = _partition_key(compiler.parse(config.partition_key_template, "partition_key_template"))
    constants, dynamic = split_parts(parts)
    constants |= {
        "timeout_ms": config.timeout_ms,
        "topic": config.topic,
        "connection_name": config.connection_name,
        "acks": config.acks,
        "compression": config.compression,
    }
    constants["headers"], render_headers = mapping_value(compiler.headers(config.headers))
    if render_headers is not None:
        dynamic["headers"] = render_headers
    return builder(ModelResolvedKafkaContext, constants, dynamic, target), target


def _partition_key(template: Template) -> Part | Value:
    """A placeholder that stands alone and is null gives no key, rather than one key for all."""
    if len(template) != 1 or isinstance(template[0], str):
        return text_of(template, scalar_text)
    hole = template[0]
    get = compile_getter(hole)

    def render(scope: Scope) -> str | None:
        value = get(scope)
        return None if value is None else scalar_text(value, hole)

    return render


def _payload(config: ModelKafkaIOConfig, compiler: Compiler) -> Part:
    template = compiler.parse(config.payload_template, "payload_template")
    if len(template) == 1 and isinstance(template[0], Hole):
        return render_hole(template[0], single_body)
    is_json, declared = judge_text(config.payload_template, config.headers)
    if is_json and template:
        return json_or_nearly(template, compiler, "payload_template", must_parse=declared)
    return text_of(template, scalar_text)


def _filesystem(config: ModelFilesystemIOConfig, compiler: Compiler) -> tuple[Resolver, str]:
    parts: dict[str, Part | None] = {
        "file_path": path_of(compiler.parse(config.file_path_template, "file_path_template")),
        "destination_path": None,
        "content": None,
    }
    if config.destination_path_template is not None:
        parts["destination_path"] = path_of(
            compiler.parse(config.destination_path_template, "destination_path_template")
        )
    if config.operation == "write":
        if config.content_template is None:
            compiler.parse("${input.content}", "content_template")
            parts["content"] = _content
        else:
            parts["content"] = _content_text(config, config.content_template, compiler)
    constants, dynamic = split_parts(parts)
    constants |= {
        name: getattr(config, name)
        for name in ("timeout_ms", "operation", "atomic", "create_dirs", "encoding", "mode", "overwrite", "missing_ok")
    }
    return builder(ModelResolvedFilesystemContext, constants, dynamic, "filesystem"), "filesystem"


def _content_text(config: ModelFilesystemIOConfig, text: str, compiler: Compiler) -> Part:
    """A file's content; one named `.json` is JSON, so that no value can rewrite it."""
    template = compiler.parse(text, "content_template")
    if len(template) == 1 and isinstance(template[0], Hole):
        return render_hole(template[0], single_body)
    if template and config.file_path_template.lower().endswith(".json"):
        return json_or_nearly(template, compiler, "content_template", must_parse=False)
    if config.file_path_template.endswith("}") and text.lstrip()[:1] in {"{", "["}:
        try:
            return json_text(template)  # the name is known only at run time, but the text is JSON
        except TemplateError:
            pass
    return text_of(template, scalar_text)


_INPUT_CONTENT: Final = Hole("input", ("content",), NO_DEFAULT, "${input.content}", 0)


def _content(scope: Scope) -> str:
    if "content" not in scope.input:
        raise refuse(
            _INPUT_CONTENT,
            "a write without content_template writes 'content' of input, which is missing; "
            f"keys there: {key_names(scope.input)}",
        )
    return single_body(scope.input["content"], _INPUT_CONTENT)
