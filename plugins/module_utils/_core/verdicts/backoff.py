# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how long TCP has tried in vain, from its timers' backoff.

The kernel has no clock for it: every retransmission resets last_data_sent, every answer to a probe
resets last_ack_recv. But a timer that backs off doubles its interval each time, so the number of
times tells what has passed. It is added up here so that it is never more than what was, and then
held against the kernel's running totals of busy and window-limited time, which are never less.

Sources: tcp_retransmit_timer, tcp_probe_timer (net/ipv4/tcp_timer.c), tcp_send_probe0
(net/ipv4/tcp_output.c), tcp_probe0_when (include/net/tcp.h), tcp_get_info (net/ipv4/tcp.c).
"""

from __future__ import annotations

from collections.abc import Mapping

# TCP_RTO_MIN and TCP_RTO_MAX, include/net/tcp.h; TCP_RESOURCE_PROBE_INTERVAL (HZ / 2).
_RTO_MIN_MS = 200
RTO_MAX_MS = 120_000
_RESOURCE_PROBE_MS = 500
# What the probe timer can prove at the least, once it counts no further (tcp_retries2 is 15): ten
# intervals from 200 ms to 102.4 s, and five of two minutes.
PROBES_PROVE_MS = _RTO_MIN_MS * (2**10 - 1) + 5 * RTO_MAX_MS


def probing_ms(info: Mapping[str, int], expires_ms: int, rto_max_ms: int = RTO_MAX_MS) -> int:
    """For how long a window has been probed. The persist timer runs, and fires in expires_ms.

    Its interval is rto << backoff, at least that of TCP_RTO_MIN. backoff counts the probes until
    the window opens, whether they are answered or not, but no further than tcp_retries2.
    """
    base = max(info["rto"] // 1000, _RTO_MIN_MS)
    backoff = info["backoff"]
    passed = sum(min(base << step, rto_max_ms) for step in range(backoff))
    passed += max(0, min(base << backoff, rto_max_ms) - expires_ms)
    return min(passed, info["last_data_sent"], _total_ms(info, "rwnd_limited", passed))


def retransmitting_ms(info: Mapping[str, int], expires_ms: int) -> int:
    """For how long sent data or a FIN was not acknowledged. The retransmission timer runs.

    A window that shrank to nothing under data on its way backs off as well, without a count of
    retransmissions.
    """
    tries = max(info["retransmits"], info["backoff"] if info.get("snd_wnd") == 0 else 0)
    if not tries:
        return 0
    doubled = min(info["backoff"], tries)
    rto = info["rto"] // 1000
    first = rto >> doubled
    # At its maximum the timeout no longer tells what it grew from: not from less than TCP_RTO_MIN.
    least = max(first, _RTO_MIN_MS) if rto >= RTO_MAX_MS else first
    passed = sum(min(least << step, rto) for step in range(doubled))
    passed += (tries - doubled) * min(first, _RESOURCE_PROBE_MS)
    # A FIN does not reset last_data_sent; a user timeout may shorten the interval that runs.
    passed += max(0, min(rto - expires_ms, info["last_data_sent"]))
    passed = _with_rto_clock(info, passed, first)
    return min(passed, _total_ms(info, "busy_time", passed))


def connecting_ms(info: Mapping[str, int], expires_ms: int) -> int:
    """For how long a SYN was not answered. Its first timeouts may all be alike
    (tcp_syn_linear_timeouts)."""
    tries = info["retransmits"]
    doubled = min(info["backoff"], tries)
    rto = info["rto"] // 1000
    first = rto >> doubled
    passed = sum(first << step for step in range(doubled))
    passed += (tries - doubled) * min(first, _RESOURCE_PROBE_MS)
    passed += max(0, rto - expires_ms)
    return _with_rto_clock(info, passed, first)


def _with_rto_clock(info: Mapping[str, int], passed: int, first: int) -> int:
    """Since Linux 6.7: the time in all recoveries by timeout, from the first timeout of each."""
    clock = info.get("total_rto_time")
    if clock is None or not info["retransmits"]:
        return passed
    if info["total_rto_recoveries"] == 1:
        return max(passed, first + clock)
    return passed


def _total_ms(info: Mapping[str, int], name: str, otherwise: int) -> int:
    """A total over the connection's life, of microseconds; otherwise: the kernel has none."""
    total = info.get(name)
    return otherwise if total is None else total // 1000
