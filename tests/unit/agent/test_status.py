# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""status.json and the metrics: their keys, and what they say of the agent's states."""

from __future__ import annotations

import json

import pytest

from linuxnet_sockets.agent.clocks import Clocks
from linuxnet_sockets.agent.status import OVERDUE, as_of, is_healthy
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Bench

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
    "missing_interfaces",
}
AT_ONCE = rule(hold=0)


def _on(boot_id: str, boottime_s: float = 0.0) -> Clocks:
    return Clocks(0.0, boottime_s, boot_id)


def _metrics(bench: Bench) -> dict[str, float]:
    found = {}
    for line in (bench.folder / "agent.prom").read_text().splitlines():
        if not line.startswith("#"):
            name, _space, value = line.rpartition(" ")
            found[name.removeprefix("linuxnet_sockets_")] = float(value)
    return found


def _set_up(bench: Bench, state: str) -> None:
    keys = {
        "report_mode": {"mode": "report"},
        "budget_exceeded": {"limits": {"max_sockets": 1}},
    }.get(state, {})
    if state == "paused":
        (bench.state / "paused").write_text("work")
    if state == "unconfirmed":
        (bench.state / "unconfirmed.json").write_text("{")
    if state == "no_policy":
        bench.policy.write_text("{}")
    else:
        bench.write(AT_ONCE, **keys)


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
def test_the_same_keys_in_every_state(
    bench: Bench, state: str, enforcing: bool, healthy: bool
) -> None:
    for port in (1, 2):
        bench.machine.add(connection(local_port=port))
    _set_up(bench, state)
    bench.goes_on()
    status = bench.status
    assert set(status) == KEYS
    for each in status["rules"]:
        assert set(each) == RULE_KEYS
    assert status["inhibited_by"] == state
    assert status["enforcing"] is enforcing
    assert is_healthy(status) is healthy
    metrics = _metrics(bench)
    assert metrics["enforcing"] == enforcing
    reasons = {name for name, value in metrics.items() if name.startswith("inhibited") and value}
    assert reasons == ({f'inhibited{{reason="{state}"}}'} if state else set())
    if state:
        assert bench.destroyed == []
    if state not in (None, "report_mode"):
        condition = {
            "no_policy": "policy file",
            "paused": "pause",
            "unconfirmed": "trial",
            "budget_exceeded": "budget",
        }[state]
        assert bench.conditions(condition) == [True]
        assert bench.log


@pytest.mark.parametrize(
    ("later_s", "boot", "overdue"),
    [
        (0, "boot", False),
        (120, "boot", False),
        (121, "boot", True),
        (86_400, "boot", True),
        # Of another boot nothing is known, whatever its clock shows.
        (0, "another", True),
        (-500, "another", True),
    ],
)
@pytest.mark.parametrize("state", [None, "report_mode", "paused"])
def test_an_agent_that_looks_no_more_is_not_well(
    bench: Bench, state: str | None, later_s: float, boot: str, overdue: bool
) -> None:
    _set_up(bench, state or "")
    bench.goes_on()
    told = as_of(bench.status, bench.machine.now + later_s, _on(boot))
    assert told["last_pass"]["age_s"] == (later_s if boot == "boot" else None)
    assert told["inhibited_by"] == (OVERDUE if overdue else state)
    assert told["enforcing"] is (not overdue and state is None)
    assert is_healthy(told) is (not overdue and state != "paused")


def test_neither_a_clock_that_is_set_nor_sleep_makes_a_look_old(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    bench.wall_s, bench.asleep_s = 86_400.0, 3_600.0
    bench.goes_on(60)
    bench.wall_s = -86_400.0
    told = as_of(bench.status, bench.machine.now + 30, _on("boot"))
    assert (told["inhibited_by"], told["last_pass"]["age_s"] <= 60) == (None, True)


def test_before_the_first_look_and_of_an_older_agent_there_is_no_age(bench: Bench) -> None:
    bench.policy.write_text("{}")
    bench.goes_on()
    assert as_of(bench.status, 1e9, _on("another")) == bench.status
    bench.write(AT_ONCE)
    bench.goes_on(11)
    older = bench.status
    for key in ("boot_id", "boottime_s", "resync_s"):
        del older[key]
    del older["last_pass"]["monotonic_s"]
    assert as_of(older, 1e9, _on("another")) == older


def test_what_is_left_of_a_pause_and_a_trial_is_less_by_what_passed(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    status = bench.status
    status["pause"] = {"reason": "", "remaining_s": 40.0}
    status["trial"] = {"digest": "", "remaining_s": 20.0, "expired": False}
    later = _on("boot", status["boottime_s"] + 30)
    told = as_of(status, bench.machine.now, later)
    assert (told["pause"]["remaining_s"], told["trial"]["remaining_s"]) == (10.0, 0.0)
    # Until it is resumed.
    status["pause"] = {"reason": "", "remaining_s": None}
    assert as_of(status, bench.machine.now, later)["pause"]["remaining_s"] is None


def test_what_was_destroyed_is_counted_once_and_is_no_longer_there(bench: Bench) -> None:
    for port in (1, 2):
        bench.machine.add(connection(local_port=port))
    bench.write(AT_ONCE)
    bench.goes_on()
    bench.goes_on(35)
    (found,) = bench.status["rules"]
    assert (found["violations"], found["outcomes"]) == (0, {"destroyed": 2})
    assert _metrics(bench)['enforced_total{rule="a-rule",outcome="destroyed"}'] == 2
    lines = [line for line in bench.log if line.startswith("destroyed ")]
    assert len(lines) == 2
    assert "rule=a-rule" in lines[0]
    assert "comm=app" in lines[0]


def test_the_time_of_the_last_look_is_not_that_of_a_glance_at_the_files(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    looked = bench.status["last_pass"]["at"]
    bench.goes_on(21)
    (bench.state / "paused").write_text("x")
    # It rests from something else: the pause is read, and the look comes later.
    bench.machine.now += 10
    bench.agent.cadence.worked(bench.machine.now, 0.5)
    bench.agent.turn()
    assert bench.status["inhibited_by"] == "paused"
    assert bench.status["last_pass"]["at"] == looked


def test_hostile_names_break_neither_status_nor_metrics_nor_log(bench: Bench) -> None:
    name = 'a"b\\c\nd\x1b[31m\ud800'
    bench.machine.add(connection())
    bench.policy.write_text(
        json.dumps(
            {
                "version": 1,
                "limits": {"max_sockets": 5},
                "rules": [{"name": name, "match": {"user": name, "remote": name}}],
            }
        )
    )
    bench.goes_on()
    assert bench.status["inhibited_by"] == "no_policy"
    assert bench.destroyed == []
    (line,) = [each for each in bench.log if str(bench.policy) in each]
    assert line.isascii()
    assert "\x1b" not in line


@pytest.mark.parametrize("text", ["a\0b", "\udcff"])
def test_what_is_no_text_is_refused_in_any_place(bench: Bench, text: str) -> None:
    for match in ({"cgroup": text}, {"local": f"interface:{text}"}, {"expression": text}):
        document = {"version": 1, "limits": {"max_sockets": 5}}
        bench.policy.write_text(json.dumps({**document, "rules": [{"name": "x", "match": match}]}))
        bench.goes_on()
        (error,) = bench.status["rejected"]["errors"]
        assert str(bench.policy) in error
        assert "NUL" in error
