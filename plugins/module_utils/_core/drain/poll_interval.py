# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The time between snapshots of a drain: a growing interval, cut short by notifications.

Without a notification, snapshots follow after 0.1 s, 0.15 s and so on, up to 1 s. A notification
brings the next snapshot forward. The minimum between two snapshots is 0.1 s, or nine times the
duration of the last one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..errors import SocketsError
from ..host.host import Host
from ..host.namespaces import Identity, Namespace
from ..netlink.destroy_events import DestroyEventListener, any_destroyed

# Seconds.
_MIN_S = 0.1
_MAX_S = 1.0
_GROWTH = 1.5
_PAUSE_PER_COST = 9.0
# Notifications about other sockets are read in batches, at this interval.
_BATCH_S = 0.05


class PollInterval:
    """Waits for the time of the next snapshot.

    A context manager: it closes its subscriptions at exit.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._listeners: dict[Identity, DestroyEventListener] = {}
        self._unsupported: set[Identity] = set()
        self._interval = _MIN_S / _GROWTH

    def __enter__(self) -> PollInterval:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.subscribe(())

    def subscribe(self, namespaces: Iterable[Namespace]) -> None:
        """Subscribe to the destroy notifications of these namespaces only.

        An open subscription keeps its namespace alive.
        """
        requested = {namespace.identity: namespace for namespace in namespaces}
        for identity in set(self._listeners) - set(requested):
            self._listeners.pop(identity).close()
        for identity in set(requested) - set(self._listeners) - self._unsupported:
            try:
                self._listeners[identity] = self._host.open_destroy_events(requested[identity])
            except (OSError, SocketsError):
                # Notifications are optional: the interval alone bounds the delay.
                self._unsupported.add(identity)

    def wait(self, until: float, cookies: Collection[int], *, cost: float, progress: bool) -> None:
        """Wait until a socket with one of these cookies is destroyed, or the interval is over.

        until: the latest end, in seconds of Host.monotonic. cost: the duration of the last
        snapshot in seconds. progress: whether it showed a change; if so, the interval restarts.
        """
        host = self._host
        began = host.monotonic()
        self._interval = _MIN_S if progress else min(self._interval * _GROWTH, _MAX_S)
        earliest = min(until, began + max(_MIN_S, _PAUSE_PER_COST * cost))
        until = max(earliest, min(until, began + self._interval))
        listeners = list(self._listeners.values())
        while True:
            left = until - host.monotonic()
            if left <= 0:
                return
            if not listeners:
                host.sleep(left)
            elif host.wait_for_destroy_events(listeners, left):
                try:
                    destroyed = any_destroyed(listeners, cookies)
                except OSError:
                    self.subscribe(())
                    return
                if destroyed:
                    until = earliest
                else:
                    host.sleep(min(_BATCH_S, left))
