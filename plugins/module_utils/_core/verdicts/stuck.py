# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: why a TCP connection makes no progress, and for how long at least.

Each verdict has the states and the timer that tell it, and the clock that proves for how long it
has held at the least. last_ack_recv is reset by every segment that passes tcp_ack(): so a
connection in CLOSE_WAIT or FIN_WAIT2 has been there at least as long, since a FIN or an
acknowledgement brought it there. When an application called close() nothing tells: what is proven
of a closing connection is for how long nothing was taken from it, which may have begun before.
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
    nothing_came_ms,
    probing_ms,
    retransmitting_ms,
    shrunk_ms,
)
from .verdict import Verdict, requested_for_ms

# idiag_timer, net/ipv4/inet_diag.c inet_sk_diag_fill
_NONE, _RETRANSMISSION, _PERSIST = 0, 1, 4
# What is left of a closed connection, in FIN_WAIT2 too: the kernel ends it within tcp_fin_timeout.
_TIME_WAIT = 3

SILENT = "silent"

_OPEN = frozenset({constants.ESTABLISHED, constants.CLOSE_WAIT})
_FIN_UNACKNOWLEDGED = frozenset({constants.FIN_WAIT_1, constants.CLOSING, constants.LAST_ACK})
_CLOSING = _FIN_UNACKNOWLEDGED | {constants.FIN_WAIT_2}
_SENDING = _OPEN | _FIN_UNACKNOWLEDGED

# Milliseconds that are proven; False: the verdict does not hold; None: unknown.
_Bound = Callable[[Socket, Info], "int | bool | None"]


class _Rule(NamedTuple):
    """What a verdict means, where it can hold, what proves it, and what is told as evidence.

    for_ms: how long it must have held where nobody says.
    """

    meaning: str
    states: frozenset[int]
    bound: _Bound
    evidence: tuple[str, ...]
    for_ms: int


def _zero_window(sock: Socket, info: Info) -> int | bool:
    if info["snd_wnd"]:
        # The persist timer runs for other reasons too: what this host could not send.
        return False
    if sock.message.timer == _PERSIST:
        return _probing(sock, info)
    if sock.message.timer == _RETRANSMISSION and info["backoff"]:
        return shrunk_ms(info)
    return False


def _probing(sock: Socket, info: Info) -> int:
    rto_max_ms = sock.snapshot.rto_max_ms
    return probing_ms(info, RTO_MAX_MS if rto_max_ms is None else rto_max_ms)


def _retransmitting(sock: Socket, info: Info) -> int | bool:
    if sock.message.timer != _RETRANSMISSION or not info["retransmits"]:
        return False
    return retransmitting_ms(info, data=_has_data(sock))


def _has_data(sock: Socket) -> bool:
    """More than a FIN, which counts as one byte, is in flight."""
    return sock.message.state in _OPEN or sock.send_queue > 1


def _silent(sock: Socket, info: Info) -> int | bool:
    return nothing_came_ms(info) if sock.message.timer == _NONE else False


def _close_wait(sock: Socket, info: Info) -> int:  # noqa: ARG001
    return nothing_came_ms(info)


def _fin_wait(sock: Socket, info: Info) -> int | bool:
    timer = sock.message.timer
    if sock.message.state == constants.FIN_WAIT_2:
        return nothing_came_ms(info)
    if timer == _PERSIST:
        return _probing(sock, info)
    return retransmitting_ms(info, data=_has_data(sock)) if timer == _RETRANSMISSION else 0


def _syn_sent(sock: Socket, info: Info) -> int:
    return connecting_ms(info) if sock.message.timer == _RETRANSMISSION else 0


def _orphaned(sock: Socket, info: Info) -> int | bool | None:
    if sock.inode:
        return False
    if sock.ulp == "mptcp":
        # The owner is that of the connection, and some kernels give a subflow no inode.
        return None
    return _fin_wait(sock, info)


_BACKOFF = ("backoff", "rto_ms", "next_try_ms")
_CLOCKS = ("last_received_ms", "last_ack_ms")

