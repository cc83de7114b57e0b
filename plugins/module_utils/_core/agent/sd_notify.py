# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Notifications to systemd: sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping


class SystemdNotifier:
    """Sends messages to NOTIFY_SOCKET; does nothing without one.

    watchdog_interval_s: seconds between two watchdog messages, half of WATCHDOG_USEC as
    sd_watchdog_enabled(3) advises; None: systemd expects none. Removes the variables from the
    environment, so that no child process uses them.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        timeout_us = environ.pop("WATCHDOG_USEC", "")
        watched_pid = environ.pop("WATCHDOG_PID", "")
        self._address: str | None = None
        if address[:1] in ("/", "@"):
            # systemd writes @ for the zero byte of an abstract address.
            self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval_s: float | None = None
        if watched_pid in ("", str(pid)) and timeout_us.isdigit() and int(timeout_us):
            self.watchdog_interval_s = int(timeout_us) / 2e6

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.connect(self._address)
                sender.send("\n".join(lines).encode())
            except OSError:
                # Without a receiver the agent goes on.
                return

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={_single_line(status)}")

    def reloading(self, monotonic_us: int) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={_single_line(text)}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")


def _single_line(text: str) -> str:
    return " ".join(text.split())
