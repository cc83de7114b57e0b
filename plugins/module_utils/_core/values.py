# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The grammar of values, the same for selectors, options and policies.

    parse_duration_ms("1.5s", ("settle",))  # 1500
    parse_rate("600/m", ("pace",))  # 10.0
    parse_size("1.5M", ("send_queue",))  # 1572864

Each parser takes a value and its path in the input, and raises InputError with both. `allowed` is
the phrase in that error that describes valid values.

A number may be a string, because templates render strings. A whole number may be a float such as
8.0, because a division in a template gives one and JSON does not distinguish them. A boolean is
never a number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from difflib import get_close_matches
from typing import Protocol

from .errors import InputError, PathStep

Path = tuple[PathStep, ...]

PORT_MAX = 65535
# (uid_t)-1 stands for no user (setreuid(2)).
UID_MAX = 2**32 - 2

DURATION = "a duration such as 90s, 1500ms, 5m, 2h or 1d; a bare number is seconds"
SIZE = "a number of bytes, or one followed by k, M or G (1024, 1024 squared, 1024 cubed)"
COUNT = "a whole number"
RATE = "a rate such as 100/s, 600/m or 1000/h; a bare number is per second"
SHARE = "a whole number, or a share such as 25%"
PORT = f"a port from 0 to {PORT_MAX}, a range such as 8000-8100, or a service name"

