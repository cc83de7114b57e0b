# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bids the agent not to destroy, over restarts, reboots and clocks that are set."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from linuxnet_sockets.agent import controls
from linuxnet_sockets.agent.clocks import Clocks, Deadline, read_clocks

NOW = Clocks(1_000_000.0, 5_000.0, "boot-1")


def _later(seconds: float) -> Clocks:
    return Clocks(NOW.wall_s + seconds, NOW.boottime_s + seconds, NOW.boot_id)


def _rebooted(seconds: float) -> Clocks:
    return Clocks(NOW.wall_s + seconds, 30.0, "boot-2")


def _set(seconds: float, by: float) -> Clocks:
    later = _later(seconds)
    return later._replace(wall_s=later.wall_s + by)


@pytest.mark.parametrize(
    ("now", "surely", "maybe"),
    [
        (_later(599), False, False),
        (_later(600), True, True),
        (_rebooted(599), False, False),
        (_rebooted(600), True, True),
        # The clock was set forward by a day: one says yes, the other no.
        (_set(60, 86_400), False, True),
        # And back: what cannot be set knows better.
        (_set(700, -86_400), True, True),
        (_set(599, -86_400), False, False),
        # And back, over a reboot: nobody knows, but this boot alone took longer than it.
        (_rebooted(-86_400), False, False),
        (_rebooted(-86_400)._replace(boottime_s=600.0), False, True),
    ],
)
def test_a_deadline(now: Clocks, surely: bool, maybe: bool) -> None:
    deadline = Deadline.read(json.loads(json.dumps(Deadline.after(NOW, 600).written())))
    assert deadline.surely_passed(now) is surely
    assert deadline.may_have_passed(now) is maybe


def test_a_deadline_of_an_agent_that_wrote_no_span() -> None:
    deadline = Deadline.read({"wall_s": 10.0, "boottime_s": 5.0, "boot_id": "boot-0"})
    assert not deadline.may_have_passed(Clocks(9.0, 1e9, "boot-1"))
    assert deadline.may_have_passed(Clocks(10.0, 1.0, "boot-1"))


def test_what_is_left() -> None:
    deadline = Deadline.after(NOW, 600)
    assert deadline.left_s(_later(100)) == 500
    assert deadline.left_s(_later(700)) == 0
    assert deadline.left_s(_rebooted(200)) == 400
    assert deadline.left_s(_set(100, 86_400)) == 500


def test_the_clocks_of_this_machine() -> None:
    one, two = read_clocks("/proc"), read_clocks("/proc")
    assert two.boottime_s >= one.boottime_s
    assert (len(one.boot_id), one.boot_id) == (36, two.boot_id)


def test_pause_and_resume(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert controls.read_pause(directory, NOW) is None
    controls.write_pause(directory, "a switch is replaced", Deadline.after(NOW, 600))
    pause = controls.read_pause(directory, _later(599))
    assert pause is not None
    assert pause.reason == "a switch is replaced"
    assert controls.read_pause(directory, _later(600)) is None
    # Set forward, the clock does not end it before its time.
    assert controls.read_pause(directory, _set(60, 86_400)) is not None
    assert controls.end_pause(directory)
    assert not controls.end_pause(directory)


def test_a_pause_without_end_lasts(tmp_path: Path) -> None:
    controls.write_pause(str(tmp_path), "", None)
    assert controls.read_pause(str(tmp_path), _rebooted(1e9)) == controls.Pause("", None)


@pytest.mark.parametrize("text", ["", "by hand,\nanna", "{", '{"reason": 1}', "[]", "\ud800"])
def test_any_file_of_the_name_pauses(tmp_path: Path, text: str) -> None:
    (tmp_path / controls.PAUSED).write_bytes(text.encode("utf-8", "surrogatepass"))
    pause = controls.read_pause(str(tmp_path), _later(1e9))
    assert pause is not None
    assert pause.until is None
    if text.startswith("by hand"):
        assert pause.reason == "by hand, anna"


DEADLINE = '{"wall_s": %s, "boottime_s": 1, "boot_id": "boot-1"}'
# Whoever may pause the agent can put anything there.
GARBAGE = {
    "nested": "[" * 60_000,
    "wider than any float": '{"reason": "", "digest": "x", "until": %s}' % (DEADLINE % ("1" * 400)),
    "no number": '{"reason": "", "digest": "x", "until": %s}' % (DEADLINE % "NaN"),
    "never": '{"reason": "", "digest": "x", "until": %s}' % (DEADLINE % "Infinity"),
    "long": "7" * 5_000,
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_destroys_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / controls.PAUSED).write_text(text)
    (tmp_path / controls.UNCONFIRMED).write_text(text)
    pause = controls.read_pause(str(tmp_path), _later(1e9))
    assert pause is not None
    assert pause.until is None
    trial = controls.read_confirmation(str(tmp_path))
    assert trial is not None
    assert trial.awaited_for("any")
    assert trial.over(NOW)


def test_nobody_is_waited_for_who_writes_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / controls.PAUSED)
    os.mkfifo(tmp_path / controls.UNCONFIRMED)
    pause = controls.read_pause(str(tmp_path), NOW)
    assert pause is not None
    assert pause.until is None
    trial = controls.read_confirmation(str(tmp_path))
    assert trial is not None
    assert trial.over(NOW)


def test_a_pause_that_cannot_be_read_pauses(tmp_path: Path) -> None:
    (tmp_path / controls.PAUSED).mkdir()
    pause = controls.read_pause(str(tmp_path), NOW)
    assert pause is not None
    assert str(tmp_path / controls.PAUSED) in pause.reason
    assert os.strerror(errno.EISDIR) in pause.reason


def test_a_policy_on_trial(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert controls.read_confirmation(directory) is None
    controls.await_confirmation(directory, "abc", Deadline.after(NOW, 600))
    trial = controls.read_confirmation(directory)
    assert trial is not None
    assert trial.awaited_for("abc")
    assert not trial.awaited_for("def")
    assert not trial.over(_later(599))
    assert trial.over(_later(600))
    assert trial.over(_rebooted(600))
    assert trial.over(_set(60, 86_400))
    assert controls.confirm(directory)
    assert not controls.confirm(directory)
    assert controls.read_confirmation(directory) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"digest": "abc", "until": {"wall_s": "x"}}'])
def test_a_trial_that_cannot_be_understood_is_over(tmp_path: Path, text: str) -> None:
    (tmp_path / controls.UNCONFIRMED).write_text(text)
    trial = controls.read_confirmation(str(tmp_path))
    assert trial is not None
    assert trial.awaited_for("whatever")
    assert trial.over(NOW)
