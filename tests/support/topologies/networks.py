# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with two uplinks, for tests that change its links, addresses, routes and rules."""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Iterable
from typing import Any, NamedTuple

from .states import cookie_of
from .topology import Lab, LabNamespace

SO_MARK = 36  # include/uapi/asm-generic/socket.h
IP_FREEBIND, IP_TRANSPARENT = 15, 19  # include/uapi/linux/in.h
IPV6_FREEBIND, IPV6_TRANSPARENT = 78, 75  # include/uapi/linux/in6.h
# include/uapi/linux/if_tun.h
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_TCP_REPAIR = 19  # include/uapi/linux/tcp.h
# Mark of the VPN's own packets, and number of its routing table (wg-quick(8)).
VPN_MARK = 51820
_PORT = 4433
# struct in6_pktinfo: the interface index.
_PACKET_INFO = struct.Struct("=16xI")

Option = tuple[int, int, int]
FREE_BOUND: tuple[Option, ...] = ((socket.IPPROTO_IP, IP_FREEBIND, 1),)
FREE_BOUND6: tuple[Option, ...] = ((socket.IPPROTO_IPV6, IPV6_FREEBIND, 1),)
TRANSPARENT: tuple[Option, ...] = ((socket.IPPROTO_IP, IP_TRANSPARENT, 1),)
TRANSPARENT6: tuple[Option, ...] = ((socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1),)


def ip(where: LabNamespace, *commands: str) -> str:
    """Run ip(8) commands and return their output. Raises CalledProcessError.

    A command is a command line without "ip". -6 is added to commands for IPv6 routes and rules.
    """
    output = ""
    for options, lines in itertools.groupby(map(_split_options, commands), lambda split: split[0]):
        rest = [line for _options, line in lines]
        if len(rest) == 1:
            output += where.output("ip", *options, *rest[0].split())
        else:
            output += where.output("ip", *options, "-batch", "-", stdin="\n".join(rest))
    return output


def _split_options(command: str) -> tuple[tuple[str, ...], str]:
    """Return the options of ip(8), and the rest of the command."""
    words = command.split()
    options = tuple(itertools.takewhile(lambda word: word.startswith("-"), words))
    if words[0] in ("route", "rule") and ":" in command:
        options = ("-6",)
    return options, " ".join(words[len(options) if words[0].startswith("-") else 0 :])


def link_type_missing(where: LabNamespace, *link: str) -> bool:
    """Whether the kernel does not support this type of link."""
    try:
        ip(where, f"link add probe0 {' '.join(link)}")
    except subprocess.CalledProcessError:
        return True
    ip(where, "link del probe0")
    return False


