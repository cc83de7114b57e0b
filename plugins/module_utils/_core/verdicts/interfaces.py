# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: which interface holds which address, and which has a carrier."""

from __future__ import annotations

from collections.abc import Iterable

from ..netlink.links import IFF_LOOPBACK, IFF_LOWER_UP, Address, Link

_NOWHERE: frozenset[int] = frozenset()


class Interfaces:
    """The interfaces of a namespace, seen once or twice.

    What either look saw holds: an address that one of them found is held, and a carrier that one of
    them found is there. So what moved meanwhile counts against nobody.
    """

    def __init__(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        self._links: dict[int, Link] = {}
        self._carriers: set[int] = set()
        self._held: dict[bytes, frozenset[int]] = {}
        self.add(links, addresses)

    def add(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """A further look."""
        for link in links:
            self._links[link.ifindex] = link
            if link.flags & IFF_LOWER_UP:
                self._carriers.add(link.ifindex)
        for each in addresses:
            # Tentative, deprecated and duplicate ones too (IFA_F_*): the interface holds them.
            before = self._held.get(each.address, _NOWHERE)
            self._held[each.address] = before | {each.ifindex}

    def holders(self, address: bytes, device: int = 0) -> frozenset[int]:
        """The interfaces that hold an address; device: only that one counts, or those of a VRF."""
        held = self._held.get(address, _NOWHERE)
        if not device:
            return held
        return frozenset(each for each in held if device in (each, self.vrf(each)))

    def has_carrier(self, index: int) -> bool | None:
        """IFF_LOWER_UP, which vlan, macvlan and bond take from what lies under them; None: there is
        no such interface."""
        return index in self._carriers if index in self._links else None

    def name(self, index: int) -> str:
        link = self._links.get(index)
        return str(index) if link is None else link.name

    def names(self, indexes: Iterable[int]) -> list[str]:
        return sorted(map(self.name, indexes))

    def vrf(self, index: int) -> int:
        """The VRF that an interface is, or belongs to; 0: none."""
        for each in (index, self._links[index].master if index in self._links else 0):
            link = self._links.get(each)
            if link is not None and link.kind == "vrf":
                return each
        return 0

    def sends_nothing(self, index: int) -> bool:
        """No packet leaves the host by it, so that addresses on it are reached by other links."""
        link = self._links.get(index)
        return link is not None and (
            bool(link.flags & IFF_LOOPBACK) or link.kind in ("dummy", "vrf")
        )
