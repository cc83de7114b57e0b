# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections from the bench's namespace to a second namespace, held by child processes."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Well below the limit of descriptors for a process.
_CONNECTIONS_PER_PROCESS = 5_000
_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_FIRST_PORT = 7_000
_SOURCE = "10.65.0.{}"
# All addresses are local at the far end, so connections can have many remote addresses.
_REMOTES = "10.64.0.0/16"
_SELECTED_REMOTES = "10.66.0.0/24"
DEFAULT_REMOTE = "10.64.0.1"


class FarEnd:
    """A process in a second namespace at the other end of a veth pair."""

    def __init__(self) -> None:
        self._pid = _child(_enter_namespace, signal.pause)
        commands = (
            "ip link set lo up",
            f"ip link add near type veth peer name far netns {self._pid}",
            *(f"ip addr add {_SOURCE.format(number)}/16 dev near" for number in range(1, 33)),
            "ip link set near up",
            f"{self._inside} ip link set lo up",
            f"{self._inside} ip addr add 10.65.255.1/16 dev far",
            f"{self._inside} ip link set far up",
            f"ip route add {_REMOTES} via 10.65.255.1",
            f"ip route add {_SELECTED_REMOTES} via 10.65.255.1",
            f"{self._inside} ip route add local {_REMOTES} dev lo",
            f"{self._inside} ip route add local {_SELECTED_REMOTES} dev lo",
        )
        for command in commands:
            subprocess.run(command.split(), check=True)
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as setting:
            setting.write("10000 65000")

    @property
    def _inside(self) -> str:
        return f"nsenter --net=/proc/{self._pid}/ns/net"

    def join(self) -> None:
        """Move the calling process into this namespace."""
        with open(f"/proc/{self._pid}/ns/net", "rb") as namespace:
            _check(ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET))

    def close(self) -> None:
        _kill(self._pid)

    @contextmanager
    def connections(self, count: int, remotes: dict[str, int]) -> Iterator[None]:
        """Hold `count` established connections; each has a socket in both namespaces.

        remotes: number of connections by remote address; the others go to DEFAULT_REMOTE.
        """
        targets = [address for address, share in remotes.items() for _number in range(share)]
        targets += [DEFAULT_REMOTE] * (count - len(targets))
        holders: list[int] = []
        try:
            for start in range(0, count, _CONNECTIONS_PER_PROCESS):
                part = targets[start : start + _CONNECTIONS_PER_PROCESS]
                number = start // _CONNECTIONS_PER_PROCESS
                port = _FIRST_PORT + number
                servers: list[socket.socket] = []
                holders.append(_child(lambda: self._serve(port, len(part), servers), signal.pause))  # noqa: B023
                held: list[socket.socket] = []
                # One source address has too few ports, so each process uses its own.
                source = _SOURCE.format(number + 1)
                holders.append(_child(lambda: _connect(part, source, port, held), signal.pause))  # noqa: B023
            yield
        finally:
            for pid in holders:
                _kill(pid)

    @contextmanager
    def listener(self, port: int, count: int) -> Iterator[None]:
        """Listen at the far end with a backlog of `count` connections that are never accepted."""
        servers: list[socket.socket] = []
        holder = _child(lambda: self._serve(port, count, servers), signal.pause)
        try:
            yield
        finally:
            _kill(holder)

    def _serve(self, port: int, count: int, held: list[socket.socket]) -> None:
        _raise_limit(count)
        self.join()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        # Connections stay established in the backlog without being accepted.
        with open("/proc/sys/net/core/somaxconn", "w", encoding="ascii") as setting:
            setting.write(str(2 * count))
        listener.listen(2 * count)
        held.append(listener)


def _connect(targets: list[str], source: str, port: int, held: list[socket.socket]) -> None:
    _raise_limit(len(targets))
    for target in targets:
        client = socket.socket()
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        client.bind((source, 0))
        client.connect((target, port))
        held.append(client)


def _raise_limit(count: int) -> None:
    limit = count + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _enter_namespace() -> None:
    _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET))


def _check(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _child(prepare: Callable[[], None], then: Callable[[], object]) -> int:
    """Fork a child process and wait until it is prepared. Returns its PID."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            os.write(write, b"1")
            then()
        finally:
            os._exit(1)
    os.close(write)
    ready = os.read(read, 1)
    os.close(read)
    if not ready:
        os.waitpid(pid, 0)
        raise RuntimeError("the setup of a child process failed")
    return pid


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
