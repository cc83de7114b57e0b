# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Snapshot of a namespace: links, addresses, cgroups and owners, loaded on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Optional

from ..errors import NamespaceDenied, NamespaceNotFound, NetlinkError
from ..host.cgroups import Cgroups, mount_point
from ..host.host import Host
from ..host.namespaces import Namespace, inside
from ..host.processes import Process, SocketOwners, find_owners
from ..netlink.connection import NETLINK_NETFILTER, Connection
from ..netlink.links import Address, Link, addresses, links
from ..netlink.nftables import sizes_with_route_chains
from ..netlink.xtables import sizes_with_mangle_output
from .slots import SlotStore


class _UserNames(dict[int, Optional[str]]):
    """User names by uid, each looked up once."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def __missing__(self, uid: int) -> str | None:
        self[uid] = name = self._host.user_name(uid)
        return name


class Snapshot(SlotStore):
    """Facts about a namespace at one moment, beyond its sockets.

    Each fact is loaded on first use and kept, so that all sockets of the snapshot are evaluated
    against the same facts. open_route, open_diag: return the rtnetlink and the sock_diag connection
    of the namespace; without the second, sock_diag cannot be used. Loading raises what these and
    Connection.dump raise.
    """

    def __init__(
        self,
        host: Host,
        namespace: Namespace,
        open_route: Callable[[], Connection],
        open_diag: Callable[[], Connection] | None = None,
    ) -> None:
        super().__init__()
        self.host = host
        self.namespace = namespace
        self.cgroups = Cgroups(mount_point(host.proc))
        self._open_route = open_route
        self._open_diag = open_diag
        self._links: tuple[Link, ...] | None = None
        self._addresses: tuple[Address, ...] | None = None
        self._local_addresses: frozenset[bytes] | None = None
        self._names: dict[int, str] | None = None
        self._users = _UserNames(host)
        self._owners: SocketOwners | None = None
        self._loaded_inodes: frozenset[int] = frozenset()
        self._some_owners: SocketOwners | None = None
        self._rto_max_ms: tuple[int, ...] | None = None

    @property
    def rtnetlink(self) -> Connection:
        """The rtnetlink connection of the namespace."""
        return self._open_route()

    @property
    def sock_diag(self) -> Connection:
        """The sock_diag connection of the namespace."""
        if self._open_diag is None:
            raise AssertionError("this snapshot was made without a sock_diag connection")
        return self._open_diag()

    @property
    def links(self) -> tuple[Link, ...]:
        """The links of the namespace."""
        if self._links is None:
            self._links = tuple(links(self.rtnetlink))
        return self._links

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses of the namespace."""
        if self._addresses is None:
            self._addresses = tuple(addresses(self.rtnetlink))
        return self._addresses

    def interface_index(self, name: str) -> int | None:
        """The index of an interface with this name, also an alternative one; None: none exists."""
        for link in self.links:
            if name in link.names:
                return link.ifindex
        return None

    def interface_name(self, index: int) -> str | None:
        """The name of an interface; None: it does not exist."""
        if self._names is None:
            self._names = {link.ifindex: link.name for link in self.links}
        return self._names.get(index)

    def interface_addresses(self, name: str) -> frozenset[bytes] | None:
        """The addresses, of 4 or 16 bytes, of an interface.

        None (unknown): it does not exist or has no address.
        """
        index = self.interface_index(name)
        if index is None:
            return None
        found = (entry.address for entry in self.addresses if entry.ifindex == index)
        return frozenset(found) or None

    @property
    def local_addresses(self) -> frozenset[bytes]:
        """The addresses, of 4 or 16 bytes, of all interfaces, without duplicate ones."""
        if self._local_addresses is None:
            self._local_addresses = frozenset(
                entry.address for entry in self.addresses if not entry.is_duplicate
            )
        return self._local_addresses

    @property
    def local_port_range(self) -> tuple[int, int] | None:
        """The first and last ephemeral port (ip_local_port_range); None: unreadable."""
        values = self._setting("ipv4/ip_local_port_range")
        return (values[0], values[1]) if len(values) == 2 else None

    @property
    def rto_max_ms(self) -> int | None:
        """The longest retransmission timeout in milliseconds (tcp_rto_max_ms).

        None: the fixed two minutes of kernels before Linux 6.15.
        """
        if self._rto_max_ms is None:
            self._rto_max_ms = self._setting("ipv4/tcp_rto_max_ms")
        return self._rto_max_ms[0] if self._rto_max_ms else None

    @property
    def sizes_with_packet_marks(self) -> frozenset[int]:
        """Address sizes (4, 16) of packets whose mark the packet filter may change."""
        return self._sizes_by_nftables | self._sizes_by_iptables

    @property
    def _sizes_by_iptables(self) -> frozenset[int]:
        with suppress(NamespaceNotFound, NamespaceDenied):
            return inside(self.namespace, lambda: sizes_with_mangle_output(self.host.proc))
        return frozenset()

    @property
    def _sizes_by_nftables(self) -> frozenset[int]:
        try:
            connection = Connection(self.host.open_netlink(self.namespace, NETLINK_NETFILTER))
        except (OSError, NetlinkError):
            # A kernel without nfnetlink.
            return frozenset()
        try:
            return sizes_with_route_chains(connection)
        finally:
            connection.close()

    @property
    def forwards_ipv6(self) -> bool:
        """net.ipv6.conf.all.forwarding is on; False if unreadable."""
        return any(self._setting("ipv6/conf/all/forwarding"))

    def _setting(self, name: str) -> tuple[int, ...]:
        """The numbers of a sysctl below /proc/sys/net; empty: unreadable."""
        file = f"{self.host.proc}/sys/net/{name}"

        def read() -> str:
            # proc(5) shows the values of the reading thread's network namespace.
            with open(file, encoding="ascii") as lines:
                return lines.read()

        try:
            return tuple(map(int, inside(self.namespace, read).split()))
        except (OSError, ValueError, NamespaceNotFound, NamespaceDenied):
            # Records are made later, when the namespace may no longer exist.
            return ()

    def cgroup_ids(self, path: str) -> frozenset[int] | None:
        """The ids of a cgroup and its descendants; None (unknown): it does not exist."""
        return self.cgroups.ids(path)

    def cgroup_path(self, identifier: int) -> str | None:
        """The path of a cgroup; None: it does not exist."""
        return self.cgroups.path(identifier)

    def user_name(self, uid: int) -> str | None:
        """The name of a user; None: it has none."""
        return self._users[uid]

    def load_owners(self, inodes: Collection[int]) -> SocketOwners:
        """Find all processes that hold the sockets with these inodes.

        Reads the descriptors of all processes, unless an earlier call covered these inodes.
        """
        requested = frozenset(inodes)
        if self._owners is None or not requested <= self._loaded_inodes:
            self._loaded_inodes |= requested
            self._owners = find_owners(self.host.proc, self._loaded_inodes)
        return self._owners

    def set_some_owners(self, owners: SocketOwners) -> None:
        """Set some holders of some sockets, for known_owners until load_owners is called."""
        self._some_owners = owners

    @property
    def owners(self) -> SocketOwners | None:
        """All holders of the sockets given to load_owners; None: it was not called."""
        return self._owners

    @property
    def known_owners(self) -> SocketOwners | None:
        """All holders if load_owners was called, else those of set_some_owners; None: neither."""
        return self._owners or self._some_owners

    def processes(self, inode: int) -> tuple[Process, ...] | None:
        """The known holders of a socket; None: not loaded, or none."""
        owners = self._owners or self._some_owners
        if not inode or owners is None:
            return None
        return owners.of(inode) or None
