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

from .. import descriptors, outcomes, vocabulary
from ..descriptors import Descriptor
from ..errors import HandlerMissing
from ..guard.reason import Reason
from ..look import View
from ..subject import Subject
from ..wire import inet_diag
from ..wire.inet_diag import Sock
from . import kinds
from .base import Declined, EngineAnswer

_BUSY_TRIES = 5
_BUSY_PAUSE = 0.01  # seconds; doubled each time

_ACKNOWLEDGED = EngineAnswer(acknowledged=True)
_MISSED = EngineAnswer(acknowledged=False)
_BUSY = EngineAnswer(acknowledged=False, refusal=outcomes.BUSY)
_NOT_PERMITTED = EngineAnswer(acknowledged=False, refusal=outcomes.NOT_PERMITTED)
_FAILED = EngineAnswer(acknowledged=False, refusal=outcomes.SURVIVED)

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


class PidfdEngine:
    """The way through the owner; it needs the right to trace it, and Linux 5.6."""

    name = "pidfd"

    def __init__(
        self,
        borrow: Callable[[Descriptor], descriptors.Borrowed] = descriptors.borrow,
    ) -> None:
        self._borrow = borrow

    def declines(self, view: View, subjects: Sequence[Subject]) -> list[Declined | None]:
        """What it cannot reach: sockets that no visible process holds, datagram sockets without a
        remote on a port of their own, and MPTCP subflows whose connection is not found."""
        targets = _targets(view, subjects)
        bound = kinds.bound_datagrams(view, subjects)
        holders = descriptors.find_descriptors(
            view.host.proc, {sock.inode for sock in targets if sock is not None}
        )
        nobody = _NO_OWNER if holders.readable else _UNREADABLE
        found: list[Declined | None] = []
        for subject, target in zip(subjects, targets):
            sock = subject.sock
            if target is None:
                found.append(_NO_CONNECTION)
            elif not target.inode:
                found.append(_NO_OWNER)
            elif target.inode not in holders.descriptors:
                found.append(nobody)
            elif sock.cookie in bound and sock.state != vocabulary.ESTABLISHED:
                found.append(Declined(outcomes.ALREADY_GONE))
            elif sock.protocol == "raw" and not subject.has_remote:
                found.append(Declined(outcomes.UNSUPPORTED_PROTOCOL))
            else:
                found.append(None)
        return found

    def forecast(self, view: View, subjects: Sequence[Subject]) -> list[str]:
        """Borrows, compares, and gives back: that alone tells whether it may."""
        bound = kinds.bound_datagrams(view, subjects)
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
        pause = view.host.sleep

        def disconnect(borrowed: descriptors.Borrowed) -> int:
            # Some kernels refuse while a thread waits on the socket (tcp_disconnect, 2023).
            for attempt in range(_BUSY_TRIES):
                answer = borrowed.disconnect()
                if answer != errno.EBUSY:
                    return answer
                pause(_BUSY_PAUSE * 2**attempt)
            return errno.EBUSY

        return self._each(view, subjects, disconnect)

    def _each(
        self,
        view: View,
        subjects: Sequence[Subject],
        act: Callable[[descriptors.Borrowed], int],
    ) -> list[EngineAnswer]:
        """Act on each socket, through any descriptor that is proven to be of this very socket."""
        targets = _targets(view, subjects)
        found = descriptors.find_descriptors(
            view.host.proc, {sock.inode for sock in targets if sock is not None}
        ).descriptors
        # Several subflows have one connection: it is acted on once.
        done: dict[tuple[str, int], EngineAnswer] = {}
        answers: list[EngineAnswer] = []
        for target in targets:
            if target is None:
                answers.append(_MISSED)
                continue
            key = (target.protocol, target.cookie)
            if key not in done:
                done[key] = self._one(target, found.get(target.inode, ()), act)
            answers.append(done[key])
        return answers

    def _one(
        self,
        sock: Sock,
        held: Sequence[Descriptor],
        act: Callable[[descriptors.Borrowed], int],
    ) -> EngineAnswer:
        answer = _MISSED
        for descriptor in held:
            try:
                with self._borrow(descriptor) as borrowed:
                    if borrowed.cookie() != sock.cookie or not _same_remote(borrowed, sock):
                        # Closed and used anew, or connected anew, since the look.
                        continue
                    number = act(borrowed)
            except PermissionError:
                answer = _NOT_PERMITTED
                continue
            except OSError:
                # The process, or its descriptor, is gone, or no socket any more.
                continue
            if number == 0:
                return _ACKNOWLEDGED
            if number == errno.EBUSY:
                return _BUSY
            return _NOT_PERMITTED if number in (errno.EPERM, errno.EACCES) else _FAILED
        return answer


def _touch_nothing(_borrowed: descriptors.Borrowed) -> int:
    return 0


def _same_remote(borrowed: descriptors.Borrowed, sock: Sock) -> bool:
    """A socket keeps its cookie when its owner connects it elsewhere."""
    remote = borrowed.remote_port()
    return remote is None or not sock.dport or remote == sock.dport


def _targets(view: View, subjects: Sequence[Subject]) -> list[Sock | None]:
    """For each socket the one to disconnect: itself, or the MPTCP connection that it carries."""
    tokens = kinds.subflows(view, subjects)
    connections = _connections(view) if tokens else {}
    found: list[Sock | None] = []
    for subject in subjects:
        sock = subject.sock
        if sock.protocol == "tcp" and sock.cookie in tokens:
            # A listening subflow has no token; its listener has the same inode.
            token = tokens[sock.cookie]
            found.append(connections.get(token or -sock.inode))
        else:
            found.append(sock)
    return found


def _connections(view: View) -> Mapping[int, Sock]:
    """The MPTCP sockets by their token; listeners, which have none, by their inode as negative."""
    environment = view.environment()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    found: dict[int, Sock] = {}
    try:
        for family in vocabulary.FAMILIES.values():
            for sock in inet_diag.dump(view.diag, "mptcp", family, extensions=extensions):
                token = Subject(sock, environment).mptcp_token
                found[token or -sock.inode] = sock
    except HandlerMissing:
        return {}
    return found
