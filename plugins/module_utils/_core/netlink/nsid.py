# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: ids of network namespaces: RTM_NEWNSID of rtnetlink.

A namespace that has an id in this one can be heard by a socket of this one
(NETLINK_LISTEN_ALL_NSID), without any socket in it. include/uapi/linux/net_namespace.h
"""

from __future__ import annotations

import errno
import struct

from ..errors import NetlinkError
from .attributes import encode
from .connection import Connection

_RTM_NEWNSID = 88
_NETNSA_NSID = 1
_NETNSA_FD = 3
_FAMILY = bytes(4)  # struct rtgenmsg, padded
_ANY = struct.pack("=i", -1)


def give_id(connection: Connection, descriptor: int) -> bool:
    """Let the kernel choose an id, in the connection's namespace, for the one that an open nsfs
    file stands for. False: it has one already. Raises NetlinkError.
    """
    payload = (
        _FAMILY + encode(_NETNSA_NSID, _ANY) + encode(_NETNSA_FD, struct.pack("=I", descriptor))
    )
    operation = "give a network namespace an id"
    (answer,) = connection.execute(operation, _RTM_NEWNSID, [payload])
    if answer not in (0, errno.EEXIST):
        raise NetlinkError(operation, answer)
    return answer == 0
