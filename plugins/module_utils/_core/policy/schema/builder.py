# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the parts that the policy's JSON Schema is built from (draft 7).

Each takes at least what the parser takes. Where that reads a word in any case, or a number from a
string, so does the schema; the exact words come first, for editors to offer.

Titles, errorMessage, patternErrorMessage and enumDescriptions are for editors: the language servers
of VS Code and others head an explanation with the nearest title, say the messages instead of their
own, and show what each word means. A validator passes over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...values import MAX_DURATION_US, MAX_INTEGER

Schema = dict[str, Any]

_NUMBER = r"^\s*[0-9]{1,20}\s*$"
_DECIMAL = r"[0-9]{1,20}(\.[0-9]{1,9})?\s*"


def told(schema: Schema, description: str, *examples: Any, **more: Any) -> Schema:
    """With what an editor shows. more: further keywords, such as title and default; editors offer a
    default, and only a description tells of it."""
    if "default" in more:
        description += f" Default: {_plain(more['default'])}."
    found = {**schema, "description": description, **more}
    return {**found, "examples": list(examples)} if examples else found


def _plain(value: Any) -> str:
    """As one writes it in YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def words(names: Iterable[str]) -> Schema:
    """One of some words, in any case; `-` may stand for `_`. names: a mapping tells what each
    means."""
    listed = list(names)
    pattern = "|".join("".join(map(_any_case, name)) for name in listed)
    exact: Schema = {"enum": listed}
    if isinstance(names, Mapping):
        exact["enumDescriptions"] = [f"{meaning}." for meaning in names.values()]
    return {"anyOf": [exact, {"type": "string", "pattern": rf"^\s*({pattern})\s*$"}]}


def _any_case(character: str) -> str:
    if character.isalpha():
        return f"[{character.lower()}{character.upper()}]"
    return "[-_]" if character == "_" else character


def text(pattern: str = r"\S", wanted: str = "Something that is not empty") -> Schema:
    """wanted: what it has to be, for a person."""
    message = f"Allowed: {wanted}." if pattern != r"\S" else f"{wanted}."
    return {"type": "string", "pattern": pattern, "patternErrorMessage": message}


def whole(low: int, high: int | None = None) -> Schema:
    """A whole number, or a string of its digits."""
    wanted = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    number: Schema = {"type": "integer", "minimum": low}
    if high is not None:
        number["maximum"] = high
    return _alternatives(number, text(_NUMBER, wanted), wanted)


def whole_or_text(low: int, high: int) -> Schema:
    """A whole number, or a string that says more than one."""
    return {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, text()]}


def _alternatives(number: Schema, written: Schema, wanted: str) -> Schema:
    """A number or a string, and one message for both."""
    return {"anyOf": [{**number, "errorMessage": f"Allowed: {wanted}."}, written]}


def one_or_more(schema: Schema) -> Schema:
    choices = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {"anyOf": [*choices, listed(schema)]}


def mapping(properties: dict[str, Schema], required: Iterable[str] = (), title: str = "") -> Schema:
    """One that is not empty and has no other keys."""
    return {
        **({"title": title} if title else {}),
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(required)} if required else {}),
    }


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema, "minItems": 1}


def reference(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


_DURATION = "a duration such as 90s, 1500ms, 5m, 2h or 1d; a bare number is seconds"


def duration(low_ms: int, high_ms: int, bounds: str = "") -> Schema:
    """bounds: what is told of them. Those of a string only the parser knows."""
    number = {"type": "number", "minimum": _seconds(low_ms), "maximum": _seconds(high_ms)}
    wanted = f"{_DURATION}{bounds}"
    pattern = rf"^\s*{_DECIMAL}([uU][sS]|[mM][sS]|[sSmMhHdD])?\s*$"
    return _alternatives(number, text(pattern, wanted), wanted)


def _seconds(milliseconds: int) -> int | float:
    whole, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else whole


# A number, or comparisons that begin with one.
_COMPARISON = 'comparisons such as ">0", ">= 3 < 10" or "> 200ms"; a number alone means ='


def comparison(unit: str) -> Schema:
    """unit: as of comparisons.Quantity."""
    number: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
    if unit == "duration":
        number = {"type": "number", "minimum": 0, "maximum": MAX_DURATION_US // 1_000_000}
    written = text(r"^\s*(>=|<=|==|!=|>|<|=)?\s*[0-9]", _COMPARISON)
    return _alternatives(number, written, _COMPARISON)


INTERFACE = text(
    r"^\s*[^\s/:]{1,15}\s*$",
    "the name of an interface, up to 15 characters without blanks, / and :",
)
