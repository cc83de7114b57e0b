# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: from what a user wrote to a selector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .. import values
from ..errors import InputError
from ..netlink import constants
from ..values import Names, Path
from . import tree, validate
from .keys import COMBINATORS, KEYS, SYNONYMS
from .predicates.socket import Autobound, ProtocolIs, StateIs
from .selector import Selector
from .tree import All, Any, Node, Not, Predicate

__all__ = ["Names", "Selector", "parse_selector"]

_DEPTH = 32
_MAPPING = f"a mapping with one or more of the keys: {', '.join((*KEYS, *COMBINATORS))}"
_BRANCHES = "a list of selectors, each a mapping"
ROLES = ("find", "destroy", "protect")


def parse_selector(
    value: object, *, names: Names, path: Path = ("match",), role: str = "find"
) -> Selector:
    """Read a selector.

    role: what it is for. find, destroy: protocol and state have defaults where no key in the tree
    says them; destroy: a key must restrict it beyond protocol and family, or state be written out.
    protect: no defaults, so it covers every protocol and state.
    Raises InputError with the path of what is wrong.
    """
    if role not in ROLES:
        raise ValueError(f"no such role: {role}")
    path = tuple(path)
    written: list[Node] = []
    if not (role == "find" and isinstance(value, Mapping) and not value):
        written.append(_mapping(value, path, names, 0))
    predicates = [predicate for node in written for predicate in tree.predicates(node)]
    if role == "protect":
        _refuse_unfiltered(predicates)
    else:
        if not any(isinstance(predicate, StateIs) for predicate in predicates):
            written.insert(0, StateIs((), None, constants.DEFAULT_STATES))
        if not any(isinstance(predicate, ProtocolIs) for predicate in predicates):
            written.insert(0, ProtocolIs((), None, ["tcp"]))
    root = written[0] if len(written) == 1 else All(tuple(written))
    _refuse_meaningless(root, frozenset(constants.PROTOCOLS))
    _refuse_undecided(root, negated=False)
    validate.refuse_superseded_without_port(root)
    if role == "destroy":
        validate.refuse_rerouted_to_anywhere(root)
        validate.refuse_silent_alone(root)
    if role == "destroy" and not validate.restricts(root):
        raise InputError(
            path,
            value,
            "restricts the sockets by protocol and family at most",
            "at least one more key that holds for every branch, or state written out (state: all)",
        )
    return Selector(root)


def _mapping(value: object, path: Path, names: Names, depth: int) -> Node:
    if not isinstance(value, Mapping):
        hint = ": several selectors go under any" if isinstance(value, (list, tuple)) else ""
        problem = "empty" if value == "" else values.describe_type(value) + hint
        raise InputError(path, value, problem, _MAPPING)
    if not value:
        raise InputError(path, value, "an empty selector", _MAPPING)
    if depth > _DEPTH:
        raise InputError(path, "...", f"nested more than {_DEPTH} deep", "a flatter selector")
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
        raise InputError(at, value, f"no such key{_meant(key)}", _MAPPING)
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


def _meant(key: str) -> str:
    word = key.strip().lower().replace("-", "_").replace(" ", "_")
    if word in KEYS or word in COMBINATORS:
        return f" (did you mean {word}?)"
    if word in SYNONYMS:
        return f" (did you mean {SYNONYMS[word]}?)"
    return values.suggestion(word, (*KEYS, *COMBINATORS))


def _refuse_unfiltered(predicates: list[Predicate]) -> None:
    """What is protected is judged without a filter of its own."""
    for predicate in predicates:
        if isinstance(predicate, Autobound):
            raise InputError(
                predicate.path,
                predicate.value,
                "autobound, which only a filter of the kernel can tell",
                "local_port with a range, to protect sockets",
            )


def _refuse_undecided(node: Node, *, negated: bool) -> None:
    """Refuse autobound where the kernel's filter would not decide it.

    Only that filter can. It does for a tree of which it can test every leaf, and for each part of a
    conjunction by itself.
    """
    predicates = list(tree.predicates(node))
    asking = [predicate for predicate in predicates if isinstance(predicate, Autobound)]
    if not asking or all(predicate.exact for predicate in predicates):
        return
    if isinstance(node, Not):
        _refuse_undecided(node.child, negated=not negated)
    elif isinstance(node, All) is not negated and not isinstance(node, Predicate):
        for child in node.children:
            _refuse_undecided(child, negated=negated)
    else:
        raise InputError(
            asking[0].path,
            asking[0].value,
            "autobound, which only a filter of the kernel can tell, beside what none can",
            "autobound joined by and, or with addresses, ports and devices alone",
        )


def _refuse_meaningless(node: Node, protocols: frozenset[str]) -> None:
    """Refuse a key that can never be known for the protocols that its branch leaves.

    protocols: those for which the rest of the tree lets this node matter.
    """
    if isinstance(node, Predicate):
        if protocols and not protocols & node.meaning:
            raise InputError(
                node.path,
                node.value,
                f"means nothing for {' and '.join(sorted(protocols))} sockets",
                f"with protocol {' or '.join(sorted(node.meaning))}",
            )
        return
    if isinstance(node, Not):
        _refuse_meaningless(node.child, protocols)
        return
    if not isinstance(node, All):
        for child in node.children:
            _refuse_meaningless(child, protocols)
        return
    # Of each child what the others leave; each is asked once, since there may be thousands.
    admitted = [
        frozenset(name for name in protocols if _admits(child, name)) for child in node.children
    ]
    refusing = Counter(name for each in admitted for name in protocols - each)
    for child, admits in zip(node.children, admitted):
        left = (name for name in protocols if refusing[name] == (name not in admits))
        _refuse_meaningless(child, frozenset(left))


def _admits(node: Node, protocol: str) -> bool:
    """It may be true for a socket of the protocol, its other keys aside."""

    def predicate_possible(predicate: Predicate) -> tree.Possible:
        if isinstance(predicate, ProtocolIs):
            return protocol in predicate.protocols, protocol not in predicate.protocols
        return True, True

    return tree.possible(node, predicate_possible)[0]
