# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The record of a socket: a dict that always has the same keys, None for unknown."""

from __future__ import annotations

import struct
import sys
from collections.abc import Collection, Mapping
from typing import Any

from ..netlink import inet_diag
from ..sockets.needs import Need
from ..sockets.slots import Slot
from ..sockets.socket import Socket
from ..verdicts import stuck
from ..verdicts.route_state import ROUTES
from ..verdicts.superseded import DEFAULT_SILENT_MS, PEERS, SUPERSEDED, Finding
from ..verdicts.verdict import Verdict, requested_for_ms, shows_verdicts

_LITTLE = sys.byteorder == "little"

DETAILS = ("info", "memory", "process", "verdicts")

# struct tcpvegas_info, tcp_dctcp_info and tcp_bbr_info, include/uapi/linux/inet_diag.h
_CONGESTION_LAYOUTS: Mapping[int, tuple[str, struct.Struct, tuple[str, ...]]] = {
    inet_diag.VEGASINFO: (
        "vegas",
        struct.Struct("=IIII"),
        ("enabled", "rttcnt", "rtt", "minrtt"),
    ),
    inet_diag.DCTCPINFO: (
        "dctcp",
        struct.Struct("=HHIII"),
        ("enabled", "ce_state", "alpha", "ab_ecn", "ab_tot"),
    ),
    inet_diag.BBRINFO: (
        "bbr",
        struct.Struct("=IIIII"),
        ("bw_lo", "bw_hi", "min_rtt", "pacing_gain", "cwnd_gain"),
    ),
}
# SK_MEMINFO_*, include/uapi/linux/sock_diag.h
_MEMORY = (
    "rmem_alloc",
    "rcvbuf",
    "wmem_alloc",
    "sndbuf",
    "fwd_alloc",
    "wmem_queued",
    "optmem",
    "backlog",
    "drops",
)
# struct inet_diag_sockopt: bit fields in two bytes, lowest bit first on little-endian machines.
_OPTIONS = (
    "recverr",
    "is_icsk",
    "freebind",
    "hdrincl",
    "mc_loop",
    "transparent",
    "mc_all",
    "nodefrag",
    "bind_address_no_port",
    "recverr_rfc4884",
    "defer_connect",
)


RECORD_KEYS = (
    "protocol",
    "family",
    "mapped",
    "state",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "device",
    "uid",
    "user",
    "inode",
    "cookie",
    "mark",
    "cgroup",
    "timer",
    "timer_ms",
    "retransmits",
    "send_queue",
    "recv_queue",
    "idle_ms",
    "namespace",
    "processes",
    "stuck",
    "stranded",
    "superseded",
    "congestion",
    "congestion_info",
    "tos",
    "tclass",
    "class_id",
    "shutdown",
    "ulp",
    "v6only",
    "options",
    "memory",
    "tcp_info",
    "mptcp_info",
    "ulp_info",
)


def extensions(details: Collection[str], *, clocks: bool = True) -> int:
    """The idiag_ext bits that records with these details need. clocks: include idle_ms."""
    numbers = [inet_diag.CONG, inet_diag.TOS, inet_diag.TCLASS, inet_diag.SHUTDOWN]
    if clocks or "info" in details or "verdicts" in details:
        numbers += [inet_diag.INFO]
    if "info" in details:
        numbers += [inet_diag.VEGASINFO]
    if "memory" in details:
        numbers += [inet_diag.SKMEMINFO]
    return inet_diag.extension_bits(numbers)


def record(sock: Socket, details: Collection[str] = ()) -> dict[str, Any]:
    """Make the record of a socket, with all RECORD_KEYS.

    details: the groups of keys to fill, of DETAILS; the keys of others are None. The verdicts
    are also filled if shows_verdicts(snapshot). Units are milliseconds and bytes, but tcp_info has
    the kernel's numbers.
    """
    message = sock.message
    entry = _settings(sock).copy()
    entry["protocol"] = message.protocol
    entry["family"], entry["mapped"], entry["local"], entry["remote"] = sock.ends
    entry["state"] = sock.state
    entry["local_port"] = message.sport
    entry["remote_port"] = message.dport
    entry["inode"] = message.inode
    entry["cookie"] = sock.cookie_hex
    entry["retransmits"] = message.retrans
    entry["send_queue"] = message.wqueue
    entry["recv_queue"] = message.rqueue
    entry["idle_ms"] = sock.idle_ms
    entry["uid"] = sock.uid
    entry["user"] = sock.user
    if message.ifindex:
        entry["device"] = sock.device
    if message.timer:
        entry["timer"] = sock.timer
        entry["timer_ms"] = sock.timer_ms
    if "info" in details:
        entry["tcp_info"] = sock.tcp_info
        entry["mptcp_info"] = sock.mptcp_info
        entry["ulp_info"] = sock.ulp_info
        entry["congestion_info"] = _congestion_info(sock.attributes)
    if "memory" in details:
        entry["memory"] = _memory(sock.attributes)
    if "process" in details:
        entry["processes"] = _processes(sock)
    if "verdicts" in details or shows_verdicts(sock.snapshot):
        entry["stuck"] = _as_dicts(stuck.verdicts(sock))
        entry["stranded"] = _as_dicts(stranded(sock))
        entry["superseded"] = superseded(sock)
    return entry


