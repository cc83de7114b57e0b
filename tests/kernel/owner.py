# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that owns a socket and executes commands on it.

It reads one command a line and answers with one line: the result, or the name of the errno. The
prefix `blocked` runs the command without a timeout.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.support.topologies.states import cookie_of
from tests.support.topologies.topology import LabNamespace

_ROOT = Path(__file__).parents[2]


class Owner:
    """Test side of the process. The context manager kills it on exit."""

    def __init__(self, where: LabNamespace) -> None:
        # Descriptors are passed over this pair.
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process = where.spawn(
            *(sys.executable, "-m", "tests.kernel.owner", str(theirs.fileno())),
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        theirs.close()

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self.channel.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def send(self, command: str) -> None:
        """Send a command without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the owner process exited"
        return line.strip()

    def ask(self, command: str) -> str:
        self.send(command)
        return self.answer()

    def connect(self, address: str, port: int) -> int:
        """Connect and return the cookie."""
        return int(self.ask(f"connect {address} {port}"))

    def share(self, other: Owner) -> None:
        """Share its socket with another owner (SCM_RIGHTS)."""
        self.send("send_rights")
        size = array.array("i").itemsize
        _data, ancillary, _flags, _address = self.channel.recvmsg(1, socket.CMSG_SPACE(size))
        assert self.answer() == "ok"
        other.channel.sendmsg([b"x"], ancillary)
        number = int.from_bytes(ancillary[0][2], sys.byteorder)
        os.close(number)
        assert other.ask("receive_rights") == "ok"


def _wait_for_kill() -> None:
    """Wait until the parent kills this child. Exit after 120 s if the parent is gone."""
    signal.alarm(120)
    signal.pause()
    os._exit(0)


class _Process:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._socket = socket.socket()
        self._stop = threading.Event()
        self._loop: threading.Thread | None = None
        self._counts = [0, 0, 0]
        self._children: list[int] = []

    def blocked(self, command: str, *words: str) -> object:
        self._socket.settimeout(None)
        return getattr(self, command)(*words)

    def socket(self) -> object:
        return cookie_of(self._socket)

    def connect(self, address: str, port: str) -> object:
        self._socket.connect((address, int(port)))
        return cookie_of(self._socket)

    def listen(self, address: str) -> object:
        self._socket.bind((address, 0))
        self._socket.listen()
        return f"{cookie_of(self._socket)} {self._socket.getsockname()[1]}"

    def accept(self) -> object:
        self._socket.accept()
        return "accepted"

    def recv(self) -> object:
        return self._socket.recv(1)

    def send(self) -> object:
        return self._socket.send(b"x")

    def spread(self, address: str, port: str, processes: str, per_process: str) -> object:
        """Fork children with connections of their own. Returns the number of connections."""
        reads, writes = os.pipe()
        for _process in range(int(processes)):
            if not self._child():
                made = [
                    socket.create_connection((address, int(port)))
                    for _connection in range(int(per_process))
                ]
                os.write(writes, len(made).to_bytes(1, "big"))
                _wait_for_kill()
        return sum(os.read(reads, 1)[0] for _process in range(int(processes)))

    def _child(self) -> int:
        """Fork; return 0 in the child and its PID in the parent, which kills it at the end."""
        child = os.fork()
        if child:
            self._children.append(child)
        return child

    def fork(self, count: str) -> object:
        """Fork children that inherit its descriptors."""
        for _child in range(int(count)):
            if not self._child():
                _wait_for_kill()
        return "forked"

    def end(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def send_rights(self) -> object:
        numbers = array.array("i", [self._socket.fileno()])
        self._channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        return "ok"

    def receive_rights(self) -> object:
        size = array.array("i").itemsize
        _data, ancillary, _flags, _address = self._channel.recvmsg(1, socket.CMSG_SPACE(size))
        self._socket = socket.socket(fileno=int.from_bytes(ancillary[0][2], sys.byteorder))
        return "ok"

    def loop(self, address: str, target_port: str, other_port: str) -> object:
        """Connect to the target and close, then to the other server, reusing the descriptor number.

        The connections to the target last for varying times.
        """
        self._loop = threading.Thread(
            target=self._run_loop, args=(address, int(target_port), int(other_port))
        )
        self._loop.start()
        return "looping"

    def _run_loop(self, address: str, target_port: int, other_port: int) -> None:
        while not self._stop.is_set():
            for index, port in ((1, target_port), (2, other_port)):
                with socket.socket() as sock:
                    sock.settimeout(5)
                    try:
                        sock.connect((address, port))
                        for _exchange in range(3):
                            sock.sendall(b"x")
                            if not sock.recv(1):
                                raise ConnectionResetError
                            if index == 1:
                                time.sleep(self._counts[0] % 8 * 0.003)
                    except OSError:
                        self._counts[index] += 1
            self._counts[0] += 1

    def counts(self) -> object:
        """Rounds so far, and failed connections to the target and to the other server."""
        return " ".join(map(str, self._counts))

    def stop(self) -> object:
        """Stop the loop and return counts()."""
        self._stop.set()
        assert self._loop is not None
        self._loop.join()
        return self.counts()


def main() -> None:
    process = _Process(socket.socket(fileno=int(sys.argv[1])))
    try:
        for line in sys.stdin:
            command, *words = line.split()
            try:
                answer = getattr(process, command)(*words)
            except OSError as error:
                answer = errno.errorcode[error.errno or 0]
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()
    finally:
        process.end()


if __name__ == "__main__":
    main()
