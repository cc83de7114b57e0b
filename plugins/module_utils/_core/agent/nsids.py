# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Ids of other network namespaces in that of the agent (ip-netns(8), set).

With NETLINK_LISTEN_ALL_NSID, the kernel names the namespace of an event by this id.
"""

from __future__ import annotations

import os

from ..errors import SocketsError
from ..host.host import Host
from ..host.namespaces import CURRENT, Identity, Namespace, open_namespace_file, resolve
from ..netlink import links
from ..netlink.connection import NETLINK_ROUTE, Connection

# The most ids to remember as unknown. Above it, they are all asked about again.
_MAX_UNKNOWN = 4_096


class NsidMap:
    """The namespaces by id. Pure.

    The kernel reuses an id after its namespace ended, so the last assignment counts. An id without
    a namespace is worth a search once: afterwards it belongs to none of the policy's namespaces.
    """

    def __init__(self) -> None:
        self._identities: dict[int, Identity] = {}
        self._nsids: dict[Identity, int] = {}
        self._unknown: set[int] = set()

    def learn(self, nsid: int, identity: Identity) -> None:
        """Record the present id of a namespace."""
        self.forget(identity)
        before = self._identities.get(nsid)
        if before is not None:
            del self._nsids[before]
        self._identities[nsid], self._nsids[identity] = identity, nsid
        self._unknown.discard(nsid)

    def forget(self, identity: Identity) -> None:
        """Forget a namespace that no longer exists."""
        nsid = self._nsids.pop(identity, None)
        if nsid is not None:
            del self._identities[nsid]

    def identity(self, nsid: int) -> Identity | None:
        """Return the namespace with an id; None: unknown."""
        return self._identities.get(nsid)

    def is_new(self, nsid: int) -> bool:
        """Return whether an unknown id was not asked about before."""
        if nsid in self._identities or nsid in self._unknown:
            return False
        if len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown.add(nsid)
        return True


def assign_nsid(host: Host, namespace: Namespace) -> int | None:
    """Give a namespace an id, so that its events are received, and return the id.

    Asks the kernel each time: a new namespace may reuse device and inode of one that is gone.
    Returns None for the agent's own namespace, and for one that cannot get an id: the resync covers
    it. Raises NamespaceNotFound and NamespaceDenied.
    """
    if namespace.path is None:
        return None
    (own,) = resolve([CURRENT], proc=host.proc, directories=())
    if namespace.identity == own.identity:
        return None
    connection = Connection(host.open_netlink(own, NETLINK_ROUTE))
    try:
        return _assigned_id(connection, namespace)
    finally:
        connection.close()


def _assigned_id(connection: Connection, namespace: Namespace) -> int | None:
    try:
        descriptor = open_namespace_file(namespace.path or "", namespace.identity)
    except OSError:
        return None
    try:
        nsid = links.get_nsid(connection, descriptor)
        if nsid is None and links.assign_nsid(connection, descriptor):
            nsid = links.get_nsid(connection, descriptor)
        return nsid
    except (OSError, SocketsError):
        return None
    finally:
        os.close(descriptor)
