# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample host with interfaces, users, services and cgroups, and sockets on it.

A socket is a plain mapping. decoded() converts it to the Socket that the core sees. Nothing here
uses the tested code, except the layout of a dumped socket.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping
from typing import Any

from linuxnet_sockets.host.processes import Process
from linuxnet_sockets.netlink.inet_diag import DiagMessage
from linuxnet_sockets.netlink.links import Address
from linuxnet_sockets.sockets.slots import SlotStore
from linuxnet_sockets.sockets.socket import Socket

STATES = {
    "established": 1,
    "syn-sent": 2,
    "syn-recv": 3,
    "fin-wait-1": 4,
    "fin-wait-2": 5,
    "time-wait": 6,
    "closed": 7,
    "close-wait": 8,
    "last-ack": 9,
    "listening": 10,
    "closing": 11,
    "bound-inactive": 13,
}
INTERFACES: dict[str, tuple[int, tuple[str, ...]]] = {
    "lo": (1, ("127.0.0.1", "::1")),
    "eth0": (2, ("10.0.0.1", "2001:db8::1", "fe80::1")),
    "wg0": (3, ("10.1.0.1", "fe80::1")),
    "tun0": (4, ()),
}
# IFA_F_*: secondary, temporary and deprecated; the first two are one bit.
ADDRESS_FLAGS = {"10.0.0.1": 0x81, "2001:db8::1": 0x01, "10.1.0.1": 0xA0}
CGROUPS = {1: "/", 11: "/a", 12: "/a/b", 13: "/ab"}
USERS = {"root": 0, "www-data": 33, "alice": 1000}
SERVICES = {
    ("http", "tcp"): 80,
    ("https", "tcp"): 443,
    ("domain", "udp"): 53,
    ("domain", "tcp"): 53,
}
PORT_RANGE = (32768, 60999)

# Attributes of a dumped socket (include/uapi/linux/inet_diag.h).
_INFO, _CONG, _MARK, _CGROUP_ID = 2, 4, 15, 21
# struct tcp_info (include/uapi/linux/tcp.h): offset and format of some of its fields.
_INFO_LENGTH = 248
TCP_INFO = {
    "probes": (3, "B"),
    "backoff": (4, "B"),
    "rto": (8, "I"),
    "unacked": (24, "I"),
    "lost": (32, "I"),
    "last_data_sent": (44, "I"),
    "last_data_recv": (52, "I"),
    "last_ack_recv": (56, "I"),
    "rtt": (68, "I"),
    "rttvar": (72, "I"),
    "snd_cwnd": (80, "I"),
    "total_retrans": (100, "I"),
    "bytes_acked": (120, "Q"),
    "bytes_received": (128, "Q"),
    "notsent_bytes": (144, "I"),
    "min_rtt": (148, "I"),
    "bytes_sent": (200, "Q"),
}


class SampleNames:
    """User and service names of the sample host."""

    def user_id(self, name: str) -> int | None:
        return USERS.get(name)

    def service_port(self, name: str, protocol: str) -> int | None:
        return SERVICES.get((name, protocol))


class SampleSnapshot(SlotStore):
    """A snapshot of the sample host. holders: (pid, command) pairs by inode."""

    local_port_range = PORT_RANGE

    def __init__(self, holders: Mapping[int, list[tuple[int, str]]] | None = None) -> None:
        super().__init__()
        self.holders = holders or {}

    def interface_index(self, name: str) -> int | None:
        return INTERFACES[name][0] if name in INTERFACES else None

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(
            Address(
                socket.AF_INET if len(packed) == 4 else socket.AF_INET6,
                packed,
                8 * len(packed),
                index,
                0,
                ADDRESS_FLAGS.get(str(ipaddress.ip_address(packed)), 0),
            )
            for name, (index, _addresses) in INTERFACES.items()
            for packed in sorted(self.interface_addresses(name) or ())
        )

    @property
    def local_addresses(self) -> frozenset[bytes]:
        return frozenset().union(*(self.interface_addresses(name) or () for name in INTERFACES))

    def interface_addresses(self, name: str) -> frozenset[bytes] | None:
        if name not in INTERFACES:
            return None
        addresses = (ipaddress.ip_address(address) for address in INTERFACES[name][1])
        return frozenset(address.packed for address in addresses) or None

    def cgroup_ids(self, path: str) -> frozenset[int] | None:
        top = "/" + path.strip("/")
        below = top.rstrip("/") + "/"
        found = (
            number
            for number, cgroup in CGROUPS.items()
            if cgroup == top or cgroup.startswith(below)
        )
        return frozenset(found) or None

    def cgroup_path(self, identifier: int) -> str | None:
        return CGROUPS.get(identifier)

    def processes(self, inode: int) -> tuple[Process, ...] | None:
        return tuple(Process(pid, comm, None) for pid, comm in self.holders.get(inode, ())) or None


