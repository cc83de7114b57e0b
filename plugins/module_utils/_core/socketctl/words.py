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
_COMMA = re.compile(r"(?<!\\),")
_JSON = "a mapping in JSON, such as '{\"remote_port\": 443}'"
_QUOTED = "words as on the command line, such as 'remote=10.0.0.53 protocol=udp', or JSON"

# Keys whose values may be mappings, and the key that stands after a colon: close_wait:10m.
_AFTER_COLON = {"stuck": "for", "stranded": "to"}


def selector_from_words(words: Sequence[str], match: str | None = None) -> Selector | None:
    """The selector that these words and the option ``--match`` mean; None if there is neither.

    match: a selector in JSON. Raises InputError.
    """
    equal: Selector = {}
    different: Selector = {}
    compared: dict[str, list[str]] = {}
    filter_words: list[str] = []
    for word in words:
        found = _WORD.fullmatch(word)
        if found is None:
            filter_words.append(word)
            continue
        key, operator, value = found.groups()
        if operator in ("=", "!="):
            under = equal if operator == "=" else different
            under.setdefault(key, []).extend(_values(key, value))
        else:
            compared.setdefault(key, []).append(operator + value)
    parts = [
        _unlisted(equal),
        # One string holds comparisons that must all be true.
        {key: " ".join(terms) for key, terms in compared.items()},
        _none_of(_unlisted(different)),
        {"expression": " ".join(filter_words)} if filter_words else {},
    ]
    parts = [part for part in parts if part]
    if match is not None:
        parts.append(_from_json(match, ("match",)))
    return _all_of(parts) if parts else None


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
    return [part.replace("\\,", ",") for part in _COMMA.split(text)]


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


def _unlisted(selector: Selector) -> Selector:
    """Lists of one value as the value, as people write it and as errors show it."""
    return {key: found[0] if len(found) == 1 else found for key, found in selector.items()}


def _none_of(selector: Selector) -> Selector:
    """Exclude what matches any of the keys: each word excludes on its own."""
    if len(selector) < 2:
        return {"not": selector} if selector else {}
    return {"not": {"any": [{key: value} for key, value in selector.items()]}}


def _all_of(parts: list[Selector]) -> Selector:
    """One selector if no key occurs twice, so that the paths in errors are short."""
    keys = [key for part in parts for key in part]
    if len(parts) == 1 or (all(parts) and len(set(keys)) == len(keys)):
        return {key: value for part in parts for key, value in part.items()}
    return {"all": parts}


def _from_json(text: str, path: Path) -> Selector:
    if not text.lstrip().startswith(("{", "[")):
        raise InputError(path, text, "not a mapping in JSON", f"the words alone, or {_JSON}")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(path, text, f"not valid JSON: {error}", _JSON) from None
    if not isinstance(found, dict):
        allowed = f"{_JSON}; a list of selectors is '{{\"any\": [...]}}'"
        raise InputError(path, text, "not a mapping", allowed)
    return found
