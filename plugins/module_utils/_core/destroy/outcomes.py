# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what became of a socket: the closed list of outcomes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..guard.reason import Reason
from ..sockets.socket import Socket

# Asked for, and a fresh look no longer finds the cookie.
DESTROYED = "destroyed"
# A datagram socket on a port that the application chose: its remote is gone, it stays bound.
DISCONNECTED = "disconnected"
# What was to go went by itself: the socket, or the remote of a datagram socket that stays.
ALREADY_GONE = "already_gone"
SURVIVED = "survived"
PROTECTED = "protected"
# The kernel has no way to destroy a socket of this kind, whatever its configuration.
UNSUPPORTED_PROTOCOL = "unsupported_protocol"
# Built without CONFIG_INET_DIAG_DESTROY, or too old to destroy a socket in this state.
KERNEL_WITHOUT_DESTROY = "kernel_without_destroy"
# Left alone, because this kernel may turn such a socket into one that never ends.
KERNEL_DEFECT = "kernel_defect"
BUSY = "busy"
NOT_PERMITTED = "not_permitted"
# More sockets than max_sockets: none was touched.
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

# At least one of these: something changed.
CHANGING = frozenset({DESTROYED, DISCONNECTED})

# At least one of these: the call failed.
FAILING = frozenset(
    {SURVIVED, BUSY, NOT_PERMITTED, UNSUPPORTED_PROTOCOL, KERNEL_WITHOUT_DESTROY, LIMIT}
)


def results(sockets: Iterable[Socket], outcomes: Iterable[str], engine: str) -> list[Result]:
    """What one engine made of each of these sockets."""
    # As Result(...), without its Python frame: there may be very many.
    new = tuple.__new__
    return [new(Result, (each, outcome, None, engine)) for each, outcome in zip(sockets, outcomes)]


class Result(NamedTuple):
    """What became of one selected socket.

    subject: as it was when it was selected. reason: why it was protected or could not be reached,
    where the outcome does not say it.
    engine: the one that took it on; None where none was asked to.
    """

    socket: Socket
    outcome: str
    reason: Reason | None = None
    engine: str | None = None
