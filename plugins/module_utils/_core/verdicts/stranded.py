# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Why the network of a connection is gone: the `stranded` verdicts and their evidence.

Sockets with equal addresses and flow fields share one NetworkPath. RouteState fills it with the
kernel's answers; this module evaluates it without kernel calls.
"""

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

# Each verdict, with its meaning for users.
STRANDED = {
    ADDRESS_GONE: "no interface has the local address, and no local route covers it",
    UNROUTABLE: "no route leads to the peer",
    NO_CARRIER: "the link through which its packets leave has no carrier",
    REROUTED: "its packets leave through another interface than the one that has its local address",
}


class NetworkPath:
    """The path between two addresses, shared by many sockets.

    local, remote: addresses of 4 or 16 bytes. device: index of the bound interface; 0: none.
    not_applicable: an end is not the address of one host, so every verdict is unknown.
    is_local: whether the local address belongs to this host; None: unknown.
    local_reply: the route look-up of the local address; None: not needed.
    unroutable: whether no route leads to the peer; None: unknown.
    reply: the route look-up of the remote address; None: not made.
    egress: indexes of the interfaces through which packets may leave. Empty: packets stay on this
    host or are rejected. None: unknown.
    marked_later: the packet filter may change the mark, and thus the route, after the look-up.
    egress_complete: egress lists all interfaces, not only the one that a multipath hash selected.
    """

    __slots__ = (
        "_evaluated",
        "device",
        "egress",
        "egress_complete",
        "is_local",
        "local",
        "local_reply",
        "marked_later",
        "not_applicable",
        "remote",
        "reply",
        "unroutable",
    )

    def __init__(self, local: bytes, remote: bytes, device: int) -> None:
        self.local = local
        self.remote = remote
        self.device = device
        self.not_applicable = False
        self.is_local: bool | None = None
        self.local_reply: RouteReply | None = None
        self.unroutable: bool | None = None
        self.reply: RouteReply | None = None
        self.egress: tuple[int, ...] | None = None
        self.egress_complete = False
        self.marked_later = False
        self._evaluated: dict[str, bool | None] = {}

    def local_interfaces(self, interfaces: Interfaces) -> frozenset[int]:
        """The interfaces that have the local address; for a link-local address, of its link."""
        return interfaces.with_address(self.local, self.device if is_link_local(self.local) else 0)

    def evaluate(self, name: str, interfaces: Interfaces) -> bool | None:
        """Evaluate one verdict (a key of STRANDED). None: unknown.

        Assumes that the socket may send only from addresses of this host.
        """
        if name not in self._evaluated:
            self._evaluated[name] = (
                None if self.not_applicable else _EVALUATORS[name](self, interfaces)
            )
        return self._evaluated[name]

    def evidence(self, name: str, interfaces: Interfaces) -> dict[str, Any]:
        return _EVIDENCE[name](self, interfaces)

    def verdicts(self, interfaces: Interfaces) -> list[Verdict] | None:
        """Return the verdicts that are true. None: none is true, and at least one is unknown."""
        values = {name: self.evaluate(name, interfaces) for name in STRANDED}
        found = [
            Verdict(name, None, self.evidence(name, interfaces))
            for name, value in values.items()
            if value
        ]
        return None if not found and None in values.values() else found

    def invalidate(self) -> None:
        """Drop cached verdicts after the interfaces were dumped again."""
        self._evaluated.clear()


def is_link_local(address: bytes) -> bool:
    """Whether an address is in fe80::/10, which identifies a host only together with a link."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _address_gone(path: NetworkPath, interfaces: Interfaces) -> bool | None:
    if path.local_interfaces(interfaces):
        return False
    return None if path.is_local is None else not path.is_local


def _unroutable(path: NetworkPath, _interfaces: Interfaces) -> bool | None:
    return path.unroutable


def _may_leave_elsewhere(path: NetworkPath) -> bool:
    """Whether the packet filter may route packets through an interface that is not in egress."""
    return path.marked_later and path.egress != (path.device,)


def _no_carrier(path: NetworkPath, interfaces: Interfaces) -> bool | None:
    if path.egress is None:
        return None
    carriers = {interfaces.has_carrier(index) for index in path.egress}
    if not carriers:
        return False
    if _may_leave_elsewhere(path):
        return None
    if True in carriers:
        return False
    return True if path.egress_complete and carriers == {False} else None


def _rerouted(path: NetworkPath, interfaces: Interfaces) -> bool | None:
    if path.egress is None:
        return None
    owners = path.local_interfaces(interfaces)
    if path.egress and owners and _may_leave_elsewhere(path):
        return None
    if (
        not owners.isdisjoint(path.egress)
        # Packets stay on this host, or leave through the interface that the socket is bound to.
        or path.egress in ((), (path.device,))
        or any(interfaces.never_transmits(index) for index in owners)
    ):
        return False
    if not owners:
        return None if path.is_local is None else False
    return True if path.egress_complete else None


_EVALUATORS = {
    ADDRESS_GONE: _address_gone,
    UNROUTABLE: _unroutable,
    NO_CARRIER: _no_carrier,
    REROUTED: _rerouted,
}


def _lookup_result(reply: RouteReply | None) -> str | None:
    """The type of the route that a look-up found, or the name of its errno."""
    if reply is None:
        return None
    if reply.errno:
        return errno.errorcode.get(reply.errno, str(reply.errno))
    return routes.KINDS.get(reply.kind, str(reply.kind))


def _address_evidence(path: NetworkPath, interfaces: Interfaces) -> dict[str, Any]:
    return {
        "address": address_text(path.local),
        "interface": interfaces.name(path.device) if path.device else None,
        "lookup": _lookup_result(path.local_reply),
    }


def _route_evidence(path: NetworkPath, interfaces: Interfaces) -> dict[str, Any]:
    return {
        "remote": address_text(path.remote),
        "interface": interfaces.name(path.device) if path.device else None,
        "lookup": _lookup_result(path.reply),
    }


def _egress_evidence(path: NetworkPath, interfaces: Interfaces) -> dict[str, Any]:
    egress = path.egress or ()
    return {
        "address": address_text(path.local),
        "held_by": interfaces.names(path.local_interfaces(interfaces)),
        "leaves_by": interfaces.names(set(egress)),
        "carrier": any(interfaces.has_carrier(index) for index in egress),
        "lookup": _lookup_result(path.reply),
        "table": (path.reply.table or None) if path.reply else None,
    }


_EVIDENCE = {
    ADDRESS_GONE: _address_evidence,
    UNROUTABLE: _route_evidence,
    NO_CARRIER: _egress_evidence,
    REROUTED: _egress_evidence,
}