def tun(where: LabNamespace, name: str, *, persistent: bool = False) -> io.FileIO:
    """Create a tun device, set it up, and return its non-blocking descriptor.

    Closing the descriptor removes the device, or only its carrier if it is persistent. Raises
    OSError.
    """

    def opened() -> io.FileIO:
        end = io.FileIO("/dev/net/tun", "r+")
        try:
            os.set_blocking(end.fileno(), False)
            request = struct.pack("=16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
            fcntl.ioctl(end, _TUNSETIFF, request)
            fcntl.ioctl(end, _TUNSETPERSIST, int(persistent))
        except BaseException:
            end.close()
            raise
        return end

    end = where.run(opened)
    ip(where, f"link set {name} up")
    return end


def close_silently(sock: socket.socket) -> None:
    """Close a connection without sending a packet to the peer (TCP_REPAIR)."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    sock.close()


class UplinkConnection(NamedTuple):
    """A connection of the host: its socket, and the socket of the peer (TCP only)."""

    sock: socket.socket
    peer: socket.socket | None
    cookie: int


def route_all_through(where: LabNamespace, name: str) -> None:
    """Route all traffic through a link, as wg-quick(8) does.

    Exceptions: packets with the mark of the VPN, and destinations with a more specific route.
    """
    ip(
        where,
        f"addr add 10.9.0.1/32 dev {name}",
        f"addr add fd00:9::1/128 dev {name} nodad",
        f"route add default dev {name} table {VPN_MARK}",
        f"-6 route add default dev {name} table {VPN_MARK}",
    )
    for family in ("-4", "-6"):
        ip(
            where,
            f"{family} rule add not fwmark {VPN_MARK} table {VPN_MARK}",
            f"{family} rule add table main suppress_prefixlength 0",
        )


class Uplinks:
    """A host with two links, eth0 and wlan0, and a far host at their other ends (f0, f1).

    The far host has the service addresses on its loopback. The default routes of the host use eth0.
    The far host replies through the link with the network of the client's address.
    """

    eth4, eth6 = "192.0.2.1", "2001:db8:a::1"
    eth4_gateway, eth6_gateway = "192.0.2.2", "2001:db8:a::2"
    wlan4, wlan6 = "198.51.100.1", "2001:db8:b::1"
    wlan4_gateway, wlan6_gateway = "198.51.100.2", "2001:db8:b::2"
    service4, service6 = "203.0.113.7", "2001:db8:f::7"
    default4 = f"default via {eth4_gateway} dev eth0"
    default6 = f"default via {eth6_gateway} dev eth0"
    other4 = f"default via {wlan4_gateway} dev wlan0"
    other6 = f"default via {wlan6_gateway} dev wlan0"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.host = lab.namespace("host")
        self.far = lab.namespace("far")
        for namespace in (self.host, self.far):
            for which in ("all", "default"):
                # Accept replies that arrive through the other link.
                namespace.sysctl(f"ipv4/conf/{which}/rp_filter", 0)
        self.link("eth0", "f0")
        self.link("wlan0", "f1")
        self.host.address("eth0", f"{self.eth4}/24", f"{self.eth6}/64")
        self.host.address("wlan0", f"{self.wlan4}/24", f"{self.wlan6}/64")
        self.far.address("f0", f"{self.eth4_gateway}/24", f"{self.eth6_gateway}/64")
        self.far.address("f1", f"{self.wlan4_gateway}/24", f"{self.wlan6_gateway}/64")
        self.far.address("lo", f"{self.service4}/32", f"{self.service6}/128")
        ip(self.host, f"route add {self.default4}", f"route add {self.default6}")
        self._listeners: dict[LabNamespace, socket.socket] = {}
        self._datagrams = self._listener(self.far, socket.SOCK_DGRAM)
        self._datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._datagrams.setblocking(False)

    def link(self, name: str, far_name: str, far: LabNamespace | None = None) -> None:
        """Add a link from the host to the far host or another one: up, without addresses."""
        ends = self.host, far or self.far
        for where, created, final in zip(ends, self.lab.connect(*ends), (name, far_name)):
            ip(
                where,
                f"link set {created} down",
                f"link set {created} name {final}",
                f"link set {final} up",
            )
            where.delete_link_at_end(final)

    def add_fallback_routes(self) -> None:
        """Add default routes through wlan0 with a lower priority than those through eth0."""
        ip(
            self.host,
            f"route add {self.other4} metric 9000",
            f"route add {self.other6} metric 9000",
        )

    def _listener(self, where: LabNamespace, kind: int) -> socket.socket:
        sock = where.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", _PORT))
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        return sock

    def tcp(
        self, remote: str, local: str | None = None, *, to: LabNamespace | None = None, **how: Any
    ) -> UplinkConnection:
        """Open a TCP connection from the host to the far host, or to another one.

        remote, local: addresses such as fe80::1%eth0 or ::ffff:192.0.2.1. how: arguments of
        `socket`.
        """
        return self._stream(self.host, to or self.far, remote, local, **how)

    def accepted(self, remote: str, local: str) -> UplinkConnection:
        """Open a TCP connection from the far host to the host."""
        connection = self._stream(self.far, self.host, local, remote)
        assert connection.peer is not None
        return UplinkConnection(connection.peer, connection.sock, cookie_of(connection.peer))

    def connect_locally(self, address: str) -> UplinkConnection:
        """Open a TCP connection from the host to itself."""
        return self._stream(self.host, self.host, address, address)

    def _stream(
        self, here: LabNamespace, there: LabNamespace, remote: str, local: str | None, **how: Any
    ) -> UplinkConnection:
        sock = self.socket(here, socket.SOCK_STREAM, remote, local, **how)
        if there not in self._listeners:
            self._listeners[there] = self._listener(there, socket.SOCK_STREAM)
        sock.connect(self._name(here, remote))
        peer, _address = self._listeners[there].accept()
        return UplinkConnection(sock, there.close_at_end(peer), cookie_of(sock))

    def udp(self, remote: str, local: str | None = None, **how: Any) -> UplinkConnection:
        """Open a UDP socket of the host that is connected to the far host."""
        sock = self.socket(self.host, socket.SOCK_DGRAM, remote, local, **how)
        sock.connect(self._name(self.host, remote))
        return UplinkConnection(sock, None, cookie_of(sock))

    def socket(
        self,
        where: LabNamespace,
        kind: int,
        remote: str,
        local: str | None = None,
        *,
        mark: int = 0,
        device: str | None = None,
        uid: int | None = None,
        options: Iterable[Option] = (),
    ) -> socket.socket:
        """Return an unconnected socket. Raises OSError if the uid does not exist."""
        family = socket.AF_INET6 if ":" in remote else socket.AF_INET
        sock = where.socket(family, kind)
        for option in options:
            sock.setsockopt(*option)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        if uid is not None:
            os.fchown(sock.fileno(), uid, -1)
        if local is not None:
            sock.bind(self._name(where, local, 0))
        return sock

    def _name(self, where: LabNamespace, address: str, port: int = _PORT) -> tuple[object, ...]:
        address, _percent, link = address.partition("%")
        if ":" not in address:
            return address, port
        return address, port, 0, where.run(socket.if_nametoindex, link) if link else 0

    def received_datagrams(self) -> list[tuple[bytes, str]]:
        """Return the datagrams that the far host received, each with the incoming link."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _flags, _from = self._datagrams.recvmsg(
                    64, socket.CMSG_SPACE(_PACKET_INFO.size)
                )
                ((_level, _type, raw),) = ancillary
                (index,) = _PACKET_INFO.unpack(raw)
                found.append((data, self.far.run(socket.if_indextoname, index)))
        return found
