# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Outcomes: what happened to a socket. The list is closed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..guard.reason import Reason
from ..sockets.socket import Socket

# The kernel acknowledged it, and a new dump no longer has the cookie.
DESTROYED = "destroyed"
# A datagram socket on a port that the application chose: it lost its remote and stays bound.
DISCONNECTED = "disconnected"
# The socket closed on its own, or a datagram socket lost its remote on its own.
ALREADY_GONE = "already_gone"
SURVIVED = "survived"
PROTECTED = "protected"
# The kernel has no way to destroy a socket of this kind, whatever its configuration.
UNSUPPORTED_PROTOCOL = "unsupported_protocol"
# Built without CONFIG_INET_DIAG_DESTROY, or too old to destroy a socket in this state.
KERNEL_WITHOUT_DESTROY = "kernel_without_destroy"
# Skipped: this kernel may make such a socket stay forever.
KERNEL_DEFECT = "kernel_defect"
BUSY = "busy"
NOT_PERMITTED = "not_permitted"
# More sockets than max_sockets allows: none was destroyed.
LIMIT = "limit"

OUTCOMES = (
    DESTROYED,
    DISCONNECTED,
    ALREADY_GONE,
    SURVIVED,
    PROTECTED,
    UNSUPPORTED_PROTOCOL,
    KERNEL_WITHOUT_DESTROY,
    KERNEL_DEFECT,
    BUSY,
    NOT_PERMITTED,
    LIMIT,
)

# Outcomes that change something.
CHANGING = frozenset({DESTROYED, DISCONNECTED})

# Outcomes that make the call fail.
FAILING = frozenset(
    {SURVIVED, BUSY, NOT_PERMITTED, UNSUPPORTED_PROTOCOL, KERNEL_WITHOUT_DESTROY, LIMIT}
)


def results(sockets: Iterable[Socket], outcomes: Iterable[str], engine: str) -> list[Result]:
    """One result for each socket, by one engine."""
    # Result(...) without its Python frame: 20,000 sockets pass through here.
    new = tuple.__new__
    return [new(Result, (sock, outcome, None, engine)) for sock, outcome in zip(sockets, outcomes)]


class Result(NamedTuple):
    """The outcome of one selected socket.

    socket: as it was when it was selected. reason: why it was protected or not destroyed; None:
    obvious from the outcome. engine: the name of the engine that handled it; None: none did.
    """

    socket: Socket
    outcome: str
    reason: Reason | None = None
    engine: str | None = None
