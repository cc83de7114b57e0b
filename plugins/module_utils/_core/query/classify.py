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
from ..netlink.inet_diag import Sock
from ..sockets.socket import Subject
from .find import View

_RELEASE = re.compile(r"(\d+)\.(\d+)")


def bound_datagrams(
    view: View, subjects: Sequence[Subject], protocols: Collection[str] = ("udp",)
) -> frozenset[int]:
    """The cookies of the datagram sockets, of these protocols and of the families that occur,
    whose port was chosen by the application (SOCK_BINDPORT_LOCK)."""
    kinds = {
        (subject.sock.protocol, subject.sock.family)
        for subject in subjects
        if subject.sock.protocol in protocols
    }
    chosen = bytecode.negation(bytecode.auto())
    return frozenset(
        sock.cookie
        for protocol, family in kinds
        for sock in inet_diag.dump(view.diag, protocol, family, bytecode=chosen)
    )


def subflows(view: View, subjects: Sequence[Subject]) -> dict[int, int]:
    """The TCP sockets that carry MPTCP connections: by cookie, the connection's key_of.

    The kernel names a socket's upper layer only along with struct tcp_info (inet_sk_diag_fill),
    which costs more than all else; so where it did not come with these sockets, first whether there
    is an MPTCP connection at all.
    """
    if all(each.sock.protocol != "tcp" or inet_diag.INFO in each.attributes for each in subjects):
        carriers = (each for each in subjects if each.sock.protocol == "tcp")
        return {each.sock.cookie: key_of(each) for each in carriers if each.ulp == "mptcp"}
    families = {subject.sock.family for subject in subjects if subject.sock.protocol == "tcp"}
    if not _has_mptcp(view):
        return {}
    environment = view.environment()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    carriers = (
        Subject(sock, environment)
        for family in families
        for sock in inet_diag.dump(view.diag, "tcp", family, extensions=extensions)
        if b"mptcp" in sock.attributes
    )
    return {each.cookie: key_of(each) for each in carriers if each.ulp == "mptcp"}


def mptcp_sockets(view: View) -> dict[int, Sock]:
    """The MPTCP sockets by their key_of, without their subflows."""
    environment = view.environment()
    extensions = inet_diag.extension_bits([inet_diag.INFO])
    found: dict[int, Sock] = {}
    with suppress(HandlerMissing):
        for family in constants.FAMILIES.values():
            for sock in inet_diag.dump(view.diag, "mptcp", family, extensions=extensions):
                found[key_of(Subject(sock, environment))] = sock
    # Without a token and an inode one cannot be told from another.
    found.pop(0, None)
    return found


def connections(view: View, extensions: int = 0) -> list[list[Sock]]:
    """Every MPTCP connection, and listener, that can be listed: its socket and its subflows.

    extensions: more bits of idiag_ext to ask for.
    """
    if not _has_mptcp(view):
        return []
    environment = view.environment()
    extensions |= inet_diag.extension_bits([inet_diag.INFO])
    parts: dict[int, list[Sock]] = {}
    for family in constants.FAMILIES.values():
        found = inet_diag.dump(view.diag, "tcp", family, extensions=extensions)
        with suppress(HandlerMissing):
            found += inet_diag.dump(view.diag, "mptcp", family, extensions=extensions)
        for sock in found:
            if sock.protocol == "mptcp" or b"mptcp" in sock.attributes:
                subject = Subject(sock, environment)
                if sock.protocol == "mptcp" or subject.ulp == "mptcp":
                    parts.setdefault(key_of(subject), []).append(sock)
    parts.pop(0, None)
    return list(parts.values())


def key_of(subject: Subject) -> int:
    """What an MPTCP socket has in common with its subflows: its token; listeners, which have
    none, their inode, as a negative number."""
    return subject.mptcp_token or -subject.inode


def _has_mptcp(view: View) -> bool:
    """Whether there may be MPTCP connections in the namespace."""
    try:
        return any(
            inet_diag.dump(view.diag, "mptcp", family) for family in constants.FAMILIES.values()
        )
    except HandlerMissing:
        # Without mptcp_diag they cannot be listed; a kernel without MPTCP has none.
        return os.path.isdir(f"{view.host.proc}/sys/net/mptcp")


def release(text: str) -> tuple[int, int]:
    """The first two numbers of uname -r; (0, 0) where there are none."""
    match = _RELEASE.match(text)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)
