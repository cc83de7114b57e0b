# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets of every kind at once, for comparisons between programs that list sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import time

from . import states
from .topology import Pair

_IP_FREEBIND, _IP_RECVERR, _IPV6_TCLASS = 15, 11, 67
_SO_MAX_PACING_RATE = 47
_TCP_CONGESTION = 13


def open_all(pair: Pair) -> None:
    """Open the sockets in both namespaces. Afterwards only timers change."""
    for make in states.TCP_STATES.values():
        make(pair)
    states.fin_wait_2_orphan(pair)
    states.zero_window(pair)
    for v6 in (False, True):
        states.udp_explicit(pair, v6=v6)
        states.udp_autobound(pair, v6=v6)
        states.udp_unconnected(pair, v6=v6)
    states.established(pair, v6=True)
    states.time_wait(pair, v6=True)
    states.new_syn_recv(pair, v6=True)
    states.established(pair, mapped=True)
    states.udp_explicit(pair, mapped=True)
    states.udplite_connected(pair)
    states.bound_inactive(pair)
    with contextlib.suppress(OSError):  # a kernel without MPTCP
        states.mptcp(pair)
    _with_options(pair)
    _dual_stack(pair)
    _congestion_algorithms(pair)
    held = states.udp_explicit(pair)
    assert held.target is not None
    held.target.sendall(bytes(700))
    # Wait for delayed acknowledgements and tail loss probes.
    time.sleep(0.2)


def _with_options(pair: Pair) -> None:
    """Open a connection with each socket option that ss prints."""
    held = states.established(pair)
    assert held.target is not None
    assert held.peer is not None
    target = held.target
    target.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
    target.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    target.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    target.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0xBEEF)
    device = pair.client_device.encode() + b"\0"
    target.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    target.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, 1_000_000)
    with contextlib.suppress(OSError):  # a user namespace that maps root alone
        os.fchown(target.fileno(), 1234, -1)
    target.sendall(bytes(5000))
    held.peer.recv(100)
    target.shutdown(socket.SHUT_WR)


def _dual_stack(pair: Pair) -> None:
    sock = pair.client.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TCLASS, 0x20)
    sock.bind(("::", 0))
    sock.listen(3)
    datagrams = pair.client.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("::", 0))


def _congestion_algorithms(pair: Pair) -> None:
    """Open a connection for each available congestion control algorithm."""
    available = pair.client.output("cat", "/proc/sys/net/ipv4/tcp_available_congestion_control")
    for name in available.split():
        held = states.established(pair)
        assert held.target is not None
        with contextlib.suppress(PermissionError):  # not allowed in a user namespace
            held.target.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, name.encode())
        held.target.sendall(b"x")
