# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requirement of tests: the kernel reports the options of a socket."""

from __future__ import annotations

import socket

import pytest

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.support.topologies.topology import LabNamespace


def require_socket_options(where: LabNamespace) -> None:
    """Skip the test where the kernel does not report IP_TRANSPARENT and IP_FREEBIND."""
    sock = where.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    with NamespaceSession(Host(), namespaces.resolve([where.name])[0]) as session:
        parsed = parse_selector({"state": "listening", "local": "127.0.0.1"}, names=session.host)
        (found,) = find.find(session, parsed)
    sock.close()
    if inet_diag.SOCKOPT not in found.attributes:
        pytest.skip("this kernel does not report socket options (INET_DIAG_SOCKOPT)")
