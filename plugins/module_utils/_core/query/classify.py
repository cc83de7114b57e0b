# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Classification of sockets: MPTCP connections and subflows, explicitly bound UDP sockets."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from ..errors import HandlerMissing
from ..netlink import bytecode, constants, inet_diag
from ..netlink.inet_diag import DiagMessage
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket


def udp_explicitly_bound(
    session: NamespaceSession, sockets: Sequence[Socket], protocols: Collection[str] = ("udp",)
) -> frozenset[int]:
    """The cookies of datagram sockets whose port the application chose (SOCK_BINDPORT_LOCK).

    All sockets of the namespace are dumped, for each of these protocols and the families in
    sockets. Raises what Connection.dump raises.
    """
    kinds = {
        (sock.message.protocol, sock.message.family)
        for sock in sockets
        if sock.message.protocol in protocols
    }
    chosen = bytecode.negation(bytecode.auto())
    return frozenset(
        message.cookie
        for protocol, family in kinds
        for message in inet_diag.dump(session.diag, protocol, family, bytecode=chosen)
    )


def subflows(session: NamespaceSession, sockets: Sequence[Socket]) -> dict[int, int]:
    """The connection_key of MPTCP subflows by cookie.

    The kernel names the upper layer of a socket only with struct tcp_info (inet_sk_diag_fill),
    which is expensive. So sockets without it are only dumped again if the namespace has MPTCP.
    """
    if all(sock.message.protocol != "tcp" or inet_diag.INFO in sock.attributes for sock in sockets):
        candidates = (sock for sock in sockets if sock.message.protocol == "tcp")
        return {
            sock.message.cookie: connection_key(sock) for sock in candidates if sock.ulp == "mptcp"
        }
    families = {sock.message.family for sock in sockets if sock.message.protocol == "tcp"}
    if not _has_mptcp(session):
        return {}
    snapshot = session.snapshot()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    candidates = (
        Socket(message, snapshot)
        for family in families
        for message in inet_diag.dump(session.diag, "tcp", family, extensions=extensions)
        if b"mptcp" in message.attributes
    )
    return {sock.cookie: connection_key(sock) for sock in candidates if sock.ulp == "mptcp"}


def may_have_subflows(sockets: Iterable[Socket]) -> bool:
    """Whether any of these is an MPTCP socket, or may be a subflow. Asks the kernel nothing.

    A socket that was dumped with struct tcp_info names its upper layer too (tcp_diag_get_aux), and
    none becomes a subflow later: the layer is set before the socket is hashed.
    """
    return any(
        sock.message.protocol in constants.STREAMS
        and (
            sock.message.protocol != "tcp"
            or b"mptcp" in sock.message.attributes
            or inet_diag.INFO not in sock.attributes
        )
        for sock in sockets
    )


def mptcp_sockets(session: NamespaceSession) -> dict[int, DiagMessage]:
    """The MPTCP sockets by their connection_key, without subflows."""
    snapshot = session.snapshot()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    found: dict[int, DiagMessage] = {}
    with suppress(HandlerMissing):
        for family in constants.FAMILIES.values():
            for message in inet_diag.dump(session.diag, "mptcp", family, extensions=extensions):
                found[connection_key(Socket(message, snapshot))] = message
    # Sockets with neither a token nor an inode are indistinguishable.
    found.pop(0, None)
    return found


def connections(session: NamespaceSession, extensions: int = 0) -> list[list[DiagMessage]]:
    """The MPTCP connections and listeners, each as its socket and its subflows.

    extensions: more idiag_ext bits to request.
    """
    if not _has_mptcp(session):
        return []
    snapshot = session.snapshot()
    extensions |= inet_diag.extension_bits([inet_diag.INFO])
    parts: dict[int, list[DiagMessage]] = {}
    for family in constants.FAMILIES.values():
        found = inet_diag.dump(session.diag, "tcp", family, extensions=extensions)
        with suppress(HandlerMissing):
            found += inet_diag.dump(session.diag, "mptcp", family, extensions=extensions)
        for message in found:
            if message.protocol == "mptcp" or b"mptcp" in message.attributes:
                sock = Socket(message, snapshot)
                if message.protocol == "mptcp" or sock.ulp == "mptcp":
                    parts.setdefault(connection_key(sock), []).append(message)
    parts.pop(0, None)
    return list(parts.values())


def connection_key(sock: Socket) -> int:
    """The key that an MPTCP socket shares with its subflows.

    The token, or the negative inode for listeners, which have no token.
    """
    return sock.mptcp_token or -sock.inode


def _has_mptcp(session: NamespaceSession) -> bool:
    """Whether the namespace may have MPTCP connections."""
    try:
        return any(
            inet_diag.dump(session.diag, "mptcp", family) for family in constants.FAMILIES.values()
        )
    except HandlerMissing:
        # Without mptcp_diag they cannot be dumped; a kernel without MPTCP has none.
        return os.path.isdir(f"{session.host.proc}/sys/net/mptcp")
