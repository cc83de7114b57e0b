# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proven times never exceed the elapsed time, and are close to it.

The tests simulate the timers of tcp_timer.c, timeout by timeout, with a known clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets.verdicts.tcp_timers import (
    PROBES_PROVE_MS,
    connecting_ms,
    nothing_received_ms,
    probing_ms,
    retransmitting_ms,
    shrunk_window_ms,
)

RTO_MAX = 120_000
# One tick at HZ=100: the maximum error of a kernel clock, which is subtracted.
TICK = 10


@dataclass
class Simulated:
    """A simulated connection that retries from now = 0 on, in milliseconds."""

    rto: int = 200
    now: int = 0
    backoff: int = 0
    retransmits: int = 0
    probes: int = 0
    last_sent: int = 0
    last_ack: int = 0
    first_timeout: int | None = None
    before: dict[str, int] = field(default_factory=dict)

    def retransmit(self, *, sent: bool = True, doubles: bool = True) -> None:
        """Expire the timer. sent False: the local queue drops it, with a retry in 500 ms."""
        self.now += self._interval
        if self.first_timeout is None:
            self.first_timeout = self.now
        self.retransmits += 1
        self.last_sent = self.now
        if not sent:
            self._interval = 500
            return
        if doubles:
            self.backoff += 1
            self.rto = min(self.rto * 2, RTO_MAX)
        self._interval = self.rto

    def probe(self, *, answered_after: int | None) -> None:
        """Expire the persist timer; an answer restarts it."""
        self.now += min(max(self.rto, 200) << self.backoff, RTO_MAX)
        self.backoff += 1
        self.probes += 1
        if answered_after is not None:
            self.now += answered_after
            self.last_ack = self.now
            self.probes = 0

    def __post_init__(self) -> None:
        self._interval = self.rto

    def info(self, *, modern: bool = False, **other: int) -> dict[str, int]:
        info = {
            "rto": self.rto * 1000,
            "backoff": self.backoff,
            "retransmits": self.retransmits,
            "probes": self.probes,
            "last_data_sent": self.now - self.last_sent,
            "last_ack_recv": self.now - self.last_ack,
            "options": 1,
            **self.before,
        }
        if modern:
            since = 0 if self.first_timeout is None else self.now - self.first_timeout
            info["total_rto_time"] = since
            info["total_rto_recoveries"] = 1
        return {**info, **other}


@given(
    rto=st.integers(200, 5000),
    steps=st.lists(st.sampled_from(["sent", "sent", "dropped", "linear"]), min_size=1, max_size=14),
    after=st.integers(0, 60_000),
    modern=st.booleans(),
    data=st.booleans(),
)
@settings(max_examples=300)
def test_retransmitting_never_exceeds_elapsed_time(
    rto: int, steps: list[str], after: int, modern: bool, data: bool
) -> None:
    simulated = Simulated(rto=rto)
    for step in steps:
        simulated.retransmit(sent=step != "dropped", doubles=step != "linear")
    simulated.now += after

    info = simulated.info(modern=modern)
    if not data:
        # A retransmitted FIN does not reset it.
        info["last_data_sent"] = 10**9
    proven = retransmitting_ms(info, data=data)

    assert proven <= simulated.now
    if modern:
        assert proven >= simulated.now - max(rto, 500) - TICK


@pytest.mark.parametrize("tries", range(1, 16))
def test_retransmitting_on_short_path_is_close_to_elapsed_time(tries: int) -> None:
    simulated = Simulated(rto=204)
    for _time in range(tries):
        simulated.retransmit()

    proven = retransmitting_ms(simulated.info(), data=True)

    assert simulated.now * 0.95 - TICK <= proven <= simulated.now


def test_leftover_backoff_is_ignored() -> None:
    """Without timestamps, acknowledging retransmitted data does not reset backoff (Karn)."""
    simulated = Simulated(rto=1632, backoff=3)
    assert retransmitting_ms(simulated.info(), data=True) == 0
    simulated.retransmit()
    assert retransmitting_ms(simulated.info(), data=True) <= simulated.now
    assert shrunk_window_ms(simulated.info(options=0)) <= simulated.now


def test_busy_time_limits_the_bound() -> None:
    simulated = Simulated(rto=204)
    for _time in range(5):
        simulated.retransmit()
    assert retransmitting_ms(simulated.info(busy_time=70_000), data=True) == 70 - TICK
    simulated.now += 100
    later = simulated.info(modern=True, total_rto_recoveries=4, total_rto_time=90)
    assert retransmitting_ms(later, data=True) <= 90 + 204


@given(
    rto=st.integers(1, 5000),
    answers=st.lists(st.none() | st.integers(0, 300), min_size=1, max_size=15),
    after=st.integers(0, 60_000),
    idle=st.integers(0, 10_000),
)
@settings(max_examples=300)
def test_probing_never_exceeds_elapsed_time(
    rto: int, answers: list[int | None], after: int, idle: int
) -> None:
    simulated = Simulated(rto=rto, last_sent=-idle, last_ack=-idle)
    for answered_after in answers:
        simulated.probe(answered_after=answered_after)
    simulated.now += min(after, max(rto, 200) << simulated.backoff)

    proven = probing_ms(simulated.info(rwnd_limited=simulated.now * 1000))

    assert proven <= simulated.now
    if answers[-1] is not None:
        assert proven >= simulated.now - 300 * len(answers) - TICK


def test_probing_starts_with_waiting_data() -> None:
    simulated = Simulated(last_sent=-3_600_000, last_ack=-3_600_000)
    assert probing_ms(simulated.info(rwnd_limited=10**12)) == 0


def test_probing_uses_shorter_rto_max() -> None:
    info = Simulated(rto=200, backoff=15, probes=1, last_sent=-(10**6)).info(rwnd_limited=10**12)
    assert probing_ms(info) == PROBES_PROVE_MS - TICK
    assert probing_ms(info, 1000) == 200 + 400 + 800 + 12 * 1000 - TICK
    assert PROBES_PROVE_MS == 204_600 + 600_000


@given(
    linear=st.integers(0, 4), doubled=st.integers(0, 6), modern=st.booleans(), after=st.integers(0)
)
def test_connecting_never_exceeds_elapsed_time(
    linear: int, doubled: int, modern: bool, after: int
) -> None:
    simulated = Simulated(rto=1000)
    for number in range(linear + doubled):
        simulated.retransmit(doubles=number >= linear)
    simulated.now += after % simulated.rto

    # The clocks of such a socket count from boot.
    boot: dict[str, Any] = {"last_data_sent": 10**9, "last_ack_recv": 10**9, "snd_wnd": 0}
    proven = connecting_ms(simulated.info(modern=modern, **boot))

    assert proven <= simulated.now
    if modern and simulated.retransmits:
        assert proven == max(0, simulated.now - TICK)
    assert proven >= (1000 * (2**doubled - 1) + 500 * linear) - TICK or proven == 0


def test_nothing_received_uses_both_clocks() -> None:
    assert nothing_received_ms({"last_data_recv": 5000, "last_ack_recv": 3000}) == 3000 - TICK
    assert nothing_received_ms({"last_data_recv": 4, "last_ack_recv": 3000}) == 0
