# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Facts that are not part of a socket dump, and the events that report their changes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Need(Enum):
    """A fact that a selector, a condition or a record depends on."""

    # The processes that own a socket, from /proc/PID/fd.
    OWNERS = "owners"
    # Whether the addresses of a socket are local and routable (RTM_GETROUTE, RTM_GETRULE).
    ROUTES = "routes"
    # When other connections from the same peer last received data.
    PEERS = "peers"
    LINKS = "links"
    ADDRESSES = "addresses"
    RULES = "rules"
    # Ids of cgroups by path.
    CGROUPS = "cgroups"


# The rtnetlink groups that report changes of a fact (include/uapi/linux/rtnetlink.h, the names
# that pyroute2 uses too). Changes of the other facts are not reported.
RTNETLINK_GROUPS: Mapping[Need, tuple[str, ...]] = {
    Need.LINKS: ("RTMGRP_LINK",),
    Need.ADDRESSES: ("RTMGRP_IPV4_IFADDR", "RTMGRP_IPV6_IFADDR"),
    Need.ROUTES: ("RTMGRP_IPV4_ROUTE", "RTMGRP_IPV6_ROUTE"),
    Need.RULES: ("RTMGRP_IPV4_RULE", "RTMGRP_IPV6_RULE"),
}
