# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the agent tells systemd: sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping


class Notify:
    """Sends to NOTIFY_SOCKET; without one, nothing is sent.

    watchdog_s: how often systemd wants to hear, in seconds (half of WATCHDOG_USEC, as
    sd_watchdog_enabled(3) advises); None: it does not. The variables are taken out of the
    environment, so that no child sends in our name.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        period = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        self._address: str | None = None
        if address[:1] in ("/", "@"):
            # systemd writes @ for the zero byte of an abstract address.
            self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = watched in ("", str(pid))
        self.watchdog_s = int(period) / 2e6 if ours and period.isdigit() and int(period) else None

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.connect(self._address)
                sender.send("\n".join(lines).encode())
            except OSError:
                # Nobody listens any more; there is nobody to tell it to either.
                return

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={_line(status)}")

    def reloading(self, monotonic_us: int) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")


def _line(text: str) -> str:
    return " ".join(text.split())
