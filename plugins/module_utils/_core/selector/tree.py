# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The tree that a selector is parsed into.

A node is true, false or unknown (None) for a socket. all, any and not follow Kleene's logic. Each
node supports three operations: bind() returns a test for sockets, possible() the values that it can
have for a protocol, family and state, and filters() the sockets that the kernel must return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from ..errors import Absent
from ..netlink import constants
from ..sockets.needs import Need
from ..values import Path
from . import kernel_filter
from .kernel_filter import Filter

if TYPE_CHECKING:
    from ..sockets.snapshot import Snapshot
    from ..sockets.socket import Socket

    Test = Callable[[Socket], Optional[bool]]
    # A test, or the constant result for every socket.
    Bound = Union[bool, None, Test]

# (may be true, may be false)
Possible = tuple[bool, bool]
ALL_PROTOCOLS = frozenset(constants.PROTOCOLS)


class FilterContext(NamedTuple):
    """The dump that a kernel filter is built for. exact_ops: allow the ops that Linux 5.4 lacks."""

    snapshot: Snapshot
    protocol: str
    family: str
    exact_ops: bool


class Predicate:
    """One condition of a selector.

    path, value: where the user wrote it, and what.
    restricts: it narrows the selection beyond protocol and family.
    exact: the kernel filter gives the same result as the test.
    applies_to: protocols for whose sockets it can be known.
    needs: facts that must be loaded before evaluation. extensions: attribute numbers to dump.
    """

    restricts = True
    exact = False
    applies_to: frozenset[str] = ALL_PROTOCOLS
    needs: frozenset[Need] = frozenset()
    extensions: tuple[int, ...] = ()
    # Cost of the test, to evaluate cheap ones first: 0 a field, 1 an attribute, 2 a table.
    cost = 0

    def __init__(self, path: Path, value: object) -> None:
        self.path = path
        self.value = value

    def bind(self, snapshot: Snapshot) -> Bound:
        """Return a test for the sockets of a snapshot, or its constant result."""
        raise NotImplementedError

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:  # noqa: ARG002
        """The names of this predicate that mean nothing in this snapshot."""
        return ()

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        """Return the possible values for such sockets; (False, False): always unknown."""
        known = protocol in self.applies_to
        return known, known

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        """Return a filter that accepts every socket for which it is true, and one for false."""
        if context.protocol in self.applies_to:
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
    """Iterate over the predicates of a tree, in the order of the selector."""
    if isinstance(node, Predicate):
        yield node
    elif isinstance(node, Not):
        yield from predicates(node.child)
    else:
        for child in node.children:
            yield from predicates(child)


def replace_predicates(node: Node, predicate: Callable[[Predicate], Predicate]) -> Node:
    """Return the tree with each predicate replaced by the result of a function."""
    if isinstance(node, Predicate):
        return predicate(node)
    if isinstance(node, Not):
        return Not(replace_predicates(node.child, predicate))
    return type(node)(tuple(replace_predicates(child, predicate) for child in node.children))


def possible(node: Node, predicate: Callable[[Predicate], Possible]) -> Possible:
    """Return the possible values of a tree from those of its predicates."""
    if isinstance(node, Predicate):
        return predicate(node)
    if isinstance(node, Not):
        true, false = possible(node.child, predicate)
        return false, true
    answers = [possible(child, predicate) for child in node.children]
    if isinstance(node, All):
        return all(true for true, _false in answers), any(false for _true, false in answers)
    return any(true for true, _false in answers), all(false for _true, false in answers)


def node_filters(node: Node, context: FilterContext) -> tuple[Filter, Filter]:
    """Return a filter that accepts every socket for which the tree is true, and one for false.

    Both may accept more sockets. Under not, the filter for false is used, so a condition that the
    kernel evaluates only roughly stays correct there.
    """
    if isinstance(node, Predicate):
        return node.filters(context)
    if isinstance(node, Not):
        true, false = node_filters(node.child, context)
        return false, true
    pairs = [node_filters(child, context) for child in node.children]
    trues = (true for true, _false in pairs)
    falses = (false for _true, false in pairs)
    if isinstance(node, All):
        return kernel_filter.all_of(trues), kernel_filter.any_of(falses)
    return kernel_filter.any_of(trues), kernel_filter.all_of(falses)


def _cost(node: Node) -> int:
    return max((predicate.cost for predicate in predicates(node)), default=0)


def bind(node: Node, snapshot: Snapshot) -> Bound:
    """Compile a tree into one test. Constant parts are folded."""
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
    """Combine tests into one that is true if any of them is, in Kleene's logic."""
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
