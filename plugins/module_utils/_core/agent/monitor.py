# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Monitors the network facts that a policy depends on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from .. import text
from ..errors import SocketsError
from ..host.host import Host
from ..host.namespaces import CURRENT, Namespace, resolve
from ..netlink import links
from ..netlink.connection import NETLINK_ROUTE, Connection
from ..policy.model import Policy
from ..sockets.needs import Need
from .faults import FaultTracker
from .rtnetlink import EventBatch, RtnetlinkListener
from .state import AgentState

Listen = Callable[..., RtnetlinkListener]

# Operations of the fault tracker.
RECEIVE = "receive rtnetlink events"
TRACK = "subscribe to other namespaces"


class NetworkMonitor:
    """Subscribes to the rtnetlink events of a policy's facts and collects them.

    listen: creates a listener, as RtnetlinkListener does. listener: None while unsubscribed.
    """

    def __init__(self, host: Host, state: AgentState, faults: FaultTracker, listen: Listen) -> None:
        self._state = state
        self._faults = faults
        self._listen = listen
        self._namespaces = NamespaceTracker(host)
        self._subscription: tuple[frozenset[Need], bool] | None = None
        self._batch = EventBatch()
        self.listener: RtnetlinkListener | None = None

    @property
    def subscribed(self) -> bool:
        return self._subscription is not None

    def subscribe(self, policy: Policy) -> bool:
        """Update the subscription to the policy's facts.

        Returns True if a reconcile pass is needed, since new facts may have changed before.
        """
        all_namespaces = any(name != "current" for name in policy.namespaces)
        requested = policy.needs, all_namespaces
        if requested == self._subscription:
            return False
        listener = self._faults.run(
            RECEIVE, lambda: self._listen(policy.needs, all_namespaces=all_namespaces)
        )
        # The events of the old listener still count for the holds that continue.
        self.drain()
        self.close()
        if listener is None:
            self._batch += EventBatch(overflow=True)
            return False
        self.listener, self._subscription = listener, requested
        return True

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()
        self.listener = self._subscription = None

    def drain(self) -> None:
        """Read pending events into the batch. After an error, unsubscribe: the agent retries."""
        if self.listener is not None:
            batch = self._faults.run(RECEIVE, self.listener.drain)
            if batch is None:
                self.close()
                batch = EventBatch(overflow=True)
            self._state.events += batch.events
            self._batch += batch

    def take_batch(self) -> EventBatch:
        """Return all events since the last call."""
        self.drain()
        taken, self._batch = self._batch, EventBatch()
        return taken

    def track_namespaces(self, namespaces: Iterable[Namespace]) -> bool:
        """Receive the events of these namespaces, if the policy names other namespaces.

        Returns whether one was new: its earlier events were not received.
        """
        if self._subscription is None or not self._subscription[1]:
            return False
        tracked = list(namespaces)
        return bool(self._faults.run(TRACK, lambda: self._namespaces.track(tracked)))


class NamespaceTracker:
    """Assigns each namespace an id in the agent's namespace (NETLINK_LISTEN_ALL_NSID).

    Asks the kernel each time: a new namespace may reuse device and inode of one that is gone.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def track(self, namespaces: Iterable[Namespace]) -> bool:
        """Return whether one had no id before.

        A namespace that cannot get an id is no error: the resync covers it.
        """
        foreign = {each.identity: each for each in namespaces if each.path is not None}
        if not foreign:
            return False
        (own,) = resolve([CURRENT], proc=self._host.proc, directories=())
        connection = Connection(self._host.open_netlink(own, NETLINK_ROUTE))
        try:
            assigned = [_assign_id(connection, each) for each in foreign.values()]
        finally:
            connection.close()
        return any(assigned)


def _assign_id(connection: Connection, namespace: Namespace) -> bool:
    try:
        descriptor = os.open(text.encode(namespace.path or ""), os.O_RDONLY | os.O_CLOEXEC)
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
