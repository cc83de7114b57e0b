# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Netlink connections to one network namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ..errors import NamespaceNotFound
from ..host.host import Host
from ..host.namespaces import Namespace
from ..netlink.connection import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Connection
from .snapshot import Snapshot

T = TypeVar("T")


class NamespaceSession:
    """The netlink connections of one namespace, opened on first use.

    Use it as a context manager: it closes them on exit and leaves nothing open in the namespace.
    unlisted: the protocols that a selector admits and that this kernel cannot list.
    """

    def __init__(self, host: Host, namespace: Namespace) -> None:
        self.host = host
        self.namespace = namespace
        self.unlisted: set[str] = set()
        self._diag: Connection | None = None
        self._route: Connection | None = None

    @property
    def diag(self) -> Connection:
        """The NETLINK_SOCK_DIAG connection."""
        if self._diag is None:
            self._diag = Connection(self.host.open_netlink(self.namespace, NETLINK_SOCK_DIAG))
        return self._diag

    @property
    def route(self) -> Connection:
        """The NETLINK_ROUTE connection."""
        if self._route is None:
            self._route = Connection(self.host.open_netlink(self.namespace, NETLINK_ROUTE))
        return self._route

    def snapshot(self) -> Snapshot:
        """A new snapshot, which loads its facts from this session."""
        return Snapshot(self.host, self.namespace, lambda: self.route, lambda: self.diag)

    def close(self) -> None:
        for connection in (self._diag, self._route):
            if connection is not None:
                connection.close()
        self._diag = self._route = None

    def __enter__(self) -> NamespaceSession:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def for_each_namespace(
    host: Host, namespaces: Iterable[Namespace], visit: Callable[[NamespaceSession], T]
) -> Iterator[T]:
    """The result of visit(session) for each namespace in turn.

    Each session is closed before the next one opens. A namespace that `all` found is skipped when
    it no longer exists, before or during the visit. One that the user named raises
    NamespaceNotFound.
    """
    for namespace in namespaces:
        try:
            with NamespaceSession(host, namespace) as session:
                result = visit(session)
        except NamespaceNotFound:
            if namespace.explicit:
                raise
        else:
            yield result
