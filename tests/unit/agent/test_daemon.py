# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does with what it hears, reads and cannot do, turn by turn."""

from __future__ import annotations

import errno
import io
import json
import os
import socket

import pytest

from linuxnet_sockets.agent import commands, controls, daemon
from linuxnet_sockets.agent.budget_store import COUNTING
from linuxnet_sockets.agent.clocks import Deadline
from linuxnet_sockets.agent.news import News
from linuxnet_sockets.agent.policy_file import Refusal
from linuxnet_sockets.agent.state import COUNT
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.sockets.needs import Need
from tests.support.destroy_calls import cookies_asked_for
from tests.support.fake_kernel import faults
from tests.support.fake_machine import LOCAL, connection
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Bench

AT_ONCE = rule(hold=0)
HELD = rule(hold="5s")


def test_what_violates_at_the_start_goes_with_the_first_look(bench: Bench) -> None:
    doomed = bench.machine.add(connection())
    protected = bench.machine.add(connection(remote="203.0.113.9"))
    bench.write(AT_ONCE)
    bench.goes_on()
    assert bench.destroyed == [doomed.cookie]
    assert bench.status["rules"][0]["outcomes"] == {"destroyed": 1}
    assert protected in bench.machine.sockets.sockets
    assert bench.status["inhibited_by"] is None


