# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Why a TCP connection makes no progress: the `stuck` verdicts and their evidence.

Each verdict is derived from the state and the timer of a socket. Its duration is a lower bound.
Each segment that passes tcp_ack() resets last_ack_recv. A connection enters CLOSE_WAIT or FIN_WAIT2
by such a segment, so it has been in that state at least as long as last_ack_recv. The time of
close() is not available: the bound of a closing connection is the time since the peer last
acknowledged anything, which may have begun earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ..netlink import constants
from ..sockets.socket import Socket
from .tcp_timers import (
    PROBES_PROVE_MS,
    RTO_MAX_MS,
    Info,
    connecting_ms,
    nothing_received_ms,
    probing_ms,
    retransmitting_ms,
    shrunk_window_ms,
)
from .verdict import Verdict, requested_for_ms

# idiag_timer, net/ipv4/inet_diag.c inet_sk_diag_fill
_NONE, _RETRANSMISSION, _PERSIST = 0, 1, 4
# A closed connection, also in FIN_WAIT2: the kernel ends it within tcp_fin_timeout.
_TIME_WAIT = 3

SILENT = "silent"

_OPEN = frozenset({constants.ESTABLISHED, constants.CLOSE_WAIT})
_FIN_UNACKNOWLEDGED = frozenset({constants.FIN_WAIT_1, constants.CLOSING, constants.LAST_ACK})
_CLOSING = _FIN_UNACKNOWLEDGED | {constants.FIN_WAIT_2}
_SENDING = _OPEN | _FIN_UNACKNOWLEDGED

# Lower bound in milliseconds; False: the verdict is not true; None: unknown.
_LowerBound = Callable[[Socket, Info], "int | bool | None"]


class _Definition(NamedTuple):
    """A verdict.

    meaning: a phrase for users. states: TCP states in which it can be true. lower_bound: how long
    it has been true. evidence: names of the reported numbers. for_ms: its default minimum duration.
    """

    meaning: str
    states: frozenset[int]
    lower_bound: _LowerBound
    evidence: tuple[str, ...]
    for_ms: int


def _zero_window(sock: Socket, info: Info) -> int | bool:
    if info["snd_wnd"]:
        # The persist timer also runs if this host could not send a segment.
        return False
    if sock.message.timer == _PERSIST:
        return _probing(sock, info)
    if sock.message.timer == _RETRANSMISSION and info["backoff"]:
        return shrunk_window_ms(info)
    return False


def _probing(sock: Socket, info: Info) -> int:
    rto_max_ms = sock.snapshot.rto_max_ms
    return probing_ms(info, RTO_MAX_MS if rto_max_ms is None else rto_max_ms)


def _retransmitting(sock: Socket, info: Info) -> int | bool:
    if sock.message.timer != _RETRANSMISSION or not info["retransmits"]:
        return False
    return retransmitting_ms(info, data=_has_data(sock))


def _has_data(sock: Socket) -> bool:
    """Whether more than a FIN, which counts as one byte, is in flight."""
    return sock.message.state in _OPEN or sock.send_queue > 1


def _silent(sock: Socket, info: Info) -> int | bool:
    return nothing_received_ms(info) if sock.message.timer == _NONE else False


def _close_wait(sock: Socket, info: Info) -> int:  # noqa: ARG001
    return nothing_received_ms(info)


def _fin_wait(sock: Socket, info: Info) -> int | bool:
    timer = sock.message.timer
    if sock.message.state == constants.FIN_WAIT_2:
        return nothing_received_ms(info)
    if timer == _PERSIST:
        return _probing(sock, info)
    return retransmitting_ms(info, data=_has_data(sock)) if timer == _RETRANSMISSION else 0


def _syn_sent(sock: Socket, info: Info) -> int:
    return connecting_ms(info) if sock.message.timer == _RETRANSMISSION else 0


