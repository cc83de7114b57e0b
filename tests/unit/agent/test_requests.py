# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from linuxnet_sockets.agent import controls, requests
from linuxnet_sockets.agent.clocks import Deadline, read_clocks
from linuxnet_sockets.agent.requests import Answer, Directories
from linuxnet_sockets.errors import AgentUnreachable, OtherPolicyOnTrial


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(str(tmp_path), str(tmp_path))


def test_status_without_agent_has_no_last_status(directories: Directories) -> None:
    assert requests.status(directories.runtime) == {"running": False, "last": None}


def test_pause_and_resume(directories: Directories) -> None:
    assert requests.pause(directories, reason="upgrade", for_s=60) == Answer(True, False)
    pause = controls.read_pause(directories.state, read_clocks("/proc"))
    assert pause is not None
    assert (pause.reason, pause.until is None) == ("upgrade", False)
    assert requests.resume(directories) == Answer(True, False)
    assert requests.resume(directories) == Answer(False, False)


def test_confirm_ends_the_trial_of_the_given_policy_only(directories: Directories) -> None:
    requests.start_trial(directories, "a1", Deadline.after(read_clocks("/proc"), 60))
    with pytest.raises(OtherPolicyOnTrial) as caught:
        requests.confirm(directories, digest="b2")
    assert (caught.value.on_trial, caught.value.given) == ("a1", "b2")
    assert requests.confirm(directories, digest="a1") == Answer(True, False)
    assert requests.confirm(directories, digest=None) == Answer(False, False)


def test_request_without_an_agent_directory_fails(tmp_path: Path) -> None:
    nowhere = Directories(str(tmp_path / "none"), str(tmp_path))
    with pytest.raises(AgentUnreachable):
        requests.pause(nowhere, reason="", for_s=None)
