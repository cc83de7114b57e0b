# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `socket-agent status` prints says what is so, what is wrong, and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from linuxnet_sockets.agent.clocks import Clocks
from linuxnet_sockets.agent.state import HELD_BACK
from linuxnet_sockets.agent.status import OVERDUE, as_of
from linuxnet_sockets.agent.status_words import status_lines
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Bench

AT_ONCE = rule(hold=0)


def _on(boot_id: str) -> Clocks:
    return Clocks(0.0, 0.0, boot_id)


def lines_with(status: dict[str, Any], part: str) -> list[str]:
    return [line for line in status_lines(status) if part in line]


def test_well(bench: Bench) -> None:
    bench.machine.add(connection(local_port=1))
    bench.write(AT_ONCE)
    bench.goes_on()
    first, *rest = status_lines(bench.status)
    assert first.startswith(f"policy {bench.status['policy']['digest'][:12]} of ")
    state, of_the_rule = rest
    assert state == "enforcing"
    assert of_the_rule.startswith("  a-rule: ")
    assert re.findall(r"\d+", of_the_rule) == ["0", "1"]
    assert "1 destroyed" in of_the_rule


@pytest.mark.parametrize("on_excess", ["refuse", "pace"])
def test_over_the_limit(bench: Bench, on_excess: str) -> None:
    for port in (1, 2, 3):
        bench.machine.add(connection(local_port=port))
    bench.write(AT_ONCE, limits={"max_sockets": 1, "per": "1h", "on_excess": on_excess})
    bench.goes_on()
    (state,) = lines_with(bench.status, "[budget_exceeded]")
    assert state.startswith("enforcing") == (on_excess == "pace")
    (limits,) = lines_with(bench.status, f"({on_excess})")
    assert re.findall(r"\d+", limits)[-2:] == ["1", "3600"]
    assert "limits.max_sockets" in limits
    assert bool(lines_with(bench.status, "(3 limit)")) == (on_excess == "refuse")


def test_paused_on_trial_and_without_a_policy(bench: Bench) -> None:
    bench.write(AT_ONCE)
    (bench.state / "paused").write_text("moving house")
    bench.goes_on()
    assert len(lines_with(bench.status, "[paused]")) == 1
    (paused,) = lines_with(bench.status, "moving house")
    assert "socket-agent resume" in paused
    (bench.state / "paused").unlink()
    (bench.state / "unconfirmed.json").write_text("{")
    bench.goes_on(11)
    assert len(lines_with(bench.status, "[unconfirmed]")) == 1
    (trial,) = lines_with(bench.status, "socket-agent confirm")
    assert not re.search(r"\d", trial)


def test_a_policy_that_is_refused(bench: Bench) -> None:
    bench.policy.write_text('{"version": 1, "rules": null}')
    bench.goes_on()
    first, *rest = status_lines(bench.status)
    assert "[no_policy]" in first
    errors = bench.status["rejected"]["errors"]
    assert any(error.startswith("limits: ") for error in errors)
    assert all(any(error in line for line in rest) for error in errors)


def test_every_reason_that_can_hold_it_back_has_words(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    status = as_of(bench.status, 0.0, _on("another boot"))
    assert status["inhibited_by"] == OVERDUE
    for reason in (*HELD_BACK, OVERDUE):
        _policy, how, *_rest = status_lines({**status, "inhibited_by": reason})
        assert how.endswith(f"[{reason}]")


def test_times_are_told_in_the_unit_that_one_thinks_in(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    for left_s, left in ((1800.0, ["30 min"]), (42.4, ["42 s"]), (0.0, [])):
        status = {**bench.status, "pause": {"reason": "", "remaining_s": left_s}}
        (paused,) = lines_with(status, "socket-agent resume")
        assert re.findall(r"\d+ \w+", paused) == left


def test_a_last_look_that_is_too_old(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    late = as_of(bench.status, bench.machine.now + 500, _on("boot"))
    (line,) = lines_with(late, f"[{OVERDUE}]")
    assert re.findall(r"\d+ s", line) == ["500 s", "30 s"]
    before = as_of(bench.status, bench.machine.now, _on("another boot"))
    (line,) = lines_with(before, f"[{OVERDUE}]")
    assert re.findall(r"\d+ s", line) == ["30 s"]
    assert "boot" in line