def _orphaned(sock: Socket, info: Info) -> int | bool | None:
    if sock.inode:
        return False
    if sock.ulp == "mptcp":
        # The MPTCP connection has the owner, and some kernels give a subflow no inode.
        return None
    return _fin_wait(sock, info)


_BACKOFF = ("backoff", "rto_ms", "next_try_ms")
_CLOCKS = ("last_received_ms", "last_ack_ms")

_DEFINITIONS: dict[str, _Definition] = {
    "zero_window": _Definition(
        "the peer's receive window is zero: it acknowledges, but its application does not read",
        _SENDING,
        _zero_window,
        (
            "send_queue_bytes",
            "unsent_bytes",
            "peer_window_bytes",
            "probes",
            *_BACKOFF,
            "last_ack_ms",
            "last_sent_ms",
            "window_limited_ms",
        ),
        # A reader normally opens its window within a few round trips, and within seconds while it
        # waits for a disk or for garbage collection. Each opening restarts the count.
        10_000,
    ),
    "retransmitting": _Definition(
        "sent data is not acknowledged, and the retransmission timer backs off",
        _SENDING,
        _retransmitting,
        (
            "send_queue_bytes",
            "unacknowledged_segments",
            "retransmits",
            *_BACKOFF,
            *_CLOCKS,
            "timeouts_ms",
        ),
        # Five or six retransmissions on a short path. Route convergence and radio roaming mostly
        # end earlier; TCP itself retries for about a quarter of an hour.
        10_000,
    ),
    SILENT: _Definition(
        "nothing was received for a long time, and no timer runs that would detect a dead peer",
        frozenset({constants.ESTABLISHED}),
        _silent,
        (*_CLOCKS, "last_sent_ms"),
        # The keepalive time (tcp_keepalive_time, RFC 9293), and the time for which address
        # translators keep an idle connection (RFC 5382).
        7_200_000,
    ),
    "close_wait": _Definition(
        "the peer has closed the connection, and the local application has not",
        frozenset({constants.CLOSE_WAIT}),
        _close_wait,
        ("recv_queue_bytes", "send_queue_bytes", *_CLOCKS),
        # A peer drops a closed connection after a minute (tcp_fin_timeout). A peer that still
        # receives data acknowledges it, which restarts the count.
        60_000,
    ),
    "fin_wait": _Definition(
        "closing does not finish: data or a FIN is not acknowledged, or the peer does not close",
        _CLOSING,
        _fin_wait,
        (
            "send_queue_bytes",
            "unsent_bytes",
            "peer_window_bytes",
            "retransmits",
            "probes",
            *_BACKOFF,
            *_CLOCKS,
        ),
        # The kernel's own limit for a connection without an owner (tcp_fin_timeout).
        60_000,
    ),
    "syn_sent": _Definition(
        "the connection request is not answered",
        frozenset({constants.SYN_SENT}),
        _syn_sent,
        ("retransmits", *_BACKOFF, "timeouts_ms"),
        # At least three requests were sent, at 0, 1 and 3 s; some hosts answer only the second.
        10_000,
    ),
    "orphaned": _Definition(
        "no process owns the socket: it was closed, and the kernel has not finished closing",
        # In other states a socket without an inode waits in a listener's accept queue.
        _CLOSING,
        _orphaned,
        (
            "send_queue_bytes",
            "recv_queue_bytes",
            "unsent_bytes",
            "peer_window_bytes",
            "retransmits",
            "probes",
            *_BACKOFF,
            *_CLOCKS,
        ),
        # The kernel's own limit for a connection without an owner (tcp_fin_timeout).
        60_000,
    ),
}

