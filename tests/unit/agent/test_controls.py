# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pause and trial over restarts, reboots and changed clocks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxnet_sockets.agent import controls
from linuxnet_sockets.agent.clocks import Clocks, Deadline, read_clocks
from tests.support.users import needs_root

DIGEST = "ab" * 32
NOW = Clocks(1_000_000.0, 5_000.0, "boot-1")


def _later(seconds: float) -> Clocks:
    return Clocks(NOW.wall_s + seconds, NOW.boottime_s + seconds, NOW.boot_id)


def _rebooted(seconds: float) -> Clocks:
    return Clocks(NOW.wall_s + seconds, 30.0, "boot-2")


def _set(seconds: float, by: float) -> Clocks:
    later = _later(seconds)
    return later._replace(wall_s=later.wall_s + by)


@pytest.mark.parametrize(
    ("now", "certainly", "possibly"),
    [
        (_later(599), False, False),
        (_later(600), True, True),
        (_rebooted(599), False, False),
        (_rebooted(600), True, True),
        # Wall clock set forward by a day: only that clock has reached it.
        (_set(60, 86_400), False, True),
        # Wall clock set back: CLOCK_BOOTTIME decides.
        (_set(700, -86_400), True, True),
        (_set(599, -86_400), False, False),
        # Wall clock set back and a reboot: only an uptime above the span proves it.
        (_rebooted(-86_400), False, False),
        (_rebooted(-86_400)._replace(boottime_s=600.0), False, True),
    ],
)
def test_deadline_expiry(now: Clocks, certainly: bool, possibly: bool) -> None:
    deadline = Deadline.from_dict(json.loads(json.dumps(Deadline.after(NOW, 600).to_dict())))
    assert deadline.certainly_expired(now) is certainly
    assert deadline.possibly_expired(now) is possibly


def test_deadline_without_span() -> None:
    deadline = Deadline.from_dict({"wall_s": 10.0, "boottime_s": 5.0, "boot_id": "boot-0"})
    assert not deadline.possibly_expired(Clocks(9.0, 1e9, "boot-1"))
    assert deadline.possibly_expired(Clocks(10.0, 1.0, "boot-1"))


def test_remaining_time() -> None:
    deadline = Deadline.after(NOW, 600)
    assert deadline.remaining_s(_later(100)) == 500
    assert deadline.remaining_s(_later(700)) == 0
    assert deadline.remaining_s(_rebooted(200)) == 400
    assert deadline.remaining_s(_set(100, 86_400)) == 500


def test_clocks_of_this_machine() -> None:
    first, second = read_clocks("/proc"), read_clocks("/proc")
    assert second.boottime_s >= first.boottime_s
    assert (len(first.boot_id), first.boot_id) == (36, second.boot_id)


def test_pause_and_resume(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert controls.read_pause(directory, NOW) is None
    controls.write_pause(directory, "a switch is replaced", Deadline.after(NOW, 600))
    pause = controls.read_pause(directory, _later(599))
    assert pause is not None
    assert pause.reason == "a switch is replaced"
    assert controls.read_pause(directory, _later(600)) is None
    # A wall clock set forward does not end the pause.
    assert controls.read_pause(directory, _set(60, 86_400)) is not None
    assert controls.remove_pause(directory)
    assert not controls.remove_pause(directory)


def test_pause_without_deadline_survives_a_reboot(tmp_path: Path) -> None:
    controls.write_pause(str(tmp_path), "", None)
    assert controls.read_pause(str(tmp_path), _rebooted(1e9)) == controls.Pause("", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret,\nanna",
        "{",
        '{"reason": 1}',
        "[]",
        "\ud800",
        '{"reason": {"secret": 1}, "until": null}',
        '{"reason": "secret", "until": "secret"}',
        '{"reason": "secret"}',
        '{"reason": "secret%s", "until": null}' % ("x" * 200),
        "secret\0",
    ],
)
def test_any_file_of_this_name_pauses_and_is_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / controls.PAUSED).write_bytes(text.encode("utf-8", "surrogatepass"))
    pause = controls.read_pause(str(tmp_path), _later(1e9))
    assert pause is not None
    assert pause.until is None
    assert str(tmp_path / controls.PAUSED) in pause.reason
    assert "secret" not in pause.reason


