# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the tree that a selector is parsed into.

A node is true, false or unknown (None) for a socket; all, any and not follow Kleene's logic.
It can be asked three things: a test of subjects (bind); what it can be at all for a protocol, a
family and a state (possible); and which sockets the kernel must send for it (filters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from ..netlink import constants
from ..sockets.needs import Need
from ..values import Path
from . import kernel_filter
from .kernel_filter import Filter

if TYPE_CHECKING:
    from ..sockets.snapshot import Snapshot
    from ..sockets.socket import Socket

    Test = Callable[[Socket], Optional[bool]]
    # A test, or what it gives for every subject.
    Bound = Union[bool, None, Test]

# (may be true, may be false)
Possible = tuple[bool, bool]
ALL_PROTOCOLS = frozenset(constants.PROTOCOLS)


class Target(NamedTuple):
    """What one filter is for. exact_ops: the ops that Linux 5.4 lacks may be used."""

    snapshot: Snapshot
    protocol: str
    family: str
    exact_ops: bool


class Predicate:
    """One condition that a user wrote.

    path, value: what was written. restricts: it says which sockets are meant, beyond their protocol
    and family. exact: the kernel's filter tells just what the test tells. meaning: the protocols
    for whose sockets it can be known. needs, extensions: what a look must provide (extensions by
    attribute number).
    """

    restricts = True
    exact = False
    meaning: frozenset[str] = ALL_PROTOCOLS
    needs: frozenset[Need] = frozenset()
    extensions: tuple[int, ...] = ()
    # What a test costs, so that cheap ones come first: 0 a field, 1 an attribute, 2 a table.
    cost = 0

    def __init__(self, path: Path, value: object) -> None:
        self.path = path
        self.value = value

    def bind(self, snapshot: Snapshot) -> Bound:
        raise NotImplementedError

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        """What it can be for such sockets; (False, False): never known."""
        known = protocol in self.meaning
        return known, known

    def filters(self, target: Target) -> tuple[Filter, Filter]:
        """A filter that accepts every socket for which it is true, and one for false."""
        if target.protocol in self.meaning:
            return kernel_filter.ACCEPT, kernel_filter.ACCEPT
        return kernel_filter.REJECT, kernel_filter.REJECT


class Not(NamedTuple):
    child: Node


class All(NamedTuple):
    children: tuple[Node, ...]


class Any(NamedTuple):
    children: tuple[Node, ...]


Node = Union[Predicate, Not, All, Any]


def predicates(node: Node) -> Iterator[Predicate]:
    if isinstance(node, Predicate):
        yield node
    elif isinstance(node, Not):
        yield from predicates(node.child)
    else:
        for child in node.children:
            yield from predicates(child)


def replaced(node: Node, predicate: Callable[[Predicate], Predicate]) -> Node:
    """The same tree with other leaves."""
    if isinstance(node, Predicate):
        return predicate(node)
    if isinstance(node, Not):
        return Not(replaced(node.child, predicate))
    return type(node)(tuple(replaced(child, predicate) for child in node.children))


def possible(node: Node, predicate: Callable[[Predicate], Possible]) -> Possible:
    """What the tree can be, given what each leaf can be."""
    if isinstance(node, Predicate):
        return predicate(node)
    if isinstance(node, Not):
        true, false = possible(node.child, predicate)
        return false, true
    answers = [possible(child, predicate) for child in node.children]
    if isinstance(node, All):
        return all(true for true, _false in answers), any(false for _true, false in answers)
    return any(true for true, _false in answers), all(false for _true, false in answers)


def node_filters(node: Node, target: Target) -> tuple[Filter, Filter]:
    """A filter that accepts every socket for which the tree is true, and one for false.

    Both may accept more. So a condition that the kernel tests only roughly, or not at all, stays
    right under not: there the filter for false is taken, which is rough in the other direction.
    """
    if isinstance(node, Predicate):
        return node.filters(target)
    if isinstance(node, Not):
        true, false = node_filters(node.child, target)
        return false, true
    pairs = [node_filters(child, target) for child in node.children]
    trues = (true for true, _false in pairs)
    falses = (false for _true, false in pairs)
    if isinstance(node, All):
        return kernel_filter.all_of(trues), kernel_filter.any_of(falses)
    return kernel_filter.any_of(trues), kernel_filter.all_of(falses)


def _cost(node: Node) -> int:
    return max((predicate.cost for predicate in predicates(node)), default=0)


def bind(node: Node, snapshot: Snapshot) -> Bound:
    """The tree as one test; parts that are the same for every subject are folded away."""
    if isinstance(node, Predicate):
        return node.bind(snapshot)
    if isinstance(node, Not):
        return _negation(bind(node.child, snapshot))
    decides = isinstance(node, Any)
    tests: list[Test] = []
    unknown = False
    for child in sorted(node.children, key=_cost):
        bound = bind(child, snapshot)
        if bound is None:
            unknown = True
        elif bound is True or bound is False:
            if bound is decides:
                return decides
        else:
            tests.append(bound)
    if not tests:
        return None if unknown else not decides
    return _chain(tests, decides, unknown)


def _negation(bound: Bound) -> Bound:
    if bound is None:
        return None
    if bound is True or bound is False:
        return not bound
    test = bound

    def negated(sock: Socket) -> bool | None:
        value = test(sock)
        return None if value is None else not value

    return negated


def any_of(tests: list[Test]) -> Test:
    """One test that holds where any of these holds, in Kleene's logic."""
    return _chain(tests, decides=True, unknown=False)


def _chain(tests: list[Test], decides: bool, unknown: bool) -> Test:
    """Any of the tests (decides True) or all of them (False), in Kleene's logic."""
    if len(tests) == 1 and not unknown:
        return tests[0]
    otherwise = None if unknown else not decides
    sequence = tuple(tests)

    def chained(sock: Socket) -> bool | None:
        result = otherwise
        for test in sequence:
            value = test(sock)
            if value is decides:
                return decides
            if value is None:
                result = None
        return result

    return chained
