# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Decoders of protocol details: struct tcp_info, struct mptcp_info and the upper layer protocol.

- struct tcp_info: include/uapi/linux/tcp.h
- struct mptcp_info: include/uapi/linux/mptcp.h
- INET_ULP_INFO_* (include/uapi/linux/inet_diag.h), with TLS_INFO_* (include/uapi/linux/tls.h) or
  MPTCP_SUBFLOW_ATTR_* (include/uapi/linux/mptcp.h) nested in it

Kernels append fields, so each struct is decoded as far as the kernel sent it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

from . import attributes

# struct tcp_info, u8 each.
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
_BITS_AT = 6  # Two bytes of bit fields follow the first six.
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
    # A copy of this dict has its final size, so filling it never resizes it.
    empty: dict[str, int]


def _layout(length: int) -> _Layout:
    """The layout of a struct tcp_info of this length in bytes, without a truncated field."""
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


def decode_tcp_info(raw: bytes) -> dict[str, int]:
    """Decode struct tcp_info: the kernel's names without tcpi_, as many as this kernel sent.

    Units: rto, ato, rtt, rttvar, rcv_rtt, min_rtt, busy_time, rwnd_limited and sndbuf_limited are
    microseconds; last_* and total_rto_time are milliseconds; rates are bytes a second; unacked,
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


# struct mptcp_info: (name, format). The format includes the padding that follows the field.
_MPTCP_FIELDS = (
    ("subflows", "B"),
    ("add_addr_signal", "B"),
    ("add_addr_accepted", "B"),
    ("subflows_max", "B"),
    ("add_addr_signal_max", "B"),
    ("add_addr_accepted_max", "B2x"),
    ("flags", "I"),
    ("token", "I"),
    ("write_seq", "Q"),
    ("snd_una", "Q"),
    ("rcv_nxt", "Q"),
    ("local_addr_used", "B"),
    ("local_addr_max", "B"),
    ("csum_enabled", "Bx"),
    ("retransmits", "I"),
    ("bytes_retrans", "Q"),
    ("bytes_sent", "Q"),
    ("bytes_received", "Q"),
    ("bytes_acked", "Q"),
    ("subflows_total", "B3x"),
    ("last_data_sent", "I"),
    ("last_data_recv", "I"),
    ("last_ack_recv", "I"),
)


def decode_mptcp_info(raw: bytes) -> dict[str, int]:
    """Decode struct mptcp_info: the kernel's names without mptcpi_, as many as this kernel sent.

    token identifies the connection on this host; last_* are milliseconds. A listener's are all
    zero.
    """
    form = "="
    names: list[str] = []
    for name, code in _MPTCP_FIELDS:
        if struct.calcsize(form + code) > len(raw):
            break
        form += code
        names.append(name)
    return dict(zip(names, struct.unpack_from(form, raw)))


# INET_ULP_INFO_*
_ULP_NAME = 1
_ULP_TLS = 2
_ULP_MPTCP = 3

# TLS_INFO_*
_TLS_FIELDS = {1: "version", 2: "cipher", 3: "txconf", 4: "rxconf"}
# MPTCP_SUBFLOW_ATTR_*
_SUBFLOW_FIELDS = {
    1: "token_rem",
    2: "token_loc",
    3: "relwrite_seq",
    4: "map_seq",
    5: "map_sfseq",
    6: "ssn_offset",
    7: "map_datalen",
    8: "flags",
    9: "id_rem",
    10: "id_loc",
}
_ULP_FIELDS = {_ULP_TLS: _TLS_FIELDS, _ULP_MPTCP: _SUBFLOW_FIELDS}


def ulp_name(raw: bytes) -> str | None:
    """The name of the upper layer protocol: tls, mptcp, ... Raises MalformedMessage."""
    text = attributes.parse(raw).get(_ULP_NAME, b"").rstrip(b"\0")
    return text.decode("ascii", "replace") or None


def decode_ulp_info(raw: bytes) -> dict[str, int]:
    """Decode the numbers that TLS or MPTCP attach, by the kernel's names.

    Raises MalformedMessage.
    """
    values: dict[str, int] = {}
    for protocol, nested in attributes.parse(raw).items():
        fields = _ULP_FIELDS.get(protocol)
        if fields is None:
            continue
        for kind, value in attributes.parse(nested).items():
            if kind in fields:
                values[fields[kind]] = int.from_bytes(value, sys.byteorder)
    return values
