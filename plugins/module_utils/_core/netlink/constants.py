# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Names and numbers of protocols, families, states and timers."""

from __future__ import annotations

import socket
from collections.abc import Collection

# include/uapi/linux/in.h; socket diag reports a raw socket's inner protocol as its local port.
PROTOCOLS = {"tcp": 6, "udp": 17, "udplite": 136, "raw": 255, "mptcp": 262}
# The module with a protocol's diag handler (net/ipv4/Kconfig, net/mptcp/Kconfig).
DIAG_MODULES = {
    "tcp": "tcp_diag",
    "udp": "udp_diag",
    "udplite": "udp_diag",
    "raw": "raw_diag",
    "mptcp": "mptcp_diag",
}
# ::ffff:0:0/96: IPv4 addresses in an IPv6 socket (RFC 4291, section 2.5.5.2).
V4_MAPPED_PREFIX = b"\0" * 10 + b"\xff\xff"
FAMILIES = {"inet": int(socket.AF_INET), "inet6": int(socket.AF_INET6)}

# Protocols with TCP's states and timestamps (struct tcp_info for tcp only).
STREAMS = frozenset({"tcp", "mptcp"})

ESTABLISHED = 1
SYN_SENT = 2
SYN_RECV = 3
FIN_WAIT_1 = 4
FIN_WAIT_2 = 5
TIME_WAIT = 6
CLOSED = 7
CLOSE_WAIT = 8
LAST_ACK = 9
LISTENING = 10
CLOSING = 11
# include/net/tcp_states.h. The kernel reports NEW_SYN_RECV as SYN_RECV, and BOUND_INACTIVE (bound,
# neither listening nor connected; a dump bit of its own since Linux 6.8) as CLOSE.
NEW_SYN_RECV = 12
BOUND_INACTIVE = 13

STATES = {
    "established": ESTABLISHED,
    "syn-sent": SYN_SENT,
    "syn-recv": SYN_RECV,
    "fin-wait-1": FIN_WAIT_1,
    "fin-wait-2": FIN_WAIT_2,
    "time-wait": TIME_WAIT,
    "closed": CLOSED,
    "close-wait": CLOSE_WAIT,
    "last-ack": LAST_ACK,
    "listening": LISTENING,
    "closing": CLOSING,
    "bound-inactive": BOUND_INACTIVE,
}

STATE_NAMES = {number: name for name, number in STATES.items()}

# As `ss -a`: bound-inactive sockets are included only by name.
ALL_STATES = frozenset(STATES.values()) - {BOUND_INACTIVE}

# The state groups of ss(8).
GROUPS = {
    "all": ALL_STATES,
    "connected": ALL_STATES - {LISTENING, CLOSED},
    "synchronized": ALL_STATES - {LISTENING, CLOSED, SYN_SENT},
    "bucket": frozenset({SYN_RECV, TIME_WAIT}),
    "big": ALL_STATES - {SYN_RECV, TIME_WAIT},
}

# As plain `ss`.
DEFAULT_STATES = ALL_STATES - {LISTENING, CLOSED, TIME_WAIT, SYN_RECV}

# idiag_timer, net/ipv4/inet_diag.c inet_sk_diag_fill
TIMERS = (None, "on", "keepalive", "timewait", "persist")


def state_mask(states: Collection[int]) -> int:
    """The idiag_states bits for these states."""
    mask = 0
    for state in states:
        mask |= 1 << state
    if mask & 1 << SYN_RECV:
        mask |= 1 << NEW_SYN_RECV
    return mask
