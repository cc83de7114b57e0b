# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what a key demands of the rest of the selector it stands in."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import InputError
from ..verdicts.stranded import REROUTED
from . import tree
from .leaves import PortIn
from .tree import All, Leaf, Node, Not
from .verdicts import StrandedIs, StuckIs, SupersededAfter


def restricts(node: Node, *, negated: bool = False) -> bool:
    """Every way for the node to be true (false, if negated) goes through a restricting key."""
    if isinstance(node, Leaf):
        return node.restricts and bool(node.path)
    if isinstance(node, Not):
        return restricts(node.child, negated=not negated)
    found = [restricts(child, negated=negated) for child in node.children]
    return any(found) if isinstance(node, All) is not negated else all(found)


def refuse_silent_alone(root: Node) -> None:
    """Say of a tree that nothing restricts whether silence was taken for something that does."""
    for leaf in tree.leaves(root):
        if isinstance(leaf, StuckIs) and leaf.silent:
            raise InputError(
                leaf.path,
                leaf.value,
                "silent, which a pool of idle connections is as well: never destroyed by itself",
                "silent beside another key, such as remote or local_port",
            )


def refuse_rerouted_to_anywhere(root: Node) -> None:
    """Refuse to destroy what is merely routed asymmetrically."""
    for leaf in _leaves_taken(root, negated=False):
        if not isinstance(leaf, StrandedIs):
            continue
        for wanted in leaf.wanted:
            if wanted.verdict == REROUTED and wanted.to is None:
                raise InputError(
                    wanted.path,
                    wanted.value,
                    "rerouted without to: asymmetric routing that works looks the same",
                    "{verdict: rerouted, to: [INTERFACE, ...]}, to destroy by it",
                )


def refuse_superseded_without_port(
    node: Node, *, negated: bool = False, told: bool = False
) -> None:
    """Refuse superseded where no local_port holds for its branch. told: one does, outside it.

    Without it two connections of one peer to two services would stand for each other's slot.
    """
    if isinstance(node, SupersededAfter) and not told:
        raise InputError(
            node.path,
            node.value,
            "superseded without local_port: which service's connections it is about is not said",
            "superseded and local_port in one selector",
        )
    if isinstance(node, Leaf):
        return
    if isinstance(node, Not):
        refuse_superseded_without_port(node.child, negated=not negated, told=told)
        return
    joined = isinstance(node, All) is not negated
    for child in node.children:
        beside = joined and any(
            _tells_port(other, negated=negated) for other in node.children if other is not child
        )
        refuse_superseded_without_port(child, negated=negated, told=told or beside)


def _tells_port(node: Node, *, negated: bool) -> bool:
    """Every way for the node to be true (false, if negated) goes through a local port."""
    if isinstance(node, Leaf):
        return isinstance(node, PortIn) and not node.remote and not negated
    if isinstance(node, Not):
        return _tells_port(node.child, negated=not negated)
    found = [_tells_port(child, negated=negated) for child in node.children]
    return any(found) if isinstance(node, All) is not negated else all(found)


def _leaves_taken(node: Node, *, negated: bool) -> Iterator[Leaf]:
    """The leaves that make the tree true by being true."""
    if isinstance(node, Leaf):
        if not negated:
            yield node
    elif isinstance(node, Not):
        yield from _leaves_taken(node.child, negated=not negated)
    else:
        for child in node.children:
            yield from _leaves_taken(child, negated=negated)
