# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what a key demands of the rest of the selector it stands in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..errors import InputError
from ..verdicts.stranded import REROUTED
from .predicates.socket import PortIn, StateIs
from .predicates.verdict import StrandedIs, StuckIs, SupersededAfter
from .tree import All, Node, Not, Predicate


def restricts(root: Node) -> bool:
    """Every way for the tree to be true goes through a restricting key.

    That a verdict does not hold is none: that is so of whatever is in order.
    """
    return _every_way(root, _says_which, negated=False)


def refuse_silent_alone(root: Node) -> None:
    """Refuse to destroy by silence where no other key says which sockets are meant.

    A state says nothing more: silence is a verdict on established connections.
    """
    for predicate, negated in _alone(root, _says_more_than_a_state):
        if isinstance(predicate, StuckIs) and predicate.silent and not negated:
            raise InputError(
                predicate.path,
                predicate.value,
                "silent, which a pool of idle connections is as well: never destroyed by itself",
                "silent beside another key, such as remote or local_port",
            )


def refuse_rerouted_to_anywhere(root: Node) -> None:
    """Refuse to destroy what is merely routed asymmetrically."""
    for predicate in _leaves_taken(root, negated=False):
        if not isinstance(predicate, StrandedIs):
            continue
        for wanted in predicate.verdicts:
            if wanted.verdict == REROUTED and wanted.to is None:
                raise InputError(
                    wanted.path,
                    wanted.value,
                    "rerouted without to: asymmetric routing that works looks the same",
                    "{verdict: rerouted, to: [INTERFACE, ...]}, to destroy by it",
                )


def refuse_superseded_without_port(root: Node) -> None:
    """Refuse superseded where no local_port holds for its branch.

    Without it two connections of one peer to two services would stand for each other's slot.
    """
    for predicate, _negated in _alone(root, _tells_port):
        if isinstance(predicate, SupersededAfter):
            raise InputError(
                predicate.path,
                predicate.value,
                "superseded without local_port: which service's connections it is about is not "
                "said",
                "superseded and local_port in one selector",
            )


# Whether a leaf says something by being true, or false where it is negated.
_Says = Callable[[Predicate, bool], bool]


def _says_which(predicate: Predicate, negated: bool) -> bool:
    in_order = negated and isinstance(predicate, (StuckIs, StrandedIs, SupersededAfter))
    return predicate.restricts and bool(predicate.path) and not in_order


def _says_more_than_a_state(predicate: Predicate, negated: bool) -> bool:
    return _says_which(predicate, negated) and not isinstance(predicate, StateIs)


def _tells_port(predicate: Predicate, negated: bool) -> bool:
    return isinstance(predicate, PortIn) and not predicate.remote and not negated


def _every_way(node: Node, says: _Says, *, negated: bool) -> bool:
    """Every way for the node to be true (false, if negated) goes through a leaf that says it."""
    if isinstance(node, Predicate):
        return says(node, negated)
    if isinstance(node, Not):
        return _every_way(node.child, says, negated=not negated)
    found = [_every_way(child, says, negated=negated) for child in node.children]
    return any(found) if isinstance(node, All) is not negated else all(found)


def _alone(
    node: Node, says: _Says, *, negated: bool = False, told: bool = False
) -> Iterator[tuple[Predicate, bool]]:
    """The leaves beside which nothing in their branch says it, and whether they are negated.

    told: something outside the node does.
    """
    if isinstance(node, Predicate):
        if not told:
            yield node, negated
    elif isinstance(node, Not):
        yield from _alone(node.child, says, negated=not negated, told=told)
    else:
        joined = isinstance(node, All) is not negated
        telling = [joined and _every_way(child, says, negated=negated) for child in node.children]
        # Each is asked once, since there may be thousands.
        total = sum(telling)
        for child, tells in zip(node.children, telling):
            yield from _alone(child, says, negated=negated, told=told or total > tells)


def _leaves_taken(node: Node, *, negated: bool) -> Iterator[Predicate]:
    """The leaves that make the tree true by being true."""
    if isinstance(node, Predicate):
        if not negated:
            yield node
    elif isinstance(node, Not):
        yield from _leaves_taken(node.child, negated=not negated)
    else:
        for child in node.children:
            yield from _leaves_taken(child, negated=negated)
