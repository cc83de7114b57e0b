# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: protects whole what is destroyed whole: MPTCP connections.

An engine that ends an MPTCP connection ends all its subflows. So none is ended of which any part
is protected, whichever part was selected.
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


def protect_whole_connections(
    session: NamespaceSession,
    guard: Guard,
    sockets: Sequence[Socket],
    reasons: Sequence[Reason | None],
) -> list[Reason | None]:
    """The reasons, with those added that hold for another part of the same connection."""
    streams = [
        sock
        for sock, reason in zip(sockets, reasons)
        if reason is None and sock.protocol in STREAMS
    ]
    connections = classify.connections(session, guard.extensions) if streams else []
    if not connections:
        return list(reasons)
    wanted = {(sock.protocol, sock.cookie) for sock in streams}
    snapshot = session.snapshot()
    kin = [
        [Socket(message, snapshot) for message in parts]
        for parts in connections
        if not wanted.isdisjoint((message.protocol, message.cookie) for message in parts)
    ]
    load(session, snapshot, guard.needs, [part for parts in kin for part in parts])
    watch = guard.watch(snapshot)
    protected: dict[tuple[str, int], Reason] = {}
    for parts in kin:
        for part, reason in zip(parts, watch.reasons(parts)):
            # Some kernels give a subflow that joined an inode of its own, which nobody holds.
            if reason is not None and (part.protocol, reason.rule) != ("tcp", KERNEL):
                why = _of_another(reason, part)
                protected.update(((each.protocol, each.cookie), why) for each in parts)
                break
    return [
        protected.get((sock.protocol, sock.cookie)) if reason is None else reason
        for sock, reason in zip(sockets, reasons)
    ]


def _of_another(reason: Reason, part: Socket) -> Reason:
    detail = f"its MPTCP connection is one with {part.protocol} sk:{part.cookie_hex}"
    return Reason(reason.rule, f"{detail}: {reason.detail}" if reason.detail else detail)
