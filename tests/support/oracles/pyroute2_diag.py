# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pyroute2's DiagSocket reads."""

from __future__ import annotations

from typing import Any

from pyroute2 import DiagSocket

from tests.support.topologies.topology import LabNamespace


def show(where: LabNamespace, family: int, protocol: int) -> list[dict[str, Any]]:
    """The sockets of one family and protocol, by pyroute2's names; attributes beside the rest."""
    return where.run(_ask, family, protocol)


def _ask(family: int, protocol: int) -> list[dict[str, Any]]:
    with DiagSocket() as diag:
        diag.bind()
        messages = diag.get_sock_stats(
            family=family, states=0xFFFF, protocol=protocol, extensions=0xFF
        )
        return [
            {
                **{key: message[key] for key in message if key.startswith("idiag_")},
                **dict(message["attrs"]),
            }
            for message in messages
        ]
