# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what a way of destroying sockets has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ...guard.reason import Reason
from ...sockets.session import NamespaceSession
from ...sockets.socket import Socket


class EngineAnswer(NamedTuple):
    """What the engine was told about one socket; the truth is what a fresh look says.

    acknowledged: the kernel said that it did it, or did not say anything, though it was asked.
    refusal: the outcome that stands if the socket is still there: asking again is useless.
    """

    acknowledged: bool
    refusal: str | None = None


class Declined(NamedTuple):
    """A socket that an engine leaves alone. outcome: what stands if no other engine takes it on.
    reason: why, where the outcome does not say it."""

    outcome: str
    reason: Reason | None = None


class Engine(Protocol):
    """One way of destroying sockets of one namespace."""

    @property
    def name(self) -> str: ...

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """For each socket None, or that this engine leaves it alone. Touches nothing."""

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        """For each socket that is not declined the outcome to expect; touches nothing."""

    def destroy(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[EngineAnswer]:
        """Try once to destroy each of these very sockets, known by their cookies."""
