# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Satisfiability of selectors: whether one socket can match several of them.

Each predicate of the trees is a variable; equal predicates share one. Predicates on numbers
or prefixes may imply or exclude each other. The search tries every assignment of the variables, and
gives up if there are too many.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Optional

from ..netlink import constants
from ..selector.predicates.address import EndpointIn, EndpointPattern
from ..selector.predicates.numeric import Bounds, Compares
from ..selector.predicates.owner import UserIs
from ..selector.predicates.socket import FamilyIs, IdleFor, PortIn, ProtocolIs, StateIs
from ..selector.prefixes import Prefix, contains
from ..selector.tree import All, Any, Node, Not, Predicate, predicates

_MAX_ASSIGNMENTS = 50_000

_CELLS = tuple(
    itertools.product(constants.PROTOCOLS, constants.FAMILIES, constants.STATES.values())
)
_Values = tuple[Optional[bool], ...]


def satisfiable(required: Sequence[tuple[Node, bool]]) -> bool | None:
    """Whether a socket exists for which each node has its required value.

    None: too many assignments to try.
    """
    index: dict[Hashable, int] = {}
    variables: list[Predicate] = []
    for node, _value in required:
        for predicate in predicates(node):
            if _variable(predicate) not in index:
                index[_variable(predicate)] = len(variables)
                variables.append(predicate)
    # Cells in which every variable has the same possible values are tried once.
    domains = list(
        dict.fromkeys(
            tuple(_possible(predicate, *cell) for predicate in variables) for cell in _CELLS
        )
    )
    if sum(math.prod(map(len, domain)) for domain in domains) > _MAX_ASSIGNMENTS:
        return None
    relations = _relations(variables)
    return any(
        _consistent(assignment, relations)
        and all(_evaluate(node, index, assignment) is value for node, value in required)
        for domain in domains
        for assignment in itertools.product(*domain)
    )


def _possible(predicate: Predicate, protocol: str, family: str, state: int) -> _Values:
    """The values that a predicate can have for sockets of a protocol, family and state."""
    true, false = predicate.possible(protocol, family, state)
    found = ([True] if true else []) + ([False] if false else [])
    return tuple(found) or (None,)


def _variable(predicate: Predicate) -> Hashable:
    """Equal for predicates that have the same value for every socket."""
    if isinstance(predicate, PortIn):
        return PortIn, predicate.remote, predicate.ranges
    if isinstance(predicate, EndpointIn):
        return EndpointIn, predicate.remote, predicate.as_ss, frozenset(predicate.patterns)
    if isinstance(predicate, UserIs):
        return UserIs, predicate.ranges
    if isinstance(predicate, StateIs):
        return StateIs, predicate.states
    if isinstance(predicate, ProtocolIs):
        return ProtocolIs, predicate.protocols
    if isinstance(predicate, FamilyIs):
        return FamilyIs, predicate.families
    if isinstance(predicate, Compares):
        return Compares, predicate.quantity, predicate.bounds
    keys = [step for step in predicate.path if isinstance(step, str)]
    return type(predicate), keys[-1] if keys else None, repr(predicate.value)


def _evaluate(node: Node, index: dict[Hashable, int], assignment: _Values) -> bool | None:
    if isinstance(node, Predicate):
        return assignment[index[_variable(node)]]
    if isinstance(node, Not):
        value = _evaluate(node.child, index, assignment)
        return None if value is None else not value
    decisive = isinstance(node, Any)
    values = [_evaluate(child, index, assignment) for child in node.children]
    if decisive in values:
        return decisive
    return None if None in values else not decisive


# (index of one variable, index of another, True: the one implies the other, False: excludes it)
_Relation = tuple[int, int, bool]


def _relations(variables: Sequence[Predicate]) -> list[_Relation]:
    found: list[_Relation] = []
    for (i, one), (j, other) in itertools.permutations(enumerate(variables), 2):
        if _implies(one, other):
            found.append((i, j, True))
        elif i < j and _excludes(one, other):
            found.append((i, j, False))
    return found


def _consistent(assignment: _Values, relations: Sequence[_Relation]) -> bool:
    return not any(
        assignment[i] is True and assignment[j] is (not implied) for i, j, implied in relations
    )