_DIGITS = re.compile(r"[0-9]{1,20}")
_DECIMAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?\s*([a-zA-Z]*)")
_MICROSECONDS = {
    "us": 1,
    "ms": 1000,
    "s": 1_000_000,
    "": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
MAX_DURATION_US = 3650 * _MICROSECONDS["d"]
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
MAX_INTEGER = 2**63 - 1


class Names(Protocol):
    """A resolver of user and service names, on the host whose sockets are selected."""

    def user_id(self, name: str) -> int | None:
        """The uid of a user; None if there is no such user."""

    def service_port(self, name: str, protocol: str) -> int | None:
        """The port of a service (services(5)); None if there is no such service."""


def describe_type(value: object) -> str:
    """Describe the type of an invalid value, so that the user finds it in their YAML."""
    if value is None:
        return "null, for example from an unset variable"
    if isinstance(value, bool):
        return "a boolean (YAML reads yes, no, on and off as booleans: quote the word)"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return f"of type {type(value).__name__}"


def text(value: object, path: Path, allowed: str) -> str:
    """A non-empty string, without surrounding white space."""
    if not isinstance(value, str):
        raise InputError(path, value, describe_type(value), allowed)
    stripped = value.strip()
    if not stripped:
        raise InputError(path, value, "empty", allowed)
    return stripped


def free_text(value: object, path: Path, allowed: str) -> str:
    """A string that is not blank, unchanged: blanks at its ends may be part of a name."""
    text(value, path, allowed)
    return str(value)


def error_of_whole(error: InputError, value: object, where: str = "") -> InputError:
    """Turn an error about a part of a value into one about the whole value.

    where: a prefix for the problem that names the part.
    """
    return InputError(error.path, value, where + error.problem, error.allowed)


def items(value: object, path: Path, allowed: str) -> Iterator[tuple[Path, object]]:
    """Yield (path, element) of a list, or of a single value, which stands for a list of one."""
    if not isinstance(value, (list, tuple)):
        yield path, value
        return
    if not value:
        raise InputError(path, value, "an empty list", allowed)
    for index, item in enumerate(value):
        yield (*path, index), item


def suggestion(word: str, words: Collection[str]) -> str:
    """` (did you mean X?)` if a known word is similar, else an empty string."""
    close = get_close_matches(word.lower(), list(words), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def choice(value: object, path: Path, words: Collection[str], noun: str) -> str:
    """One of these words, in any case. noun: the term for them, such as `mode`."""
    allowed = f"one of: {', '.join(words)}"
    word = text(value, path, allowed)
    # The Kelvin sign is not ASCII, but its lower case is: k.
    lower = word.lower() if word.isascii() else word
    if lower not in words:
        raise InputError(path, value, f"no such {noun}{suggestion(word, words)}", allowed)
    return lower


def integer(
    value: object, path: Path, allowed: str = COUNT, *, low: int = 0, high: int = MAX_INTEGER
) -> int:
    """A whole number from low to high, or a string of its digits."""
    given = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        problem = "not a whole number" if isinstance(given, float) else describe_type(given)
        raise InputError(path, value, problem, allowed)
    if isinstance(given, str):
        stripped = text(given, path, allowed)
        if not _DIGITS.fullmatch(stripped):
            raise InputError(path, value, "not a whole number", allowed)
        number = int(stripped)
    else:
        number = given
    if not low <= number <= high:
        raise InputError(path, value, f"outside {low} to {high}", allowed)
    return number


def _decimal(value: object, path: Path, units: dict[str, int], allowed: str) -> int:
    """Parse a decimal number with a unit into a whole number of the smallest unit."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InputError(path, value, describe_type(value), allowed)
    number = text(value, path, allowed) if isinstance(value, str) else _digits(value)
    match = _DECIMAL.fullmatch(number)
    if match is None or match[3].lower() not in units:
        raise InputError(path, value, "cannot be read", allowed)
    unit = units[match[3].lower()]
    fraction = match[2] or ""
    scaled = int(match[1] + fraction) * unit
    divisor: int = 10 ** len(fraction)
    if scaled % divisor:
        raise InputError(path, value, "finer than the smallest unit", allowed)
    return scaled // divisor


def _digits(number: float) -> str:
    """Format a number without an exponent, and -0.0 without its sign."""
    return format(Decimal(repr(number + 0.0)), "f") if isinstance(number, float) else str(number)


def parse_duration_us(value: object, path: Path) -> int:
    """Parse a duration into microseconds, at most MAX_DURATION_US."""
    duration = _decimal(value, path, _MICROSECONDS, DURATION)
    if duration > MAX_DURATION_US:
        raise InputError(path, value, "longer than ten years", DURATION)
    return duration


def parse_duration_ms(
    value: object, path: Path, *, low_ms: int = 0, high_ms: int | None = None
) -> int:
    """Parse a duration into milliseconds, from low_ms to high_ms (None: no upper bound)."""
    duration, rest = divmod(parse_duration_us(value, path), 1000)
    if rest:
        raise InputError(path, value, "finer than a millisecond", DURATION)
    if duration < low_ms:
        raise InputError(path, value, f"shorter than {low_ms} ms", DURATION)
    if high_ms is not None and duration > high_ms:
        raise InputError(path, value, f"longer than {high_ms // 1000} s", DURATION)
    return duration


def parse_size(value: object, path: Path) -> int:
    """Parse a size into bytes."""
    size = _decimal(value, path, _BYTES, SIZE)
    if size > MAX_INTEGER:
        raise InputError(path, value, f"larger than {MAX_INTEGER}", SIZE)
    return size


def parse_rate(value: object, path: Path) -> float:
    """Parse `100/s`, `600/m` or `1000/h` into events a second; a bare number is per second."""
    if not isinstance(value, str):
        return float(integer(value, path, RATE, low=1))
    number, _slash, unit = text(value, path, RATE).partition("/")
    unit = unit.strip().lower() if _slash else "s"
    if unit not in ("s", "m", "h"):
        raise InputError(path, value, "cannot be read", RATE)
    return integer(number, path, RATE, low=1) * 1_000_000 / _MICROSECONDS[unit]


def parse_share(value: object, path: Path) -> int | float:
    """Parse a whole number into an int, or a share such as `25%` into a float from 0 to 1."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return integer(value.strip()[:-1], path, SHARE, high=100) / 100
    return integer(value, path, SHARE)


def parse_port(value: object, path: Path, names: Names, allowed: str = PORT) -> int:
    """Parse a port number or a service name.

    A name is resolved for TCP and UDP. A name with a different port for each is an error.
    """
    if not isinstance(value, str) or _DIGITS.fullmatch(value.strip()):
        return integer(value, path, allowed, high=PORT_MAX)
    name = text(value, path, allowed)
    resolved = [names.service_port(name, protocol) for protocol in ("tcp", "udp")]
    ports = {port for port in resolved if port is not None}
    if not ports:
        raise InputError(path, value, "neither a port nor a known service", allowed)
    if len(ports) > 1:
        raise InputError(path, value, "one port for TCP and another for UDP", allowed)
    return ports.pop()


def parse_range(value: object, path: Path, allowed: str, high: int) -> tuple[int, int] | None:
    """Parse a number or `FIRST-LAST` into (first, last). Returns None for any other string.

    high: the upper bound of both.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?", value.strip())
        if match is None:
            return None
        try:
            first = integer(match[1], path, allowed, high=high)
            last = integer(match[2], path, allowed, high=high) if match[2] else first
        except InputError as error:
            raise error_of_whole(error, value) from error
        if last < first:
            raise InputError(path, value, "a range that ends before it begins", allowed)
        return first, last
    number = integer(value, path, allowed, high=high)
    return number, number


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sort ranges (first, last), and join those that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)
