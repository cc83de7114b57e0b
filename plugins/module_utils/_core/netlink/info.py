# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: struct tcp_info (include/uapi/linux/tcp.h), as long as it comes."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

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

_WIDTH = {"Q": 8, "I": 4, "H": 2, "B": 1, "xx": 2}
_LITTLE = sys.byteorder == "little"
_BITS_AT = 6  # two bytes of bit fields follow the first six
_BIT_FIELDS = ("snd_wscale", "rcv_wscale", "delivery_rate_app_limited", "fastopen_client_fail")


def _scales(byte: int) -> tuple[int, int]:
    # C lays bit fields out from the low end on little-endian machines, else from the high end.
    return (byte & 0xF, byte >> 4) if _LITTLE else (byte >> 4, byte & 0xF)


def _flags(byte: int) -> tuple[int, int]:
    return (byte & 1, byte >> 1 & 3) if _LITTLE else (byte >> 7, byte >> 5 & 3)


_SCALES = tuple(map(_scales, range(256)))
_FLAGS = tuple(map(_flags, range(256)))


class _Layout(NamedTuple):
    unpack: Callable[[bytes], tuple[int, ...]]
    names: tuple[str, ...]
    # A dict with these names: a copy of it need not grow again and again while it is filled.
    empty: dict[str, int]


def _layout(length: int) -> _Layout:
    """What a struct tcp_info of so many bytes holds; a field that is cut off is left out."""
    form = "="
    names: list[str] = []
    offset = 0
    for name, code in (
        *((name, "B") for name in _BYTES),
        ("", "xx"),
        *((name, "I") for name in _WORDS),
        *_TAIL,
    ):
        offset += _WIDTH[code]
        if offset > length:
            break
        form += code
        if name:
            names.append(name)
    if length >= _BITS_AT + 2:
        names += _BIT_FIELDS
    return _Layout(struct.Struct(form).unpack_from, tuple(names), dict.fromkeys(names, 0))


_layouts: dict[int, _Layout] = {}


def decode(raw: bytes) -> dict[str, int]:
    """The fields by the kernel's names without tcpi_, as many as this kernel sent.

    Times in rto, ato, rtt, rttvar, rcv_rtt, min_rtt, busy_time, rwnd_limited and sndbuf_limited
    are microseconds; last_* and total_rto_time are milliseconds; rates are bytes a second; unacked,
    sacked, lost and retrans count segments.
    """
    layout = _layouts.get(len(raw))
    if layout is None:
        layout = _layouts[len(raw)] = _layout(len(raw))
    values = layout.unpack(raw)
    if len(raw) >= _BITS_AT + 2:
        values += _SCALES[raw[_BITS_AT]] + _FLAGS[raw[_BITS_AT + 1]]
    fields = layout.empty.copy()
    fields.update(zip(layout.names, values))
    return fields
