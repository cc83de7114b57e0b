# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""About 200 sockets of many kinds in one namespace, as input for selectors.

Addresses, ports and interface names are those of the generated selectors.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from linuxnet_sockets.netlink.inet_diag import DiagMessage
from tests.support import sample_sockets
from tests.support.topologies.states import (
    FIN_WAIT2,
    IPPROTO_MPTCP,
    IPPROTO_UDPLITE,
    wait_for_state,
)
from tests.support.topologies.topology import Lab, LabNamespace

SO_MARK = 36  # include/uapi/asm-generic/socket.h
_STATE_NAMES = {number: name for name, number in sample_sockets.STATES.items()}
_STREAM, _DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
_V4, _V6 = socket.AF_INET, socket.AF_INET6
_SERVED = (22, 53, 80, 443, 8000, 8050)


class Crowd:
    """host: the namespace that is dumped; peer: the namespace of the remote ends."""

    def __init__(self, lab: Lab) -> None:
        self.host = lab.namespace("crowd")
        self.peer = lab.namespace("peer")
        self._bound = itertools.count(40_001)
        for namespace in (self.host, self.peer):
            namespace.sysctl("ipv6/conf/default/addr_gen_mode", 1)
        self._wire(lab, "eth0")
        self._wire(lab, "wg0")
        self._wire(lab, "tun0")
        self.host.address("eth0", "10.0.0.1/24", "192.0.2.1/24", "2001:db8::1/32", "fe80::1/64")
        self.peer.address("eth0", "10.0.0.2/24", "192.0.2.7/24", "2001:db8:1::1/32", "fe80::2/64")
        self.host.address("wg0", "10.1.0.1/24", "fe80::1/64")
        self.peer.address("wg0", "10.1.0.2/24", "fe80::2/64")
        self._serve()
        self._outgoing()
        self._incoming()
        self._datagrams()
        self._states()

    def _wire(self, lab: Lab, name: str) -> None:
        for namespace, made in zip((self.host, self.peer), lab.connect(self.host, self.peer)):
            with namespace.route() as route:
                (index,) = route.link_lookup(ifname=made)
                route.link("set", index=index, state="down")
                route.link("set", index=index, ifname=name)
                route.link("set", index=index, state="up")
            namespace.delete_link_at_end(name)

    def _listen(self, where: LabNamespace, family: int, address: str, port: int) -> socket.socket:
        sock = where.socket(family, _STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(64)
        return sock

    def _serve(self) -> None:
        self.listeners = {port: self._listen(self.peer, _V6, "::", port) for port in _SERVED}
        self.own_listeners = {port: self._listen(self.host, _V6, "::", port) for port in (22, 443)}
        self.own_listeners[80] = self._listen(self.host, _V4, "10.0.0.1", 80)
        self.own_listeners[8000] = self._listen(self.host, _V4, "0.0.0.0", 8000)
        self.own_listeners[8050] = self._listen(self.host, _V6, "::ffff:10.1.0.1", 8050)
        only_six = self.host.socket(_V6, _STREAM)
        only_six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        only_six.bind(("::1", 53))
        only_six.listen(5)

    def connect(
        self,
        address: tuple[Any, ...],
        *,
        family: int = _V4,
        bind: tuple[Any, ...] | None = None,
        device: str | None = None,
        mark: int | None = None,
        protocol: int = 0,
    ) -> tuple[socket.socket, socket.socket]:
        """Connect the host to the peer and return both ends."""
        sock = self.host.socket(family, _STREAM, protocol)
        if mark is not None:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        if bind is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(bind)
        sock.connect(address)
        other, _address = self.listeners[address[1]].accept()
        return sock, self.peer.close_at_end(other)

    def _outgoing(self) -> None:
        eth0, wg0 = (self.host.run(socket.if_nametoindex, name) for name in ("eth0", "wg0"))
        for port in _SERVED:
            for address in ("10.0.0.2", "192.0.2.7", "10.1.0.2"):
                self.connect((address, port))
                self.connect((address, port))
                self.connect((f"::ffff:{address}", port), family=_V6)
            self.connect(("2001:db8:1::1", port), family=_V6)
            self.connect(("fe80::2", port, 0, eth0), family=_V6)
            self.connect(("fe80::2", port, 0, wg0), family=_V6)
            self.connect(("10.0.0.2", port), bind=("10.0.0.1", next(self._bound)))
        for mark in (1, 0x10, 0x11):
            for port in (80, 443):
                self.connect(("10.0.0.2", port), mark=mark)
                self.connect(("2001:db8:1::1", port), family=_V6, mark=mark)
        for device in ("eth0", "wg0"):
            address = "10.0.0.2" if device == "eth0" else "10.1.0.2"
            for port in (22, 80, 443):
                self.connect((address, port), device=device)
        for local_port in (40_000, 60_999, 65_535):
            self.connect(("10.0.0.2", 443), bind=("10.0.0.1", local_port))
            self.connect(("::ffff:10.0.0.2", 80), family=_V6, bind=("::", local_port))
        for uid in (33, 1000, 1001, 70_000):
            for port in (80, 443):
                sock, _other = self.connect(("192.0.2.7", port))
                # fchown() fails in a user namespace that maps only root.
                with contextlib.suppress(OSError):
                    os.fchown(sock.fileno(), uid, -1)
        for size in (1, 3, 1000, 200_000):
            sock, other = self.connect(("10.0.0.2", 8000))
            other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.send(bytes(size))
            other.send(bytes(size))

    def _incoming(self) -> None:
        calls = [
            (_V4, ("10.0.0.1", 22)),
            (_V4, ("10.0.0.1", 443)),
            (_V4, ("192.0.2.1", 443)),
            (_V4, ("10.0.0.1", 80)),
            (_V4, ("10.1.0.1", 8000)),
            (_V4, ("10.1.0.1", 8050)),
            (_V6, ("2001:db8::1", 22)),
            (_V6, ("2001:db8::1", 443)),
        ]
        here = [
            (_V4, ("127.0.0.1", 22)),
            (_V4, ("127.0.0.1", 8000)),
            (_V6, ("::1", 443)),
            (_V6, ("::1", 53)),
        ]
        for where, targets in ((self.peer, calls), (self.host, here[:3])):
            for family, address in targets * 4:
                client = where.socket(family, _STREAM)
                client.connect(address)
                accepted, _address = self.own_listeners[address[1]].accept()
                self.host.close_at_end(accepted)

    def _datagrams(self) -> None:
        ends: list[tuple[int, tuple[str, int], tuple[str, int] | None]] = [
            (_V4, ("0.0.0.0", 53), None),
            (_V4, ("10.0.0.1", 8000), None),
            (_V4, ("10.0.0.1", 0), ("10.0.0.2", 443)),
            (_V4, ("10.0.0.1", 40_000), ("192.0.2.7", 53)),
            (_V4, ("0.0.0.0", 0), ("10.1.0.2", 80)),
            (_V6, ("::", 443), None),
            (_V6, ("::1", 8050), None),
            (_V6, ("2001:db8::1", 0), ("2001:db8:1::1", 443)),
            (_V6, ("::ffff:10.0.0.1", 0), ("::ffff:10.0.0.2", 443)),
            (_V6, ("::ffff:127.0.0.1", 8000), None),
        ]
        for protocol in (0, IPPROTO_UDPLITE):
            for family, local, remote in ends:
                try:
                    sock = self.host.socket(family, _DATAGRAM, protocol)
                except OSError:
                    break  # A kernel without UDP-Lite.
                sock.bind(local)
                if remote is not None:
                    sock.connect(remote)

    def _states(self) -> None:
        for _connection in range(3):
            _sock, other = self.connect(("10.0.0.2", 443))
            other.shutdown(socket.SHUT_WR)  # the host's end: CLOSE_WAIT
            sock, _other = self.connect(("10.0.0.2", 443))
            sock.shutdown(socket.SHUT_WR)
            wait_for_state(
                self.host, FIN_WAIT2, sock.getsockname()[:2]
            )  # Its acknowledgement may lag.
            sock, other = self.connect(("10.0.0.2", 22))
            sock.close()
            other.close()  # TIME_WAIT
        bound = self.host.socket(_V4, _STREAM)
        bound.bind(("10.0.0.1", 32_768))
        with contextlib.suppress(OSError):  # A kernel without MPTCP.
            listener = self.peer.socket(_V4, _STREAM, IPPROTO_MPTCP)
            listener.bind(("10.0.0.2", 8443))
            listener.listen(5)
            self.listeners[8443] = listener
            for _connection in range(3):
                self.connect(("10.0.0.2", 8443), protocol=IPPROTO_MPTCP)

    def interfaces(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Index and addresses of each interface by name, from ip(8)."""
        links = json.loads(self.host.output("ip", "-j", "addr"))
        return {
            link["ifname"]: (
                link["ifindex"],
                tuple(address["local"] for address in link["addr_info"]),
            )
            for link in links
        }


def cgroups() -> dict[int, str]:
    """Directories of the cgroup v2 mount by inode number."""
    with open("/proc/self/mountinfo", encoding="ascii") as lines:
        mounts = [line.split()[4] for line in lines if " - cgroup2 " in line]
    return {
        os.stat(directory).st_ino: "/" + os.path.relpath(directory, mount).strip(".")
        for mount in mounts[:1]
        for directory, _directories, _files in os.walk(mount)
    }


def own_inodes() -> set[int]:
    """Inodes of all open descriptors of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.stat(f"/proc/self/fd/{name}").st_ino)
    return found


def facts_of(sock: DiagMessage, own: set[int]) -> dict[str, Any]:
    """Decode a dumped socket into the facts that the reference selector evaluates.

    The attributes are decoded independently of the core. own: inodes of this process, which is
    reported as the owner of its sockets.
    """
    attributes: dict[int, bytes] = {}
    raw = sock.attributes
    while len(raw) >= 4:
        length, kind = struct.unpack_from("=HH", raw)
        attributes[kind & 0x3FFF] = raw[4:length]
        raw = raw[(length + 3) & ~3 :]
    held = sock.inode in own
    state = "bound-inactive" if sock.state == 7 and sock.protocol == "tcp" else None
    return sample_sockets.facts(
        protocol=sock.protocol,
        family="inet" if sock.family == _V4 else "inet6",
        state=state or _STATE_NAMES[sock.state],
        local=_address(sock.family, sock.src),
        local_port=sock.sport,
        remote=_address(sock.family, sock.dst),
        remote_port=sock.dport,
        ifindex=sock.ifindex,
        uid=sock.uid,
        inode=sock.inode,
        retransmits=sock.retrans,
        send_queue=sock.wqueue,
        recv_queue=sock.rqueue,
        mark=_unpacked("=I", attributes.get(15)),
        cgroup=_unpacked("=Q", attributes.get(21)),
        info=_info(attributes.get(2)) if sock.protocol == "tcp" else None,
        congestion=attributes[4].rstrip(b"\0").decode() if 4 in attributes else None,
        processes=[(os.getpid(), _command())] if held else None,
        autobound=True,
    )


def _command() -> str:
    with open("/proc/self/comm", encoding="utf-8") as comm:
        return comm.read().rstrip("\n")


def _unpacked(layout: str, raw: bytes | None) -> int | None:
    return int(struct.unpack(layout, raw)[0]) if raw is not None else None


def _info(raw: bytes | None) -> Mapping[str, int] | None:
    if raw is None:
        return None
    return {
        name: struct.unpack_from("=" + code, raw, offset)[0]
        for name, (offset, code) in sample_sockets.TCP_INFO.items()
    }


def _address(family: int, raw: bytes) -> str:
    if family == _V4:
        return str(ipaddress.IPv4Address(raw[:4]))
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)
