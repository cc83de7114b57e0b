# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command events: output, exit statuses, reconnection."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent import cli, follow
from linuxnet_sockets.agent.event_reader import EventReader
from linuxnet_sockets.agent.event_stream import EventStream
from linuxnet_sockets.agent.request_server import RequestServer
from linuxnet_sockets.errors import AgentUnreachable
from linuxnet_sockets.messages.events import event_text
from linuxnet_sockets.text import printable_values
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.support.request_clients import serve_waiting
from tests.unit.agent.conftest import Harness

FIRST: dict[str, Any] = {
    "event": "state",
    "at": "T",
    "condition": "pause",
    "text": "by \u202e\x1b[2J",
}
SHOWN = printable_values(FIRST)
SECOND: dict[str, Any] = {"event": "state", "at": "T", "condition": "pause", "text": None}


class FakeAgent:
    """A request socket that accepts readers of events in a thread."""

    def __init__(self, runtime: Path) -> None:
        self._stream = EventStream()
        self._server = RequestServer(str(runtime / "agent.sock"), self._stream)

    def accept(self) -> None:
        end = time.monotonic() + 10
        while not self._stream.users():
            assert time.monotonic() < end
            time.sleep(0.01)
            serve_waiting(self._server)

    def send(self, event: dict[str, Any]) -> None:
        self._stream.send(event)

    def disconnect(self) -> None:
        self._stream.close()

    def stop(self) -> None:
        self._server.close()


class Run:
    """Runs the command in this thread, and a script of the agent in another one."""

    def __init__(self, runtime: Path) -> None:
        self.out = io.StringIO()
        self._runtime = runtime

    def __call__(self, script: Callable[[], None], *options: str) -> int:
        thread = threading.Thread(target=script)
        thread.start()
        try:
            arguments = ["events", "--runtime-directory", str(self._runtime), *options]
            return cli.main(arguments, self.out)
        finally:
            thread.join()

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 10
        while text not in self.out.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    agent = FakeAgent(tmp_path)
    yield agent
    agent.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_events_are_lines_of_json_until_a_signal(run: Run, agent: FakeAgent, number: int) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def script() -> None:
        agent.accept()
        agent.send(FIRST)
        agent.send(SECOND)
        run.wait_for("null")
        os.kill(os.getpid(), number)

    assert run(script) == 0
    assert [json.loads(line) for line in run.lines] == [SHOWN, SECOND]
    assert run.out.getvalue().replace("\n", "").isprintable()
    assert signal.getsignal(signal.SIGTERM) == before


def test_events_as_text_are_escaped(run: Run, agent: FakeAgent) -> None:
    def script() -> None:
        agent.accept()
        agent.send(FIRST)
        agent.send(SECOND)
        agent.stop()

    assert run(script, "--pretty") == 3
    assert run.lines == ["T pause: by \\u202e\\x1b[2J", "T pause: ended"]


def test_status_is_3_without_an_agent(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "agent.sock")
    assert run(lambda: None) == 3
    assert path in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(path)
    assert run(lambda: None) == 3
    assert path in capsys.readouterr().err


def test_status_is_3_if_the_agent_stops(run: Run, agent: FakeAgent) -> None:
    def script() -> None:
        agent.accept()
        agent.send(FIRST)
        agent.stop()

    assert run(script) == 3
    assert len(run.lines) == 1


def test_status_is_1_if_the_agent_disconnects_the_reader(run: Run, agent: FakeAgent) -> None:
    def script() -> None:
        agent.accept()
        agent.disconnect()

    assert run(script) == 1


@pytest.mark.parametrize("options", [[], ["--reconnect"]])
def test_status_is_1_without_permission(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    def refuse(runtime: str) -> EventReader:
        raise AgentUnreachable("follow the events", runtime, errno.EACCES, "agents")

    monkeypatch.setattr(follow, "EventReader", refuse)
    assert run(lambda: None, *options) == 1


def test_reconnect_waits_for_the_next_agent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "_BACKOFF_S", (0.01, 0.05))

    def script() -> None:
        time.sleep(0.2)
        for event in (FIRST, SECOND):
            agent = FakeAgent(tmp_path)
            agent.accept()
            agent.send(event)
            run.wait_for(json.dumps(printable_values(event)["text"]))
            agent.stop()
        os.kill(os.getpid(), signal.SIGINT)

    assert run(script, "--reconnect") == 0
    assert [json.loads(line) for line in run.lines] == [SHOWN, SECOND]
    # Once for each reason, not for each attempt.
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 5


@pytest.mark.usefixtures("agent")
def test_closed_output_ends_the_command(run: Run) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as run.out:  # type: ignore[assignment]
        assert run(lambda: None) == 0


def test_reader_joins_partial_lines_and_ignores_others(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen(1)
        with EventReader(str(tmp_path)) as reader:
            sender, _address = listener.accept()
            assert reader.read() == []
            text = json.dumps(FIRST).encode()
            sender.send(b'{"answer": {}}\nno json\n[1]\n{"event": "x"}\n' + text[:10])
            assert reader.read() == []
            sender.send(text[10:] + b"\n" + text)
            assert reader.read() == [FIRST]
            sender.send(b"\n")
            sender.close()
            assert reader.read() == [FIRST]
            assert reader.read() is None
            assert reader.read() is None


def test_each_kind_of_event_has_a_text(harness: Harness) -> None:
    harness.machine.add(connection(local_port=1))
    harness.machine.add(connection(local_port=2))
    protect = {"selectors": [{"local_port": 2}]}
    harness.write(rule(hold=0, match={"state": "all"}), protect=protect)
    harness.run_for()
    harness.policy.write_text("{")
    harness.run_for(11)

    events = json.loads(json.dumps(harness.events, default=str))
    texts = {event["event"]: event_text({"at": "T", **event}) for event in events}

    assert texts.keys() == {"policy", "state", "socket", "violation"}
    assert texts["policy"].endswith("mode enforce, 1 rule")
    assert texts["state"].startswith("T policy file: policy rejected")
    assert texts["socket"].startswith("T destroyed: tcp established ")
    assert texts["violation"].startswith("T protected by selector")
    for kind in ("socket", "violation"):
        assert " app[" in texts[kind]
        assert "(rule a-rule" in texts[kind]


def test_event_of_an_unknown_kind_has_a_text() -> None:
    assert event_text({"event": "new", "at": "T", "key": "\n"}) == 'T new: {"key": "\\n"}'
