# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoder of a socket: struct inet_diag_msg and its attributes.

It follows inet_sk_diag_fill, inet_diag_msg_attrs_fill, inet_twsk_diag_fill and inet_req_diag_fill
(net/ipv4/inet_diag.c).
"""

from __future__ import annotations

import socket
import struct

from . import model
from .model import Abilities, FakeSocket

(
    MEMINFO,
    INFO,
    VEGASINFO,
    CONG,
    TOS,
    TCLASS,
    SKMEMINFO,
    SHUTDOWN,
    DCTCPINFO,
    PROTOCOL,
    SKV6ONLY,
    LOCALS,
    PEERS,
    PAD,
    MARK,
    BBRINFO,
    CLASS_ID,
    MD5SIG,
    ULP_INFO,
    SK_BPF_STORAGES,
    CGROUP_ID,
    SOCKOPT,
) = range(1, 23)

_SOCKID = struct.Struct("!HH16s16s")
_SOCKID_TAIL = struct.Struct("=III")
_HEAD = struct.Struct("=BBBB")
_TAIL = struct.Struct("=IIIII")

# struct tcp_info of include/uapi/linux/tcp.h, by width; the two window scales share a byte.
_INFO_WIDTHS = (
    ("B", "state ca_state retransmits probes backoff options wscale delivery_rate_app_limited"),
    (
        "I",
        """rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent
        last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss
        reordering rcv_rtt rcv_space total_retrans""",
    ),
    ("Q", "pacing_rate max_pacing_rate bytes_acked bytes_received"),
    ("I", "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
    ("Q", "delivery_rate busy_time rwnd_limited sndbuf_limited"),
    ("I", "delivered delivered_ce"),
    ("Q", "bytes_sent bytes_retrans"),
    ("I", "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash"),
    ("H", "total_rto total_rto_recoveries"),
    ("I", "total_rto_time"),
)
INFO_FIELDS = [(name, code) for code, names in _INFO_WIDTHS for name in names.split()]
_INFO = struct.Struct("=" + "".join(code for _name, code in INFO_FIELDS))


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one struct nlattr, padded."""
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def encode_info(fields: dict[str, int], size: int) -> bytes:
    """Encode struct tcp_info, cut or zero-filled to this size in bytes."""
    values = {**fields}
    values["wscale"] = values.pop("snd_wscale", 0) | values.pop("rcv_wscale", 0) << 4
    packed = _INFO.pack(*(values.pop(name, 0) for name, _code in INFO_FIELDS))
    if values:
        raise ValueError(f"no such field in struct tcp_info: {sorted(values)}")
    return packed[:size] + bytes(max(0, size - len(packed)))


def encode(sock: FakeSocket, abilities: Abilities, extensions: int) -> bytes:
    """Encode the payload of the message for a socket."""
    # BOUND_INACTIVE has a dump bit of its own, but is reported as CLOSE.
    reported = {model.NEW_SYN_RECV: model.SYN_RECV, model.BOUND_INACTIVE: model.CLOSE}
    state = reported.get(sock.state, sock.state)
    head = _HEAD.pack(sock.family, state, sock.timer, sock.retrans)
    identity = _SOCKID.pack(
        sock.local_port, sock.remote_port, sock.src.ljust(16, b"\0"), sock.dst.ljust(16, b"\0")
    ) + _SOCKID_TAIL.pack(sock.ifindex, sock.cookie & 0xFFFFFFFF, sock.cookie >> 32)
    if sock.has_process:
        tail = _TAIL.pack(sock.expires, sock.rqueue, sock.wqueue, sock.uid, sock.inode or 0)
        attributes = _attributes(sock, abilities, extensions)
    else:
        tail = _TAIL.pack(sock.expires, 0, 0, 0, 0)
        attributes = {}
        if abilities.privileged and sock.mark is not None:
            attributes[MARK] = struct.pack("=I", sock.mark)
    attributes.update(sock.attributes)
    return head + identity + tail + b"".join(attribute(*pair) for pair in attributes.items())


def _attributes(sock: FakeSocket, abilities: Abilities, extensions: int) -> dict[int, bytes]:
    def requested(kind: int) -> bool:
        return bool(extensions & 1 << (kind - 1))

    found = {SHUTDOWN: bytes([sock.shutdown])}
    if requested(TOS):
        found[TOS] = bytes([sock.tos])
    if sock.family == socket.AF_INET6:
        if requested(TCLASS):
            found[TCLASS] = bytes([sock.tclass])
        if sock.state in (model.LISTEN, model.CLOSE):
            found[SKV6ONLY] = bytes([sock.v6only])
    if abilities.privileged and sock.mark is not None:
        found[MARK] = struct.pack("=I", sock.mark)
    if requested(TCLASS):
        found[CLASS_ID] = struct.pack("=I", sock.class_id)
    if abilities.reports_cgroup and sock.cgroup_id is not None:
        found[CGROUP_ID] = struct.pack("=Q", sock.cgroup_id)
    if abilities.reports_sockopt:
        is_connection = 2 if sock.protocol in (model.TCP, model.MPTCP) else 0
        found[SOCKOPT] = bytes([0x50 | is_connection, 0])
    rmem, wmem, queued = sock.memory[0], sock.memory[2], sock.memory[5]
    if requested(MEMINFO):
        found[MEMINFO] = struct.pack("=4I", rmem, queued, sock.memory[4], wmem)
    if requested(SKMEMINFO):
        found[SKMEMINFO] = struct.pack("=9I", *sock.memory)
    if sock.protocol == model.RAW:
        found[PROTOCOL] = bytes([sock.raw_protocol])
    if sock.protocol == model.TCP:
        if requested(INFO):
            fields = {"state": sock.state, **sock.tcp_info}
            found[INFO] = encode_info(fields, abilities.info_size)
        if requested(CONG) and sock.congestion is not None:
            found[CONG] = sock.congestion.encode() + b"\0"
        if requested(INFO) and sock.ulp is not None:
            found[ULP_INFO] = attribute(1, sock.ulp.encode() + b"\0")
    return found
