# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Socket look-ups of the kernel by address and port: TCP, UDP and raw sockets.

All addresses are packed. Local is the socket's own side, as in socket diag. If no connection
matches, a listener may match; a hash selects one of a SO_REUSEPORT group.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from . import model
from .model import FakeSocket, is_mapped


class Tuple(NamedTuple):
    """The key of a look-up, from the side of the socket. Ports are in host order."""

    family: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    ifindex: int

    def unmapped(self) -> Tuple:
        """inet_diag_find_one_icsk: two mapped addresses are looked up as IPv4."""
        if self.family == socket.AF_INET6 and is_mapped(self.local) and is_mapped(self.remote):
            return self._replace(
                family=socket.AF_INET, local=self.local[12:], remote=self.remote[12:]
            )
        return self


def find_tcp(sockets: Iterable[FakeSocket], key: Tuple) -> FakeSocket | None:
    """inet_lookup, inet6_lookup: an exact connection, else a listener."""
    key = key.unmapped()
    candidates = [sock for sock in sockets if sock.protocol in (model.TCP, model.MPTCP)]
    for sock in candidates:
        if sock.state in (model.LISTEN, model.CLOSE, model.BOUND_INACTIVE):
            continue
        local, remote = _as_family(sock, key.family)
        if (local, sock.local_port, remote, sock.remote_port) == (
            key.local,
            key.local_port,
            key.remote,
            key.remote_port,
        ) and sock.ifindex in (0, key.ifindex):
            return sock
    listeners = [
        sock
        for sock in candidates
        if sock.state == model.LISTEN and sock.local_port == key.local_port
    ]
    for address in (key.local, bytes(len(key.local))):
        found = [sock for sock in listeners if _listens(sock, address, key)]
        if found:
            best = max(found, key=lambda sock: (sock.ifindex != 0, sock.family == socket.AF_INET))
            return _of_group(best, found, key)
    return None


def find_udp(sockets: Iterable[FakeSocket], protocol: int, key: Tuple) -> FakeSocket | None:
    """__udp4_lib_lookup, __udp6_lib_lookup: the best score; connected sockets score highest."""
    key = key.unmapped()
    candidates = [sock for sock in sockets if sock.protocol == protocol]
    for address in (key.local, bytes(len(key.local))):
        scores = [(_udp_score(sock, address, key), sock) for sock in candidates]
        top = max((score for score, _each in scores), default=-1)
        if top >= 0:
            found = [sock for score, sock in scores if score == top]
            return _of_group(found[0], found, key)
    return None


def find_raw(sockets: Iterable[FakeSocket], raw_protocol: int, key: Tuple) -> FakeSocket | None:
    """raw_sock_get: the first raw socket that would receive a packet; cookies are ignored."""
    for sock in sockets:
        if (
            sock.protocol == model.RAW
            and sock.family == key.family
            and sock.raw_protocol == raw_protocol
            and (not any(sock.dst) or sock.dst == key.remote)
            and (not any(sock.src) or sock.src == key.local)
            and sock.ifindex in (0, key.ifindex)
        ):
            return sock
    return None


def _as_family(sock: FakeSocket, family: int) -> tuple[bytes, bytes]:
    """The socket's addresses in a look-up of this family; empty: not comparable."""
    if family == socket.AF_INET and sock.family == socket.AF_INET6:
        if is_mapped(sock.src) and is_mapped(sock.dst):
            return sock.src[12:], sock.dst[12:]
        return b"", b""
    return (sock.src, sock.dst) if sock.family == family else (b"", b"")


def _bound(sock: FakeSocket, family: int) -> bytes | None:
    """The local address in a look-up of this family; None: not part of it."""
    if sock.family == family:
        return sock.src
    if family == socket.AF_INET and not sock.v6only:
        if is_mapped(sock.src):
            return sock.src[12:]
        if not any(sock.src):
            return bytes(4)
    return None


def _listens(sock: FakeSocket, address: bytes, key: Tuple) -> bool:
    return _bound(sock, key.family) == address and sock.ifindex in (0, key.ifindex)


def _udp_score(sock: FakeSocket, address: bytes, key: Tuple) -> int:
    """compute_score of net/ipv4/udp.c."""
    if sock.local_port != key.local_port or _bound(sock, key.family) != address:
        return -1
    score = 2 if sock.family == socket.AF_INET else 1
    if any(sock.dst):
        if _as_family(sock, key.family)[1] != key.remote:
            return -1
        score += 4
    if sock.remote_port:
        if sock.remote_port != key.remote_port:
            return -1
        score += 4
    if sock.ifindex:
        if sock.ifindex != key.ifindex:
            return -1
        score += 4
    return score


def _of_group(first: FakeSocket, found: list[FakeSocket], key: Tuple) -> FakeSocket:
    """reuseport_select_sock: a hash of the key selects one of the group."""
    if not first.reuseport or any(first.dst):
        return first
    group = [sock for sock in found if sock.reuseport == first.reuseport]
    return group[zlib.crc32(repr(key).encode()) % len(group)]
