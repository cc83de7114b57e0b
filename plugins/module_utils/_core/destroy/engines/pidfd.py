# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The engine pidfd: disconnects sockets through a duplicate of a holder's descriptor.

For kernels without SOCK_DESTROY, and for MPTCP, which SOCK_DESTROY cannot destroy. To the holder
and the peer, the holder disconnected the socket itself: the peer of a connection gets a RST.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence

from ...guard.reason import Reason
from ...host import pidfd
from ...host.pidfd import BorrowedFd, Descriptor, End
from ...netlink import constants
from ...netlink.inet_diag import DiagMessage
from ...query import classify
from ...sockets.session import NamespaceSession
from ...sockets.socket import Socket
from .. import outcomes
from ..verify import find_remaining
from .base import Declined, EngineAnswer
from .kernel_quirks import mptcp_disconnect_resets

_BUSY_PAUSES = (0.01, 0.02, 0.04, 0.08, 0.16)  # seconds

_ACKNOWLEDGED = EngineAnswer(acknowledged=True)
_MISSED = EngineAnswer(acknowledged=False)
_NOT_PERMITTED = EngineAnswer(acknowledged=False, refusal=outcomes.NOT_PERMITTED)
_FAILED = EngineAnswer(acknowledged=False, refusal=outcomes.SURVIVED)
_ANSWERS = {
    0: _ACKNOWLEDGED,
    # Some kernels refuse while a thread waits on the socket (tcp_disconnect, 2023).
    errno.EBUSY: EngineAnswer(acknowledged=False, refusal=outcomes.BUSY),
    errno.EPERM: _NOT_PERMITTED,
    # A security module.
    errno.EACCES: _NOT_PERMITTED,
    # An upper layer that cannot be removed (tls_disconnect).
    errno.EOPNOTSUPP: EngineAnswer(acknowledged=False, refusal=outcomes.UNSUPPORTED_PROTOCOL),
}

_NO_OWNER = Declined(
    outcomes.SURVIVED,
    Reason("no_owner", "no process holds it, and engine pidfd needs the descriptor of one"),
)
_UNREADABLE = Declined(
    outcomes.NOT_PERMITTED,
    Reason("owner_unreadable", "the descriptors of some processes cannot be read"),
)
_NO_CONNECTION = Declined(
    outcomes.UNSUPPORTED_PROTOCOL,
    Reason("subflow", "its MPTCP connection was not found"),
)
_OLD_MPTCP = Declined(
    outcomes.UNSUPPORTED_PROTOCOL,
    Reason(
        "kernel_too_old",
        "before Linux 5.17, disconnecting may leave subflows of an MPTCP connection",
    ),
)
_UNCONNECTED = Declined(
    outcomes.SURVIVED, Reason("no_connection", "it is neither listening nor connected")
)
_DATAGRAMS = ("udp", "udplite")

Borrow = Callable[[Descriptor], BorrowedFd]


