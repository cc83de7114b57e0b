# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Sets of address prefixes with fast look-ups."""

from __future__ import annotations

from typing import NamedTuple

from ..netlink.constants import V4_MAPPED_PREFIX

MAPPED_LENGTH = 8 * len(V4_MAPPED_PREFIX)


class Prefix(NamedTuple):
    """An address prefix.

    address: 4 or 16 bytes; bits beyond the length are ignored. length: in bits.
    """

    address: bytes
    length: int

    @property
    def size(self) -> int:
        return 8 * len(self.address)

    def shifted(self) -> int:
        return int.from_bytes(self.address, "big") >> (self.size - self.length)

    def covers_mapped(self) -> bool:
        """Whether an IPv6 prefix contains every v4-mapped address."""
        return self.length <= MAPPED_LENGTH and contains(self, V4_MAPPED_PREFIX + b"\0" * 4)

    def inside_mapped(self) -> bool:
        """Whether an IPv6 prefix contains only v4-mapped addresses."""
        return self.length >= MAPPED_LENGTH and self.address.startswith(V4_MAPPED_PREFIX)


def contains(prefix: Prefix, address: bytes) -> bool:
    if len(address) != len(prefix.address):
        return False
    number = int.from_bytes(address, "big")
    return number >> (prefix.size - prefix.length) == prefix.shifted()


class PrefixSet:
    """Prefixes of one address size. The cost of a look-up grows with the number of lengths."""

    def __init__(self) -> None:
        self._whole: set[bytes] = set()
        self._by_shift: dict[int, set[int]] = {}

    def add(self, prefix: Prefix) -> None:
        if prefix.length == prefix.size:
            self._whole.add(prefix.address)
        else:
            shift = prefix.size - prefix.length
            self._by_shift.setdefault(shift, set()).add(prefix.shifted())

    def __contains__(self, address: bytes) -> bool:
        if address in self._whole:
            return True
        if not self._by_shift:
            return False
        number = int.from_bytes(address, "big")
        # A generator expression would double the cost.
        for shift, numbers in self._by_shift.items():  # noqa: SIM110
            if number >> shift in numbers:
                return True
        return False


class AddressSet:
    """Prefixes of both families, with the rules for v4-mapped addresses.

    IPv4 prefixes contain IPv4 and v4-mapped addresses. IPv6 prefixes contain v4-mapped addresses
    only inside ::ffff:0:0/96, or with wide also if they cover it (as ss compares).
    """

    def __init__(self) -> None:
        self._four = PrefixSet()
        self._six = PrefixSet()
        self._mapped = PrefixSet()

    def add(self, prefix: Prefix, *, wide: bool = False) -> None:
        if prefix.size == 32:
            self._four.add(prefix)
        elif prefix.inside_mapped():
            self._mapped.add(Prefix(prefix.address[12:], prefix.length - MAPPED_LENGTH))
        else:
            self._six.add(prefix)
            if wide and prefix.covers_mapped():
                self._mapped.add(Prefix(b"\0" * 4, 0))

    def holds(self, address: bytes, six: bool) -> bool:
        """Whether an address is in the set.

        address: 4 bytes for IPv4 and v4-mapped addresses. six: the socket is an AF_INET6 socket.
        """
        if len(address) == 4:
            return address in self._four or (six and address in self._mapped)
        return address in self._six
