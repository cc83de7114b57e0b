# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The reason why a socket is protected."""

from __future__ import annotations

from typing import NamedTuple

CONTROL_CONNECTION = "control_connection"
SSH_SESSIONS = "ssh_sessions"
SSH_FORWARDS = "ssh_forwards"
OWNER_UNREADABLE = "owner_unreadable"
LOOPBACK = "loopback"
LISTENERS = "listeners"
UNCONNECTED = "unconnected"
SHARED_PORT = "shared_port"
KERNEL = "kernel"
SELECTOR = "selector"

RULES = (
    CONTROL_CONNECTION,
    SSH_SESSIONS,
    SSH_FORWARDS,
    OWNER_UNREADABLE,
    LOOPBACK,
    LISTENERS,
    UNCONNECTED,
    SHARED_PORT,
    KERNEL,
    SELECTOR,
)


# The detail of KERNEL if all processes and their descriptors are readable.
NO_HOLDER = "it belongs to root, and no visible process holds it"


# Rules that protect a socket because no owner of it was found.
NO_OWNER_RULES = frozenset({OWNER_UNREADABLE, KERNEL})


class Reason(NamedTuple):
    """The first rule that protects a socket.

    detail: why the rule applies; None: obvious from the rule.
    """

    rule: str
    detail: str | None = None

    @property
    def owner_unreadable(self) -> bool:
        """Whether the socket is protected because not all owners are readable."""
        return self.rule == OWNER_UNREADABLE or (
            self.rule == KERNEL and self.detail not in (None, NO_HOLDER)
        )
