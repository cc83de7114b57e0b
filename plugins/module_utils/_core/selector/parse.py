# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Parse a selector.

selector = parse_selector({"remote": "10.0.0.0/8", "idle": "10m"}, names=Host(), role="destroy")
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import values
from ..errors import InputError
from ..netlink import constants
from ..values import Names, Path
from . import tree, validate
from .keys import COMBINATORS, KEYS, SYNONYMS
from .predicates.socket import ProtocolIs, StateIs
from .selector import Selector
from .tree import All, Any, Node, Not

__all__ = ["Names", "Selector", "parse_selector"]

_MAX_DEPTH = 32
_MAPPING = f"a mapping with one or more of the keys: {', '.join((*KEYS, *COMBINATORS))}"
_BRANCHES = "a list of selectors, each a mapping"
ROLES = ("find", "destroy", "protect")


def parse_selector(
    value: object, *, names: Names, path: Path = ("match",), role: str = "find"
) -> Selector:
    """Parse and validate a selector.

    value: a mapping. names: resolves users and services. path: where the value stands in the input.
    role: find and destroy apply the defaults of protocol and state if the key occurs nowhere in the
    tree. destroy requires a key that restricts beyond protocol and family, or a written state.
    protect applies no defaults, so it covers every protocol and state.
    Raises InputError with the path of the error.
    """
    if role not in ROLES:
        raise ValueError(f"no such role: {role}")
    path = tuple(path)
    nodes: list[Node] = []
    if not (role == "find" and isinstance(value, Mapping) and not value):
        nodes.append(_mapping(value, path, names, 0))
    if role != "protect":
        written = [predicate for node in nodes for predicate in tree.predicates(node)]
        if not any(isinstance(predicate, StateIs) for predicate in written):
            nodes.insert(0, StateIs((), None, constants.DEFAULT_STATES))
        if not any(isinstance(predicate, ProtocolIs) for predicate in written):
            nodes.insert(0, ProtocolIs((), None, ["tcp"]))
    root = nodes[0] if len(nodes) == 1 else All(tuple(nodes))
    if role == "protect":
        validate.reject_autobound(root)
    validate.reject_inapplicable(root)
    validate.reject_undecidable(root)
    validate.reject_superseded_without_port(root)
    if role == "destroy":
        validate.reject_rerouted_without_to(root)
        validate.reject_silent_alone(root)
        validate.reject_unrestricted(root, path, value)
    return Selector(root)


def _mapping(value: object, path: Path, names: Names, depth: int) -> Node:
    if not isinstance(value, Mapping):
        hint = ": several selectors go under any" if isinstance(value, (list, tuple)) else ""
        problem = "empty" if value == "" else values.describe_type(value) + hint
        raise InputError(path, value, problem, _MAPPING)
    if not value:
        raise InputError(path, value, "an empty selector", _MAPPING)
    if depth > _MAX_DEPTH:
        raise InputError(path, "...", f"nested more than {_MAX_DEPTH} deep", "a flatter selector")
    nodes = [_key(key, under, path, names, depth) for key, under in value.items()]
    return nodes[0] if len(nodes) == 1 else All(tuple(nodes))


def _key(key: object, value: object, path: Path, names: Names, depth: int) -> Node:
    if not isinstance(key, str):
        raise InputError(path, key, f"a key that is {values.describe_type(key)}", _MAPPING)
    at = (*path, str(key))
    if key == "not":
        return Not(_mapping(value, at, names, depth + 1))
    if key in ("any", "all"):
        branches = _branches(value, at, names, depth + 1)
        return Any(branches) if key == "any" else All(branches)
    if key not in KEYS:
        raise InputError(at, value, f"no such key{_suggestion(key)}", _MAPPING)
    entry = KEYS[key]
    if value is None or (isinstance(value, Mapping) and not entry.mapping):
        raise InputError(at, value, values.describe_type(value), entry.allowed)
    return entry.parse(value, at, names)


def _branches(value: object, path: Path, names: Names, depth: int) -> tuple[Node, ...]:
    if not isinstance(value, (list, tuple)):
        problem = "empty" if value == "" else values.describe_type(value)
        raise InputError(path, value, problem, _BRANCHES)
    found = values.items(value, path, _BRANCHES)
    return tuple(_mapping(item, at, names, depth) for at, item in found)


def _suggestion(key: str) -> str:
    word = key.strip().lower().replace("-", "_").replace(" ", "_")
    if word in KEYS or word in COMBINATORS:
        return f" (did you mean {word}?)"
    if word in SYNONYMS:
        return f" (did you mean {SYNONYMS[word]}?)"
    return values.suggestion(word, (*KEYS, *COMBINATORS))
