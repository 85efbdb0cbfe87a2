"""What no engine takes at its door, because no database could keep it or find it again."""

import json
from collections.abc import Mapping

from pydantic import JsonValue
from pydantic_core import to_json

from omnibase_core.enums.enum_core_error_code import EnumCoreErrorCode
from omnibase_core.errors.onex_error import ModelOnexError
from omnibase_core.protocols.protocol_workflow_engine import Schedule, Signal, StartRequest


def json_of(value: JsonValue, what: str) -> str:
    """A value as JSON. Raises VALIDATION_ERROR for a number that is not finite, and for text that is no Unicode."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} is no JSON: {error}. Numbers must be finite, and texts must be Unicode."
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR) from None
    return text


def check_word(text: str | None, what: str) -> None:
    """Raise VALIDATION_ERROR for a name that is no Unicode, or has a character NUL."""
    if text is None or (text.isascii() and "\0" not in text):
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        sound = False
    else:
        sound = "\0" not in text
    if not sound:
        message = f"{what} {text!a}: a name is Unicode without the character NUL."
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)


def check_start(request: StartRequest) -> None:
    """Raise VALIDATION_ERROR for a request that cannot be kept."""
    what = f"Start of workflow {request.workflow_id!a}"
    if not request.workflow_id.strip():
        message = "Start of a workflow: its id is empty. Give one, or leave it out to have one made."
        raise ModelOnexError(message, EnumCoreErrorCode.VALIDATION_ERROR)
    check_word(request.workflow_id, "The id of a run")
    check_word(request.queue, f"{what}: queue")
    check_word(request.deduplication_key, f"{what}: deduplication key")
    check_attributes(request.attributes, what)
    check_value(request.input_data, f"{what}: its input")


def check_attributes(attributes: Mapping[str, JsonValue], what: str) -> None:
    """Raise VALIDATION_ERROR for attributes that a database could not search."""
    if attributes:
        text = json_of(dict(attributes), f"{what}: its attributes")
        check_word("\0" if "\\u0000" in text.replace("\\\\", "") else None, f"{what}: an attribute")


def check_value(value: JsonValue, what: str) -> None:
    """Raise VALIDATION_ERROR for a value that is no JSON; quick for one that is."""
    try:
        text = to_json(value)
    except ValueError:
        text = b"NaN"
    if b"NaN" in text or b"Infinity" in text:
        json_of(value, what)


def check_signal(workflow_id: str, signal: Signal) -> None:
    """Raise VALIDATION_ERROR for a signal that cannot be kept."""
    what = f"A signal to workflow {workflow_id!a}"
    check_word(signal.topic, f"{what}: topic")
    check_word(signal.key, f"{what}: key")
    check_word(signal.sender, f"{what}: sender")
    check_value(signal.payload, f"{what}: its payload")


def check_schedule(schedule: Schedule) -> None:
    """Raise VALIDATION_ERROR for a schedule that cannot be kept; when it is due is judged by `workflow_cron`."""
    check_word(schedule.name, "The name of a schedule")
    check_value(schedule.input_data, f"Schedule {schedule.name!a}: its input")
