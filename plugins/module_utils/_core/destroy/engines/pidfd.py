# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: destroys sockets through a descriptor borrowed from their owner.

For kernels without SOCK_DESTROY, and for MPTCP, which it cannot destroy. The owner and the peer see
the same as if the owner had disconnected the socket: the peer of a connection gets a RST.
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
from ..verify import still_there
from .base import Declined, EngineAnswer

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
    # An upper layer that cannot be undone (tls_disconnect).
    errno.EOPNOTSUPP: EngineAnswer(acknowledged=False, refusal=outcomes.UNSUPPORTED_PROTOCOL),
}

_NO_OWNER = Declined(
    outcomes.SURVIVED, Reason("no_owner", "no process holds it, and pidfd goes through its owner")
)
_UNREADABLE = Declined(
    outcomes.NOT_PERMITTED,
    Reason("owner_unreadable", "the descriptors of some processes cannot be read"),
)
_NO_CONNECTION = Declined(
    outcomes.UNSUPPORTED_PROTOCOL,
    Reason("subflow", "the MPTCP connection that it carries is not found"),
)
_OLD_MPTCP = Declined(
    outcomes.UNSUPPORTED_PROTOCOL,
    Reason("kernel_too_old", "before Linux 5.17 not all of an MPTCP connection may end"),
)
_UNCONNECTED = Declined(
    outcomes.SURVIVED, Reason("no_connection", "it neither listens nor connects")
)
# "mptcp: full disconnect implementation"; before, mptcp_disconnect did not reset the connection.
_WHOLE_MPTCP_ENDS = (5, 17)
_DATAGRAMS = ("udp", "udplite")

Borrow = Callable[[Descriptor], BorrowedFd]


class PidfdEngine:
    """The way through the owner; it needs the right to trace it, and Linux 5.6."""

    name = "pidfd"

    def __init__(self, borrow: Borrow = pidfd.borrow_fd) -> None:
        self._borrow = borrow

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """What it cannot reach: sockets that no visible process holds, sockets that have nothing to
        disconnect, and MPTCP subflows whose connection is not found."""
        targets = _targets(session, sockets)
        bound = classify.bound_datagrams(session, sockets, _DATAGRAMS)
        holders = pidfd.find_descriptors(
            session.host.proc, {message.inode for message in targets if message is not None}
        )
        nobody = _NO_OWNER if holders.readable else _UNREADABLE
        old = classify.release(session.host.release) < _WHOLE_MPTCP_ENDS
        found: list[Declined | None] = []
        for sock, target in zip(sockets, targets):
            message = sock.message
            if target is None:
                found.append(_NO_CONNECTION)
            elif old and target.protocol == "mptcp":
                found.append(_OLD_MPTCP)
            elif not target.inode:
                found.append(_NO_OWNER)
            elif message.cookie in bound and message.state != constants.ESTABLISHED:
                found.append(Declined(outcomes.ALREADY_GONE))
            elif sock.state_number == constants.BOUND_INACTIVE:
                found.append(_UNCONNECTED)
            elif target.inode not in holders.descriptors:
                found.append(nobody)
            elif message.protocol == "raw" and not sock.has_remote:
                found.append(Declined(outcomes.UNSUPPORTED_PROTOCOL))
            else:
                found.append(None)
        return found

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        """Borrows, compares, and gives back: that alone tells whether it may."""
        bound = classify.bound_datagrams(session, sockets, _DATAGRAMS)
        answers = self._each(session, sockets, _touch_nothing)
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
        """What the kernel is too busy for is tried again, all of it after each pause."""
        answers = self._each(session, sockets, _disconnect)
        for pause in _BUSY_PAUSES:
            busy = [index for index, each in enumerate(answers) if each.refusal == outcomes.BUSY]
            if not busy:
                break
            session.host.sleep(pause)
            again = self._each(session, [sockets[index] for index in busy], _disconnect)
            for index, answer in zip(busy, again):
                answers[index] = answer
        return answers

    def _each(
        self, session: NamespaceSession, sockets: Sequence[Socket], act: Callable[[BorrowedFd], int]
    ) -> list[EngineAnswer]:
        """Act on each socket, through any descriptor that is proven to be of this very socket."""
        targets = _targets(session, sockets)
        found = pidfd.find_descriptors(
            session.host.proc, {message.inode for message in targets if message is not None}
        ).descriptors
        # A raw socket has no port, and is not told what it is connected to (inet_getname).
        raw = still_there(session, [each for each in sockets if each.protocol == "raw"])
        # Several subflows have one connection: it is acted on once.
        done: dict[tuple[str, int], EngineAnswer] = {}
        answers: list[EngineAnswer] = []
        for target in targets:
            if target is None or (target.protocol == "raw" and _moved(target, raw)):
                answers.append(_MISSED)
                continue
            key = (target.protocol, target.cookie)
            if key not in done:
                done[key] = self._one(target, found.get(target.inode, ()), act)
            answers.append(done[key])
        return answers

    def _one(
        self, message: DiagMessage, held: Sequence[Descriptor], act: Callable[[BorrowedFd], int]
    ) -> EngineAnswer:
        answer = _MISSED
        for descriptor in held:
            try:
                with self._borrow(descriptor) as borrowed:
                    if not _is_still(borrowed, message):
                        continue
                    return _ANSWERS.get(act(borrowed), _FAILED)
            except PermissionError:
                answer = _NOT_PERMITTED
            except OSError:
                # The process, or its descriptor, is gone, or no socket any more.
                continue
        return answer


def _disconnect(borrowed: BorrowedFd) -> int:
    return borrowed.disconnect()


def _touch_nothing(_borrowed: BorrowedFd) -> int:
    return 0


def _moved(message: DiagMessage, present: Mapping[int, DiagMessage]) -> bool:
    now = present.get(message.cookie)
    return now is None or (now.state, now.dst) != (message.state, message.dst)


def _is_still(borrowed: BorrowedFd, message: DiagMessage) -> bool:
    """Whether a descriptor is of this very socket, and the socket is what it was.

    The descriptor's number may have been used anew since the look. A socket keeps its cookie when
    its owner disconnects it, or connects it elsewhere.
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


def _targets(session: NamespaceSession, sockets: Sequence[Socket]) -> list[DiagMessage | None]:
    """For each socket the one to disconnect: itself, or the MPTCP connection that it carries."""
    keys = classify.subflows(session, sockets)
    connections = classify.mptcp_sockets(session) if keys else {}
    return [
        connections.get(keys[sock.cookie])
        if sock.protocol == "tcp" and sock.cookie in keys
        else sock.message
        for sock in sockets
    ]
