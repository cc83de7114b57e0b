# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: kinds of sockets that engines must know apart."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress

from ..errors import HandlerMissing
from ..netlink import bytecode, constants, inet_diag
from ..netlink.inet_diag import DiagMessage
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket

_RELEASE = re.compile(r"(\d+)\.(\d+)")


def bound_datagrams(
    session: NamespaceSession, sockets: Sequence[Socket], protocols: Collection[str] = ("udp",)
) -> frozenset[int]:
    """The cookies of the datagram sockets, of these protocols and of the families that occur,
    whose port was chosen by the application (SOCK_BINDPORT_LOCK)."""
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
    """The TCP sockets that carry MPTCP connections: by cookie, the connection's key_of.

    The kernel names a socket's upper layer only along with struct tcp_info (inet_sk_diag_fill),
    which costs more than all else; so where it did not come with these sockets, first whether there
    is an MPTCP connection at all.
    """
    if all(each.message.protocol != "tcp" or inet_diag.INFO in each.attributes for each in sockets):
        carriers = (each for each in sockets if each.message.protocol == "tcp")
        return {each.message.cookie: key_of(each) for each in carriers if each.ulp == "mptcp"}
    families = {sock.message.family for sock in sockets if sock.message.protocol == "tcp"}
    if not _has_mptcp(session):
        return {}
    snapshot = session.snapshot()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    carriers = (
        Socket(message, snapshot)
        for family in families
        for message in inet_diag.dump(session.diag, "tcp", family, extensions=extensions)
        if b"mptcp" in message.attributes
    )
    return {each.cookie: key_of(each) for each in carriers if each.ulp == "mptcp"}


def mptcp_sockets(session: NamespaceSession) -> dict[int, DiagMessage]:
    """The MPTCP sockets by their key_of, without their subflows."""
    snapshot = session.snapshot()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    found: dict[int, DiagMessage] = {}
    with suppress(HandlerMissing):
        for family in constants.FAMILIES.values():
            for message in inet_diag.dump(session.diag, "mptcp", family, extensions=extensions):
                found[key_of(Socket(message, snapshot))] = message
    # Without a token and an inode one cannot be told from another.
    found.pop(0, None)
    return found


def connections(session: NamespaceSession, extensions: int = 0) -> list[list[DiagMessage]]:
    """Every MPTCP connection, and listener, that can be listed: its socket and its subflows.

    extensions: more bits of idiag_ext to ask for.
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
                    parts.setdefault(key_of(sock), []).append(message)
    parts.pop(0, None)
    return list(parts.values())


def key_of(sock: Socket) -> int:
    """What an MPTCP socket has in common with its subflows: its token; listeners, which have
    none, their inode, as a negative number."""
    return sock.mptcp_token or -sock.inode


def _has_mptcp(session: NamespaceSession) -> bool:
    """Whether there may be MPTCP connections in the namespace."""
    try:
        return any(
            inet_diag.dump(session.diag, "mptcp", family) for family in constants.FAMILIES.values()
        )
    except HandlerMissing:
        # Without mptcp_diag they cannot be listed; a kernel without MPTCP has none.
        return os.path.isdir(f"{session.host.proc}/sys/net/mptcp")


def release(text: str) -> tuple[int, int]:
    """The first two numbers of uname -r; (0, 0) where there are none."""
    match = _RELEASE.match(text)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)