def _implies(one: Predicate, other: Predicate) -> bool:
    ranges = _comparable_ranges(one, other)
    if ranges is not None:
        return all(any(a <= x and y <= b for a, b in ranges[1]) for x, y in ranges[0])
    if isinstance(one, Compares) and isinstance(other, Compares):
        return one.quantity == other.quantity and _within(one.bounds, other.bounds)
    if isinstance(one, IdleFor) and isinstance(other, IdleFor):
        return one.min_ms >= other.min_ms
    patterns = _comparable_patterns(one, other)
    return patterns is not None and all(
        any(_pattern_in(x, y) for y in patterns[1]) for x in patterns[0]
    )


def _excludes(one: Predicate, other: Predicate) -> bool:
    ranges = _comparable_ranges(one, other)
    if ranges is not None:
        return all(y < a or b < x for x, y in ranges[0] for a, b in ranges[1])
    if isinstance(one, Compares) and isinstance(other, Compares):
        apart = one.bounds.high < other.bounds.low or other.bounds.high < one.bounds.low
        return one.quantity == other.quantity and apart
    patterns = _comparable_patterns(one, other)
    return patterns is not None and not any(
        _patterns_overlap(x, y) for x in patterns[0] for y in patterns[1]
    )


_Ranges = tuple[tuple[int, int], ...]
_Patterns = tuple[EndpointPattern, ...]


def _comparable_ranges(one: Predicate, other: Predicate) -> tuple[_Ranges, _Ranges] | None:
    if isinstance(one, PortIn) and isinstance(other, PortIn) and one.remote == other.remote:
        return one.ranges, other.ranges
    if isinstance(one, UserIs) and isinstance(other, UserIs):
        return one.ranges, other.ranges
    return None


def _comparable_patterns(one: Predicate, other: Predicate) -> tuple[_Patterns, _Patterns] | None:
    """Patterns of two predicates on the same endpoint, unless they depend on an interface."""
    if not (isinstance(one, EndpointIn) and isinstance(other, EndpointIn)):
        return None
    patterns = (*one.patterns, *other.patterns)
    if one.remote != other.remote or one.as_ss or other.as_ss:
        return None
    if any(pattern.prefix is None or pattern.interface is not None for pattern in patterns):
        return None
    return one.patterns, other.patterns


def _pattern_in(one: EndpointPattern, other: EndpointPattern) -> bool:
    if other.port not in (None, one.port) or one.prefix is None or other.prefix is None:
        return False
    if one.prefix.covers_mapped() or other.prefix.covers_mapped():
        # IPv6 prefixes do not match v4-mapped addresses, so containment does not follow.
        return one.prefix == other.prefix
    return _prefix_in(one.prefix, other.prefix)


def _prefix_in(one: Prefix, other: Prefix) -> bool:
    return other.length <= one.length and contains(other, one.address)


def _patterns_overlap(one: EndpointPattern, other: EndpointPattern) -> bool:
    if None not in (one.port, other.port) and one.port != other.port:
        return False
    if one.prefix is None or other.prefix is None:
        return True
    if one.prefix.size != other.prefix.size:
        six = one.prefix if one.prefix.size == 128 else other.prefix
        return six.inside_mapped()
    return _prefix_in(one.prefix, other.prefix) or _prefix_in(other.prefix, one.prefix)


def _within(one: Bounds, other: Bounds) -> bool:
    missing = {number for number in other.excluded if one.low <= number <= one.high}
    return other.low <= one.low and one.high <= other.high and missing <= one.excluded


def names_specific_sockets(node: Node, *, negated: bool = False) -> bool:
    """Whether the node can only be true through a key that selects specific sockets.

    A key under `not` does not count, nor one that matches every socket. An explicit `state` does.
    """
    if isinstance(node, Predicate):
        if isinstance(node, StateIs):
            return bool(node.path)
        return node.restricts and bool(node.path) and not negated and not _matches_all(node)
    if isinstance(node, Not):
        return names_specific_sockets(node.child, negated=not negated)
    found = [names_specific_sockets(child, negated=negated) for child in node.children]
    return any(found) if isinstance(node, All) is not negated else all(found)


def _matches_all(predicate: Predicate) -> bool:
    """Whether a predicate matches every socket, or every socket of a family."""
    if isinstance(predicate, PortIn):
        return predicate.ranges == ((0, 65535),)
    if isinstance(predicate, UserIs):
        return predicate.ranges[0][0] == 0 and predicate.ranges[0][1] >= 2**32 - 2
    if isinstance(predicate, EndpointIn):
        return any(
            pattern.port is None and pattern.prefix is not None and pattern.prefix.length == 0
            for pattern in predicate.patterns
        )
    if isinstance(predicate, Compares):
        return predicate.bounds == Bounds(0, float("inf"), frozenset())
    return False
