# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: lets the agent hear of other namespaces without being in them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import SocketsError
from ..host.host import Host
from ..host.namespaces import CURRENT, Namespace, resolve
from ..netlink import links
from ..netlink.connection import NETLINK_ROUTE, Connection


class Hearing:
    """Gives each namespace an id in the agent's own.

    Which has one is asked of the kernel each time: a new namespace may have device and inode of one
    that was known and is gone, while nobody looked.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def admit(self, namespaces: Iterable[Namespace]) -> bool:
        """Whether one was new: what changed in it before was not heard.

        One that cannot be given an id is heard of by the regular look alone, and is no error.
        """
        met = {each.identity: each for each in namespaces if each.path is not None}
        if not met:
            return False
        (own,) = resolve([CURRENT], proc=self._host.proc, directories=())
        connection = Connection(self._host.open_netlink(own, NETLINK_ROUTE))
        try:
            given = [_admitted(connection, each) for each in met.values()]
        finally:
            connection.close()
        return any(given)


def _admitted(connection: Connection, namespace: Namespace) -> bool:
    try:
        descriptor = os.open(namespace.path or "", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != namespace.identity:
            return False
        return links.assign_nsid(connection, descriptor)
    except (OSError, SocketsError):
        return False
    finally:
        os.close(descriptor)
