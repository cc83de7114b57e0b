# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: destroys sockets by SOCK_DESTROY of NETLINK_SOCK_DIAG."""

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
from .base import Declined, EngineAnswer

# Answers that are lost cost the certainty about one batch alone.
_CHUNK = BATCH

_ACKNOWLEDGED = EngineAnswer(acknowledged=True)
_ANSWERS = {
    0: _ACKNOWLEDGED,
    # Answers that do not fit the receive buffer are lost after the sockets were destroyed.
    errno.ENOBUFS: _ACKNOWLEDGED,
    # Gone, or the look-up found another socket: one of the same SO_REUSEPORT group, for one.
    errno.ENOENT: EngineAnswer(acknowledged=False),
    errno.EPERM: EngineAnswer(acknowledged=False, refusal=outcomes.NOT_PERMITTED),
    errno.EBUSY: EngineAnswer(acknowledged=False, refusal=outcomes.BUSY),
}
_FAILED = EngineAnswer(acknowledged=False, refusal=outcomes.SURVIVED)

# raw_diag_destroy takes the first socket that the addresses fit, and does not look at the cookie.
_WITHOUT_COOKIE = "raw"
# Its handler finds a socket, and then udplite_prot has no diag_destroy.
_WITHOUT_ABORT = "udplite"
_CLOSING = frozenset({constants.FIN_WAIT_1, constants.CLOSING, constants.LAST_ACK})
# "tcp: fix forever orphan socket caused by tcp_abort"; before, tcp_abort emptied an orphan's send
# queue and left it to timers that do nothing about an empty queue. Stable kernels that have the
# fix too cannot be told by their number.
_ORPHANS_END = (6, 11)
# Before, tcp_abort answered EOPNOTSUPP for TIME_WAIT.
_TIME_WAIT_ENDS = (6, 0)


class NetlinkEngine:
    """The kernel's own way; it needs CAP_NET_ADMIN over the namespace."""

    name = "netlink"

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """What this engine leaves alone.

        MPTCP subflows: killing one does not end its connection. Raw sockets: the kernel does not
        compare their cookies, so it might hit another. Orphans that an old kernel would make
        immortal. UDP sockets without a remote on a port of their own: an abort takes nothing but
        the remote from them (udp_abort, __udp_disconnect).
        """
        orphans = classify.release(session.host.release) < _ORPHANS_END
        subflows = classify.subflows(session, sockets)
        if not orphans and not subflows and {each.message.protocol for each in sockets} == {"tcp"}:
            return [None] * len(sockets)
        bound = classify.bound_datagrams(session, sockets)
        found: list[Declined | None] = []
        for sock in sockets:
            message = sock.message
            outcome: str | None = None
            if message.protocol == "tcp":
                if message.cookie in subflows:
                    outcome = outcomes.UNSUPPORTED_PROTOCOL
                elif orphans and message.state in _CLOSING and not message.inode and message.wqueue:
                    outcome = outcomes.KERNEL_DEFECT
            elif message.protocol == _WITHOUT_COOKIE:
                outcome = outcomes.UNSUPPORTED_PROTOCOL
            elif message.cookie in bound and message.state != constants.ESTABLISHED:
                outcome = outcomes.ALREADY_GONE
            found.append(None if outcome is None else Declined(outcome))
        return found

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        supported = capabilities.support(session)
        may = capabilities.may_destroy(session)
        bound = classify.bound_datagrams(session, sockets)
        time_wait = classify.release(session.host.release) >= _TIME_WAIT_ENDS
        found: list[str] = []
        for sock in sockets:
            message = sock.message
            verdict = supported[message.protocol].verdict
            if verdict != capabilities.SUPPORTED:
                outcome = _unable(verdict, sock)
            elif sock.state_number == constants.BOUND_INACTIVE:
                # The look-up by addresses never finds it.
                outcome = outcomes.SURVIVED
            elif not may:
                outcome = outcomes.NOT_PERMITTED
            elif message.protocol == _WITHOUT_ABORT:
                outcome = outcomes.UNSUPPORTED_PROTOCOL
            elif _is_time_wait(sock) and not time_wait:
                outcome = outcomes.KERNEL_WITHOUT_DESTROY
            elif message.cookie in bound:
                outcome = outcomes.DISCONNECTED
            else:
                outcome = outcomes.DESTROYED
            found.append(outcome)
        return found

    def destroy(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[EngineAnswer]:
        """Where answers do not come, or cannot be read, nothing more is sent: what was not asked
        for may yet go by itself, and is not acknowledged. Raises NetlinkError where the very first
        request cannot be made."""
        numbers: list[int] = []
        for start in range(0, len(sockets), _CHUNK):
            socks = [sock.message for sock in sockets[start : start + _CHUNK]]
            try:
                numbers += inet_diag.destroy(session.diag, socks)
            except (MalformedMessage, NetlinkError, NetlinkTimeout) as error:
                refused = isinstance(error, NetlinkError) and error.errno != errno.ENOBUFS
                if refused and not numbers:
                    raise
                numbers += [errno.ENOENT if refused else errno.ENOBUFS] * len(socks)
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
                        acknowledged=False, refusal=_unable(verdict, sockets[index])
                    )
        return answers


def _unable(verdict: str, sock: Socket) -> str:
    """The outcome where the kernel has no way to destroy a socket of this protocol and state."""
    if verdict == capabilities.BUILT_WITHOUT:
        return outcomes.KERNEL_WITHOUT_DESTROY
    if verdict == capabilities.SUPPORTED and _is_time_wait(sock):
        return outcomes.KERNEL_WITHOUT_DESTROY
    return outcomes.UNSUPPORTED_PROTOCOL


def _is_time_wait(sock: Socket) -> bool:
    """Whether it is what TIME_WAIT leaves of a socket (struct inet_timewait_sock).

    A socket in FIN_WAIT_2 that its application has closed becomes one too, and says that it is in
    FIN_WAIT_2; only its timer gives it away (inet_twsk_diag_fill).
    """
    return sock.message.state == constants.TIME_WAIT or sock.timer == "timewait"
