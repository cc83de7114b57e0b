# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Kernel releases at which the effect of destroying a socket changed.

There is no other way to find these out: the kernel accepts the request before and after the
change. Stable kernels may have a fix in an earlier release than these.
"""

from __future__ import annotations

import re

_RELEASE = re.compile(r"(\d+)\.(\d+)")

# "mptcp: full disconnect implementation"; before, mptcp_disconnect did not reset the connection.
_MPTCP_DISCONNECT_RESETS = (5, 17)
# Before, tcp_abort returned EOPNOTSUPP for TIME_WAIT.
_TIME_WAIT_IS_ABORTED = (6, 0)
# "tcp: fix forever orphan socket caused by tcp_abort"; before, tcp_abort emptied an orphan's send
# queue and left it to timers that do nothing about an empty queue.
_ORPHANS_ARE_ABORTED = (6, 11)


def mptcp_disconnect_resets(release: str) -> bool:
    """Whether disconnecting an MPTCP socket closes all its subflows. release: of uname(2)."""
    return _parse(release) >= _MPTCP_DISCONNECT_RESETS


def can_abort_time_wait(release: str) -> bool:
    """Whether SOCK_DESTROY ends sockets in TIME_WAIT."""
    return _parse(release) >= _TIME_WAIT_IS_ABORTED


def makes_orphans_immortal(release: str) -> bool:
    """Whether SOCK_DESTROY makes orphans with unsent data stay forever."""
    return _parse(release) < _ORPHANS_ARE_ABORTED


def _parse(release: str) -> tuple[int, int]:
    """The first two numbers of uname -r; (0, 0) if it has none."""
    match = _RELEASE.match(release)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)
