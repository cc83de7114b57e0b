# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates that compare a number: `">0"`, `">= 3"`, `"> 200ms <5s"`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
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

_TERM = re.compile(r"\s*(>=|<=|==|!=|>|<|=)?\s*([^\s<>=!]+(?:\s+[a-zA-Z]+)?)\s*")
_TCP = frozenset({"tcp"})


class Quantity(NamedTuple):
    """A number of a socket that a key compares.

    field: a property of Socket, or with info a field of struct tcp_info.
    unit: count, size (bytes) or duration (microseconds). scale converts the kernel's number to it.
    description: one sentence for users.
    protocols: the protocols that have the number. stateless: the states that do not have it.
    unmeasured: values that mean "not measured". unless: a field whose zero means the same.
    """

    field: str
    unit: str
    description: str
    protocols: frozenset[str] = _TCP
    stateless: frozenset[int] = WITHOUT_INFO
    info: bool = True
    scale: int = 1
    unmeasured: tuple[int, ...] = ()
    unless: str | None = None


_LISTENING = frozenset({constants.LISTENING})
# tcp_min_rtt() before the first sample (minmax_reset, net/ipv4/tcp.c).
_UNMEASURED = 2**32 - 1

QUANTITIES = {
    "send_queue": Quantity(
        "send_queue",
        "size",
        "Bytes not yet sent or acknowledged.",
        ALL_PROTOCOLS,
        _LISTENING,
        info=False,
    ),
    "recv_queue": Quantity(
        "recv_queue",
        "size",
        "Bytes that the application has not read yet.",
        ALL_PROTOCOLS,
        _LISTENING,
        info=False,
    ),
    "retransmits": Quantity(
        "retransmits",
        "count",
        "How often the current timer expired without an answer.",
        constants.STREAMS,
        frozenset(),
        info=False,
    ),
    "total_retransmits": Quantity(
        "total_retrans", "count", "Segments retransmitted over the lifetime of the connection."
    ),
    "unacked": Quantity("unacked", "count", "Segments in flight."),
    "lost": Quantity("lost", "count", "Segments considered lost."),
    "backoff": Quantity("backoff", "count", "How often the retransmission timeout was doubled."),
    "probes": Quantity("probes", "count", "Unanswered window or keepalive probes."),
    "cwnd": Quantity("snd_cwnd", "count", "The congestion window in segments."),
    "notsent": Quantity(
        "notsent_bytes", "size", "Bytes that the application wrote and TCP has not sent yet."
    ),
    "bytes_sent": Quantity("bytes_sent", "size", "Bytes sent over the lifetime of the connection."),
    "bytes_acked": Quantity(
        "bytes_acked", "size", "Bytes acknowledged over the lifetime of the connection."
    ),
    "bytes_received": Quantity(
        "bytes_received", "size", "Bytes received over the lifetime of the connection."
    ),
    "rtt": Quantity("rtt", "duration", "The round-trip time.", unmeasured=(0,)),
    "rttvar": Quantity("rttvar", "duration", "The variation of the round-trip time.", unless="rtt"),
    "min_rtt": Quantity(
        "min_rtt",
        "duration",
        "The minimum round-trip time.",
        unmeasured=(0, _UNMEASURED),
    ),
    "rto": Quantity("rto", "duration", "The retransmission timeout."),
    "last_sent": Quantity(
        "last_data_sent",
        "duration",
        "Time since data was sent.",
        stateless=WITHOUT_CLOCKS,
        scale=1000,
    ),
    "last_received": Quantity(
        "last_data_recv",
        "duration",
        "Time since data was received.",
        stateless=WITHOUT_CLOCKS,
        scale=1000,
    ),
    "last_ack": Quantity(
        "last_ack_recv",
        "duration",
        "Time since an acknowledgement was received.",
        stateless=WITHOUT_CLOCKS,
        scale=1000,
    ),
}

_UNITS: dict[str, tuple[Callable[[object, Path], int], str]] = {
    "count": (values.integer, values.COUNT),
    "size": (values.parse_size, values.SIZE),
    "duration": (values.parse_duration_us, values.DURATION),
}


