# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `socket-agent status` prints says what is so, what is wrong, and what to do."""

from __future__ import annotations

import pytest

from linuxnet_sockets.agent.clocks import Clocks
from linuxnet_sockets.agent.state import HELD_BACK
from linuxnet_sockets.agent.status import OVERDUE, as_of
from linuxnet_sockets.agent.status_words import status_lines
from tests.unit.agent.conftest import Bench
from tests.unit.guard.machine import connection
from tests.unit.policy.policies import rule

AT_ONCE = rule(hold=0)


def _on(boot_id: str) -> Clocks:
    return Clocks(0.0, 0.0, boot_id)


def told(bench: Bench) -> str:
    return "\n".join(status_lines(bench.status))


def test_well(bench: Bench) -> None:
    bench.machine.add(connection(local_port=1))
    bench.write(AT_ONCE)
    bench.goes_on()
    first, *rest = status_lines(bench.status)
    assert first.startswith(f"policy {bench.status['policy']['digest'][:12]} of ")
    assert rest == ["enforcing", "  a-rule: 0 violate it now; since the start 1 destroyed"]


@pytest.mark.parametrize(
    ("on_excess", "words"),
    [("refuse", "destroys nothing: more violate"), ("pace", "enforcing, as fast as the limits")],
)
def test_over_the_limit(bench: Bench, on_excess: str, words: str) -> None:
    for port in (1, 2, 3):
        bench.machine.add(connection(local_port=port))
    bench.write(AT_ONCE, limits={"max_sockets": 1, "per": "1h", "on_excess": on_excess})
    bench.goes_on()
    text = told(bench)
    assert words in text
    assert "[over_limit]" in text
    assert f"at most 1 in 3600 s ({on_excess}). If they are meant, raise limits.max_sockets" in text
    assert ("3 violate it now (3 limit)" in text) == (on_excess == "refuse")


def test_paused_on_trial_and_without_a_policy(bench: Bench) -> None:
    bench.write(AT_ONCE)
    (bench.state / "paused").write_text("moving house")
    bench.goes_on()
    assert "destroys nothing: it is paused [paused]" in told(bench)
    assert "paused: moving house (socket-agent resume ends it)" in told(bench)
    (bench.state / "paused").unlink()
    (bench.state / "unconfirmed.json").write_text("{")
    bench.goes_on(11)
    assert "destroys nothing: the policy was not confirmed in time [unconfirmed]" in told(bench)
    assert "the time is over (socket-agent confirm keeps the policy)" in told(bench)


def test_a_policy_that_is_refused(bench: Bench) -> None:
    bench.policy.write_text('{"version": 1, "rules": null}')
    bench.goes_on()
    first, *rest = status_lines(bench.status)
    assert first == "destroys nothing: no policy is in force [no_policy]"
    assert any(line.startswith("refused policy: limits: missing") for line in rest)


def test_every_reason_that_can_hold_it_back_has_words(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    status = as_of(bench.status, 0.0, _on("another boot"))
    assert status["held_back"] == OVERDUE
    for reason in (*HELD_BACK, OVERDUE):
        _policy, how, *_rest = status_lines({**status, "held_back": reason})
        assert how.endswith(f"[{reason}]")


def test_times_are_told_in_the_unit_that_one_thinks_in(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    for left_s, words in ((1800.0, "30 min left"), (42.4, "42 s left"), (0.0, "the time is over")):
        status = {**bench.status, "pause": {"reason": "", "left_s": left_s}}
        assert f"paused: no reason given, {words} (" in "\n".join(status_lines(status))


def test_a_last_look_that_is_too_old(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    late = as_of(bench.status, bench.machine.now + 500, _on("boot"))
    assert any(
        line.startswith("destroys nothing: its last look was 500 s ago, and it is to look every 30")
        for line in status_lines(late)
    )
    before = as_of(bench.status, bench.machine.now, _on("another boot"))
    assert "its last look was before this boot, and" in "\n".join(status_lines(before))
