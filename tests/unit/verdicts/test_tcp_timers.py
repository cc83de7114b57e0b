# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is proven of a time is never more than what has passed, and not much less.

The kernel is played here, timeout by timeout, as tcp_timer.c has it, on a clock that is known.
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

LONGEST = 120_000
# One tick at HZ=100: the most that a clock of the kernel tells too much, and that is taken off.
TICK = 10


@dataclass
class Played:
    """A connection that tries in vain from now = 0 on, in milliseconds."""

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
        """The timer fires. sent False: this host's queue drops it, and tries again in 500 ms."""
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
            self.rto = min(self.rto * 2, LONGEST)
        self._interval = self.rto

    def probe(self, *, answered_after: int | None) -> None:
        """The persist timer fires; an answer arms it anew."""
        self.now += min(max(self.rto, 200) << self.backoff, LONGEST)
        self.backoff += 1
        self.probes += 1
        if answered_after is not None:
            self.now += answered_after
            self.last_ack = self.now
            self.probes = 0

    def __post_init__(self) -> None:
        self._interval = self.rto

    def info(self, *, modern: bool = False, **other: int) -> dict[str, int]:
        told = {
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
            told["total_rto_time"] = since
            told["total_rto_recoveries"] = 1
        return {**told, **other}


@given(
    rto=st.integers(200, 5000),
    steps=st.lists(st.sampled_from(["sent", "sent", "dropped", "linear"]), min_size=1, max_size=14),
    after=st.integers(0, 60_000),
    modern=st.booleans(),
    data=st.booleans(),
)
@settings(max_examples=300)
def test_retransmissions_prove_no_more_than_what_passed(
    rto: int, steps: list[str], after: int, modern: bool, data: bool
) -> None:
    played = Played(rto=rto)
    for step in steps:
        played.retransmit(sent=step != "dropped", doubles=step != "linear")
    played.now += after

    info = played.info(modern=modern)
    if not data:
        # A FIN alone does not reset it.
        info["last_data_sent"] = 10**9
    proven = retransmitting_ms(info, data=data)

    assert proven <= played.now
    if modern:
        assert proven >= played.now - max(rto, 500) - TICK


@pytest.mark.parametrize("tries", range(1, 16))
def test_on_a_short_path_nearly_all_of_it_is_proven(tries: int) -> None:
    played = Played(rto=204)
    for _time in range(tries):
        played.retransmit()

    proven = retransmitting_ms(played.info(), data=True)

    assert played.now * 0.95 - TICK <= proven <= played.now


def test_a_backoff_that_an_earlier_loss_left_proves_nothing() -> None:
    """Without timestamps an acknowledgement of what was retransmitted resets it not (Karn)."""
    played = Played(rto=1632, backoff=3)
    assert retransmitting_ms(played.info(), data=True) == 0
    played.retransmit()
    assert retransmitting_ms(played.info(), data=True) <= played.now
    assert shrunk_window_ms(played.info(options=0)) <= played.now


def test_the_time_in_which_anything_was_unacknowledged_is_a_limit() -> None:
    played = Played(rto=204)
    for _time in range(5):
        played.retransmit()
    assert retransmitting_ms(played.info(busy_time=70_000), data=True) == 70 - TICK
    played.now += 100
    later = played.info(modern=True, total_rto_recoveries=4, total_rto_time=90)
    assert retransmitting_ms(later, data=True) <= 90 + 204


@given(
    rto=st.integers(1, 5000),
    answers=st.lists(st.none() | st.integers(0, 300), min_size=1, max_size=15),
    after=st.integers(0, 60_000),
    idle=st.integers(0, 10_000),
)
@settings(max_examples=300)
def test_probes_prove_no_more_than_what_passed(
    rto: int, answers: list[int | None], after: int, idle: int
) -> None:
    played = Played(rto=rto, last_sent=-idle, last_ack=-idle)
    for answered_after in answers:
        played.probe(answered_after=answered_after)
    played.now += min(after, max(rto, 200) << played.backoff)

    proven = probing_ms(played.info(rwnd_limited=played.now * 1000))

    assert proven <= played.now
    if answers[-1] is not None:
        assert proven >= played.now - 300 * len(answers) - TICK


def test_a_window_that_was_shut_long_before_anything_waited_proves_nothing_yet() -> None:
    played = Played(last_sent=-3_600_000, last_ack=-3_600_000)
    assert probing_ms(played.info(rwnd_limited=10**12)) == 0


def test_a_shorter_longest_interval_is_taken_into_account() -> None:
    info = Played(rto=200, backoff=15, probes=1, last_sent=-(10**6)).info(rwnd_limited=10**12)
    assert probing_ms(info) == PROBES_PROVE_MS - TICK
    assert probing_ms(info, 1000) == 200 + 400 + 800 + 12 * 1000 - TICK
    assert PROBES_PROVE_MS == 204_600 + 600_000


@given(
    linear=st.integers(0, 4), doubled=st.integers(0, 6), modern=st.booleans(), after=st.integers(0)
)
def test_requests_to_connect_prove_no_more_than_what_passed(
    linear: int, doubled: int, modern: bool, after: int
) -> None:
    played = Played(rto=1000)
    for number in range(linear + doubled):
        played.retransmit(doubles=number >= linear)
    played.now += after % played.rto

    # Its clocks count from the boot of the machine.
    boot: dict[str, Any] = {"last_data_sent": 10**9, "last_ack_recv": 10**9, "snd_wnd": 0}
    proven = connecting_ms(played.info(modern=modern, **boot))

    assert proven <= played.now
    if modern and played.retransmits:
        assert proven == max(0, played.now - TICK)
    assert proven >= (1000 * (2**doubled - 1) + 500 * linear) - TICK or proven == 0


def test_silence_is_what_both_clocks_say_less_a_tick() -> None:
    assert nothing_received_ms({"last_data_recv": 5000, "last_ack_recv": 3000}) == 3000 - TICK
    assert nothing_received_ms({"last_data_recv": 4, "last_ack_recv": 3000}) == 0