class Bounds(NamedTuple):
    """The numbers from low to high, except the excluded ones."""

    low: int
    high: float
    excluded: frozenset[int]


class Compares(Predicate):
    """The number lies within the bounds."""

    cost = 2

    def __init__(self, path: Path, value: object, quantity: Quantity, bounds: Bounds) -> None:
        super().__init__(path, value)
        self.quantity = quantity
        self.bounds = bounds
        self.applies_to = quantity.protocols
        if quantity.info:
            self.extensions = (inet_diag.INFO,)
        else:
            self.cost = 0

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.applies_to and state not in self.quantity.stateless
        return known, known

    def bind(self, snapshot: Snapshot) -> Bound:  # noqa: ARG002
        read = _from_info(self.quantity) if self.quantity.info else _from_socket(self.quantity)
        low, high, excluded = self.bounds
        protocols, stateless = self.applies_to, self.quantity.stateless

        def test(sock: Socket) -> bool | None:
            if sock.protocol not in protocols or sock.state_number in stateless:
                return None
            number = read(sock)
            if number is None:
                return None
            return low <= number <= high and number not in excluded

        return test


def _from_socket(quantity: Quantity) -> Callable[[Socket], int | None]:
    return attrgetter(quantity.field)


def _from_info(quantity: Quantity) -> Callable[[Socket], int | None]:
    field, scale, unmeasured = quantity.field, quantity.scale, quantity.unmeasured
    unless = quantity.unless

    def read(sock: Socket) -> int | None:
        info = sock.tcp_info
        if info is None or (unless is not None and not info.get(unless)):
            return None
        number = info.get(field)
        return None if number is None or number in unmeasured else number * scale

    return read


def _hint(written: str, parse_number: Callable[[object, Path], int], path: Path) -> str | None:
    """For comparisons with commas between them, and for a range."""
    if re.search(r"[<>=]\s*[^\s,]+\s*(?:,|;|and)\s*[<>=!]", written):
        joined = re.sub(r"\s*(?:,|;|and)\s*", " ", written)
        return f'"{joined}"'
    found = re.fullmatch(r"\s*([\w.]+?)\s*(?:\.\.+|-|:)\s*([\w.]+)\s*", written)
    if found is None:
        return None
    with suppress(InputError):
        for number in found.groups():
            parse_number(number, path)
        return f'">={found[1]} <={found[2]}"'
    return None


def parse(name: str, value: object, path: Path) -> Compares:
    """Parse the value of a numeric key.

    name: the key. value: a number, or comparisons in one string. Raises InputError.
    """
    quantity = QUANTITIES[name]
    parse_number, unit = _UNITS[quantity.unit]
    allowed = (
        f'comparisons that all hold, such as ">0" or ">= 3 < 10"; each is one of > >= < <= = != '
        f"and {unit}"
    )
    if not isinstance(value, str):
        number = parse_number(value, path)
        return Compares(path, value, quantity, Bounds(number, number, frozenset()))
    written = values.text(value, path, allowed)
    low, high, excluded = 0, float("inf"), set()
    position = 0
    while position < len(written):
        term = _TERM.match(written, position)
        if term is None or (term[1] is None and term[0] != written):
            hint = _hint(written, parse_number, path) or allowed
            raise InputError(path, value, "cannot be read as comparisons", hint)
        try:
            number = parse_number(term[2], path)
        except InputError as error:
            problem = f"compares with {term[2]}: {error.problem}"
            general = allowed if error.allowed == unit else error.allowed
            hint = _hint(written, parse_number, path) or general
            raise InputError(path, value, problem, hint) from error
        operator = term[1] or "="
        if operator == "!=":
            excluded.add(number)
        if operator in (">=", "=", "=="):
            low = max(low, number)
        if operator in ("<=", "=", "=="):
            high = min(high, number)
        if operator == ">":
            low = max(low, number + 1)
        if operator == "<":
            high = min(high, number - 1)
        position = term.end()
    if low > high or (low == high and low in excluded):
        raise InputError(path, value, "holds for no number", allowed)
    return Compares(path, value, quantity, Bounds(low, high, frozenset(excluded)))
