# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what one look in one namespace knows beside its sockets."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Optional

from ..errors import NamespaceDenied, NamespaceNotFound
from ..host.cgroups import Cgroups, mount_point
from ..host.host import Host
from ..host.namespaces import Namespace, inside
from ..host.processes import Process, SocketOwners, find_owners
from ..netlink.connection import Connection
from ..netlink.links import Address, Link, addresses, links
from .slots import SlotStore


class _UserNames(dict[int, Optional[str]]):
    """The names of uids, each asked for once."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def __missing__(self, uid: int) -> str | None:
        self[uid] = name = self._host.user_name(uid)
        return name


class Snapshot(SlotStore):
    """Interfaces, addresses, cgroups and owners of one moment: asked for when first needed, then
    kept, so that every socket of one look is judged by the same facts.

    open_route gives the rtnetlink connection of the namespace. What it raises passes through.
    """

    def __init__(
        self, host: Host, namespace: Namespace, open_route: Callable[[], Connection]
    ) -> None:
        super().__init__()
        self.host = host
        self.namespace = namespace
        self.cgroups = Cgroups(mount_point(host.proc))
        self._open_route = open_route
        self._links: tuple[Link, ...] | None = None
        self._addresses: tuple[Address, ...] | None = None
        self._held: frozenset[bytes] | None = None
        self._names: dict[int, str] | None = None
        self._users = _UserNames(host)
        self._owners: SocketOwners | None = None
        self._owned: frozenset[int] = frozenset()
        self._some_owners: SocketOwners | None = None
        self._rto_max_ms: tuple[int, ...] | None = None

    @property
    def rtnetlink(self) -> Connection:
        """The rtnetlink connection of the namespace."""
        return self._open_route()

    @property
    def links(self) -> tuple[Link, ...]:
        if self._links is None:
            self._links = tuple(links(self.rtnetlink))
        return self._links

    @property
    def addresses(self) -> tuple[Address, ...]:
        if self._addresses is None:
            self._addresses = tuple(addresses(self.rtnetlink))
        return self._addresses

    def interface_index(self, name: str) -> int | None:
        """None: there is no such interface."""
        for link in self.links:
            if link.name == name:
                return link.ifindex
        return None

    def interface_name(self, index: int) -> str | None:
        """None: there is no such interface."""
        if self._names is None:
            self._names = {link.ifindex: link.name for link in self.links}
        return self._names.get(index)

    def interface_addresses(self, name: str) -> frozenset[bytes] | None:
        """The addresses, of 4 or 16 bytes, that an interface holds.

        None, which means unknown and never matches: no such interface, or one without an address.
        """
        index = self.interface_index(name)
        if index is None:
            return None
        held = frozenset(each.address for each in self.addresses if each.ifindex == index)
        return held or None

    @property
    def local_addresses(self) -> frozenset[bytes]:
        """The addresses, of 4 or 16 bytes, that any interface of the namespace holds."""
        if self._held is None:
            self._held = frozenset(each.address for each in self.addresses)
        return self._held

    @property
    def local_port_range(self) -> tuple[int, int] | None:
        """First and last of the ports that the kernel chooses from (ip_local_port_range).

        None: it cannot be read.
        """
        values = self._setting("ip_local_port_range")
        return (values[0], values[1]) if len(values) == 2 else None

    @property
    def rto_max_ms(self) -> int | None:
        """The longest interval of a retransmission (tcp_rto_max_ms).

        None: two minutes, which older kernels than Linux 6.15 do not let one change.
        """
        if self._rto_max_ms is None:
            self._rto_max_ms = self._setting("tcp_rto_max_ms")
        return self._rto_max_ms[0] if self._rto_max_ms else None

    def _setting(self, name: str) -> tuple[int, ...]:
        """The numbers of a setting below net.ipv4; empty: it cannot be read."""
        file = f"{self.host.proc}/sys/net/ipv4/{name}"

        def read() -> str:
            # proc(5) shows the values of the reading thread's network namespace.
            with open(file, encoding="ascii") as lines:
                return lines.read()

        try:
            return tuple(map(int, inside(self.namespace, read).split()))
        except (OSError, ValueError, NamespaceNotFound, NamespaceDenied):
            # Records are made when a look is over, and the namespace may be gone by then.
            return ()

    def cgroup_ids(self, path: str) -> frozenset[int] | None:
        """The ids of a cgroup and all below it; None: no such cgroup (unknown)."""
        return self.cgroups.ids(path)

    def cgroup_path(self, identifier: int) -> str | None:
        return self.cgroups.path(identifier)

    def user_name(self, uid: int) -> str | None:
        return self._users[uid]

    def load_owners(self, inodes: Collection[int]) -> SocketOwners:
        """Find who holds these sockets, in one walk over the processes; kept for this look.

        There is no second walk for what the first one was asked for.
        """
        wanted = frozenset(inodes)
        if self._owners is None or not wanted <= self._owned:
            self._owned |= wanted
            self._owners = find_owners(self.host.proc, self._owned)
        return self._owners

    def set_some_owners(self, owners: SocketOwners) -> None:
        """Keep one owner of some sockets, for when load_owners is not called: it takes longer."""
        self._some_owners = owners

    @property
    def owners(self) -> SocketOwners | None:
        """The owners that load_owners found; None: it was not called."""
        return self._owners

    @property
    def known_owners(self) -> SocketOwners | None:
        """All owners if load_owners was called, else those of set_some_owners; None: neither."""
        return self._owners or self._some_owners

    def processes(self, inode: int) -> tuple[Process, ...] | None:
        """The processes known to own a socket; None: unknown, or the socket has none."""
        owners = self._owners or self._some_owners
        if not inode or owners is None:
            return None
        return owners.of(inode) or None