def inet_diag_address(family: str, address: str) -> bytes:
    """Return the 16 bytes of an address in inet_diag. IPv4 in an inet6 socket is v4-mapped."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 16:
        return packed
    return packed.ljust(16, b"\0") if family == "inet" else bytes(10) + b"\xff\xff" + packed


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _attributes(facts: Mapping[str, Any]) -> bytes:
    raw = b""
    if facts.get("info") is not None:
        info = bytearray(_INFO_LENGTH)
        for name, value in facts["info"].items():
            offset, code = TCP_INFO[name]
            struct.pack_into("=" + code, info, offset, value)
        raw += _attribute(_INFO, bytes(info))
    if facts.get("congestion") is not None:
        raw += _attribute(_CONG, facts["congestion"].encode() + b"\0")
    if facts.get("mark") is not None:
        raw += _attribute(_MARK, struct.pack("=I", facts["mark"]))
    if facts.get("cgroup") is not None:
        raw += _attribute(_CGROUP_ID, struct.pack("=Q", facts["cgroup"]))
    return raw


DEFAULTS: dict[str, Any] = {
    "protocol": "tcp",
    "family": "inet",
    "state": "established",
    "local": "10.0.0.1",
    "local_port": 40000,
    "remote": "192.0.2.7",
    "remote_port": 443,
    "ifindex": 0,
    "uid": 1000,
    "inode": 7,
    "retransmits": 0,
    "send_queue": 0,
    "recv_queue": 0,
    "mark": None,
    "cgroup": None,
    "info": None,
    "congestion": None,
    "processes": None,
    "autobound": True,
}


def facts(**given: Any) -> dict[str, Any]:
    """Return a socket as a plain mapping. Default: an established TCP connection."""
    assert not given.keys() - DEFAULTS.keys(), given.keys() - DEFAULTS.keys()
    return {**DEFAULTS, **given}


def diag_message(facts: Mapping[str, Any], cookie: int = 1) -> DiagMessage:
    """Return the message of the kernel's dump. It shows a bound-inactive socket as closed."""
    number = STATES[facts["state"]]
    return DiagMessage(
        protocol=facts["protocol"],
        family=int(socket.AF_INET if facts["family"] == "inet" else socket.AF_INET6),
        state=7 if number == 13 else number,
        timer=1 if facts["retransmits"] else 0,
        retrans=facts["retransmits"],
        sport=facts["local_port"],
        dport=facts["remote_port"],
        src=inet_diag_address(facts["family"], facts["local"]),
        dst=inet_diag_address(facts["family"], facts["remote"]),
        ifindex=facts["ifindex"],
        cookie=cookie,
        expires=0,
        rqueue=facts["recv_queue"],
        wqueue=facts["send_queue"],
        uid=facts["uid"],
        inode=facts["inode"],
        attributes=_attributes(facts),
    )


def snapshot_of(facts: Mapping[str, Any]) -> SampleSnapshot:
    holders = {facts["inode"]: facts["processes"]} if facts["processes"] and facts["inode"] else {}
    return SampleSnapshot(holders)


def decoded(facts: Mapping[str, Any], snapshot: SampleSnapshot | None = None) -> Socket:
    context: Any = snapshot or snapshot_of(facts)
    return Socket(diag_message(facts), context)
