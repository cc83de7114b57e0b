# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: whether some socket can be what several selectors ask at once.

Each leaf of their trees is a question with an unknown answer. Leaves that ask the same have the
same answer; of any two about numbers or prefixes it is known whether they imply or exclude each
other. All answers are tried; where they are too many, nothing is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Optional

from ..netlink import constants
from ..selector.predicates.address import EndpointIn, EndpointPattern
from ..selector.predicates.numeric import Bounds, Compares
from ..selector.predicates.owner import UserIs
from ..selector.predicates.socket import FamilyIs, IdleFor, PortIn, ProtocolIs, StateIs
from ..selector.prefixes import Prefix, contains
from ..selector.tree import All, Any, Node, Not, Predicate, predicates

_MOST_TRIED = 50_000

_CELLS = tuple(
    itertools.product(constants.PROTOCOLS, constants.FAMILIES, constants.STATES.values())
)
_Values = tuple[Optional[bool], ...]


def satisfiable(wanted: Sequence[tuple[Node, bool]]) -> bool | None:
    """Whether a socket can be for which each node has the value that is wanted of it.

    None: too many combinations to try.
    """
    index: dict[Hashable, int] = {}
    questions: list[Predicate] = []
    for node, _wanted in wanted:
        for leaf in predicates(node):
            if _question(leaf) not in index:
                index[_question(leaf)] = len(questions)
                questions.append(leaf)
    kinds = list(
        dict.fromkeys(tuple(_answers(leaf, *cell) for leaf in questions) for cell in _CELLS)
    )
    tries = 0
    for choices in kinds:
        count = 1
        for each in choices:
            count *= len(each)
        tries += count
    if tries > _MOST_TRIED:
        return None
    rules = _relations(questions)
    return any(
        _consistent(answers, rules)
        and all(_value(node, index, answers) is value for node, value in wanted)
        for choices in kinds
        for answers in itertools.product(*choices)
    )


def _answers(leaf: Predicate, protocol: str, family: str, state: int) -> _Values:
    """What a leaf can be for such sockets."""
    true, false = leaf.possible(protocol, family, state)
    found = ([True] if true else []) + ([False] if false else [])
    return tuple(found) or (None,)


def _question(leaf: Predicate) -> Hashable:
    """The same for leaves that ask the same."""
    if isinstance(leaf, PortIn):
        return PortIn, leaf.remote, leaf.ranges
    if isinstance(leaf, EndpointIn):
        return EndpointIn, leaf.remote, leaf.as_ss, frozenset(leaf.patterns)
    if isinstance(leaf, UserIs):
        return UserIs, leaf.ranges
    if isinstance(leaf, StateIs):
        return StateIs, leaf.states
    if isinstance(leaf, ProtocolIs):
        return ProtocolIs, leaf.protocols
    if isinstance(leaf, FamilyIs):
        return FamilyIs, leaf.families
    if isinstance(leaf, Compares):
        return Compares, leaf.quantity, leaf.bounds
    keys = [step for step in leaf.path if isinstance(step, str)]
    return type(leaf), keys[-1] if keys else None, repr(leaf.value)


def _value(node: Node, index: dict[Hashable, int], answers: _Values) -> bool | None:
    if isinstance(node, Predicate):
        return answers[index[_question(node)]]
    if isinstance(node, Not):
        found = _value(node.child, index, answers)
        return None if found is None else not found
    decides = isinstance(node, Any)
    values = [_value(child, index, answers) for child in node.children]
    if decides in values:
        return decides
    return None if None in values else not decides


# (index of one, index of other, whether one implies the other: else it excludes it)
_Relation = tuple[int, int, bool]


def _relations(questions: Sequence[Predicate]) -> list[_Relation]:
    found: list[_Relation] = []
    for (i, one), (j, other) in itertools.permutations(enumerate(questions), 2):
        if _implies(one, other):
            found.append((i, j, True))
        elif i < j and _excludes(one, other):
            found.append((i, j, False))
    return found


def _consistent(answers: _Values, relations: Sequence[_Relation]) -> bool:
    return not any(
        answers[i] is True and answers[j] is (not implied) for i, j, implied in relations
    )


