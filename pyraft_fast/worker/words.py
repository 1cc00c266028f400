"""How the words of a command are read: integers, floats, byte strings and glob patterns.

Words are `str` decoded as UTF-8 with `surrogateescape`, so any bytes survive. Lengths, ranges,
order and patterns mean bytes, as in Redis; the helpers here are the one place that knows it.
Commands called in-process may carry ints and floats, which are taken as they are.

Every error text is that of Redis 7.0. Nothing here knows a node or a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from pyraft_fast.errors import CommandError

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)
INTEGER_CHARS_MAX: Final = 20  # "-9223372036854775808"
FLOAT_CHARS_MAX: Final = 5 * 1024
SMALL_MAX: Final = 1023  # counters, places and counts are mostly small: their texts are shared
SMALL: Final = tuple(map(str, range(SMALL_MAX + 1)))
_BY_DIGITS: Final = {digits: value for value, digits in enumerate(SMALL)}

NOT_INTEGER: Final = "value is not an integer or out of range"
NOT_FLOAT: Final = "value is not a valid float"
NOT_POSITIVE: Final = "value is out of range, must be positive"
OUT_OF_RANGE: Final = "value is out of range"

Words = Sequence[Any]
Handler = Callable[[Any, Words], Any]


def syntax_error() -> CommandError:
    """A new error for options that do not fit together."""
    return CommandError("syntax error")


def arity_error(name: str) -> CommandError:
    """A new error for too few or too many words; `name` is lower case, `parent|sub` for a pair."""
    return CommandError(f"wrong number of arguments for '{name}' command")


def subcommand_error(command: str, word: Any) -> CommandError:
    """A new error for an unknown second word of `command`."""
    return CommandError(f"unknown subcommand '{word!s:.128}'. Try {command.upper()} HELP.")


def integer(word: Any, error: str = NOT_INTEGER) -> int:
    """Read a 64 bit integer the way Redis does: digits only, no leading zero, no blanks or plus.

    Raises CommandError with the text `error`.
    """
    if type(word) is int:
        value = word
    else:
        if type(word) is not str or len(word) > INTEGER_CHARS_MAX:
            raise CommandError(error)
        if len(word) < 5 and word in _BY_DIGITS:
            return _BY_DIGITS[word]
        try:
            value = int(word)
        except ValueError:
            raise CommandError(error) from None
        if str(value) != word:  # refuses "+1", "01", " 1", "1_0" and digits beyond ASCII
            raise CommandError(error)
    if not INT64_MIN <= value <= INT64_MAX:
        raise CommandError(error)
    return value


def positive(word: Any, error: str = NOT_POSITIVE) -> int:
    """Read an integer that is zero or more."""
    value = integer(word, error)
    if value < 0:
        raise CommandError(error)
    return value


def number(word: Any, error: str = NOT_FLOAT) -> float:
    """Read a double as C's `strtod` would, refusing blanks, NaN and what does not fit.

    Raises CommandError with the text `error`.
    """
    if type(word) is str and word.isdecimal() and word.isascii() and len(word) < 16:
        return float(int(word))  # the common case, quickly
    if type(word) is float or type(word) is int:
        value = float(word)
    elif type(word) is not str or not word.isascii() or len(word) > FLOAT_CHARS_MAX:
        raise CommandError(error)
    else:
        value = _float_of(word, error)
    if value != value:
        raise CommandError(error)
    return value


def _float_of(word: str, error: str) -> float:
    low = word.lower()
    if not low or "_" in low or low != low.strip() or low[-1] == "\0":
        raise CommandError(error)
    try:
        value = float.fromhex(low) if "x" in low else float(low)
    except (ValueError, OverflowError):
        raise CommandError(error) from None
    if value in (float("inf"), float("-inf")) and "inf" not in low:
        raise CommandError(error)
    if value == 0 and "x" not in low and low.partition("e")[0].strip("+-.0") != "":
        raise CommandError(error)
    return value


def option(word: Any) -> str:
    """The upper case form in which option words are compared."""
    return word.upper() if isinstance(word, str) else ""


def raw(value: str) -> bytes:
    """The bytes a word stands for."""
    return value.encode("utf-8", "surrogateescape")


def text(data: bytes) -> str:
    """The word that stands for `data`; `raw(text(data)) == data` for any bytes."""
    return data.decode("utf-8", "surrogateescape")


def byte_text(value: str) -> str:
    """A text with one character (0 to 255) per byte: it sorts and matches as the bytes do.

    An ASCII word is its own byte text, which makes the common case free.
    """
    return value if value.isascii() else raw(value).decode("latin-1")


def glob(pattern: str) -> Callable[[Any], bool]:
    """Compile a Redis glob (`*`, `?`, `[a-z]`, `[^a]`, `\\x`) into a test of whole words.

    Matching takes time in proportion to the word: a `*` never gives back what it took.
    """
    if pattern == "*":
        return lambda word: True
    matches = re.compile(_translate(byte_text(pattern)), re.DOTALL).fullmatch

    def test(word: Any) -> bool:
        subject = byte_text(word if isinstance(word, str) else str(word))
        if not subject:  # in Redis an empty word fits the empty pattern and a lone `*` only
            return not pattern
        return matches(subject) is not None

    return test


def _translate(pattern: str) -> str:
    """The regular expression for `pattern`, a byte text."""
    pieces: list[list[str]] = [[]]  # between stars
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            pieces.append([])
            at += 1
            continue
        if char == "?":
            one, at = ".", at + 1
        elif char == "[":
            one, at = _translate_class(pattern, at + 1)
        else:
            if char == "\\" and at + 1 < len(pattern):
                at += 1
            one, at = re.escape(pattern[at]), at + 1
        pieces[-1].append(one)
    first, *middle = ["".join(piece) for piece in pieces]
    if not middle:
        return first
    last = middle.pop()
    # A look-ahead is atomic, so each star settles for its first fit; see fnmatch.translate.
    stars = [f"(?=(?P<s{i}>.*?{one}))(?P=s{i})" for i, one in enumerate(middle) if one]
    return first + "".join(stars) + ".*" + last


def _signed(char: str) -> int:
    """The byte as C's signed `char`, which is how Redis compares the ends of a range."""
    return ord(char) - 256 if ord(char) > 127 else ord(char)


def _translate_class(pattern: str, at: int) -> tuple[str, int]:
    """Translate what follows a `[` at `at`; returns it and the place behind it."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    chars: set[int] = set()
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at] == "\\" and at + 1 < len(pattern):
            chars.add(ord(pattern[at + 1]))
            at += 2
        elif at + 2 < len(pattern) and pattern[at + 1] == "-":
            low, high = sorted((_signed(pattern[at]), _signed(pattern[at + 2])))
            chars.update(code & 0xFF for code in range(low, high + 1))
            at += 3
        else:
            chars.add(ord(pattern[at]))
            at += 1
    inside = "".join(f"\\x{code:02x}" for code in sorted(chars))
    if not inside:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inside}]", at + 1
