# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Protection of whole MPTCP connections.

Nothing ends a subflow alone: an engine that ends an MPTCP connection ends all its subflows. So a
connection is destroyed only as a whole. It is protected if the guard protects any part of it,
whichever part was selected, and if a subflow that can still carry data was not selected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..guard.options import Guard
from ..guard.reason import KERNEL, Reason
from ..messages import endpoint_text
from ..netlink import constants
from ..netlink.inet_diag import DiagMessage
from ..query import classify
from ..query.find import load
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .model import Target

# The reason for a selected part of a connection that has other subflows.
OTHER_SUBFLOWS = "other_subflows"

# A protocol and a cookie.
PartKey = tuple[str, int]

# States in which a subflow carries data, or may soon. In the others it has sent its FIN.
_CARRYING = frozenset(
    {
        constants.ESTABLISHED,
        constants.SYN_SENT,
        constants.SYN_RECV,
        constants.NEW_SYN_RECV,
        constants.CLOSE_WAIT,
        constants.LISTENING,
    }
)


def protect_whole_connections(
    session: NamespaceSession,
    guard: Guard,
    targets: Sequence[Target],
    selected: Collection[PartKey] | None = None,
) -> list[Target]:
    """The targets, protected too where another part of their connection is.

    selected: all sockets that were selected; None: those of the targets. An MPTCP socket that was
    selected without any of its subflows stands for all of them.
    """
    if not classify.may_have_subflows(
        socket for socket, protected_by in targets if protected_by is None
    ):
        return list(targets)
    # Most namespaces have no MPTCP, and thousands of targets.
    connections = classify.connections(session, guard.extensions)
    if not connections:
        return list(targets)
    unprotected = {
        (socket.protocol, socket.cookie)
        for socket, protected_by in targets
        if protected_by is None and socket.protocol in constants.STREAMS
    }
    connections = _with_any_part(connections, unprotected)
    if selected is None:
        selected = {(socket.protocol, socket.cookie) for socket, _protected_by in targets}
    snapshot = session.snapshot()
    found = [[Socket(message, snapshot) for message in parts] for parts in connections]
    load(session, snapshot, guard.needs, [part for parts in found for part in parts])
    protected: dict[PartKey, Reason] = {}
    for parts in found:
        reason = _reason_of_parts(guard, snapshot, parts) or _reason_of_others(parts, selected)
        if reason is not None:
            protected.update(((part.protocol, part.cookie), reason) for part in parts)
    return [
        Target(socket, protected.get((socket.protocol, socket.cookie)))
        if protected_by is None
        else Target(socket, protected_by)
        for socket, protected_by in targets
    ]


def without_partial_connections(
    session: NamespaceSession, sockets: Sequence[Socket]
) -> list[Socket]:
    """The sockets, without subflows of connections that have other subflows."""
    selected = {
        (sock.protocol, sock.cookie) for sock in sockets if sock.protocol in constants.STREAMS
    }
    if not selected:
        return list(sockets)
    partial: set[PartKey] = set()
    for parts in _with_any_part(classify.connections(session), selected):
        if _others(parts, selected):
            partial.update((part.protocol, part.cookie) for part in parts)
    return [sock for sock in sockets if (sock.protocol, sock.cookie) not in partial]


def _with_any_part(
    connections: Iterable[list[DiagMessage]], keys: Collection[PartKey]
) -> list[list[DiagMessage]]:
    """The connections with at least one of these parts."""
    return [
        parts
        for parts in connections
        if any((part.protocol, part.cookie) in keys for part in parts)
    ]


def _reason_of_parts(guard: Guard, snapshot: Snapshot, parts: Sequence[Socket]) -> Reason | None:
    """The reason why the guard protects any part; None: it protects none."""
    for part, reason in zip(parts, guard.evaluator(snapshot).evaluate(parts)):
        # Some kernels give a subflow that joined an inode of its own, which no process holds.
        if reason is not None and (part.protocol, reason.rule) != ("tcp", KERNEL):
            detail = f"same MPTCP connection as {part.protocol} sk:{part.cookie_hex}"
            return Reason(reason.rule, f"{detail}: {reason.detail}" if reason.detail else detail)
    return None


def _others(parts: Iterable[DiagMessage], selected: Collection[PartKey]) -> list[DiagMessage]:
    """The subflows that carry data and were not selected; empty if no subflow was selected."""
    subflows = [part for part in parts if part.protocol == "tcp"]
    others = [part for part in subflows if ("tcp", part.cookie) not in selected]
    if len(others) == len(subflows):
        return []
    return [part for part in others if part.state in _CARRYING]


def _reason_of_others(parts: Sequence[Socket], selected: Collection[PartKey]) -> Reason | None:
    others = _others([part.message for part in parts], selected)
    if not others:
        return None
    first = Socket(others[0], parts[0].snapshot)
    local = endpoint_text(first.local, first.local_port)
    remote = endpoint_text(first.remote, first.remote_port)
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return Reason(
        OTHER_SUBFLOWS,
        f"its MPTCP connection has another subflow that is not selected: {local} -> {remote}, "
        f"sk:{first.cookie_hex}{more}",
    )