_RULES: dict[str, _Rule] = {
    "zero_window": _Rule(
        "the peer's receive window is shut: it acknowledges, but its application does not read",
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
        # A reader that works opens its window within some round trips, and one that waits for its
        # disk or its garbage collector within seconds. Each opening begins the count anew.
        10_000,
    ),
    "retransmitting": _Rule(
        "what was sent is not acknowledged, and the retransmission timer backs off",
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
        # Five or six retransmissions on a short path. Routes that converge and radios that roam are
        # mostly back by then; TCP itself goes on for about a quarter of an hour.
        10_000,
    ),
    SILENT: _Rule(
        "nothing was received for long, and no timer runs that would find out whether the peer "
        "is still there",
        frozenset({constants.ESTABLISHED}),
        _silent,
        (*_CLOCKS, "last_sent_ms"),
        # The time after which keepalive would ask (tcp_keepalive_time, RFC 9293), and for which
        # address translators keep an idle connection (RFC 5382).
        7_200_000,
    ),
    "close_wait": _Rule(
        "the peer has closed, and the application here has not",
        frozenset({constants.CLOSE_WAIT}),
        _close_wait,
        ("recv_queue_bytes", "send_queue_bytes", *_CLOCKS),
        # The peer has forgotten a connection that it closed after a minute (tcp_fin_timeout). One
        # that still takes data acknowledges it, which begins the count anew.
        60_000,
    ),
    "fin_wait": _Rule(
        "closing does not end: data or a FIN is not taken, or the peer does not close its side",
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
        # What the kernel itself grants a connection without an owner (tcp_fin_timeout).
        60_000,
    ),
    "syn_sent": _Rule(
        "nobody answers the request to connect",
        frozenset({constants.SYN_SENT}),
        _syn_sent,
        ("retransmits", *_BACKOFF, "timeouts_ms"),
        # At least three requests were sent, at 0, 1 and 3 s; some hosts answer the second only.
        10_000,
    ),
    "orphaned": _Rule(
        "no process has the socket any more: it was closed with work left to the kernel",
        # In other states what has no inode waits in a listener's queue to be accepted.
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
        # What the kernel itself grants a connection without an owner (tcp_fin_timeout).
        60_000,
    ),
}

# What each verdict means, in a phrase.
STUCK: Mapping[str, str] = {name: rule.meaning for name, rule in _RULES.items()}
# For how long each must have held at the least, where nobody says.
DEFAULT_FOR_MS: Mapping[str, int] = {name: rule.for_ms for name, rule in _RULES.items()}
# The states in which each can hold, as vocabulary.STATES numbers them.
STATES: Mapping[str, frozenset[int]] = {name: rule.states for name, rule in _RULES.items()}
# The longest time that can be proven, of those for which there is one.
PROVABLE_MS: Mapping[str, int] = {"zero_window": PROBES_PROVE_MS}


def evaluate(sock: Socket, name: str, for_ms: int | None = None) -> bool | None:
    """Whether the verdict has held for so long (None: the default); None: unknown.

    for_ms 0: whether it holds now. Only TCP sockets have it; their INFO must have been asked for.
    """
    rule = _RULES[name]
    if sock.protocol != "tcp":
        return None
    if sock.message.state not in rule.states or sock.message.timer == _TIME_WAIT:
        return False
    bound = _proven(rule, sock)
    if bound is None or bound is False:
        return bound
    return bound >= (rule.for_ms if for_ms is None else for_ms)


def verdicts(sock: Socket) -> list[Verdict] | None:
    """Those that have held for their default times, or for shorter ones that the look asked for.

    So a socket that a selector means for a verdict is not without it. None where the kernel does
    not tell.
    """
    message = sock.message
    if message.protocol != "tcp":
        return None
    found: list[Verdict] = []
    asked = requested_for_ms(sock.snapshot)
    if message.timer == _TIME_WAIT:
        return found
    for name in _BY_STATE.get(message.state, ()):
        rule = _RULES[name]
        bound = _proven(rule, sock)
        if bound is None and not sock.tcp_info:
            return None
        if bound is not None and bound is not False and bound >= asked.get(name, rule.for_ms):
            found.append(Verdict(name, bound, _numbers(sock, rule.evidence)))
    return found


_BY_STATE: Mapping[int, tuple[str, ...]] = {
    state: tuple(name for name, rule in _RULES.items() if state in rule.states)
    for state in constants.STATES.values()
}


def _proven(rule: _Rule, sock: Socket) -> int | bool | None:
    """As _Bound; a kernel that leaves out what is asked for tells nothing."""
    info = sock.tcp_info
    if info is None:
        return None
    try:
        return rule.bound(sock, info)
    except KeyError:
        return None


# struct tcp_info's field, and what its number is divided by.
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
    """Those of these that this kernel told."""
    info = sock.tcp_info or {}
    told: dict[str, int] = {}
    for name in names:
        if name in _FROM_SOCK:
            told[name] = getattr(sock.message, _FROM_SOCK[name])
        else:
            field, divisor = _FROM_INFO[name]
            if field in info:
                told[name] = info[field] // divisor
    return told
