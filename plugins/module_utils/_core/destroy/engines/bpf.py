# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The engine bpf: an iterator program that calls bpf_sock_destroy.

For kernels without SOCK_DESTROY. It aborts sockets as SOCK_DESTROY does, found by cookie alone.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ...bpf import socket_destroy
from ...errors import MalformedBtf
from ...guard.reason import Reason
from ...messages.engines import bpf_text
from ...netlink import constants
from ...query import capabilities, classify
from ...sockets.session import NamespaceSession
from ...sockets.socket import Socket
from .. import outcomes
from . import aborts
from .base import Declined, EngineAnswer

_MISSED = EngineAnswer(acknowledged=False)
_NOT_PERMITTED = EngineAnswer(acknowledged=False, refusal=outcomes.NOT_PERMITTED)
_FAILED = EngineAnswer(acknowledged=False, refusal=outcomes.SURVIVED)
_ANSWERS = {
    0: EngineAnswer(acknowledged=True),
    # It no longer exists, or it never was visited: bound only.
    socket_destroy.UNSEEN: _MISSED,
    # It was closed already (tcp_abort, since Linux 6.11).
    -errno.ENOENT: _MISSED,
    socket_destroy.NOT_FULL: EngineAnswer(
        acknowledged=False, refusal=outcomes.KERNEL_WITHOUT_DESTROY
    ),
    -errno.EOPNOTSUPP: EngineAnswer(acknowledged=False, refusal=outcomes.UNSUPPORTED_PROTOCOL),
}

_UNSUPPORTED = frozenset(constants.PROTOCOLS) - socket_destroy.ITERATORS.keys()

# The kernel keeps these as struct inet_timewait_sock and struct request_sock. bpf_sock_destroy
# reads sk_protocol, which is not in them.
_NOT_FULL = Declined(
    outcomes.KERNEL_WITHOUT_DESTROY,
    Reason("not_full_socket", "engine bpf cannot end half-open connections and TIME_WAIT"),
)


class BpfEngine:
    """Destroys TCP and UDP sockets. Requires Linux 6.5, BTF, CAP_BPF and CAP_PERFMON."""

    name = "bpf"
    indestructible = _UNSUPPORTED

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """For each socket: None if this engine handles it: see aborts.declines.

        It does not handle sockets that are no full sockets, and none if the kernel does not run the
        program for this caller.
        """
        found = aborts.declines(session, sockets, _UNSUPPORTED)
        unusable: dict[str, Declined | None] = {}
        for index, sock in enumerate(sockets):
            if found[index] is not None:
                continue
            if sock.protocol not in unusable:
                unusable[sock.protocol] = _unusable(session, sock.protocol)
            found[index] = unusable[sock.protocol]
            if found[index] is None and not _is_full(sock):
                found[index] = _NOT_FULL
        return found

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        bound = classify.udp_explicitly_bound(session, sockets)
        found: list[str] = []
        for sock in sockets:
            if sock.state_number == constants.BOUND_INACTIVE:
                # The iterators do not visit it.
                found.append(outcomes.SURVIVED)
            elif sock.message.cookie in bound:
                found.append(outcomes.DISCONNECTED)
            else:
                found.append(outcomes.DESTROYED)
        return found

    def destroy(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[EngineAnswer]:
        """For each socket: destroy it, in one walk over the sockets of its protocol.

        If the kernel refuses to run the program, no socket of its protocol is destroyed. Raises
        NamespaceNotFound and NamespaceDenied.
        """
        answers: dict[tuple[str, int], EngineAnswer] = {}
        for protocol in sorted({sock.protocol for sock in sockets}):
            cookies = [sock.cookie for sock in sockets if sock.protocol == protocol]
            failure = _FAILED
            results: dict[int, int] = {}
            try:
                results = session.host.destroy_by_bpf(session.namespace, protocol, cookies)
            except MalformedBtf:
                pass
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EACCES):
                    failure = _NOT_PERMITTED
            for cookie in cookies:
                code = results.get(cookie)
                answers[protocol, cookie] = failure if code is None else _ANSWERS.get(code, _FAILED)
        return [answers[sock.protocol, sock.cookie] for sock in sockets]


def _is_full(sock: Socket) -> bool:
    """Whether the kernel has a struct sock for it.

    A half-open connection has none, except with TCP Fast Open, and no inode.
    """
    half_open = sock.message.state == constants.SYN_RECV and not sock.message.inode
    return not half_open and not aborts.is_time_wait(sock)


def _unusable(session: NamespaceSession, protocol: str) -> Declined | None:
    """Why the engine cannot handle any socket of a protocol; None: it can."""
    support = capabilities.bpf_support(session.host, protocol)
    if support.verdict == socket_destroy.SUPPORTED:
        return None
    outcome = (
        outcomes.NOT_PERMITTED
        if support.verdict == socket_destroy.NOT_PERMITTED
        else outcomes.KERNEL_WITHOUT_DESTROY
    )
    return Declined(outcome, Reason(f"bpf_{support.verdict}", bpf_text(*support)))
