"""`onex new`: a contract that is valid and runs at once, to be changed into the one that is wanted."""

import json
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from omnibase_runtime.commands import _console
from omnibase_runtime.commands._options import PlainUsage

SCHEMA_FILE: Final = "onex-effect.schema.json"
_COMPUTE_SCHEMA_FILE: Final = "onex-compute.schema.json"
_REDUCER_SCHEMA_FILE: Final = "onex-reducer.schema.json"
_WORKFLOW_SCHEMA_FILE: Final = "onex-orchestrator.schema.json"
_ContractName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the contract; the file is NAME.yaml.", show_default=False)
]
_Directory = Annotated[Path, typer.Option("--dir", "-d", metavar="DIR", help="Where to; made if it is missing.")]
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_EFFECT: Final = """\
# yaml-language-server: $schema=./{schema}
effect_subcontract:
  subcontract_name: {name}
  version: 1.0.0
  description: Writes a greeting to a file and keeps a note of it in the embedded database.

  # Judged before anything runs.
  input_schema:
    required_fields: [name]

  # Inherited by every operation; it repeats only what cannot be done twice by it.
  default_retry_policy:
    max_retries: 3
    base_delay_ms: 200

  operations:
    - operation_name: write_greeting
      io_config:
        handler_type: filesystem
        operation: write
        file_path_template: {name}-out/${{input.name}}.txt
        content_template: |
          Hello, ${{input.name}}!
      response_handling:
        extract_fields:
          path: $.path
          size: $.size_bytes

    # `embedded` is an SQLite file below ./.onex; another connection_name is set up in onex.toml.
    - operation_name: make_table
      idempotent: true
      io_config:
        handler_type: db
        operation: raw
        connection_name: embedded
        query_template: CREATE TABLE IF NOT EXISTS greetings (name TEXT, path TEXT, size INTEGER, at TEXT)

    # Values go into query_params, never into the text of a statement.
    - operation_name: note_greeting
      io_config:
        handler_type: db
        operation: insert
        connection_name: embedded
        query_template: INSERT INTO greetings VALUES ($1, $2, $3, NOW()) RETURNING rowid
        query_params:
          - ${{input.name}}
          - ${{output.write_greeting.path}}
          - ${{output.write_greeting.size}}
      response_handling:
        extract_fields:
          row: $.rows[0].rowid
"""
_COMPUTE: Final = """\
# yaml-language-server: $schema=./{schema}
compute_subcontract:
  operation_name: {name}
  version: 1.0.0
  description: Cleans a name and greets.

  # Judged before anything runs.
  input_schema:
    type: object
    required: [name]
    properties:
      name: {{type: string, minLength: 1}}

  # Each step gets the output of the one before.
  pipeline:
    - step_name: name
      step_type: transformation
      transformation_type: json_path
      transformation_config: {{config_type: json_path, path: $.name}}

    - step_name: clean
      step_type: transformation
      transformation_type: trim
      transformation_config: {{config_type: trim}}

    - step_name: greet
      step_type: transformation
      transformation_type: template
      transformation_config:
        config_type: template
        template: Hello, ${{item}}!

    # Parts of the input and of earlier outputs, put together.
    - step_name: result
      step_type: mapping
      mapping_config:
        field_mappings:
          given: $.input.name
          name: $.steps.clean
          greeting: $.steps.greet
"""
_REDUCER: Final = """\
# yaml-language-server: $schema=./{schema}
reducer_subcontract:
  state_machine:
    state_machine_name: {name}
    state_machine_version: 1.0.0
    initial_state: IDLE

    states:
      - state_name: IDLE
      - state_name: GREETED
        # Intents are data: an effect node carries them out.
        entry_intents:
          - intent_type: message_publish
            target: greetings
            payload:
              name: ${{payload.name}}
      - state_name: GONE
        is_terminal: true

    transitions:
      - transition_name: greet
        from_state: IDLE
        to_state: GREETED
        trigger: GREET
        # What the data of the state becomes; ids and times come from meta, so that a replay gives the same.
        assign:
          name: ${{payload.name}}
          greeting: Hello, ${{payload.name}}!
      - transition_name: leave
        from_state: "*"
        to_state: GONE
        trigger: LEAVE
"""

