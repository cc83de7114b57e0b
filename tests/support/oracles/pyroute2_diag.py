# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets as pyroute2's DiagSocket dumps them."""

from __future__ import annotations

from typing import Any

from pyroute2 import DiagSocket

from tests.support.topologies.topology import LabNamespace


def show(where: LabNamespace, family: int, protocol: int) -> list[dict[str, Any]]:
    """List the sockets of one family and protocol: fields and attributes by pyroute2's names."""
    return where.run(_dump, family, protocol)


def _dump(family: int, protocol: int) -> list[dict[str, Any]]:
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
