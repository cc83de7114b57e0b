# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that owns sockets, controlled by a test.

It is not an ancestor of the tested Ansible, so the rule control_connection does not protect its
sockets. Commands and answers are lines of JSON on standard input and output.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_PROTOCOLS = {"mptcp": 262, "udplite": 136}


class SocketProcess:
    """Test side of the process, which is started by `spawn`. prefix: a command that runs it."""

    def __init__(self, spawn: Callable[..., subprocess.Popen[str]], *prefix: str) -> None:
        self._process = spawn(
            *prefix,
            sys.executable,
            str(Path(__file__)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.pid: int = self._call("pid")

    def _call(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process exited during {command} {arguments}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def become(self, *, name: str | None = None, uid: int | None = None) -> None:
        """Change the command name (comm) and the user. Raises AssertionError."""
        self._call("become", name=name, uid=uid)

    def listen(self, address: str, port: int = 0, **options: Any) -> dict[str, Any]:
        """Listen and accept all connections. Returns {number, cookie, port}."""
        return self._call("listen", address=address, port=port, **options)

    def connect(
        self, address: str, port: int, count: int = 1, **options: Any
    ) -> list[dict[str, Any]]:
        """Connect. Returns a list of {number, cookie, port}.

        Options: kind, source, device, mark, wait.
        """
        return self._call("connect", address=address, port=port, count=count, **options)

    def fill(self, number: int) -> int:
        """Send until the send buffer is full. Returns the number of bytes."""
        return self._call("fill", number=number)

    def state(self, *numbers: int) -> list[str]:
        """Result of a receive without waiting: open, closed, or the name of an errno."""
        return self._call("state", numbers=numbers)

    def reset(self, *numbers: int) -> None:
        """Close with a reset, which removes the connection at once."""
        self._call("reset", numbers=numbers)

    def close_with_fin(self, *numbers: int) -> None:
        """Close with a FIN."""
        self._call("close_with_fin", numbers=numbers)

    def close_accepted(self, port: int, *peers: int) -> None:
        """Close with a FIN the connections accepted at a port from these remote ports."""
        self._call("close_accepted", port=port, peers=peers)

    def fill_accepted(self, port: int, *peers: int) -> None:
        """Send on the connections accepted at a port until their send buffers are full."""
        self._call("fill_accepted", port=port, peers=peers)


class _Sockets:
    def __init__(self) -> None:
        self.held: list[socket.socket] = []
        self.accepted: list[socket.socket] = []

    def pid(self) -> int:
        return int(Path("/proc/self/stat").read_text().split()[0])

    def become(self, name: str | None, uid: int | None) -> None:
        if name is not None:
            Path("/proc/self/comm").write_text(name)
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)

    def listen(
        self, address: str, port: int, kind: str = "tcp", mapped: bool = False
    ) -> dict[str, Any]:
        sock = self._socket(address, kind)
        if mapped:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((address, port))
        if kind in ("tcp", "mptcp"):
            sock.listen(4096)
            threading.Thread(target=self._accept, args=(sock,), daemon=True).start()
        return self._keep(sock)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                self.accepted.append(listener.accept()[0])
            except OSError:
                return

    def connect(
        self,
        address: str,
        port: int,
        count: int,
        kind: str = "tcp",
        source: tuple[str, int] | None = None,
        device: str | None = None,
        mark: int | None = None,
        wait: bool = True,
    ) -> list[dict[str, Any]]:
        made = []
        for _connection in range(count):
            sock = self._socket(address, kind)
            if device is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if mark is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if source is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(tuple(source))
            sock.setblocking(wait)
            with contextlib.suppress(BlockingIOError):
                sock.connect((address, port))
            sock.setblocking(True)
            made.append(self._keep(sock))
        return made

    def _socket(self, address: str, kind: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        protocol = _PROTOCOLS.get(kind, 0)
        base = _KINDS.get(kind) or (socket.SOCK_STREAM if kind == "mptcp" else socket.SOCK_DGRAM)
        return socket.socket(family, base, protocol)

    def _keep(self, sock: socket.socket) -> dict[str, Any]:
        self.held.append(sock)
        cookie = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
        return {
            "number": len(self.held) - 1,
            "cookie": f"{cookie:x}",
            "port": sock.getsockname()[1],
        }

    def fill(self, number: int) -> int:
        return _fill(self.held[number])

    def state(self, numbers: list[int]) -> list[str]:
        return [_state(self.held[number]) for number in numbers]

    def reset(self, numbers: list[int]) -> None:
        for number in numbers:
            self.held[number].setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4)
            )
            self.held[number].close()

    def close_with_fin(self, numbers: list[int]) -> None:
        for number in numbers:
            self.held[number].close()

    def close_accepted(self, port: int, peers: list[int]) -> None:
        for sock in self._accepted(port, peers):
            sock.close()
            self.accepted.remove(sock)

    def fill_accepted(self, port: int, peers: list[int]) -> None:
        for sock in self._accepted(port, peers):
            _fill(sock)

    def _accepted(self, port: int, peers: list[int]) -> list[socket.socket]:
        """Accepted connections by remote port. Raises OSError if one is missing after 5 s."""
        deadline = time.monotonic() + 5
        while True:
            by_peer = {
                sock.getpeername()[1]: sock
                for sock in self.accepted
                if sock.getsockname()[1] == port
            }
            missing = [peer for peer in peers if peer not in by_peer]
            if not missing:
                return [by_peer[peer] for peer in peers]
            if time.monotonic() > deadline:
                raise OSError(errno.ENOTCONN, f"not accepted at {port}: {missing}")
            time.sleep(0.01)


def _fill(sock: socket.socket) -> int:
    sent = 0
    sock.setblocking(False)
    try:
        while True:
            sent += sock.send(bytes(65536))
    except BlockingIOError:
        return sent
    finally:
        sock.setblocking(True)


def _state(sock: socket.socket) -> str:
    try:
        return "open" if sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) else "closed"
    except BlockingIOError:
        return "open"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    sockets = _Sockets()
    for line in sys.stdin:
        request = json.loads(line)
        command = getattr(sockets, request.pop("do"))
        try:
            answer = {"answer": command(**request)}
        except OSError as error:
            answer = {"error": f"{request}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
