# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that holds a connection, so that the test process does not own it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.topologies.states import listener
from tests.support.topologies.topology import LabNamespace, Pair
from tests.support.topologies.waiting import until

# Connects and prints its port, its cookie and its PID. Sends on the connection at each line of
# input. A name becomes its command name (PR_SET_NAME). With `exited`, the main thread ends and
# another one goes on. With `own-table`, a thread with a descriptor table of its own connects.
_PROGRAM = """
import ctypes, os, socket, sys, threading
address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name:
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
def end_thread():
    if threads == "exited":
        ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)
def hold():
    if threads == "own-table":
        assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    sock = socket.create_connection((address, port))
    cookie = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)
    print(sock.getsockname()[1], cookie, os.getpid(), flush=True)
    sys.stdin.readline()
    try:
        sock.sendall(b"still here")
        print("alive", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
    sys.stdin.readline()
    os._exit(0)
threads = sys.argv[4]
if threads:
    threading.Thread(target=hold).start()
    end_thread()
    threading.Event().wait()
hold()
"""


class Holder(NamedTuple):
    """The process's end of a connection to the pair's server."""

    process: subprocess.Popen[str]
    port: int
    remote_port: int
    cookie: int
    pid: int

    def alive(self) -> bool:
        """Whether the process can still send."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == "alive\n"


@contextlib.contextmanager
def holder(
    pair: Pair, *, name: str = "", threads: str = "", python: str = sys.executable
) -> Iterator[Holder]:
    """Start a process in the client's namespace and connect it to the server.

    name: its command name. python: the interpreter. threads: `exited`: its main thread has ended.
    `own-table`: a thread with a descriptor table of its own holds the connection.
    """
    listening = listener(pair.server, pair.server4)
    port = listening.getsockname()[1]
    process = _start(pair.client, pair.server4, port, name, threads, python)
    try:
        accepted, _address = listening.accept()
        pair.server.close_at_end(accepted)
        assert process.stdout is not None
        own_port, cookie, pid = map(int, process.stdout.readline().split())
        if threads == "exited":
            until(lambda: ") Z " in Path(f"/proc/{pid}/stat").read_text(), "the end of a thread")
        yield Holder(process, own_port, port, cookie, pid)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _start(
    where: LabNamespace, address: str, port: int, name: str, threads: str, python: str
) -> subprocess.Popen[str]:
    return where.spawn(
        python,
        "-c",
        _PROGRAM,
        address,
        str(port),
        name,
        threads,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONHOME": sys.base_prefix},
    )


@contextlib.contextmanager
def program_of_root(name: str) -> Iterator[str]:
    """A copy of Python with this name, in a directory that only root may write."""
    directory = Path(tempfile.mkdtemp(prefix="lns-", dir="/run"))
    try:
        copy = directory / name
        shutil.copy(os.path.realpath(sys.executable), copy)
        copy.chmod(0o755)
        yield str(copy)
    finally:
        shutil.rmtree(directory)
