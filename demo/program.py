# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the demo: a server, and four kinds of clients. Each runs in its own process.

usage: program.py NAME serve ADDRESS PORT
       program.py NAME busy|pool|log_sender|no_close COUNT PORT ADDRESS [SPARE_ADDRESS]

NAME becomes the command name of the process (comm). The program reads commands, one per line, and
answers each with a line of JSON. It exits at the end of its input, so it cannot outlive the demo.
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

# Small buffers, so that a peer that stops reading soon blocks the sender.
BUFFER = 64 * 1024
LOG_LINES = b"GET /shelf/42 200 0.013s\n" * 200
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Server:
    """Answer every query, until stop_reading."""

    def __init__(self, address: str, port: int) -> None:
        self._listener = socket.socket(family(address), socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind((address, port))
        self._listener.listen()
        self._accepted: list[socket.socket] = []
        self._reads = threading.Event()
        self._reads.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            self._accepted.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._reads.wait() and (data := connection.recv(BUFFER)):
                queries = data.count(b"?\n")
                if queries:
                    connection.sendall(b"yes\n" * queries)

    def stop_reading(self) -> None:
        """Stop reading, and keep the connections open."""
        self._reads.clear()

    def shut_down(self) -> None:
        """Send a FIN on every connection."""
        for connection in self._accepted:
            connection.shutdown(socket.SHUT_WR)


class Client:
    """One connection of a program. After an error it connects to the next address.

    addresses: where to connect, first and after each error. completed: answers received, or batches
    of log lines sent, on the current connection. errors: all errors so far.
    """

    def __init__(self, name: str, port: int, addresses: list[str]) -> None:
        self.name = name
        self.errors: list[str] = []
        self.completed = 0
        self._port = port
        self._addresses = addresses
        self._requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._connect()

    def _connect(self) -> None:
        address = self._addresses.pop(0)
        self._socket = socket.socket(family(address), socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._socket.connect((address, self._port))
        self.remote = self._socket.getpeername()[:2]
        cookie = self._socket.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        self.cookie = f"{int.from_bytes(cookie, sys.byteorder):x}"
        self.completed = 0

    def start(self, behaviour: str) -> None:
        threading.Thread(target=self._run, args=(getattr(self, behaviour),), daemon=True).start()

    def _run(self, behaviour: Any) -> None:
        while True:
            try:
                behaviour()
            except OSError as error:
                self._socket.close()
                self.errors.append(f"{errno.errorcode.get(error.errno or 0)} ({error.strerror})")
                if not self._addresses:
                    return
                self._connect()

    def _query(self) -> None:
        self._socket.sendall(b"?\n")
        if not self._socket.recv(BUFFER):
            raise OSError(errno.EPIPE, "end of file")
        self.completed += 1

    def request_query(self) -> None:
        """Make a pool use the connection once."""
        self._requests.put("query")

    def busy(self) -> None:
        """Send queries all the time."""
        while True:
            self._query()
            time.sleep(0.05)

    def pool(self) -> None:
        """Send one query, then one for each request_query."""
        self._query()
        while self._requests.get():
            self._query()

    def log_sender(self) -> None:
        """Send log lines all the time."""
        while True:
            self._socket.sendall(LOG_LINES)
            self.completed += 1
            time.sleep(0.02)

    def no_close(self) -> None:
        """Send one query. Then wait for an error, and ignore the FIN of the peer."""
        self._query()
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
            "completed": self.completed,
            "errors": self.errors,
        }


def query_all(clients: list[Client]) -> None:
    for client in clients:
        client.request_query()


def main() -> None:
    name, role, *rest = sys.argv[1:]
    Path("/proc/self/comm").write_text(name)
    commands: dict[str, Any]
    if role == "serve":
        server = Server(rest[0], int(rest[1]))
        commands = {
            "stop_reading": server.stop_reading,
            "shut_down": server.shut_down,
            "report": lambda: None,
        }
    else:
        count, port, *addresses = rest
        clients = [Client(name, int(port), addresses.copy()) for _number in range(int(count))]
        for client in clients:
            client.start(role)
        commands = {
            "query": lambda: query_all(clients),
            "report": lambda: [client.report() for client in clients],
        }
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
