# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the names of states and their groups, as ss(8) takes them."""

from __future__ import annotations

from ... import values
from ...netlink import constants
from ...values import Path

# scan_state(), misc/ss.c of iproute2.
_ALIASES = {
    "close": constants.CLOSED,
    "unconnected": constants.CLOSED,
    "syn-rcv": constants.SYN_RECV,
}
NAMES = {
    **{name: frozenset({number}) for name, number in constants.STATES.items()},
    **{name: frozenset({number}) for name, number in _ALIASES.items()},
    **constants.GROUPS,
}


def parse_state(value: object, path: Path) -> frozenset[int]:
    """The states that a name, an alias or a group of ss(8) means."""
    return NAMES[values.choice(value, path, NAMES, "state")]
