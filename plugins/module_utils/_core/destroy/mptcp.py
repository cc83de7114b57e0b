# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Protection of whole MPTCP connections.

An engine that ends an MPTCP connection ends all its subflows. So a connection is protected as a
whole if the guard protects any part of it, whichever part was selected.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..guard.options import Guard
from ..guard.reason import KERNEL, Reason
from ..netlink.constants import STREAMS
from ..query import classify
from ..query.find import load
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket
from .model import Target


def protect_whole_connections(
    session: NamespaceSession, guard: Guard, targets: Sequence[Target]
) -> list[Target]:
    """The targets, protected too where the guard protects another part of their connection."""
    streams = {
        (socket.protocol, socket.cookie)
        for socket, protected_by in targets
        if protected_by is None and socket.protocol in STREAMS
    }
    connections = classify.connections(session, guard.extensions) if streams else []
    if not connections:
        return list(targets)
    snapshot = session.snapshot()
    selected = [
        [Socket(message, snapshot) for message in parts]
        for parts in connections
        if not streams.isdisjoint((message.protocol, message.cookie) for message in parts)
    ]
    load(session, snapshot, guard.needs, [part for parts in selected for part in parts])
    evaluator = guard.evaluator(snapshot)
    protected: dict[tuple[str, int], Reason] = {}
    for parts in selected:
        for part, reason in zip(parts, evaluator.evaluate(parts)):
            # Some kernels give a subflow that joined an inode of its own, which no process holds.
            if reason is not None and (part.protocol, reason.rule) != ("tcp", KERNEL):
                whole = _reason_of_part(reason, part)
                protected.update(((member.protocol, member.cookie), whole) for member in parts)
                break
    return [
        Target(socket, protected.get((socket.protocol, socket.cookie)))
        if protected_by is None
        else Target(socket, protected_by)
        for socket, protected_by in targets
    ]


def _reason_of_part(reason: Reason, part: Socket) -> Reason:
    detail = f"same MPTCP connection as {part.protocol} sk:{part.cookie_hex}"
    return Reason(reason.rule, f"{detail}: {reason.detail}" if reason.detail else detail)
