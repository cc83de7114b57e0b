# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine bpf in tests that also run with engine netlink."""

from __future__ import annotations

import errno

import pytest

from linuxnet_sockets.bpf import socket_destroy
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.messages.engines import bpf_text
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query.capabilities import bpf_support
from tests.kernel.conftest import Sockets

_SUPPORT = bpf_support(Host(), "tcp")

needs_bpf = pytest.mark.skipif(
    _SUPPORT.verdict != socket_destroy.SUPPORTED, reason=f"engine bpf: {bpf_text(*_SUPPORT)}"
)
BOTH_ENGINES = ("netlink", pytest.param("bpf", marks=needs_bpf))

# Runs a test of both engines with netlink only.
netlink_only = pytest.mark.parametrize("engine", ["netlink"], indirect=True)


class BpfSockets(Sockets):
    """Sockets of one namespace, destroyed by bpf_sock_destroy."""

    def __init__(self, namespace: Namespace, sockets: Sockets) -> None:
        super().__init__(sockets.connection)
        self._namespace = namespace

    def destroy(self, *socks: inet_diag.DiagMessage) -> list[int]:
        """The errno of each, as SOCK_DESTROY returns it."""
        return [_number(self._destroy(sock)) for sock in socks]

    def _destroy(self, sock: inet_diag.DiagMessage) -> int:
        return Host().destroy_by_bpf(self._namespace, sock.protocol, [sock.cookie])[sock.cookie]


def _number(result: int) -> int:
    other = {socket_destroy.UNSEEN: errno.ENOENT, socket_destroy.NOT_FULL: errno.EOPNOTSUPP}
    return other.get(result, -result)
