# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main loop: events, files, inhibitors and faults, one iteration at a time."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import json
import os
import re
import socket
import struct

import pytest

from linuxnet_sockets.agent import commands, controller, controls, daemon, monitor
from linuxnet_sockets.agent.budget_store import WRITE_BUDGET
from linuxnet_sockets.agent.clocks import Deadline
from linuxnet_sockets.agent.network_events import OWN, EventBatch
from linuxnet_sockets.agent.policy_file import Rejected
from linuxnet_sockets.agent.state import READ_BUDGET
from linuxnet_sockets.agent.status import is_healthy
from linuxnet_sockets.agent.token_bucket import BURST_S, RATE
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.policy.doubt import NO_CHANGES, NetworkChanges
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.sockets.needs import Need
from tests.support.destroy_calls import requested_cookies
from tests.support.fake_kernel import faults
from tests.support.fake_machine import LOCAL, connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness

AT_ONCE = rule(hold=0)
HELD = rule(hold="5s")


def test_first_pass_destroys_existing_violations(harness: Harness) -> None:
    violating = harness.machine.add(connection())
    protected = harness.machine.add(connection(remote="203.0.113.9"))
    harness.write(AT_ONCE)
    harness.run_for()
    assert harness.destroyed == [violating.cookie]
    assert harness.status["rules"][0]["outcomes"] == {"destroyed": 1}
    assert protected in harness.machine.sockets.sockets
    assert harness.status["inhibited_by"] is None


