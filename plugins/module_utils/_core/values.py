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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Protocol, TypeVar

from .errors import InputError, PathStep

Path = tuple[PathStep, ...]
T = TypeVar("T")

PORT_MAX = 65535
# (uid_t)-1 stands for no user (setreuid(2)).
UID_MAX = 2**32 - 2

DURATION = "a duration such as 90s, 1500ms, 5m, 1h30m or 1d; a bare number is seconds"
SIZE = "a number of bytes, or one followed by k, M or G (1024, 1024 squared, 1024 cubed)"
MINIMUM = f"{DURATION}; it is the minimum, so >5m and >=5m are accepted too"
COUNT = "a whole number"
RATE = "a rate such as 100/s, 600/m or 1000/h; a bare number is per second"
SHARE = "a whole number, or a share such as 25%"
PORT = f"a port from 0 to {PORT_MAX}, a range such as 8000-8100, or a service name"

_DIGITS = re.compile(r"[0-9]{1,20}")
# Between the parts of a word such as close-wait, and between the elements of a list in a string.
_WORDS = re.compile(r"[-_\s]+")
_SEPARATORS = re.compile(r"\s*[,;|+]\s*|\s+(?:or\s+|and\s+)?")
_SLASHES = re.compile(r"(?<=[a-z])/(?=[a-z])", re.IGNORECASE)
_NEGATED = re.compile(r"\s*(?:!=?|<>|not\s)\s*(.*\S)\s*", re.IGNORECASE)
_MAX_PARTS = 100
_MAX_SIMILAR = 3
_COMPARED = re.compile(r"\s*(>=|<=|==|!=|>|<|=)")
# Several numbers, each with a unit: 1h30m.
_TERMS = re.compile(r"(?:[0-9]{1,20}(?:\.[0-9]{1,9})?\s*[a-zA-Z]+\s*){2,8}")
_DECIMAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?\s*([a-zA-Z]*)\s*")
# Units of time as systemd.time(7) spells them, without months and years, whose length varies.
DURATION_UNITS: dict[int, tuple[str, ...]] = {
    1: ("us", "usec", "usecs", "microsecond", "microseconds"),
    1000: ("ms", "msec", "msecs", "millisecond", "milliseconds"),
    1_000_000: ("s", "sec", "secs", "second", "seconds"),
    60_000_000: ("m", "min", "mins", "minute", "minutes"),
    3_600_000_000: ("h", "hr", "hrs", "hour", "hours"),
    86_400_000_000: ("d", "day", "days"),
    604_800_000_000: ("w", "week", "weeks"),
}
_MICROSECONDS = {
    "": 1_000_000,
    **{name: length for length, names in DURATION_UNITS.items() for name in names},
}
MAX_DURATION_US = 3650 * _MICROSECONDS["d"]
SIZE_UNITS: dict[int, tuple[str, ...]] = {
    1: ("b", "byte", "bytes"),
    2**10: ("k", "kib"),
    2**20: ("m", "mib"),
    2**30: ("g", "gib"),
}
_BYTES = {"": 1, **{name: size for size, names in SIZE_UNITS.items() for name in names}}
# Units of which some people mean powers of 1000.
_DECIMAL_UNITS = {"kb": "k", "mb": "m", "gb": "g"}
_PER = {
    name: length
    for length in (1_000_000, 60_000_000, 3_600_000_000)
    for name in DURATION_UNITS[length]
}
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


def each(
    value: object, path: Path, allowed: str, read: Callable[[object, Path], T]
) -> Iterator[tuple[Path, object, T]]:
    """Yield (path, element, read(element)) as items does.

    A string that holds several valid elements, or a negated one, is rejected with what to write.
    """
    for at, item in items(value, path, allowed):
        try:
            found = read(item, at)
        except InputError as error:
            raise _list_in_text(error, item, at, read) from error
        yield at, item, found


def _list_in_text(
    error: InputError, value: object, path: Path, read: Callable[[object, Path], object]
) -> InputError:
    """The error about a list in a string, or about a negated value; else the same error."""

    def readable(written: str) -> bool:
        try:
            read(written, path)
        except InputError:
            return False
        return True

    if not isinstance(value, str):
        return error
    negated = _NEGATED.fullmatch(value)
    if negated is not None and readable(negated[1]):
        key = next((step for step in reversed(path) if isinstance(step, str)), "KEY")
        return InputError(path, value, "negated", f"{{not: {{{key}: {negated[1]}}}}}")
    parts = _SEPARATORS.split(_SLASHES.sub(",", value.strip()))
    if 1 < len(parts) <= _MAX_PARTS and all(map(readable, parts)):
        return InputError(path, value, "a list in one string", f"[{', '.join(parts)}]")
    return error


def similar(word: str, words: Collection[str]) -> tuple[str, ...]:
    """The known words that a word may stand for, at most three; the best ones only.

    Spelled differently, or containing the word (`port`: local_port and remote_port), or with a
    typing error.
    """
    same = spelled(word, words)
    if same is not None:
        return (same,)
    lower = word.strip().lower()
    containing = tuple(each for each in words if lower in _WORDS.split(each))
    if lower and 0 < len(containing) <= _MAX_SIMILAR:
        return containing
    return tuple(get_close_matches(lower.replace("-", "_"), list(words), n=1))


