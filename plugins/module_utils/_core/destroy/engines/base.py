# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The interface of engines: ways to destroy the sockets of one namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ...guard.reason import Reason
from ...sockets.session import NamespaceSession
from ...sockets.socket import Socket


class EngineAnswer(NamedTuple):
    """The kernel's answer for one socket. Only a new dump proves what happened.

    acknowledged: the kernel reported success, or its answer to a request that was sent is lost.
    refusal: the outcome if the socket still exists, when another attempt is useless.
    """

    acknowledged: bool
    refusal: str | None = None


class Declined(NamedTuple):
    """A socket that an engine does not handle.

    outcome: of the socket if no other engine handles it. reason: None: obvious from the outcome.
    """

    outcome: str
    reason: Reason | None = None


class Engine(Protocol):
    """A way to destroy sockets."""

    @property
    def name(self) -> str: ...

    def declines(
        self, session: NamespaceSession, sockets: Sequence[Socket]
    ) -> list[Declined | None]:
        """For each socket: None if this engine handles it. Changes nothing."""

    def forecast(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[str]:
        """For each socket that the engine handles: the expected outcome. Changes nothing."""

    def destroy(self, session: NamespaceSession, sockets: Sequence[Socket]) -> list[EngineAnswer]:
        """For each socket: try once to destroy it, identified by its cookie."""
