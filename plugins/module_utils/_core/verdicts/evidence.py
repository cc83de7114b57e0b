# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: numbers of the kernel's, named with their unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..sockets.socket import Socket

# struct tcp_info's field, and what its number is divided by.
_FROM_INFO: Mapping[str, tuple[str, int]] = {
    "retransmits": ("retransmits", 1),
    "probes": ("probes", 1),
    "backoff": ("backoff", 1),
    "rto_ms": ("rto", 1000),
    "unacknowledged_segments": ("unacked", 1),
    "unsent_bytes": ("notsent_bytes", 1),
    "peer_window_bytes": ("snd_wnd", 1),
    "last_received_ms": ("last_data_recv", 1),
    "last_ack_ms": ("last_ack_recv", 1),
    "last_sent_ms": ("last_data_sent", 1),
    "window_limited_ms": ("rwnd_limited", 1000),
    "timeouts_ms": ("total_rto_time", 1),
}
_FROM_SOCK: Mapping[str, str] = {
    "send_queue_bytes": "wqueue",
    "recv_queue_bytes": "rqueue",
    "next_try_ms": "expires",
}


def numbers(sock: Socket, names: Iterable[str]) -> dict[str, int]:
    """Those of these that this kernel told."""
    info = sock.tcp_info or {}
    told: dict[str, int] = {}
    for name in names:
        if name in _FROM_SOCK:
            told[name] = getattr(sock.message, _FROM_SOCK[name])
        else:
            field, divisor = _FROM_INFO[name]
            if field in info:
                told[name] = info[field] // divisor
    return told
