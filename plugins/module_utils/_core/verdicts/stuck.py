# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: why a TCP connection makes no progress, and for how long at least.

Each verdict has the states and the timer that tell it, and the clock that proves a lower bound of
how long it has held. The clocks are those of struct tcp_info; what resets each:

last_ack_recv (rcv_tstamp): every segment that passes tcp_ack(). So a connection in CLOSE_WAIT or
FIN_WAIT2 has been there at least as long, since an acknowledgement or FIN brought it there.
last_data_recv (lrcvtime): every segment with data. Both are needed to say that nothing came, since
the fast path of tcp_rcv_established() takes data without passing tcp_ack(). Neither is reset by the
peer's keepalive probes, which carry an old sequence number.
last_data_sent (lsndtime): every segment with data that leaves, retransmissions too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from .. import vocabulary
from ..subject import Subject
from .backoff import (
    PROBES_PROVE_MS,
    RTO_MAX_MS,
    connecting_ms,
    probing_ms,
    retransmitting_ms,
)
from .verdict import Verdict

# idiag_timer, net/ipv4/inet_diag.c inet_sk_diag_fill
_NONE, _RETRANSMISSION, _TIME_WAIT, _PERSIST = 0, 1, 3, 4

SILENT = "silent"

_OPEN = frozenset({vocabulary.ESTABLISHED, vocabulary.CLOSE_WAIT})
_FIN_UNACKNOWLEDGED = frozenset({vocabulary.FIN_WAIT_1, vocabulary.CLOSING, vocabulary.LAST_ACK})
_CLOSING = _FIN_UNACKNOWLEDGED | {vocabulary.FIN_WAIT_2}
_SENDING = _OPEN | _FIN_UNACKNOWLEDGED

Info = Mapping[str, int]
# Milliseconds that are proven; False: the verdict does not hold; None: unknown.
_Bound = Callable[[Subject, Info], "int | bool | None"]


class _Rule(NamedTuple):
    """What a verdict means, where it can hold, what proves it, and what is told as evidence.

    for_ms: how long it must have held where nobody says.
    """

    meaning: str
    states: frozenset[int]
    bound: _Bound
    evidence: tuple[str, ...]
    for_ms: int


def _zero_window(subject: Subject, info: Info) -> int | bool:
    if info.get("snd_wnd"):
        return False
    sock = subject.sock
    if sock.timer == _PERSIST:
        rto_max_ms = subject.environment.rto_max_ms
        return probing_ms(info, sock.expires, RTO_MAX_MS if rto_max_ms is None else rto_max_ms)
    if sock.timer == _RETRANSMISSION and "snd_wnd" in info and info["backoff"]:
        return retransmitting_ms(info, sock.expires)
    return False


def _retransmitting(subject: Subject, info: Info) -> int | bool:
    if subject.sock.timer != _RETRANSMISSION or not info["retransmits"]:
        return False
    return retransmitting_ms(info, subject.sock.expires)


def _silent(subject: Subject, info: Info) -> int | bool:
    return _nothing_came(info) if subject.sock.timer == _NONE else False


def _close_wait(subject: Subject, info: Info) -> int:  # noqa: ARG001
    return info["last_ack_recv"]


def _fin_wait(subject: Subject, info: Info) -> int | bool:
    sock = subject.sock
    if sock.state == vocabulary.FIN_WAIT_2:
        # All that is left of one under the timer of TIME_WAIT ends within tcp_fin_timeout.
        return _nothing_came(info) if sock.timer != _TIME_WAIT else False
    if sock.timer == _PERSIST:
        return _zero_window(subject, info)
    return retransmitting_ms(info, sock.expires) if sock.timer == _RETRANSMISSION else 0


def _syn_sent(subject: Subject, info: Info) -> int:
    timed = subject.sock.timer == _RETRANSMISSION
    return connecting_ms(info, subject.sock.expires) if timed else 0


def _orphaned(subject: Subject, info: Info) -> int | bool | None:
    if subject.inode:
        return False
    if subject.ulp == "mptcp":
        # The owner is that of the connection, and some kernels give a subflow no inode.
        return None
    return _nothing_came(info) if subject.sock.state in _OPEN else _fin_wait(subject, info)


def _nothing_came(info: Info) -> int:
    return min(info["last_data_recv"], info["last_ack_recv"])


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
        frozenset({vocabulary.ESTABLISHED}),
        _silent,
        (*_CLOCKS, "last_sent_ms"),
        # The time after which keepalive would ask (tcp_keepalive_time, RFC 9293), and for which
        # address translators keep an idle connection (RFC 5382).
        7_200_000,
    ),
    "close_wait": _Rule(
        "the peer has closed, and the application here has not",
        frozenset({vocabulary.CLOSE_WAIT}),
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
        frozenset({vocabulary.SYN_SENT}),
        _syn_sent,
        ("retransmits", *_BACKOFF, "timeouts_ms"),
        # At least three requests were sent, at 0, 1 and 3 s; some hosts answer the second only.
        10_000,
    ),
    "orphaned": _Rule(
        "no process has the socket: it was closed with work left, or was never accepted",
        _OPEN | _CLOSING,
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


def judge(subject: Subject, name: str, for_ms: int | None = None) -> bool | None:
    """Whether the verdict has held for so long (None: the default); None: unknown.

    for_ms 0: whether it holds now. Only TCP sockets have it; their INFO must have been asked for.
    """
    rule = _RULES[name]
    if subject.protocol != "tcp":
        return None
    if subject.sock.state not in rule.states:
        return False
    bound = _proven(rule, subject)
    if bound is None or bound is False:
        return bound
    return bound >= (rule.for_ms if for_ms is None else for_ms)


def verdicts(subject: Subject) -> list[Verdict] | None:
    """Those that have held for their default times; None where the kernel does not tell."""
    sock = subject.sock
    if sock.protocol != "tcp":
        return None
    found: list[Verdict] = []
    for name in _BY_STATE.get(sock.state, ()):
        rule = _RULES[name]
        bound = _proven(rule, subject)
        if bound is None and not subject.tcp_info:
            return None
        if bound is not None and bound is not False and bound >= rule.for_ms:
            found.append(Verdict(name, bound, _evidence(rule, subject)))
    return found


_BY_STATE: Mapping[int, tuple[str, ...]] = {
    state: tuple(name for name, rule in _RULES.items() if state in rule.states)
    for state in vocabulary.STATES.values()
}


def _proven(rule: _Rule, subject: Subject) -> int | bool | None:
    """As _Bound; a kernel that leaves out what is asked for tells nothing."""
    info = subject.tcp_info
    if info is None:
        return None
    try:
        return rule.bound(subject, info)
    except KeyError:
        return None


def _evidence(rule: _Rule, subject: Subject) -> dict[str, int]:
    info = subject.tcp_info or {}
    told: dict[str, int] = {}
    for name in rule.evidence:
        if name in _FROM_SOCK:
            told[name] = getattr(subject.sock, _FROM_SOCK[name])
        else:
            field, divisor = _FROM_INFO[name]
            if field in info:
                told[name] = info[field] // divisor
    return told
