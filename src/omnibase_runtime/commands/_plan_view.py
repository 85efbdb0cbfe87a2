"""A plan, and an explanation, for a person: renderings of the documents that `--json` prints."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from omnibase_runtime.commands._console import clean, console
from omnibase_runtime.commands._render import can_show, count, heading, milliseconds, pairs, short

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import Console

Document = Mapping[str, "JsonValue"]
_BUILT_IN: Final = "built-in default"
_LONG: Final = 4_000


def below(document: Document, key: str) -> "dict[str, JsonValue]":
    """The object at `key`, empty where there is none."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def each(document: Document, key: str) -> "Iterator[dict[str, JsonValue]]":
    """The objects of the list at `key`."""
    value = document.get(key)
    return (item for item in (value if isinstance(value, list) else []) if isinstance(item, dict))


def print_plan(document: Document) -> None:
    """Everything on one page: the contract, its operations in order, and what they reach."""
    screen = console()
    contract = below(document, "contract")
    operations = list(each(document, "operations"))
    heading(
        screen,
        f"{contract['name']} {contract['version']}",
        count(len(operations), "operation"),
        str(contract["execution_mode"]),
        f"at most {_ms(contract['flow_timeout_ms'])}",
        "nothing was done",
    )
    if document.get("transaction"):
        screen.print(pairs([("transaction", transaction_line(below(document, "transaction")))], indent=0))
    for number, operation in enumerate(operations, 1):
        screen.print()
        _print_operation(screen, number, operation)
    screen.print()
    screen.print(pairs(_reach(document), indent=0))


def transaction_line(transaction: Document) -> str:
    """Connection, isolation and fate of a transaction in one line."""
    asked, real = str(transaction["isolation_level"]), str(transaction["effective_isolation_level"])
    level = real if asked == real else f"{real} (asked for {asked}; SQLite is always serializable)"
    end = "rolled back when an operation fails" if transaction["rollback_on_error"] else "what succeeded is committed"
    savepoints = ", a savepoint per operation" if transaction["savepoint_per_operation"] else ""
    attempts = list(each(transaction, "attempts"))
    repeated = f", at most {len(attempts)} attempts" if len(attempts) > 1 else ""
    return f"on {transaction['connection']}, {level}, {end}{savepoints}, {_ms(transaction['timeout_ms'])}{repeated}"


def _print_operation(screen: "Console", number: int, operation: Document) -> None:
    from rich.padding import Padding
    from rich.text import Text

    title = Text.assemble((f"{number}  ", "dim"), (str(operation["name"]), "bold"), (f"  {operation['kind']}", "dim"))
    screen.print(title)
    for line in _sent(operation):
        screen.print(Padding(Text(clean(line)), (0, 0, 0, 3), expand=False))
    screen.print(pairs(_facts(operation), indent=3))


def _sent(operation: Document) -> Iterator[str]:
    """What goes out, in the form in which it is known best."""
    sends = dict(below(operation, "sends"))
    kind = str(operation["kind"]).partition(" ")[0]
    if kind == "http":
        yield f"{sends.pop('method')} {sends.pop('url')}"
        for name, value in _object(sends.pop("query_params", None)):
            yield f"  ?{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in _object(sends.pop("headers", None)):
            yield f"{name}: {value}"
        yield from _text(sends.pop("body", None))
    elif kind == "db":
        sends.pop("connection_name"), sends.pop("operation")
        yield from _text(sends.pop("query"))
        params = sends.pop("params", None)
        for index, value in enumerate(params if isinstance(params, list) else [], 1):
            yield f"  ${index} = {json.dumps(value, ensure_ascii=False)}"
    elif kind == "kafka":
        key = sends.pop("partition_key", None)
        yield f"to {sends.pop('topic')}" + ("" if key is None else f", key {short(key)}")
        sends.pop("connection_name", None)
        for name, value in _object(sends.pop("headers", None)):
            yield f"{name}: {value}"
        yield from _text(sends.pop("payload", None))
    else:
        arrow = " → " if can_show("→") else " -> "
        destination = sends.pop("destination_path", None)
        yield f"{sends.pop('operation')} {sends.pop('file_path')}" + (f"{arrow}{destination}" if destination else "")
        yield from _text(sends.pop("content", None))
    if sends:
        yield ", ".join(f"{name} {short(value)}" for name, value in sends.items())


