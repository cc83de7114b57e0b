# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents on a made-up machine: fake kernel, fake clock, fake events."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent.clocks import Clocks
from linuxnet_sockets.agent.daemon import Agent, Options
from linuxnet_sockets.agent.journal import Log
from linuxnet_sockets.agent.news import News
from linuxnet_sockets.agent.reporter import Teller
from linuxnet_sockets.agent.sd_notify import Notify
from linuxnet_sockets.errors import PackageMissing
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.sockets.needs import Need
from tests.support.fake_machine import ASKING, Machine
from tests.support.policy_documents import document


def _raised(error: OSError) -> News:
    raise error


class FakeEvents:
    """facts, foreign: what it was made for. Each news in `waiting` is one drain; an error is
    raised once."""

    def __init__(self, facts: frozenset[Need], foreign: bool) -> None:
        self.facts = facts
        self.foreign = foreign
        self.waiting: list[News | OSError] = []
        self.closed = False

    def fileno(self) -> int:
        raise AssertionError("nobody waits in these tests")

    def drain(self) -> News:
        assert not self.closed
        found = self.waiting.pop(0) if self.waiting else News()
        return found if isinstance(found, News) else _raised(found)

    def close(self) -> None:
        self.closed = True


class RecordingTeller(Teller):
    """Records its events instead of sending them."""

    def __init__(self, log: Log, events: list[dict[str, Any]]) -> None:
        super().__init__(log, None)
        self.events = events

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        self.events.append({"event": name, **fields})


class Bench:
    """One agent and its machine. asleep_s: how far CLOCK_BOOTTIME is ahead; wall_s: likewise."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.asleep_s = self.wall_s = 0.0
        self.policy = folder / "policy.json"
        self.state = folder / "state"
        self.runtime = folder / "run"
        self.state.mkdir()
        self.runtime.mkdir()
        self.listeners: list[FakeEvents] = []
        self.missing = False
        self.out = io.StringIO()
        self.events: list[dict[str, Any]] = []
        self.agent = self.another()

    def another(self) -> Agent:
        """One that was started just now."""
        options = Options(
            str(self.policy), str(self.state), str(self.runtime), str(self.folder / "agent.prom")
        )
        log = Log(self.out, prefixed=False)
        self.agent = Agent(
            self.machine.host,
            options,
            RecordingTeller(log, self.events),
            Notify({}, ASKING),
            clocks=self.clocks,
            listen=self._listen,
        )
        return self.agent

    def _listen(self, facts: frozenset[Need], *, foreign: bool) -> FakeEvents:
        if self.missing:
            raise PackageMissing("pyroute2", "hears of changes", "there is none")
        self.listeners.append(FakeEvents(facts, foreign))
        return self.listeners[-1]

    def clocks(self) -> Clocks:
        now = self.machine.now
        return Clocks(1_700_000_000 + now + self.wall_s, now + self.asleep_s, "boot")

    def write(self, *rules: dict[str, Any], **keys: Any) -> None:
        new = self.policy.with_suffix(".new")
        new.write_text(json.dumps(document(*rules, **keys)))
        os.replace(new, self.policy)

    def goes_on(self, seconds: float = 0.0, *, heard: bool = False) -> None:
        """Turns, as the loop makes them, for so long; at least one, after whatever rest."""
        agent, machine = self.agent, self.machine
        if heard:
            agent.cadence.heard(machine.now)
        machine.now += max(
            agent.cadence.rest_s(machine.now),
            agent.cadence.reading_rest_s(machine.now),
            agent.cadence.wait_s(machine.now) * heard,
        )
        end = machine.now + seconds
        agent.turn()
        while True:
            step = max(
                agent.cadence.rest_s(machine.now), min(agent.cadence.wait_s(machine.now), 10)
            )
            if machine.now + step > end:
                break
            machine.now += step
            agent.turn()
        machine.now = end

    @property
    def status(self) -> dict[str, Any]:
        found = json.loads((self.runtime / "status.json").read_text())
        assert isinstance(found, dict)
        return found

    @property
    def log(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def conditions(self, about: str) -> list[bool]:
        """The changes of an ongoing condition: True for each text, False for each end."""
        return [
            event["text"] is not None
            for event in self.events
            if event["event"] == "state" and event["condition"] == about
        ]

    @property
    def destroyed(self) -> list[int]:
        return self.machine.sockets.destroyed


@pytest.fixture
def bench(machine: Machine, spaces: dict[str, Namespace], tmp_path: Path) -> Iterator[Bench]:
    assert set(spaces) == {"current"}
    made = Bench(machine, tmp_path)
    yield made
    made.agent.close()
