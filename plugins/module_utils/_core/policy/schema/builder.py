# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Building blocks of the JSON Schema of policies (draft 7).

The schema accepts every value that the parser accepts. The parser reads words in any case and
numbers from strings, so the schema does too; exact words come first, as editors offer those.

title, errorMessage, patternErrorMessage and enumDescriptions are extensions for editors, understood
by the language servers for YAML and JSON. Validators ignore them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...values import DURATION, DURATION_UNITS, MAX_DURATION_US, MAX_INTEGER

Schema = dict[str, Any]

_DIGITS = r"^\s*[0-9]{1,20}\s*$"
_DECIMAL = r"[0-9]{1,20}(\.[0-9]{1,9})?\s*"


def described(schema: Schema, description: str, *examples: Any, **keywords: Any) -> Schema:
    """Add a description, examples and other keywords such as title and default.

    Editors insert a default but do not show it, so the description names it too.
    """
    if "default" in keywords:
        description += f" Default: {_yaml(keywords['default'])}."
    found = {**schema, "description": description, **keywords}
    return {**found, "examples": list(examples)} if examples else found


def _yaml(value: Any) -> str:
    """A value as written in YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def choice(names: Iterable[str], aliases: Iterable[str] = ()) -> Schema:
    """One of several words, spelled as values.choice accepts it.

    names: a mapping adds descriptions. aliases: other words that are accepted too.
    """
    exact_names = list(names)
    pattern = "|".join(map(_any_spelling, (*exact_names, *aliases)))
    exact: Schema = {"enum": exact_names}
    if isinstance(names, Mapping):
        exact["enumDescriptions"] = [f"{description}." for description in names.values()]
    return {"anyOf": [exact, {"type": "string", "pattern": rf"^\s*({pattern})\s*$"}]}


def _any_spelling(name: str) -> str:
    """A pattern for a word in any case, with `-`, `_`, a blank or nothing between its parts."""
    parts = re.split("[-_]", name)
    return r"[-_\s]*".join("".join(map(_any_case, part)) for part in parts)


def _any_case(character: str) -> str:
    return f"[{character.lower()}{character.upper()}]" if character.isalpha() else character


def string(pattern: str = r"\S", allowed: str = "A string that is not empty") -> Schema:
    """A string. allowed: its form, for the error message in editors."""
    message = f"Allowed: {allowed}." if pattern != r"\S" else f"{allowed}."
    return {"type": "string", "pattern": pattern, "patternErrorMessage": message}


def integer(low: int, high: int | None = None) -> Schema:
    """A whole number, or a string of its digits."""
    allowed = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    number: Schema = {"type": "integer", "minimum": low}
    if high is not None:
        number["maximum"] = high
    return _number_or_string(number, string(_DIGITS, allowed), allowed)


def integer_or_string(low: int, high: int) -> Schema:
    """A whole number, or a string such as a range or a name."""
    return {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, string()]}


def _number_or_string(number: Schema, written: Schema, allowed: str) -> Schema:
    """Two alternatives with the same error message."""
    return {"anyOf": [{**number, "errorMessage": f"Allowed: {allowed}."}, written]}


def one_or_more(schema: Schema) -> Schema:
    """One value, or a list of values."""
    alternatives = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {"anyOf": [*alternatives, list_of(schema)]}


def mapping(properties: dict[str, Schema], required: Iterable[str] = (), title: str = "") -> Schema:
    """A mapping of these keys, not empty."""
    return {
        **({"title": title} if title else {}),
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(required)} if required else {}),
    }


def list_of(schema: Schema) -> Schema:
    """A list, not empty."""
    return {"type": "array", "items": schema, "minItems": 1}


def reference(name: str) -> Schema:
    """A reference to an entry of `definitions`."""
    return {"$ref": f"#/definitions/{name}"}


_UNIT = "|".join(
    "".join(map(_any_case, name))
    for names in DURATION_UNITS.values()
    for name in sorted(names, key=len, reverse=True)
)
_TERM = rf"{_DECIMAL}({_UNIT})\s*"
_DURATION = rf"({_DECIMAL}|{_TERM}({_TERM}){{0,7}})"


def duration(low_ms: int, high_ms: int, bounds: str = "", *, minimum: bool = False) -> Schema:
    """A duration. bounds: their text for the error message. minimum: as values.parse_minimum_ms.

    The schema checks the bounds of numbers only; the parser checks those of strings too.
    """
    number = {"type": "number", "minimum": _seconds(low_ms), "maximum": _seconds(high_ms)}
    allowed = f"{DURATION}{bounds}"
    sign = r"(>=?\s*)?" if minimum else ""
    pattern = rf"^\s*{sign}{_DURATION}\s*$"
    return _number_or_string(number, string(pattern, allowed), allowed)


def _seconds(milliseconds: int) -> int | float:
    seconds, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else seconds


_COMPARISON = 'comparisons such as ">0", ">= 3 < 10" or "> 200ms"; a number alone means ='


def comparison(unit: str) -> Schema:
    """A number, or a string of comparisons. unit: as in numeric.Quantity."""
    number: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
    if unit == "duration":
        number = {"type": "number", "minimum": 0, "maximum": MAX_DURATION_US // 1_000_000}
    written = string(r"^\s*(>=|<=|==|!=|>|<|=)?\s*[0-9]", _COMPARISON)
    return _number_or_string(number, written, _COMPARISON)


INTERFACE = string(
    r"^\s*(?!interface:)[^\t-\r /]{1,508}\s*$",
    "a name or an alternative name of an interface, without whitespace and /",
)
