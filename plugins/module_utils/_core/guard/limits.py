# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""max_sockets: the most sockets that one call may destroy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import PathStep
from ..values import parse_share


class MaxSockets(NamedTuple):
    """A number of sockets, or a share (0 to 1) of a population. Exactly one is set."""

    number: int | None = None
    share: float | None = None

    def allows(self, count: int, population: int) -> bool:
        """Whether the limit allows count sockets. population: used by a share only."""
        if self.number is not None:
            return count <= self.number
        # 29% of 100 is a little less than 29 in floating point.
        return self.share is not None and count <= self.share * population + 1e-6


class MaxSocketsExceeded(NamedTuple):
    """The number of unprotected sockets is above the limit.

    selected: that number. population: the base of a share, which counts the unprotected sockets of
    all selected protocols; None for a number.
    """

    selected: int
    limit: MaxSockets
    population: int | None


def parse_max_sockets(value: object, path: Sequence[PathStep] = ("max_sockets",)) -> MaxSockets:
    """Parse a number, or a share such as ``25%``. Raises InputError."""
    parsed = parse_share(value, tuple(path))
    if isinstance(parsed, int):
        return MaxSockets(number=parsed)
    return MaxSockets(share=parsed)
