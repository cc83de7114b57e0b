# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how long TCP has tried in vain, as its timers and clocks prove.

The kernel has no clock for it: every retransmission resets last_data_sent, every answer to a probe
resets last_ack_recv. But a timer that backs off doubles its interval each time, so the number of
times tells what has passed. It is added up here so that it is never more than what was. The timer's
own expiry is no help: TCP_USER_TIMEOUT shortens it, and an acknowledgement arms it anew.

Sources: tcp_retransmit_timer, tcp_probe_timer (net/ipv4/tcp_timer.c), tcp_send_probe0
(net/ipv4/tcp_output.c), tcp_probe0_when (include/net/tcp.h), tcp_get_info (net/ipv4/tcp.c).
"""

from __future__ import annotations

from collections.abc import Mapping

# TCP_RTO_MIN and TCP_RTO_MAX, include/net/tcp.h; TCP_RESOURCE_PROBE_INTERVAL (HZ / 2).
_RTO_MIN_MS = 200
RTO_MAX_MS = 120_000
_RESOURCE_PROBE_MS = 500
# What the probes prove at the least, once they are counted no further (tcp_retries2 is 15): ten
# intervals from 200 ms to 102.4 s, and five of two minutes.
PROBES_PROVE_MS = _RTO_MIN_MS * (2**10 - 1) + 5 * RTO_MAX_MS
# The clocks count ticks, so each may tell one more than has passed: the longest is that of HZ=100.
_TICK_MS = 10

Info = Mapping[str, int]


def proven_ms(clock_ms: int) -> int:
    """What is certain of a time in which clocks of the kernel have a part."""
    return max(0, clock_ms - _TICK_MS)


def nothing_came_ms(info: Info) -> int:
    """For how long neither data nor an acknowledgement was received.

    The fast path of tcp_rcv_established takes data without passing tcp_ack, so it takes both
    clocks. Neither is reset by what the peer sends to keep the connection alive or to probe our
    window (tcp_validate_incoming).
    """
    return proven_ms(min(info["last_data_recv"], info["last_ack_recv"]))


def probing_ms(info: Info, rto_max_ms: int = RTO_MAX_MS) -> int:
    """For how long a window has been probed. The persist timer runs.

    Its interval is rto << backoff, at least that of TCP_RTO_MIN. backoff counts the probes until
    the window opens, whether they are answered or not, but no further than tcp_retries2.
    """
    base = max(info["rto"] // 1000, _RTO_MIN_MS)
    passed = sum(min(base << step, rto_max_ms) for step in range(info["backoff"]))
    if info["backoff"] and not info["probes"]:
        # The last probe was answered, which began the interval that runs.
        passed += info["last_ack_recv"]
    # Without timestamps the backoff of an earlier retransmission may be left: held against the
    # time since data was sent, and the time in which the window held it back, ever.
    limits = [info["last_data_sent"]]
    if "rwnd_limited" in info:
        limits.append(info["rwnd_limited"] // 1000)
    return proven_ms(min(passed, *limits))


def retransmitting_ms(info: Info, *, data: bool) -> int:
    """For how long what was sent is not acknowledged. The retransmission timer runs.

    data: more than a FIN is in flight, so each retransmission resets last_data_sent.
    """
    passed = _backed_off_ms(info, info["retransmits"])
    if data and info["retransmits"]:
        passed += info["last_data_sent"]
    passed = _by_clock(info, passed)
    if "busy_time" in info:
        passed = min(passed, info["busy_time"] // 1000)
    return proven_ms(passed)


def shrunk_ms(info: Info) -> int:
    """For how long data is not taken whose window shrank to nothing when it was on its way.

    It is retransmitted without being counted (tcp_retransmit_timer). A backoff of earlier times
    may be left where the connection has no timestamps, so then it proves nothing.
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
    """For how long a SYN was not answered. Its clocks count from the boot of the machine."""
    return proven_ms(_by_clock(info, _backed_off_ms(info, info["retransmits"])))


def _backed_off_ms(info: Info, tries: int) -> int:
    """From the first sending to the last of so many retransmissions.

    Not every one doubles the timeout: not those of a SYN at first (tcp_syn_linear_timeouts), nor
    of a thin stream, nor those that this host could not send.
    """
    rto = info["rto"] // 1000
    doubled = min(info["backoff"], tries)
    first = rto >> doubled
    # At its maximum the timeout no longer tells what it grew from: not from less than TCP_RTO_MIN.
    least = max(first, _RTO_MIN_MS) if rto >= RTO_MAX_MS else first
    passed = sum(min(least << step, rto) for step in range(doubled))
    return passed + (tries - doubled) * min(first, _RESOURCE_PROBE_MS)


def _by_clock(info: Info, passed: int) -> int:
    """Since Linux 6.7: the time in all recoveries by timeout, from the first timeout of each."""
    clock = info.get("total_rto_time")
    if clock is None or not info["retransmits"]:
        return passed
    clock += (info["rto"] // 1000) >> min(info["backoff"], info["retransmits"])
    return clock if info["total_rto_recoveries"] == 1 else min(passed, clock)
