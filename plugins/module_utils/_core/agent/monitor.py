# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Monitors the network facts that a policy depends on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple, TypeVar

from ..errors import SocketsError, errors_of_library
from ..host.host import Host
from ..host.namespaces import CURRENT, Identity, Namespace
from ..policy.doubt import NetworkChanges
from ..policy.model import Policy
from ..sockets.needs import Need
from .faults import FaultTracker
from .mounts import MountMonitor
from .network_events import OWN, EventBatch
from .nsids import NsidMap, assign_nsid
from .poller import HasDescriptor
from .rtnetlink import RtnetlinkListener
from .state import AgentState

T = TypeVar("T")
Listen = Callable[..., RtnetlinkListener]

# Operations of the fault tracker.
RECEIVE = "receive rtnetlink events"
TRACK = "subscribe to other namespaces"


class Observed(NamedTuple):
    """What happened since the last reading.

    own, others: changes of the agent's own namespace, and of others. others_overflow: events of any
    other namespace may be missing; others_lost: events of links or addresses among them.
    namespaces_changed: other namespaces may have appeared or ended.
    """

    own: NetworkChanges | None
    others: dict[Identity, NetworkChanges]
    others_overflow: bool
    others_lost: bool
    namespaces_changed: bool


class NetworkMonitor:
    """Subscribes to the rtnetlink events of a policy's facts and collects them.

    listen: creates a listener, as RtnetlinkListener does. listener: None while unsubscribed.
    """

    def __init__(self, host: Host, state: AgentState, faults: FaultTracker, listen: Listen) -> None:
        self._host = host
        self._state = state
        self._faults = faults
        self._listen = listen
        self._nsids = NsidMap()
        self._subscription: tuple[frozenset[Need], bool] | None = None
        self._batch = EventBatch()
        self._mounts: MountMonitor | None = None
        self.listener: RtnetlinkListener | None = None

    @property
    def subscribed(self) -> bool:
        return self._subscription is not None

    def sources(self) -> list[HasDescriptor]:
        """Return what becomes readable when there is something to read."""
        return [each for each in (self.listener, self._mounts) if each is not None]

    def subscribe(self, policy: Policy) -> bool:
        """Update the subscription to the policy's facts.

        Returns True if a reconcile pass is needed, since new facts may have changed before.
        """
        all_namespaces = any(name != CURRENT for name in policy.namespaces)
        requested = policy.needs, all_namespaces
        if requested == self._subscription:
            return False
        listener = self._receive(lambda: self._listen(policy.needs, all_namespaces=all_namespaces))
        # The events of the old listener still count for the holds that continue.
        self.drain()
        self.close()
        if listener is None:
            self._lose_all()
            return False
        self.listener, self._subscription = listener, requested
        if all_namespaces:
            self._mounts = self._faults.run(TRACK, MountMonitor)
        return True

    def close(self) -> None:
        for source in (self.listener, self._mounts):
            if source is not None:
                # A descriptor that cannot be closed must not stop the agent.
                with suppress(Exception):
                    source.close()
        self.listener = self._mounts = self._subscription = None

    def drain(self, ready: Collection[int] = ()) -> None:
        """Read pending events into the batch. After an error, unsubscribe: the agent retries.

        ready: the descriptors of sources() that are readable.
        """
        if self._mounts is not None and self._mounts.fileno() in ready:
            self._batch.mounts = True
        if self.listener is not None:
            batch = self._receive(self.listener.drain)
            if batch is None:
                self.close()
                self._lose_all()
                return
            self._state.events += batch.events
            self._batch.merge(batch)

    def _receive(self, work: Callable[[], T]) -> T | None:
        """Return the result of a call of the listener; None if it failed, which is a fault."""

        def mapped() -> T:
            with errors_of_library("pyroute2", RECEIVE):
                return work()

        return self._faults.run(RECEIVE, mapped)

    def _lose_all(self) -> None:
        self._batch.add(OWN, NetworkChanges(lost=True))
        self._batch.others_overflow = self._batch.others_lost = True

    def take(self) -> Observed | None:
        """Return what happened since the last call; None: nothing."""
        batch = self._batch
        if not (batch.changes or batch.others_overflow or batch.mounts):
            return None
        self._batch = EventBatch()
        others: dict[Identity, NetworkChanges] = {}
        unknown = False
        for nsid, changes in batch.changes.items():
            if nsid is None:
                # The agent's own namespace.
                continue
            identity = self._nsids.identity(nsid)
            if identity is None:
                unknown = self._nsids.is_new(nsid) or unknown
            else:
                others[identity] = changes
        return Observed(
            batch.changes.get(OWN),
            others,
            batch.others_overflow,
            batch.others_lost,
            batch.mounts or unknown,
        )

    def track(self, namespace: Namespace) -> None:
        """Receive the events of a namespace, if the policy names other namespaces."""
        if self._subscription is None or not self._subscription[1]:
            return
        try:
            nsid = assign_nsid(self._host, namespace)
        except (OSError, SocketsError):
            # Its evaluation reports the error.
            return
        if nsid is not None:
            self._nsids.learn(nsid, namespace.identity)

    def forget(self, identity: Identity) -> None:
        """Forget a namespace that no longer exists."""
        self._nsids.forget(identity)
