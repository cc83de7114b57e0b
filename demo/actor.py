# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small programs of the demo: a server, and four kinds of client. Each is a process of its own.

usage: actor.py NAME serve ADDRESS PORT
       actor.py NAME worker|pool|shipper|forgetful COUNT PORT ADDRESS [SPARE_ADDRESS]

NAME is what the process calls itself (comm). It reads commands, one a line, and answers each with a
line of JSON. At the end of its input it exits, so that none outlives the demo.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import select
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Small buffers, so that a peer that does not read shows at once.
BUFFER = 64 * 1024
LOG_LINES = b"GET /shelf/42 200 0.013s\n" * 200
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Server:
    """Answers every line with a line, until told otherwise."""

    def __init__(self, address: str, port: int) -> None:
        self._listener = socket.socket(family(address), socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind((address, port))
        self._listener.listen()
        self._accepted: list[socket.socket] = []
        self._awake = threading.Event()
        self._awake.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            self._accepted.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._awake.wait() and (data := connection.recv(BUFFER)):
                questions = data.count(b"?\n")
                if questions:
                    connection.sendall(b"yes\n" * questions)

    def hang(self) -> None:
        """Read no more, but stay."""
        self._awake.clear()

    def hang_up(self) -> None:
        """Say on every connection that there is nothing more to come."""
        for connection in self._accepted:
            connection.shutdown(socket.SHUT_WR)


class Client:
    """One connection of an application. When it fails, the application says so and goes elsewhere.

    addresses: where to connect, first and afterwards. done: answers that came, or batches of log
    lines that went, on the present connection.
    """

    def __init__(self, name: str, port: int, addresses: list[str]) -> None:
        self.name = name
        self.said: list[str] = []
        self.done = 0
        self._port = port
        self._addresses = addresses
        self._work: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._connect()

    def _connect(self) -> None:
        address = self._addresses.pop(0)
        self._socket = socket.socket(family(address), socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._socket.connect((address, self._port))
        self.remote = self._socket.getpeername()[:2]
        cookie = self._socket.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        self.cookie = f"{int.from_bytes(cookie, sys.byteorder):x}"
        self.done = 0

    def start(self, behaviour: str) -> None:
        threading.Thread(target=self._run, args=(getattr(self, behaviour),), daemon=True).start()

    def _run(self, behaviour: Any) -> None:
        while True:
            try:
                behaviour()
            except OSError as error:
                self._socket.close()
                self.said.append(f"{errno.errorcode.get(error.errno or 0)} ({error.strerror})")
                if not self._addresses:
                    return
                self._connect()

    def _ask(self) -> None:
        self._socket.sendall(b"?\n")
        if not self._socket.recv(BUFFER):
            raise OSError(errno.EPIPE, "end of file")
        self.done += 1

    def ask_soon(self) -> None:
        """For a pool: use the connection once."""
        self._work.put("ask")

    def worker(self) -> None:
        """Questions and answers without end."""
        while True:
            self._ask()
            time.sleep(0.05)

    def pool(self) -> None:
        """One question at first, then only when there is something to do."""
        self._ask()
        while self._work.get():
            self._ask()

    def shipper(self) -> None:
        """Log lines, for ever."""
        while True:
            self._socket.sendall(LOG_LINES)
            self.done += 1
            time.sleep(0.02)

    def forgetful(self) -> None:
        """One question. Afterwards nobody looks whether the other end has hung up."""
        self._ask()
        poll = select.poll()
        poll.register(self._socket, 0)
        poll.poll()
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        raise OSError(number, os.strerror(number))

    def report(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "cookie": self.cookie,
            "remote": self.remote,
            "done": self.done,
            "said": self.said,
        }


def ask_all(clients: list[Client]) -> None:
    for client in clients:
        client.ask_soon()


def main() -> None:
    name, role, *rest = sys.argv[1:]
    Path("/proc/self/comm").write_text(name)
    commands: dict[str, Any]
    if role == "serve":
        server = Server(rest[0], int(rest[1]))
        commands = {"hang": server.hang, "hang_up": server.hang_up, "report": lambda: None}
    else:
        count, port, *addresses = rest
        clients = [Client(name, int(port), addresses.copy()) for _each in range(int(count))]
        for client in clients:
            client.start(role)
        commands = {
            "ask": lambda: ask_all(clients),
            "report": lambda: [client.report() for client in clients],
        }
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
