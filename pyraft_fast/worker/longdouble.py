"""INCRBYFLOAT's arithmetic: C's 80 bit `long double`, in exact integers, alike on every machine.

Redis parses both numbers as long doubles, adds them, and prints 17 digits behind the point
without trailing zeros. Values here are `Fraction`s rounded to 64 bits of mantissa.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.worker.words import FLOAT_CHARS_MAX, NOT_FLOAT

_MANTISSA_BITS: Final = 64
_EXPONENT_MAX: Final = 4932  # decimal exponent of the largest long double
_LARGEST: Final = Fraction((2**64 - 1) * 2 ** (16383 - 63))
_SCALE: Final = 10**17


def parse(word: Any, error: str = NOT_FLOAT) -> Fraction:
    """Read a long double; raises CommandError(error) for what is none, NaN or infinite."""
    if type(word) is int or type(word) is float:
        word = repr(word)
    if type(word) is not str or len(word) > FLOAT_CHARS_MAX or not word.isascii() or "_" in word:
        raise CommandError(error)
    if word != word.strip() or not word:
        raise CommandError(error)
    try:
        value = Decimal(word)
    except InvalidOperation:
        raise CommandError(error) from None
    if value.is_nan():
        raise CommandError(error)
    if value.is_infinite():
        raise CommandError("increment would produce NaN or Infinity")
    if value and not -_EXPONENT_MAX - 18 <= value.adjusted() <= _EXPONENT_MAX:
        raise CommandError(error)
    return rounded(Fraction(value))


def rounded(value: Fraction) -> Fraction:
    """The long double nearest to `value`, ties to even. Raises CommandError beyond the largest."""
    if not value:
        return value
    top, bottom = abs(value.numerator), value.denominator
    shift = top.bit_length() - bottom.bit_length() - _MANTISSA_BITS
    unit = Fraction(2) ** shift
    if round(abs(value) / unit) >= 2**_MANTISSA_BITS:
        unit *= 2
    result = round(value / unit) * unit
    if abs(result) > _LARGEST:
        raise CommandError("increment would produce NaN or Infinity")
    return result


def add(old: Any, increment: Any, old_error: str = NOT_FLOAT) -> str:
    """The sum of two words as Redis prints it."""
    return show(rounded(parse(old, old_error) + parse(increment)))


def show(value: Fraction) -> str:
    """Seventeen digits behind the point, without trailing zeros."""
    scaled = round(value * _SCALE)
    whole, part = divmod(abs(scaled), _SCALE)
    sign = "-" if scaled < 0 else ""
    digits = _decimal(whole)
    return f"{sign}{digits}.{part:017d}".rstrip("0") if part else sign + digits


def _decimal(whole: int) -> str:
    """`str` of an integer of any length; Python limits the plain call to 4300 digits."""
    if whole < 10**4000:
        return str(whole)
    high, low = divmod(whole, 10**4000)
    return f"{high}{low:04000d}"
