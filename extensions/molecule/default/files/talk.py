# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test connections between hosts, and the state of both ends.

usage: talk.py serve PORT STATE
       talk.py connect HOST PORT COUNT STATE

The server echoes all data. A client opens COUNT connections and sends a few bytes on each of them
five times per second. Both write one JSON entry for each connection to the file STATE: local_port,
remote_port, exchanged (the number of received messages), and ended: null while the connection
exists, then "EOF" or the name of the kernel's error.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import sys
import time

INTERVAL = 0.2


class End:
    """Local end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.local_port = sock.getsockname()[1]
        self.remote_port = sock.getpeername()[1]
        self.exchanged = 0
        self.ended: str | None = None

    def exchange(self, *, answer: bool) -> None:
        """Receive data, and echo it if `answer` is true."""
        try:
            data = self.sock.recv(4096)
            if data and answer:
                self.sock.sendall(data)
        except OSError as error:
            self.ended = errno.errorcode.get(error.errno or 0, str(error))
        else:
            self.exchanged += 1
            if not data:
                self.ended = "EOF"

    def send(self) -> None:
        """Send a few bytes. Errors of the connection appear on the next receive."""
        try:
            self.sock.send(b"hello\n")
        except OSError as error:
            self.ended = errno.errorcode.get(error.errno or 0, str(error))

    def record(self) -> dict[str, object]:
        """Entry of the state file."""
        return {
            "local_port": self.local_port,
            "remote_port": self.remote_port,
            "exchanged": self.exchanged,
            "ended": self.ended,
        }


def serve(port: int, state: str) -> None:
    """Echo data until killed. The listening socket accepts IPv4 and IPv6."""
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    loop([], state, listener)


def connect(host: str, port: int, count: int, state: str) -> None:
    """Exchange data on ``count`` connections until killed."""
    loop([End(socket.create_connection((host, port))) for _each in range(count)], state, None)


def loop(ends: list[End], state: str, listener: socket.socket | None) -> None:
    """Main loop of both sides."""
    selector = selectors.DefaultSelector()
    for end in ends:
        selector.register(end.sock, selectors.EVENT_READ, end)
    if listener is not None:
        selector.register(listener, selectors.EVENT_READ)
    due = time.monotonic()
    while True:
        for key, _events in selector.select(max(0.0, due - time.monotonic())):
            if key.data is None:
                end = End(listener.accept()[0])
                ends.append(end)
                selector.register(end.sock, selectors.EVENT_READ, end)
            else:
                key.data.exchange(answer=listener is not None)
        if time.monotonic() >= due:
            due += INTERVAL
            if listener is None:
                for end in ends:
                    if end.ended is None:
                        end.send()
            write(ends, state)
        for end in ends:
            if end.ended is not None and end.sock.fileno() >= 0:
                selector.unregister(end.sock)
                end.sock.close()


def write(ends: list[End], state: str) -> None:
    """Replace the state file atomically."""
    fresh = f"{state}.new"
    with open(fresh, "w", encoding="ascii") as handle:
        json.dump([end.record() for end in ends], handle)
    os.replace(fresh, state)


if __name__ == "__main__":
    act, *arguments = sys.argv[1:]
    if act == "serve":
        serve(int(arguments[0]), arguments[1])
    else:
        connect(arguments[0], int(arguments[1]), int(arguments[2]), arguments[3])
