# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of one kind (IPv4, IPv6, v4-mapped), and what goes on on them."""

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
# struct tcp_info, include/uapi/linux/tcp.h, as far as it is read here.
_TCP_INFO_LENGTH, _STATE_AT, _RETRANSMITS_AT, _SND_WND_AT = 232, 0, 2, 228


class RepeatedAction:
    """What is done on a connection again and again, in a thread of its own."""

    def __init__(self, turn: Callable[[], object], pause: float) -> None:
        self._turn = turn
        self._pause = pause
        self._over = threading.Event()
        self._turns: list[tuple[float, float]] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                before = time.monotonic()
                self._turn()
                self._turns.append((before, time.monotonic()))
                self._over.wait(self._pause)
        except BaseException as error:  # noqa: BLE001  # pylint: disable=broad-exception-caught
            self._error = error

    def last(self, moment: float) -> float | None:
        """When the last turn began that was complete by this moment."""
        for before, after in reversed(self._turns):
            if after <= moment:
                return before
        return None

    def stop(self) -> None:
        """Raises what a turn raised."""
        self._over.set()
        self._thread.join(timeout=10)
        if self._error is not None:
            raise self._error


class ConnectionFactory:
    """Where connections of one kind are made."""

    _numbers = itertools.count(100)

    def __init__(self, pair: Pair, kind: str) -> None:
        self.pair = pair
        self.kind = kind

    @property
    def client_address(self) -> str:
        return self.pair.client6 if self.kind == "inet6" else self.written(self.pair.client4)

    @property
    def server_address(self) -> str:
        return self.pair.server6 if self.kind == "inet6" else self.written(self.pair.server4)

    @property
    def silent_address(self) -> str:
        return self.pair.silent6 if self.kind == "inet6" else self.written(self.pair.silent)

    def written(self, address: str) -> str:
        """An IPv4 address as such a socket wants it."""
        return f"::ffff:{address}" if self.kind == "mapped" else address

    def socket(self) -> socket.socket:
        """The client's, and not connected."""
        family = socket.AF_INET if self.kind == "inet" else socket.AF_INET6
        return self.pair.client.socket(family, socket.SOCK_STREAM)

    def add_server_address(self) -> str:
        """An address of the server that no other connection uses, for Pair.lose()."""
        number = next(self._numbers)
        address = f"2001:db8::{number:x}" if self.kind == "inet6" else f"192.0.2.{number}"
        self.pair.add_server_addresses(address + ("/64" if self.kind == "inet6" else "/24"))
        return address

    def connected(
        self, address: str = "", *, small: bool = False
    ) -> tuple[socket.socket, socket.socket, socket.socket]:
        """(client, accepted, listener). small: with buffers that are soon full."""
        options = SMALL if small else []
        return connected(
            self.pair,
            v6=self.kind == "inet6",
            mapped=self.kind == "mapped",
            address=address,
            server_options=options,
            client_options=options,
        )

    def held(self, address: str = "", *, small: bool = False) -> HeldSocket:
        """The client's end."""
        client, accepted, listens = self.connected(address, small=small)
        return hold(self.pair.client, client, accepted, listens)

    def held_by_server(self, *, small: bool = False) -> HeldSocket:
        """The server's end."""
        client, accepted, listens = self.connected(small=small)
        return hold(self.pair.server, accepted, client, listens)


def ends(held: HeldSocket) -> tuple[socket.socket, socket.socket]:
    """The application's descriptor and its peer's."""
    assert held.target is not None
    assert held.peer is not None
    return held.target, held.peer


def unacknowledged(sock: socket.socket) -> int:
    """Bytes sent or to be sent, and not acknowledged."""
    (queued,) = struct.unpack("=i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))
    return int(queued)


def unread(sock: socket.socket) -> int:
    """Bytes that have arrived and were not received."""
    (queued,) = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
    return int(queued)


def state(sock: socket.socket) -> int:
    """As the kernel counts."""
    return _info(sock)[_STATE_AT]


def retransmits(sock: socket.socket) -> int:
    """How many retransmissions in a row had no answer."""
    return _info(sock)[_RETRANSMITS_AT]


def window(sock: socket.socket) -> int:
    """How many bytes the peer is willing to take (Linux 5.4 and later)."""
    return int.from_bytes(_info(sock)[_SND_WND_AT : _SND_WND_AT + 4], "little")


def _info(sock: socket.socket) -> Any:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
