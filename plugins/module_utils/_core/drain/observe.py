# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: one look at a namespace that is drained: what is left, who came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..destroy.planner import Plan, judged, population
from ..destroy.verify import by_ports, dump_filtered
from ..guard.reason import Reason
from ..host.namespaces import Namespace
from ..netlink import bytecode, constants
from ..query.find import View, find
from ..sockets.snapshot import Environment
from ..sockets.socket import Subject
from .model import INCLUDE, SENT, DrainOrder
from .quiescence import still_for
from .tracker import SPARED, WAITED, Entry, Key, Watchlist, ends_of

# TIME_WAIT is what is left of a connection that has ended.
_LIVING = constants.state_mask(constants.ALL_STATES - {constants.TIME_WAIT})
_BEFORE = Reason("changed", "it was protected when the drain began")


@dataclass(frozen=True)
class Survey:
    """What one look at one namespace showed. Nothing is changed by it.

    left: those waited for that are there. arrivals: such as were not known and are not protected,
    in the first look all. spared: those known as such, and those that turn out to be protected now.
    known: all that match. due: what is to be destroyed now, judged in this very look. population:
    of which max_sockets may be a share.
    """

    namespace: Namespace
    left: list[Subject]
    arrivals: list[Subject]
    spared: list[tuple[Subject, Reason]]
    known: frozenset[Key]
    due: list[Subject]
    population: int
    unlisted: frozenset[str]

    def plan(self, subjects: list[Subject]) -> Plan:
        """That these are destroyed; none of them is protected."""
        reasons: list[Reason | None] = [None] * len(subjects)
        return Plan(self.namespace, subjects, reasons, self.population, set(self.unlisted))


def is_sent(subject: Subject, entry: Entry | None, order: DrainOrder, now: float) -> bool:
    """Whether nothing of it has been on its way for as long as the order says."""
    since = None if entry is None else entry.quiet_since
    still = still_for(subject, 0.0 if since is None else now - since)
    return still is not None and still >= order.settle


def survey(
    view: View, order: DrainOrder, watchlist: Watchlist, now: float, *, first: bool, final: bool
) -> Survey:
    """Look at the view's namespace. Raises what find raises.

    first: nothing is known yet. final: the time is over, so whatever is left is due.
    """
    environment = view.environment()
    extensions = order.order.guard.extensions | order.order.extensions
    left: list[Subject] = []
    spared: list[tuple[Subject, Reason | None]] = []
    new: list[Subject] = []
    known: set[Key] = set()
    for subject in find(view, order.order.selector, extensions=extensions, environment=environment):
        if subject.sock.state == constants.TIME_WAIT:
            continue
        known.add(subject.identity)
        entry = watchlist.of(subject)
        if entry is None:
            new.append(subject)
        elif entry.kind == WAITED:
            left.append(subject)
        elif entry.kind == SPARED:
            spared.append((subject, entry.reason))
    here = {subject.identity for subject in left}
    missing = {
        key: entry for key, entry in watchlist.all(WAITED, view.namespace.label) if key not in here
    }
    left += _no_longer_selected(
        view, environment, missing, order.order.selector.extensions | extensions
    )

    due = _due(left, watchlist, order, now, final=final)
    if first or order.arrivals == INCLUDE:
        due += _due(new, watchlist, order, now, final=final)
    unexplained = [subject for subject, reason in spared if reason is None]
    to_judge = list({id(each): each for each in (*new, *unexplained, *due)}.values())
    reasons = judged(view, order.order, environment, to_judge)
    protected = {
        subject.identity: (subject, reason)
        for subject, reason in zip(to_judge, reasons)
        if reason is not None
    }
    explained = [
        (subject, reason or protected.get(subject.identity, (subject, _BEFORE))[1])
        for subject, reason in spared
    ]
    already = {subject.identity for subject, _reason in spared}
    return Survey(
        view.namespace,
        [subject for subject in left if subject.identity not in protected],
        [subject for subject in new if subject.identity not in protected],
        [*explained, *(pair for key, pair in protected.items() if key not in already)],
        frozenset(known),
        [subject for subject in due if subject.identity not in protected],
        population(view, order.order) if due or first else 0,
        frozenset(view.unlisted),
    )


def _due(
    subjects: Iterable[Subject],
    watchlist: Watchlist,
    order: DrainOrder,
    now: float,
    *,
    final: bool,
) -> list[Subject]:
    """Those that are to be destroyed in this moment, if nothing protects them."""
    if not order.destroy:
        return []
    if final:
        return list(subjects)
    if order.until != SENT:
        return []
    entries = ((subject, watchlist.of(subject)) for subject in subjects)
    return [
        subject
        for subject, entry in entries
        if not (entry and entry.tried) and is_sent(subject, entry, order, now)
    ]


def _no_longer_selected(
    view: View, environment: Environment, missing: dict[Key, Entry], extensions: int
) -> Iterator[Subject]:
    """Those of the missing that are there, but for which the selector is not true any more: their
    state has changed, or whatever it asks. They are the same connections, and have not ended."""
    if not missing:
        return
    for protocol in sorted({key[1] for key in missing}):
        entries = [entry for key, entry in missing.items() if key[1] == protocol]
        socks = [entry.sock for entry in entries if entry.sock is not None]
        families = {sock.family for sock in socks}
        program = by_ports(protocol, socks)
        if len(socks) < len(entries):
            families, program = set(constants.FAMILIES.values()), bytecode.ACCEPT
        for family in sorted(families):
            for sock in dump_filtered(view, protocol, family, _LIVING, program, extensions):
                subject = Subject(sock, environment)
                entry = missing.get(subject.identity)
                if entry is not None and entry.ends == ends_of(sock):
                    if subject.ifindex:
                        # As find does: asked while the view is open.
                        environment.interface_name(subject.ifindex)
                    yield subject
