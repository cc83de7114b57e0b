# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Chains of the packet filter (include/uapi/linux/netfilter/nf_tables.h)."""

from __future__ import annotations

import errno
import struct

from ..errors import MalformedMessage, NetlinkError
from . import attributes
from .connection import Connection

# NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN
_GET_CHAIN = 10 << 8 | 4
_NFGENMSG = struct.Struct("=BBH")
_CHAIN_HOOK, _CHAIN_USE, _CHAIN_TYPE = 4, 6, 7
_HOOK_NUMBER = 1
_LOCAL_OUT = 3  # NF_INET_LOCAL_OUT
_BE32 = struct.Struct("!I")
# The sizes of the addresses whose packets a chain of the family sees: NFPROTO_INET, IPV4, IPV6.
_ADDRESS_SIZES = {1: (4, 16), 2: (4,), 10: (16,)}
_WITHOUT_NFTABLES = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT)


def _route_chain(datagram: bytes, offset: int, end: int) -> tuple[int, ...]:
    if end - offset < _NFGENMSG.size:
        raise MalformedMessage("a chain message", f"{end - offset} bytes of {_NFGENMSG.size}")
    family, _version, _resource = _NFGENMSG.unpack_from(datagram, offset)
    found = attributes.parse(datagram[offset + _NFGENMSG.size : end])
    hook = attributes.parse(found.get(_CHAIN_HOOK, b"")).get(_HOOK_NUMBER, b"")
    if (
        found.get(_CHAIN_TYPE, b"").rstrip(b"\0") != b"route"
        or hook != _BE32.pack(_LOCAL_OUT)
        # A chain without rules.
        or found.get(_CHAIN_USE) == _BE32.pack(0)
    ):
        return ()
    return _ADDRESS_SIZES.get(family, ())


def sizes_with_route_chains(connection: Connection) -> frozenset[int]:
    """Address sizes (4, 16) of the packets that are routed again after the packet filter saw them.

    A chain of type route on the hook output has this effect if it changes the mark. connection:
    NETLINK_NETFILTER. Empty without nf_tables, and without CAP_NET_ADMIN. Raises what
    Connection.dump raises.
    """
    payload = _NFGENMSG.pack(0, 0, 0)
    try:
        found = connection.dump("list chains", _GET_CHAIN, payload, _route_chain)
    except NetlinkError as error:
        if error.errno in (*_WITHOUT_NFTABLES, errno.EPERM):
            return frozenset()
        raise
    return frozenset(size for sizes in found for size in sizes)
