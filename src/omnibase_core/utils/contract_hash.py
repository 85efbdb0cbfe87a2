"""The identity of a contract's content: SHA-256 over canonical JSON (RFC 8785)."""

import hashlib
import json
import math
import re

from omnibase_core.models.contracts.contract_model import ContractModel
from omnibase_core.models.contracts.subcontracts.model_effect_subcontract import ModelEffectSubcontract

# A number that the standard library may spell otherwise than ECMAScript does. It may also match inside a string, which
# costs time and changes nothing.
_FRACTION = re.compile(r"[:,\[]-?(?:[0-9]+[.e]|NaN|Inf)")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")  # sorted by code units these come before U+E000, by code points after
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')


def contract_hash(contract: ModelEffectSubcontract) -> str:
    """SHA-256, in hex, over what was set in a contract, without its metadata. Equal contracts have equal hashes."""
    content = _set_fields(contract)
    content.pop("metadata", None)
    text = _encode(content)
    if _FRACTION.search(text) or (not text.isascii() and _ASTRAL.search(text)):
        text = canonical_json(content)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _set_fields(value: ContractModel) -> dict[str, object]:
    """A model as a dict, one level deep; order is the encoder's business."""
    there = value.__dict__
    content: dict[str, object] = {name: there[name] for name in value.model_fields_set}
    if "handler_type" in there:
        content["handler_type"] = there["handler_type"]  # tells the configs apart, also when Python left it out
    return content


def _plain(value: object) -> object:
    """What JSON does not know: parts of the contract, and ids and times, which are their text."""
    return _set_fields(value) if isinstance(value, ContractModel) else str(value)


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False, default=_plain
).encode


def canonical_json(value: object) -> str:
    """The canonical text of a JSON value or of a contract's model. Whole numbers keep all their digits."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, str):
        return f'"{_ESCAPED.sub(_escape, str.__str__(value))}"'
    if isinstance(value, float):
        return ecmascript_number(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(canonical_json, value))}]"
    if isinstance(value, dict):
        keys = sorted(value, key=_code_units)
        return f"{{{','.join(f'{canonical_json(key)}:{canonical_json(value[key])}' for key in keys)}}}"
    return canonical_json(_plain(value))


def _code_units(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"


def ecmascript_number(value: float) -> str:
    """A double as ECMAScript writes it (shortest digits, exponent from 1e21 and below 1e-6)."""
    if not math.isfinite(value):
        return repr(value)  # no JSON, and refused where JSON is sent; here it only has to differ from others
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{'+' if power > 0 else '-'}{abs(power)}"
