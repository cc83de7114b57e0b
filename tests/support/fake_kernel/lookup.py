# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which socket the kernel takes for a tuple: its look-ups for TCP, UDP and raw sockets.

All addresses are packed. As on the wire, local is the socket's own side. A tuple that no connection
has any more falls back to a listener; in a SO_REUSEPORT group a hash decides.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from . import model
from .model import FakeSocket, is_mapped


class Tuple(NamedTuple):
    """One side's view of a connection, ports in host order."""

    family: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    ifindex: int

    def unmapped(self) -> Tuple:
        """Two mapped addresses are looked up as IPv4 (inet_diag_find_one_icsk)."""
        if self.family == socket.AF_INET6 and is_mapped(self.local) and is_mapped(self.remote):
            return self._replace(
                family=socket.AF_INET, local=self.local[12:], remote=self.remote[12:]
            )
        return self


def find_tcp(sockets: Iterable[FakeSocket], wanted: Tuple) -> FakeSocket | None:
    """inet_lookup, inet6_lookup: an exact connection, else a listener."""
    wanted = wanted.unmapped()
    candidates = [each for each in sockets if each.protocol in (model.TCP, model.MPTCP)]
    for each in candidates:
        if each.state in (model.LISTEN, model.CLOSE, model.BOUND_INACTIVE):
            continue
        local, remote = _as_family(each, wanted.family)
        if (local, each.local_port, remote, each.remote_port) == (
            wanted.local,
            wanted.local_port,
            wanted.remote,
            wanted.remote_port,
        ) and each.ifindex in (0, wanted.ifindex):
            return each
    listeners = [
        each
        for each in candidates
        if each.state == model.LISTEN and each.local_port == wanted.local_port
    ]
    for address in (wanted.local, bytes(len(wanted.local))):
        found = [each for each in listeners if _listens(each, address, wanted)]
        if found:
            best = max(found, key=lambda each: (each.ifindex != 0, each.family == socket.AF_INET))
            return _of_group(best, found, wanted)
    return None


def find_udp(sockets: Iterable[FakeSocket], protocol: int, wanted: Tuple) -> FakeSocket | None:
    """__udp4_lib_lookup, __udp6_lib_lookup: the best score; a connected socket beats the rest."""
    wanted = wanted.unmapped()
    candidates = [each for each in sockets if each.protocol == protocol]
    for address in (wanted.local, bytes(len(wanted.local))):
        scores = [(_udp_score(each, address, wanted), each) for each in candidates]
        top = max((score for score, _each in scores), default=-1)
        if top >= 0:
            found = [each for score, each in scores if score == top]
            return _of_group(found[0], found, wanted)
    return None


def find_raw(sockets: Iterable[FakeSocket], raw_protocol: int, wanted: Tuple) -> FakeSocket | None:
    """raw_sock_get: the first raw socket that a packet would reach; nobody looks at the cookie."""
    for each in sockets:
        if (
            each.protocol == model.RAW
            and each.family == wanted.family
            and each.raw_protocol == raw_protocol
            and (not any(each.dst) or each.dst == wanted.remote)
            and (not any(each.src) or each.src == wanted.local)
            and each.ifindex in (0, wanted.ifindex)
        ):
            return each
    return None


def _as_family(sock: FakeSocket, family: int) -> tuple[bytes, bytes]:
    """The socket's addresses as a look-up of that family sees them."""
    if family == socket.AF_INET and sock.family == socket.AF_INET6:
        if is_mapped(sock.src) and is_mapped(sock.dst):
            return sock.src[12:], sock.dst[12:]
        return b"", b""
    return (sock.src, sock.dst) if sock.family == family else (b"", b"")


def _bound(sock: FakeSocket, family: int) -> bytes | None:
    """The local address as a look-up of that family sees it; None: out of its sight."""
    if sock.family == family:
        return sock.src
    if family == socket.AF_INET and not sock.v6only:
        if is_mapped(sock.src):
            return sock.src[12:]
        if not any(sock.src):
            return bytes(4)
    return None


def _listens(sock: FakeSocket, address: bytes, wanted: Tuple) -> bool:
    return _bound(sock, wanted.family) == address and sock.ifindex in (0, wanted.ifindex)


def _udp_score(sock: FakeSocket, address: bytes, wanted: Tuple) -> int:
    """compute_score of net/ipv4/udp.c."""
    if sock.local_port != wanted.local_port or _bound(sock, wanted.family) != address:
        return -1
    score = 2 if sock.family == socket.AF_INET else 1
    if any(sock.dst):
        if _as_family(sock, wanted.family)[1] != wanted.remote:
            return -1
        score += 4
    if sock.remote_port:
        if sock.remote_port != wanted.remote_port:
            return -1
        score += 4
    if sock.ifindex:
        if sock.ifindex != wanted.ifindex:
            return -1
        score += 4
    return score


def _of_group(first: FakeSocket, found: list[FakeSocket], wanted: Tuple) -> FakeSocket:
    """reuseport_select_sock: a hash over the tuple picks one of the group."""
    if not first.reuseport or any(first.dst):
        return first
    group = [each for each in found if each.reuseport == first.reuseport]
    return group[zlib.crc32(repr(wanted).encode()) % len(group)]
