"""IO configs compiled to resolvers: constants in a ready dict, one closure per field that has placeholders.

`compile_io` is called once, at load, and judges. The resolver is built at its first call; it is called on every attempt
and builds a resolved context.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

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
    Build,
    Compiler,
    IoPlan,
    builder,
    json_or_nearly,
    judge_text,
    list_value,
    mapping_value,
)
from omnibase_core.utils.json_templates import json_text
from omnibase_core.utils.templates import (
    Late,
    Made,
    Part,
    Scope,
    Value,
    check_unicode,
    compile_getter,
    json_like,
    json_value,
    key_names,
    path_of,
    refuse,
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
        build, target = compile_http(config, compiler)
    elif isinstance(config, ModelDbIOConfig):
        build, target = _db(config, compiler)
    elif isinstance(config, ModelKafkaIOConfig):
        build, target = _kafka(config, compiler)
    else:
        build, target = _filesystem(config, compiler)
    return IoPlan(build, target, compiler.holes)


def _db(config: ModelDbIOConfig, compiler: Compiler) -> tuple[Build, str]:
    compiler.literal(config.connection_name, "connection_name")
    target = f"db:{config.connection_name}"
    params = [_tree_value(value, compiler, ("query_params", index)) for index, value in enumerate(config.query_params)]
    fields = {
        "timeout_ms": config.timeout_ms,
        "connection_name": config.connection_name,
        "operation": config.operation,
        "query": config.query_template,
        "fetch_size": config.fetch_size,
        "read_only": config.read_only,
        "params": list_value(params),
    }
    return partial(builder, ModelResolvedDbContext, fields, target), target


def _tree_value(tree: JsonValue, compiler: Compiler, path: KeyPath) -> object:
    """A typed value: a constant, or a `Late` that keeps the types of what is put in."""
    if isinstance(tree, str):
        template = compiler.parse(tree, *path)
        if len(template) == 1 and isinstance(template[0], Hole):
            return Made(partial(_typed_hole, template[0]))
        return text_of(template, scalar_text)
    if isinstance(tree, list):
        return list_value([_tree_value(child, compiler, (*path, index)) for index, child in enumerate(tree)])
    if isinstance(tree, dict):
        compiler.names(tree, *path)
        return mapping_value({key: _tree_value(child, compiler, (*path, key)) for key, child in tree.items()})
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


def _kafka(config: ModelKafkaIOConfig, compiler: Compiler) -> tuple[Build, str]:
    compiler.literal(config.connection_name, "connection_name")
    target = f"kafka:{config.connection_name}"
    payload = _payload(config, compiler)
    partition_key: Part | Late | None = None
    if config.partition_key_template is not None:
        partition_key = _partition_key(compiler.parse(config.partition_key_template, "partition_key_template"))
    fields = {
        "timeout_ms": config.timeout_ms,
        "topic": config.topic,
        "connection_name": config.connection_name,
        "acks": config.acks,
        "compression": config.compression,
        "payload": payload,
        "partition_key": partition_key,
        "headers": mapping_value(compiler.headers(config.headers)),
    }
    return partial(builder, ModelResolvedKafkaContext, fields, target), target


def _partition_key(template: Template) -> Part | Late:
    """A placeholder that stands alone and is null gives no key, rather than one key for all."""
    if len(template) != 1 or isinstance(template[0], str):
        return text_of(template, scalar_text)
    return Made(partial(_text_or_none, template[0]))


def _text_or_none(hole: Hole) -> Value:
    get = compile_getter(hole)

    def render(scope: Scope) -> str | None:
        value = get(scope)
        return None if value is None else scalar_text(value, hole)

    return render


def _payload(config: ModelKafkaIOConfig, compiler: Compiler) -> Part:
    template = compiler.parse(config.payload_template, "payload_template")
    if len(template) == 1 and isinstance(template[0], Hole):
        return text_of(template, single_body)
    is_json, declared = judge_text(config.payload_template, config.headers)
    if is_json and template:
        return json_or_nearly(template, compiler, "payload_template", must_parse=declared)
    return text_of(template, scalar_text)


def _filesystem(config: ModelFilesystemIOConfig, compiler: Compiler) -> tuple[Build, str]:
    file_path = path_of(compiler.parse(config.file_path_template, "file_path_template"))
    destination_path: Part | None = None
    content: Part | Late | None = None
    if config.destination_path_template is not None:
        destination_path = path_of(compiler.parse(config.destination_path_template, "destination_path_template"))
    if config.operation == "write":
        if config.content_template is None:
            compiler.parse("${input.content}", "content_template")
            content = Made(lambda: _content)
        else:
            content = _content_text(config, config.content_template, compiler)
    fields = {
        "timeout_ms": config.timeout_ms,
        "operation": config.operation,
        "atomic": config.atomic,
        "create_dirs": config.create_dirs,
        "encoding": config.encoding,
        "mode": config.mode,
        "overwrite": config.overwrite,
        "missing_ok": config.missing_ok,
        "file_path": file_path,
        "destination_path": destination_path,
        "content": content,
    }
    return partial(builder, ModelResolvedFilesystemContext, fields, "filesystem"), "filesystem"


def _content_text(config: ModelFilesystemIOConfig, text: str, compiler: Compiler) -> Part:
    """A file's content; one named `.json` is JSON, so that no value can rewrite it."""
    template = compiler.parse(text, "content_template")
    if len(template) == 1 and isinstance(template[0], Hole):
        return text_of(template, single_body)
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
