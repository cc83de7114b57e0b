# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Sockets that the kernel's abort (diag_destroy) would not end, or would harm.

SOCK_DESTROY and bpf_sock_destroy call the same functions: tcp_abort and udp_abort.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...netlink import constants
from ...query import classify
from ...sockets.session import NamespaceSession
from ...sockets.socket import Socket
from .. import outcomes
from .base import Declined
from .kernel_quirks import makes_orphans_immortal

_CLOSING = frozenset({constants.FIN_WAIT_1, constants.CLOSING, constants.LAST_ACK})


def declines(
    session: NamespaceSession, sockets: Sequence[Socket], unsupported: Collection[str]
) -> list[Declined | None]:
    """For each socket: None if an abort is right. It is not for:

    sockets of the unsupported protocols. MPTCP subflows: aborting one does not end the connection.
    Orphans that an old kernel would make immortal. UDP sockets without a remote on a port that the
    application chose: an abort only removes the remote (udp_abort, __udp_disconnect).
    """
    orphans = makes_orphans_immortal(session.host.release)
    subflows = classify.subflows(session, sockets)
    if not orphans and not subflows and {sock.message.protocol for sock in sockets} == {"tcp"}:
        return [None] * len(sockets)
    bound = classify.udp_explicitly_bound(session, sockets)
    found: list[Declined | None] = []
    for sock in sockets:
        message = sock.message
        outcome: str | None = None
        if message.protocol == "tcp":
            if message.cookie in subflows:
                outcome = outcomes.UNSUPPORTED_PROTOCOL
            elif orphans and message.state in _CLOSING and not message.inode and message.wqueue:
                outcome = outcomes.KERNEL_DEFECT
        elif message.protocol in unsupported:
            outcome = outcomes.UNSUPPORTED_PROTOCOL
        elif message.cookie in bound and message.state != constants.ESTABLISHED:
            outcome = outcomes.ALREADY_GONE
        found.append(None if outcome is None else Declined(outcome))
    return found


def is_time_wait(sock: Socket) -> bool:
    """Whether the socket is a struct inet_timewait_sock.

    A FIN_WAIT_2 socket that its application closed is one too. Its state still is FIN_WAIT_2; only
    its timer shows it (inet_twsk_diag_fill).
    """
    return sock.message.state == constants.TIME_WAIT or sock.timer == "timewait"