def _implies(one: Predicate, other: Predicate) -> bool:
    ranges = _same_ranges(one, other)
    if ranges is not None:
        return all(any(a <= x and y <= b for a, b in ranges[1]) for x, y in ranges[0])
    if isinstance(one, Compares) and isinstance(other, Compares):
        return one.quantity == other.quantity and _within(one.bounds, other.bounds)
    if isinstance(one, IdleFor) and isinstance(other, IdleFor):
        return one.least_ms >= other.least_ms
    hosts = _same_hosts(one, other)
    return hosts is not None and all(any(_host_in(x, y) for y in hosts[1]) for x in hosts[0])


def _excludes(one: Predicate, other: Predicate) -> bool:
    ranges = _same_ranges(one, other)
    if ranges is not None:
        return all(y < a or b < x for x, y in ranges[0] for a, b in ranges[1])
    if isinstance(one, Compares) and isinstance(other, Compares):
        apart = one.bounds.high < other.bounds.low or other.bounds.high < one.bounds.low
        return one.quantity == other.quantity and apart
    hosts = _same_hosts(one, other)
    return hosts is not None and not any(_hosts_meet(x, y) for x in hosts[0] for y in hosts[1])


_Ranges = tuple[tuple[int, int], ...]


def _same_ranges(one: Predicate, other: Predicate) -> tuple[_Ranges, _Ranges] | None:
    if isinstance(one, PortIn) and isinstance(other, PortIn) and one.remote == other.remote:
        return one.ranges, other.ranges
    if isinstance(one, UserIs) and isinstance(other, UserIs):
        return one.ranges, other.ranges
    return None


def _same_hosts(
    one: Predicate, other: Predicate
) -> tuple[tuple[EndpointPattern, ...], tuple[EndpointPattern, ...]] | None:
    """The hosts of two leaves about the same end, where no interface decides what they are."""
    if not (isinstance(one, EndpointIn) and isinstance(other, EndpointIn)):
        return None
    hosts = (*one.patterns, *other.patterns)
    if one.remote != other.remote or one.as_ss or other.as_ss:
        return None
    if any(host.prefix is None or host.interface is not None for host in hosts):
        return None
    return one.patterns, other.patterns


def _host_in(one: EndpointPattern, other: EndpointPattern) -> bool:
    if other.port not in (None, one.port) or one.prefix is None or other.prefix is None:
        return False
    if one.prefix.covers_mapped() or other.prefix.covers_mapped():
        # Their v4-mapped part is not theirs.
        return one.prefix == other.prefix
    return _prefix_in(one.prefix, other.prefix)


def _prefix_in(one: Prefix, other: Prefix) -> bool:
    return other.length <= one.length and contains(other, one.address)


def _hosts_meet(one: EndpointPattern, other: EndpointPattern) -> bool:
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


def says_which(node: Node, *, negated: bool = False) -> bool:
    """Every way for the node to be true goes through a key that says which sockets are meant.

    Not what is left out (`not`), and no key that holds for every socket; but any word about states.
    """
    if isinstance(node, Predicate):
        if isinstance(node, StateIs):
            return bool(node.path)
        return node.restricts and bool(node.path) and not negated and not _holds_for_all(node)
    if isinstance(node, Not):
        return says_which(node.child, negated=not negated)
    found = [says_which(child, negated=negated) for child in node.children]
    return any(found) if isinstance(node, All) is not negated else all(found)


def _holds_for_all(leaf: Predicate) -> bool:
    """For every socket, or for every one of a family."""
    if isinstance(leaf, PortIn):
        return leaf.ranges == ((0, 65535),)
    if isinstance(leaf, UserIs):
        return leaf.ranges[0][0] == 0 and leaf.ranges[0][1] >= 2**32 - 2
    if isinstance(leaf, EndpointIn):
        return any(
            host.port is None and host.prefix is not None and host.prefix.length == 0
            for host in leaf.patterns
        )
    if isinstance(leaf, Compares):
        return leaf.bounds == Bounds(0, float("inf"), frozenset())
    return False
