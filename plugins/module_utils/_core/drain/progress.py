# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how far a drain has come."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..destroy import outcomes
from ..host.namespaces import Namespace
from .quiescence import Bytes
from .tracker import Watchlist


@dataclass
class Progress:
    """started: on the clock of Host.monotonic, which every process of a machine shares. ended: how
    many went by themselves. arrived: how many came meanwhile. sent: how many of the destroyed had
    nothing on its way. counts: outcomes, but for the protected ones, which the watchlist has. lost:
    with the destroyed ones.
    """

    started: float
    namespaces: list[Namespace]
    watchlist: Watchlist = field(default_factory=Watchlist)
    ended: int = 0
    arrived: int = 0
    sent: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lost: Bytes = field(default_factory=Bytes)

    @property
    def destroyed(self) -> int:
        return sum(self.counts[outcome] for outcome in outcomes.CHANGING)