def test_control_characters_of_a_reason_are_escaped(tmp_path: Path) -> None:
    controls.write_pause(str(tmp_path), "a\x1b[2J\u202e\nb", None)
    pause = controls.read_pause(str(tmp_path), NOW)
    assert pause is not None
    assert pause.reason == "a\\x1b[2J\\u202e\\x0ab"


def _link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def _hard_link(path: Path, secret: Path) -> None:
    os.link(secret, path)


def _pipe(path: Path, _secret: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path, _secret: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _directory(path: Path, _secret: Path) -> None:
    path.mkdir()


def _writable(path: Path, secret: Path) -> None:
    path.write_bytes(secret.read_bytes())
    path.chmod(0o666)


@pytest.mark.parametrize("make", [_link, _hard_link, _pipe, _huge, _directory, _writable])
def test_file_that_is_not_trusted_is_not_read(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """It counts as the alternative that destroys less, and its content is not shown."""
    secret = tmp_path / "secret"
    # What a valid file contains: only the kind of the file is wrong.
    secret.write_text('{"reason": "secret", "digest": "", "until": null}')
    for name in (controls.PAUSED, controls.UNCONFIRMED):
        make(tmp_path / name, secret)
    pause = controls.read_pause(str(tmp_path), NOW)
    assert pause is not None
    assert pause.until is None
    assert str(tmp_path / controls.PAUSED) in pause.reason
    assert "secret" not in pause.reason.replace(str(tmp_path), "")
    assert controls.read_trial(str(tmp_path)) == controls.Trial("", None)


@needs_root
def test_only_files_of_root_and_of_the_owner_of_the_directory_are_read(tmp_path: Path) -> None:
    os.chown(tmp_path, 950, 950)
    path = tmp_path / controls.PAUSED
    for owner, obeyed in ((0, True), (950, True), (1500, False)):
        controls.write_pause(str(tmp_path), "work", None)
        os.chown(path, owner, owner)
        pause = controls.read_pause(str(tmp_path), NOW)
        assert pause is not None
        assert (pause.reason == "work") is obeyed


DEADLINE = '{"wall_s": %s, "boottime_s": 1, "boot_id": "boot-1"}'
GARBAGE = {
    "nested": "[" * 60_000,
    "larger than any float": '{"reason": "", "digest": "x", "until": %s}'
    % (DEADLINE % ("1" * 400)),
    "NaN": '{"reason": "", "digest": "x", "until": %s}' % (DEADLINE % "NaN"),
    "infinity": '{"reason": "", "digest": "x", "until": %s}' % (DEADLINE % "Infinity"),
    "long": "7" * 5_000,
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_pauses_and_ends_the_trial(tmp_path: Path, text: str) -> None:
    (tmp_path / controls.PAUSED).write_text(text)
    (tmp_path / controls.UNCONFIRMED).write_text(text)
    pause = controls.read_pause(str(tmp_path), _later(1e9))
    assert pause is not None
    assert pause.until is None
    trial = controls.read_trial(str(tmp_path))
    assert trial is not None
    assert trial.covers("any")
    assert trial.expired(NOW)


def test_trial_and_confirmation(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert controls.read_trial(directory) is None
    controls.start_trial(directory, DIGEST, Deadline.after(NOW, 600))
    trial = controls.read_trial(directory)
    assert trial is not None
    assert trial.covers(DIGEST)
    assert not trial.covers("def")
    assert not trial.expired(_later(599))
    assert trial.expired(_later(600))
    assert trial.expired(_rebooted(600))
    assert trial.expired(_set(60, 86_400))
    assert controls.confirm(directory)
    assert not controls.confirm(directory)
    assert controls.read_trial(directory) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"digest": "abc", "until": {"wall_s": "x"}}'])
def test_invalid_trial_file_is_expired(tmp_path: Path, text: str) -> None:
    (tmp_path / controls.UNCONFIRMED).write_text(text)
    trial = controls.read_trial(str(tmp_path))
    assert trial is not None
    assert trial.covers("whatever")
    assert trial.expired(NOW)
