# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications on a real notification socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.agent.sd_notify import SystemdNotifier


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(1)
        yield made


def test_messages(receiver: socket.socket) -> None:
    systemd = SystemdNotifier({"NOTIFY_SOCKET": receiver.getsockname()}, os.getpid())
    systemd.ready("4 rules\nin force")
    assert receiver.recv(200) == b"READY=1\nSTATUS=4 rules in force"
    systemd.reloading(5_000_001)
    assert receiver.recv(200) == b"RELOADING=1\nMONOTONIC_USEC=5000001"
    systemd.watchdog()
    assert receiver.recv(200) == b"WATCHDOG=1"
    systemd.stopping()
    assert receiver.recv(200) == b"STOPPING=1"


def test_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0lns-notify-{os.getpid()}")
        receiver.settimeout(1)
        SystemdNotifier({"NOTIFY_SOCKET": f"@lns-notify-{os.getpid()}"}, 1).status("here")
        assert receiver.recv(200) == b"STATUS=here"


def test_missing_receiver_is_ignored(tmp_path: Path) -> None:
    SystemdNotifier({}, 1).ready("alone")
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 1).ready("alone")
    SystemdNotifier({"NOTIFY_SOCKET": "vsock:2:1234"}, 1).ready("alone")


def test_variables_are_removed_from_the_environment() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    SystemdNotifier(environ, 1)
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
def test_watchdog_interval(environ: dict[str, str], seconds: float | None) -> None:
    assert SystemdNotifier(environ, 7).watchdog_interval_s == seconds
