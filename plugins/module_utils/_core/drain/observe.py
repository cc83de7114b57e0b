# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Observations of a drain: which connections of a namespace remain, arrived or are due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..destroy.model import Plan, Target
from ..destroy.mptcp import without_partial_connections
from ..destroy.planner import count_unprotected, evaluate_guard
from ..destroy.verify import dump_filtered, filter_by_ports
from ..guard.reason import Reason
from ..host.namespaces import Namespace
from ..netlink import bytecode, constants
from ..query.find import find
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .model import INCLUDE, SENT, DrainCommand
from .quiescence import quiescent_for
from .tracker import AWAITED, PROTECTED, Key, TrackedConnection, Tracker, endpoints_checksum

# A connection in TIME_WAIT has ended.
_NOT_ENDED = constants.state_mask(constants.ALL_STATES - {constants.TIME_WAIT})
_PROTECTED_BEFORE = Reason("changed", "it was protected when the drain began")


@dataclass(frozen=True)
class Observation:
    """The connections of one namespace in one snapshot, compared with the tracked ones.

    left: awaited connections that still exist. arrivals: unprotected connections that were not
    tracked; in the first snapshot, all of them. protected: tracked as protected, or protected from
    now on. matching: all that match the selector. due: to destroy now; the guard evaluated them in
    this snapshot. population: the count that a share in max_sockets refers to. unlisted:
    protocols that the kernel cannot list.
    """

    namespace: Namespace
    left: list[Socket]
    arrivals: list[Socket]
    protected: list[tuple[Socket, Reason]]
    matching: frozenset[Key]
    due: list[Socket]
    population: int
    unlisted: frozenset[str]

    @classmethod
    def of_missing_namespace(cls, namespace: Namespace) -> Observation:
        """The observation of a namespace that no longer exists: it has no sockets."""
        return cls(namespace, [], [], [], frozenset(), [], 0, frozenset())

    def plan(self, sockets: list[Socket]) -> Plan:
        """Return the plan to destroy these unprotected sockets."""
        targets = [Target(socket) for socket in sockets]
        return Plan(self.namespace, targets, self.population, self.unlisted)


def is_quiescent(
    sock: Socket, tracked: TrackedConnection | None, command: DrainCommand, now: float
) -> bool:
    """Whether nothing has been in flight for command.settle seconds."""
    empty_since = None if tracked is None else tracked.empty_since
    seconds = quiescent_for(sock, 0.0 if empty_since is None else now - empty_since)
    return seconds is not None and seconds >= command.settle


def observe(
    session: NamespaceSession,
    command: DrainCommand,
    tracker: Tracker,
    now: float,
    *,
    first: bool,
    final: bool,
) -> Observation:
    """Take a snapshot and compare it with the tracked connections, which it does not change.

    now: seconds of Host.monotonic. first: no connection is tracked yet. final: the grace period is
    over, so everything left is due. Raises what find raises.
    """
    snapshot = session.snapshot()
    extensions = command.options.guard.extensions | command.options.extensions
    left: list[Socket] = []
    protected_before: list[tuple[Socket, Reason | None]] = []
    new: list[Socket] = []
    matching: set[Key] = set()
    for sock in find(session, command.selector, extensions=extensions, snapshot=snapshot):
        if sock.message.state == constants.TIME_WAIT:
            continue
        matching.add(sock.identity)
        tracked = tracker.find(sock)
        if tracked is None:
            new.append(sock)
        elif tracked.status == AWAITED:
            left.append(sock)
        elif tracked.status == PROTECTED:
            protected_before.append((sock, tracked.reason))
    found = {sock.identity for sock in left}
    missing = {
        key: tracked
        for key, tracked in tracker.with_status(AWAITED, session.namespace.name)
        if key not in found
    }
    left += _find_no_longer_matching(
        session, snapshot, missing, command.selector.extensions | extensions
    )

    due = _select_due(left, tracker, command, now, final=final)
    if first or command.arrivals == INCLUDE:
        due += _select_due(new, tracker, command, now, final=final)
    unexplained = [sock for sock, reason in protected_before if reason is None]
    to_evaluate = list({id(sock): sock for sock in (*new, *unexplained, *due)}.values())
    before = [sock for sock, _reason in protected_before]
    selected = {(sock.protocol, sock.cookie) for sock in (*left, *new, *before)}
    targets = evaluate_guard(session, command.options, snapshot, to_evaluate, selected)
    if not final:
        # A connection is not quiescent while one of its subflows is not.
        due = without_partial_connections(session, due)
    protected = {sock.identity: (sock, reason) for sock, reason in targets if reason is not None}
    explained = [
        (sock, reason or protected.get(sock.identity, (sock, _PROTECTED_BEFORE))[1])
        for sock, reason in protected_before
    ]
    already = {sock.identity for sock, _reason in protected_before}
    return Observation(
        session.namespace,
        [sock for sock in left if sock.identity not in protected],
        [sock for sock in new if sock.identity not in protected],
        [*explained, *(pair for key, pair in protected.items() if key not in already)],
        frozenset(matching),
        [sock for sock in due if sock.identity not in protected],
        count_unprotected(session, command.options, command.selector.protocols)
        if due or first
        else 0,
        frozenset(session.unlisted),
    )


def _select_due(
    sockets: Iterable[Socket],
    tracker: Tracker,
    command: DrainCommand,
    now: float,
    *,
    final: bool,
) -> list[Socket]:
    """Return the sockets to destroy now unless the guard protects them."""
    if not command.destroy:
        return []
    if final:
        return list(sockets)
    if command.until != SENT:
        return []
    pairs = ((sock, tracker.find(sock)) for sock in sockets)
    return [
        sock
        for sock, tracked in pairs
        if not (tracked and tracked.attempted) and is_quiescent(sock, tracked, command, now)
    ]


def _find_no_longer_matching(
    session: NamespaceSession,
    snapshot: Snapshot,
    missing: dict[Key, TrackedConnection],
    extensions: int,
) -> Iterator[Socket]:
    """Yield those of the missing connections that exist but no longer match the selector.

    Their state or another property has changed. They have not ended.
    """
    if not missing:
        return
    for protocol in sorted({key[1] for key in missing}):
        connections = [tracked for key, tracked in missing.items() if key[1] == protocol]
        messages = [tracked.message for tracked in connections if tracked.message is not None]
        families = {message.family for message in messages}
        program = filter_by_ports(protocol, messages)
        if len(messages) < len(connections):
            families, program = set(constants.FAMILIES.values()), bytecode.ACCEPT
        for family in sorted(families):
            for message in dump_filtered(
                session, protocol, family, _NOT_ENDED, program, extensions
            ):
                sock = Socket(message, snapshot)
                tracked = missing.get(sock.identity)
                if tracked is not None and tracked.endpoints == endpoints_checksum(message):
                    if sock.ifindex:
                        # As find does: the name can be read only while the session is open.
                        snapshot.interface_name(sock.ifindex)
                    yield sock
