# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Rules that a parsed selector must satisfy as a whole.

Each function raises InputError with the path of the key that breaks its rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from ..errors import InputError
from ..netlink import constants
from ..values import Path
from ..verdicts.stranded import REROUTED
from . import tree
from .predicates.socket import Autobound, PortIn, ProtocolIs, StateIs
from .predicates.verdict import StrandedIs, StuckIs, SupersededAfter
from .tree import All, Node, Not, Predicate


def reject_unrestricted(root: Node, path: Path, value: object) -> None:
    """Reject a selector that can be true without a restricting key.

    A negated verdict does not restrict: most sockets are neither stuck nor stranded.
    """
    if not _on_every_branch(root, _restricts, negated=False):
        raise InputError(
            path,
            value,
            "restricts the sockets by protocol and family at most",
            "at least one more key that holds for every branch, or state written out (state: all)",
        )


def reject_silent_alone(root: Node) -> None:
    """Reject `stuck: silent` without another key that restricts the sockets.

    A state is not enough: silence is a verdict on established connections.
    """
    for predicate, negated in _unaccompanied(root, _restricts_beyond_state):
        if isinstance(predicate, StuckIs) and predicate.silent and not negated:
            raise InputError(
                predicate.path,
                predicate.value,
                "silent, which a pool of idle connections is as well: never destroyed by itself",
                "silent beside another key, such as remote or local_port",
            )


def reject_rerouted_without_to(root: Node) -> None:
    """Reject `stranded: rerouted` without interfaces: it is also true for asymmetric routing."""
    for predicate in _positive_predicates(root, negated=False):
        if not isinstance(predicate, StrandedIs):
            continue
        for requested in predicate.verdicts:
            if requested.verdict == REROUTED and requested.to is None:
                raise InputError(
                    requested.path,
                    requested.value,
                    "rerouted without to: asymmetric routing that works looks the same",
                    "{verdict: rerouted, to: [INTERFACE, ...]}, to destroy by it",
                )


def reject_superseded_without_port(root: Node) -> None:
    """Reject `superseded` without a local_port in its branch.

    Otherwise connections of one peer to two services would count as successors of each other.
    """
    for predicate, _negated in _unaccompanied(root, _sets_local_port):
        if isinstance(predicate, SupersededAfter):
            raise InputError(
                predicate.path,
                predicate.value,
                "superseded without local_port, which names the service",
                "superseded and local_port in one selector",
            )


def reject_autobound(root: Node) -> None:
    """Reject `autobound`: sockets to protect are evaluated without a kernel filter."""
    for predicate in tree.predicates(root):
        if isinstance(predicate, Autobound):
            raise InputError(
                predicate.path,
                predicate.value,
                "autobound, which only a filter of the kernel can evaluate",
                "local_port with a range, to protect sockets",
            )


def reject_undecidable(node: Node, *, negated: bool = False) -> None:
    """Reject `autobound` if the kernel filter does not decide it.

    The filter decides a tree of exact predicates, and each part of a conjunction on its own.
    """
    predicates = list(tree.predicates(node))
    autobound = [predicate for predicate in predicates if isinstance(predicate, Autobound)]
    if not autobound or all(predicate.exact for predicate in predicates):
        return
    if isinstance(node, Not):
        reject_undecidable(node.child, negated=not negated)
    elif isinstance(node, All) is not negated and not isinstance(node, Predicate):
        for child in node.children:
            reject_undecidable(child, negated=negated)
    else:
        raise InputError(
            autobound[0].path,
            autobound[0].value,
            "autobound as an alternative to a key that the kernel cannot evaluate",
            "autobound joined by and, or with addresses, ports and devices alone",
        )


def reject_inapplicable(
    node: Node, protocols: frozenset[str] = frozenset(constants.PROTOCOLS)
) -> None:
    """Reject a key that is always unknown for the protocols of its branch.

    protocols: those for which the value of this node can change the result of the whole tree.
    """
    if isinstance(node, Predicate):
        if protocols and not protocols & node.applies_to:
            raise InputError(
                node.path,
                node.value,
                f"means nothing for {' and '.join(sorted(protocols))} sockets",
                f"with protocol {' or '.join(sorted(node.applies_to))}",
            )
        return
    if isinstance(node, Not):
        reject_inapplicable(node.child, protocols)
        return
    if not isinstance(node, All):
        for child in node.children:
            reject_inapplicable(child, protocols)
        return
    # Each child is evaluated once, since there may be thousands.
    admitted = [
        frozenset(name for name in protocols if _admits(child, name)) for child in node.children
    ]
    excluding = Counter(name for names in admitted for name in protocols - names)
    for child, names in zip(node.children, admitted):
        # The protocols that no other child excludes.
        left = (name for name in protocols if excluding[name] == (name not in names))
        reject_inapplicable(child, frozenset(left))


def _admits(node: Node, protocol: str) -> bool:
    """Whether the node can be true for sockets of the protocol, other keys aside."""

    def possible(predicate: Predicate) -> tree.Possible:
        if isinstance(predicate, ProtocolIs):
            return protocol in predicate.protocols, protocol not in predicate.protocols
        return True, True

    return tree.possible(node, possible)[0]


# Whether a predicate has a property if it is true, or false where it is negated.
_Property = Callable[[Predicate, bool], bool]


def _restricts(predicate: Predicate, negated: bool) -> bool:
    no_verdict = negated and isinstance(predicate, (StuckIs, StrandedIs, SupersededAfter))
    return predicate.restricts and bool(predicate.path) and not no_verdict


def _restricts_beyond_state(predicate: Predicate, negated: bool) -> bool:
    return _restricts(predicate, negated) and not isinstance(predicate, StateIs)


def _sets_local_port(predicate: Predicate, negated: bool) -> bool:
    return isinstance(predicate, PortIn) and not predicate.remote and not negated


def _on_every_branch(node: Node, has: _Property, *, negated: bool) -> bool:
    """Whether the node is true (false, if negated) only together with such a predicate."""
    if isinstance(node, Predicate):
        return has(node, negated)
    if isinstance(node, Not):
        return _on_every_branch(node.child, has, negated=not negated)
    found = [_on_every_branch(child, has, negated=negated) for child in node.children]
    return any(found) if isinstance(node, All) is not negated else all(found)


def _unaccompanied(
    node: Node, has: _Property, *, negated: bool = False, accompanied: bool = False
) -> Iterator[tuple[Predicate, bool]]:
    """The predicates without such a predicate in their branch, and whether they are negated.

    accompanied: there is one outside the node.
    """
    if isinstance(node, Predicate):
        if not accompanied:
            yield node, negated
    elif isinstance(node, Not):
        yield from _unaccompanied(node.child, has, negated=not negated, accompanied=accompanied)
    else:
        joined = isinstance(node, All) is not negated
        having = [
            joined and _on_every_branch(child, has, negated=negated) for child in node.children
        ]
        # Each child is evaluated once, since there may be thousands.
        total = sum(having)
        for child, child_has in zip(node.children, having):
            yield from _unaccompanied(
                child, has, negated=negated, accompanied=accompanied or total > child_has
            )


def _positive_predicates(node: Node, *, negated: bool) -> Iterator[Predicate]:
    """The predicates that make the tree true by being true."""
    if isinstance(node, Predicate):
        if not negated:
            yield node
    elif isinstance(node, Not):
        yield from _positive_predicates(node.child, negated=not negated)
    else:
        for child in node.children:
            yield from _positive_predicates(child, negated=negated)
