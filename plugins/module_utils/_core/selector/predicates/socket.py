# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates on the fields of a socket: protocol, state, ports, device, mark and others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ... import values
from ...errors import Absent, InputError
from ...netlink import bytecode, constants, inet_diag
from ...sockets.needs import Need
from ...values import PORT_MAX, Path
from .. import kernel_filter
from ..kernel_filter import ACCEPT, REJECT, Condition, Filter
from ..tree import ALL_PROTOCOLS, FilterContext, Possible, Predicate

if TYPE_CHECKING:
    from ...sockets.snapshot import Snapshot
    from ...sockets.socket import Socket
    from ..tree import Bound

_TABLE = PORT_MAX + 1
# The kernel stores the index of an interface in an int.
_LAST_INDEX = 2**31 - 1

# States without counters and clocks. The kernel sends no struct tcp_info for their sockets, or one
# with the backlog of a listener (tcp_get_info, net/ipv4/tcp.c).
WITHOUT_INFO = frozenset(
    {
        constants.TIME_WAIT,
        constants.CLOSED,
        constants.LISTENING,
        constants.BOUND_INACTIVE,
    }
)
# Until the handshake is complete, last_data_sent, last_data_recv and last_ack_recv count from boot.
WITHOUT_CLOCKS = WITHOUT_INFO | {constants.SYN_SENT, constants.SYN_RECV}


def _constant(value: bool) -> tuple[Filter, Filter]:
    return (ACCEPT, REJECT) if value else (REJECT, ACCEPT)


class Constant(Predicate):
    """A constant, such as `dst *` of an expression."""

    restricts = False
    exact = True

    def __init__(self, path: Path, value: object, answer: bool) -> None:
        super().__init__(path, value)
        self.answer = answer

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        return self.answer

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        return self.answer, not self.answer

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:  # noqa: ARG002
        return _constant(self.answer)


class ProtocolIs(Predicate):
    """The socket has one of the protocols."""

    restricts = False
    exact = True

    def __init__(self, path: Path, value: object, protocols: Collection[str]) -> None:
        super().__init__(path, value)
        self.protocols = frozenset(protocols)

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        protocols = self.protocols
        if protocols == ALL_PROTOCOLS:
            return True
        return lambda sock: sock.protocol in protocols

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        return protocol in self.protocols, protocol not in self.protocols

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        return _constant(context.protocol in self.protocols)


class FamilyIs(Predicate):
    """The socket has one of the address families."""

    restricts = False
    exact = True

    def __init__(self, path: Path, value: object, families: Collection[str]) -> None:
        super().__init__(path, value)
        self.families = frozenset(families)

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        families = self.families
        if len(families) == len(constants.FAMILIES):
            return True
        return lambda sock: sock.family in families

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        return family in self.families, family not in self.families

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        return _constant(context.family in self.families)


class StateIs(Predicate):
    """The socket is in one of the states, numbered as in constants.STATES.

    Datagram and raw sockets are established with a remote end, and closed without one.
    """

    def __init__(self, path: Path, value: object, states: Collection[int]) -> None:
        super().__init__(path, value)
        self.states = frozenset(states)
        if not self.states & {constants.ESTABLISHED, constants.CLOSED}:
            self.applies_to = constants.STREAMS

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        states = self.states
        if states.issuperset(constants.STATES.values()):
            return True
        if states.isdisjoint((constants.CLOSED, constants.BOUND_INACTIVE)):
            # Only for these two states the kernel's number is not the final state.
            return lambda sock: sock.message.state in states
        return lambda sock: sock.state_number in states

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        return state in self.states, state not in self.states

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:  # noqa: ARG002
        # The dump request has a mask of states.
        return ACCEPT, ACCEPT


class PortIn(Predicate):
    """The local or the remote port is in one of the ranges (first, last)."""

    exact = True

    def __init__(
        self, path: Path, value: object, *, remote: bool, ranges: Iterable[tuple[int, int]]
    ) -> None:
        super().__init__(path, value)
        self.remote = remote
        self.ranges = values.merge_ranges(ranges)

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        table = bytearray(_TABLE)
        for first, last in self.ranges:
            table[first : last + 1] = b"\1" * (last + 1 - first)
        if self.remote:
            return lambda sock: table[sock.remote_port] == 1
        return lambda sock: table[sock.local_port] == 1

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        accepted = kernel_filter.any_of(
            self._range(first, last, context.exact_ops) for first, last in self.ranges
        )
        return accepted, kernel_filter.negation(accepted)

    def _range(self, first: int, last: int, exact: bool) -> Filter:
        if first == last:
            equal = bytecode.dport_eq if self.remote else bytecode.sport_eq
            return Condition(equal(first, exact=exact))
        above = bytecode.dport_ge if self.remote else bytecode.sport_ge
        below = bytecode.dport_le if self.remote else bytecode.sport_le
        parts: list[Filter] = []
        if first > 0:
            parts.append(Condition(above(first)))
        if last < PORT_MAX:
            parts.append(Condition(below(last)))
        return kernel_filter.all_of(parts)


class Autobound(Predicate):
    """The kernel chose the local port: `autobound` of ss(8), evaluated as ss does.

    Only a kernel filter has this information (SOCK_BINDPORT_LOCK). In addition ss requires the port
    to be in ip_local_port_range. A socket for which the two differ is neither true nor false.
    """

    exact = True

    def bind(self, snapshot: Snapshot) -> Bound:
        ports = snapshot.local_port_range
        if ports is None:
            return None
        first, last = ports
        return lambda sock: first <= sock.local_port <= last

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:  # noqa: ARG002
        chosen = Condition(bytecode.auto())
        return chosen, kernel_filter.negation(chosen)


