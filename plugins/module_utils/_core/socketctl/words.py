# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""A selector from the words of a command line.

    selector_from_words(["state=established", "remote!=10.0.0.0/8", "send_queue>0"])
    # {"state": "established", "send_queue": ">0", "not": {"remote": "10.0.0.0/8"}}

``key=value`` selects, ``key!=value`` excludes, and ``key>value`` compares. Commas and repeated
words give alternatives. All other words together are one filter of ss(8). The parts are ANDed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError
from ..values import Path

Selector = dict[str, Any]

_WORD = re.compile(r"([A-Za-z_][\w-]*)(!=|>=|<=|=|>|<)(.*)", re.ASCII | re.DOTALL)
# A comma, and a backslash that quotes a comma.
_PARTS = re.compile(r"(?:\\,|[^,])+|(?<=,)(?=,|$)|^(?=,)", re.DOTALL)
_JSON = "a mapping in JSON, such as '{\"remote_port\": 443}'"
_QUOTED = "words as on the command line, such as 'remote=10.0.0.53 protocol=udp', or JSON"

# Keys whose values may be mappings, and the key that stands after a colon: close_wait:10m.
_AFTER_COLON = {"stuck": "for", "stranded": "to"}


def selector_from_words(words: Sequence[str], match: str | None = None) -> Selector | None:
    """The selector that these words and the option ``--match`` mean; None if there is neither.

    match: a selector in JSON. Raises InputError.
    """
    equal: Selector = {}
    compared: dict[str, str] = {}
    different: Selector = {}
    expression: list[str] = []
    for word in words:
        found = _WORD.fullmatch(word)
        if found is None:
            expression.append(word)
            continue
        key, operator, value = found.groups()
        if operator == "=":
            _add(equal, key, list(_values(key, value)))
        elif operator == "!=":
            _add(different, key, list(_values(key, value)))
        else:
            # One string holds comparisons that must all be true.
            compared[key] = f"{compared[key]} {operator}{value}" if key in compared else (
                f"{operator}{value}"
            )
    parts: list[Selector] = [_single(equal), dict(compared)]
    # not (a and b) would admit sockets that a alone excludes.
    parts += [{"not": {key: value}} for key, value in _single(different).items()]
    if expression:
        parts.append({"expression": " ".join(expression)})
    if match is not None:
        parts.append(_from_json(match, ("match",)))
    return _all_of([part for part in parts if part or part is parts[-1] and match is not None])


def selector_from_text(text: str, path: Path) -> Selector:
    """The selector of an option's value: JSON, or words in one string. Raises InputError."""
    if text.lstrip().startswith("{"):
        return _from_json(text, path)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(path, text, f"cannot be split into words: {error}", _QUOTED) from None
    return selector_from_words(words) or {}


def verdict_value(key: str, text: str) -> object:
    """A value of stuck or stranded: ``close_wait``, ``close_wait:10m``, ``rerouted:wg0``."""
    name, colon, rest = text.partition(":")
    return {"verdict": name, _AFTER_COLON[key]: rest} if colon else text


def split_commas(text: str) -> list[str]:
    """The parts between commas. A backslash before a comma quotes it."""
    return [part.replace("\\,", ",") for part in _PARTS.findall(text)] or [text]


def _add(selector: Selector, key: str, values: list[object]) -> None:
    selector.setdefault(key, []).extend(values)


def _values(key: str, text: str) -> Iterator[object]:
    if text.startswith("{"):
        yield _from_json(text, ("match", key))
    elif key == "expression":
        yield text
    elif key in _AFTER_COLON:
        for part in split_commas(text):
            yield verdict_value(key, part)
    elif key == "superseded":
        yield {"silent_for": text}
    else:
        yield from split_commas(text)


def _single(selector: Selector) -> Selector:
    """A list of one value as the value, as people write it and as errors show it."""
    return {key: found[0] if len(found) == 1 else found for key, found in selector.items()}


def _all_of(parts: list[Selector]) -> Selector | None:
    if not parts:
        return None
    keys = [key for part in parts for key in part]
    if len(parts) == 1 or len(set(keys)) == len(keys) and all(parts):
        return {key: value for part in parts for key, value in part.items()}
    return {"all": parts}


def _from_json(text: str, path: Path) -> Selector:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(path, text, f"not valid JSON: {error}", _JSON) from None
    if not isinstance(found, dict):
        raise InputError(path, text, "not a mapping", _JSON)
    return found
