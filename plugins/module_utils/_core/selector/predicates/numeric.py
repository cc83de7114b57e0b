# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: keys that compare a number: `">0"`, `">= 3"`, `"> 200ms <5s"`."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from ... import values
from ...errors import InputError
from ...netlink import constants, inet_diag
from ...values import Path
from ..tree import ALL_PROTOCOLS, Possible, Predicate
from .socket import WITHOUT_CLOCKS, WITHOUT_INFO

if TYPE_CHECKING:
    from ...sockets.snapshot import Snapshot
    from ...sockets.socket import Socket
    from ..tree import Bound

_TERM = re.compile(r"\s*(>=|<=|==|!=|>|<|=)?\s*([^\s<>=!]+)\s*")
_TCP = frozenset({"tcp"})


class Quantity(NamedTuple):
    """What is compared.

    field: a property of Subject, or with info a field of struct tcp_info. unit: how values are
    written, and what scale turns the kernel's number into (durations: microseconds).
    protocols: where it has a meaning; stateless: states in which it has none.
    never: numbers by which the kernel says that it has not measured; unless: another field of which
    a zero says so.
    """

    field: str
    unit: str
    protocols: frozenset[str] = _TCP
    stateless: frozenset[int] = WITHOUT_INFO
    info: bool = True
    scale: int = 1
    never: tuple[int, ...] = ()
    unless: str | None = None


_LISTENING = frozenset({constants.LISTENING})
_UNMEASURED = 2**32 - 1

QUANTITIES = {
    "send_queue": Quantity("send_queue", "size", ALL_PROTOCOLS, _LISTENING, info=False),
    "recv_queue": Quantity("recv_queue", "size", ALL_PROTOCOLS, _LISTENING, info=False),
    "retransmits": Quantity("retransmits", "count", constants.STREAMS, frozenset(), info=False),
    "total_retransmits": Quantity("total_retrans", "count"),
    "unacked": Quantity("unacked", "count"),
    "lost": Quantity("lost", "count"),
    "backoff": Quantity("backoff", "count"),
    "probes": Quantity("probes", "count"),
    "cwnd": Quantity("snd_cwnd", "count"),
    "notsent": Quantity("notsent_bytes", "size"),
    "bytes_sent": Quantity("bytes_sent", "size"),
    "bytes_acked": Quantity("bytes_acked", "size"),
    "bytes_received": Quantity("bytes_received", "size"),
    "rtt": Quantity("rtt", "duration", never=(0,)),
    "rttvar": Quantity("rttvar", "duration", unless="rtt"),
    "min_rtt": Quantity("min_rtt", "duration", never=(0, _UNMEASURED)),
    "rto": Quantity("rto", "duration"),
    "last_sent": Quantity("last_data_sent", "duration", stateless=WITHOUT_CLOCKS, scale=1000),
    "last_received": Quantity("last_data_recv", "duration", stateless=WITHOUT_CLOCKS, scale=1000),
    "last_ack": Quantity("last_ack_recv", "duration", stateless=WITHOUT_CLOCKS, scale=1000),
}

_UNITS: dict[str, tuple[Callable[[object, Path], int], str]] = {
    "count": (values.integer, values.COUNT),
    "size": (values.parse_size, values.SIZE),
    "duration": (values.parse_duration_us, values.DURATION),
}


class Bounds(NamedTuple):
    """The numbers from low to high, but for some."""

    low: int
    high: float
    but: frozenset[int]


class Compares(Predicate):
    """A number of the kernel's lies within the bounds."""

    cost = 2

    def __init__(self, path: Path, value: object, quantity: Quantity, bounds: Bounds) -> None:
        super().__init__(path, value)
        self.quantity = quantity
        self.bounds = bounds
        self.meaning = quantity.protocols
        if quantity.info:
            self.needs = frozenset({"info"})
            self.extensions = (inet_diag.INFO,)
        else:
            self.cost = 0

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.meaning and state not in self.quantity.stateless
        return known, known

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        read = _from_info(self.quantity) if self.quantity.info else _from_subject(self.quantity)
        low, high, but = self.bounds
        protocols, stateless = self.meaning, self.quantity.stateless

        def test(sock: Socket) -> bool | None:
            if sock.protocol not in protocols or sock.state_number in stateless:
                return None
            number = read(sock)
            if number is None:
                return None
            return low <= number <= high and number not in but

        return test


def _from_subject(quantity: Quantity) -> Callable[[Socket], int | None]:
    return attrgetter(quantity.field)


def _from_info(quantity: Quantity) -> Callable[[Socket], int | None]:
    field, _unit, _protocols, _stateless, _info, scale, never, unless = quantity

    def read(sock: Socket) -> int | None:
        info = sock.tcp_info
        if info is None or (unless is not None and not info.get(unless)):
            return None
        number = info.get(field)
        return None if number is None or number in never else number * scale

    return read


def parse(name: str, value: object, path: Path) -> Compares:
    """A comparison under the key of that name."""
    quantity = QUANTITIES[name]
    parse_number, what = _UNITS[quantity.unit]
    allowed = (
        f'comparisons that all hold, such as ">0" or ">= 3 < 10"; each is one of > >= < <= = != '
        f"and {what}"
    )
    if not isinstance(value, str):
        number = parse_number(value, path)
        return Compares(path, value, quantity, Bounds(number, number, frozenset()))
    written = values.text(value, path, allowed)
    low, high, but = 0, float("inf"), set()
    position = 0
    while position < len(written):
        term = _TERM.match(written, position)
        if term is None or (term[1] is None and term[0] != written):
            raise InputError(path, value, "cannot be read as comparisons", allowed)
        try:
            number = parse_number(term[2], path)
        except InputError as error:
            problem = f"compares with {term[2]}: {error.problem}"
            raise InputError(path, value, problem, allowed) from error
        operator = term[1] or "="
        if operator == "!=":
            but.add(number)
        if operator in (">=", "=", "=="):
            low = max(low, number)
        if operator in ("<=", "=", "=="):
            high = min(high, number)
        if operator == ">":
            low = max(low, number + 1)
        if operator == "<":
            high = min(high, number - 1)
        position = term.end()
    if low > high or (low == high and low in but):
        raise InputError(path, value, "holds for no number", allowed)
    return Compares(path, value, quantity, Bounds(low, high, frozenset(but)))
