# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Links and addresses of a network namespace, as the verdicts need them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..netlink.links import IFF_LOOPBACK, IFF_LOWER_UP, Address, Link

_NO_INTERFACES: frozenset[int] = frozenset()


class Interfaces:
    """The interfaces of a namespace, from one or two dumps.

    A second dump only adds: an address counts as assigned, and a carrier as present, if either dump
    shows it. A change between the dumps therefore never makes a verdict true.
    """

    def __init__(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        self._links: dict[int, Link] = {}
        self._carriers: set[int] = set()
        self._by_address: dict[bytes, frozenset[int]] = {}
        self.add(links, addresses)

    def add(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """Merge another dump."""
        for link in links:
            self._links[link.ifindex] = link
            if link.flags & IFF_LOWER_UP:
                self._carriers.add(link.ifindex)
        for address in addresses:
            # Tentative and deprecated addresses count as assigned. The kernel does not use those
            # for which duplicate address detection failed.
            if address.is_duplicate:
                continue
            before = self._by_address.get(address.address, _NO_INTERFACES)
            self._by_address[address.address] = before | {address.ifindex}

    def with_address(self, address: bytes, device: int = 0) -> frozenset[int]:
        """Return the indexes of the interfaces that have an address of 4 or 16 bytes.

        device: only this interface, or the members of this VRF; 0: all interfaces.
        """
        found = self._by_address.get(address, _NO_INTERFACES)
        if not device:
            return found
        return frozenset(index for index in found if device in (index, self.vrf(index)))

    def has_carrier(self, index: int) -> bool | None:
        """IFF_LOWER_UP, which vlan, macvlan and bond inherit. None: no such interface."""
        return index in self._carriers if index in self._links else None

    def name(self, index: int) -> str:
        """The name, or the index as text if there is no such interface."""
        link = self._links.get(index)
        return str(index) if link is None else link.name

    def all_within(self, indexes: Iterable[int], names: Collection[str]) -> bool:
        """Whether each interface has one of these names, as its name or an alternative one."""
        return all(
            not set(self._links[index].names if index in self._links else (str(index),)).isdisjoint(
                names
            )
            for index in indexes
        )

    def names(self, indexes: Iterable[int]) -> list[str]:
        return sorted(map(self.name, indexes))

    def vrf(self, index: int) -> int:
        """The index of the VRF that an interface is or belongs to; 0: none."""
        master = self._links[index].master if index in self._links else 0
        for candidate in (index, master):
            link = self._links.get(candidate)
            if link is not None and link.kind == "vrf":
                return candidate
        return 0

    def never_transmits(self, index: int) -> bool:
        """Whether packets never leave the host through this interface (loopback, dummy, VRF).

        Other interfaces carry the traffic of addresses on such an interface.
        """
        link = self._links.get(index)
        return link is not None and (
            bool(link.flags & IFF_LOOPBACK) or link.kind in ("dummy", "vrf")
        )
