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
from ...host.pidfd import Borrowed, Descriptor, End
from ...netlink import constants
from ...netlink.inet_diag import Sock
from ...query import classify
from ...query.find import View
from ...sockets.socket import Subject
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

Borrow = Callable[[Descriptor], Borrowed]


class PidfdEngine:
    """The way through the owner; it needs the right to trace it, and Linux 5.6."""

    name = "pidfd"

    def __init__(self, borrow: Borrow = pidfd.borrow) -> None:
        self._borrow = borrow

    def declines(self, view: View, subjects: Sequence[Subject]) -> list[Declined | None]:
        """What it cannot reach: sockets that no visible process holds, sockets that have nothing to
        disconnect, and MPTCP subflows whose connection is not found."""
        targets = _targets(view, subjects)
        bound = classify.bound_datagrams(view, subjects, _DATAGRAMS)
        holders = pidfd.find_descriptors(
            view.host.proc, {sock.inode for sock in targets if sock is not None}
        )
        nobody = _NO_OWNER if holders.readable else _UNREADABLE
        old = classify.release(view.host.release) < _WHOLE_MPTCP_ENDS
        found: list[Declined | None] = []
        for subject, target in zip(subjects, targets):
            sock = subject.sock
            if target is None:
                found.append(_NO_CONNECTION)
            elif old and target.protocol == "mptcp":
                found.append(_OLD_MPTCP)
            elif not target.inode:
                found.append(_NO_OWNER)
            elif sock.cookie in bound and sock.state != constants.ESTABLISHED:
                found.append(Declined(outcomes.ALREADY_GONE))
            elif subject.state_number == constants.BOUND_INACTIVE:
                found.append(_UNCONNECTED)
            elif target.inode not in holders.descriptors:
                found.append(nobody)
            elif sock.protocol == "raw" and not subject.has_remote:
                found.append(Declined(outcomes.UNSUPPORTED_PROTOCOL))
            else:
                found.append(None)
        return found

    def forecast(self, view: View, subjects: Sequence[Subject]) -> list[str]:
        """Borrows, compares, and gives back: that alone tells whether it may."""
        bound = classify.bound_datagrams(view, subjects, _DATAGRAMS)
        answers = self._each(view, subjects, _touch_nothing)
        found: list[str] = []
        for subject, answer in zip(subjects, answers):
            if answer.refusal is not None:
                found.append(answer.refusal)
            elif not answer.acknowledged:
                found.append(outcomes.ALREADY_GONE)
            elif subject.sock.cookie in bound or subject.protocol == "raw":
                found.append(outcomes.DISCONNECTED)
            else:
                found.append(outcomes.DESTROYED)
        return found

    def destroy(self, view: View, subjects: Sequence[Subject]) -> list[EngineAnswer]:
        """What the kernel is too busy for is tried again, all of it after each pause."""
        answers = self._each(view, subjects, _disconnect)
        for pause in _BUSY_PAUSES:
            busy = [index for index, each in enumerate(answers) if each.refusal == outcomes.BUSY]
            if not busy:
                break
            view.host.sleep(pause)
            again = self._each(view, [subjects[index] for index in busy], _disconnect)
            for index, answer in zip(busy, again):
                answers[index] = answer
        return answers

    def _each(
        self, view: View, subjects: Sequence[Subject], act: Callable[[Borrowed], int]
    ) -> list[EngineAnswer]:
        """Act on each socket, through any descriptor that is proven to be of this very socket."""
        targets = _targets(view, subjects)
        found = pidfd.find_descriptors(
            view.host.proc, {sock.inode for sock in targets if sock is not None}
        ).descriptors
        # A raw socket has no port, and is not told what it is connected to (inet_getname).
        raw = still_there(view, [each for each in subjects if each.protocol == "raw"])
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
        self, sock: Sock, held: Sequence[Descriptor], act: Callable[[Borrowed], int]
    ) -> EngineAnswer:
        answer = _MISSED
        for descriptor in held:
            try:
                with self._borrow(descriptor) as borrowed:
                    if not _is_still(borrowed, sock):
                        continue
                    return _ANSWERS.get(act(borrowed), _FAILED)
            except PermissionError:
                answer = _NOT_PERMITTED
            except OSError:
                # The process, or its descriptor, is gone, or no socket any more.
                continue
        return answer


def _disconnect(borrowed: Borrowed) -> int:
    return borrowed.disconnect()


def _touch_nothing(_borrowed: Borrowed) -> int:
    return 0


def _moved(sock: Sock, present: Mapping[int, Sock]) -> bool:
    now = present.get(sock.cookie)
    return now is None or (now.state, now.dst) != (sock.state, sock.dst)


def _is_still(borrowed: Borrowed, sock: Sock) -> bool:
    """Whether a descriptor is of this very socket, and the socket is what it was.

    The descriptor's number may have been used anew since the look. A socket keeps its cookie when
    its owner disconnects it, or connects it elsewhere.
    """
    if borrowed.cookie() != sock.cookie:
        return False
    if sock.protocol == "tcp" and borrowed.tcp_state() == constants.CLOSED:
        return False
    if sock.protocol in constants.STREAMS and borrowed.local() != End(sock.src, sock.sport):
        return False
    remote = End(sock.dst, sock.dport) if sock.dport else None
    return borrowed.remote(sock.family) == remote


def _targets(view: View, subjects: Sequence[Subject]) -> list[Sock | None]:
    """For each socket the one to disconnect: itself, or the MPTCP connection that it carries."""
    keys = classify.subflows(view, subjects)
    connections = classify.mptcp_sockets(view) if keys else {}
    return [
        connections.get(keys[subject.cookie])
        if subject.protocol == "tcp" and subject.cookie in keys
        else subject.sock
        for subject in subjects
    ]
