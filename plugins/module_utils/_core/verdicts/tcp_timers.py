# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Lower bounds of how long TCP has retried, from its timers and clocks.

The kernel has no clock for this: each retransmission resets last_data_sent, and each answer to a
probe resets last_ack_recv. But a timer doubles its interval on each backoff, so the sum of the
intervals is a lower bound of the elapsed time. The expiry of the timer is not usable:
TCP_USER_TIMEOUT shortens it, and an acknowledgement restarts it.

All results are milliseconds and never longer than the true time. info: struct tcp_info.
Sources: tcp_retransmit_timer, tcp_probe_timer (net/ipv4/tcp_timer.c), tcp_send_probe0
(net/ipv4/tcp_output.c), tcp_probe0_when (include/net/tcp.h), tcp_get_info (net/ipv4/tcp.c).
"""

from __future__ import annotations

from collections.abc import Mapping

# TCP_RTO_MIN and TCP_RTO_MAX, include/net/tcp.h; TCP_RESOURCE_PROBE_INTERVAL (HZ / 2).
_RTO_MIN_MS = 200
RTO_MAX_MS = 120_000
_RESOURCE_PROBE_MS = 500
# The longest bound that probes prove, because the kernel stops counting them (tcp_retries2 is 15):
# ten intervals from 200 ms to 102.4 s, and five of two minutes.
PROBES_PROVE_MS = _RTO_MIN_MS * (2**10 - 1) + 5 * RTO_MAX_MS
# The clocks count ticks, so each may be one tick ahead; the longest tick is that of HZ=100.
_TICK_MS = 10

Info = Mapping[str, int]


def proven_ms(clock_ms: int) -> int:
    """Subtract the error of the kernel's clocks from a time in milliseconds."""
    return max(0, clock_ms - _TICK_MS)


def nothing_received_ms(info: Info) -> int:
    """Time since data or an acknowledgement was received.

    Both clocks are needed: the fast path of tcp_rcv_established accepts data without tcp_ack.
    Keepalive and window probes of the peer reset neither (tcp_validate_incoming).
    """
    return proven_ms(min(info["last_data_recv"], info["last_ack_recv"]))


def probing_ms(info: Info, rto_max_ms: int = RTO_MAX_MS) -> int:
    """Time since the first probe of a closed window; the persist timer must be running.

    The interval is rto << backoff, at least TCP_RTO_MIN and at most rto_max_ms. backoff counts the
    probes until the window opens, answered or not, up to tcp_retries2.
    """
    base = max(info["rto"] // 1000, _RTO_MIN_MS)
    passed = sum(min(base << step, rto_max_ms) for step in range(info["backoff"]))
    if info["backoff"] and not info["probes"]:
        # The answer to the last probe started the current interval.
        passed += info["last_ack_recv"]
    # Without timestamps, backoff may be left over from an earlier retransmission. Neither the time
    # since data was sent nor the total window-limited time can be exceeded.
    limits = [info["last_data_sent"]]
    if "rwnd_limited" in info:
        limits.append(info["rwnd_limited"] // 1000)
    return proven_ms(min(passed, *limits))


def retransmitting_ms(info: Info, *, data: bool) -> int:
    """Time since unacknowledged data was first sent; the retransmission timer must be running.

    data: more than a FIN is in flight, so each retransmission resets last_data_sent.
    """
    passed = _backed_off_ms(info, info["retransmits"])
    if data and info["retransmits"]:
        passed += info["last_data_sent"]
    passed = _with_recovery_clock(info, passed)
    if "busy_time" in info:
        passed = min(passed, info["busy_time"] // 1000)
    return proven_ms(passed)


def shrunk_window_ms(info: Info) -> int:
    """Time since the window shrank to zero while data was in flight.

    The kernel retransmits such data without counting it (tcp_retransmit_timer). Without timestamps,
    backoff may be left over from an earlier retransmission, so it is ignored.
    """
    passed = info["last_data_sent"]
    if info["options"] & _TIMESTAMPS:
        passed += _backed_off_ms(info, info["backoff"])
    if "busy_time" in info:
        passed = min(passed, info["busy_time"] // 1000)
    return proven_ms(passed)


# TCPI_OPT_TIMESTAMPS, include/uapi/linux/tcp.h
_TIMESTAMPS = 1


def connecting_ms(info: Info) -> int:
    """Time since the first SYN. The other clocks of such a socket start at boot."""
    return proven_ms(_with_recovery_clock(info, _backed_off_ms(info, info["retransmits"])))


def _backed_off_ms(info: Info, tries: int) -> int:
    """Time from the first transmission to the last of the given number of retransmissions.

    Some retransmissions do not double the timeout: the first ones of a SYN
    (tcp_syn_linear_timeouts), those of a thin stream, and those that this host could not send.
    """
    rto = info["rto"] // 1000
    doubled = min(info["backoff"], tries)
    first = rto >> doubled
    # A timeout at its maximum does not show its first value, which was at least TCP_RTO_MIN.
    least = max(first, _RTO_MIN_MS) if rto >= RTO_MAX_MS else first
    passed = sum(min(least << step, rto) for step in range(doubled))
    return passed + (tries - doubled) * min(first, _RESOURCE_PROBE_MS)


def _with_recovery_clock(info: Info, passed: int) -> int:
    """Refine a bound with total_rto_time, the time in timeout recoveries (Linux 6.7 and later).

    The kernel counts from the first timeout of each recovery, so the first timeout is added.
    """
    clock = info.get("total_rto_time")
    if clock is None or not info["retransmits"]:
        return passed
    clock += (info["rto"] // 1000) >> min(info["backoff"], info["retransmits"])
    return clock if info["total_rto_recoveries"] == 1 else min(passed, clock)
