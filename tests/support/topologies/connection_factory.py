# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP connections of one kind (IPv4, IPv6 or v4-mapped), traffic on them, and their TCP_INFO."""

from __future__ import annotations

import fcntl
import itertools
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

from .states import SMALL, HeldSocket, connected, hold
from .topology import Pair

KINDS = ("inet", "inet6", "mapped")
_SIOCOUTQ = 0x5411  # include/uapi/linux/sockios.h
# Offsets in struct tcp_info (include/uapi/linux/tcp.h).
_TCP_INFO_LENGTH, _STATE_AT, _RETRANSMITS_AT, _SND_WND_AT = 232, 0, 2, 228


class RepeatedAction:
    """Call a function repeatedly in a thread.

    pause: seconds between two calls.
    """

    def __init__(self, action: Callable[[], object], pause: float) -> None:
        self._action = action
        self._pause = pause
        self._stopped = threading.Event()
        self._calls: list[tuple[float, float]] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                before = time.monotonic()
                self._action()
                self._calls.append((before, time.monotonic()))
                self._stopped.wait(self._pause)
        except BaseException as error:  # noqa: BLE001  # pylint: disable=broad-exception-caught
            self._error = error

    def last_start(self, moment: float) -> float | None:
        """Return the start of the last call that returned by this moment, or None."""
        for before, after in reversed(self._calls):
            if after <= moment:
                return before
        return None

    def stop(self) -> None:
        """Stop the thread. Raises the error of a failed call."""
        self._stopped.set()
        self._thread.join(timeout=10)
        if self._error is not None:
            raise self._error


class ConnectionFactory:
    """Makes connections of one kind between the namespaces of a pair."""

    _numbers = itertools.count(100)

    def __init__(self, pair: Pair, kind: str) -> None:
        self.pair = pair
        self.kind = kind

    @property
    def client_address(self) -> str:
        return self.pair.client6 if self.kind == "inet6" else self.socket_address(self.pair.client4)

    @property
    def server_address(self) -> str:
        return self.pair.server6 if self.kind == "inet6" else self.socket_address(self.pair.server4)

    @property
    def silent_address(self) -> str:
        return self.pair.silent6 if self.kind == "inet6" else self.socket_address(self.pair.silent)

    def socket_address(self, address: str) -> str:
        """Convert an IPv4 address to the form that sockets of this kind use."""
        return f"::ffff:{address}" if self.kind == "mapped" else address

    def socket(self) -> socket.socket:
        """Return an unconnected socket of the client."""
        family = socket.AF_INET if self.kind == "inet" else socket.AF_INET6
        return self.pair.client.socket(family, socket.SOCK_STREAM)

    def add_server_address(self) -> str:
        """Add an address for a single connection to the server, for Pair.lose_packets_to()."""
        number = next(self._numbers)
        address = f"2001:db8::{number:x}" if self.kind == "inet6" else f"192.0.2.{number}"
        self.pair.add_server_addresses(address + ("/64" if self.kind == "inet6" else "/24"))
        return address

    def connected(
        self, address: str = "", *, small: bool = False
    ) -> tuple[socket.socket, socket.socket, socket.socket]:
        """Return (client, accepted, listener). small: with small buffers."""
        options = SMALL if small else []
        return connected(
            self.pair,
            v6=self.kind == "inet6",
            mapped=self.kind == "mapped",
            address=address,
            server_options=options,
            client_options=options,
        )

    def client_end(self, address: str = "", *, small: bool = False) -> HeldSocket:
        """Return the client's end of a new connection."""
        client, accepted, listens = self.connected(address, small=small)
        return hold(self.pair.client, client, accepted, listens)

    def server_end(self, *, small: bool = False) -> HeldSocket:
        """Return the server's end of a new connection."""
        client, accepted, listens = self.connected(small=small)
        return hold(self.pair.server, accepted, client, listens)


def ends(held: HeldSocket) -> tuple[socket.socket, socket.socket]:
    """Return the socket of the application and that of its peer."""
    assert held.target is not None
    assert held.peer is not None
    return held.target, held.peer


def unacknowledged(sock: socket.socket) -> int:
    """Return the unacknowledged bytes, sent or queued (SIOCOUTQ)."""
    (queued,) = struct.unpack("=i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))
    return int(queued)


def unread(sock: socket.socket) -> int:
    """Return the bytes in the receive queue (FIONREAD)."""
    (queued,) = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
    return int(queued)


def state(sock: socket.socket) -> int:
    """Return the state as a number (include/net/tcp_states.h)."""
    return _info(sock)[_STATE_AT]


def retransmits(sock: socket.socket) -> int:
    """Return the number of unanswered retransmissions in a row."""
    return _info(sock)[_RETRANSMITS_AT]


def window(sock: socket.socket) -> int:
    """Return the send window in bytes (Linux 5.4 or later)."""
    return int.from_bytes(_info(sock)[_SND_WND_AT : _SND_WND_AT + 4], "little")


def _info(sock: socket.socket) -> Any:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
