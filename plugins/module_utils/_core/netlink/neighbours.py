# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Neighbours over rtnetlink (include/uapi/linux/neighbour.h)."""

from __future__ import annotations

import socket
import struct

from ..errors import MalformedMessage
from . import attributes
from .connection import Connection

RTM_GETNEIGH = 30

_NUD_FAILED = 0x20
_NDA_DST = 1
_NEIGHBOUR = struct.Struct("=BxxxiHBB")


def _failed(datagram: bytes, offset: int, end: int) -> tuple[int, bytes] | None:
    if end - offset < _NEIGHBOUR.size:
        raise MalformedMessage("a neighbour message", f"{end - offset} bytes")
    _family, ifindex, state, _flags, _kind = _NEIGHBOUR.unpack_from(datagram, offset)
    if not state & _NUD_FAILED:
        return None
    found = attributes.parse(datagram[offset + _NEIGHBOUR.size : end])
    return ifindex, found.get(_NDA_DST, b"")


def failed_neighbours(connection: Connection) -> frozenset[tuple[int, bytes]]:
    """List the IPv6 neighbours that do not answer (NUD_FAILED): interface index and address.

    Raises what Connection.dump raises.
    """
    payload = _NEIGHBOUR.pack(socket.AF_INET6, 0, 0, 0, 0)
    found = connection.dump("list neighbours", RTM_GETNEIGH, payload, _failed)
    return frozenset(each for each in found if each is not None)
