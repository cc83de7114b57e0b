# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the time between two looks of a drain."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..errors import SocketsError
from ..host.host import Host
from ..host.namespaces import Identity, Namespace
from ..netlink.destroy_events import DestroyEventListener, any_destroyed

# Seconds. Looks that nothing woke come after 0.1, 0.15, ... and at last 1 s; a notice brings the
# next one on, but none comes sooner than 0.1 s after the last, or than nine times what that cost.
_SHORTEST = 0.1
_LONGEST = 1.0
_GROWTH = 1.5
_SHARE = 9.0
# Notices about sockets that nobody waits for are read in bundles.
_BUNDLE = 0.05


class Pauses:
    """Waits for the kernel's notices where it can listen, and no longer than seems good anyway.

    A context manager, which listens nowhere any more at its end.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._listeners: dict[Identity, DestroyEventListener] = {}
        self._deaf: set[Identity] = set()
        self._interval = _SHORTEST / _GROWTH

    def __enter__(self) -> Pauses:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.listen(())

    def listen(self, namespaces: Iterable[Namespace]) -> None:
        """In these namespaces and no others: whoever listens keeps a namespace alive."""
        wanted = {namespace.identity: namespace for namespace in namespaces}
        for identity in set(self._listeners) - set(wanted):
            self._listeners.pop(identity).close()
        for identity in set(wanted) - set(self._listeners) - self._deaf:
            try:
                self._listeners[identity] = self._host.open_destroy_events(wanted[identity])
            except (OSError, SocketsError):
                # Notices are a hint. Without them, looks are all there is.
                self._deaf.add(identity)

    def wait(self, until: float, cookies: Collection[int], *, cost: float, progress: bool) -> None:
        """Till a socket with one of these cookies is told of, a while has passed, or it is `until`.

        cost: what the last look took. progress: whether it showed anything new.
        """
        host = self._host
        began = host.monotonic()
        self._interval = _SHORTEST if progress else min(self._interval * _GROWTH, _LONGEST)
        soonest = min(until, began + max(_SHORTEST, _SHARE * cost))
        until = max(soonest, min(until, began + self._interval))
        listening = list(self._listeners.values())
        while True:
            left = until - host.monotonic()
            if left <= 0:
                return
            if not listening:
                host.sleep(left)
            elif host.wait_for_destroy_events(listening, left):
                try:
                    woken = any_destroyed(listening, cookies)
                except OSError:
                    self.listen(())
                    return
                if woken:
                    until = soonest
                else:
                    host.sleep(min(_BUNDLE, left))
