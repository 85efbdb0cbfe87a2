"""Sums of numbers without rounding, so that no chunking and no order of adding changes a bit of the result.

Every finite float is a whole multiple of 2**-1074. A total is kept as that multiple, an int: adding two totals is
exact, in any order, and a total never needs more than a few hundred bytes. Rounding happens once, when the result is
made. A chunk gets there quickly: `math.fsum` gives the rounded sum of its floats, then the sum of what that left over,
until nothing is left.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import neg
from typing import Final

SCALE: Final = 1074
"""A total counts units of 2**-SCALE; a total of squares counts units of 2**-(2 * SCALE)."""
_SPLIT: Final = 134217729.0  # 2**27 + 1: halves the 53 bits of a float
_SMALLEST: Final = 2.0**-480
_LARGEST: Final = 2.0**480
_ROOT_BITS: Final = 112  # twice 56: two bits more than a float has, and one for what is cut off


def scaled(value: float) -> int:
    """A finite number in units of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (SCALE + 1 - denominator.bit_length())


def sum_of_floats(values: Sequence[float]) -> int:
    """The exact sum of floats in units of 2**-1074. Raises ValueError when one of them is not finite."""
    try:
        parts = _parts(values)
    except OverflowError:  # the sum of the parts may still be a float, or stay within range once others are added
        return sum(map(scaled, values))
    return sum(map(scaled, parts))


def sum_of_ints(values: Iterable[int]) -> int:
    """The exact sum of ints in units of 2**-1074."""
    return sum(values) << SCALE


def squares_of_floats(values: Sequence[float]) -> int:
    """The exact sum of the squares of finite floats in units of 2**-2148."""
    if all(_SMALLEST < abs(value) < _LARGEST or not value for value in values):
        squares = [value * value for value in values]
        return (sum_of_floats(squares) + sum_of_floats([*map(_rounded_off, values, squares)])) << SCALE
    return sum(scaled(value) ** 2 for value in values)


def squares_of_ints(values: Iterable[int]) -> int:
    """The exact sum of the squares of ints in units of 2**-2148."""
    return sum(value * value for value in values) << (2 * SCALE)


class BeyondFloatsError(ValueError):
    """A result that no float can hold: JSON has no infinity that would say so."""

    def __init__(self) -> None:
        super().__init__(f"the result is beyond the range of floats, which ends at {sys.float_info.max:.3g}")


def quotient(numerator: int, denominator: int) -> float:
    """The float nearest to the quotient. `denominator` is above 0. Raises BeyondFloatsError."""
    try:
        return numerator / denominator
    except OverflowError:
        raise BeyondFloatsError from None


def root_of_quotient(numerator: int, denominator: int) -> float:
    """The float nearest to the square root of a quotient that is not negative. Raises BeyondFloatsError."""
    if not numerator:
        return 0.0
    shift = (_ROOT_BITS + 1 - numerator.bit_length() + denominator.bit_length()) // 2
    if shift > 0:
        numerator <<= 2 * shift
    else:
        denominator <<= -2 * shift
    whole, left = divmod(numerator, denominator)
    root = math.isqrt(whole)
    if left or root * root != whole:
        root |= 1  # what was cut off decides a tie, so it must not be forgotten
    return quotient(root, 1 << shift) if shift > 0 else quotient(root << -shift, 1)


def _parts(values: Sequence[float]) -> list[float]:
    """A few floats with the same exact sum."""
    parts: list[float] = []
    while part := math.fsum(chain(values, map(neg, parts))):
        if not math.isfinite(part):
            raise ValueError("a sum needs finite numbers")
        parts.append(part)
    return parts


def _rounded_off(value: float, square: float) -> float:
    """What `square` lacks to be the exact square (Veltkamp's split, Dekker's product)."""
    wide = _SPLIT * value
    high = wide - (wide - value)
    low = value - high
    return ((high * high - square) + 2.0 * high * low) + low * low
