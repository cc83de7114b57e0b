# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Plans: the sockets that a selector matches, evaluated by the guard. Destroys nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from ..errors import HandlerMissing
from ..netlink import constants, inet_diag
from ..query.find import find, load
from ..selector.parse import Selector
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from ..verdicts.verdict import show_verdicts
from .model import DestroyOptions, Plan, Target, make_targets
from .mptcp import PartKey, protect_whole_connections


def make_plan(session: NamespaceSession, selector: Selector, options: DestroyOptions) -> Plan:
    """Find and evaluate the sockets of one namespace. Raises what find raises."""
    snapshot = session.snapshot()
    sockets = find(
        session,
        selector,
        extensions=options.guard.extensions | options.extensions,
        snapshot=snapshot,
    )
    return Plan(
        session.namespace,
        evaluate_guard(session, options, snapshot, sockets),
        count_unprotected(session, options, selector.protocols),
        frozenset(session.unlisted),
    )


def evaluate_guard(
    session: NamespaceSession,
    options: DestroyOptions,
    snapshot: Snapshot,
    sockets: Sequence[Socket],
    selected: Collection[PartKey] | None = None,
) -> list[Target]:
    """One target for each socket, with the reason of the guard.

    MPTCP connections are protected as a whole. selected: all sockets that were selected, if these
    are only some of them.
    """
    if not sockets:
        return []
    show_verdicts(snapshot)
    load(session, snapshot, options.guard.needs, sockets)
    targets = make_targets(sockets, options.guard.evaluator(snapshot).evaluate(sockets))
    return protect_whole_connections(session, options.guard, targets, selected)


def count_unprotected(
    session: NamespaceSession, options: DestroyOptions, protocols: Iterable[str]
) -> int:
    """Count the unprotected sockets of these protocols, in all states and both families.

    Returns 0 without counting unless options.max_sockets is a share.
    """
    if options.max_sockets is None or options.max_sockets.share is None:
        return 0
    snapshot = session.snapshot()
    sockets: list[Socket] = []
    for protocol in protocols:
        with suppress(HandlerMissing):
            sockets += inet_diag.dump_map_both_families(
                lambda message: Socket(message, snapshot),
                session.diag,
                protocol,
                constants.state_mask(constants.ALL_STATES),
                options.guard.extensions,
            )
    load(session, snapshot, options.guard.needs, sockets)
    return options.guard.evaluator(snapshot).evaluate(sockets).count(None)
