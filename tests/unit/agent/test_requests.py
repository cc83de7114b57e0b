# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an agent, and what happens without one."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent import client, controls, protocol, requests
from linuxnet_sockets.agent.clocks import read_clocks
from linuxnet_sockets.agent.requests import Answer, Directories
from linuxnet_sockets.errors import (
    AgentRefused,
    AgentUnreachable,
    InputError,
    OtherPolicyOnTrial,
    SocketsError,
)
from linuxnet_sockets.messages import describe

A, B = "a1" * 32, "b2" * 32


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(str(tmp_path), str(tmp_path))


@contextmanager
def answering(directories: Directories, answer: bytes | None) -> Iterator[list[bytes]]:
    """An agent that sends this to one client and then closes the connection; None: it hangs."""
    received: list[bytes] = []
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(directories.runtime, "agent.sock"))
        listener.listen(8)
        listener.settimeout(10)

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                received.append(connection.recv(4096))
                if answer is None:
                    done.wait(10)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield received
        finally:
            done.set()
            thread.join()


def test_status_without_agent_has_no_last_status(directories: Directories) -> None:
    assert requests.status(directories.runtime) == {"running": False, "last": None}


def test_pause_and_resume_without_an_agent(directories: Directories) -> None:
    assert requests.pause(directories, reason="upgrade", for_s=60) == Answer(True, False)
    pause = controls.read_pause(directories.state, read_clocks("/proc"))
    assert pause is not None
    assert (pause.reason, pause.until is None) == ("upgrade", False)
    assert requests.resume(directories) == Answer(True, False)
    assert requests.resume(directories) == Answer(False, False)


def test_confirm_without_an_agent_ends_the_trial_of_the_given_policy_only(
    directories: Directories,
) -> None:
    requests.start_trial(directories, A, 60)
    with pytest.raises(OtherPolicyOnTrial) as caught:
        requests.confirm(directories, digest=B)
    assert (caught.value.on_trial, caught.value.given) == (A, B)
    assert requests.confirm(directories, digest=A) == Answer(True, False)
    assert requests.confirm(directories, digest=None) == Answer(False, False)


def test_request_without_an_agent_directory_fails(tmp_path: Path) -> None:
    nowhere = Directories(str(tmp_path / "none"), str(tmp_path))
    with pytest.raises(AgentUnreachable):
        requests.pause(nowhere, reason="", for_s=None)


def test_reason_is_limited(directories: Directories) -> None:
    with pytest.raises(InputError, match="200"):
        requests.pause(directories, reason="x" * 201, for_s=None)
    assert os.listdir(directories.state) == []


def test_request_goes_to_the_agent(directories: Directories) -> None:
    with answering(directories, protocol.answer(done=True)) as received:
        assert requests.pause(directories, reason="\udcff", for_s=1.5) == Answer(True, True)
    assert json.loads(received[0]) == {"request": "pause", "reason": "\\xff", "for_s": 1.5}
    assert received[0].endswith(b"\n")
    # Only the agent changes the file.
    assert os.listdir(directories.state) == ["agent.sock"]


@pytest.mark.parametrize(
    ("answer", "expected", "text"),
    [
        (protocol.error(protocol.NOT_PERMITTED), AgentUnreachable, os.strerror(errno.EPERM)),
        (
            protocol.error(protocol.FAILED, errno=errno.ENOSPC),
            AgentUnreachable,
            os.strerror(errno.ENOSPC),
        ),
        (protocol.error(protocol.TOO_MANY), AgentRefused, "clients"),
        (protocol.error(protocol.TOO_OFTEN), AgentRefused, "requests"),
        (protocol.error(protocol.INVALID, message="No such thing."), AgentRefused, "No such thing"),
        (protocol.error("new"), AgentRefused, "new"),
        (
            protocol.error(protocol.OTHER_POLICY, on_trial=A, given=B),
            OtherPolicyOnTrial,
            A,
        ),
        (b"{}\n", AgentRefused, "resume"),
        (b"[]\n", AgentUnreachable, os.strerror(errno.EPROTO)),
        (b"garbage\n", AgentUnreachable, os.strerror(errno.EPROTO)),
        (b"", AgentUnreachable, os.strerror(errno.ECONNRESET)),
    ],
)
def test_refusal_is_a_typed_error_and_no_file_is_changed(
    directories: Directories, answer: bytes, expected: type[SocketsError], text: str
) -> None:
    controls.write_pause(directories.state, "", None)
    with answering(directories, answer), pytest.raises(expected) as caught:
        requests.resume(directories)
    assert text in describe(caught.value)
    assert (Path(directories.state) / controls.PAUSED).exists()


def test_root_pauses_an_agent_that_does_not_answer(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_ROOT_TIMEOUT_S", 0.2)
    with answering(directories, None):
        assert requests.pause(directories, reason="hangs", for_s=None) == Answer(True, True)
    pause = controls.read_pause(directories.state, read_clocks("/proc"))
    assert pause is not None
    assert pause.reason == "hangs"


def test_status_of_an_agent_that_does_not_answer_is_that_of_the_file(
    directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_STATUS_TIMEOUT_S", 0.2)
    with answering(directories, None):
        assert requests.status(directories.runtime) == {"running": True, "last": None}


@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff"])
def test_status_file_that_no_agent_wrote_is_not_shown(
    directories: Directories, content: bytes | None
) -> None:
    path = Path(directories.runtime) / "status.json"
    if content is None:
        path.symlink_to("/etc/passwd")
        with pytest.raises(SocketsError, match=r"status\.json"):
            requests.status(directories.runtime)
    else:
        path.write_bytes(content)
        assert requests.status(directories.runtime) == {"running": False, "last": None}


def test_answer_is_bounded(directories: Directories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER_BYTES", 1000)
    answer: Mapping[str, Any] = {"answer": {"status": "x" * 2000}}
    with (
        answering(directories, json.dumps(answer).encode() + b"\n"),
        pytest.raises(AgentUnreachable) as caught,
    ):
        requests.status(directories.runtime)
    assert caught.value.errno == errno.EPROTO
