# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: one look at a namespace that is drained: what is left, who came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..destroy.model import Plan, Target
from ..destroy.planner import count_unprotected, evaluate_guard
from ..destroy.verify import by_ports, dump_filtered
from ..guard.reason import Reason
from ..host.namespaces import Namespace
from ..netlink import bytecode, constants
from ..query.find import find
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .model import INCLUDE, SENT, DrainCommand
from .quiescence import still_for
from .tracker import PROTECTED, WAITED, Entry, Key, Watchlist, ends_of

# TIME_WAIT is what is left of a connection that has ended.
_LIVING = constants.state_mask(constants.ALL_STATES - {constants.TIME_WAIT})
_BEFORE = Reason("changed", "it was protected when the drain began")


@dataclass(frozen=True)
class Survey:
    """What one look at one namespace showed. Nothing is changed by it.

    left: those waited for that are there. arrivals: such as were not known and are not protected,
    in the first snapshot all. protected: those known as such, and those protected from now on.
    known: all that match. due: what is to be destroyed now, judged in this very look. population:
    of which max_sockets may be a share.
    """

    namespace: Namespace
    left: list[Socket]
    arrivals: list[Socket]
    protected: list[tuple[Socket, Reason]]
    known: frozenset[Key]
    due: list[Socket]
    population: int
    unlisted: frozenset[str]

    def plan(self, sockets: list[Socket]) -> Plan:
        """That these are destroyed; none of them is protected."""
        targets = [Target(socket) for socket in sockets]
        return Plan(self.namespace, targets, self.population, self.unlisted)


def is_sent(sock: Socket, entry: Entry | None, command: DrainCommand, now: float) -> bool:
    """Whether nothing of it has been on its way for as long as the command says."""
    since = None if entry is None else entry.quiet_since
    still = still_for(sock, 0.0 if since is None else now - since)
    return still is not None and still >= command.settle


def survey(
    session: NamespaceSession,
    command: DrainCommand,
    watchlist: Watchlist,
    now: float,
    *,
    first: bool,
    final: bool,
) -> Survey:
    """Look at the view's namespace. Raises what find raises.

    first: nothing is known yet. final: the time is over, so whatever is left is due.
    """
    snapshot = session.snapshot()
    extensions = command.options.guard.extensions | command.options.extensions
    left: list[Socket] = []
    protected_before: list[tuple[Socket, Reason | None]] = []
    new: list[Socket] = []
    known: set[Key] = set()
    for sock in find(session, command.selector, extensions=extensions, snapshot=snapshot):
        if sock.message.state == constants.TIME_WAIT:
            continue
        known.add(sock.identity)
        entry = watchlist.of(sock)
        if entry is None:
            new.append(sock)
        elif entry.kind == WAITED:
            left.append(sock)
        elif entry.kind == PROTECTED:
            protected_before.append((sock, entry.reason))
    here = {sock.identity for sock in left}
    missing = {
        key: entry
        for key, entry in watchlist.all(WAITED, session.namespace.name)
        if key not in here
    }
    left += _no_longer_selected(
        session, snapshot, missing, command.selector.extensions | extensions
    )

    due = _due(left, watchlist, command, now, final=final)
    if first or command.arrivals == INCLUDE:
        due += _due(new, watchlist, command, now, final=final)
    unexplained = [sock for sock, reason in protected_before if reason is None]
    to_judge = list({id(each): each for each in (*new, *unexplained, *due)}.values())
    targets = evaluate_guard(session, command.options, snapshot, to_judge)
    protected = {sock.identity: (sock, reason) for sock, reason in targets if reason is not None}
    explained = [
        (sock, reason or protected.get(sock.identity, (sock, _BEFORE))[1])
        for sock, reason in protected_before
    ]
    already = {sock.identity for sock, _reason in protected_before}
    return Survey(
        session.namespace,
        [sock for sock in left if sock.identity not in protected],
        [sock for sock in new if sock.identity not in protected],
        [*explained, *(pair for key, pair in protected.items() if key not in already)],
        frozenset(known),
        [sock for sock in due if sock.identity not in protected],
        count_unprotected(session, command.options, command.selector.protocols)
        if due or first
        else 0,
        frozenset(session.unlisted),
    )


def _due(
    sockets: Iterable[Socket],
    watchlist: Watchlist,
    command: DrainCommand,
    now: float,
    *,
    final: bool,
) -> list[Socket]:
    """Those that are to be destroyed in this moment, if nothing protects them."""
    if not command.destroy:
        return []
    if final:
        return list(sockets)
    if command.until != SENT:
        return []
    entries = ((sock, watchlist.of(sock)) for sock in sockets)
    return [
        sock
        for sock, entry in entries
        if not (entry and entry.tried) and is_sent(sock, entry, command, now)
    ]


def _no_longer_selected(
    session: NamespaceSession, snapshot: Snapshot, missing: dict[Key, Entry], extensions: int
) -> Iterator[Socket]:
    """Those of the missing that are there, but for which the selector is not true any more: their
    state has changed, or whatever it asks. They are the same connections, and have not ended."""
    if not missing:
        return
    for protocol in sorted({key[1] for key in missing}):
        entries = [entry for key, entry in missing.items() if key[1] == protocol]
        socks = [entry.message for entry in entries if entry.message is not None]
        families = {message.family for message in socks}
        program = by_ports(protocol, socks)
        if len(socks) < len(entries):
            families, program = set(constants.FAMILIES.values()), bytecode.ACCEPT
        for family in sorted(families):
            for message in dump_filtered(session, protocol, family, _LIVING, program, extensions):
                sock = Socket(message, snapshot)
                entry = missing.get(sock.identity)
                if entry is not None and entry.ends == ends_of(message):
                    if sock.ifindex:
                        # As find does: asked while the view is open.
                        snapshot.interface_name(sock.ifindex)
                    yield sock
