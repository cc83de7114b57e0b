# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests in the main loop, and files that users other than root may write."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest

from linuxnet_sockets.agent import controls
from linuxnet_sockets.agent.event_stream import EventStream
from linuxnet_sockets.agent.request_server import RequestServer
from tests.support.fake_machine import connection
from tests.support.policy_documents import rule
from tests.support.request_clients import serve_waiting
from tests.unit.agent.conftest import Harness


class Client:
    """Sends one request to the agent, and reads the answer after the agent took it."""

    def __init__(self, harness: Harness, request: dict[str, Any]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(2)
        self._socket.connect(str(harness.runtime / "agent.sock"))
        self._socket.sendall(json.dumps(request).encode() + b"\n")

        assert harness.agent._server is not None
        assert serve_waiting(harness.agent._server)

    def answer(self) -> Any:
        with self._socket:
            return json.loads(self._socket.makefile().readline())


@pytest.fixture
def serving(harness: Harness) -> Harness:
    """An agent that takes requests, with a policy that destroys at once."""
    server = RequestServer(str(harness.runtime / "agent.sock"), EventStream())
    harness.agent.close()
    harness.new_agent(server)
    harness.write(rule(hold=0))
    harness.run_for()
    return harness


def test_answered_pause_inhibits_the_next_pass(serving: Harness) -> None:
    serving.machine.add(connection())
    client = Client(serving, {"request": "pause", "reason": "work", "for_s": 60})
    serving.run_for(event=True)
    assert client.answer() == {"answer": {"done": True}}
    assert serving.destroyed == []
    assert serving.status["inhibited_by"] == "paused"
    assert serving.status["pause"] == {"reason": "work", "remaining_s": 60.0}


def test_answers_of_requests(serving: Harness) -> None:
    digest = serving.status["policy"]["digest"]
    for request, answer in (
        ({"request": "resume"}, {"answer": {"done": False}}),
        ({"request": "confirm"}, {"answer": {"done": False}}),
        ({"request": "trial", "digest": digest, "within_s": 60}, {"answer": {"done": True}}),
        (
            {"request": "confirm", "digest": "0" * 64},
            {
                "error": {
                    "name": "other_policy_on_trial",
                    "on_trial": digest,
                    "given": "0" * 64,
                }
            },
        ),
        ({"request": "confirm", "digest": digest}, {"answer": {"done": True}}),
    ):
        client = Client(serving, request)
        serving.run_for()
        assert client.answer() == answer
    assert serving.status["trial"] is None
    assert [line for line in serving.log if line.startswith("request request=confirm")]


def test_status_is_the_content_of_the_file(serving: Harness) -> None:
    client = Client(serving, {"request": "status"})
    before = serving.status
    serving.run_for()
    assert client.answer() == {"answer": {"status": before}}


def test_request_fails_by_name_if_the_state_cannot_be_written(serving: Harness) -> None:
    os.rename(serving.state, serving.folder / "gone")
    client = Client(serving, {"request": "pause"})
    serving.run_for()
    answer = client.answer()
    assert answer["error"]["name"] == "failed"
    assert answer["error"]["errno"] > 0


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_policy_that_others_may_write_is_rejected_and_the_old_one_stays(
    harness: Harness, mode: int
) -> None:
    harness.write(rule(hold=0))
    harness.run_for()
    digest = harness.status["policy"]["digest"]
    harness.write(rule(hold=0, match={"remote": "203.0.113.9"}))
    harness.policy.chmod(mode)
    harness.run_for(11)
    (error,) = harness.status["rejected"]["errors"]
    assert f"mode {mode:04o}, owner uid {os.geteuid()}" in error
    assert harness.status["policy"]["digest"] == digest
    harness.policy.chmod(0o640)
    harness.run_for(11)
    assert harness.status["rejected"] is None
    assert harness.status["policy"]["digest"] != digest


def test_policy_in_a_directory_that_others_may_write_is_no_policy(harness: Harness) -> None:
    violating = harness.machine.add(connection())
    harness.folder.chmod(0o777)
    harness.write(rule(hold=0))
    harness.run_for()
    assert harness.status["inhibited_by"] == "no_policy"
    assert str(harness.folder) in harness.status["rejected"]["errors"][0]
    # The agent notices the new mode, although no file has changed.
    harness.folder.chmod(0o755)
    harness.run_for(11)
    assert harness.destroyed == [violating.cookie]


def test_protection_file_that_others_may_write_is_rejected(harness: Harness) -> None:
    harness.machine.files.mkdir()
    file = harness.machine.files / "own.json"
    file.write_text('{"remote": "203.0.113.9"}')
    harness.write(rule(hold=0))
    harness.run_for()
    digest = harness.status["policy"]["digest"]
    file.chmod(0o666)
    harness.run_for(11)
    assert "mode 0666" in harness.status["rejected"]["errors"][0]
    assert harness.status["policy"]["digest"] == digest


def test_pause_file_of_root_is_obeyed_without_a_request(harness: Harness) -> None:
    harness.write(rule(hold=0))
    harness.run_for()
    (harness.state / controls.PAUSED).touch()
    harness.run_for(11)
    assert harness.status["inhibited_by"] == "paused"
    assert str(harness.state / controls.PAUSED) in harness.status["pause"]["reason"]
