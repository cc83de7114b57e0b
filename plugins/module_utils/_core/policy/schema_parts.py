# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the parts that the policy's JSON Schema is built from (draft 7).

Each takes at least what the parser takes. Where that reads a word in any case, or a number from a
string, so does the schema; the exact words come first, for editors to offer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Schema = dict[str, Any]

_NUMBER = r"^\s*[0-9]{1,20}\s*$"
_DECIMAL = r"[0-9]{1,20}(\.[0-9]{1,9})?\s*"


def told(schema: Schema, description: str, *examples: Any, **more: Any) -> Schema:
    """With what an editor shows. more: further keywords, such as default."""
    found = {**schema, "description": description, **more}
    return {**found, "examples": list(examples)} if examples else found


def words(names: Iterable[str]) -> Schema:
    """One of some words, in any case; `-` may stand for `_`."""
    listed = list(names)
    pattern = "|".join("".join(map(_any_case, name)) for name in listed)
    return {"anyOf": [{"enum": listed}, {"type": "string", "pattern": rf"^\s*({pattern})\s*$"}]}


def _any_case(character: str) -> str:
    if character.isalpha():
        return f"[{character.lower()}{character.upper()}]"
    return "[-_]" if character == "_" else character


def text(pattern: str = r"\S") -> Schema:
    return {"type": "string", "pattern": pattern}


def whole(low: int, high: int | None = None) -> Schema:
    """A whole number, or a string of its digits."""
    number: Schema = {"type": "integer", "minimum": low}
    if high is not None:
        number["maximum"] = high
    return {"anyOf": [number, text(_NUMBER)]}


def whole_or_text(low: int, high: int) -> Schema:
    """A whole number, or a string that says more than one."""
    return {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, text()]}


def one_or_more(schema: Schema) -> Schema:
    choices = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {"anyOf": [*choices, listed(schema)]}


def mapping(properties: dict[str, Schema], required: Iterable[str] = ()) -> Schema:
    """One that is not empty and has no other keys."""
    return {
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


DURATION: Schema = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        text(rf"^\s*{_DECIMAL}([uU][sS]|[mM][sS]|[sSmMhHdD])?\s*$"),
    ]
}
INTERFACE: Schema = text(r"^\s*[^\s/:]{1,15}\s*$")
# A number, or comparisons that begin with one.
COMPARISON: Schema = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        text(r"^\s*(>=|<=|==|!=|>|<|=)?\s*[0-9]"),
    ]
}
