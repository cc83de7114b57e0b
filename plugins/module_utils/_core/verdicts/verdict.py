# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what is said of a socket that is not as it should be."""

from __future__ import annotations

from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """One verdict upon one socket.

    for_ms: the milliseconds for which it has held at the least, as the kernel's clocks prove; None:
    they prove nothing. evidence: what it rests on, numbers with their unit in the name (_ms,
    _bytes), and names of interfaces.
    """

    verdict: str
    for_ms: int | None
    evidence: dict[str, Any]
