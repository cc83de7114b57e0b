# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what an order would destroy. It looks, judges, touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import HandlerMissing
from ..guard.limits import Excess, MaxSockets
from ..guard.options import Guard
from ..guard.reason import Reason
from ..host.namespaces import Namespace
from ..netlink import constants, inet_diag
from ..query.find import find, load
from ..selector.parse import Selector
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .engines.sock_destroy import NetlinkEngine
from .mptcp import protect_whole_connections


@dataclass(frozen=True)
class Order:
    """What is to be destroyed, and within which bounds.

    selector: parsed for the role "destroy". pace_per_second: at most so many a second; None for
    as fast as it goes. engine: a name of engines.registry. check: tell, and touch nothing.
    extensions: more bits of idiag_ext to ask for, so that the results' records are full.
    """

    selector: Selector
    namespaces: Sequence[Namespace]
    guard: Guard
    max_sockets: MaxSockets | None = None
    pace_per_second: float | None = None
    engine: str = "netlink"
    check: bool = False
    extensions: int = 0


@dataclass(frozen=True)
class Plan:
    """The selected sockets of one namespace, and for each why it is protected, or None."""

    namespace: Namespace
    sockets: list[Socket]
    reasons: list[Reason | None]
    population: int
    unlisted: set[str]

    @property
    def unprotected(self) -> list[Socket]:
        if not any(self.reasons):
            return self.sockets
        return [sock for sock, reason in zip(self.sockets, self.reasons) if reason is None]


def make_plan(session: NamespaceSession, order: Order) -> Plan:
    """Look at one namespace, and judge what the order selects there. Raises what find raises."""
    snapshot = session.snapshot()
    sockets = find(
        session,
        order.selector,
        extensions=order.guard.extensions | order.extensions,
        snapshot=snapshot,
    )
    reasons = judged(session, order, snapshot, sockets)
    return Plan(session.namespace, sockets, reasons, population(session, order), session.unlisted)


def judged(
    session: NamespaceSession, order: Order, snapshot: Snapshot, sockets: Sequence[Socket]
) -> list[Reason | None]:
    """For each socket why the order protects it, or None."""
    if not sockets:
        return []
    load(session, snapshot, order.guard.needs, sockets)
    reasons = order.guard.watch(snapshot).reasons(sockets)
    if order.engine == NetlinkEngine.name:
        return reasons
    return protect_whole_connections(session, order.guard, sockets, reasons)


def population(session: NamespaceSession, order: Order) -> int:
    """The unprotected sockets of the selected protocols, in every state and of both families; 0
    where max_sockets is no share of them."""
    if order.max_sockets is None or order.max_sockets.share is None:
        return 0
    snapshot = session.snapshot()
    sockets: list[Socket] = []
    for protocol in order.selector.protocols:
        with suppress(HandlerMissing):
            sockets += inet_diag.dump_each_as(
                lambda message: Socket(message, snapshot),
                session.diag,
                protocol,
                constants.state_mask(constants.ALL_STATES),
                order.guard.extensions,
            )
    load(session, snapshot, order.guard.needs, sockets)
    return order.guard.watch(snapshot).reasons(sockets).count(None)


def excess(limit: MaxSockets | None, plans: Sequence[Plan], before: int = 0) -> Excess | None:
    """Set where the plans together would destroy more than the limit allows.

    before: how many were destroyed already under the same limit.
    """
    if limit is None:
        return None
    count = before + sum(plan.reasons.count(None) for plan in plans)
    whole = before + sum(plan.population for plan in plans)
    if limit.allows(count, whole):
        return None
    return Excess(count, limit, None if limit.share is None else whole)