def _object(value: "JsonValue") -> "list[tuple[str, JsonValue]]":
    return list(value.items()) if isinstance(value, dict) else []


def _text(value: "JsonValue") -> Iterator[str]:
    """A text with its lines, cut where it would fill the screen."""
    if value is None or value == "":
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > _LONG:
        text = f"{text[:_LONG]}… ({len(text)} characters in all)"
    yield from ("  " + line for line in text.splitlines())


def _facts(operation: Document) -> "list[tuple[str, str]]":
    used = below(operation, "connection")
    depends = operation["depends_on"]
    notes = operation["notes"]
    return [
        ("after", ", ".join(str(name) for name in depends) if isinstance(depends, list) else ""),
        ("connection", connection_line(used) if used else ""),
        ("idempotent", f"{'yes' if operation['idempotent'] else 'no'}: {operation['because']}"),
        ("attempts", attempts_line(operation)),
        ("retry", chosen_line(list(each(operation, "retry")))),
        ("breaker", chosen_line(list(each(operation, "breaker"))) if has_breaker(operation) else "off"),
        ("note", "\n".join(str(note) for note in notes) if isinstance(notes, list) else ""),
    ]


def connection_line(used: Document) -> str:
    """Name, driver, target, or what is wrong."""
    if used.get("problem"):
        return f"{used['name']}: {used['problem']}"
    return f"{used['name']} ({used['driver']} {used['target']}, {used['source']})"


def attempts_line(operation: Document) -> str:
    """When each attempt begins if all before it fail at once, and the limits."""
    limits = {str(one["name"]): one["value"] for one in each(operation, "timeouts")}
    begins = [_ms(one["begins_ms"]) for one in each(operation, "attempts")]
    when = "1, not repeated" if len(begins) == 1 else f"{len(begins)}, at {', '.join(['0', *begins[1:]])}"
    if len(begins) > 1 and not operation["idempotent"]:
        when += ", repeated only when provably nothing was done"
    return f"{when}; each at most {_ms(limits['timeout_ms'])}, together {_ms(limits['operation_timeout_ms'])}"


def has_breaker(operation: Document) -> bool:
    """Whether a breaker watches over the operation: inside a transaction none does."""
    return not operation["in_transaction"] and any(
        one["name"] == "enabled" and one["value"] is True for one in each(operation, "breaker")
    )


def settings_line(settings: "Sequence[Document]") -> str:
    """All values, a line for each place that they come from."""
    by_source: dict[str, list[str]] = {}
    for one in sorted(settings, key=lambda one: one["source"] == _BUILT_IN):
        by_source.setdefault(str(one["source"]), []).append(f"{one['name']} {_plain(one['value'])}")
    return "\n".join(f"{source}: {', '.join(values)}" for source, values in by_source.items())


def chosen_line(settings: "Sequence[Document]") -> str:
    """The values that somebody chose; the others stand at the end of the plan, once."""
    chosen = settings_line([one for one in settings if one["source"] != _BUILT_IN])
    return f"{chosen}; else built-in defaults" if chosen else "built-in defaults"


def _built_in(document: Document) -> str:
    """The built-in values that apply anywhere in the plan, each once."""
    lines = []
    for policy in ("retry", "breaker"):
        operations = (one for one in each(document, "operations") if policy == "retry" or has_breaker(one))
        used = {str(s["name"]): s["value"] for one in operations for s in each(one, policy) if s["source"] == _BUILT_IN}
        if used:
            lines.append(f"{policy}: {', '.join(f'{name} {_plain(value)}' for name, value in used.items())}")
    return "\n".join(lines)


def _plain(value: "JsonValue") -> str:
    return "+".join(str(item) for item in value) if isinstance(value, list) else short(value)


def _reach(document: Document) -> "list[tuple[str, str]]":
    hosts, secrets, roots = document["hosts"], document["secrets"], document["file_roots"]
    variables = [
        str(one["name"]) + ("" if one["set"] else " (not set: a run would fail)") for one in each(document, "env")
    ]
    return [
        ("connections", "\n".join(connection_line(one) for one in each(document, "connections"))),
        ("hosts", _names(hosts)),
        ("variables", ", ".join(variables)),
        ("secrets", _names(secrets)),
        ("file roots", _names(roots)),
        ("built-in", _built_in(document)),
    ]


def _names(value: "JsonValue") -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else ""


def _ms(value: "JsonValue") -> str:
    return milliseconds(float(value)) if isinstance(value, int | float) else str(value)
