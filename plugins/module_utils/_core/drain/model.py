# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what is to be drained, for how long, and then what."""

from __future__ import annotations

from dataclasses import dataclass

from ..destroy.planner import Order

# What is waited for. closed: till the connection is gone, or in TIME_WAIT. sent: that too, or till
# nothing of it is on its way.
CLOSED = "closed"
SENT = "sent"
UNTIL = (CLOSED, SENT)

# What is done about connections that come to match meanwhile.
INCLUDE = "include"
IGNORE = "ignore"
FAIL = "fail"
ARRIVALS = (INCLUDE, IGNORE, FAIL)


@dataclass(frozen=True)
class DrainOrder:
    """order: what is selected and protected, and how the rest ends; with order.check nothing
    is waited for. settle: seconds without data after which a connection is still. grace: seconds.
    destroy: whether the rest is destroyed. step: return after so many seconds, done or not.
    """

    order: Order
    until: str = CLOSED
    settle: float = 1.0
    grace: float = 60.0
    destroy: bool = True
    arrivals: str = INCLUDE
    step: float | None = None
