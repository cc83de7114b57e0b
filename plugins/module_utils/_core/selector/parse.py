# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Parse a selector.

selector = parse_selector({"remote": "10.0.0.0/8", "idle": "10m"}, names=Host(), role="destroy")
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from .. import values
from ..errors import InputError
from ..host.processes import UNIT_SUFFIXES
from ..netlink import constants
from ..values import Names, Path
from . import tree, validate
from .hints import quoted
from .keys import COMBINATORS, KEYS
from .predicates.socket import ProtocolIs, StateIs
from .selector import Selector
from .synonyms import SYNONYMS
from .tree import All, Any, Node, Not

__all__ = ["Names", "Selector", "parse_selector"]

_MAX_DEPTH = 32
_MAPPING = f"a mapping with one or more of the keys: {', '.join((*KEYS, *COMBINATORS))}"
_BRANCHES = "a list of selectors, each a mapping, such as [{remote: 10.0.0.1}, {local_port: 443}]"
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
        problem = "empty" if value == "" else values.describe_type(value)
        raise InputError(path, value, problem, _mapping_hint(value, path, names))
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
        known = (*KEYS, *COMBINATORS)
        raise values.no_such(at, value, "no such key", key, known, _MAPPING, SYNONYMS)
    entry = KEYS[key]
    if value is None or (isinstance(value, Mapping) and not entry.mapping):
        raise InputError(at, value, values.describe_type(value), entry.allowed)
    return entry.parse(value, at, names)


def _branches(value: object, path: Path, names: Names, depth: int) -> tuple[Node, ...]:
    if not isinstance(value, (list, tuple)):
        problem = "empty" if value == "" else values.describe_type(value)
        hint = None
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            hint = f"a list: [{', '.join(f'{{{key}: ...}}' for key in value)}]"
        raise InputError(path, value, problem, hint or _BRANCHES)
    found = values.items(value, path, _BRANCHES)
    return tuple(_mapping(item, at, names, depth) for at, item in found)


def _mapping_hint(value: object, path: Path, names: Names) -> str:
    """What to write instead of a selector that is not a mapping."""
    if isinstance(value, (list, tuple)) and value:
        return "a mapping; {any: [...]} takes a list of selectors, one of which must match"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"a mapping, such as {{remote_port: {value}}}"
    if not isinstance(value, str) or not value.strip():
        return "a mapping, such as {remote: 10.0.0.1, state: established}"
    written = value.strip()
    words = [word.partition("=") for word in written.split()]
    if all(key in KEYS and found for key, found, _text in words):
        pairs = ", ".join(f"{key}: {quoted(text)}" for key, _equal, text in words)
        return f"a mapping: {{{pairs}}}"
    for key in ("expression", "remote", "state", "protocol", "unit"):
        if key == "unit" and not written.endswith(UNIT_SUFFIXES):
            continue
        with suppress(InputError):
            KEYS[key].parse(written, path, names)
            return f"a mapping: {{{key}: {quoted(written)}}}"
    return 'a mapping, such as {remote: 10.0.0.1} or {expression: "dst 10.0.0.1"}'
