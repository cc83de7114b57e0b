# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose users may only use the VPN, and connections past it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from typing import Any

from tests.support.topologies.networks import ip, tun
from tests.support.topologies.states import listener
from tests.support.topologies.topology import Lab, Pair
from tests.support.unit_agent import UnitAgent

DEVICE = "wg0"
RULE = "past-the-vpn"


def policy(**more: Any) -> dict[str, Any]:
    """No connection of a user may go past the VPN while it is up, as `vpn_cutover` writes it."""
    match: Mapping[str, Any] = {
        "protocol": ["tcp", "udp"],
        "user": "1000-60000",
        "not": {"any": [{"local": f"interface:{DEVICE}"}]},
    }
    rule = {"name": RULE, "while": {"interface": DEVICE, "is": "up"}, "match": match}
    return {
        "version": 1,
        "limits": {"max_sockets": 500, "per": "1m"},
        "rules": [rule],
        **more,
    }


def strict_policy(**more: Any) -> dict[str, Any]:
    """No connection at all may go past the VPN, also none of root."""
    document = policy(**more)
    match = {"state": "connected", "not": {"local": f"interface:{DEVICE}"}}
    rule = {"name": "everything", "while": {"interface": DEVICE, "is": "up"}, "match": match}
    return {**document, "rules": [*document["rules"], rule]}


def protections(agent: UnitAgent) -> set[str]:
    """The rules of the guard that protected a violation, as the log names them."""
    return set(re.findall(r" protected_by=(\w+)", agent.log()))


class VpnHost:
    """A host with an ordinary link to a server and with a VPN, which start_vpn() sets up."""

    host4, server4 = Pair.client4, Pair.server4

    def __init__(self, lab: Lab) -> None:
        self.pair = Pair(lab)
        self.host, self.server = self.pair.client, self.pair.server
        self._tunnel = tun(self.host, DEVICE)
        ip(self.host, f"link set {DEVICE} down", f"addr add 10.9.0.1/32 dev {DEVICE}")

    def close(self) -> None:
        self._tunnel.close()

    def start_vpn(self) -> float:
        """From now on, the connections of users past the VPN violate the policy.

        Returns the time (time.monotonic).
        """
        ip(self.host, f"link set {DEVICE} up")
        return time.monotonic()

    def listen(self, port: int = 0) -> socket.socket:
        """A listening socket of the server, outside the VPN."""
        return listener(self.server, self.server4, port)

    def accept(self, listening: socket.socket) -> socket.socket:
        """The server's end of the next connection."""
        listening.settimeout(10)
        accepted, _address = listening.accept()
        return self.server.close_at_end(accepted)


def wait_for_reset(peer: socket.socket, started: float, *, within_s: float = 5.0) -> float:
    """Wait until the server's end of a connection is reset, and return the time.

    started: the time from which within_s counts (time.monotonic). Raises AssertionError if the
    connection is not reset in time, or ends in another way.
    """
    peer.settimeout(max(0.1, started + within_s - time.monotonic()))
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        return time.monotonic()
    except TimeoutError:
        raise AssertionError(f"the connection was not destroyed within {within_s} s") from None
    raise AssertionError("the user closed the connection")
