# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller: several network namespaces, one pass at a time."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from linuxnet_sockets.agent import controller
from linuxnet_sockets.agent.network_events import OWN, EventBatch
from linuxnet_sockets.agent.status import is_healthy, status_lines
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.policy.doubt import NO_CHANGES, NetworkChanges
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import FakeNamespace
from tests.support.fake_machine import LOCAL
from tests.support.policy_documents import rule
from tests.unit.agent.conftest import Harness

AT_ONCE = rule(hold=0)
NSID = 5
FLAP = NetworkChanges(links_up=frozenset({2}), links_down=frozenset({2}))


class Other:
    """Another namespace of the fake machine."""

    def __init__(self, harness: Harness, spaces: dict[str, Namespace], name: str = "other") -> None:
        self._harness = harness
        self.sockets: FakeNamespace = harness.machine.kernel.namespace(name)
        self.identity = self.sockets.identity
        spaces[name] = Namespace(name, f"/run/netns/{name}", self.identity)

    def add(self, port: int = 7) -> FakeSocket:
        sock = FakeSocket(local=LOCAL, local_port=port, remote="198.51.100.7", remote_port=443)
        self.sockets.add(sock)
        self._harness.machine.hold(500, sock)
        return sock

    def receive(self, changes: NetworkChanges = NO_CHANGES) -> None:
        """Receive an event of this namespace."""
        self._harness.agent.monitor._nsids.learn(NSID, self.identity)
        self._harness.receive(EventBatch(1, {NSID: changes}))


@pytest.fixture
def other(harness: Harness, spaces: dict[str, Namespace]) -> Other:
    return Other(harness, spaces)


def _passes(harness: Harness) -> int:
    return harness.agent.state.passes


def test_event_causes_a_pass_where_it_happened(harness: Harness, other: Other) -> None:
    harness.write(AT_ONCE, namespaces=["current", "other"])
    harness.run_for()
    assert harness.status["last_pass"]["namespaces"] == 2
    here = harness.machine.add(FakeSocket(local=LOCAL, local_port=9, remote="198.51.100.7",
                                          remote_port=443))  # fmt: skip
    there = other.add()
    passes = _passes(harness)
    other.receive()
    harness.run_for(0.1)
    assert _passes(harness) == passes + 1
    assert other.sockets.destroyed == [there.cookie]
    harness.run_for(event=True)
    assert harness.destroyed == [here.cookie]
    assert harness.status["rules"][0]["outcomes"] == {"destroyed": 2}


def test_hold_ends_in_its_namespace(harness: Harness, other: Other) -> None:
    there = other.add()
    harness.write(rule(hold="5s"), namespaces=["current", "other"])
    harness.run_for(4.9)
    passes = _passes(harness)
    harness.run_for(0.2)
    assert other.sockets.destroyed == [there.cookie]
    assert _passes(harness) == passes + 1


@pytest.mark.parametrize(("at", "destroyed"), [("here", True), ("there", False)])
def test_doubts_of_one_namespace_do_not_affect_others(
    harness: Harness, other: Other, at: str, destroyed: bool
) -> None:
    other.add()
    held = rule(hold="5s", match={"remote_port": 443, "not": {"stranded": "no_carrier"}})
    harness.write(held, namespaces=["current", "other"])
    harness.run_for(4)
    if at == "there":
        other.receive(NetworkChanges(lost=True))
    else:
        harness.receive(EventBatch(1, {OWN: FLAP}))
    harness.run_for(1.5)
    assert bool(other.sockets.destroyed) == destroyed


def _searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    original = controller.resolve_namespaces

    def search(*arguments: Any) -> Any:
        found.append(1)
        return original(*arguments)

    monkeypatch.setattr(controller, "resolve_namespaces", search)
    return found


def test_event_of_an_unknown_namespace_causes_one_search(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = _searches(monkeypatch)
    harness.write(AT_ONCE, namespaces=["all"])
    harness.run_for()
    assert len(searches) == 1
    for _event in range(5):
        harness.receive(EventBatch(1, {9: NO_CHANGES}))
        harness.run_for(1)
    assert len(searches) == 2


def test_new_namespace_is_reconciled_at_once(
    harness: Harness, spaces: dict[str, Namespace]
) -> None:
    harness.write(AT_ONCE, namespaces=["all"])
    harness.run_for()
    new = Other(harness, spaces, "new")
    there = new.add()
    harness.receive(EventBatch(mounts=True))
    harness.run_for(0.1)
    assert new.sockets.destroyed == [there.cookie]


def test_ended_namespace_is_forgotten(
    harness: Harness, other: Other, spaces: dict[str, Namespace]
) -> None:
    other.add()
    harness.write(rule(hold="1h"), namespaces=["all"])
    harness.run_for()
    assert harness.status["rules"][0]["hold"] == 1
    del spaces["other"]
    harness.receive(EventBatch(mounts=True))
    harness.run_for(0.1)
    status = harness.status
    assert (status["last_pass"]["namespaces"], status["rules"][0]["violations"]) == (1, 0)
    assert status["inhibited_by"] is None
    decider = harness.agent.controller.decider
    assert decider is not None
    assert decider._holds._count == 0
    harness.run_for(100)
    assert harness.agent.scheduler.queue.late(harness.machine.now) == {}


def test_error_in_one_namespace_does_not_affect_others(
    harness: Harness, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = other.add()
    harness.write(AT_ONCE, namespaces=["current", "other"])
    original = controller.reconcile_namespace

    def fail_here(host: Any, decider: Any, namespace: Namespace, options: Any) -> Any:
        if namespace.name == "current":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return original(host, decider, namespace, options)

    monkeypatch.setattr(controller, "reconcile_namespace", fail_here)
    harness.run_for(3)
    assert other.sockets.destroyed == [there.cookie]
    assert harness.conditions("reconcile") == [True]
    assert harness.conditions("reconcile other") == []
    assert harness.status["inhibited_by"] == "not_evaluated"


def test_namespace_that_waits_for_cpu_time_is_reported_with_its_age(
    harness: Harness, other: Other
) -> None:
    harness.write(AT_ONCE, namespaces=["current", "other"])
    harness.run_for()
    scheduler = harness.agent.scheduler
    scheduler.queue.set_owner(other.identity, 1500)
    scheduler.queue.set_owner((4, 4711), 1500)
    other.receive()
    harness.machine.now += 6
    # The turn of this user is over, and there is no CPU time.
    scheduler.charge_cpu(harness.machine.now, 5.0)
    scheduler.queue.add((4, 4711), 0.0, controller.Reason.EVENT)
    harness.agent.run_once()
    (entry,) = harness.status["last_pass"]["not_evaluated"]
    assert (entry["namespace"], entry["rule"]) == ("other", None)
    assert entry["age_s"] == pytest.approx(6, abs=0.1)
    assert harness.status["inhibited_by"] == "not_evaluated"
    assert not is_healthy(harness.status)
    assert any("other" in line and "(for 6 s)" in line for line in status_lines(harness.status))
    assert harness.conditions("late evaluations") == [True]
    harness.run_for(20)
    assert harness.status["last_pass"]["not_evaluated"] == []
    assert is_healthy(harness.status)
    assert harness.conditions("late evaluations") == [True, False]
