# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The engine netlink: SOCK_DESTROY of NETLINK_SOCK_DIAG."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ...errors import MalformedMessage, NetlinkError, NetlinkTimeout
from ...netlink import constants, inet_diag
from ...netlink.connection import BATCH
from ...query import capabilities, classify
from ...sockets.session import NamespaceSession
from ...sockets.socket import Socket
from .. import outcomes
from . import aborts
from .aborts import is_time_wait
from .base import Declined, EngineAnswer
from .kernel_quirks import can_abort_time_wait

# Sockets per call: lost answers leave only one batch uncertain.
_CHUNK = BATCH

_ACKNOWLEDGED = EngineAnswer(acknowledged=True)
_ANSWERS = {
    0: _ACKNOWLEDGED,
    # The sockets were destroyed, and the answers did not fit the receive buffer.
    errno.ENOBUFS: _ACKNOWLEDGED,
    # It no longer exists, or the lookup found another socket of its SO_REUSEPORT group.
    errno.ENOENT: EngineAnswer(acknowledged=False),
    errno.EPERM: EngineAnswer(acknowledged=False, refusal=outcomes.NOT_PERMITTED),
    errno.EBUSY: EngineAnswer(acknowledged=False, refusal=outcomes.BUSY),
}
_FAILED = EngineAnswer(acknowledged=False, refusal=outcomes.SURVIVED)

# raw_diag_destroy takes the first socket with the addresses and does not compare the cookie.
_WITHOUT_COOKIE = "raw"
# Its handler looks the socket up, but udplite_prot has no diag_destroy.
_WITHOUT_ABORT = "udplite"


class NetlinkEngine:
    """Destroys sockets with SOCK_DESTROY. Requires CAP_NET_ADMIN over the namespace."""

    name = "netlink"
    # mptcp_diag has no destroy handler either (net/mptcp/mptcp_diag.c).
    indestructible = frozenset({_WITHOUT_COOKIE, _WITHOUT_ABORT, "mptcp"})

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """For each socket: None if this engine handles it: see aborts.declines.

        It does not handle raw sockets: the kernel does not compare their cookies, so it may destroy
        another.
        """
        return aborts.declines(session, sockets, (_WITHOUT_COOKIE,))

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        supported = capabilities.support(session)
        permitted = capabilities.may_destroy(session)
        bound = classify.udp_explicitly_bound(session, sockets)
        time_wait = can_abort_time_wait(session.host.release)
        found: list[str] = []
        for sock in sockets:
            message = sock.message
            verdict = supported[message.protocol].verdict
            if verdict != capabilities.SUPPORTED:
                outcome = _unsupported(verdict, sock)
            elif sock.state_number == constants.BOUND_INACTIVE:
                # The lookup by addresses never finds it.
                outcome = outcomes.SURVIVED
            elif not permitted:
                outcome = outcomes.NOT_PERMITTED
            elif message.protocol == _WITHOUT_ABORT:
                outcome = outcomes.UNSUPPORTED_PROTOCOL
            elif is_time_wait(sock) and not time_wait:
                outcome = outcomes.KERNEL_WITHOUT_DESTROY
            elif message.cookie in bound:
                outcome = outcomes.DISCONNECTED
            else:
                outcome = outcomes.DESTROYED
            found.append(outcome)
        return found

    def destroy(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[EngineAnswer]:
        """For each socket: try once to destroy it.

        Stops sending when answers are lost or malformed: sockets without a request are not
        acknowledged. Raises NetlinkError if the first request fails.
        """
        numbers: list[int] = []
        for start in range(0, len(sockets), _CHUNK):
            messages = [sock.message for sock in sockets[start : start + _CHUNK]]
            try:
                numbers += inet_diag.destroy(session.diag, messages)
            except (MalformedMessage, NetlinkError, NetlinkTimeout) as error:
                refused = isinstance(error, NetlinkError) and error.errno != errno.ENOBUFS
                if refused and not numbers:
                    raise
                numbers += [errno.ENOENT if refused else errno.ENOBUFS] * len(messages)
                numbers += [errno.ENOENT] * (len(sockets) - len(numbers))
                break
        if not any(numbers):
            return [_ACKNOWLEDGED] * len(numbers)
        known = _ANSWERS
        answers = [known.get(number, _FAILED) for number in numbers]
        if errno.EOPNOTSUPP in numbers:
            supported = capabilities.support(session)
            for index, number in enumerate(numbers):
                if number == errno.EOPNOTSUPP:
                    verdict = supported[sockets[index].protocol].verdict
                    answers[index] = EngineAnswer(
                        acknowledged=False, refusal=_unsupported(verdict, sockets[index])
                    )
        return answers


def _unsupported(verdict: str, sock: Socket) -> str:
    """The outcome if the kernel cannot destroy a socket of this protocol and state."""
    if verdict == capabilities.BUILT_WITHOUT:
        return outcomes.KERNEL_WITHOUT_DESTROY
    if verdict == capabilities.SUPPORTED and is_time_wait(sock):
        return outcomes.KERNEL_WITHOUT_DESTROY
    return outcomes.UNSUPPORTED_PROTOCOL
