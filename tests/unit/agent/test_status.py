# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""status.json, its text, and the metrics, in each state of the agent."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from linuxnet_sockets.agent import controls
from linuxnet_sockets.agent.clocks import Clocks
from linuxnet_sockets.agent.state import INHIBITED_BY
from linuxnet_sockets.agent.status import OVERDUE, at_read_time, is_healthy, status_lines
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness

KEYS = {
    "version",
    "pid",
    "started",
    "boot_id",
    "boottime_s",
    "resync_s",
    "policy",
    "rejected",
    "enforcing",
    "inhibited_by",
    "pause",
    "trial",
    "last_pass",
    "rules",
    "budget",
    "backing_off",
    "unenforced",
    "untracked",
    "passes",
    "cpu_s",
    "faults",
}
RULE_KEYS = {
    "name",
    "violations",
    "destroy",
    "hold",
    "limit",
    "back_off",
    "protected",
    "reported",
    "inhibited",
    "other_rule",
    "outcomes",
    "unenforced",
    "missing_interfaces",
}
AT_ONCE = rule(hold=0)


def _on(boot_id: str, boottime_s: float = 0.0) -> Clocks:
    return Clocks(0.0, boottime_s, boot_id)


def _metrics(harness: Harness) -> dict[str, float]:
    found = {}
    for line in (harness.folder / "agent.prom").read_text().splitlines():
        if not line.startswith("#"):
            name, _space, value = line.rpartition(" ")
            found[name.removeprefix("linuxnet_sockets_")] = float(value)
    return found


def _set_up(harness: Harness, state: str) -> None:
    keys = {
        "report_mode": {"mode": "report"},
        "budget_exceeded": {"limits": {"max_sockets": 1}},
    }.get(state, {})
    if state == "paused":
        (harness.state / "paused").write_text("work")
    if state == "unconfirmed":
        (harness.state / "unconfirmed.json").write_text("{")
    if state == "no_policy":
        harness.policy.write_text("{}")
    else:
        harness.write(AT_ONCE, **keys)


@pytest.mark.parametrize(
    ("state", "enforcing", "healthy"),
    [
        (None, True, True),
        ("no_policy", False, False),
        ("paused", False, False),
        ("unconfirmed", False, False),
        ("report_mode", False, True),
        ("budget_exceeded", True, False),
    ],
)
def test_keys_and_values_in_each_state(
    harness: Harness, state: str, enforcing: bool, healthy: bool
) -> None:
    for port in (1, 2):
        harness.machine.add(connection(local_port=port))
    _set_up(harness, state)
    harness.run_for()
    status = harness.status
    assert set(status) == KEYS
    for entry in status["rules"]:
        assert set(entry) == RULE_KEYS
    assert status["inhibited_by"] == state
    assert status["enforcing"] is enforcing
    assert is_healthy(status) is healthy
    metrics = _metrics(harness)
    assert metrics["enforcing"] == enforcing
    reasons = {name for name, value in metrics.items() if name.startswith("inhibited") and value}
    assert reasons == ({f'inhibited{{reason="{state}"}}'} if state else set())
    if state:
        assert harness.destroyed == []
    if state not in (None, "report_mode"):
        condition = {
            "no_policy": "policy file",
            "paused": "pause",
            "unconfirmed": "trial",
            "budget_exceeded": "budget of rule a-rule, user root (uid 0)",
        }[state]
        assert harness.conditions(condition) == [True]
        assert harness.log


@pytest.mark.parametrize(
    ("later_s", "boot", "overdue"),
    [
        (0, "boot", False),
        (120, "boot", False),
        (121, "boot", True),
        (86_400, "boot", True),
        # Written in another boot: the clocks are not comparable.
        (0, "another", True),
        (-500, "another", True),
    ],
)
@pytest.mark.parametrize("state", [None, "report_mode", "paused"])
def test_agent_without_recent_pass_is_overdue(
    harness: Harness, state: str | None, later_s: float, boot: str, overdue: bool
) -> None:
    _set_up(harness, state or "")
    harness.run_for()
    current = at_read_time(harness.status, harness.machine.now + later_s, _on(boot))
    assert current["last_pass"]["age_s"] == (later_s if boot == "boot" else None)
    assert current["inhibited_by"] == (OVERDUE if overdue else state)
    assert current["enforcing"] is (not overdue and state is None)
    assert is_healthy(current) is (not overdue and state != "paused")