def test_an_event_is_followed_by_a_look(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    doomed = bench.machine.add(connection())
    bench.goes_on(heard=True)
    assert bench.destroyed == [doomed.cookie]


def test_without_any_event_the_regular_look_finds_it(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    doomed = bench.machine.add(connection())
    bench.goes_on(29)
    assert bench.destroyed == []
    bench.goes_on(12)
    assert bench.destroyed == [doomed.cookie]


def test_a_hold_ends_by_itself(bench: Bench) -> None:
    doomed = bench.machine.add(connection())
    bench.write(HELD)
    bench.goes_on(4.9)
    assert bench.destroyed == []
    bench.goes_on(0.2)
    assert bench.destroyed == [doomed.cookie]


def test_what_the_machine_slept_counts_for_no_hold(bench: Bench) -> None:
    doomed = bench.machine.add(connection())
    bench.write(HELD)
    bench.goes_on(4)
    bench.asleep_s += 3600
    bench.goes_on(1.5)
    # The look that was due noticed the sleep: what was counted before it is kept.
    assert bench.destroyed == []
    bench.goes_on(5)
    assert bench.destroyed == [doomed.cookie]


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_a_wall_clock_that_is_set_moves_no_hold_and_no_pause(bench: Bench, step_s: float) -> None:
    doomed = bench.machine.add(connection())
    bench.write(HELD)
    until = Deadline.after(bench.clocks(), 60)
    controls.write_pause(str(bench.state), "work", until)
    bench.goes_on(1)
    bench.wall_s += step_s
    bench.goes_on(55)
    assert bench.status["inhibited_by"] == "paused"
    assert bench.destroyed == []
    looks = bench.status["passes"]
    bench.goes_on(20)
    assert bench.destroyed == [doomed.cookie]
    assert bench.status["passes"] <= looks + 3


def test_another_policy_is_listened_for_before_it_is_looked_for(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    (first,) = bench.listeners
    assert (first.facts, first.foreign) == (frozenset(), False)
    bench.write(rule(hold=0, match={"stranded": "address_gone"}), namespaces=["all"])
    seen: list[int] = []
    bench.machine.sockets.before_request = lambda _kind, _body: seen.append(len(bench.listeners))
    bench.goes_on()
    assert first.closed
    _first, second = bench.listeners
    assert Need.ADDRESSES in second.facts
    assert second.foreign
    assert seen
    assert set(seen) == {2}


def test_a_status_never_mixes_two_policies(bench: Bench) -> None:
    bench.machine.add(connection())
    bench.write(AT_ONCE, mode="report")
    bench.goes_on()
    old = bench.status
    bench.write(rule(hold=0, match={"remote": "203.0.113.9"}), mode="report")
    # It rests still: the file is read, and the look comes later.
    bench.machine.now += bench.agent.cadence.reading_rest_s(bench.machine.now)
    bench.agent.cadence.worked(bench.machine.now, 1.0)
    bench.agent.turn()
    assert bench.status == old
    bench.goes_on()
    assert bench.status["policy"]["digest"] != old["policy"]["digest"]
    assert bench.status["rules"][0]["violations"] == 0


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EPERM, errno.EBADF, errno.EMFILE])
def test_a_look_that_fails_is_told_and_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    doomed = bench.machine.add(connection())
    bench.write(AT_ONCE)
    right = bench.machine.open

    def fails(*_arguments: object) -> object:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(bench.machine, "open", fails)
    bench.agent.close()
    bench.another()
    bench.goes_on(3)
    assert bench.destroyed == []
    assert bench.status["inhibited_by"] == "not_evaluated"
    told = [line for line in bench.log if os.strerror(code) in line]
    assert len(told) == 1
    monkeypatch.setattr(bench.machine, "open", right)
    bench.agent.close()
    bench.another()
    bench.goes_on(3)
    assert bench.destroyed == [doomed.cookie]
    assert bench.status["inhibited_by"] is None


def test_a_pass_that_breaks_off_is_survived(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = bench.machine.add(connection())
    bench.write(AT_ONCE)
    right = daemon.reconcile

    def breaks(*_arguments: object, **_keys: object) -> object:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(daemon, "reconcile", breaks)
    bench.goes_on(5)
    assert sum(os.strerror(errno.EMFILE) in line for line in bench.log) == 1
    assert bench.conditions("reconcile") == [True]
    assert bench.status["inhibited_by"] == "not_evaluated"
    assert bench.status["faults"][0]["operation"] == "reconcile"
    assert bench.agent.account.failed_looks > 1
    monkeypatch.setattr(daemon, "reconcile", right)
    bench.goes_on(2)
    assert bench.destroyed == [doomed.cookie]
    assert bench.conditions("reconcile") == [True, False]
    assert bench.status["faults"] == []


def test_a_mistake_of_ours_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(AT_ONCE)

    def wrong(*_arguments: object, **_keys: object) -> object:
        raise TypeError("a mistake")

    monkeypatch.setattr(daemon, "reconcile", wrong)
    with pytest.raises(TypeError, match="a mistake"):
        bench.goes_on()


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
def test_errors_of_netlink_cost_time_alone(bench: Bench, fault: faults.Fault, at: int) -> None:
    """Whichever of the first answers is struck: in the end all that violates is gone, and nothing
    else was asked to go."""
    doomed = {bench.machine.add(connection(local_port=port)).cookie for port in range(1, 6)}
    living = [bench.machine.add(connection(remote=f"203.0.113.{last}")) for last in range(1, 6)]
    bench.write(AT_ONCE)
    bench.machine.sockets.faults.extend([faults.none] * at + [fault])
    bench.goes_on(40)
    assert {each.cookie for each in living} <= {x.cookie for x in bench.machine.sockets.sockets}
    assert set(bench.destroyed) == doomed
    assert set(cookies_asked_for(bench.machine.sockets)) <= doomed | {0}
    assert bench.status["rules"][0]["violations"] == 0


def test_lost_events_and_a_broken_listener(bench: Bench) -> None:
    bench.write(rule(hold=0, match={"stranded": "address_gone"}))
    bench.goes_on()
    (first,) = bench.listeners
    first.waiting = [OSError(errno.EBADF, "gone")]
    bench.goes_on(heard=True)
    assert first.closed
    assert bench.conditions("receive rtnetlink events") == [True]
    assert bench.status["faults"]
    bench.goes_on(25)
    assert len(bench.listeners) == 2
    assert bench.conditions("receive rtnetlink events") == [True, False]
    assert bench.status["faults"] == []


def test_without_the_package_it_looks_now_and_then_and_says_so(bench: Bench) -> None:
    bench.missing = True
    doomed = bench.machine.add(connection())
    bench.write(AT_ONCE)
    bench.goes_on()
    assert bench.destroyed == [doomed.cookie]
    assert "pyroute2" in bench.status["faults"][0]["error"]
    later = bench.machine.add(connection(local_port=7, remote_port=444))
    bench.goes_on(45)
    assert later.cookie in bench.destroyed
    bench.missing = False
    bench.goes_on(12)
    assert bench.status["faults"] == []


def test_a_pause_is_obeyed_by_the_very_next_look(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    bench.machine.add(connection())
    (bench.state / "paused").write_text("by hand")
    bench.goes_on(heard=True)
    assert bench.destroyed == []
    assert bench.status["inhibited_by"] == "paused"
    assert bench.status["rules"][0]["inhibited"] == 1
    (bench.state / "paused").unlink()
    bench.goes_on(11)
    assert len(bench.destroyed) == 1


def test_a_trial_that_ends_between_two_looks(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    digest = bench.status["policy"]["digest"]
    controls.await_confirmation(str(bench.state), digest, Deadline.after(bench.clocks(), 15))
    bench.goes_on(11)
    assert bench.status["trial"]["expired"] is False
    assert bench.conditions("trial") == [True]
    bench.goes_on(5)
    assert bench.status["inhibited_by"] == "unconfirmed"
    bench.machine.add(connection())
    bench.goes_on(60, heard=True)
    assert bench.destroyed == []
    assert bench.conditions("trial") == [True, True]


def test_protection_files_count_for_the_policy(bench: Bench) -> None:
    bench.machine.files.mkdir()
    bench.machine.add(connection())
    bench.write(AT_ONCE, mode="report")
    bench.goes_on()
    file = bench.machine.files / "dns.json"
    file.write_text(json.dumps([{"remote": "198.51.100.7"}]))
    bench.write(AT_ONCE)
    bench.goes_on()
    assert bench.status["rules"][0]["protected"] == 1
    assert any(line.startswith("protected ") and "dns.json" in line for line in bench.log)
    file.write_text("[{")
    bench.goes_on()
    assert "dns.json" in " ".join(bench.status["rejected"]["errors"])
    assert bench.status["rules"][0]["protected"] == 1
    file.unlink()
    bench.goes_on(11)
    assert bench.status["rejected"] is None
    assert len(bench.destroyed) == 1


def test_a_plan_says_what_makes_the_guard_spare_a_socket(bench: Bench) -> None:
    bench.machine.files.mkdir()
    bench.machine.add(connection())
    bench.write(AT_ONCE)
    (bench.machine.files / "dns.json").write_text(json.dumps([{"remote": "198.51.100.7"}]))
    out = io.StringIO()
    commands.plan(bench.machine.host, str(bench.policy), out, as_json=False)
    (line,) = [each for each in out.getvalue().splitlines() if "dns.json" in each]
    assert "selector" in line
    assert f"{bench.machine.files}/dns.json[0]" in line


def test_nothing_new_is_no_line(bench: Bench) -> None:
    bench.machine.add(connection(remote_port=4505))
    bench.write(rule("typo", hold=0, match={"local": "interface:etth0"}), AT_ONCE)
    bench.goes_on()
    lines = len(bench.log)
    assert any("etth0" in line for line in bench.log)
    assert sum(line.startswith("protected ") for line in bench.log) == 1
    bench.goes_on(600)
    assert len(bench.log) == lines


def test_a_storm_of_signals_is_a_tenth_of_a_core_at_most(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    began, before = bench.machine.now, bench.agent.account.processor_s
    for _each in range(20):
        bench.agent.reload()
        bench.goes_on()
    spent = bench.agent.account.processor_s - before
    last = bench.agent.cadence.rest_s(bench.machine.now)
    # The made-up clock stands still while the agent works.
    assert spent <= 0.1001 * (bench.machine.now + last - began + spent)


def test_a_policy_that_is_long_to_read_is_looked_for_at_once_and_leaves_no_deafness(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(AT_ONCE, mode="report")
    bench.goes_on()
    right = daemon.read_policy
    taken_s = [100.0]

    def slow(file: str, host: Host) -> Policy | Refusal:
        taken_s[0] += 0.3
        return right(file, host)

    monkeypatch.setattr(daemon, "read_policy", slow)
    # Nothing but the reading takes time of the processor.
    monkeypatch.setattr(daemon.time, "process_time", lambda: taken_s[0])
    doomed = bench.machine.add(connection())
    cadence = bench.agent.cadence
    bench.machine.now += cadence.reading_rest_s(bench.machine.now)
    bench.write(AT_ONCE)
    bench.agent.turn()
    assert bench.destroyed == [doomed.cookie]
    assert cadence.rest_s(bench.machine.now) < 0.01
    # Another one waits, and the present one is enforced.
    assert cadence.reading_rest_s(bench.machine.now) == pytest.approx(9 * 0.3)
    bench.write(AT_ONCE, mode="report")
    later = bench.machine.add(connection(local_port=7, remote_port=444))
    bench.machine.now += 1
    cadence.heard(bench.machine.now - 1)
    bench.agent.turn()
    assert later.cookie in bench.destroyed
    assert bench.status["policy"]["mode"] == "enforce"
    bench.goes_on()
    assert bench.status["policy"]["mode"] == "report"


def test_a_reload_of_the_same_policy_keeps_its_holds(bench: Bench) -> None:
    doomed = bench.machine.add(connection())
    bench.write(HELD)
    bench.goes_on()
    for _each in range(5):
        assert bench.destroyed == []
        bench.agent.reload()
        bench.goes_on(1)
    bench.goes_on(0.5)
    assert bench.destroyed == [doomed.cookie]


@pytest.mark.parametrize("missing", [False, True])
def test_what_was_heard_before_a_reload_counts_for_the_holds_that_go_on(
    bench: Bench, missing: bool
) -> None:
    # The socket's address; no other than eth0's.
    kept = rule("kept", hold="5s", match={"local": "interface:eth0"})
    doomed = bench.machine.add(connection())
    bench.write(kept)
    bench.goes_on(3)
    (first,) = bench.listeners
    first.waiting = [News(1, frozenset({socket.inet_aton(LOCAL)}))]
    bench.missing = missing
    bench.write(kept, rule("new", match={"stranded": "unroutable"}, action="report"))
    bench.goes_on(3)
    assert len(bench.listeners) == 2 - missing
    assert bench.destroyed == []
    bench.goes_on(3)
    assert bench.destroyed == [doomed.cookie]


PACED = {"max_sockets": 2, "per": "1h", "on_excess": "pace"}


def _restart(bench: Bench) -> None:
    bench.agent.close()
    bench.another()
    bench.goes_on()


def test_limits_hold_over_restarts_and_policies(bench: Bench) -> None:
    for port in range(1, 13):
        bench.machine.add(connection(local_port=port))
    bench.write(AT_ONCE, limits=PACED)
    bench.goes_on()
    for _each in range(5):
        assert len(bench.destroyed) == 2
        _restart(bench)
        assert bench.status["budget"]["destroyed_in_window"] == 2
    # Another limit finds what was destroyed under the one before, and the one before that.
    bench.write(AT_ONCE, limits={**PACED, "max_sockets": 3, "per": "2h"})
    _restart(bench)
    assert len(bench.destroyed) == 3
    bench.write(AT_ONCE, limits={**PACED, "per": "1s"})
    _restart(bench)
    assert len(bench.destroyed) == 3
    bench.write(AT_ONCE, limits=PACED)
    bench.goes_on(2)
    _restart(bench)
    assert len(bench.destroyed) == 3
    bench.machine.now += 2 * 3_600
    bench.goes_on()
    assert len(bench.destroyed) == 5


def test_a_count_that_cannot_be_understood_is_told_and_brakes(bench: Bench) -> None:
    doomed = bench.machine.add(connection())
    (bench.runtime / "budget.json").write_text("garbage")
    bench.write(AT_ONCE, limits={"max_sockets": 5, "per": "1m"})
    bench.goes_on()
    assert bench.destroyed == []
    assert bench.status["inhibited_by"] == "budget_unknown"
    (error,) = bench.status["faults"]
    assert "budget.json" in error["error"]
    assert sum("budget.json" in line for line in bench.log) == 1
    # It stays so over a restart, which finds what this one wrote in its place.
    bench.goes_on(20)
    _restart(bench)
    bench.goes_on(20)
    assert bench.destroyed == []
    assert bench.status["faults"]
    bench.goes_on(21)
    assert bench.destroyed == [doomed.cookie]
    bench.goes_on(31)
    assert bench.status["faults"] == []
    assert bench.conditions(COUNT) == [True, True, False]


def test_a_count_that_cannot_be_written_is_told_and_stops_nothing(bench: Bench) -> None:
    """A disk that is full is no reason to leave a connection where it must not be."""
    doomed = [bench.machine.add(connection(local_port=port)) for port in (1, 2, 3)]
    bench.runtime.rmdir()
    bench.write(AT_ONCE, limits={**PACED, "max_sockets": 2})
    bench.goes_on(70)
    # The limits hold, for as long as this one runs.
    assert len(bench.destroyed) == 2 < len(doomed)
    assert bench.conditions(COUNTING) == [True]
    assert COUNTING in bench.agent.account.errors
    bench.runtime.mkdir()
    bench.goes_on(12)
    assert bench.conditions(COUNTING) == [True, False]
    _restart(bench)
    bench.goes_on(12)
    assert len(bench.destroyed) == 2


def test_that_it_can_be_written_again_is_noticed_with_nothing_to_destroy(bench: Bench) -> None:
    (bench.runtime / "budget.json").mkdir()
    bench.write(AT_ONCE, limits={"max_sockets": 5, "per": "1s"})
    bench.goes_on(12)
    assert bench.status["faults"]
    (bench.runtime / "budget.json").rmdir()
    bench.goes_on(45)
    assert bench.status["faults"] == []


def test_no_memory_is_kept_of_what_is_gone(bench: Bench) -> None:
    bench.write(AT_ONCE)
    bench.goes_on()
    for number in range(40):
        bench.machine.add(connection(local_port=1000 + number, remote_port=4505))
        bench.goes_on(heard=True)
        bench.machine.sockets.sockets.clear()
    bench.goes_on(heard=True)
    teller = bench.agent.teller
    assert not teller._seen
    assert not teller._lasting
    assert not any(sock for sock in bench.machine.kernel.opened if not sock.closed)