# Each verdict, with its meaning for users.
STUCK: Mapping[str, str] = {name: definition.meaning for name, definition in _DEFINITIONS.items()}
# The default minimum duration of each verdict in milliseconds.
DEFAULT_FOR_MS: Mapping[str, int] = {
    name: definition.for_ms for name, definition in _DEFINITIONS.items()
}
# The states in which each verdict can be true, numbered as in constants.STATES.
STATES: Mapping[str, frozenset[int]] = {
    name: definition.states for name, definition in _DEFINITIONS.items()
}
# The longest lower bound of the verdicts that have a limit.
PROVABLE_MS: Mapping[str, int] = {"zero_window": PROBES_PROVE_MS}


def evaluate(sock: Socket, name: str, for_ms: int | None = None) -> bool | None:
    """Evaluate one verdict (a key of STUCK). None: unknown, or not a TCP socket.

    for_ms: its minimum duration; None: the default of the verdict; 0: whether it is true now. The
    dump must have requested INFO.
    """
    definition = _DEFINITIONS[name]
    if sock.protocol != "tcp":
        return None
    if sock.message.state not in definition.states or sock.message.timer == _TIME_WAIT:
        return False
    bound = _lower_bound(definition, sock)
    if bound is None or bound is False:
        return bound
    return bound >= (definition.for_ms if for_ms is None else for_ms)


def verdicts(sock: Socket) -> list[Verdict] | None:
    """Return the verdicts that have been true for their minimum duration. None: unknown.

    The minimum is the default or a shorter one that a selector requested, so that a socket selected
    by a verdict also reports it.
    """
    message = sock.message
    if message.protocol != "tcp":
        return None
    found: list[Verdict] = []
    requested = requested_for_ms(sock.snapshot)
    if message.timer == _TIME_WAIT:
        return found
    for name in _BY_STATE.get(message.state, ()):
        definition = _DEFINITIONS[name]
        bound = _lower_bound(definition, sock)
        if bound is None and not sock.tcp_info:
            return None
        if bound is None or bound is False:
            continue
        if bound >= requested.get(name, definition.for_ms):
            found.append(Verdict(name, bound, _numbers(sock, definition.evidence)))
    return found


_BY_STATE: Mapping[int, tuple[str, ...]] = {
    state: tuple(name for name, definition in _DEFINITIONS.items() if state in definition.states)
    for state in constants.STATES.values()
}


def _lower_bound(definition: _Definition, sock: Socket) -> int | bool | None:
    """As _LowerBound. Unknown if the kernel does not report a field that is needed."""
    info = sock.tcp_info
    if info is None:
        return None
    try:
        return definition.lower_bound(sock, info)
    except KeyError:
        return None


# Evidence from struct tcp_info: the field, and the divisor that converts it to the unit.
_FROM_INFO: Mapping[str, tuple[str, int]] = {
    "retransmits": ("retransmits", 1),
    "probes": ("probes", 1),
    "backoff": ("backoff", 1),
    "rto_ms": ("rto", 1000),
    "unacknowledged_segments": ("unacked", 1),
    "unsent_bytes": ("notsent_bytes", 1),
    "peer_window_bytes": ("snd_wnd", 1),
    "last_received_ms": ("last_data_recv", 1),
    "last_ack_ms": ("last_ack_recv", 1),
    "last_sent_ms": ("last_data_sent", 1),
    "window_limited_ms": ("rwnd_limited", 1000),
    "timeouts_ms": ("total_rto_time", 1),
}
_FROM_SOCK: Mapping[str, str] = {
    "send_queue_bytes": "wqueue",
    "recv_queue_bytes": "rqueue",
    "next_try_ms": "expires",
}


def _numbers(sock: Socket, names: Iterable[str]) -> dict[str, int]:
    """The numbers of that name that the kernel reported."""
    info = sock.tcp_info or {}
    numbers: dict[str, int] = {}
    for name in names:
        if name in _FROM_SOCK:
            numbers[name] = getattr(sock.message, _FROM_SOCK[name])
        else:
            field, divisor = _FROM_INFO[name]
            if field in info:
                numbers[name] = info[field] // divisor
    return numbers
