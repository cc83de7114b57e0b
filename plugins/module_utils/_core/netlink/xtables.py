# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Tables of iptables-legacy (include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/)."""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress

# By address size: the family, the level of its options, and the file with its tables in use.
_TABLES = {
    4: (socket.AF_INET, socket.IPPROTO_IP, "ip_tables_names"),
    16: (socket.AF_INET6, socket.IPPROTO_IPV6, "ip6_tables_names"),
}
_GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
# struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
_INFO = struct.Struct("=32sI5I5III")
_LOCAL_OUT = 3  # NF_INET_LOCAL_OUT
_MANGLE = b"mangle"


def sizes_with_mangle_output(proc: str) -> frozenset[int]:
    """Address sizes (4, 16) for which the chain OUTPUT of the table mangle has rules.

    The kernel routes a packet again if a rule there changed its mark (ipt_mangle_out). Call it
    inside the namespace. Empty without iptables-legacy, and without CAP_NET_ADMIN. proc: the mount
    point of procfs.
    """
    found = set()
    for size, (family, level, names) in _TABLES.items():
        with suppress(OSError, AttributeError):
            # The query alone would load the table's module.
            with open(f"{proc}/thread-self/net/{names}", "rb") as file:
                in_use = _MANGLE in file.read().split()
            if in_use and _has_output_rules(family, level):
                found.add(size)
    return frozenset(found)


def _has_output_rules(family: int, level: int) -> bool:
    """Whether the chain OUTPUT has more than its policy. Raises OSError."""
    info = ctypes.create_string_buffer(_MANGLE, _INFO.size)
    length = ctypes.c_uint32(_INFO.size)
    library = ctypes.CDLL(None, use_errno=True)
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        # socket.getsockopt() passes no input.
        failed = library.getsockopt(asking.fileno(), level, _GET_INFO, info, ctypes.byref(length))
    if failed:
        raise OSError(ctypes.get_errno(), "getsockopt")
    fields = _INFO.unpack(info.raw)
    hook_entry, underflow = fields[2:7], fields[7:12]
    # The policy is the rule at the underflow.
    return bool(hook_entry[_LOCAL_OUT] != underflow[_LOCAL_OUT])