def test_changed_clock_or_suspend_makes_no_pass_overdue(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    harness.wall_s, harness.suspended_s = 86_400.0, 3_600.0
    harness.run_for(60)
    harness.wall_s = -86_400.0
    current = at_read_time(harness.status, harness.machine.now + 30, _on("boot"))
    assert (current["inhibited_by"], current["last_pass"]["age_s"] <= 60) == (None, True)


def test_pass_age_is_unknown_before_the_first_pass(harness: Harness) -> None:
    harness.policy.write_text("{}")
    harness.run_for()
    assert at_read_time(harness.status, 1e9, _on("another")) == harness.status
    harness.write(AT_ONCE)
    harness.run_for(11)
    old_format = harness.status
    for key in ("boot_id", "boottime_s", "resync_s"):
        del old_format[key]
    del old_format["last_pass"]["monotonic_s"]
    assert at_read_time(old_format, 1e9, _on("another")) == old_format


def test_remaining_times_decrease_until_read_time(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    status = harness.status
    status["pause"] = {"reason": "", "remaining_s": 40.0}
    status["trial"] = {"digest": "", "remaining_s": 20.0, "expired": False}
    later = _on("boot", status["boottime_s"] + 30)
    current = at_read_time(status, harness.machine.now, later)
    assert (current["pause"]["remaining_s"], current["trial"]["remaining_s"]) == (10.0, 0.0)
    # A pause without a deadline.
    status["pause"] = {"reason": "", "remaining_s": None}
    assert at_read_time(status, harness.machine.now, later)["pause"]["remaining_s"] is None


def test_destroyed_sockets_are_counted_once(harness: Harness) -> None:
    for port in (1, 2):
        harness.machine.add(connection(local_port=port))
    harness.write(AT_ONCE)
    harness.run_for()
    harness.run_for(35)
    (entry,) = harness.status["rules"]
    assert (entry["violations"], entry["outcomes"]) == (0, {"destroyed": 2})
    assert _metrics(harness)['enforced_total{rule="a-rule",outcome="destroyed"}'] == 2
    lines = [line for line in harness.log if line.startswith("destroyed ")]
    assert len(lines) == 2
    assert "rule=a-rule" in lines[0]
    assert "comm=app" in lines[0]


def test_status_update_does_not_change_the_time_of_the_last_pass(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    last_pass_at = harness.status["last_pass"]["at"]
    harness.run_for(21)
    (harness.state / "paused").write_text("x")
    # Without CPU time, the agent reads the pause and delays the pass.
    harness.machine.now += 10
    harness.agent.scheduler.charge_cpu(harness.machine.now, 2.0)
    harness.agent.run_once()
    assert harness.status["inhibited_by"] == "paused"
    assert harness.status["last_pass"]["at"] == last_pass_at


def test_special_characters_break_no_output(harness: Harness) -> None:
    name = 'a"b\\c\nd\x1b[31m\ud800'
    harness.machine.add(connection())
    harness.policy.write_text(
        json.dumps(
            {
                "version": 1,
                "limits": {"max_sockets": 5},
                "rules": [{"name": name, "match": {"user": name, "remote": name}}],
            }
        )
    )
    harness.run_for()
    assert harness.status["inhibited_by"] == "no_policy"
    assert harness.destroyed == []
    (line,) = [line for line in harness.log if str(harness.policy) in line]
    assert line.isascii()
    assert "\x1b" not in line


@pytest.mark.parametrize("text", ["a\0b", "\udcff"])
def test_invalid_text_is_rejected_in_any_key(harness: Harness, text: str) -> None:
    for match in ({"cgroup": text}, {"local": f"interface:{text}"}, {"expression": text}):
        document: dict[str, Any] = {"version": 1, "limits": {"max_sockets": 5}}
        harness.policy.write_text(
            json.dumps({**document, "rules": [{"name": "x", "match": match}]})
        )
        harness.run_for()
        (error,) = harness.status["rejected"]["errors"]
        assert str(harness.policy) in error
        assert "NUL" in error


def _lines_with(status: dict[str, Any], part: str) -> list[str]:
    return [line for line in status_lines(status) if part in line]


def test_text_of_a_healthy_agent(harness: Harness) -> None:
    harness.machine.add(connection(local_port=1))
    harness.write(AT_ONCE)
    harness.run_for()
    first, *rest = status_lines(harness.status)
    assert first.startswith(f"policy {harness.status['policy']['digest'][:12]} from ")
    state, rule_line = rest
    assert state == "enforcing"
    assert rule_line.startswith("  a-rule: ")
    assert re.findall(r"\d+", rule_line) == ["0", "1"]
    assert "1 destroyed" in rule_line


@pytest.mark.parametrize("on_excess", ["refuse", "pace"])
def test_text_with_an_exceeded_budget(harness: Harness, on_excess: str) -> None:
    for port in (1, 2, 3):
        harness.machine.add(connection(local_port=port))
    harness.write(AT_ONCE, limits={"max_sockets": 1, "per": "1h", "on_excess": on_excess})
    harness.run_for()
    (state,) = _lines_with(harness.status, "[budget_exceeded]")
    assert state.startswith("enforcing")
    (limits,) = _lines_with(harness.status, f"({on_excess})")
    assert re.findall(r"\d+", limits)[-2:] == ["1", "3600"]
    assert "rule a-rule, user " in limits
    assert _lines_with(harness.status, "limits.max_sockets")
    assert bool(_lines_with(harness.status, "(3 limit)")) == (on_excess == "refuse")


def test_text_of_pause_and_trial(harness: Harness) -> None:
    harness.write(AT_ONCE)
    controls.write_pause(str(harness.state), "moving the database", None)
    harness.run_for()
    assert len(_lines_with(harness.status, "[paused]")) == 1
    (paused,) = _lines_with(harness.status, "moving the database")
    assert "socket-agent resume" in paused
    (harness.state / "paused").unlink()
    (harness.state / "unconfirmed.json").write_text("{")
    harness.run_for(11)
    assert len(_lines_with(harness.status, "[unconfirmed]")) == 1
    (trial,) = _lines_with(harness.status, "socket-agent confirm")
    assert not re.search(r"\d", trial)


def test_text_of_a_rejected_policy(harness: Harness) -> None:
    harness.policy.write_text('{"version": 1, "rules": null}')
    harness.run_for()
    first, *rest = status_lines(harness.status)
    assert "[no_policy]" in first
    errors = harness.status["rejected"]["errors"]
    assert any(error.startswith("limits: ") for error in errors)
    assert all(any(error in line for line in rest) for error in errors)


def test_every_inhibitor_has_a_text(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    status = at_read_time(harness.status, 0.0, _on("another boot"))
    assert status["inhibited_by"] == OVERDUE
    for reason in (*INHIBITED_BY, OVERDUE):
        _policy, line, *_rest = status_lines({**status, "inhibited_by": reason})
        assert line.endswith(f"[{reason}]")


def test_remaining_time_is_shown_in_minutes_or_seconds(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    for remaining_s, shown in ((1800.0, ["30 min"]), (42.4, ["42 s"]), (0.0, [])):
        status = {**harness.status, "pause": {"reason": "", "remaining_s": remaining_s}}
        (paused,) = _lines_with(status, "socket-agent resume")
        assert re.findall(r"\d+ \w+", paused) == shown


def test_text_of_an_overdue_agent(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    late = at_read_time(harness.status, harness.machine.now + 500, _on("boot"))
    (line,) = _lines_with(late, f"[{OVERDUE}]")
    assert re.findall(r"\d+ s", line) == ["500 s", "30 s"]
    before = at_read_time(harness.status, harness.machine.now, _on("another boot"))
    (line,) = _lines_with(before, f"[{OVERDUE}]")
    assert re.findall(r"\d+ s", line) == ["30 s"]
    assert "boot" in line