def suggestion(near: Collection[str]) -> str:
    """` (did you mean X or Y?)`; without words an empty string."""
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def no_such(
    path: Path,
    value: object,
    problem: str,
    word: str,
    words: Collection[str],
    allowed: str,
    synonyms: Mapping[str, tuple[str, ...]] | None = None,
) -> InputError:
    """The error about an unknown word: with the similar ones, or with `allowed` if there are none.

    problem: a phrase such as `no such key`. synonyms: words of other tools, in lower case with
    underscores, and the known words that replace each.
    """
    near = (synonyms or {}).get(re.sub(r"[-\s]+", "_", word.strip().lower()), ())
    near = near or similar(word, words)
    return InputError(path, value, problem + suggestion(near), "" if near else allowed)


def spelled(word: str, words: Iterable[str]) -> str | None:
    """The known word that differs at most in case, and in `-`, `_` or blanks between its parts."""
    squeezed = _WORDS.sub("", word).lower()
    for known in words:
        parts = _WORDS.split(known)
        if "".join(parts) == squeezed:
            pattern = r"[-_\s]*".join(map(re.escape, parts))
            # The Kelvin sign is not ASCII, but its lower case is: k.
            return known if re.fullmatch(pattern, word, re.ASCII | re.IGNORECASE) else None
    return None


def choice(
    value: object,
    path: Path,
    words: Collection[str],
    noun: str,
    *,
    aliases: Mapping[str, str] | None = None,
    hints: Mapping[str, str] | None = None,
) -> str:
    """One of these words, in any case, with `-`, `_`, a blank or nothing between its parts.

    noun: the term for them, such as `mode`. aliases: other words, and the word that each stands
    for. hints: other words that are no choice, and the phrase that says what to write.
    """
    allowed = f"one of: {', '.join(words)}"
    number = str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
    word = number if aliases and number in aliases else text(value, path, allowed)
    found = spelled(word, words)
    if found is None and aliases:
        alias = spelled(word, aliases)
        found = None if alias is None else aliases[alias]
    if found is None:
        hint = (hints or {}).get(word.lower())
        if hint is not None:
            raise InputError(path, value, f"no such {noun}", hint)
        raise no_such(path, value, f"no such {noun}", word, words, allowed)
    return found


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
    if match is None:
        raise InputError(path, value, "cannot be read", allowed)
    if match[3].lower() not in units:
        raise _no_unit(value, path, match, units, allowed)
    unit = units[match[3].lower()]
    fraction = match[2] or ""
    scaled = int(match[1] + fraction) * unit
    divisor: int = 10 ** len(fraction)
    if scaled % divisor:
        raise InputError(path, value, "finer than the smallest unit", allowed)
    return scaled // divisor


def _no_unit(
    value: object, path: Path, match: re.Match[str], units: Mapping[str, int], allowed: str
) -> InputError:
    number, unit = match[0][: match.start(3) - match.start()].strip(), match[3]
    decimal = _DECIMAL_UNITS.get(unit.lower())
    if decimal in units:
        problem = f"{unit} may mean powers of 1000 or of 1024"
        return InputError(path, value, problem, f"{number}{decimal} for powers of 1024, or bytes")
    return InputError(path, value, f"no such unit: {unit}", allowed)


def _digits(number: float) -> str:
    """Format a number without an exponent, and -0.0 without its sign."""
    return format(Decimal(repr(number + 0.0)), "f") if isinstance(number, float) else str(number)


def parse_duration_us(value: object, path: Path) -> int:
    """Parse a duration such as 90s or 1h30m into microseconds, at most MAX_DURATION_US."""
    compared = _COMPARED.match(value) if isinstance(value, str) else None
    if compared is not None:
        rest = compared.string[compared.end() :].strip()
        raise InputError(path, value, "a comparison", f"{rest or '90s'}, without {compared[1]}")
    parts = _TERMS.fullmatch(value.strip()) if isinstance(value, str) else None
    if parts is not None:
        terms = [term[0] for term in _DECIMAL.finditer(parts[0])]
        try:
            duration = sum(_decimal(term, path, _MICROSECONDS, DURATION) for term in terms)
        except InputError as error:
            raise error_of_whole(error, value) from error
    else:
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


def parse_minimum_ms(value: object, path: Path, *, low_ms: int, high_ms: int) -> int:
    """Parse a minimum duration into milliseconds: `5m`, `>=5m`, or `>5m`, which excludes 5m."""
    sign = _COMPARED.match(value) if isinstance(value, str) else None
    if sign is None:
        return parse_duration_ms(value, path, low_ms=low_ms, high_ms=high_ms)
    rest = sign.string[sign.end() :]
    if sign[1] not in (">", ">="):
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        raise InputError(
            path,
            value,
            f"compares with {sign[1]}, but is a minimum",
            f"{key}: {rest.strip()} for at least that; for less, put it under not",
        )
    try:
        minimum = parse_duration_ms(rest, path, low_ms=low_ms - (sign[1] == ">"), high_ms=high_ms)
    except InputError as error:
        raise error_of_whole(error, value) from error
    return minimum + (sign[1] == ">")


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
    if unit not in _PER:
        raise InputError(path, value, "cannot be read", RATE)
    return integer(number, path, RATE, low=1) * 1_000_000 / _PER[unit]


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