def test_event_triggers_a_pass(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    violating = harness.machine.add(connection())
    harness.run_for(event=True)
    assert harness.destroyed == [violating.cookie]


def test_resync_finds_violations_without_events(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    violating = harness.machine.add(connection())
    harness.run_for(29)
    assert harness.destroyed == []
    harness.run_for(12)
    assert harness.destroyed == [violating.cookie]


def test_hold_ends_without_an_event(harness: Harness) -> None:
    violating = harness.machine.add(connection())
    harness.write(HELD)
    harness.run_for(4.9)
    assert harness.destroyed == []
    harness.run_for(0.2)
    assert harness.destroyed == [violating.cookie]


def test_suspend_does_not_count_for_holds(harness: Harness) -> None:
    violating = harness.machine.add(connection())
    harness.write(HELD)
    harness.run_for(4)
    harness.suspended_s += 3600
    harness.run_for(1.5)
    # The hold began again after the suspend.
    assert harness.destroyed == []
    harness.run_for(5)
    assert harness.destroyed == [violating.cookie]


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_changed_wall_clock_affects_no_hold_and_no_pause(harness: Harness, step_s: float) -> None:
    violating = harness.machine.add(connection())
    harness.write(HELD)
    until = Deadline.after(harness.clocks(), 60)
    controls.write_pause(str(harness.state), "work", until)
    harness.run_for(1)
    harness.wall_s += step_s
    harness.run_for(55)
    assert harness.status["inhibited_by"] == "paused"
    assert harness.destroyed == []
    passes = harness.status["passes"]
    harness.run_for(20)
    assert harness.destroyed == [violating.cookie]
    assert harness.status["passes"] <= passes + 3


def test_agent_subscribes_before_the_first_pass_of_a_policy(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    (first,) = harness.listeners
    assert (first.facts, first.all_namespaces) == (frozenset(), False)
    harness.write(rule(hold=0, match={"stranded": "address_gone"}), namespaces=["all"])
    listeners: list[int] = []
    harness.machine.sockets.before_request = lambda _kind, _body: listeners.append(
        len(harness.listeners)
    )
    harness.run_for()
    assert first.closed
    _first, second = harness.listeners
    assert Need.ADDRESSES in second.facts
    assert second.all_namespaces
    assert listeners
    assert set(listeners) == {2}


def test_status_does_not_mix_two_policies(harness: Harness) -> None:
    harness.machine.add(connection())
    harness.write(AT_ONCE, mode="report")
    harness.run_for()
    old = harness.status
    harness.write(rule(hold=0, match={"remote": "203.0.113.9"}), mode="report")
    # Without CPU time, the agent loads the policy and delays the pass.
    harness.agent.scheduler.charge_cpu(harness.machine.now, 2.0)
    harness.agent.run_once()
    assert harness.agent.state.policy is not None
    assert harness.agent.state.policy.digest != old["policy"]["digest"]
    assert harness.status == old
    harness.run_for(2)
    assert harness.status["policy"]["digest"] != old["policy"]["digest"]
    assert harness.status["rules"][0]["violations"] == 0


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EPERM, errno.EBADF, errno.EMFILE])
def test_failed_snapshot_is_reported_and_retried(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    violating = harness.machine.add(connection())
    harness.write(AT_ONCE)
    original = harness.machine.open

    def fail(*_arguments: object) -> object:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(harness.machine, "open", fail)
    harness.agent.close()
    harness.new_agent()
    harness.run_for(3)
    assert harness.destroyed == []
    assert harness.status["inhibited_by"] == "not_evaluated"
    assert sum(os.strerror(code) in line for line in harness.log) == 1
    monkeypatch.setattr(harness.machine, "open", original)
    harness.agent.close()
    harness.new_agent()
    harness.run_for(3)
    assert harness.destroyed == [violating.cookie]
    assert harness.status["inhibited_by"] is None


def test_failed_pass_is_retried(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    violating = harness.machine.add(connection())
    harness.write(AT_ONCE)
    original = controller.reconcile_namespace

    def fail(*_arguments: object, **_keys: object) -> object:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(controller, "reconcile_namespace", fail)
    harness.run_for(5)
    assert sum(os.strerror(errno.EMFILE) in line for line in harness.log) == 1
    assert harness.conditions("reconcile") == [True]
    assert harness.status["inhibited_by"] == "not_evaluated"
    assert harness.status["faults"][0]["operation"] == "reconcile"
    assert harness.agent.state.incomplete_passes > 1
    monkeypatch.setattr(controller, "reconcile_namespace", original)
    harness.run_for(2)
    assert harness.destroyed == [violating.cookie]
    assert harness.conditions("reconcile") == [True, False]
    assert harness.status["faults"] == []


def test_bug_ends_the_agent(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write(AT_ONCE)

    def fail(*_arguments: object, **_keys: object) -> object:
        raise TypeError("a bug")

    monkeypatch.setattr(controller, "reconcile_namespace", fail)
    with pytest.raises(TypeError, match="a bug"):
        harness.run_for()


@pytest.mark.parametrize(
    "fault",
    [
        faults.overrun(),
        faults.overrun(kept=1),
        faults.failing(errno.ENOMEM),
        faults.done_with(errno.ENOMEM),
        faults.dump_interrupted,
        faults.cut(20),
        faults.strangers(sequence=True),
        faults.raw(b"\0" * 7),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2, 3, 5, 7])
def test_netlink_errors_only_cost_time(harness: Harness, fault: faults.Fault, at: int) -> None:
    """at: the number of the reply with the fault. The agent destroys all violating sockets in the
    end, and requests no other destroy."""
    violating = {harness.machine.add(connection(local_port=port)).cookie for port in range(1, 6)}
    complying = [
        harness.machine.add(connection(remote=f"203.0.113.{last}")) for last in range(1, 6)
    ]
    harness.write(AT_ONCE)
    harness.machine.sockets.faults.extend([faults.none] * at + [fault])
    harness.run_for(40)
    assert {each.cookie for each in complying} <= {
        x.cookie for x in harness.machine.sockets.sockets
    }
    assert set(harness.destroyed) == violating
    assert set(requested_cookies(harness.machine.sockets)) <= violating | {0}
    assert harness.status["rules"][0]["violations"] == 0


def test_broken_listener_is_replaced(harness: Harness) -> None:
    harness.write(rule(hold=0, match={"stranded": "address_gone"}))
    harness.run_for()
    (first,) = harness.listeners
    harness.receive(OSError(errno.EBADF, "gone"))
    harness.run_for(event=True)
    assert first.closed
    assert harness.conditions(monitor.RECEIVE) == [True]
    assert harness.status["faults"]
    harness.run_for(25)
    assert len(harness.listeners) == 2
    assert harness.conditions(monitor.RECEIVE) == [True, False]
    assert harness.status["faults"] == []


# What libraries raise although they do not document it.
FOREIGN = [
    KeyError("no free address available"),
    struct.error("unpack requires a buffer of 16 bytes"),
    RuntimeError("Event loop is closed"),
    AttributeError("'NoneType' object has no attribute 'fileno'"),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_exception_of_the_library_is_a_fault(harness: Harness, error: BaseException) -> None:
    harness.listen_error = error
    violating = harness.machine.add(connection())
    harness.write(AT_ONCE)
    harness.run_for()
    assert harness.destroyed == [violating.cookie]
    assert type(error).__name__ in harness.status["faults"][0]["error"]
    assert not is_healthy(harness.status)
    harness.listen_error = None
    harness.run_for(12)
    assert harness.status["faults"] == []
    # The next error comes while it reads, and closing fails too.
    harness.listeners[-1].close_error = KeyError("closed")
    harness.receive(error)
    harness.run_for(event=True)
    assert type(error).__name__ in harness.status["faults"][0]["error"]
    harness.run_for(25)
    assert len(harness.listeners) == 2
    assert harness.status["faults"] == []
    assert harness.conditions(monitor.RECEIVE) == [True, False, True, False]


def test_agent_works_without_pyroute2(harness: Harness) -> None:
    harness.pyroute2_missing = True
    violating = harness.machine.add(connection())
    harness.write(AT_ONCE)
    harness.run_for()
    assert harness.destroyed == [violating.cookie]
    assert "pyroute2" in harness.status["faults"][0]["error"]
    later = harness.machine.add(connection(local_port=7, remote_port=444))
    harness.run_for(45)
    assert later.cookie in harness.destroyed
    harness.pyroute2_missing = False
    harness.run_for(12)
    assert harness.status["faults"] == []


def test_pause_inhibits_the_next_pass(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    harness.machine.add(connection())
    (harness.state / "paused").write_text("by hand")
    harness.run_for(event=True)
    assert harness.destroyed == []
    assert harness.status["inhibited_by"] == "paused"
    assert harness.status["rules"][0]["inhibited"] == 1
    (harness.state / "paused").unlink()
    harness.run_for(11)
    assert len(harness.destroyed) == 1


def test_trial_expires_between_two_passes(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    digest = harness.status["policy"]["digest"]
    controls.start_trial(str(harness.state), digest, Deadline.after(harness.clocks(), 15))
    harness.run_for(11)
    assert harness.status["trial"]["expired"] is False
    assert harness.conditions("trial") == [True]
    harness.run_for(5)
    assert harness.status["inhibited_by"] == "unconfirmed"
    harness.machine.add(connection())
    harness.run_for(60, event=True)
    assert harness.destroyed == []
    assert harness.conditions("trial") == [True, True]


def test_protection_files_apply_to_the_policy(harness: Harness) -> None:
    harness.machine.files.mkdir()
    harness.machine.add(connection())
    harness.write(AT_ONCE, mode="report")
    harness.run_for()
    file = harness.machine.files / "dns.json"
    file.write_text(json.dumps([{"remote": "198.51.100.7"}]))
    harness.write(AT_ONCE)
    harness.run_for()
    assert harness.status["rules"][0]["protected"] == 1
    assert any(line.startswith("protected ") and "dns.json" in line for line in harness.log)
    file.write_text("[{")
    harness.run_for()
    assert "dns.json" in " ".join(harness.status["rejected"]["errors"])
    assert harness.status["rules"][0]["protected"] == 1
    file.unlink()
    harness.run_for(11)
    assert harness.status["rejected"] is None
    assert len(harness.destroyed) == 1


def test_plan_names_the_protecting_selector(harness: Harness) -> None:
    harness.machine.files.mkdir()
    harness.machine.add(connection())
    harness.write(AT_ONCE)
    (harness.machine.files / "dns.json").write_text(json.dumps([{"remote": "198.51.100.7"}]))
    out = io.StringIO()
    commands.plan(harness.machine.host, str(harness.policy), out, as_json=False, installed=True)
    (line,) = [text for text in out.getvalue().splitlines() if "dns.json" in text]
    assert "selector" in line
    assert f"{harness.machine.files}/dns.json[0]" in line


def test_unknown_interface_is_logged_once_with_the_existing_ones(harness: Harness) -> None:
    harness.write(rule("typo", hold=0, match={"local": "interface:etth0"}))
    harness.run_for()
    (line,) = [line for line in harness.log if "etth0" in line]
    assert "rule typo" in line
    assert set(re.split(r"\W+", line.partition("Existing:")[2])) >= {"eth0", "lo"}
    harness.run_for(60)
    assert harness.conditions("interfaces of typo") == [True]
    harness.write(rule("typo", hold=0, match={"local": "interface:eth0"}))
    harness.run_for(11)
    assert harness.conditions("interfaces of typo") == [True, False]


def test_interface_that_existed_before_is_not_called_unknown(harness: Harness) -> None:
    eth1 = next(link for link in harness.machine.sockets.links if link.name == "eth1")
    harness.write(rule("vpn", **{"while": {"interface": "eth1", "is": "up"}}))
    harness.run_for()
    assert not any("eth1" in line for line in harness.log)
    for _time in range(2):
        harness.machine.sockets.links.remove(eth1)
        harness.run_for(event=True)
        harness.machine.sockets.links.append(eth1)
        harness.run_for(event=True)
    lines = [line for line in harness.log if "eth1" in line]
    assert len(lines) == 2
    assert all("interface eth1 (rule vpn) no longer exists" in line for line in lines)
    assert not any("unknown interface" in line for line in harness.log)
    assert harness.conditions("interfaces of vpn") == [True, False] * 2


def test_interface_whose_presence_is_a_condition_is_not_reported(harness: Harness) -> None:
    condition = {"not": {"interface": "wg0", "is": "present"}}
    harness.write(rule("without", **{"while": condition}))
    harness.run_for()
    assert not any("wg0" in line for line in harness.log)
    assert harness.status["rules"][0]["missing_interfaces"] == ["wg0"]


def test_unchanged_state_is_not_logged_again(harness: Harness) -> None:
    harness.machine.add(connection(remote_port=4505))
    harness.write(rule("typo", hold=0, match={"local": "interface:etth0"}), AT_ONCE)
    harness.run_for()
    lines = len(harness.log)
    assert any("etth0" in line for line in harness.log)
    assert sum(line.startswith("protected ") for line in harness.log) == 1
    harness.run_for(240)
    assert len(harness.log) == lines
    # The violation has been protected for five minutes by then.
    harness.run_for(600)
    (line,) = harness.log[lines:]
    assert "a-rule" in line
    assert "cannot be destroyed: protected" in line
    assert harness.status["inhibited_by"] == "unenforced"
    assert harness.conditions("unenforced of a-rule") == [True]


def test_signal_flood_uses_two_tenths_of_a_core_at_most(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each reading of the CPU clock is 10 ms after the one before.
    readings = itertools.count()
    monkeypatch.setattr(daemon.time, "process_time", lambda: next(readings) / 100)
    harness.write(AT_ONCE)
    harness.run_for()
    began, before = harness.machine.now, harness.agent.state.cpu_s
    for _signal in range(200):
        harness.agent.request_reload()
        harness.run_for(0.01)
    used_s = harness.agent.state.cpu_s - before
    # A tenth each for the reloads and for the passes, and the content of both buckets.
    assert used_s >= 2.0
    assert used_s <= 2 * (BURST_S + RATE * (harness.machine.now - began)) + 0.1


def test_slow_policy_load_does_not_delay_event_handling(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    original = daemon.load_policy
    cpu_s = [100.0]

    def slow(file: str, host: Host) -> Policy | Rejected:
        cpu_s[0] += 0.3
        return original(file, host)

    monkeypatch.setattr(daemon, "load_policy", slow)
    # Only loading the policy uses CPU time.
    monkeypatch.setattr(daemon.time, "process_time", lambda: cpu_s[0])
    scheduler = harness.agent.scheduler
    for _reload in range(5):
        harness.agent.request_reload()
        harness.agent.run_once()
    assert scheduler.reload_wait_s(harness.machine.now) > 0.9
    assert scheduler.cpu.balance_s(harness.machine.now) == BURST_S
    # The next reload has to wait; the agent enforces the policy in force.
    harness.write(AT_ONCE)
    later = harness.machine.add(connection(local_port=7, remote_port=444))
    harness.receive(EventBatch(1, {OWN: NO_CHANGES}))
    harness.machine.now += 0.1
    harness.agent.run_once()
    assert later.cookie in harness.destroyed
    harness.write(AT_ONCE, mode="report")
    harness.agent.run_once()
    assert harness.status["policy"]["mode"] == "enforce"
    harness.run_for()
    assert harness.status["policy"]["mode"] == "report"


def test_reload_of_the_same_policy_keeps_holds(harness: Harness) -> None:
    violating = harness.machine.add(connection())
    harness.write(HELD)
    harness.run_for()
    for _reload in range(5):
        assert harness.destroyed == []
        harness.agent.request_reload()
        harness.run_for(1)
    harness.run_for(0.5)
    assert harness.destroyed == [violating.cookie]


@pytest.mark.parametrize("pyroute2_missing", [False, True])
def test_events_before_a_reload_apply_to_continuing_holds(
    harness: Harness, pyroute2_missing: bool
) -> None:
    # The rule's only address is that of the socket.
    kept = rule("kept", hold="5s", match={"local": "interface:eth0"})
    violating = harness.machine.add(connection())
    harness.write(kept)
    harness.run_for(3)
    (first,) = harness.listeners
    address = frozenset({socket.inet_aton(LOCAL)})
    first.pending = [EventBatch(1, {OWN: NetworkChanges(address, address)})]
    harness.pyroute2_missing = pyroute2_missing
    harness.write(kept, rule("new", match={"stranded": "unroutable"}, action="report"))
    harness.run_for(3)
    assert len(harness.listeners) == 2 - pyroute2_missing
    assert harness.destroyed == []
    harness.run_for(3)
    assert harness.destroyed == [violating.cookie]


PACED = {"max_sockets": 2, "per": "1h", "on_excess": "pace"}


def _restart(harness: Harness) -> None:
    harness.agent.close()
    harness.new_agent()
    harness.run_for()


def test_limits_apply_across_restarts_and_policies(harness: Harness) -> None:
    for port in range(1, 13):
        harness.machine.add(connection(local_port=port))
    harness.write(AT_ONCE, limits=PACED)
    harness.run_for()
    for _start in range(5):
        assert len(harness.destroyed) == 2
        _restart(harness)
        assert harness.status["budget"]["exceeded"][0]["destroyed_in_window"] == 2
    # Sockets destroyed under earlier limits count for new limits.
    harness.write(AT_ONCE, limits={**PACED, "max_sockets": 3, "per": "2h"})
    _restart(harness)
    assert len(harness.destroyed) == 3
    harness.write(AT_ONCE, limits={**PACED, "per": "1s"})
    _restart(harness)
    assert len(harness.destroyed) == 3
    harness.write(AT_ONCE, limits=PACED)
    harness.run_for(2)
    _restart(harness)
    assert len(harness.destroyed) == 3
    harness.machine.now += 2 * 3_600
    harness.run_for()
    assert len(harness.destroyed) == 5


def test_unknown_budget_is_reported_and_inhibits(harness: Harness) -> None:
    violating = harness.machine.add(connection())
    (harness.runtime / "budget.json").write_text("garbage")
    harness.write(AT_ONCE, limits={"max_sockets": 5, "per": "1m"})
    harness.run_for()
    assert harness.destroyed == []
    assert harness.status["inhibited_by"] == "budget_unknown"
    (error,) = harness.status["faults"]
    assert "budget.json" in error["error"]
    assert sum("budget.json" in line for line in harness.log) == 1
    # It stays unknown over a restart: the new file says so.
    harness.run_for(20)
    _restart(harness)
    harness.run_for(20)
    assert harness.destroyed == []
    assert harness.status["faults"]
    harness.run_for(21)
    assert harness.destroyed == [violating.cookie]
    harness.run_for(31)
    assert harness.status["faults"] == []
    assert harness.conditions(READ_BUDGET) == [True, True, False]


def test_unwritable_budget_is_reported_and_does_not_inhibit(harness: Harness) -> None:
    """A full disk does not stop the enforcement."""
    violating = [harness.machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    harness.runtime.rmdir()
    harness.write(AT_ONCE, limits={**PACED, "max_sockets": 2})
    harness.run_for(70)
    # The limits apply as long as this agent runs.
    assert len(harness.destroyed) == 2 < len(violating)
    assert harness.conditions(WRITE_BUDGET) == [True]
    assert WRITE_BUDGET in harness.agent.state.faults
    harness.runtime.mkdir()
    harness.run_for(12)
    assert harness.conditions(WRITE_BUDGET) == [True, False]
    _restart(harness)
    harness.run_for(12)
    assert len(harness.destroyed) == 2


def test_failed_status_write_is_logged_once(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    harness.runtime.rename(harness.runtime.with_name("elsewhere"))
    harness.run_for(100)
    (line,) = [line for line in harness.log if "status.json" in line]
    assert str(harness.runtime / "status.json") in line


def test_budget_write_is_retried_without_violations(harness: Harness) -> None:
    (harness.runtime / "budget.json").mkdir()
    harness.write(AT_ONCE, limits={"max_sockets": 5, "per": "1s"})
    harness.run_for(12)
    assert harness.status["faults"]
    (harness.runtime / "budget.json").rmdir()
    harness.run_for(45)
    assert harness.status["faults"] == []


def test_closed_sockets_are_forgotten(harness: Harness) -> None:
    harness.write(AT_ONCE)
    harness.run_for()
    for number in range(40):
        harness.machine.add(connection(local_port=1000 + number, remote_port=4505))
        harness.run_for(event=True)
        harness.machine.sockets.sockets.clear()
    harness.run_for(event=True)
    reporter = harness.agent.reporter
    assert not reporter._violations
    assert not reporter._conditions
    assert not any(sock for sock in harness.machine.kernel.opened if not sock.closed)