_WORKFLOW: Final = """\
# yaml-language-server: $schema=./{schema}
orchestrator_subcontract:
  workflow_name: {name}
  version: 1.0.0
  description: Makes a greeting, writes it to a file, and takes the file away again when something behind it fails.

  # Judged before anything runs.
  input_schema:
    type: object
    required: [name]
    properties:
      name: {{type: string, minLength: 1, pattern: "^[A-Za-z0-9-]+$"}}

  # What follows when a step fails; a step may say otherwise.
  conflict_resolution:
    retry_enabled: true
    max_retries: 2
    retry_config: {{base_delay_ms: 200}}

  # In their order. A step's node is a contract beside this one, or the name of a service of the program.
  steps:
    - step_id: greet
      step_type: compute
      node: {name}_greet.yaml
      input:
        name: ${{input.name}}

    - step_id: write
      step_type: effect
      node: {name}_write.yaml
      input:
        name: ${{input.name}}
        text: ${{steps.greet}}
      compensate:
        step_type: effect
        node: {name}_remove.yaml
        input:
          name: ${{input.name}}

  output:
    greeting: ${{steps.greet}}
"""
_GREET: Final = """\
# yaml-language-server: $schema=./{compute_schema}
compute_subcontract:
  operation_name: {name}_greet
  input_schema:
    type: object
    required: [name]
    properties:
      name: {{type: string}}
  pipeline:
    - step_name: name
      step_type: transformation
      transformation_type: json_path
      transformation_config: {{config_type: json_path, path: $.name}}
    - step_name: greet
      step_type: transformation
      transformation_type: template
      transformation_config: {{config_type: template, template: "Hello, ${{item}}!"}}
"""
_WRITE: Final = """\
# yaml-language-server: $schema=./{effect_schema}
effect_subcontract:
  subcontract_name: {name}_write
  input_schema:
    required_fields: [name, text]
  operations:
    - operation_name: write
      idempotent: true
      io_config:
        handler_type: filesystem
        operation: write
        file_path_template: {name}-out/${{input.name}}.txt
        content_template: ${{input.text}}
"""
_REMOVE: Final = """\
# yaml-language-server: $schema=./{effect_schema}
effect_subcontract:
  subcontract_name: {name}_remove
  input_schema:
    required_fields: [name]
  operations:
    - operation_name: remove
      io_config:
        handler_type: filesystem
        operation: delete
        file_path_template: {name}-out/${{input.name}}.txt
        missing_ok: true
"""

new = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


@new.callback()
def _new() -> None:
    """Begin a contract that works at once.

    [bold]Example[/]: onex new effect hello
    """


@new.command("effect", cls=PlainUsage)
def effect(
    name: _ContractName,
    directory: _Directory = Path(),
) -> None:
    """Write an effect contract, and the schema by which editors check it. Nothing is overwritten.

    [bold]Example[/]: onex new effect hello --dir contracts
    """
    _begin(name, directory, {"": _EFFECT}, {"effect": SCHEMA_FILE})


@new.command("compute", cls=PlainUsage)
def compute(
    name: _ContractName,
    directory: _Directory = Path(),
) -> None:
    """Write a compute contract, and the schema by which editors check it. Nothing is overwritten.

    [bold]Example[/]: onex new compute clean --dir contracts
    """
    _begin(name, directory, {"": _COMPUTE}, {"compute": _COMPUTE_SCHEMA_FILE})


@new.command("reducer", cls=PlainUsage)
def reducer(
    name: _ContractName,
    directory: _Directory = Path(),
) -> None:
    """Write a state machine, and the schema by which editors check it. Nothing is overwritten.

    [bold]Example[/]: onex new reducer orders --dir contracts
    """
    log = """--input '{"actions": [{"action": "GREET", "payload": {"name": "world"}}]}'"""
    _begin(name, directory, {"": _REDUCER}, {"reducer": _REDUCER_SCHEMA_FILE}, log)


@new.command("workflow", cls=PlainUsage)
def workflow(
    name: _ContractName,
    directory: _Directory = Path(),
) -> None:
    """Write a workflow with the contracts of its steps, and the schemas by which editors check them.

    Nothing is overwritten.

    [bold]Example[/]: onex new workflow nightly --dir workflows
    """
    texts = {"": _WORKFLOW, "_greet": _GREET, "_write": _WRITE, "_remove": _REMOVE}
    schemas = {"orchestrator": _WORKFLOW_SCHEMA_FILE, "compute": _COMPUTE_SCHEMA_FILE, "effect": SCHEMA_FILE}
    _begin(name, directory, texts, schemas)


def _begin(
    name: str, directory: Path, texts: dict[str, str], schemas: dict[str, str], given: str = "--set name=world"
) -> None:
    """Write contracts and schemas, and say what to do with them.

    texts: by what is put behind the name; the first is the contract that is meant. schemas: files by kind, likewise.
    given: the options by which the contract gets an input.
    """
    if not _NAME.fullmatch(name):
        raise _console.usage(f"{name!r} is no name: a letter, then up to 63 letters, digits, '_' and '-'")
    from omnibase_core.utils.contract_schema import contract_schema

    if directory.exists() and not directory.is_dir():
        raise _console.usage(f"{directory}: is no directory")
    contracts = {directory / f"{name}{behind}.yaml": text for behind, text in texts.items()}
    contract = next(iter(contracts))
    words = {f"{kind}_schema": file for kind, file in schemas.items()}
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in contracts.items():
            _write_new(path, text.format(name=name, schema=next(iter(schemas.values())), **words))
            written.append(path)
        for kind, file in schemas.items():
            if not (directory / file).exists():
                _write_new(directory / file, json.dumps(contract_schema(kind), indent=1) + "\n")
    except FileExistsError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise _console.usage(
            f"{error.filename}: exists already, and is not overwritten; choose another name or --dir"
        ) from None
    except NotADirectoryError as error:
        raise _console.usage(f"{error.filename}: is no directory") from None
    files = [*contracts, *(directory / file for file in schemas.values())]
    for line in (
        f"wrote {', '.join(map(str, files[:-1]))} and {files[-1]}",
        "",
        f"  onex validate {contract}",
        f"  onex plan {contract} {given}",
        f"  onex run {contract} {given}",
    ):
        _console.say(line)


def _write_new(path: Path, text: str) -> None:
    """Write all of it or leave nothing."""
    with path.open("x", encoding="utf-8") as stream:
        try:
            stream.write(text)
            stream.flush()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
