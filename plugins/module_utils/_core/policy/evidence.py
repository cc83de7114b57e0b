# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what is wrong with a socket that violates a rule, in short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..selector.parse import Selector
from ..selector.predicates.verdict import StrandedIs, StuckIs, SupersededAfter
from ..selector.tree import All, Node, Predicate, predicates
from ..sockets.socket import Socket
from ..verdicts import stuck
from ..verdicts.route_state import ROUTES
from ..verdicts.superseded import PEERS
from .conditions import Condition

_BY_VERDICT = (StuckIs, StrandedIs, SupersededAfter)


def evidences(
    sockets: Sequence[Socket], selector: Selector, condition: Condition | None = None
) -> list[tuple[str, ...]]:
    """Of the verdicts that the selector asks for those that hold: ``stranded: no_carrier``; for
    each of these sockets, for all of which the selector is true. The look must have found out what
    they need. Where there is none of them, the condition, which holds: ``while: interface wg0 is
    up``; without one nothing.
    """
    otherwise = () if condition is None else (f"while: {condition.words}",)
    return [each or otherwise for each in _verdicts(sockets, selector)]


def _verdicts(sockets: Sequence[Socket], selector: Selector) -> list[tuple[str, ...]]:
    asked = [leaf for leaf in predicates(selector.root) if isinstance(leaf, _BY_VERDICT)]
    if not asked:
        return [()] * len(sockets)
    certain = [text for leaf in _joined(selector.root) for text in _only(leaf)]
    if len(certain) == len(asked):
        return [tuple(dict.fromkeys(certain))] * len(sockets)
    return [
        tuple(dict.fromkeys([text for leaf in asked for text in _held(sock, leaf)]))
        for sock in sockets
    ]


def _joined(node: Node) -> Iterator[Predicate]:
    """The leaves that hold of each socket for which the tree does."""
    if isinstance(node, Predicate):
        yield node
    elif isinstance(node, All):
        for child in node.children:
            yield from _joined(child)


def _only(leaf: Predicate) -> Iterator[str]:
    """The verdict that holds where the leaf does, if it asks for no other."""
    if isinstance(leaf, StuckIs) and len(leaf.verdicts) == 1:
        yield f"stuck: {leaf.verdicts[0].verdict}"
    elif isinstance(leaf, StrandedIs) and len(leaf.verdicts) == 1:
        yield f"stranded: {leaf.verdicts[0].verdict}"
    elif isinstance(leaf, SupersededAfter):
        yield "superseded"


def _held(sock: Socket, leaf: Predicate) -> Iterator[str]:
    if isinstance(leaf, StuckIs):
        for verdict, for_ms in leaf.verdicts:
            if stuck.evaluate(sock, verdict, for_ms):
                yield f"stuck: {verdict}"
    elif isinstance(leaf, StrandedIs):
        routes = sock.snapshot.get(ROUTES)
        for wanted in leaf.verdicts:
            if routes is not None and routes.evaluate(sock, wanted.verdict, wanted.to):
                yield f"stranded: {wanted.verdict}"
    elif isinstance(leaf, SupersededAfter):
        peers = sock.snapshot.get(PEERS)
        if peers is not None and peers.evaluate(sock, leaf.silent_ms):
            yield "superseded"