class PidfdEngine:
    """Disconnects sockets. Requires permission to trace a holder, and Linux 5.6."""

    name = "pidfd"

    def __init__(self, borrow: Borrow = pidfd.borrow_fd) -> None:
        self._borrow = borrow

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """For each socket: None if this engine handles it. It does not handle:

        sockets that no visible process holds; sockets with nothing to disconnect; MPTCP subflows
        whose connection is not found.
        """
        messages = _messages_to_disconnect(session, sockets)
        bound = classify.udp_explicitly_bound(session, sockets, _DATAGRAMS)
        holders = pidfd.find_descriptors(
            session.host.proc, {message.inode for message in messages if message is not None}
        )
        no_holder = _NO_OWNER if holders.readable else _UNREADABLE
        resets_mptcp = mptcp_disconnect_resets(session.host.release)
        found: list[Declined | None] = []
        for sock, target in zip(sockets, messages):
            message = sock.message
            if target is None:
                found.append(_NO_CONNECTION)
            elif not resets_mptcp and target.protocol == "mptcp":
                found.append(_OLD_MPTCP)
            elif not target.inode:
                found.append(_NO_OWNER)
            elif message.cookie in bound and message.state != constants.ESTABLISHED:
                found.append(Declined(outcomes.ALREADY_GONE))
            elif sock.state_number == constants.BOUND_INACTIVE:
                found.append(_UNCONNECTED)
            elif target.inode not in holders.descriptors:
                found.append(no_holder)
            elif message.protocol == "raw" and not sock.has_remote:
                found.append(Declined(outcomes.UNSUPPORTED_PROTOCOL))
            else:
                found.append(None)
        return found

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        """As destroy, but without the disconnect: duplicating a descriptor shows whether it may."""
        bound = classify.udp_explicitly_bound(session, sockets, _DATAGRAMS)
        answers = self._act_on_all(session, sockets, _no_op)
        found: list[str] = []
        for sock, answer in zip(sockets, answers):
            if answer.refusal is not None:
                found.append(answer.refusal)
            elif not answer.acknowledged:
                found.append(outcomes.ALREADY_GONE)
            elif sock.message.cookie in bound or sock.protocol == "raw":
                found.append(outcomes.DISCONNECTED)
            else:
                found.append(outcomes.DESTROYED)
        return found

    def destroy(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[EngineAnswer]:
        """For each socket: disconnect it. Busy sockets are retried after each pause."""
        answers = self._act_on_all(session, sockets, _disconnect)
        for pause in _BUSY_PAUSES:
            busy = [
                index for index, answer in enumerate(answers) if answer.refusal == outcomes.BUSY
            ]
            if not busy:
                break
            session.host.sleep(pause)
            again = self._act_on_all(session, [sockets[index] for index in busy], _disconnect)
            for index, answer in zip(busy, again):
                answers[index] = answer
        return answers

    def _act_on_all(
        self, session: NamespaceSession, sockets: Sequence[Socket], act: Callable[[BorrowedFd], int]
    ) -> list[EngineAnswer]:
        """Act on each socket through a descriptor that provably refers to it."""
        messages = _messages_to_disconnect(session, sockets)
        found = pidfd.find_descriptors(
            session.host.proc, {message.inode for message in messages if message is not None}
        ).descriptors
        # inet_getname does not name the remote of a raw socket, which has no port.
        raw = find_remaining(session, [sock for sock in sockets if sock.protocol == "raw"])
        # Several subflows share one connection: act on it once.
        done: dict[tuple[str, int], EngineAnswer] = {}
        answers: list[EngineAnswer] = []
        for target in messages:
            if target is None or (target.protocol == "raw" and _moved(target, raw)):
                answers.append(_MISSED)
                continue
            key = (target.protocol, target.cookie)
            if key not in done:
                done[key] = self._act_on(target, found.get(target.inode, ()), act)
            answers.append(done[key])
        return answers

    def _act_on(
        self,
        message: DiagMessage,
        descriptors: Sequence[Descriptor],
        act: Callable[[BorrowedFd], int],
    ) -> EngineAnswer:
        answer = _MISSED
        for descriptor in descriptors:
            try:
                with self._borrow(descriptor) as borrowed:
                    if not _refers_to(borrowed, message):
                        continue
                    return _ANSWERS.get(act(borrowed), _FAILED)
            except PermissionError:
                answer = _NOT_PERMITTED
            except OSError as error:
                if descriptor.thread and error.errno == errno.EINVAL:
                    # This kernel has no pidfd of a thread.
                    answer = _FAILED
                # Else the process or its descriptor is gone, or refers to no socket now.
                continue
        return answer


def _disconnect(borrowed: BorrowedFd) -> int:
    return borrowed.disconnect()


def _no_op(_borrowed: BorrowedFd) -> int:
    return 0


def _moved(message: DiagMessage, remaining: Mapping[int, DiagMessage]) -> bool:
    now = remaining.get(message.cookie)
    return now is None or (now.state, now.dst) != (message.state, message.dst)


def _refers_to(borrowed: BorrowedFd, message: DiagMessage) -> bool:
    """Whether a descriptor refers to this socket, and the socket is unchanged.

    The number of the descriptor may have been reused since the dump. A socket keeps its cookie when
    its holder disconnects it or connects it elsewhere.
    """
    if borrowed.cookie() != message.cookie:
        return False
    if message.protocol == "tcp" and borrowed.tcp_state() == constants.CLOSED:
        return False
    if message.protocol in constants.STREAMS and borrowed.local() != End(
        message.src, message.sport
    ):
        return False
    remote = End(message.dst, message.dport) if message.dport else None
    return borrowed.remote(message.family) == remote


def _messages_to_disconnect(
    session: NamespaceSession, sockets: Sequence[Socket]
) -> list[DiagMessage | None]:
    """For each socket: itself, or the connection if it is an MPTCP subflow; None: not found."""
    keys = classify.subflows(session, sockets)
    connections = classify.mptcp_sockets(session) if keys else {}
    return [
        connections.get(keys[sock.cookie])
        if sock.protocol == "tcp" and sock.cookie in keys
        else sock.message
        for sock in sockets
    ]