UNKNOWN_INTERFACE = "unknown interface"
# How many existing interfaces a warning lists.
_MAX_INTERFACES = 20


def absent_interface(path: Path, name: str, snapshot: Snapshot) -> Absent:
    """The warning that an interface does not exist."""
    existing = sorted(link.name for link in snapshot.links)
    more = len(existing) - _MAX_INTERFACES
    listed = ", ".join(existing[:_MAX_INTERFACES]) or "none"
    return Absent(
        tuple(path),
        name,
        UNKNOWN_INTERFACE,
        f"existing: {listed}{f' and {more} more' if more > 0 else ''}",
    )


class DeviceIs(Predicate):
    """The socket is bound to one of the interfaces.

    Unknown instead of false if one of the names belongs to no interface.
    numeric: a number that is not the name of an interface is its index, as in ss(8).
    """

    exact = True
    needs = frozenset({Need.LINKS})

    def __init__(
        self, path: Path, value: object, names: Collection[str], *, numeric: bool = False
    ) -> None:
        super().__init__(path, value)
        self.names = tuple(names)
        self.numeric = numeric

    def _resolved(self, snapshot: Snapshot) -> tuple[frozenset[int], bool]:
        """The indexes, and whether every name has one."""
        indexes = [self._index(name, snapshot) for name in self.names]
        for name, index in zip(self.names, indexes):
            if index is None and ":" in name and not self.numeric:
                # Only alternative names contain colons.
                interface = name.partition(":")[0]
                raise InputError(
                    self.path,
                    name,
                    "no interface has this name; it can only be the label of an address",
                    f"the name of an interface, such as {interface}",
                )
        return frozenset(index for index in indexes if index is not None), None not in indexes

    def _index(self, name: str, snapshot: Snapshot) -> int | None:
        index = snapshot.interface_index(name)
        if index is None and self.numeric and name.isdigit() and name.isascii():
            # int() raises ValueError for thousands of digits.
            return int(name) if len(name) <= 10 and int(name) <= _LAST_INDEX else None
        return index

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        for name in self.names:
            if self._index(name, snapshot) is None:
                yield absent_interface(self.path, name, snapshot)

    def bind(self, snapshot: Snapshot) -> Bound:
        indexes, whole = self._resolved(snapshot)
        if not indexes:
            return None
        otherwise = False if whole else None
        return lambda sock: True if sock.ifindex in indexes else otherwise

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        indexes, whole = self._resolved(context.snapshot)
        accepted = kernel_filter.any_of(
            Condition(bytecode.device(index)) for index in sorted(indexes)
        )
        return accepted, kernel_filter.negation(accepted) if whole else REJECT


class MarkIs(Predicate):
    """The mark matches one of the pairs (value, mask).

    The kernel reports marks, and accepts filters on them, only with CAP_NET_ADMIN. The comparison
    is therefore done here.
    """

    cost = 1

    def __init__(self, path: Path, value: object, pairs: Collection[tuple[int, int]]) -> None:
        super().__init__(path, value)
        self.pairs = tuple(pairs)

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        pairs = self.pairs

        def test(sock: Socket) -> bool | None:
            mark = sock.mark
            if mark is None:
                return None
            return any(mark & mask == value for value, mask in pairs)

        return test


class IdleFor(Predicate):
    """No data in either direction for at least min_ms milliseconds."""

    applies_to = frozenset({"tcp"})
    extensions = (inet_diag.INFO,)
    cost = 2

    def __init__(self, path: Path, value: object, min_ms: int) -> None:
        super().__init__(path, value)
        self.min_ms = min_ms

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        min_ms = self.min_ms

        def test(sock: Socket) -> bool | None:
            idle = sock.idle_ms
            return None if idle is None else idle >= min_ms

        return test

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.applies_to and state not in WITHOUT_CLOCKS
        return known, known


class CongestionIs(Predicate):
    """The congestion control algorithm has one of the names."""

    applies_to = constants.STREAMS
    extensions = (inet_diag.CONG,)
    cost = 1

    def __init__(self, path: Path, value: object, names: Collection[str]) -> None:
        super().__init__(path, value)
        self.names = frozenset(names)

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        names = self.names

        def test(sock: Socket) -> bool | None:
            congestion = sock.congestion
            return None if congestion is None else congestion in names

        return test


# scan_state(), misc/ss.c of iproute2.
_ALIASES = {
    "close": constants.CLOSED,
    "unconnected": constants.CLOSED,
    "syn-rcv": constants.SYN_RECV,
}
STATES_BY_NAME = {
    **{name: frozenset({number}) for name, number in constants.STATES.items()},
    **{name: frozenset({number}) for name, number in _ALIASES.items()},
    **constants.GROUPS,
}
# As ss, netstat and the kernel print them.
STATE_ALIASES = {
    "estab": "established",
    "listen": "listening",
    "unconn": "unconnected",
    "fin-wait1": "fin-wait-1",
    "fin-wait2": "fin-wait-2",
    **{f"tcp-{name}": name for name in constants.STATES},
}
_STATE_HINTS = {
    **dict.fromkeys(("any", "*"), "all"),
    **dict.fromkeys(("up", "open", "active"), "connected, or established"),
}


def parse_state(value: object, path: Path) -> frozenset[int]:
    """Return the states of a name, an alias or a group of ss(8). Raises InputError."""
    return STATES_BY_NAME[
        values.choice(
            value, path, STATES_BY_NAME, "state", aliases=STATE_ALIASES, hints=_STATE_HINTS
        )
    ]