# What query.find.load must load for the details `verdicts`.
VERDICT_NEEDS = frozenset({Need.ROUTES, Need.PEERS})


def stranded(sock: Socket) -> list[Verdict] | None:
    """The stranded verdicts; None: unknown, or routes were not loaded."""
    routes = sock.snapshot.get(ROUTES)
    return None if routes is None else routes.verdicts(sock)


def superseded(sock: Socket) -> Finding:
    """The evidence that another connection replaced this one, or False.

    None: unknown, or peers were not loaded. If no selector requested the verdict, it is False for
    sockets whose local port is not a service port.
    """
    snapshot = sock.snapshot
    peers = snapshot.get(PEERS)
    if peers is None:
        return None
    requested = requested_for_ms(snapshot).get(SUPERSEDED)
    found = peers.evidence(sock, DEFAULT_SILENT_MS if requested is None else requested)
    if not found or requested is not None or peers.is_service_port(snapshot, sock.local_port):
        return found
    return False


def _as_dicts(verdicts: list[Verdict] | None) -> list[dict[str, Any]] | None:
    return None if verdicts is None else [verdict._asdict() for verdict in verdicts]


# Attributes that are configuration, not state: most sockets of a snapshot have the same.
_SETTINGS = (
    inet_diag.MARK,
    inet_diag.CGROUP_ID,
    inet_diag.CONG,
    inet_diag.TOS,
    inet_diag.TCLASS,
    inet_diag.CLASS_ID,
    inet_diag.SHUTDOWN,
    inet_diag.ULP_INFO,
    inet_diag.SKV6ONLY,
    inet_diag.SOCKOPT,
)

# By the raw attributes in _SETTINGS.
_SETTINGS_CACHE: Slot[dict[tuple[bytes | None, ...], dict[str, Any]]] = Slot("settings")


def _settings(sock: Socket) -> dict[str, Any]:
    """A cached record with only the settings filled; copy it to make a record."""
    attributes = sock.attributes
    cache = sock.snapshot.get_or_create(_SETTINGS_CACHE, dict)
    raw = tuple(map(attributes.get, _SETTINGS))
    found = cache.get(raw)
    if found is None:
        found = cache[raw] = dict.fromkeys(RECORD_KEYS)
        found["namespace"] = sock.snapshot.namespace.name
        found["mark"] = sock.mark
        found["cgroup"] = sock.cgroup
        found["congestion"] = sock.congestion
        found["tos"] = _BYTES.get(attributes.get(inet_diag.TOS))
        found["tclass"] = _BYTES.get(attributes.get(inet_diag.TCLASS))
        found["class_id"] = sock.class_id
        found["shutdown"] = _SHUTDOWN.get(attributes.get(inet_diag.SHUTDOWN))
        found["ulp"] = sock.ulp
        found["v6only"] = _FLAG.get(attributes.get(inet_diag.SKV6ONLY))
        found["options"] = _options(attributes.get(inet_diag.SOCKOPT))
    return found


def sort_key(sock: Socket) -> tuple[Any, ...]:
    """Sort key of records: namespace, protocol, local, remote."""
    message = sock.message
    return (
        sock.snapshot.namespace.name,
        message.protocol,
        sock.local,
        message.sport,
        sock.remote,
        message.dport,
        sock.cookie_hex,
    )


_BYTES: Mapping[bytes | None, int | None] = {bytes((value,)): value for value in range(256)}
_FLAG: dict[bytes | None, bool | None] = {b"\0": False, b"\1": True}
# sk_shutdown: RCV_SHUTDOWN 1, SEND_SHUTDOWN 2 (include/net/sock.h)
_SHUTDOWN: dict[bytes | None, str | None] = {
    b"\0": "none",
    b"\1": "receive",
    b"\2": "send",
    b"\3": "both",
}


def _processes(sock: Socket) -> list[dict[str, Any]] | None:
    held = sock.processes
    return None if held is None else [process._asdict() for process in held]


def _congestion_info(attributes: Mapping[int, bytes]) -> dict[str, Any] | None:
    for number in _CONGESTION_LAYOUTS:
        if number in attributes:
            name, layout, fields = _CONGESTION_LAYOUTS[number]
            raw = attributes[number]
            if len(raw) >= layout.size:
                return {"algorithm": name, **dict(zip(fields, layout.unpack_from(raw)))}
    return None


def _memory(attributes: Mapping[int, bytes]) -> dict[str, int] | None:
    raw = attributes.get(inet_diag.SKMEMINFO)
    if raw is None:
        return None
    count = len(raw) // 4
    return dict(zip(_MEMORY, struct.unpack_from(f"={count}I", raw)))


def _options(raw: bytes | None) -> list[str] | None:
    """The names of the options that are on."""
    if raw is None:
        return None
    found: list[str] = []
    for index, name in enumerate(_OPTIONS):
        at, bit = divmod(index, 8)
        if at < len(raw) and raw[at] >> (bit if _LITTLE else 7 - bit) & 1:
            found.append(name)
    return found
