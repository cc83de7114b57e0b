# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent on a fake host: fake kernel, fake clocks, fake events."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent import daemon
from linuxnet_sockets.agent.clocks import Clocks
from linuxnet_sockets.agent.daemon import Daemon, Options
from linuxnet_sockets.agent.journal import Log
from linuxnet_sockets.agent.network_events import OWN, EventBatch
from linuxnet_sockets.agent.reporter import Reporter
from linuxnet_sockets.agent.request_server import RequestServer
from linuxnet_sockets.agent.sd_notify import SystemdNotifier
from linuxnet_sockets.errors import PackageMissing
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.policy.doubt import NO_CHANGES
from linuxnet_sockets.sockets.needs import Need
from tests.support.fake_machine import CALLER_PID, FakeMachine
from tests.support.policy_documents import document


def _raise(error: BaseException) -> EventBatch:
    raise error


class FakeListener:
    """A listener for facts. pending: batches, one for each drain, or errors to raise."""

    def __init__(self, facts: frozenset[Need], all_namespaces: bool) -> None:
        self.facts = facts
        self.all_namespaces = all_namespaces
        self.pending: list[EventBatch | BaseException] = []
        self.closed = False
        self.close_error: Exception | None = None

    def fileno(self) -> int:
        raise AssertionError("these tests do not poll")

    def drain(self) -> EventBatch:
        assert not self.closed
        batch = self.pending.pop(0) if self.pending else EventBatch()
        return batch if isinstance(batch, EventBatch) else _raise(batch)

    def close(self) -> None:
        self.closed = True
        if self.close_error is not None:
            raise self.close_error


class RecordingReporter(Reporter):
    """Records events instead of sending them."""

    def __init__(self, log: Log, events: list[dict[str, Any]]) -> None:
        super().__init__(log, None)
        self.events = events

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append({"event": name, **fields})


class Harness:
    """One agent and its host.

    suspended_s, wall_s: how far CLOCK_BOOTTIME and the wall clock are ahead, in seconds.
    """

    def __init__(self, machine: FakeMachine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.suspended_s = self.wall_s = 0.0
        self.policy = folder / "policy.json"
        self.state = folder / "state"
        self.runtime = folder / "run"
        self.state.mkdir()
        self.runtime.mkdir()
        self.listeners: list[FakeListener] = []
        self.pyroute2_missing = False
        self.listen_error: BaseException | None = None
        self.out = io.StringIO()
        self.events: list[dict[str, Any]] = []
        self.agent = self.new_agent()

    def new_agent(self, server: RequestServer | None = None) -> Daemon:
        """Create an agent, as at a start of the service."""
        options = Options(
            str(self.policy), str(self.state), str(self.runtime), str(self.folder / "agent.prom")
        )
        log = Log(self.out, prefixed=False)
        self.agent = Daemon(
            self.machine.host,
            options,
            RecordingReporter(log, self.events),
            SystemdNotifier({}, CALLER_PID),
            server=server,
            clocks=self.clocks,
            listen=self._listen,
        )
        return self.agent

    def _listen(self, facts: frozenset[Need], *, all_namespaces: bool) -> FakeListener:
        if self.pyroute2_missing:
            raise PackageMissing("pyroute2", "receives events", "It waits", "it is not installed")
        if self.listen_error is not None:
            raise self.listen_error
        self.listeners.append(FakeListener(facts, all_namespaces))
        return self.listeners[-1]

    def clocks(self) -> Clocks:
        now = self.machine.now
        return Clocks(1_700_000_000 + now + self.wall_s, now + self.suspended_s, "boot")

    def write(self, *rules: dict[str, Any], **keys: Any) -> None:
        new = self.policy.with_suffix(".new")
        new.write_text(json.dumps(document(*rules, **keys)))
        os.replace(new, self.policy)

    def run_for(self, seconds: float = 0.0, *, event: bool = False) -> None:
        """Run iterations for this time, at least one. Skips waiting for CPU time.

        event: receive an event first.
        """
        agent, machine = self.agent, self.machine
        if event:
            self.receive(EventBatch(1, {OWN: NO_CHANGES}))
            machine.now += agent.scheduler.until_next_key_s(machine.now)
        machine.now += agent.scheduler.reload_wait_s(machine.now)
        end = machine.now + seconds
        agent.run_once()
        while True:
            step = agent.scheduler.until_next_key_s(machine.now)
            step = max(0.0, min(step, agent._next_check - machine.now))
            if machine.now + step > end:
                break
            machine.now += step
            agent.run_once()
        machine.now = end

    def receive(self, *batches: EventBatch | BaseException) -> None:
        """Let the listener receive these events; without one, enqueue the namespaces."""
        if self.agent.monitor.listener is None:
            self.agent.controller.enqueue_all()
            return
        self.listeners[-1].pending += batches
        for _batch in batches:
            self.agent.controller.read_events()

    @property
    def status(self) -> dict[str, Any]:
        found = json.loads((self.runtime / "status.json").read_text())
        assert isinstance(found, dict)
        return found

    @property
    def log(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def conditions(self, name: str) -> list[bool]:
        """Return the changes of a condition: True for a new text, False for its end."""
        return [
            event["text"] is not None
            for event in self.events
            if event["event"] == "state" and event["condition"] == name
        ]

    @property
    def destroyed(self) -> list[int]:
        return self.machine.sockets.destroyed


@pytest.fixture
def harness(
    machine: FakeMachine,
    spaces: dict[str, Namespace],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Harness]:
    assert set(spaces) == {"current"}
    # CPU time of this process would make the fake time depend on its load.
    monkeypatch.setattr(daemon.time, "process_time", lambda: 0.0)
    made = Harness(machine, tmp_path)
    yield made
    made.agent.close()
