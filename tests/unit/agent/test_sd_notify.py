# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tells systemd, on a real notification socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.agent.sd_notify import Notify


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(1)
        yield receiver


def test_what_is_sent(systemd: socket.socket) -> None:
    notify = Notify({"NOTIFY_SOCKET": systemd.getsockname()}, os.getpid())
    notify.ready("4 rules\nin force")
    assert systemd.recv(200) == b"READY=1\nSTATUS=4 rules in force"
    notify.reloading(5_000_001)
    assert systemd.recv(200) == b"RELOADING=1\nMONOTONIC_USEC=5000001"
    notify.alive()
    assert systemd.recv(200) == b"WATCHDOG=1"
    notify.stopping()
    assert systemd.recv(200) == b"STOPPING=1"


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0lns-notify-{os.getpid()}")
        receiver.settimeout(1)
        Notify({"NOTIFY_SOCKET": f"@lns-notify-{os.getpid()}"}, 1).status("here")
        assert receiver.recv(200) == b"STATUS=here"


def test_nobody_listens(tmp_path: Path) -> None:
    Notify({}, 1).ready("alone")
    Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 1).ready("alone")
    Notify({"NOTIFY_SOCKET": "vsock:2:1234"}, 1).ready("alone")


def test_children_do_not_send_in_our_name() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Notify(environ, 1)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_the_watchdog_wants_to_hear(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notify(environ, 7).watchdog_s == seconds
