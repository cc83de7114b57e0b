# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: whether the network under a connection is gone, and why."""

from __future__ import annotations

import errno
from typing import Any

from ..netlink import routes
from ..netlink.route_get import RouteReply
from ..sockets.socket import address_text
from .interfaces import Interfaces
from .verdict import Verdict

ADDRESS_GONE = "address_gone"
UNROUTABLE = "unroutable"
NO_CARRIER = "no_carrier"
REROUTED = "rerouted"

STRANDED = {
    ADDRESS_GONE: "no interface holds its local address, and no route calls it local",
    UNROUTABLE: "no route leads to its peer",
    NO_CARRIER: "the link by which its packets leave has lost its carrier",
    REROUTED: "its packets leave by another interface than the one that holds its address",
}


class Path:
    """What is known of one way through the network, which many sockets may share.

    local, remote: 4 or 16 bytes. device: the interface that they are bound to; 0: none.
    meaningless: there is nothing to judge, since an end is no address of one host.
    is_local: whether the FIB calls the local address this host's; None: not known. local_answer:
    what it answered; None: not asked, since an interface holds the address.
    unroutable: None: not known. answer: what the look-up of the remote answered; None: not asked.
    ways: the interfaces by which packets may leave; empty: none does, they stay on this host or go
    nowhere; None: not known. whole: these are all of them, not the one that a hash picked.
    """

    __slots__ = (
        "_found",
        "answer",
        "device",
        "is_local",
        "local",
        "local_answer",
        "meaningless",
        "remote",
        "unroutable",
        "ways",
        "whole",
    )

    def __init__(self, local: bytes, remote: bytes, device: int) -> None:
        self.local = local
        self.remote = remote
        self.device = device
        self.meaningless = False
        self.is_local: bool | None = None
        self.local_answer: RouteReply | None = None
        self.unroutable: bool | None = None
        self.answer: RouteReply | None = None
        self.ways: tuple[int, ...] | None = None
        self.whole = False
        self._found: dict[str, bool | None] = {}

    def holders(self, interfaces: Interfaces) -> frozenset[int]:
        """The interfaces that hold the local address: of a link-local one, only its own link."""
        return interfaces.holders(self.local, self.device if is_link_local(self.local) else 0)

    def evaluate(self, name: str, interfaces: Interfaces) -> bool | None:
        """Whether that verdict holds of a socket that sends from an address of its host; None:
        not known."""
        if name not in self._found:
            self._found[name] = None if self.meaningless else _JUDGES[name](self, interfaces)
        return self._found[name]

    def evidence(self, name: str, interfaces: Interfaces) -> dict[str, Any]:
        return _EVIDENCE[name](self, interfaces)

    def verdicts(self, interfaces: Interfaces) -> list[Verdict] | None:
        """Those that hold; None: none is known to, and one is not known not to."""
        values = {name: self.evaluate(name, interfaces) for name in STRANDED}
        held = [
            Verdict(name, None, self.evidence(name, interfaces))
            for name, value in values.items()
            if value
        ]
        return None if not held and None in values.values() else held

    def forget(self) -> None:
        """Judge anew: the interfaces were looked at once more."""
        self._found.clear()


def is_link_local(address: bytes) -> bool:
    """fe80::/10, which is an address only together with a link."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _address_gone(path: Path, interfaces: Interfaces) -> bool | None:
    if path.holders(interfaces):
        return False
    return None if path.is_local is None else not path.is_local


def _unroutable(path: Path, _interfaces: Interfaces) -> bool | None:
    return path.unroutable


def _no_carrier(path: Path, interfaces: Interfaces) -> bool | None:
    if path.ways is None:
        return None
    carriers = {interfaces.has_carrier(way) for way in path.ways}
    if not carriers or True in carriers:
        return False
    return True if path.whole and carriers == {False} else None


def _rerouted(path: Path, interfaces: Interfaces) -> bool | None:
    if path.ways is None:
        return None
    holders = path.holders(interfaces)
    if (
        not holders.isdisjoint(path.ways)
        # What the socket chose for itself nobody changed.
        or path.ways in ((), (path.device,))
        or any(interfaces.sends_nothing(each) for each in holders)
    ):
        return False
    if not holders:
        return None if path.is_local is None else False
    return True if path.whole else None


_JUDGES = {
    ADDRESS_GONE: _address_gone,
    UNROUTABLE: _unroutable,
    NO_CARRIER: _no_carrier,
    REROUTED: _rerouted,
}


def _answered(answer: RouteReply | None) -> str | None:
    """The kind of route that a look-up found, or the name of its errno."""
    if answer is None:
        return None
    if answer.errno:
        return errno.errorcode.get(answer.errno, str(answer.errno))
    return routes.KINDS.get(answer.kind, str(answer.kind))


def _of_address(path: Path, interfaces: Interfaces) -> dict[str, Any]:
    return {
        "address": address_text(path.local),
        "interface": interfaces.name(path.device) if path.device else None,
        "lookup": _answered(path.local_answer),
    }


def _of_route(path: Path, interfaces: Interfaces) -> dict[str, Any]:
    return {
        "remote": address_text(path.remote),
        "interface": interfaces.name(path.device) if path.device else None,
        "lookup": _answered(path.answer),
    }


def _of_egress(path: Path, interfaces: Interfaces) -> dict[str, Any]:
    ways = path.ways or ()
    return {
        "address": address_text(path.local),
        "held_by": interfaces.names(path.holders(interfaces)),
        "leaves_by": interfaces.names(set(ways)),
        "carrier": any(interfaces.has_carrier(way) for way in ways),
        "lookup": _answered(path.answer),
        "table": (path.answer.table or None) if path.answer else None,
    }


_EVIDENCE = {
    ADDRESS_GONE: _of_address,
    UNROUTABLE: _of_route,
    NO_CARRIER: _of_egress,
    REROUTED: _of_egress,
}
