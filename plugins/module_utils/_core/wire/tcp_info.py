# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: struct tcp_info (include/uapi/linux/tcp.h), as long as it comes."""

from __future__ import annotations

import struct
import sys

_BYTES = ("state", "ca_state", "retransmits", "probes", "backoff", "options")
# u32 each, from offset 8.
_WORDS = (
    "rto",
    "ato",
    "snd_mss",
    "rcv_mss",
    "unacked",
    "sacked",
    "lost",
    "retrans",
    "fackets",
    "last_data_sent",
    "last_ack_sent",
    "last_data_recv",
    "last_ack_recv",
    "pmtu",
    "rcv_ssthresh",
    "rtt",
    "rttvar",
    "snd_ssthresh",
    "snd_cwnd",
    "advmss",
    "reordering",
    "rcv_rtt",
    "rcv_space",
    "total_retrans",
)
# (name, format) from offset 104, in the order in which kernels added them.
_TAIL = (
    ("pacing_rate", "Q"),
    ("max_pacing_rate", "Q"),
    ("bytes_acked", "Q"),
    ("bytes_received", "Q"),
    ("segs_out", "I"),
    ("segs_in", "I"),
    ("notsent_bytes", "I"),
    ("min_rtt", "I"),
    ("data_segs_in", "I"),
    ("data_segs_out", "I"),
    ("delivery_rate", "Q"),
    ("busy_time", "Q"),
    ("rwnd_limited", "Q"),
    ("sndbuf_limited", "Q"),
    ("delivered", "I"),
    ("delivered_ce", "I"),
    ("bytes_sent", "Q"),
    ("bytes_retrans", "Q"),
    ("dsack_dups", "I"),
    ("reord_seen", "I"),
    ("rcv_ooopack", "I"),
    ("snd_wnd", "I"),
    ("rcv_wnd", "I"),
    ("rehash", "I"),
    ("total_rto", "H"),
    ("total_rto_recoveries", "H"),
    ("total_rto_time", "I"),
    ("received_ce", "I"),
    ("delivered_e1_bytes", "I"),
    ("delivered_e0_bytes", "I"),
    ("delivered_ce_bytes", "I"),
    ("received_e1_bytes", "I"),
    ("received_e0_bytes", "I"),
    ("received_ce_bytes", "I"),
    ("accecn_fail_mode", "H"),
    ("accecn_opt_seen", "H"),
)

_BITS_AT = 6  # two bytes of bit fields
_WIDTH = {"Q": 8, "I": 4, "H": 2}


def _layout(length: int) -> tuple[struct.Struct, tuple[str, ...]]:
    """What a struct tcp_info of so many bytes holds, fields that are cut off left out."""
    formats = ""
    names: list[str] = []
    offset = 0
    for name, code in (
        *((name, "B") for name in (*_BYTES, "window_scales", "flags")),
        *((name, "I") for name in _WORDS),
        *_TAIL,
    ):
        offset += _WIDTH.get(code, 1)
        if offset > length:
            break
        formats += code
        names.append(name)
    return struct.Struct("=" + formats), tuple(names)


_LAYOUTS: dict[int, tuple[struct.Struct, tuple[str, ...]]] = {}
_LITTLE = sys.byteorder == "little"


def decode(raw: bytes) -> dict[str, int]:
    """The fields by the kernel's names without tcpi_, as many as this kernel sent.

    Times in rto, ato, rtt, rttvar, rcv_rtt, min_rtt, busy_time, rwnd_limited and sndbuf_limited
    are microseconds; last_* and total_rto_time are milliseconds; rates are bytes a second; unacked,
    sacked, lost and retrans count segments.
    """
    length = len(raw)
    layout = _LAYOUTS.get(length)
    if layout is None:
        layout = _LAYOUTS[length] = _layout(length)
    unpacker, names = layout
    fields = dict(zip(names, unpacker.unpack_from(raw)))
    if length > _BITS_AT + 1:
        scales = fields.pop("window_scales")
        flags = fields.pop("flags")
        # C lays bit fields out from the low end on little-endian machines, else from the high end.
        if _LITTLE:
            fields["snd_wscale"] = scales & 0xF
            fields["rcv_wscale"] = scales >> 4
            fields["delivery_rate_app_limited"] = flags & 1
            fields["fastopen_client_fail"] = flags >> 1 & 3
        else:
            fields["snd_wscale"] = scales >> 4
            fields["rcv_wscale"] = scales & 0xF
            fields["delivery_rate_app_limited"] = flags >> 7
            fields["fastopen_client_fail"] = flags >> 5 & 3
    else:
        fields.pop("window_scales", None)
    return fields
