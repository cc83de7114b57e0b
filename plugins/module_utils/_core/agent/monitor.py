# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the agent listens to, and what came since it looked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..host.host import Host
from ..host.namespaces import Namespace
from ..policy.model import Policy
from ..sockets.needs import Need
from .faults import Attempts
from .hearing import Hearing
from .news import News
from .rtnetlink import NetlinkEvents
from .state import Account

Listen = Callable[..., NetlinkEvents]


class Ears:
    """Hears just what a policy depends on.

    listen: as NetlinkEvents. events: None: it hears nothing.
    """

    def __init__(self, host: Host, account: Account, attempts: Attempts, listen: Listen) -> None:
        self._account = account
        self._attempts = attempts
        self._listen = listen
        self._hearing = Hearing(host)
        self._heard: tuple[frozenset[Need], bool] | None = None
        self._news = News()
        self.events: NetlinkEvents | None = None

    @property
    def deaf(self) -> bool:
        return self._heard is None

    def listen(self, policy: Policy) -> bool:
        """Whether it hears something from now on that it did not till now, and that is to be
        looked at."""
        foreign = any(name != "current" for name in policy.namespaces)
        wanted = policy.needs, foreign
        if wanted == self._heard:
            return False
        events = self._attempts.attempt(
            "receive rtnetlink events", lambda: self._listen(policy.needs, foreign=foreign)
        )
        # What this one heard counts for the holds that go on.
        self.drain()
        self.close()
        if events is None:
            self._news += News(lost=True)
            return False
        self.events, self._heard = events, wanted
        return True

    def close(self) -> None:
        if self.events is not None:
            self.events.close()
        self.events = self._heard = None

    def drain(self) -> None:
        """Take the events that have come; where that fails, listen anew before long."""
        if self.events is not None:
            heard = self._attempts.attempt("receive rtnetlink events", self.events.drain)
            if heard is None:
                self.close()
                heard = News(lost=True)
            self._account.wakes += heard.events
            self._news += heard

    def news(self) -> News:
        """All that came since this was asked last."""
        self.drain()
        taken, self._news = self._news, News()
        return taken

    def admit(self, namespaces: Iterable[Namespace]) -> bool:
        """Hear of these too, where the policy asks for others; whether one was new."""
        if self._heard is None or not self._heard[1]:
            return False
        met = list(namespaces)
        return bool(
            self._attempts.attempt(
                "subscribe to other namespaces", lambda: self._hearing.admit(met)
            )
        )
